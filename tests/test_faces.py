"""The real faces: every figure that the handout prints, and where gradient descent ends."""

import numpy as np
import pytest
from notebooks import load
from oracles import sheet_start
from sklearn.datasets import fetch_olivetti_faces

import mf_solutions as mf

CORNERS = np.ix_([0, 1, 2, -3, -2, -1], [0, 1, 2, -3, -2, -1])


def printed_by_the_handout():
    """Return the 36 figures, as the notebook quotes them."""
    (source,) = (cell.source for cell in load().cells if cell.id == "published")
    quoted = source.split('"""')[1]
    return np.array(quoted.split(), float).reshape(6, 6)


def test_gradient_descent_gives_every_figure_the_handout_prints(olivetti):
    _, R = olivetti
    P, Q = mf.gradient_descent(R, *sheet_start(), steps=5000, alpha=0.002, beta=0.02)
    difference = (R - P @ Q.T)[CORNERS] - printed_by_the_handout()
    assert difference.shape == (6, 6)
    assert np.abs(difference).max() < 5e-9


def test_gradient_descent_ends_at_the_truncated_svd(olivetti):
    _, R = olivetti
    P, Q = mf.gradient_descent(R, *sheet_start(), steps=20000, alpha=0.002, beta=0.02)
    best = np.sum(np.linalg.svd(R.astype(float), compute_uv=False)[2:] ** 2)
    assert best <= mf.squared_error(R, P, Q) < best + 1e-3


def test_faces_that_scikit_learn_has_are_found():
    """Otherwise a fault on the way to them would pass for their absence."""
    try:
        fetch_olivetti_faces(download_if_missing=False)
    except OSError:
        pytest.skip("scikit-learn has no copy")
    assert mf.fetch_faces().name == mf.OLIVETTI
