"""What is promised at the edges: arguments left alone, any scale, any container, any settings."""

import hashlib

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    double_loop,
    identical,
    multiplicative,
    problem,
    same,
    squared_error,
    textbook,
    with_zeros,
)

import mf_solutions as mf

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

GD, SGD, MU, HALS = mf.gradient_descent, mf.sgd, mf.multiplicative_update, mf.hals
RATES = {"alpha": 0.01, "beta": 0.02}
NUMBERS = {GD: RATES, SGD: RATES, MU: {"tol": 1e-9}, HALS: {"tol": 1e-9}}


def kernels(*which):
    return pytest.mark.parametrize("kernel", which, ids=lambda kernel: kernel.__name__)


every_kernel = kernels(GD, SGD, MU, HALS)
batch_kernels = kernels(GD, MU, HALS)
non_negative_kernels = kernels(MU, HALS)


def run(kernel, R, P, Q, steps=11):
    numbers = NUMBERS[kernel]
    return kernel(R, P, Q, steps, **numbers)


# No argument is ever changed

FORMATS = ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"]


def fingerprint(X):
    """Return a hash of every array that an argument is made of, and its type and shape."""
    parts = [X]
    if scipy.sparse.issparse(X):
        parts = [X.toarray()]
        for name in ("data", "indices", "indptr", "offsets", "rows"):
            parts.append(getattr(X, name, ()))
        parts += getattr(X, "coords", ())
    content = hashlib.sha256()
    for part in parts:
        values = list(part) if isinstance(part, tuple) else part.tolist()
        content.update(repr(values).encode())
    return type(X), X.shape, content.hexdigest()


def left_alone(kernel, *matrices):
    before = [fingerprint(X) for X in matrices]
    factors = run(kernel, *matrices)
    mf.squared_error(*matrices)
    assert [fingerprint(X) for X in matrices] == before
    return factors


@batch_kernels
@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("format", FORMATS)
def test_sparse_data_of_any_format_are_left_alone(kernel, format, kind):
    R, P, Q = problem(6, 4, 2)
    R[R < 0.5] = 0
    sparse = getattr(scipy.sparse, f"{format}_{kind}")(R)
    factors = left_alone(kernel, sparse, P, Q)
    same(factors, run(kernel, R, P, Q))


# The columns of the entries, and where each row begins among them
TANGLES = {
    "duplicates": [[1, 1, 0, 0, 1], [0, 3, 5]],
    "unsorted": [[1, 0, 1, 0], [0, 2, 4]],
}


@batch_kernels
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("columns, starts", TANGLES.values(), ids=TANGLES)
def test_duplicates_and_unsorted_indices_stay_as_they_are(kernel, columns, starts, read_only):
    values = np.arange(1.0, 1 + len(columns))
    R = scipy.sparse.csr_array((values, columns, starts), shape=(2, 2))
    dense = R.toarray()
    for part in (R.data, R.indices, R.indptr):
        part.flags.writeable = not read_only
    P, Q = np.ones((2, 1)), np.ones((2, 1))
    factors = left_alone(kernel, R, P, Q)
    same(factors, run(kernel, dense, P, Q))
    assert R.nnz == len(columns)


@every_kernel
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_views_maps_and_read_only_arrays_are_left_alone(kernel, dtype, tmp_path):
    big = np.arange(80).reshape(8, 10).astype(dtype)
    _, P, Q = problem(6, 5, 2)
    path = tmp_path / "R"
    big.tofile(path)
    mapped = np.memmap(path, dtype, mode="r+", shape=big.shape)
    for whole in (big % 7, mapped, np.asfortranarray(big % 7)):
        np.remainder(whole, 7, out=whole)
        before = whole.copy()
        view = whole[1:7, 1::2]
        left_alone(kernel, view, P, Q)
        view.flags.writeable = False
        left_alone(kernel, view, P, Q)
        assert_array_equal(whole, before)


# The scale


def scaled(matrices, exponent, dtype):
    """Return c R and sqrt(c) times the start, with c = 4**exponent, which rounds nothing."""
    R, P, Q = matrices
    root = np.longdouble(2) ** exponent
    wide = root * root * R, root * P, root * Q
    return [X.astype(dtype) for X in wide]


