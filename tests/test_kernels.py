"""The kernels against independent oracles: loops, finite differences, the SVD, scikit-learn."""

import warnings
from itertools import product

import matplotlib
import numpy as np
import pytest
import scipy.sparse
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from rebuild import pixels
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

import mf_solutions as mf

# A kernel that warns is a kernel that fails; sockets that another file left open are not its own
pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

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


@pytest.mark.parametrize("beta", [0, 0.02, 3.0])
def test_gradient_step_goes_down_the_gradient_of_the_objective(beta):
    R, P, Q = problem(5, 4, 3)
    tiny = 1e-7  # so small that P hardly moves, and Q sees the gradient at the start
    P_new, Q_new = mf.gradient_step(R, P, Q, tiny, beta)
    down_P = -central_differences(lambda X: objective(R, X, Q, beta), P)
    down_Q = -central_differences(lambda X: objective(R, P, X, beta), Q)
    assert_allclose((P_new - P) / tiny, down_P, rtol=1e-5, atol=1e-5)
    assert_allclose((Q_new - Q) / tiny, down_Q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beta", [0, 0.8])
def test_gradient_descent_reaches_the_svd_with_each_value_shrunk_by_half_of_beta(beta):
    values = np.array([3, 2, 1, 0.3, 0.2])
    _, P, Q = problem(9, 7, 4)
    U, V = (np.linalg.qr(np.random.RandomState(n).randn(n, 5))[0] for n in (9, 7))
    R = U * values @ V.T
    error = mf.squared_error(R, *GD(R, P, Q, 5000, 0.02, beta))
    assert error == pytest.approx(np.sum(np.minimum(values[:4], beta / 2) ** 2) + 0.04, rel=1e-9)


# Stochastic gradient descent


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
@examples(120)
@given(small, seeds, st.floats(0, 1))
@example((1, 6, 10), 0, 0)
@example((6, 1, 10), 0, 0)
@example((5, 4, 2), 0, 1)
def test_sgd_gives_the_numbers_of_the_double_loop_to_the_last_bit(dtype, shape, seed, hidden):
    R, P, Q = problem(*shape, seed, dtype)
    R -= dtype(0.5)
    R[np.random.RandomState(seed).rand(*R.shape) < hidden] = np.nan
    identical(SGD(R, P, Q, 3, 0.03, 0.1), double_loop(R, P, Q, 3, 0.03, 0.1))


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
    log = mf.ErrorLog(R, P, Q)
    got = MU(R, P, Q, 600, tol=tol, callback=log)
    *expected, steps = scikit_learn(R, P, Q, 600, tol)
    assert len(log.errors) - 1 == steps < 600
    same(got, expected)


def test_float32_stops_about_where_float64_does():
    rng = np.random.RandomState(2)
    R = rng.rand(100, 2) @ rng.rand(2, 256)  # fitted nearly exactly, where small differences count
    P, Q = rng.rand(100, 2), rng.rand(256, 2)
    logs = [mf.ErrorLog(R, P, Q), mf.ErrorLog(R, P, Q)]
    for log, dtype in zip(logs, [np.float64, np.float32]):
        MU(*(X.astype(dtype) for X in (R, P, Q)), steps=3000, tol=1e-5, callback=log)
    wide, narrow = (len(log.errors) for log in logs)
    assert 10 < narrow == pytest.approx(wide, rel=0.1)


@examples()
@given(small, seeds, st.sampled_from([0, 0.5, 1]))
def test_the_error_never_rises_and_a_zero_stays_zero(shape, seed, zeros):
    R, P, Q = problem(*shape, seed)
    for X in (R, P, Q):
        X[np.random.RandomState(seed).rand(*X.shape) < zeros] = 0
    log = mf.ErrorLog(R, P, Q)
    last = MU(R, P, Q, 30, callback=log)
    assert np.diff(log.errors).max() <= 1e-13 * np.sum(R * R)
    for X, X_start in zip(last, (P, Q)):
        assert X.min() >= 0 and not X[X_start == 0].any()


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e20])
@pytest.mark.parametrize("tol", [0, 1e-3])
@non_negative_kernels
def test_the_scale_of_the_data_does_not_matter(kernel, scale, tol):
    R, P, Q = problem(20, 30, 3)
    P_expected, Q_expected = kernel(R, P, Q, 50, tol=tol)
    same(kernel(scale * R, scale * P, Q, 50, tol=tol), (scale * P_expected, Q_expected))


