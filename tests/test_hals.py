"""HALS against coordinates one by one, least squares, its definition, scikit-learn, the SVD."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    coordinates,
    identical,
    objective,
    problem,
    same,
    scikit_learn,
    slopes,
    with_zeros,
)

import mf_solutions as mf

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

HALS, MU = mf.hals, mf.multiplicative_update
by_extrapolation = pytest.mark.parametrize("extrapolate", [True, False])
examples = settings(max_examples=40, deadline=None, derandomize=True, database=None)
small = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 10))
seeds = st.integers(0, 2**32 - 1)


def record(R, P, Q, steps, **options):
    """Return the pairs of factors that the callback is given, the start first."""
    pairs = [(P, Q)]
    last = HALS(R, P, Q, steps, callback=lambda step, P, Q: pairs.append((P, Q)), **options)
    identical(last, pairs[-1])
    return pairs


def errors(R, pairs):
    return np.array([mf.squared_error(R, P, Q) for P, Q in pairs])


# The sweeps


@examples
@given(small, seeds, st.integers(1, 3), st.sampled_from([0, 0.5]))
def test_the_first_step_sets_every_number_to_its_best_value(shape, seed, inner, zeros):
    N, M, K = shape
    R, P, Q = with_zeros(problem(N, M, min(K, 4), seed), seed, zeros)
    P_new, Q_new = HALS(R, P, Q, 1, inner)
    assert_allclose(P_new, coordinates(R, P, Q, inner), rtol=0, atol=1e-9)
    expected = coordinates(R.T, Q, P_new, inner)
    # The products: where rounding left 1e-16 for a 0 in P, it decides over Q
    assert_allclose(P_new @ Q_new.T, P_new @ expected.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(6, 9, 3), (9, 6, 3), (5, 1, 4), (5, 7, 1)], ids=str)
def test_many_inner_sweeps_solve_non_negative_least_squares(shape):
    R, P, Q = problem(*shape)
    R = np.maximum(R - 0.4, 0)  # so that some of the best weights are 0
    P_new, Q_new = HALS(R, P, Q, 1, inner=5000)
    least = [scipy.optimize.nnls(Q, row)[1] for row in R]
    assert_allclose(np.linalg.norm(R - P_new @ Q.T, axis=1), least, rtol=1e-9, atol=1e-9)
    least = [scipy.optimize.nnls(P_new, column)[1] for column in R.T]
    assert_allclose(np.linalg.norm(R - P_new @ Q_new.T, axis=0), least, rtol=1e-9, atol=1e-9)


def test_a_column_that_is_zero_in_one_factor_only_wakes():
    R, P, Q = problem(6, 5, 3)
    Q[:, 1] = 0
    P_new, Q_new = HALS(R, P, Q, 1)
    assert_array_equal(P_new[:, 1], P[:, 1])
    assert Q_new[:, 1].max() > 0


def test_four_inner_sweeps_unless_told_and_more_go_lower():
    R, P, Q = problem(30, 40, 5)
    lows = [mf.squared_error(R, *HALS(R, P, Q, 1, inner)) for inner in (1, 2, 4, 100)]
    assert lows == sorted(lows, reverse=True) and lows[0] > 1.001 * lows[-1]
    assert mf.squared_error(R, *HALS(R, P, Q, 1)) == lows[2]


# The extrapolation


def by_definition(R, P, Q, steps, inner, extrapolate):
    """The rule of Ang and Gillis, with the residual itself; return the accepted pairs."""
    pairs, ahead, gamma, plain = [(P, Q)], Q, 0.5, True
    for _ in range(steps):
        far = 0 if plain or not extrapolate else gamma
        P, Q = pairs[-1]
        swept = coordinates(R, P, ahead, inner)
        P_new = np.maximum(0, swept + far * (swept - P))
        Q_new = coordinates(R.T, ahead, P_new, inner)
        if not plain and np.sum((R - P_new @ Q_new.T) ** 2) > np.sum((R - P @ Q.T) ** 2):
            pairs.append((P, Q))
            plain, ahead, gamma = True, Q, gamma / 1.5
        else:
            pairs.append((P_new, Q_new))
            plain, ahead, gamma = False, np.maximum(0, Q_new + far * (Q_new - Q)), 1.01 * gamma
    return pairs


@by_extrapolation
@pytest.mark.parametrize("shape", [(9, 7, 3), (7, 9, 3), (8, 8, 2)], ids=str)
def test_the_steps_are_those_of_the_definition(shape, extrapolate):
    R, P, Q = problem(*shape)
    pairs = record(R, P, Q, 20, inner=2, extrapolate=extrapolate)
    for got, expected in zip(pairs, by_definition(R, P, Q, 20, 2, extrapolate), strict=True):
        same(got, expected, rtol=1e-9)
    assert extrapolate == any(old[0] is new[0] for old, new in pairwise(pairs))  # some rejected


@by_extrapolation
@pytest.mark.parametrize("dtype, rounding", [(np.float64, 1e-13), (np.float32, 1e-6)])
@examples
@given(shape=small, seed=seeds, zeros=st.sampled_from([0, 0.5]), empty=st.integers(0, 3))
def test_the_error_never_rises(extrapolate, dtype, rounding, shape, seed, zeros, empty):
    R, *start = problem(*shape, seed, dtype)
    R[:empty] = 0
    pairs = record(R, *with_zeros(start, seed, zeros), 60, inner=1, extrapolate=extrapolate)
    assert np.diff(errors(R, pairs)).max() <= rounding * np.sum(R * R)
    assert all(X.min() >= 0 and X.dtype == dtype for pair in pairs for X in pair)


def test_after_a_rejected_step_the_next_is_a_plain_one_from_the_same_pair():
    R, P, Q = problem(20, 30, 3)
    pairs = record(R, P, Q, 60)
    rejected = [i for i, (old, new) in enumerate(pairwise(pairs), 1) if new[0] is old[0]]
    assert rejected and rejected[-1] < 60
    for i in rejected:
        identical(pairs[i], pairs[i - 1])
        same(pairs[i + 1], HALS(R, *pairs[i], 1))
        assert mf.squared_error(R, *pairs[i + 1]) < mf.squared_error(R, *pairs[i])


def test_extrapolation_saves_steps_from_every_start():
    needed = []
    for seed in range(1, 9):
        R, P, Q = problem(100, 80, 10, seed)
        plain = mf.squared_error(R, *HALS(R, P, Q, 60, extrapolate=False))
        needed.append(np.argmax(errors(R, record(R, P, Q, 60)) <= plain))
    assert 0 < min(needed) and max(needed) <= 50 and np.median(needed) <= 30  # instead of 60


# Where it ends


@by_extrapolation
@pytest.mark.parametrize("dtype, limit", [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_it_ends_where_no_number_wants_to_move(extrapolate, dtype, limit):
    R, P, Q = problem(12, 15, 4, dtype=dtype)
    R, P, Q = (X.astype(float) for X in (R, *HALS(R, P, Q, 2000, extrapolate=extrapolate)))
    slope_P = slopes(lambda X: objective(R, X, Q), P, 1e-4)
    slope_Q = slopes(lambda X: objective(R, P, X), Q, 1e-4)
    slope, values = np.vstack([slope_P, slope_Q]), np.vstack([P, Q])
    assert (values == 0).any() and (values > 0).any()
    assert np.abs(slope[values > 0]).max() < limit
    assert slope[values == 0].min() > -limit


@by_extrapolation
@pytest.mark.parametrize("K, seed", [(2, 0), (16, 1), (16, 2)])
def test_it_goes_as_low_as_scikit_learn(K, seed, extrapolate):
    R, P, Q = problem(100, 256, K, seed)
    W, H, _ = scikit_learn(R, P, Q, tol=1e-8, max_iter=2000)
    lowest = mf.squared_error(R, W, H)
    got = HALS(R, P, Q, 500 if extrapolate else 1000, extrapolate=extrapolate)
    assert mf.squared_error(R, *got) <= 1.002 * lowest


def test_with_one_column_it_is_the_multiplicative_update_and_extrapolated_ends_there_too():
    R, P, Q = problem(9, 7, 1)
    for steps in (1, 2, 5):
        same(HALS(R, P, Q, steps, extrapolate=False), MU(R, P, Q, steps))
    same(HALS(R, P, Q, 1), MU(R, P, Q, 1))
    U, values, V = np.linalg.svd(R)
    best = values[0] * np.outer(U[:, 0], V[0])
    for kernel in (HALS, MU):
        P_new, Q_new = kernel(R, P, Q, 100)
        assert_allclose(P_new @ Q_new.T, best, rtol=1e-9)


def test_planted_factors_are_found_to_the_last_digits_in_a_hundred_steps():
    _, A, B = problem(12, 10, 2, seed=1)
    _, P, Q = problem(12, 10, 2, seed=2)
    R = A @ B.T
    assert mf.squared_error(R, *HALS(R, P, Q, 100)) < 1e-28 * np.sum(R * R)


@by_extrapolation
@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4])
def test_tol_stops_at_the_first_ten_steps_that_bring_too_little(tol, extrapolate):
    R, P, Q = problem(30, 40, 5)
    roots = np.sqrt(errors(R, record(R, P, Q, 300, extrapolate=extrapolate)))
    stop = next(n for n in range(10, 300, 10) if roots[n - 10] - roots[n] < tol * roots[0])
    assert len(record(R, P, Q, 300, tol=tol, extrapolate=extrapolate)) == 1 + stop


def test_without_extrapolation_two_runs_in_a_row_are_one_long_run():
    R, P, Q = problem(5, 4, 2)
    halfway = HALS(R, P, Q, 2, extrapolate=False)
    identical(HALS(R, *halfway, 3, extrapolate=False), HALS(R, P, Q, 5, extrapolate=False))