def stepped(kernel, matrices, exponent):
    R, P, Q = matrices
    if kernel in (MU, HALS):
        return kernel(R, P, Q, 5)
    c = 4.0**exponent
    return kernel(R, P, Q, 5, 0.01 / c, 0.02 * c)


def long_loops(kernel, R, P, Q):
    """Return what the equations give in long double."""
    R, P, Q = (X.astype(np.longdouble) for X in (R, P, Q))
    if kernel is MU:
        return multiplicative(R, P, Q, 5)
    if kernel is HALS:
        return kernel(R, P, Q, 5)
    oracle = textbook if kernel is GD else double_loop
    return oracle(R, P, Q, 5, np.longdouble(0.01), np.longdouble(0.02))


def check_scale(kernel, dtype, exponent, seed):
    """Return whether there was a result, which then is right; otherwise it was refused."""
    matrices = [X.astype(dtype) for X in problem(5, 4, 2, seed)]
    try:
        got = stepped(kernel, scaled(matrices, exponent, dtype), exponent)
    except (ValueError, FloatingPointError) as error:
        assert "rescale R" in str(error)
        return False
    expected = long_loops(kernel, *matrices)
    root = np.longdouble(2) ** exponent
    accuracy = 1e4 * float(np.finfo(dtype).eps)
    for X, Y in zip(got, expected):
        assert X.dtype == dtype
        margin = accuracy * np.abs(Y).max()
        assert_allclose(X / root, Y, rtol=0, atol=margin)
    return True


def at_any_scale(count):
    names = {"max_examples": count, "deadline": None, "derandomize": True, "database": None}
    seeds = st.integers(0, 2**32 - 1)
    which = st.sampled_from([GD, SGD, MU, HALS])
    sizes = st.one_of(
        st.tuples(st.just(np.float32), st.integers(-60, 60)),
        st.tuples(st.just(np.float64), st.integers(-500, 500)),
    )

    def decorate(test):
        return settings(**names)(given(which, sizes, seeds)(test))

    return decorate


@at_any_scale(150)
def test_the_scale_changes_nothing_or_is_refused(kernel, size, seed):
    check_scale(kernel, *size, seed)


@pytest.mark.slow
@at_any_scale(10_000)
def test_the_scale_changes_nothing_or_is_refused_in_many_cases(kernel, size, seed):
    check_scale(kernel, *size, seed)


@every_kernel
@pytest.mark.parametrize(
    "dtype, exponent", [(np.float32, -36), (np.float32, 33), (np.float64, -260), (np.float64, 249)]
)
def test_far_from_one_there_is_a_result(kernel, dtype, exponent):
    """At 1e-22 and 1e20 in float32, at 1e-156 and 1e150 in float64."""
    result = check_scale(kernel, dtype, exponent, 0)
    assert result or (kernel in (MU, HALS) and exponent == -260)


@non_negative_kernels
@pytest.mark.parametrize("dtype, c", [(np.float32, 1e-22), (np.float64, 1e-160)])
def test_small_data_from_a_large_start_are_refused(kernel, dtype, c):
    R, P, Q = problem(20, 15, 3)
    matrices = [X.astype(dtype) for X in (c * R, P, Q)]
    message = f"products that {np.dtype(dtype)} can.*rescale R"
    with pytest.raises(ValueError, match=message):
        kernel(*matrices, 10)


@non_negative_kernels
def test_too_large_is_refused(kernel):
    R, P, Q = problem(4, 3, 2)
    with pytest.raises(ValueError, match="rescale R"):
        kernel(1e200 * R, 1e200 * P, 1e200 * Q, 5)


@non_negative_kernels
@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e20])
@pytest.mark.parametrize("tol", [0, 1e-3])
def test_data_and_one_factor_may_be_scaled(kernel, scale, tol):
    R, P, Q = problem(20, 30, 3)
    P_expected, Q_expected = kernel(R, P, Q, 50, tol=tol)
    got = kernel(scale * R, scale * P, Q, 50, tol=tol)
    same(got, (scale * P_expected, Q_expected))


def f(*values):
    return [np.array([[value]], "f") for value in values]


def test_an_exact_fit_stays():
    R, P, Q = f(1e20, 1e15, 1e5)
    same(MU(R, P, Q, 1), (P, Q), 1e-6)


