import numpy as np
import matplotlib.pyplot as plt


def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    Q = Q.T
    for step in range(steps):
        E = R - np.dot(P, Q)
        P = P + alpha * (2 * np.dot(E, Q.T) - beta * P)
        Q = Q + alpha * (2 * np.dot(P.T, E) - beta * Q)
    return P, Q.T


def mf_multiplicative_update(R, P, Q, steps=5000):
    for step in range(steps):
        Pu = P * np.dot(R, Q) / np.dot(P, np.dot(Q.T, Q))
        Qu = Q * np.dot(R.T, Pu) / np.dot(Q, np.dot(Pu.T, Pu))
        e_P = np.sqrt(np.sum((Pu - P) ** 2, axis=(0, 1))) / P.size
        e_Q = np.sqrt(np.sum((Qu - Q) ** 2, axis=(0, 1))) / Q.size
        if e_P < 0.001 and e_Q < 0.001:
            print("step is:", step)
            break
        P = Pu
        Q = Qu
    return P, Q