# All of them


@every_kernel
@pytest.mark.parametrize("wide", range(3), ids="RPQ")
@pytest.mark.parametrize("convert", [np.float64, np.int16, np.uint8, np.ndarray.tolist])
def test_the_widest_float_type_counts_and_whole_numbers_are_float64(kernel, convert, wide):
    matrices = problem(5, 4, 2, dtype=np.float32)
    matrices[wide] = convert(np.round(5 * matrices[wide]))
    expected = run(kernel, *(np.array(X, float) for X in matrices))
    identical(run(kernel, *matrices), expected)


@every_kernel
def test_float32_stays_float32_with_numpy_numbers(kernel):
    numbers = {name: np.float64(value) for name, value in NUMBERS[kernel].items()}
    factors = run(kernel, *problem(5, 4, 2, dtype=np.float32), steps=np.int64(3), **numbers)
    assert [X.dtype for X in factors] == [np.float32, np.float32]


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
    before = [X.copy() for X in matrices]
    R, P, Q = matrices
    P_new, Q_new = run(kernel, R, P, Q, 200)
    identical(matrices, before)
    assert P_new.shape == P.shape and Q_new.shape == Q.shape
    assert P_new.dtype == Q_new.dtype == dtype
    assert not any(np.shares_memory(new, old) for new in (P_new, Q_new) for old in matrices)
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
    """R @ Q and R.T @ P, the smallest and the largest entry, and nothing else."""

    rechunk = None  # a sign that this, as a Dask array, is not to be put together

    def __init__(self, X):
        self._X, self.shape, self.dtype, self.min, self.max = X, X.shape, X.dtype, X.min, X.max

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
POSITIVE = "^alpha must be finite and greater than 0"

