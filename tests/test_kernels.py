"""The kernels against independent oracles: loops, finite differences, the SVD, scikit-learn."""

import importlib
import inspect
import warnings
from itertools import product

import matplotlib
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

import mf_solutions as mf

pytestmark = pytest.mark.filterwarnings("error")  # a kernel that warns is a kernel that fails

GD, SGD, MU, HALS = mf.gradient_descent, mf.sgd, mf.multiplicative_update, mf.hals
NUMBERS = {GD: {"alpha": 0.01, "beta": 0.02}, SGD: {"alpha": 0.01, "beta": 0.02}, MU: {}, HALS: {}}


def kernels(*which):
    return pytest.mark.parametrize("kernel", which, ids=lambda kernel: kernel.__name__)


every_kernel = kernels(GD, SGD, MU, HALS)
batch_kernels = kernels(GD, MU, HALS)
non_negative_kernels = kernels(MU, HALS)

small = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 10))
seeds = st.integers(0, 2**32 - 1)


def examples(n=40):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


def problem(N, M, K, seed=0, dtype=np.float64):
    """Non-negative data and a non-negative start, so that every kernel takes them."""
    rng = np.random.RandomState(seed)
    return [rng.rand(*shape).astype(dtype) for shape in ((N, M), (N, K), (M, K))]


def run(kernel, R, P, Q, steps=3, callback=None, **numbers):
    return kernel(R, P, Q, steps, **{**NUMBERS[kernel], **numbers}, callback=callback)


def put(X, value, i=1, j=0):
    X = np.array(X)
    X[i, j] = value
    return X


def with_spectrum(N, M, values, seed=0):
    """A matrix whose singular values are these."""
    rng = np.random.RandomState(seed)
    U, V = (np.linalg.qr(rng.randn(n, len(values)))[0] for n in (N, M))
    return U * values @ V.T


def same(got, expected, rtol=1e-12):
    """Equal up to a fraction of the largest entry."""
    for X, Y in zip(got, expected):
        assert X.dtype == Y.dtype
        assert_allclose(X, Y, rtol=0, atol=rtol * np.abs(Y).max())


def identical(got, expected):
    for X, Y in zip(got, expected):
        assert X.dtype == Y.dtype
        assert_array_equal(X, Y)


# Full-batch gradient descent


def textbook(R, P, Q, steps, alpha, beta):
    for _ in range(steps):
        E = R - P @ Q.T
        P = P + alpha * (2 * E @ Q - beta * P)
        Q = Q + alpha * (2 * E.T @ P - beta * Q)
    return P, Q


def objective(R, P, Q, beta):
    return np.sum((R - P @ Q.T) ** 2) + beta / 2 * (np.sum(P**2) + np.sum(Q**2))


def central_differences(f, X, h=1e-5):
    slope = np.zeros_like(X)
    for at in np.ndindex(X.shape):
        up, down = X.copy(), X.copy()
        up[at] += h
        down[at] -= h
        slope[at] = (f(up) - f(down)) / (2 * h)
    return slope


@examples()
@given(small, seeds)
def test_gradient_descent_is_the_textbook_three_lines(shape, seed):
    R, P, Q = problem(*shape, seed)
    R -= 0.5
    same(GD(R, P, Q, 20, 0.01, 0.3), textbook(R, P, Q, 20, 0.01, 0.3))


def test_gradient_descent_is_the_textbook_three_lines_at_full_size():
    R, P, Q = problem(100, 256, 2)
    R -= R.mean()
    same(GD(R, P, Q, 200, 0.002, 0.02), textbook(R, P, Q, 200, 0.002, 0.02))


@pytest.mark.parametrize("beta", [0, 0.02, 3.0])
def test_gradient_step_goes_down_the_gradient_of_the_objective(beta):
    R, P, Q = problem(5, 4, 3)
    tiny = 1e-7  # so small that P hardly moves, and Q sees the gradient at the start
    P_new, Q_new = mf.gradient_step(R, P, Q, tiny, beta)
    down_P = -central_differences(lambda X: objective(R, X, Q, beta), P)
    down_Q = -central_differences(lambda X: objective(R, P, X, beta), Q)
    assert_allclose((P_new - P) / tiny, down_P, rtol=1e-5, atol=1e-5)
    assert_allclose((Q_new - Q) / tiny, down_Q, rtol=1e-5, atol=1e-5)


def test_gradient_descent_reaches_the_error_of_the_truncated_svd():
    R = with_spectrum(9, 7, [3, 2, 1, 0.5, 0.2])
    _, P, Q = problem(9, 7, 2)
    P, Q = GD(R, P, Q, 3000, 0.02, 0)
    assert mf.squared_error(R, P, Q) == pytest.approx(1 + 0.25 + 0.04, rel=1e-9)


