import numpy as np
import matplotlib.pyplot as plt


def residual(R, P, Q):
    return R - np.dot(P, Q)
