"""What the functions are compared with: written plainly, and without the module."""

import warnings
from itertools import product

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning


def problem(N, M, K, seed=0, dtype=np.float64):
    """Non-negative data and a non-negative start, which every function takes."""
    rng = np.random.RandomState(seed)
    R = rng.rand(N, M)
    P = rng.rand(N, K)
    Q = rng.rand(M, K)
    return [X.astype(dtype) for X in (R, P, Q)]


def sheet_start(N=100, M=256, K=2, seed=1):
    """Return the start of the tutorial's sheet."""
    rng = np.random.RandomState(seed)
    P = rng.rand(N, K)
    Q = rng.rand(M, K)
    return P, Q


def hide(R, seed, share):
    """Put NaN into R, in place, at random."""
    chance = np.random.RandomState(seed).rand(*R.shape)
    R[chance < share] = np.nan


def with_zeros(matrices, seed, share):
    """Put zeros into the matrices, in place, at random."""
    for X in matrices:
        chance = np.random.RandomState(seed).rand(*X.shape)
        X[chance < share] = 0
    return matrices


# One step, or many, as the equations have them


def textbook_step(R, P, Q, alpha, beta):
    E = R - P @ Q.T
    P = P + alpha * (2 * E @ Q - beta * P)
    Q = Q + alpha * (2 * E.T @ P - beta * Q)
    return P, Q


def textbook(R, P, Q, steps, alpha, beta):
    for _ in range(steps):
        P, Q = textbook_step(R, P, Q, alpha, beta)
    return P, Q


def double_loop(R, P, Q, epochs, alpha, beta):
    """The online updates, one number at a time, in the float type of R; NaN is left out."""
    number = R.dtype.type
    alpha, beta = number(alpha), number(beta)
    P, Q = P.copy(), Q.copy()
    for _ in range(epochs):
        for i, j in np.ndindex(R.shape):
            if not np.isnan(R[i, j]):
                visit(R[i, j], P[i], Q[j], alpha, beta)
    return P, Q


def visit(r, p, q, alpha, beta):
    """Update a row of P and a row of Q, in place, from their old values."""
    two, estimate = type(r)(2), type(r)(0)
    for k in range(len(p)):
        estimate += p[k] * q[k]
    e = r - estimate
    for k in range(len(p)):
        p_old, q_old = p[k], q[k]
        p[k] += alpha * (two * e * q_old - beta * p_old)
        q[k] += alpha * (two * e * p_old - beta * q_old)


def plain_epoch(R, P, Q, alpha, beta):
    """One epoch of the same, in one piece and for float64, so that numba can compile it."""
    P, Q = P.copy(), Q.copy()
    K = P.shape[1]
    for i in range(len(P)):
        for j in range(len(Q)):
            estimate = 0.0
            for k in range(K):
                estimate += P[i, k] * Q[j, k]
            e = R[i, j] - estimate
            for k in range(K):
                p, q = P[i, k], Q[j, k]
                P[i, k] = p + alpha * (2 * e * q - beta * p)
                Q[j, k] = q + alpha * (2 * e * p - beta * q)
    return P, Q


def multiplicative(R, P, Q, steps):
    """The multiplicative updates; 0 where a denominator is 0."""
    for _ in range(steps):
        P = P * fraction(R @ Q, P @ (Q.T @ Q))
        Q = Q * fraction(R.T @ P, Q @ (P.T @ P))
    return P, Q


def fraction(above, below):
    ratio = np.zeros_like(below)
    return np.divide(above, below, out=ratio, where=below > 0)


def coordinates(R, P, Q, inner):
    """Set each number of P to the lowest point of its parabola, or to 0, one after the other."""
    P = P.copy()
    K = P.shape[1]
    for _, k, i in product(range(inner), range(K), range(len(P))):
        others = [m for m in range(K) if m != k]
        without = R[i] - Q[:, others] @ P[i, others]
        q = Q[:, k]
        if np.any(q > 0):
            P[i, k] = max(0, without @ q / (q @ q))
    return P


# What they go down, and where to


def squared_error(R, P, Q):
    """The sum over all that is observed, one entry at a time."""
    total = 0.0
    for i, j in np.ndindex(R.shape):
        if not np.isnan(R[i, j]):
            e = R[i, j] - sum(p * q for p, q in zip(P[i], Q[j]))
            total += e**2
    return total


def objective(R, P, Q, beta=0):
    E = R - P @ Q.T
    penalty = np.sum(P**2) + np.sum(Q**2)
    return np.sum(E**2) + beta / 2 * penalty


def slopes(f, X, h=1e-5):
    """The slope of f in each direction, by central differences."""
    slope = np.zeros_like(X)
    for at in np.ndindex(X.shape):
        up, down = X.copy(), X.copy()
        up[at] += h
        down[at] -= h
        slope[at] = (f(up) - f(down)) / (2 * h)
    return slope


def scikit_learn(R, P, Q, **options):
    """Return the factors of scikit-learn's NMF from this start, and the number of its steps."""
    model = NMF(P.shape[1], init="custom", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W = model.fit_transform(R, W=P.copy(), H=Q.T.copy())
    return W, model.components_.T, model.n_iter_


# How two pairs of factors are compared


def same(got, expected, rtol=1e-12):
    """Equal up to a fraction of the largest entry."""
    for X, Y in zip(got, expected):
        assert X.dtype == Y.dtype
        margin = rtol * np.abs(Y).max()
        np.testing.assert_allclose(X, Y, rtol=0, atol=margin)


def identical(got, expected):
    for X, Y in zip(got, expected):
        assert X.dtype == Y.dtype
        np.testing.assert_array_equal(X, Y)