def test_gradient_descent_with_beta_shrinks_each_singular_value_by_half_of_beta():
    R = with_spectrum(9, 7, [3, 2, 1, 0.3, 0.2])
    _, P, Q = problem(9, 7, 4)
    P, Q = GD(R, P, Q, 3000, 0.02, 0.8)
    values = np.linalg.svd(P @ Q.T, compute_uv=False)[:4]
    assert_allclose(values, [2.6, 1.6, 0.6, 0], atol=1e-6)


# Stochastic gradient descent

SHAPES = [(7, 3, 2), (3, 7, 2), (5, 5, 3), (1, 6, 2), (6, 1, 2), (1, 1, 2), (2, 2, 1), (4, 5, 1)]
SHAPES += [(1, 6, 10), (6, 1, 10), (1, 1, 10), (2, 9, 10), (9, 2, 10), (4, 3, 10)]

MISSING = {
    "nothing": (),
    "a third": np.s_[::2, ::3],
    "a whole row": np.s_[0, :],
    "a whole column": np.s_[:, -1],
    "everything": np.s_[:, :],
}


def double_loop(R, P, Q, epochs, alpha, beta):
    """The equations, one number at a time, in the float type of R."""
    number = R.dtype.type
    alpha, beta, two = number(alpha), number(beta), number(2)
    P, Q = P.copy(), Q.copy()
    K = P.shape[1]
    for _ in range(epochs):
        for i, j in product(range(len(P)), range(len(Q))):
            if np.isnan(R[i, j]):
                continue
            estimate = number(0)
            for k in range(K):
                estimate += P[i, k] * Q[j, k]
            e = R[i, j] - estimate
            for k in range(K):
                p, q = P[i, k], Q[j, k]
                P[i, k] = p + alpha * (two * e * q - beta * p)
                Q[j, k] = q + alpha * (two * e * p - beta * q)
    return P, Q


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sgd_gives_the_numbers_of_the_double_loop_to_the_last_bit(shape, missing, dtype):
    R, P, Q = problem(*shape, dtype=dtype)
    if missing != ():
        R[missing] = np.nan
    identical(SGD(R, P, Q, 4, 0.03, 0.1), double_loop(R, P, Q, 4, 0.03, 0.1))


@examples()
@given(small, seeds, st.floats(0, 1))
def test_sgd_gives_the_numbers_of_the_double_loop_wherever_pixels_are_missing(shape, seed, hidden):
    R, P, Q = problem(*shape, seed)
    R[np.random.RandomState(seed).rand(*R.shape) < hidden] = np.nan
    identical(SGD(R, P, Q, 2, 0.03, 0.1), double_loop(R, P, Q, 2, 0.03, 0.1))


def test_sgd_gives_other_numbers_in_another_order_of_the_columns():
    R, P, Q = problem(6, 5, 2)
    forward = SGD(R, P, Q, 1, 0.03, 0.1)
    backward = SGD(R[:, ::-1], P, Q[::-1], 1, 0.03, 0.1)
    assert np.abs(forward[0] - backward[0]).max() > 1e-6


@pytest.mark.parametrize("missing", ["a whole row", "a whole column", "everything"])
def test_sgd_leaves_alone_what_was_never_observed(missing):
    R, P, Q = problem(5, 4, 2)
    R[MISSING[missing]] = np.nan
    P_new, Q_new = SGD(R, P, Q, 3, 0.03, 0.1)
    assert_array_equal((P_new == P).all(axis=1), np.isnan(R).all(axis=1))
    assert_array_equal((Q_new == Q).all(axis=1), np.isnan(R).all(axis=0))


@pytest.mark.parametrize("N, M", [(9, 6), (6, 9)])
def test_sgd_charges_beta_at_every_visit(N, M):
    # An epoch then descends sum(E**2) + beta/2 (M sum(P**2) + N sum(Q**2)), which takes
    # beta/2 sqrt(N M) off each singular value
    R = with_spectrum(N, M, [3, 2, 0.5, 0.2])
    _, P, Q = problem(N, M, 2)
    beta = 0.1
    P, Q = SGD(R, P, Q, 4000, 0.002, beta)
    plateau = 0.5**2 + 0.2**2 + 2 * (beta / 2 * np.sqrt(N * M)) ** 2
    assert mf.squared_error(R, P, Q) == pytest.approx(plateau, rel=0.01)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3), (1, 1)])
def test_waves_hold_each_entry_once_on_its_anti_diagonal(shape):
    R = put(1 + np.arange(np.prod(shape), dtype=float).reshape(shape), np.nan, i=0)
    values, rates = mf.waves(R, 0.5)
    expected = np.zeros_like(values)
    for i, j in np.argwhere(~np.isnan(R)):
        expected[i + j, i] = R[i, j]
    assert_array_equal(values, expected)
    assert_array_equal(rates, 0.5 * (expected > 0))


# Multiplicative updates


