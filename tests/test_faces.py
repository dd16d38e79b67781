"""The real faces: every figure that the handout prints, and where gradient descent ends."""

import ast

import numpy as np
from rebuild import load

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
