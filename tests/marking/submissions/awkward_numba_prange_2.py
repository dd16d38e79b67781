# %%
import numpy as np
from sklearn.datasets import fetch_olivetti_faces
import matplotlib.pyplot as plt
from time import time
from skimage.transform import resize
import numba


# %%
faces = fetch_olivetti_faces()
X = resize(np.moveaxis(faces.images[:100], 0, -1), (16, 16))
X = np.moveaxis(X, -1, 0).reshape(100, -1)
n_samples, image_shape = 100, (16, 16)
R = X - X.mean(axis=0)
R -= R.mean(axis=1, keepdims=True)


# %%
def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    Q = Q.T
    for step in range(steps):
        P = P + alpha * (2 * (R - P @ Q) @ Q.T - beta * P)
        Q = Q + alpha * (2 * P.T @ (R - P @ Q) - beta * Q)
    return P, Q.T


# %%
N = len(R)
M = len(R[0])
K = 2

# initialize 
rng = np.random.RandomState(1)
P = rng.rand(N,K)
Q = rng.rand(M,K)

# run new function
P_estimate, Q_estimate = matrix_factorization(R, P, Q, K, steps=5000, alpha=0.002)

#show the learned basis
plt.figure(figsize=(6, 3))
plt.suptitle("learned basises from MF", size=16)
for i in range(K):
    plt.subplot(1, K, i+1)
    plt.imshow(Q_estimate[:,i].reshape(16,16), cmap=plt.cm.gray)
    plt.xticks(())
    plt.yticks(())


# %%
print(R - P_estimate.dot(Q_estimate.T))


# %%
@numba.jit(nopython=True)
def mf_multiplicative_update(R, P, Q, steps=5000):
    R = R.astype(np.float64)
    N, K = P.shape
    M = Q.shape[0]
    for step in range(steps):
        RQ = np.dot(R, Q)
        PQQ = np.dot(P, np.dot(Q.T, Q))
        Pu = np.empty((N, K))
        for i in numba.prange(N):
            for k in range(K):
                Pu[i, k] = P[i, k] * RQ[i, k] / PQQ[i, k]
        RP = np.dot(R.T, Pu)
        QPP = np.dot(Q, np.dot(Pu.T, Pu))
        Qu = np.empty((M, K))
        for j in numba.prange(M):
            for k in range(K):
                Qu[j, k] = Q[j, k] * RP[j, k] / QPP[j, k]
        P = Pu
        Q = Qu
    return P, Q


# %%
rng = np.random.RandomState(1)
P = rng.rand(N,K)
Q = rng.rand(M,K)

P_estimate, Q_estimate = mf_multiplicative_update(R, P, Q)
#print(P_estimate.dot(Q_estimate.T))
plt.figure(figsize=(6, 3))
plt.suptitle("learned basises from NMF", size=16)
for i in range(K):
    plt.subplot(1, K, i+1)
    plt.imshow(Q_estimate[:,i].reshape(16,16), cmap=plt.cm.gray)
    plt.xticks(())
    plt.yticks(())


# %%
print(R - P_estimate.dot(Q_estimate.T))