def test_an_exact_fit_whose_products_underflow_is_refused():
    R, P, Q = f(1e-11, 1e-23, 1e12)
    with pytest.raises(ValueError, match="rescale R"):
        MU(R, P, Q, 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_entry_may_go_to_zero_as_fast_as_it_likes(dtype):
    matrices = with_zeros(problem(7, 7, 6, 1), 1, 0.5)  # in step 10 one has 507 zeros
    wide = [X.astype(np.longdouble) for X in matrices]
    got = MU(*[X.astype(dtype) for X in matrices], 20)
    for X, Y in zip(got, multiplicative(*wide, 20)):
        assert_allclose(X, Y, rtol=0, atol=1e4 * np.finfo(dtype).eps)


def test_many_ones_in_half_precision_do_not_diverge():
    many, one = np.ones((70_000, 1), "e"), np.ones((1, 1), "e")
    P, Q = GD(many, many, one, 2, 0.01, 0)
    assert P.dtype == Q.dtype == np.float32  # which is said: no type is narrower
    assert_array_equal(P, many)
    assert_array_equal(Q, one)


@pytest.mark.parametrize("large", [1e110, 1e200])
def test_what_is_not_observed_does_not_overflow(large):
    P = np.array([[large]])
    for M in (1, 2):
        R, Q = np.full((1, M), np.nan), np.full((M, 1), large)
        got = SGD(R, P, Q, 1, 1e-30, 0)
        identical(got, (P, Q))


def test_tiny_columns_beside_large_ones_do_no_harm():
    R, P, Q = problem(20, 15, 3, dtype=np.float32)
    Q[:, 1] *= 1e-22
    log = mf.ErrorLog(R, P, Q)
    HALS(R, P, Q, 6, callback=log)
    assert np.diff(log.errors).max() <= 1e-6 * log.errors[0]


@pytest.mark.parametrize("dtype, c", [("f", 1e-23), ("f", 1e20), ("e", 1e-4), ("e", 300)])
def test_the_error_has_no_scale(dtype, c):
    R = np.array([[c], [c]], dtype)
    P, Q = np.zeros((2, 1), dtype), np.ones((1, 1), dtype)
    value = float(R[0, 0])
    assert mf.squared_error(R, P, Q) == pytest.approx(2 * value**2, rel=1e-12, abs=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(20))
def test_the_error_of_an_exact_sparse_fit_is_not_negative(dtype, seed):
    _, P, Q = problem(9, 8, 3, seed)
    P = 0.3 * np.round(P)
    P, Q = P.astype(dtype), Q.astype(dtype)
    R = scipy.sparse.csr_array(P @ Q.T)
    assert 0 <= mf.squared_error(R, P, Q) < 1e-12
    log = mf.ErrorLog(R, P, Q)
    log(1, P, Q)
    assert min(log.errors) >= 0


@pytest.mark.parametrize("convert", [np.array, scipy.sparse.csr_array])
def test_an_error_beyond_all_floats_is_infinite(convert):
    P, Q = np.array([[1e200, 1e200]]), np.array([[1e200, -1e200]])
    R = convert([[1.0]])
    assert mf.squared_error(R, P, Q) == np.inf


def test_the_log_keeps_up_with_the_loop_in_float64():
    R, P, Q = problem(6, 5, 2, dtype=np.float32)
    log = mf.ErrorLog(R, P, Q)
    P = 2 * P
    log(1, P, Q)
    log(2, P.tolist(), Q.tolist())
    wide = [X.astype(float) for X in (R, P, Q)]
    expected = pytest.approx(squared_error(*wide), rel=1e-12)
    assert log.errors[1] == log.errors[2] == expected


# The user's settings


@every_kernel
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_users_settings_for_floats_change_nothing(kernel, dtype):
    R, P, Q = problem(9, 8, 3, dtype=dtype)
    R[0] = 0
    P[1, 0] = np.finfo(dtype).tiny
    Q[2, 1] = np.finfo(dtype).smallest_subnormal
    expected = run(kernel, R, P, Q, 30)
    with np.errstate(all="raise"):
        identical(run(kernel, R, P, Q, 30), expected)
        error = mf.squared_error(R, *expected)
    assert error == mf.squared_error(R, *expected)


def test_a_callback_has_the_users_settings():
    def divide(step, P, Q):
        return P / np.zeros_like(P)

    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        GD(*problem(4, 3, 2), 1, 0.01, 0.02, divide)


# What a step costs


@pytest.mark.parametrize("inner", [1, 2, 4, 8])
def test_hals_makes_the_products_that_are_promised(inner, monkeypatch):
    made = []

    class Counted(np.ndarray):
        def __array_ufunc__(self, function, method, *inputs, **options):
            plain = [np.asarray(X) for X in inputs]
            if function is np.matmul:
                left, right = plain
                made.append(2 * left.size * right.size // len(right))
            if "out" in options:
                options["out"] = tuple(np.asarray(X) for X in options["out"])
            result = getattr(function, method)(*plain, **options)
            return np.asarray(result).view(Counted)

    N, M, K = 40, 30, 5
    R, P, Q = problem(N, M, K)
    mf.hals_step(R, P.view(Counted), Q.view(Counted), inner)
    promised = 4 * N * M * K + 4 * (N + M) * K**2 * (1 + inner) / 2 + 2 * M * K**2
    assert sum(made) == promised


# What may stand for R


class Held:
    """As h5py and zarr hold data: a dtype and a shape, an array on demand, and no arithmetic."""

    def __init__(self, X):
        self._X, self.dtype, self.shape, self.chunks = X, X.dtype, X.shape, X.shape

    def __array__(self, dtype=None, copy=None):
        return self._X if dtype is None else self._X.astype(dtype)


class Labelled(Held):
    """As xarray does: arithmetic of its own, which knows labels and no bare arrays."""

    @property
    def T(self):
        return Labelled(self._X.T)

    def __matmul__(self, other):
        raise TypeError("unsupported operand: only with labels")

    __rmatmul__ = __sub__ = __mul__ = __matmul__


@every_kernel
@pytest.mark.parametrize("container", [Held, Labelled])
def test_what_can_be_made_an_array_is_made_one(kernel, container):
    matrices = problem(6, 5, 2)
    held = [container(X) for X in matrices]
    identical(run(kernel, *held), run(kernel, *matrices))
    assert mf.squared_error(*held) == mf.squared_error(*matrices)


def in_xarray(R, folder):
    return pytest.importorskip("xarray").DataArray(R, dims=["face", "pixel"])


def in_h5py(R, folder):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "R.h5", "w")
    return file.create_dataset("R", data=R)


def in_zarr(R, folder):
    return pytest.importorskip("zarr").array(R, chunks=(2, 2))


def in_pandas(R, folder):
    return pytest.importorskip("pandas").DataFrame(R)


def in_polars(R, folder):
    return pytest.importorskip("polars").DataFrame(R)


def in_torch(R, folder):
    return pytest.importorskip("torch").tensor(R)


CONTAINERS = [in_xarray, in_h5py, in_zarr, in_pandas, in_polars, in_torch]


@every_kernel
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.filterwarnings("ignore")
def test_what_other_packages_hold_is_read_as_numpy_reads_it(kernel, container, tmp_path):
    R, P, Q = problem(6, 5, 2)
    held = container(R, tmp_path)
    identical(run(kernel, held, P, Q), run(kernel, R, P, Q))


class Frame(Held):
    """As a data frame with a type of its own for each column: an array of objects."""

    iloc = None

    def __init__(self, X):
        super().__init__(X.astype(object))
        del self.dtype


@every_kernel
@pytest.mark.parametrize("frame", [Frame, None])
def test_a_nullable_frame_works_or_is_told_how(kernel, frame):
    R, P, Q = problem(6, 5, 2)
    if frame:
        given = frame(R)
    else:
        pandas = pytest.importorskip("pandas")
        given = pandas.DataFrame(R).convert_dtypes()
    try:
        identical(run(kernel, given, P, Q), run(kernel, R, P, Q))
    except TypeError as error:
        assert "R must hold real numbers" in str(error)
        assert "R.to_numpy(float, na_value=np.nan)" in str(error)


def test_a_dask_array_for_sgd_is_told_how():
    da = pytest.importorskip("dask.array")
    R, P, Q = problem(6, 5, 2)
    with pytest.raises(TypeError, match=r"^R must be a NumPy array for sgd.*R\.compute\(\)"):
        SGD(da.from_array(R), P, Q, 1, 0.01, 0.02)