REFUSALS = [
    ("P short", ALL, {"P": P0[:-1]}, ValueError, r"^P does not fit: .* R \(4, 3\), P \(3, 2\)"),
    ("Q short", ALL, {"Q": Q0[:-1]}, ValueError, r"^Q does not fit: .* Q \(2, 2\)"),
    ("Q transposed", ALL, {"Q": Q0.T}, ValueError, r"^Q does not fit: .* Q \(2, 3\)"),
    ("K differs", ALL, {"Q": Q0[:, :1]}, ValueError, r"^Q does not fit: .* Q \(3, 1\)"),
    ("P 1-D", ALL, {"P": P0[:, 0]}, ValueError, "^P must be a matrix"),
    ("no rows", ALL, {"R": R0[:0], "P": P0[:0]}, ValueError, "^R must be .* rows and columns"),
    ("K zero", ALL, {"P": P0[:, :0], "Q": Q0[:, :0]}, ValueError, "^P must be .* columns"),
    ("R ragged", ALL, {"R": [[1, 2], [3]]}, ValueError, "^R must be a matrix, but its rows"),
    ("steps negative", ALL, {"steps": -1}, ValueError, "^STEPS must be .* least 0.* -1"),
    ("steps float", ALL, {"steps": 3.0}, TypeError, "^STEPS must be a whole number"),
    ("steps bool", ALL, {"steps": True}, TypeError, "^STEPS must be a whole number"),
    ("alpha zero", RATED, {"alpha": 0}, ValueError, POSITIVE),
    ("alpha nan", RATED, {"alpha": NAN}, ValueError, POSITIVE),
    ("alpha text", RATED, {"alpha": "0.1"}, TypeError, "^alpha must be a number"),
    ("alpha bool", RATED, {"alpha": True}, TypeError, "^alpha must be a number"),
    ("beta negative", RATED, {"beta": -0.1}, ValueError, "^beta must be .* at least 0"),
    ("tol negative", NONNEG, {"tol": -1e-4}, ValueError, "^tol must be .* at least 0"),
    ("inner zero", (HALS,), {"inner": 0}, ValueError, "^inner must be .* than 0, but got 0"),
    ("inner float", (HALS,), {"inner": 2.0}, TypeError, "^inner must be a whole number"),
    ("R inf", ALL, {"R": put(R0, INF)}, ValueError, "^R must be finite.*(row 1|1, 0)"),
    ("R nan", BATCH, {"R": put(R0, NAN)}, ValueError, "^R must be finite, but row 1.* sgd"),
    ("P nan", ALL, {"P": put(P0, NAN)}, ValueError, r"^P must be finite, but P\[1, 0\] is nan"),
    ("Q nan", ALL, {"Q": put(Q0, NAN)}, ValueError, r"^Q must be finite, but Q\[1, 0\] is nan"),
    ("R negative", NONNEG, {"R": put(R0, -1)}, ValueError, "^R must be non-neg.* -1.*before cen"),
    ("P negative", NONNEG, {"P": put(P0, -1)}, ValueError, r"^P must .*\[1, 0\] is -1; .*rand"),
    ("Q negative", NONNEG, {"Q": put(Q0, -1)}, ValueError, r"^Q must .*\[1, 0\] is -1; .*rand"),
    ("R complex", ALL, {"R": R0 + 0j}, TypeError, "^R must hold real numbers.* complex128"),
    ("Q object", ALL, {"Q": Q0.astype(object)}, TypeError, "^Q must hold real numbers.* object"),
    ("R None", ALL, {"R": None}, TypeError, "^R must hold real numbers"),
    ("R masked", ALL, {"R": np.ma.array(R0)}, TypeError, "^R must be a plain array.* masked"),
    ("R sparse", (SGD,), {"R": scipy.sparse.csr_array(R0)}, TypeError, "^R must be a NumPy.*csr"),
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
    message = message.replace("STEPS", "epochs" if kernel is SGD else "steps")
    with pytest.raises(error, match=message):
        run(kernel, **{"R": R0, "P": P0, "Q": Q0, **changes})


@kernels(GD, SGD)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_divergence_is_an_error_that_names_the_step_and_the_rate(kernel, dtype):
    finite = []

    def note(step, P, Q):
        finite.append(np.isfinite(P).all() and np.isfinite(Q).all())

    with pytest.raises(FloatingPointError, match="alpha=5 is too large, try 0.5") as caught:
        run(kernel, *problem(4, 3, 2, dtype=dtype), 1000, alpha=5, callback=note)
    assert f"diverged at step {len(finite) + 1}:" in str(caught.value)
    assert all(finite)


@pytest.mark.parametrize("kernel, start", [(GD, (1, 0)), (SGD, (1, 0)), (SGD, (0, 1))])
def test_divergence_of_one_factor_alone_is_noticed(kernel, start):
    P, Q = ([[x]] for x in start)
    with pytest.raises(FloatingPointError, match="diverged at step 1"):
        run(kernel, [[1e300]], P, Q, 1, alpha=1e10, beta=0)


@non_negative_kernels
@pytest.mark.parametrize("tol", [0, 1e-4])
def test_overflow_is_an_error_that_names_the_step(kernel, tol):
    with pytest.raises(FloatingPointError, match="^diverged at step 1: rescale R"):
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


def test_the_error_in_blocks_of_rows_is_the_whole_error():
    R, P, Q = problem(5, 2**19, 1)  # two rows to a block
    assert mf.squared_error(R, P, Q) == pytest.approx(np.sum((R - P @ Q.T) ** 2), rel=1e-12)
    sparse = scipy.sparse.csr_array(R)
    assert mf.squared_error(sparse, P, Q) == pytest.approx(mf.squared_error(R, P, Q), rel=1e-9)


@every_kernel
def test_error_log_has_the_start_and_every_step(kernel):
    log, errors = mf.ErrorLog(R0, P0, Q0), [mf.squared_error(R0, P0, Q0)]

    def note(step, P, Q):
        log(step, P, Q)
        errors.append(mf.squared_error(R0, P, Q))

    run(kernel, R0, P0, Q0, 3, note)
    assert log.errors == errors and len(errors) == 4


# Looking


@pytest.fixture
def shown(monkeypatch):
    """Return what is shown: figures, and what they say."""
    shown = []
    monkeypatch.setattr(mf, "show_figure", lambda *figure_and_text: shown.append(figure_and_text))
    return shown


def tiles(axis, n, m):
    """Return the images that a row of the grid is made of, without the gaps between them."""
    picture = np.asarray(axis.images[0].get_array())
    return [tile[:, :m] for tile in np.split(picture, n, axis=1)]


def test_faces_are_drawn_row_by_row_on_one_scale(shown):
    wide, small = np.arange(12.0).reshape(3, 4), np.array([[0.0, 22, 11, np.nan]])
    mf.show_faces({"wide": wide, "small": small}, "Faces", names="abc")
    ((figure, text),) = shown
    top, bottom = figure.axes
    for tile, image in zip(tiles(top, 3, 2), wide.reshape(3, 2, 2)):
        assert_allclose(tile, matplotlib.colormaps["gray"](image / 22), atol=0.01)
    (tile, *blanks) = tiles(bottom, 3, 2)
    assert_allclose(tile[0, :, 0], [0, 1], atol=0.01)
    assert tile[1, 1, 0] > 0.8 > tile[1, 1, 1] > tile[1, 1, 2]  # orange: no face has it
    assert all(np.all(blank == 1) for blank in blanks)
    assert [text.get_text() for text in figure.texts] == ["Faces"]
    assert [label.get_text() for label in top.get_xticklabels()] == ["a", "b", "c"]
    assert top.get_xticks().tolist() == [0.5, 1.5, 2.5] and top.get_xlim() == (0, 3)
    assert [*top.get_yticks(), *bottom.get_xticks(), *bottom.get_yticks()] == []
    assert [axis.get_ylabel() for axis in figure.axes] == ["wide", "small"]
    assert text == (
        "Faces: a, b, c. wide: 3 of 2 x 2 pixels, values 0.00 to 11.00. "
        "small: 1 of 2 x 2 pixels, values 0.00 to 22.00."
    )


def test_signed_faces_are_blue_below_zero_and_red_above(shown):
    mf.show_faces([[-2.0, 0, 0, 1]], "E", signed=True)
    ((figure, _),) = shown
    (tile,) = tiles(figure.axes[0], 1, 2)
    red, _, blue, _ = np.moveaxis(tile, -1, 0)
    assert np.array_equal(np.sign(np.round(red - blue, 1)), [[-1, 0], [0, 1]])
    assert figure.axes[1].get_ylim() == (-2, 2)


def test_faces_can_have_a_scale_each(shown):
    mf.show_faces([[-1e-4, 2, 3, 4], [-1e-3, 20, 30, 40]], "Basis", each=True)
    ((figure, text),) = shown
    assert_array_equal(*tiles(figure.axes[0], 2, 2))
    assert text == "Basis. Images: 2 of 2 x 2 pixels, values 0.00 to 40.00."


def test_each_curve_has_its_numbers_in_the_text_and_its_name_where_it_ends(shown):
    curves = {"dips": [4.0, 1, 2], "bound": 1.5, "peaks": ([10, 20, 30], [1.0, 9, 5])}
    mf.show_curves(curves | {"long": np.linspace(1, 3, 201)}, "Race", "step", "error", yscale="log")
    ((figure, text),) = shown
    (axis,) = figure.axes
    dips, bound, peaks, long = axis.lines
    assert dips.get_xydata().tolist() == [[0, 4], [1, 1], [2, 2]]
    assert peaks.get_xydata().tolist() == [[10, 1], [20, 9], [30, 5]]
    assert bound.get_ydata()[0] == bound.get_ydata()[-1] == 1.5
    assert [line.get_marker() for line in (dips, peaks, long)] == ["o", "D", ""]
    for style in ("color", "linestyle"):
        assert len({getattr(line, f"get_{style}")() for line in (dips, peaks, long)}) == 3
    (legend,) = figure.legends
    assert [name.get_text() for name in legend.get_texts()] == ["peaks", "long", "dips", "bound"]
    for line, sample in zip([peaks, long, dips, bound], legend.get_lines()):
        assert sample.get_linestyle() == line.get_linestyle()
    labels = axis.get_title(), axis.get_xlabel(), axis.get_ylabel(), axis.get_yscale()
    assert labels == ("Race", "step", "error", "log")
    assert text == (
        "Race: error against step. dips: 4 at 0, 1 at 1, 2 at 2. bound: 1.5. "
        "peaks: 1 at 10, 9 at 20, 5 at 30. long: 1 at 0, 1.02 at 2, 1.2 at 20, 3 at 200."
    )


def test_a_figure_is_shown_twice_as_dense_as_the_page_and_with_its_text(monkeypatch):
    calls = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **how: calls.append((args, how)))
    mf.show_figure(Figure((3, 2)), "Nothing yet.")
    (((data,), how),) = calls
    assert data.keys() == {"image/png", "text/plain"} and data["text/plain"] == "Nothing yet."
    assert pixels(data["image/png"]).shape == (400, 600, 4)
    about = {"alt": "Nothing yet.", "width": 300, "height": 200}
    assert how == {"metadata": {"image/png": about}, "raw": True}
