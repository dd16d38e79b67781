import numpy as np
from sklearn.datasets import fetch_olivetti_faces
import matplotlib.pyplot as plt
from time import time
from skimage.transform import resize
import torch


faces = fetch_olivetti_faces()
X = resize(np.moveaxis(faces.images[:100], 0, -1), (16, 16))
X = np.moveaxis(X, -1, 0).reshape(100, -1)
n_samples, image_shape = 100, (16, 16)
R = X - X.mean(axis=0)
R -= R.mean(axis=1, keepdims=True)


def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    R = torch.as_tensor(R, dtype=torch.float64)
    P = torch.as_tensor(P, dtype=torch.float64).clone().requires_grad_(True)
    Q = torch.as_tensor(Q, dtype=torch.float64).clone().requires_grad_(True)
    for _ in range(steps):
        loss = ((R - P @ Q.T) ** 2).sum() + beta / 2 * ((P ** 2).sum() + (Q ** 2).sum())
        loss.backward()
        with torch.no_grad():
            P -= alpha * P.grad
            Q -= alpha * Q.grad
            P.grad.zero_()
            Q.grad.zero_()
    return P.detach().numpy(), Q.detach().numpy()


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


print(R - P_estimate.dot(Q_estimate.T))


def mf_multiplicative_update(R, P, Q, steps=5000):
    R, P, Q = (torch.as_tensor(A, dtype=torch.float64) for A in (R, P, Q))
    for _ in range(steps):
        P = P * (R @ Q) / (P @ (Q.T @ Q))
        Q = Q * (R.T @ P) / (Q @ (P.T @ P))
    return P.numpy(), Q.numpy()


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


print(R - P_estimate.dot(Q_estimate.T))
