"""The kernels against independent oracles: loops, finite differences, the SVD, scikit-learn."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from oracles import (
    double_loop,
    hide,
    identical,
    objective,
    problem,
    same,
    scikit_learn,
    slopes,
    squared_error,
    textbook,
    with_zeros,
)

import mf_solutions as mf

# A kernel that warns is a kernel that fails; sockets that another file left open are not its own
pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

GD, SGD, MU, HALS = mf.gradient_descent, mf.sgd, mf.multiplicative_update, mf.hals
RATES = {"alpha": 0.01, "beta": 0.02}
NUMBERS = {GD: RATES, SGD: RATES, MU: {}, HALS: {}}


def kernels(*which):
    return pytest.mark.parametrize("kernel", which, ids=lambda kernel: kernel.__name__)


every_kernel = kernels(GD, SGD, MU, HALS)
batch_kernels = kernels(GD, MU, HALS)
non_negative_kernels = kernels(MU, HALS)

small = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 10))
seeds = st.integers(0, 2**32 - 1)


def examples(n=40):
    return settings(max_examples=n, deadline=None, derandomize=True, database=None)


def run(kernel, R, P, Q, steps=3, callback=None, **numbers):
    numbers = {**NUMBERS[kernel], **numbers}
    return kernel(R, P, Q, steps, **numbers, callback=callback)


def put(X, value, i=1, j=0):
    X = np.array(X)
    X[i, j] = value
    return X


# Full-batch gradient descent


@examples()
@given(small, seeds)
def test_gradient_descent_is_the_textbook_three_lines(shape, seed):
    R, P, Q = problem(*shape, seed)
    R -= 0.5
    expected = textbook(R, P, Q, 20, 0.01, 0.3)
    same(GD(R, P, Q, 20, 0.01, 0.3), expected)


@pytest.mark.parametrize("beta", [0, 0.02, 3.0])
def test_gradient_step_goes_down_the_gradient_of_the_objective(beta):
    R, P, Q = problem(5, 4, 3)
    tiny = 1e-7  # so small that P hardly moves, and Q sees the gradient at the start
    P_new, Q_new = mf.gradient_step(R, P, Q, tiny, beta)
    down_P = -slopes(lambda X: objective(R, X, Q, beta), P)
    down_Q = -slopes(lambda X: objective(R, P, X, beta), Q)
    way_P = (P_new - P) / tiny
    way_Q = (Q_new - Q) / tiny
    assert_allclose(way_P, down_P, rtol=1e-5, atol=1e-5)
    assert_allclose(way_Q, down_Q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beta", [0, 0.8])
def test_gradient_descent_reaches_the_svd_with_each_value_shrunk_by_half_of_beta(beta):
    values = np.array([3, 2, 1, 0.3, 0.2])
    rng = np.random.RandomState(7)
    U, _ = np.linalg.qr(rng.randn(9, 5))
    V, _ = np.linalg.qr(rng.randn(7, 5))
    R = U * values @ V.T
    _, P, Q = problem(9, 7, 4)
    factors = GD(R, P, Q, 5000, 0.02, beta)
    error = mf.squared_error(R, *factors)
    shrunk = np.minimum(values[:4], beta / 2)
    assert error == pytest.approx(np.sum(shrunk**2) + 0.04, rel=1e-9)


# Stochastic gradient descent


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@examples(120)
@given(small, seeds, st.floats(0, 1))
@example((1, 6, 10), 0, 0)
@example((6, 1, 10), 0, 0)
@example((5, 4, 2), 0, 1)
def test_sgd_gives_the_numbers_of_the_double_loop_to_the_last_bit(dtype, shape, seed, hidden):
    R, P, Q = problem(*shape, seed, dtype)
    R -= dtype(0.5)
    hide(R, seed, hidden)
    expected = double_loop(R, P, Q, 3, 0.03, 0.1)
    identical(SGD(R, P, Q, 3, 0.03, 0.1), expected)


# Multiplicative updates


@pytest.mark.parametrize("K", [2, 16, 40])
@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_multiplicative_update_has_the_iterates_of_scikit_learn(K, dtype, rtol):
    R, P, Q = problem(100, 256, K, dtype=dtype)
    options = {"solver": "mu", "tol": 0, "max_iter": 200}
    W, H, _ = scikit_learn(R, P, Q, **options)
    same(MU(R, P, Q, 200), (W, H), rtol)


@pytest.mark.parametrize("tol", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("K, seed", [(2, 0), (2, 1), (16, 2)])
def test_multiplicative_update_stops_at_the_step_of_scikit_learn(K, seed, tol):
    R, P, Q = problem(100, 256, K, seed)
    log = mf.ErrorLog(R, P, Q)
    got = MU(R, P, Q, 600, tol=tol, callback=log)
    options = {"solver": "mu", "tol": tol, "max_iter": 600}
    W, H, steps = scikit_learn(R, P, Q, **options)
    assert len(log.errors) - 1 == steps < 600
    same(got, (W, H))


def test_float32_stops_about_where_float64_does():
    _, A, B = problem(100, 256, 2, seed=2)
    _, P, Q = problem(100, 256, 2, seed=3)
    matrices = A @ B.T, P, Q  # fitted nearly exactly, where small differences count
    counts = []
    for dtype in (np.float64, np.float32):
        R, P, Q = (X.astype(dtype) for X in matrices)
        log = mf.ErrorLog(R, P, Q)
        MU(R, P, Q, steps=3000, tol=1e-5, callback=log)
        counts.append(len(log.errors))
    wide, narrow = counts
    assert 10 < narrow == pytest.approx(wide, rel=0.1)


@examples()
@given(small, seeds, st.sampled_from([0, 0.5, 1]))
def test_the_error_never_rises_and_a_zero_stays_zero(shape, seed, zeros):
    R, P, Q = problem(*shape, seed)
    with_zeros([R, P, Q], seed, zeros)
    log = mf.ErrorLog(R, P, Q)
    last = MU(R, P, Q, 30, callback=log)
    rises = np.diff(log.errors)
    assert rises.max() <= 1e-13 * np.sum(R * R)
    for X, start in zip(last, (P, Q)):
        assert X.min() >= 0
        assert not X[start == 0].any()


# All of them


@every_kernel
@pytest.mark.parametrize("wide", range(3), ids="RPQ")
@pytest.mark.parametrize("convert", [np.float64, np.int16, np.uint8, np.ndarray.tolist])
def test_the_widest_float_type_counts_and_whole_numbers_are_float64(kernel, convert, wide):
    matrices = problem(5, 4, 2, dtype=np.float32)
    whole = np.round(5 * matrices[wide])
    matrices[wide] = convert(whole)
    in_float64 = [np.array(X, float) for X in matrices]
    identical(run(kernel, *matrices), run(kernel, *in_float64))


@every_kernel
def test_float32_stays_float32_with_numpy_numbers(kernel):
    matrices = problem(5, 4, 2, dtype=np.float32)
    numbers = {name: np.float64(value) for name, value in NUMBERS[kernel].items()}
    P, Q = run(kernel, *matrices, steps=np.int64(3), **numbers)
    assert P.dtype == Q.dtype == np.float32


@every_kernel
@pytest.mark.parametrize("K", [1, 2])
def test_callback_sees_every_step_and_may_keep_its_factors(kernel, K):
    seen, copies = [], []

    def keep(step, P, Q):
        seen.append((step, P, Q))
        copies.append((step, P.copy(), Q.copy()))

    last = run(kernel, *problem(5, 4, K), 4, callback=keep)
    assert [step for step, *_ in seen] == [1, 2, 3, 4]
    identical(seen[-1][1:], last)
    for then, now in zip(copies, seen):
        identical(now[1:], then[1:])


@every_kernel
def test_no_steps_give_copies(kernel):
    R, P, Q = problem(5, 4, 2)
    got = run(kernel, R, P, Q, 0)
    identical(got, (P, Q))
    assert not any(np.shares_memory(new, old) for new in got for old in (R, P, Q))


@every_kernel
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", ["346", "392", "932", "552", "161", "611", "163", "613", "112"])
def test_any_shape_will_do_and_arguments_are_left_alone(kernel, shape, dtype):
    matrices = problem(*map(int, shape), dtype=dtype)
    copies = [X.copy() for X in matrices]
    R, P, Q = matrices
    P_new, Q_new = run(kernel, R, P, Q, 200)
    identical(matrices, copies)
    assert P_new.shape == P.shape
    assert Q_new.shape == Q.shape
    assert P_new.dtype == Q_new.dtype == dtype
    for old in matrices:
        assert not np.shares_memory(P_new, old)
        assert not np.shares_memory(Q_new, old)
    before = mf.squared_error(R, P, Q)
    assert mf.squared_error(R, P_new, Q_new) < before


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
    laid_out = [layout(X) for X in matrices]
    same(run(kernel, *laid_out), run(kernel, *matrices))


@batch_kernels
@pytest.mark.parametrize(
    "sparse", ["csr_array", "csc_array", "csr_matrix", "csc_matrix", "lil_array", "dia_array"]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_sparse_data_give_what_dense_data_give(kernel, sparse, dtype):
    R, P, Q = problem(9, 8, 2)
    R = np.floor(30 * R).astype(dtype)  # the squares do not fit uint8
    numbers = {"alpha": 1e-5} if kernel is GD else {"tol": 1e-2}
    R_sparse = getattr(scipy.sparse, sparse)(R)
    got = run(kernel, R_sparse, P, Q, 50, **numbers)
    same(got, run(kernel, R, P, Q, 50, **numbers))


@batch_kernels
def test_a_memory_map_gives_what_an_array_gives(kernel, tmp_path):
    R, P, Q = problem(9, 8, 2)
    path = tmp_path / "R"
    R.tofile(path)
    mapped = np.memmap(path, R.dtype, mode="r", shape=R.shape)
    got = run(kernel, mapped, P, Q)
    same(got, run(kernel, R, P, Q))
    assert all(type(X) is np.ndarray for X in got)


class OnlyProducts:
    """R @ Q and R.T @ P, the smallest and the largest entry, its type, and nothing else."""

    map_overlap = None  # a sign that this, as a Dask array, is not to be put together

    def __init__(self, X):
        self._X = X
        self.shape, self.dtype = X.shape, X.dtype
        self.min, self.max = X.min, X.max

    def astype(self, dtype, copy):
        assert dtype == self.dtype and not copy
        return self

    def __matmul__(self, other):
        return self._X @ other

    @property
    def T(self):
        return OnlyProducts(self._X.T)


@batch_kernels
def test_only_products_are_asked_of_the_data(kernel):
    R, P, Q = problem(9, 8, 2)
    same(run(kernel, OnlyProducts(R), P, Q), run(kernel, R, P, Q))


# Refusals

R0, P0, Q0 = problem(4, 3, 2)
NAN, INF = np.nan, np.inf
ALL, BATCH, RATED, NONNEG = (GD, SGD, MU, HALS), (GD, MU, HALS), (GD, SGD), (MU, HALS)
SPARSE = scipy.sparse.csr_array

# What is put in the place of an argument, and what the error says after the argument's name
SHAPES = [
    (ALL, "P", P0[:, 0], " must be a matrix"),
    (ALL, "R", R0[:0], " must be .* rows and columns"),
    (ALL, "P", P0[:, :0], " must be .* columns"),
    (ALL, "R", [[1, 2], [3]], " must be a matrix, but its rows"),
]
VALUES = [
    (ALL, "steps", -1, " must be .* least 0.* -1"),
    (RATED, "alpha", 0, " must be finite and greater than 0"),
    (RATED, "alpha", NAN, " must be finite and greater than 0"),
    (RATED, "alpha", 10**400, " must be finite and greater than 0, but got 1000"),
    (RATED, "beta", -0.1, " must be .* at least 0"),
    (RATED, "beta", 10**400, " must be finite"),
    (NONNEG, "tol", -1e-4, " must be .* at least 0"),
    ([HALS], "inner", 0, " must be .* than 0, but got 0"),
    (ALL, "R", put(R0, INF), " must be finite.* inf"),
    (BATCH, "R", put(R0, NAN), " must be finite, not from nan to nan.* sgd"),
    (ALL, "P", put(P0, NAN), r" must be finite, but P\[1, 0\] is nan"),
    (ALL, "Q", put(Q0, NAN), r" must be finite, but Q\[1, 0\] is nan"),
    (NONNEG, "R", put(R0, -1), " must be non-neg.* -1.*before cen"),
    (NONNEG, "P", put(P0, -1), r" must .*rand, but P\[1, 0\] is -1"),
    (NONNEG, "Q", put(Q0, -1), r" must .*rand, but Q\[1, 0\] is -1"),
]
TYPES = [
    (ALL, "steps", 3.0, " must be a whole number"),
    (ALL, "steps", True, " must be a whole number"),
    (RATED, "alpha", "0.1", " must be a number"),
    (RATED, "alpha", True, " must be a number"),
    ([HALS], "inner", 2.0, " must be a whole number"),
    (ALL, "R", R0 + 0j, " must hold real numbers.* complex128"),
    (ALL, "Q", Q0.astype(object), " must hold real numbers.* object"),
    (ALL, "R", None, " must hold real numbers"),
    (ALL, "R", np.ma.array(R0), " must be a plain array.* masked"),
    ([SGD], "R", SPARSE(R0), r" must be a NumPy array.*csr.* R\.toarray\(\)"),
    (ALL, "P", SPARSE(P0), r" must be dense.*csr.*use P\.toarray\(\)"),
    (ALL, "Q", SPARSE(Q0), r" must be dense.*csr.*use Q\.toarray\(\)"),
]


def each(rows):
    """Make a case of each kernel in each row."""
    cases = []
    for which, name, value, message in rows:
        cases += [(kernel, name, value, message) for kernel in which]
    return pytest.mark.parametrize("kernel, name, value, message", cases)


def refused(kernel, error, name, value, message):
    told = name
    if name == "steps" and kernel is SGD:
        told = "epochs"
    arguments = {"R": R0, "P": P0, "Q": Q0, name: value}
    with pytest.raises(error, match=f"^{told}{message}"):
        run(kernel, **arguments)


@every_kernel
@pytest.mark.parametrize("P, Q", [(P0[:-1], Q0), (P0, Q0[:-1]), (P0, Q0.T), (P0, Q0[:, :1])])
def test_matrices_that_do_not_fit_are_refused_with_their_shapes(kernel, P, Q):
    with pytest.raises(ValueError, match=r"^R, P and Q must be \(N, M\)") as caught:
        run(kernel, R0, P, Q)
    assert str(caught.value).endswith(f"got R (4, 3), P {P.shape} and Q {Q.shape}")


@each(SHAPES)
def test_a_shape_that_cannot_be_is_refused_by_name(kernel, name, value, message):
    refused(kernel, ValueError, name, value, message)


@each(VALUES)
def test_a_value_that_cannot_be_is_refused_by_name(kernel, name, value, message):
    refused(kernel, ValueError, name, value, message)


@each(TYPES)
def test_a_wrong_type_is_refused_by_name(kernel, name, value, message):
    refused(kernel, TypeError, name, value, message)


@kernels(GD, SGD)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble])
def test_numbers_of_numpy_are_numbers(kernel, kind):
    with np.errstate(all="raise"):
        got = run(kernel, R0, P0, Q0, alpha=kind(0.25), beta=kind(0.5))
    identical(got, run(kernel, R0, P0, Q0, alpha=0.25, beta=0.5))
    with pytest.raises(ValueError, match="^alpha must be finite"):
        run(kernel, R0, P0, Q0, alpha=kind("inf"))


@kernels(GD, SGD)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_divergence_is_an_error_that_names_the_step_and_the_rate(kernel, dtype):
    finite = []

    def note(step, P, Q):
        finite.append(np.isfinite(P).all() and np.isfinite(Q).all())

    R, P, Q = problem(4, 3, 2, dtype=dtype)
    message = "alpha=5 is too large, try 0.5"
    with pytest.raises(FloatingPointError, match=message) as caught:
        run(kernel, R, P, Q, 1000, alpha=5, callback=note)
    assert f"diverged at step {len(finite) + 1}:" in str(caught.value)
    assert all(finite)


@pytest.mark.parametrize("kernel, start", [(GD, (1, 0)), (SGD, (1, 0)), (SGD, (0, 1))])
def test_divergence_of_one_factor_alone_is_noticed(kernel, start):
    R, P, Q = ([[x]] for x in (1e300, *start))
    with pytest.raises(FloatingPointError, match="diverged at step 1"):
        run(kernel, R, P, Q, 1, alpha=1e10, beta=0)


@batch_kernels
@pytest.mark.parametrize(
    "row, words",
    [([np.inf, -np.inf, 0], "^R must be finite, not from -inf to inf"), ([1e308] * 3, "rescale R")],
)
def test_a_row_that_does_not_add_up_is_refused_without_a_warning(kernel, row, words):
    R = R0.copy()
    R[1] = row
    with pytest.raises((ValueError, FloatingPointError), match=words):
        run(kernel, R, P0, Q0)


# The error


@examples()
@given(small, seeds, st.floats(0, 1))
def test_squared_error_is_the_double_sum_over_what_is_observed(shape, seed, hidden):
    R, P, Q = problem(*shape, seed)
    hide(R, seed, hidden)
    error = mf.squared_error(R, P, Q)
    assert isinstance(error, float)
    assert error == pytest.approx(squared_error(R, P, Q), rel=1e-12)


def test_the_error_in_blocks_of_rows_is_the_whole_error():
    R, P, Q = problem(5, 2**19, 1)  # three rows to a block
    expected = objective(R, P, Q)
    assert mf.squared_error(R, P, Q) == pytest.approx(expected, rel=1e-12)
    sparse = scipy.sparse.csr_array(R)
    assert mf.squared_error(sparse, P, Q) == pytest.approx(expected, rel=1e-9)


@every_kernel
def test_error_log_has_the_start_and_every_step(kernel):
    log, errors = mf.ErrorLog(R0, P0, Q0), [mf.squared_error(R0, P0, Q0)]

    def note(step, P, Q):
        log(step, P, Q)
        errors.append(mf.squared_error(R0, P, Q))

    run(kernel, R0, P0, Q0, 3, note)
    assert log.errors == errors and len(errors) == 4
