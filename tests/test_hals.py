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

    def keep(step, P, Q):
        pairs.append((P, Q))

    last = HALS(R, P, Q, steps, callback=keep, **options)
    identical(last, pairs[-1])
    return pairs


def errors(R, pairs):
    """Return the squared error of each pair."""
    return np.array([mf.squared_error(R, P, Q) for P, Q in pairs])


def rejected(pairs):
    """Return the steps after which the factors are those before it."""
    steps = []
    for step, (before, after) in enumerate(pairwise(pairs), 1):
        if after[0] is before[0]:
            steps.append(step)
    return steps


# The sweeps


@examples
@given(small, seeds, st.integers(1, 3), st.sampled_from([0, 0.5]))
def test_the_first_step_sets_every_number_to_its_best_value(shape, seed, inner, zeros):
    N, M, K = shape
    matrices = problem(N, M, min(K, 4), seed)
    R, P, Q = with_zeros(matrices, seed, zeros)
    P_new, Q_new = HALS(R, P, Q, 1, inner)
    P_expected = coordinates(R, P, Q, inner)
    Q_expected = coordinates(R.T, Q, P_new, inner)
    assert_allclose(P_new, P_expected, rtol=0, atol=1e-9)
    # The products: where rounding left 1e-16 for a 0 in P, it decides over Q
    got, expected = P_new @ Q_new.T, P_new @ Q_expected.T
    assert_allclose(got, expected, rtol=0, atol=1e-9)


