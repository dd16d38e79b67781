"""The kernels on the real faces: every figure that the handout prints, and the facts around it."""

import ast

import numpy as np
import pytest
from rebuild import load
from sklearn.decomposition import NMF

import mf_solutions as mf

CORNERS = np.ix_([0, 1, 2, -3, -2, -1], [0, 1, 2, -3, -2, -1])


def printed_by_the_handout(name):
    """Return the 36 figures that the notebook quotes under this name."""
    for cell in load().cells:
        if cell.cell_type == "code" and f"{name} = np.array(" in cell.source:
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign) and node.targets[0].id == name:
                    return np.array(ast.literal_eval(node.value.args[0]))
    raise LookupError(name)


def start(K):
    rng = np.random.RandomState(1)
    return rng.rand(100, K), rng.rand(256, K)


def best_residual(R, K):
    U, s, Vt = np.linalg.svd(R.astype(float), full_matrices=False)
    return R - (U[:, :K] * s[:K]) @ Vt[:K]


def test_gradient_descent_gives_every_figure_the_handout_prints(olivetti):
    _, R = olivetti
    P, Q = mf.gradient_descent(R, *start(2), steps=5000, alpha=0.002, beta=0.02)
    difference = (R - P @ Q.T)[CORNERS] - printed_by_the_handout("handout_mf")
    assert difference.shape == (6, 6)
    assert np.abs(difference).max() < 5e-9


def test_gradient_descent_ends_at_the_truncated_svd(olivetti):
    _, R = olivetti
    P, Q = mf.gradient_descent(R, *start(2), steps=20000, alpha=0.002, beta=0.02)
    best = np.sum(best_residual(R, 2) ** 2)
    assert best <= mf.squared_error(R, P, Q) < best + 1e-3


def test_the_residual_printed_for_nmf_is_that_of_the_truncated_svd(olivetti):
    _, R = olivetti
    difference = best_residual(R, 2)[CORNERS] - printed_by_the_handout("handout_mu")
    assert np.abs(difference).max() < 2e-4


@pytest.mark.parametrize("K", [2, 16, 40])
def test_multiplicative_update_gives_the_iterates_of_scikit_learn(olivetti, K):
    D, _ = olivetti
    P, Q = start(K)
    model = NMF(K, init="custom", solver="mu", tol=0, max_iter=200)
    W = model.fit_transform(D.astype(float), W=P.copy(), H=Q.T.copy())
    for ours, theirs in zip(mf.multiplicative_update(D, P, Q, steps=200), (W, model.components_.T)):
        assert np.abs(ours - theirs).max() <= 1e-12 * np.abs(theirs).max()


def test_multiplicative_update_refuses_the_centred_faces(olivetti):
    _, R = olivetti
    with pytest.raises(ValueError, match="R must be non-negative.*before centring"):
        mf.multiplicative_update(R, *start(2), steps=1)


def test_sgd_gives_the_numbers_of_the_double_loop_on_the_faces(olivetti):
    _, R = olivetti
    P, Q = (X.tolist() for X in start(2))
    for i, row in enumerate(R.astype(float).tolist()):
        for j, r in enumerate(row):
            e = r - (P[i][0] * Q[j][0] + P[i][1] * Q[j][1])
            p, q = P[i], Q[j]
            P[i] = [x + 0.002 * (2 * e * y - 0.02 * x) for x, y in zip(p, q)]
            Q[j] = [y + 0.002 * (2 * e * x - 0.02 * y) for x, y in zip(p, q)]
    ours = mf.sgd(R, *start(2), epochs=1, alpha=0.002, beta=0.02)
    assert np.array_equal(ours[0], P) and np.array_equal(ours[1], Q)
