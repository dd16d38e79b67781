import numpy as np
import matplotlib.pyplot as plt


class MatrixFactorization:
    def fit(self, R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        Q = Q.T
        for step in range(steps):
            E = R - np.dot(P, Q)
            P = P + alpha * (2 * np.dot(E, Q.T) - beta * P)
            Q = Q + alpha * (2 * np.dot(P.T, E) - beta * Q)
        return P, Q.T