def check_least(R, P, Q):
    """Check that each row of P fits its row of R as well as non-negative numbers can."""
    for r, p in zip(R, P):
        _, least = scipy.optimize.nnls(Q, r)
        distance = np.linalg.norm(r - Q @ p)
        assert distance == pytest.approx(least, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("shape", [(6, 9, 3), (9, 6, 3), (5, 1, 4), (5, 7, 1)], ids=str)
def test_many_inner_sweeps_solve_non_negative_least_squares(shape):
    R, P, Q = problem(*shape)
    R = np.maximum(R - 0.4, 0)  # so that some of the best weights are 0
    P_new, Q_new = HALS(R, P, Q, 1, inner=5000)
    check_least(R, P_new, Q)
    check_least(R.T, Q_new, P_new)


def test_a_column_that_is_zero_in_one_factor_only_wakes():
    R, P, Q = problem(6, 5, 3)
    Q[:, 1] = 0
    P_new, Q_new = HALS(R, P, Q, 1)
    assert_array_equal(P_new[:, 1], P[:, 1])
    assert Q_new[:, 1].max() > 0


def test_four_inner_sweeps_unless_told_and_more_go_lower():
    R, P, Q = problem(30, 40, 5)
    lows = {}
    for inner in (1, 2, 4, 100):
        factors = HALS(R, P, Q, 1, inner)
        lows[inner] = mf.squared_error(R, *factors)
    assert lows[1] > lows[2] > lows[4] > lows[100]
    assert lows[1] > 1.001 * lows[100]
    factors = HALS(R, P, Q, 1)
    assert mf.squared_error(R, *factors) == lows[4]


# The extrapolation


def by_definition(R, P, Q, steps, inner, extrapolate):
    """The rule of Ang and Gillis, with the residual itself; return the accepted pairs."""
    pairs, ahead = [(P, Q)], Q
    gamma, plain = 0.5, True
    for _ in range(steps):
        far = 0 if plain or not extrapolate else gamma
        P, Q = pairs[-1]
        swept = coordinates(R, P, ahead, inner)
        P_new = np.maximum(0, swept + far * (swept - P))
        Q_new = coordinates(R.T, ahead, P_new, inner)
        rises = objective(R, P_new, Q_new) > objective(R, P, Q)
        if rises and not plain:
            pairs.append((P, Q))
            plain, ahead = True, Q
            gamma /= 1.5
        else:
            pairs.append((P_new, Q_new))
            plain, ahead = False, np.maximum(0, Q_new + far * (Q_new - Q))
            gamma *= 1.01
    return pairs


@by_extrapolation
@pytest.mark.parametrize("shape", [(9, 7, 3), (7, 9, 3), (8, 8, 2)], ids=str)
def test_the_steps_are_those_of_the_definition(shape, extrapolate):
    R, P, Q = problem(*shape)
    options = {"inner": 2, "extrapolate": extrapolate}
    pairs = record(R, P, Q, 20, **options)
    defined = by_definition(R, P, Q, 20, 2, extrapolate)
    for got, expected in zip(pairs, defined, strict=True):
        same(got, expected, rtol=1e-9)
    assert bool(rejected(pairs)) == extrapolate


@by_extrapolation
@pytest.mark.parametrize("dtype, rounding", [(np.float64, 1e-13), (np.float32, 1e-6)])
@examples
@given(shape=small, seed=seeds, zeros=st.sampled_from([0, 0.5]), empty=st.integers(0, 3))
def test_the_error_never_rises(extrapolate, dtype, rounding, shape, seed, zeros, empty):
    R, *start = problem(*shape, seed, dtype)
    R[:empty] = 0
    with_zeros(start, seed, zeros)
    pairs = record(R, *start, 60, inner=1, extrapolate=extrapolate)
    rises = np.diff(errors(R, pairs))
    assert rises.max() <= rounding * np.sum(R * R)
    for P, Q in pairs:
        assert P.min() >= 0 and Q.min() >= 0
        assert P.dtype == Q.dtype == dtype


def test_after_a_rejected_step_the_next_is_a_plain_one_from_the_same_pair():
    R, P, Q = problem(20, 30, 3)
    pairs = record(R, P, Q, 60)
    steps = rejected(pairs)
    assert steps and steps[-1] < 60
    falls = -np.diff(errors(R, pairs))
    for step in steps:
        before, kept, after = pairs[step - 1 : step + 2]
        identical(kept, before)
        same(after, HALS(R, *kept, 1))
        assert falls[step] > 0


def test_extrapolation_saves_steps_from_every_start():
    needed = []
    for seed in range(1, 9):
        R, P, Q = problem(100, 80, 10, seed)
        factors = HALS(R, P, Q, 60, extrapolate=False)
        plain = mf.squared_error(R, *factors)
        path = errors(R, record(R, P, Q, 60))
        needed.append(np.argmax(path <= plain))
    assert min(needed) > 0 and max(needed) <= 50  # instead of 60
    assert np.median(needed) <= 30


# Where it ends


@by_extrapolation
@pytest.mark.parametrize("dtype, limit", [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_it_ends_where_no_number_wants_to_move(extrapolate, dtype, limit):
    R, P, Q = problem(12, 15, 4, dtype=dtype)
    factors = HALS(R, P, Q, 2000, extrapolate=extrapolate)
    R, P, Q = (X.astype(float) for X in (R, *factors))
    slope_P = slopes(lambda X: objective(R, X, Q), P, 1e-4)
    slope_Q = slopes(lambda X: objective(R, P, X), Q, 1e-4)
    slope = np.vstack([slope_P, slope_Q])
    values = np.vstack([P, Q])
    at_zero = values == 0
    assert at_zero.any() and not at_zero.all()
    assert np.abs(slope[~at_zero]).max() < limit
    assert slope[at_zero].min() > -limit


@by_extrapolation
@pytest.mark.parametrize("K, seed", [(2, 0), (16, 1), (16, 2)])
def test_it_goes_as_low_as_scikit_learn(K, seed, extrapolate):
    R, P, Q = problem(100, 256, K, seed)
    W, H, _ = scikit_learn(R, P, Q, tol=1e-8, max_iter=2000)
    lowest = mf.squared_error(R, W, H)
    steps = 500 if extrapolate else 1000
    factors = HALS(R, P, Q, steps, extrapolate=extrapolate)
    assert mf.squared_error(R, *factors) <= 1.002 * lowest


def test_with_one_column_it_is_the_multiplicative_update_and_extrapolated_ends_there_too():
    R, P, Q = problem(9, 7, 1)
    for steps in (1, 2, 5):
        got = HALS(R, P, Q, steps, extrapolate=False)
        same(got, MU(R, P, Q, steps))
    same(HALS(R, P, Q, 1), MU(R, P, Q, 1))
    U, values, V = np.linalg.svd(R)
    u, v = U[:, 0], V[0]
    best = values[0] * np.outer(u, v)
    for kernel in (HALS, MU):
        P_new, Q_new = kernel(R, P, Q, 100)
        fit = P_new @ Q_new.T
        assert_allclose(fit, best, rtol=1e-9)


def test_planted_factors_are_found_to_the_last_digits_in_a_hundred_steps():
    _, A, B = problem(12, 10, 2, seed=1)
    _, P, Q = problem(12, 10, 2, seed=2)
    R = A @ B.T
    factors = HALS(R, P, Q, 100)
    assert mf.squared_error(R, *factors) < 1e-28 * np.sum(R * R)


@by_extrapolation
@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4])
def test_tol_stops_at_the_first_ten_steps_that_bring_too_little(tol, extrapolate):
    R, P, Q = problem(30, 40, 5)
    whole = record(R, P, Q, 300, extrapolate=extrapolate)
    roots = np.sqrt(errors(R, whole))[::10]
    little = roots[:-1] - roots[1:] < tol * roots[0]
    stop = 10 * (1 + np.argmax(little))
    stopped = record(R, P, Q, 300, tol=tol, extrapolate=extrapolate)
    assert little.any() and len(stopped) == 1 + stop


def test_without_extrapolation_two_runs_in_a_row_are_one_long_run():
    R, P, Q = problem(5, 4, 2)
    halfway = HALS(R, P, Q, 2, extrapolate=False)
    end = HALS(R, *halfway, 3, extrapolate=False)
    identical(end, HALS(R, P, Q, 5, extrapolate=False))