def scikit_learn(R, P, Q, steps, tol=0):
    model = NMF(P.shape[1], solver="mu", init="custom", tol=tol, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W = model.fit_transform(R, W=P.copy(), H=Q.T.copy())
    return W, model.components_.T, model.n_iter_


@pytest.mark.parametrize("K", [2, 16, 40])
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_multiplicative_update_has_the_iterates_of_scikit_learn(K, dtype, rtol):
    R, P, Q = problem(100, 256, K, dtype=dtype)
    same(MU(R, P, Q, 200), scikit_learn(R, P, Q, 200)[:2], rtol)


@pytest.mark.parametrize("tol", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("K, seed", [(2, 0), (2, 1), (16, 2)])
def test_multiplicative_update_stops_at_the_step_of_scikit_learn(K, seed, tol):
    R, P, Q = problem(100, 256, K, seed)
    log = mf.ErrorLog(R)
    got = MU(R, P, Q, 600, tol=tol, callback=log)
    *expected, steps = scikit_learn(R, P, Q, 600, tol)
    assert log.steps[-1] == steps < 600
    same(got, expected)


@non_negative_kernels
def test_float32_stops_about_where_float64_does(kernel):
    rng = np.random.RandomState(2)
    R = rng.rand(100, 2) @ rng.rand(2, 256)  # fitted nearly exactly, where small differences count
    P, Q = rng.rand(100, 2), rng.rand(256, 2)
    logs = [mf.ErrorLog(R), mf.ErrorLog(R)]
    for log, dtype in zip(logs, [np.float64, np.float32]):
        kernel(*(X.astype(dtype) for X in (R, P, Q)), steps=3000, tol=1e-5, callback=log)
    assert 10 < logs[1].steps[-1] == pytest.approx(logs[0].steps[-1], rel=0.1)


@non_negative_kernels
def test_a_negligible_tol_runs_all_the_steps(kernel):
    R, P, Q = problem(20, 30, 3)
    log = mf.ErrorLog(R)
    kernel(R, P, Q, 57, tol=1e-9, callback=log)
    assert log.steps[-1] == 57


@non_negative_kernels
@examples()
@given(small, seeds, st.sampled_from([0, 0.5]))
def test_the_error_never_rises_and_the_factors_stay_non_negative(kernel, shape, seed, zeros):
    R, P, Q = problem(*shape, seed)
    for X in (R, P, Q):
        X[np.random.RandomState(seed).rand(*X.shape) < zeros] = 0
    log = mf.ErrorLog(R)
    last = kernel(R, P, Q, 30, callback=log)
    errors = np.array([mf.squared_error(R, P, Q), *log.errors])
    assert np.diff(errors).max() <= 1e-13 * np.sum(R * R)
    assert all(X.min() >= 0 for X in last)


def test_multiplicative_update_keeps_a_zero_zero():
    R, P, Q = problem(6, 5, 3)
    P, Q = put(P, 0, 2, 1), put(Q, 0, 4, 0)
    P_new, Q_new = MU(R, P, Q, 10)
    assert_array_equal(P_new == 0, P == 0)
    assert_array_equal(Q_new == 0, Q == 0)


@non_negative_kernels
@pytest.mark.parametrize("axis", ["row", "column", "everything"])
@pytest.mark.parametrize("which", ["R", "P", "Q", "PQ", "RPQ"])
def test_there_is_no_nan_and_no_rise_where_all_is_zero(kernel, which, axis):
    matrices = dict(zip("RPQ", problem(6, 5, 3)))
    for label in which:
        matrices[label][{"row": np.s_[2], "column": np.s_[:, 1], "everything": np.s_[:]}[axis]] = 0
    log = mf.ErrorLog(matrices["R"])
    assert all(np.isfinite(X).all() for X in kernel(**matrices, steps=10, callback=log))
    errors = [mf.squared_error(**matrices), *log.errors]
    assert np.diff(errors).max() <= 1e-13 * max(errors)


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e20])
@pytest.mark.parametrize("tol", [0, 1e-3])
@non_negative_kernels
def test_the_scale_of_the_data_does_not_matter(kernel, scale, tol):
    R, P, Q = problem(20, 30, 3)
    P_expected, Q_expected = kernel(R, P, Q, 50, tol=tol)
    same(kernel(scale * R, scale * P, Q, 50, tol=tol), (scale * P_expected, Q_expected))


# Hierarchical alternating least squares


def coordinate_by_coordinate(R, P, Q, inner):
    """Set each number of P to the minimum of its parabola, or to 0, one number after the other."""
    P = P.copy()
    for _, k, i in product(range(inner), range(P.shape[1]), range(len(P))):
        without = R[i] - sum(P[i, m] * Q[:, m] for m in range(P.shape[1]) if m != k)
        if np.any(Q[:, k] > 0):
            P[i, k] = max(0, without @ Q[:, k] / (Q[:, k] @ Q[:, k]))
    return P


