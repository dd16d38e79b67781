"""Promises tried on random cases: a few each time, 2000 of each with ``pytest -m slow``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import double_loop, hide, identical, problem, same, scikit_learn, with_zeros

import mf_solutions as mf

GD, SGD, MU, HALS = mf.gradient_descent, mf.sgd, mf.multiplicative_update, mf.hals
RATES = {"alpha": 1e-5, "beta": 0.02}
NUMBERS = {GD: RATES, SGD: RATES, MU: {}, HALS: {}}

small = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 10))
seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0, 1)
floats = st.sampled_from([np.float32, np.float64])
tolerances = st.sampled_from([0, 1e-2, 1e-3, 1e-4])
kernels = st.sampled_from([GD, SGD, MU, HALS])
non_negative_kernels = st.sampled_from([MU, HALS])
types = st.sampled_from([np.float16, np.float32, np.float64, np.longdouble, np.int16, np.uint8])
three_types = st.tuples(types, types, types)


def last_bit(shape, seed, hidden, dtype):
    """Online gradient descent has the numbers of the double loop."""
    R, P, Q = problem(*shape, seed, dtype)
    R -= dtype(0.5)
    hide(R, seed, hidden)
    expected = double_loop(R, P, Q, 2, 0.03, 0.1)
    identical(SGD(R, P, Q, 2, 0.03, 0.1), expected)


def iterates(shape, seed, tol):
    """Multiplicative updates have scikit-learn's, and stop at its step."""
    R, P, Q = problem(*shape, seed)
    log = mf.ErrorLog(R, P, Q)
    got = MU(R, P, Q, 40, tol=tol, callback=log)
    options = {"solver": "mu", "tol": tol, "max_iter": 40}
    W, H, steps = scikit_learn(R, P, Q, **options)
    assert len(log.errors) - 1 == steps
    same(got, (W, H), 1e-10)


def result_type(kernel, shape, seed, dtypes):
    """New arrays come back in the widest float type; the arguments stay as they are."""
    matrices = []
    for X, dtype in zip(problem(*shape, seed), dtypes):
        whole = np.round(5 * X)
        matrices.append(whole.astype(dtype))
    copies = [X.copy() for X in matrices]
    got = kernel(*matrices, 2, **NUMBERS[kernel])
    identical(matrices, copies)

    counted = [float if issubclass(dtype, np.integer) else dtype for dtype in dtypes]
    widest = np.result_type(np.float32, *counted)
    wide = [X.astype(widest) for X in matrices]
    identical(got, kernel(*wide, 2, **NUMBERS[kernel]))
    for X in got:
        assert X.dtype == widest and type(X) is np.ndarray
        assert not any(np.shares_memory(X, Y) for Y in matrices)


def never_rises(kernel, shape, seed, zeros):
    """Both ways to non-negative factors go down, from any start."""
    R, P, Q = problem(*shape, seed)
    with_zeros([R, P, Q], seed, zeros)
    log = mf.ErrorLog(R, P, Q)
    factors = kernel(R, P, Q, 20, callback=log)
    rises = np.diff(log.errors)
    assert rises.max() <= 1e-13 * np.sum(R * R)
    assert all(X.min() >= 0 for X in factors)


CHECKS = {
    last_bit: (small, seeds, shares, floats),
    iterates: (small, seeds, tolerances),
    result_type: (kernels, small, seeds, three_types),
    never_rises: (non_negative_kernels, small, seeds, shares),
}
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


def at_random(check, count):
    how = settings(max_examples=count, deadline=None, derandomize=True, database=None)
    test = how(given(*CHECKS[check])(check))
    test()


@every_check
def test_a_promise_is_kept(check):
    at_random(check, 30)


@pytest.mark.slow
@every_check
def test_a_promise_is_kept_in_many_cases(check):
    at_random(check, 2000)