@examples()
@given(small, seeds, st.integers(1, 3), st.sampled_from([0, 0.5]))
def test_hals_sets_every_number_to_its_best_value(shape, seed, inner, zeros):
    R, P, Q = problem(shape[0], shape[1], min(shape[2], 4), seed)
    for X in (R, P, Q):
        X[np.random.RandomState(seed).rand(*X.shape) < zeros] = 0
    P_new, Q_new = HALS(R, P, Q, 1, inner)
    assert_allclose(P_new, coordinate_by_coordinate(R, P, Q, inner), rtol=0, atol=1e-9)
    expected = coordinate_by_coordinate(R.T, Q, P_new, inner)
    # The products: where rounding left 1e-16 for a 0 in P, it decides over Q
    assert_allclose(P_new @ Q_new.T, P_new @ expected.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(9, 7, 3), (7, 9, 3), (8, 8, 1)], ids=str)
def test_hals_gives_the_numbers_of_one_coordinate_after_the_other(shape):
    R, P, Q = problem(*shape)
    got = HALS(R, P, Q, 5, 2)
    for _ in range(5):
        P = coordinate_by_coordinate(R, P, Q, 2)
        Q = coordinate_by_coordinate(R.T, Q, P, 2)
    same(got, (P, Q))


@pytest.mark.parametrize("K, seed", [(2, 0), (16, 1), (16, 2)])
def test_hals_goes_as_low_as_scikit_learn(K, seed):
    R, P, Q = problem(100, 256, K, seed)
    model = NMF(K, init="custom", tol=1e-8, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W = model.fit_transform(R, W=P.copy(), H=Q.T.copy())
    lowest = mf.squared_error(R, W, model.components_.T)
    assert mf.squared_error(R, *HALS(R, P, Q, 1000)) <= 1.002 * lowest


@pytest.mark.parametrize("shape", [(6, 9, 3), (9, 6, 3), (5, 1, 4), (5, 7, 1)], ids=str)
def test_many_inner_sweeps_of_hals_solve_non_negative_least_squares(shape):
    R, P, Q = problem(*shape)
    R -= 0.4  # so that some of the best weights are 0
    R = np.maximum(R, 0)
    P_new, Q_new = HALS(R, P, Q, 1, inner=5000)
    errors = [scipy.optimize.nnls(Q, row)[1] for row in R]
    assert_allclose(np.linalg.norm(R - P_new @ Q.T, axis=1), errors, rtol=1e-9, atol=1e-9)
    errors = [scipy.optimize.nnls(P_new, column)[1] for column in R.T]
    assert_allclose(np.linalg.norm(R - P_new @ Q_new.T, axis=0), errors, rtol=1e-9, atol=1e-9)


def test_hals_ends_where_no_number_wants_to_move():
    R, P, Q = problem(12, 15, 4)
    P, Q = HALS(R, P, Q, 20000)
    slopes = central_differences(lambda X: objective(R, X, Q, 0), P, 1e-4)
    slopes = np.vstack([slopes, central_differences(lambda X: objective(R, P, X, 0), Q, 1e-4)])
    values = np.vstack([P, Q])
    assert (values == 0).any() and (values > 0).any()
    assert np.abs(slopes[values > 0]).max() < 1e-6
    assert slopes[values == 0].min() > -1e-6


def test_hals_wakes_a_column_that_is_zero_in_one_factor_only():
    R, P, Q = problem(6, 5, 3)
    Q[:, 1] = 0
    P_new, Q_new = HALS(R, P, Q, 1)
    assert_array_equal(P_new[:, 1], P[:, 1])
    assert Q_new[:, 1].max() > 0


def test_more_inner_sweeps_of_hals_go_lower():
    R, P, Q = problem(30, 40, 5)
    errors = [mf.squared_error(R, *HALS(R, P, Q, 1, inner)) for inner in (1, 2, 4, 100)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 1.001 * errors[-1]


# All of them


@pytest.mark.parametrize(
    "kernel, steps, numbers",
    [
        (GD, 4000, {"alpha": 0.01, "beta": 0}),
        (SGD, 2000, {"alpha": 0.03, "beta": 0}),
        (MU, 4000, {}),
        (HALS, 500, {}),
    ],
    ids=["gradient_descent", "sgd", "multiplicative_update", "hals"],
)
def test_planted_factors_are_found_again(kernel, steps, numbers):
    _, A, B = problem(12, 10, 2, seed=1)
    _, P, Q = problem(12, 10, 2, seed=2)
    R = A @ B.T
    assert mf.squared_error(R, *run(kernel, R, P, Q, steps, **numbers)) < 1e-9 * np.sum(R * R)


@every_kernel
def test_arguments_are_left_alone(kernel):
    matrices = problem(5, 4, 2)
    before = [X.tobytes() for X in matrices]
    run(kernel, *matrices)
    assert [X.tobytes() for X in matrices] == before


@every_kernel
@pytest.mark.parametrize("steps", [0, 1])
def test_the_factors_returned_are_new_arrays(kernel, steps):
    R, P, Q = problem(5, 4, 2)
    got = run(kernel, R, P, Q, steps)
    assert not any(np.shares_memory(new, old) for new in got for old in (R, P, Q))


@every_kernel
def test_no_steps_change_nothing(kernel):
    R, P, Q = problem(5, 4, 2)
    identical(run(kernel, R, P, Q, 0), (P, Q))


@every_kernel
@pytest.mark.parametrize(
    "convert", [np.int16, np.uint8, np.ndarray.tolist], ids=lambda f: f.__name__
)
def test_whole_numbers_and_lists_count_as_float64(kernel, convert):
    whole = [np.round(5 * X).astype(int) for X in problem(5, 4, 2)]
    expected = run(kernel, *(X.astype(float) for X in whole))
    identical(run(kernel, *map(convert, whole)), expected)


@every_kernel
@pytest.mark.parametrize("wide", range(3), ids="RPQ")
def test_the_widest_float_type_among_the_matrices_is_that_of_the_factors(kernel, wide):
    matrices = problem(5, 4, 2, dtype=np.float32)
    matrices[wide] = matrices[wide].astype(float)
    expected = run(kernel, *(X.astype(float) for X in matrices))
    identical(run(kernel, *matrices), expected)


@every_kernel
def test_float32_stays_float32_with_numpy_numbers(kernel):
    numbers = {name: np.float64(value) for name, value in NUMBERS[kernel].items()}
    factors = run(kernel, *problem(5, 4, 2, dtype=np.float32), steps=np.int64(3), **numbers)
    assert [X.dtype for X in factors] == [np.float32, np.float32]


@every_kernel
def test_callback_sees_every_step_and_the_factors_that_are_returned(kernel):
    seen = []
    R, P, Q = problem(5, 4, 2)
    last = run(kernel, R, P, Q, 4, callback=lambda *call: seen.append(call))
    assert [step for step, *_ in seen] == [1, 2, 3, 4]
    identical(seen[-1][1:], last)


@every_kernel
@pytest.mark.parametrize("K", [1, 2])
def test_factors_that_a_callback_keeps_do_not_change_later(kernel, K):
    seen, copies = [], []

    def keep(step, P, Q):
        seen.extend((P, Q))
        copies.extend((P.copy(), Q.copy()))

    run(kernel, *problem(5, 4, K), callback=keep)
    identical(seen, copies)


@every_kernel
def test_two_runs_in_a_row_are_one_long_run(kernel):
    R, P, Q = problem(5, 4, 2)
    identical(run(kernel, R, *run(kernel, R, P, Q, 2), 3), run(kernel, R, P, Q, 5))


@every_kernel
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "shape",
    [
        (3, 4, 6),
        (3, 9, 2),
        (9, 3, 2),
        (5, 5, 2),
        (1, 6, 1),
        (6, 1, 1),
        (1, 6, 3),
        (6, 1, 3),
        (1, 1, 2),
    ],
    ids=str,
)
def test_any_shape_will_do(kernel, shape, dtype):
    R, P, Q = problem(*shape, dtype=dtype)
    before = [P.copy(), Q.copy()]
    P_new, Q_new = run(kernel, R, P, Q, 200)
    identical((P, Q), before)
    assert P_new.shape == P.shape and Q_new.shape == Q.shape
    assert P_new.dtype == Q_new.dtype == dtype
    assert mf.squared_error(R, P_new, Q_new) < mf.squared_error(R, P, Q)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "F-ordered": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "backwards": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "read-only": read_only,
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
}


@every_kernel
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_memory_layout_does_not_matter(kernel, layout):
    matrices = problem(7, 5, 3)
    same(run(kernel, *map(layout, matrices)), run(kernel, *matrices))


@batch_kernels
@pytest.mark.parametrize(
    "sparse", ["csr_array", "csc_array", "csr_matrix", "csc_matrix", "lil_array", "dia_array"]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_sparse_data_give_what_dense_data_give(kernel, sparse, dtype):
    R, P, Q = problem(9, 8, 2)
    R = np.floor(30 * R).astype(dtype)  # the squares do not fit uint8
    numbers = {"alpha": 1e-5} if kernel is GD else {"tol": 1e-2}
    got = run(kernel, getattr(scipy.sparse, sparse)(R), P, Q, 50, **numbers)
    same(got, run(kernel, R, P, Q, 50, **numbers))


@batch_kernels
def test_a_memory_map_gives_what_an_array_gives(kernel, tmp_path):
    R, P, Q = problem(9, 8, 2)
    R.tofile(tmp_path / "R")
    mapped = np.memmap(tmp_path / "R", R.dtype, mode="r", shape=R.shape)
    got = run(kernel, mapped, P, Q)
    same(got, run(kernel, R, P, Q))
    assert [type(X) for X in got] == [np.ndarray, np.ndarray]


class OnlyProducts:
    """R @ Q and R.T @ P, and nothing else."""

    def __init__(self, X):
        self._X = X
        self.shape, self.dtype = X.shape, X.dtype

    def __matmul__(self, other):
        return self._X @ other

    @property
    def T(self):
        return OnlyProducts(self._X.T)


class OnlyProductsAndMin(OnlyProducts):
    def min(self):
        return self._X.min()


@batch_kernels
def test_only_products_are_asked_of_the_data(kernel):
    only = OnlyProducts if kernel is GD else OnlyProductsAndMin
    R, P, Q = problem(9, 8, 2)
    same(run(kernel, only(R), P, Q), run(kernel, R, P, Q))


# Refusals

R0, P0, Q0 = problem(4, 3, 2)
NAN, INF = np.nan, np.inf
ALL, BATCH, RATED, NONNEG = (GD, SGD, MU, HALS), (GD, MU, HALS), (GD, SGD), (MU, HALS)
POSITIVE = "^alpha must be finite and greater than 0"

REFUSALS = [
    ("P sparse", ALL, {"P": scipy.sparse.csr_array(P0)}, TypeError, r"^P must be .* P.toarray\(\)"),
    ("P short", ALL, {"P": P0[:-1]}, ValueError, r"^P must have one row .* \(4, K\).* \(3, 2\)"),
    ("Q short", ALL, {"Q": Q0[:-1]}, ValueError, r"^Q must have one row .* \(3, K\).* \(2, 2\)"),
    ("P transposed", ALL, {"P": P0.T}, ValueError, "^P must have one row"),
    ("Q transposed", ALL, {"Q": Q0.T}, ValueError, "^Q must have one row"),
    ("K differs", ALL, {"Q": Q0[:, :1]}, ValueError, r"^P and Q .* K .*\(4, 2\) and \(3, 1\)"),
    ("K square", ALL, {"P": np.ones((4, 5)), "Q": np.ones((3, 3))}, ValueError, "not transposed"),
    ("R 1-D", ALL, {"R": R0[0]}, ValueError, r"^R must be a matrix .* \(3,\)"),
    ("R 3-D", ALL, {"R": R0[None]}, ValueError, r"^R must be a matrix .* \(1, 4, 3\)"),
    ("P 1-D", ALL, {"P": P0[:, 0]}, ValueError, "^P must be a matrix"),
    ("Q 1-D", ALL, {"Q": Q0[:, 0]}, ValueError, "^Q must be a matrix"),
    ("no rows", ALL, {"R": R0[:0], "P": P0[:0]}, ValueError, "^R must be .* rows and columns"),
    ("no columns", ALL, {"R": R0[:, :0], "Q": Q0[:0]}, ValueError, "^R must be .* rows"),
    ("K zero", ALL, {"P": P0[:, :0], "Q": Q0[:, :0]}, ValueError, "^P must be .* columns"),
    ("R ragged", ALL, {"R": [[1, 2], [3]]}, ValueError, "^R must be a matrix, but its rows"),
    ("P ragged", ALL, {"P": [[1, 2], [3]]}, ValueError, "^P must be a matrix, but its rows"),
    ("steps negative", ALL, {"steps": -1}, ValueError, "^(steps|epochs) must be at least 0.* -1"),
    ("steps float", ALL, {"steps": 3.0}, TypeError, "^(steps|epochs) must be a whole number"),
    ("steps bool", ALL, {"steps": True}, TypeError, "^(steps|epochs) must be a whole number"),
    ("steps text", ALL, {"steps": "3"}, TypeError, "^(steps|epochs) must be a whole number"),
    ("alpha zero", RATED, {"alpha": 0}, ValueError, POSITIVE),
    ("alpha negative", RATED, {"alpha": -0.1}, ValueError, POSITIVE),
    ("alpha nan", RATED, {"alpha": NAN}, ValueError, POSITIVE),
    ("alpha inf", RATED, {"alpha": INF}, ValueError, POSITIVE),
    ("alpha text", RATED, {"alpha": "0.1"}, TypeError, "^alpha must be a number"),
    ("alpha bool", RATED, {"alpha": True}, TypeError, "^alpha must be a number"),
    ("alpha complex", RATED, {"alpha": 1j}, TypeError, "^alpha must be a number"),
    ("beta negative", RATED, {"beta": -0.1}, ValueError, "^beta must be .* at least 0"),
    ("beta nan", RATED, {"beta": NAN}, ValueError, "^beta must be finite"),
    ("beta inf", RATED, {"beta": INF}, ValueError, "^beta must be finite"),
    ("beta text", RATED, {"beta": "0"}, TypeError, "^beta must be a number"),
    ("tol negative", NONNEG, {"tol": -1e-4}, ValueError, "^tol must be .* at least 0"),
    ("tol nan", NONNEG, {"tol": NAN}, ValueError, "^tol must be finite"),
    ("tol text", NONNEG, {"tol": "0"}, TypeError, "^tol must be a number"),
    ("inner zero", (HALS,), {"inner": 0}, ValueError, "^inner must be at least 1, but got 0"),
    ("inner float", (HALS,), {"inner": 2.0}, TypeError, "^inner must be a whole number"),
    ("R inf", ALL, {"R": put(R0, INF)}, ValueError, "^R must be finite.*(row 1|1, 0)"),
    ("R -inf", ALL, {"R": put(R0, -INF)}, ValueError, "^R must be finite.*(row 1|1, 0)"),
    ("R nan", BATCH, {"R": put(R0, NAN)}, ValueError, "^R must be finite, but row 1.*sgd takes"),
    ("P nan", ALL, {"P": put(P0, NAN)}, ValueError, r"^P must be finite, but P\[1, 0\] is nan"),
    ("P inf", ALL, {"P": put(P0, INF)}, ValueError, r"^P must be finite, but P\[1, 0\] is inf"),
    ("Q nan", ALL, {"Q": put(Q0, NAN)}, ValueError, r"^Q must be finite, but Q\[1, 0\] is nan"),
    ("Q inf", ALL, {"Q": put(Q0, INF)}, ValueError, r"^Q must be finite, but Q\[1, 0\] is inf"),
    (
        "R negative",
        NONNEG,
        {"R": put(R0, -1)},
        ValueError,
        "^R must be non-neg.* -1.*gradient_d",
    ),
    (
        "P negative",
        NONNEG,
        {"P": put(P0, -1)},
        ValueError,
        r"^P must be non-neg.* P\[1, 0\] is -1",
    ),
    (
        "Q negative",
        NONNEG,
        {"Q": put(Q0, -1)},
        ValueError,
        r"^Q must be non-neg.* Q\[1, 0\] is -1",
    ),
    ("R complex", ALL, {"R": R0 + 0j}, TypeError, "^R must hold real numbers.* complex128"),
    ("P complex", ALL, {"P": P0 + 0j}, TypeError, "^P must hold real numbers.* complex128"),
    ("Q object", ALL, {"Q": Q0.astype(object)}, TypeError, "^Q must hold real numbers.* object"),
    ("R text", ALL, {"R": R0.astype(str)}, TypeError, "^R must hold real numbers"),
    ("R None", ALL, {"R": None}, TypeError, "^R must hold real numbers"),
    ("R masked", ALL, {"R": np.ma.array(R0)}, TypeError, "^R must be a plain array.* masked"),
    ("P masked", ALL, {"P": np.ma.array(P0)}, TypeError, "^P must be a plain array.* masked"),
    ("R sparse", (SGD,), {"R": scipy.sparse.csr_array(R0)}, TypeError, "^R must be a dense.*csr"),
    ("callback", ALL, {"callback": 3}, TypeError, "^callback must be a function.* 3"),
]


@pytest.mark.parametrize(
    "kernel, changes, error, message",
    [
        pytest.param(kernel, *row, id=f"{kernel.__name__}-{label}")
        for label, kernels, *row in REFUSALS
        for kernel in kernels
    ],
)
def test_what_cannot_be_is_refused_by_name(kernel, changes, error, message):
    with pytest.raises(error, match=message):
        run(kernel, **{"R": R0, "P": P0, "Q": Q0, **changes})


def test_sgd_takes_nan_and_negative_data():
    factors = run(SGD, put(-R0, NAN), P0, Q0)
    assert all(np.isfinite(X).all() for X in factors)


@pytest.mark.parametrize("kernel, unit", [(GD, "step"), (SGD, "epoch")])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_divergence_is_an_error_that_names_the_step_and_the_rate(kernel, unit, dtype):
    finite = []

    def note(step, P, Q):
        finite.append(np.isfinite(P).all() and np.isfinite(Q).all())

    with pytest.raises(FloatingPointError, match="alpha=5:.* smaller alpha") as caught:
        run(kernel, *problem(4, 3, 2, dtype=dtype), 1000, alpha=5, callback=note)
    assert f"diverged at {unit} {len(finite) + 1} with" in str(caught.value)
    assert all(finite)


@pytest.mark.parametrize("kernel, start", [(GD, (1, 0)), (SGD, (1, 0)), (SGD, (0, 1))])
def test_divergence_of_one_factor_alone_is_noticed(kernel, start):
    P, Q = ([[x]] for x in start)
    with pytest.raises(FloatingPointError, match="diverged at (step|epoch) 1"):
        run(kernel, [[1e300]], P, Q, 1, alpha=1e10, beta=0)


@non_negative_kernels
@pytest.mark.parametrize("tol", [0, 1e-4])
def test_overflow_is_an_error_that_names_the_step(kernel, tol):
    with pytest.raises(FloatingPointError, match="^overflow at step 1: .* divide R"):
        kernel(1e200 * R0, 1e200 * P0, 1e200 * Q0, 5, tol=tol)


@batch_kernels
@pytest.mark.parametrize("row", [[np.inf, -np.inf, 0], [1e308, 1e308, 1e308]])
def test_a_row_that_does_not_add_up_is_refused_without_a_warning(kernel, row):
    R = R0.copy()
    R[1] = row
    with pytest.raises(ValueError, match="^R must be finite, but row 1"):
        run(kernel, R, P0, Q0)


# The helpers


@examples()
@given(small, seeds, st.floats(0, 1))
def test_squared_error_is_the_double_sum_over_what_is_observed(shape, seed, hidden):
    R, P, Q = problem(*shape, seed)
    R[np.random.RandomState(seed).rand(*R.shape) < hidden] = np.nan
    naive = sum(
        (R[i, j] - sum(p * q for p, q in zip(P[i], Q[j]))) ** 2
        for i, j in np.ndindex(R.shape)
        if not np.isnan(R[i, j])
    )
    error = mf.squared_error(R, P, Q)
    assert isinstance(error, float)
    assert error == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"P": P0[:-1]}, ValueError, "^P must have one row"),
        ({"Q": Q0.T}, ValueError, "^Q must have one row"),
        ({"R": R0.astype(str)}, TypeError, "^R must hold real numbers"),
    ],
)
def test_squared_error_refuses_what_does_not_fit(changes, error, message):
    with pytest.raises(error, match=message):
        mf.squared_error(**{"R": R0, "P": P0, "Q": Q0, **changes})


@every_kernel
def test_error_log_records_every_nth_step(kernel):
    every_step, every_third = mf.ErrorLog(R0), mf.ErrorLog(R0, every=3)
    for log in (every_step, every_third):
        last = run(kernel, R0, P0, Q0, 7, callback=log)
    assert every_third.steps == [3, 6]
    assert every_third.errors == every_step.errors[2::3]
    assert every_step.errors[-1] == mf.squared_error(R0, *last)


@pytest.mark.parametrize(
    "name",
    [
        "show_faces",
        "squared_error",
        "gradient_descent",
        "sgd",
        "multiplicative_update",
        "hals",
        "fetch_faces",
    ],
)
def test_the_source_shown_is_the_function_without_its_docstring(name):
    function = getattr(mf, name)
    head, _docstring, body = inspect.getsource(function).split('"""', 2)
    shown = head.rstrip(" ") + body.removeprefix("\n")
    assert mf.show_source(function).data == f"```python\n{shown}```"


def test_the_source_shown_is_that_of_a_function_without_a_docstring_too():
    def twice(x):
        return 2 * x

    assert mf.show_source(twice).data == "```python\ndef twice(x):\n    return 2 * x\n```"


def test_the_source_shown_is_never_stale(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "just_written.py"
    file.write_text("def f():\n    return 1\n")
    module = importlib.import_module("just_written")
    assert "return 1" in mf.show_source(module.f).data
    file.write_text("def f():\n    return 1 + 1  # longer, so that it is not taken for the old\n")
    assert "return 1 + 1" in mf.show_source(importlib.reload(module).f).data


@pytest.fixture
def plt(monkeypatch):
    matplotlib.use("Agg")
    with warnings.catch_warnings():  # an old Matplotlib warns of a new pyparsing
        warnings.simplefilter("ignore")
        from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: None)
    yield pyplot
    pyplot.close("all")


def test_faces_are_drawn_row_by_row_on_one_scale(plt):
    rng = np.random.RandomState(0)
    stacks = {"wide": rng.randn(3, 16), "small": rng.randn(2, 4)}
    mf.show_faces(stacks, title="Faces", names="abc", signed=True)
    top = max(np.abs(stack).max() for stack in stacks.values())
    images = [axis.images[0] for axis in plt.gcf().axes[:6] if axis.images]
    drawn = [np.asarray(image.get_array()) for image in images]
    expected = [*stacks["wide"].reshape(3, 4, 4), *stacks["small"].reshape(2, 2, 2)]
    assert len(drawn) == len(expected)
    assert all(np.array_equal(X, Y) for X, Y in zip(drawn, expected))
    assert {image.get_clim() for image in images} == {(-top, top)}


def test_faces_can_have_a_scale_each(plt):
    stack = np.array([[1.0, 2, 3, 4], [10, 20, 30, 40]])
    mf.show_faces(stack, limit="each")
    assert [axis.images[0].get_clim() for axis in plt.gcf().axes] == [(0, 4), (0, 40)]


@pytest.mark.parametrize("pixels", [3, 15, 17])
def test_faces_that_are_not_square_are_refused(plt, pixels):
    with pytest.raises(ValueError, match=f"'faces' has {pixels} pixels"):
        mf.show_faces({"faces": np.ones((2, pixels))})
    assert plt.get_fignums() == []


def test_the_error_in_blocks_of_rows_is_the_whole_error():
    R, P, Q = problem(5, 2**19, 1)  # two rows to a block
    assert mf.squared_error(R, P, Q) == pytest.approx(np.sum((R - P @ Q.T) ** 2), rel=1e-12)
    sparse = scipy.sparse.csr_array(R)
    assert mf.squared_error(sparse, P, Q) == pytest.approx(mf.squared_error(R, P, Q), rel=1e-9)


def test_error_log_refuses_to_record_every_zeroth_step():
    with pytest.raises(ValueError, match="^every must be at least 1"):
        mf.ErrorLog(R0, every=0)
