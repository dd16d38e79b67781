"""Matrix factorization: what ``week5_tutorial.ipynb`` calls.

From the top: getting faces, looking, the error, gradient descent, the same online, multiplicative
updates, HALS, and what these four share. All four take and return

``R``         (N, M) array_like: the data, one face a row; finite
``P, Q``      (N, K) and (M, K) array_like: the start. A row of weights a face, a basis image a
              column: ``R ~ P @ Q.T``, ``E = R - P @ Q.T``. No argument is ever changed
``steps``     int, at least 0
``alpha``     float, greater than 0: the learning rate
``beta``      float, at least 0: the regularization
``tol``       float, at least 0: stop when, over the last 10 steps, the root of ``sum(E**2)`` fell
              by less than ``tol`` times its value at the start, as scikit-learn's ``solver="mu"``
``callback``  called as ``callback(step, P, Q)`` after each step, from 1 on
returns       ``P, Q``, new, in the widest float type of the three; integers count as float64
raises        ValueError: shapes do not fit, or a number is out of range; TypeError: a wrong type;
              FloatingPointError: the factors grow beyond all bounds; names the step and ``alpha``

and say only what is their own. Once ``R`` is checked, all but ``sgd`` ask it only for ``R @ Q`` and
``R.T @ P``, ``4 N M K`` operations, so it may be a ``numpy.memmap``, a SciPy sparse matrix (of
the factors' dtype, or they are converted in memory) or a Dask array. The rest of a step makes
``4 (N + M) K**2`` operations, in ``hals`` ``(1 + inner) / 2`` times that.
"""

import base64
import contextlib
import hashlib
import io
import math
import os
import shutil
import tempfile
import threading
import warnings
from concurrent.futures import Future
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np

__version__ = "1.2"


# Getting faces --------------------------------------
OLIVETTI = "Olivetti faces"
_CACHE = "olivetti_py3.pkz"  # scikit-learn's name for its copy
_URL = "https://ndownloader.figshare.com/files/5976027"
_SHA256 = "e6b9b0fe62f642f64e4e6e584295133cd9aff7e5820c052fd52eb9ffea205c09"  # of data.tobytes()


def fetch_faces(timeout=15.0):
    """Return the Olivetti faces or, where they cannot be had, 100 others and a warning.

    Tried in turn: scikit-learn's copy, a file ``olivettifaces.mat`` beside it, the download, and
    what scikit-image ships of Labeled Faces in the Wild (Huang et al., 2007). Nothing that is there
    already is overwritten or deleted.

    Parameters
    ----------
    timeout : float, default 15.0
        Seconds to wait for the download, more than 0.

    Returns
    -------
    sklearn.utils.Bunch
        ``name``, ``images`` (400 or 100 squares of grey values in [0, 1]), ``data`` (one image a
        row), ``target`` (who it is, or None) and ``DESCR``.
    """
    timeout = _number("timeout", timeout, positive=True)
    folder = Path(os.path.expanduser(os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")))
    cache, file = folder / _CACHE, folder / "olivettifaces.mat"
    sources = {}  # each returns the faces, and may leave a copy in a scratch folder
    if os.path.lexists(cache):
        sources[f"reading {cache}"] = lambda scratch: _olivetti(folder)
    if os.path.lexists(file):
        sources[f"reading {file}"] = lambda scratch: _converted(file, scratch)
    sources["the download"] = lambda scratch: _downloaded(scratch, timeout)
    troubles = []
    for name, source in sources.items():
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
                faces = source(scratch)
                troubles += _keep(Path(scratch, _CACHE), cache)
        except Exception as error:
            troubles.append(f"{name} failed ({type(error).__name__}: {error})")
            continue
        if troubles:
            warnings.warn(
                "These are the Olivetti faces, but " + " and ".join(troubles), stacklevel=2
            )
        return faces
    warnings.warn(
        f"The Olivetti faces cannot be had: {' and '.join(troubles)}. Instead there are 100 of "
        "Labeled Faces in the Wild, which come with scikit-image: everything runs, but the numbers "
        f"differ from the text's. Try again later, or save {_URL} as {file} and run this again",
        stacklevel=2,
    )
    return _other_faces()


def _converted(file, scratch):
    import joblib
    from scipy.io import loadmat

    joblib.dump(loadmat(file)["faces"].T.copy(), Path(scratch, _CACHE), compress=6)
    return _olivetti(scratch)


def _downloaded(scratch, timeout):
    import sklearn.datasets  # noqa: F401  # takes a while, which is not the download's

    outcome = Future()

    def work():
        try:
            outcome.set_result(_olivetti(scratch, download=True))
        except Exception as error:
            outcome.set_exception(error)

    # A thread, since no time-out of urllib's bounds a server that sends a byte a second. It may
    # outlive the call, as does this filter
    warnings.filterwarnings("ignore", "Retry downloading", module="sklearn")
    thread = threading.Thread(target=work, daemon=True)
    with contextlib.redirect_stdout(io.StringIO()):
        thread.start()  # fails in a browser's Python, which has no threads
        thread.join(timeout)
    if not outcome.done():
        raise TimeoutError(f"not complete after {timeout:g} s")
    return outcome.result()


def _olivetti(folder, download=False):
    """Ask scikit-learn for the faces in this folder; refuse others."""
    from sklearn.datasets import fetch_olivetti_faces

    faces = fetch_olivetti_faces(data_home=folder, download_if_missing=download)
    if hashlib.sha256(faces.data.tobytes()).hexdigest() != _SHA256:
        raise ValueError("its content is not that of the Olivetti faces")
    return faces.__class__(name=OLIVETTI, **faces)


def _keep(file, cache):
    """Put a copy where scikit-learn looks, unless something is there; return troubles."""
    try:
        if not os.path.lexists(cache):
            cache.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:  # whole or not at all
                shutil.move(shutil.copy(file, scratch), cache)
    except OSError as error:
        return [f"no copy could be kept in {cache.parent} ({error})"]
    return []


def _other_faces():
    from skimage.data import lfw_subset
    from sklearn.utils import Bunch

    name, images = "Labeled Faces in the Wild", lfw_subset()[:100].astype(np.float32)
    about = f"100 faces of 25 x 25 pixels from {name}, which come with scikit-image."
    return Bunch(name=name, images=images, data=images.reshape(100, -1), target=None, DESCR=about)


# Looking --------------------------------------------
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito


def show_figure(figure, text):
    """Show a figure of Matplotlib's; ``text`` is what it says, for whoever does not see it."""
    from IPython.display import display
    from matplotlib.pyplot import close

    file = io.BytesIO()
    figure.savefig(file, dpi=200)  # twice what the page has, so that it is sharp
    close(figure)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": text}
    display(data, metadata={"image/png": dict(alt=text, width=width, height=height)}, raw=True)


def show_faces(rows, title, names=(), signed=False, each=False):
    """Draw stacks of square images in a grid, one stack a row; NaN is drawn in orange.

    Parameters
    ----------
    rows : dict of str to array_like, or array_like
        Stacks of flattened images, shape (n, m * m); the keys stand at the left.
    title, names : str, sequence of str
        What stands above the figure, and above each column.
    signed, each : bool, default False
        Whether blue is below zero and red above; whether each image has a scale of its own.
    """
    from matplotlib import cm, colormaps, colors
    from matplotlib.figure import Figure

    rows = rows.items() if isinstance(rows, dict) else [("", rows)]
    rows = {label: np.atleast_2d(np.asarray(stack, float)) for label, stack in rows}
    n = max(map(len, rows.values()))
    size = min(1.5, 8.2 / n)
    height = len(rows) * size + 0.45 + 0.25 * bool(names)
    figure = Figure((n * size + 0.8, height), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(rows), squeeze=False)[:, 0]
    colours = colormaps["RdBu_r" if signed else "gray"].with_extremes(bad=_COLOURS[4])
    top = max(np.nanmax(np.abs(stack)) for stack in rows.values())
    said = [f"{title}: {', '.join(names)}." if names else f"{title}."]
    for axis, (label, stack) in zip(axes, rows.items()):
        m = math.isqrt(stack.shape[1])
        scale = np.nanmax(np.abs(stack), axis=1, keepdims=True) if each else top
        tiles = colours((stack / scale + 1) / 2 if signed else stack / scale).reshape(-1, m, m, 4)
        gaps = (0, n - len(stack)), (0, 0), (0, max(1, m // 16)), (0, 0)
        tiles = np.concatenate(np.pad(tiles, gaps, constant_values=1), axis=1)
        axis.imshow(tiles, extent=(0, n, 0, 1), aspect=n * m / tiles.shape[1])
        axis.set(xticks=[], yticks=[], ylabel=label)
        axis.spines[:].set_visible(False)
        size, low, high = f"{len(stack)} of {m} x {m}", np.nanmin(stack), np.nanmax(stack)
        said.append(f"{label or 'Images'}: {size} pixels, values {low:.2f} to {high:.2f}.")
    axes[0].set_xticks(np.arange(len(names)) + 0.5, names)
    axes[0].tick_params(length=0, labeltop=True, labelbottom=False)
    if signed and not each:
        scale = cm.ScalarMappable(colors.Normalize(-top, top), colours)
        figure.colorbar(scale, ax=axes, shrink=0.9, aspect=8 * len(rows), pad=0.01)
    show_figure(figure, " ".join(said).replace("-0.00", "0.00"))


def show_curves(curves, title, xlabel, ylabel, **axis_settings):
    """Draw curves and horizontal levels, named at the right in the order in which they end.

    Parameters
    ----------
    curves : dict of str to array_like, tuple of array_like, or float
        The heights of a curve over 0, 1, 2, ..., or (places, heights), or the height of a level.
    title, xlabel, ylabel, **axis_settings
        For ``matplotlib.axes.Axes.set``, for example ``yscale="log"``.
    """
    from matplotlib.figure import Figure

    figure = Figure((9, 3.2), layout="constrained")
    axis = figure.subplots()
    lines, said = [], [f"{title}: {ylabel} against {xlabel}."]
    for n, (label, curve) in enumerate(curves.items()):
        if np.ndim(curve) == 0:
            style = [":", "--"][n % 2]
            lines.append(axis.axhline(curve, color="black", linestyle=style, label=label))
            said.append(f"{label}: {curve:.4g}.")
            continue
        x, y = curve if isinstance(curve, tuple) else (range(len(curve)), curve)
        look = {"color": _COLOURS[n % 6], "linestyle": ["-", "--", "-.", ":"][n % 4]}
        few = len(x) < 20
        lines += axis.plot(x, y, **look, marker="osD^vP"[n % 6] * few, label=label)
        some = range(len(x)) if few else sorted({0, len(x) // 100, len(x) // 10, len(x) - 1})
        points = [f"{y[i]:.4g} at {x[i]:g}" for i in some]
        said.append(f"{label}: {', '.join(points)}.")
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, **axis_settings)
    axis.grid(alpha=0.3)
    lines.sort(key=lambda line: -line.get_ydata()[-1])
    figure.legend(handles=lines, loc="outside right center", frameon=False)
    show_figure(figure, " ".join(said))


# The error ------------------------------------------
def squared_error(R, P, Q):
    """Return the sum of ``(R - P @ Q.T) ** 2``; in a dense ``R`` NaN is "not observed"."""
    R, P, Q = _fitting_matrices(R, P, Q)
    with np.errstate(over="ignore", invalid="ignore"):
        if not isinstance(R, np.ndarray):  # multiply out, so that E is never formed
            squares = R.multiply(R) if hasattr(R, "multiply") else R * R  # sparse, or Dask's
            return float(squares.sum(dtype=np.float64)) + _error_above(np.asarray(R.T @ P), P, Q)
        total = 0.0
        rows = max(1, 2**20 // R.shape[1])  # a block of E at a time, for data beyond memory
        for i in range(0, len(R), rows):
            block = R[i : i + rows]
            E = np.where(np.isnan(block), 0, block - P[i : i + rows] @ Q.T)
            total += float(np.sum(E * E, dtype=np.float64))
        return total


def _error_above(RtP, P, Q):
    """Return ``sum(E**2) - sum(R**2)``, from a product at hand; its sums are in float64."""
    PQ_squared = np.sum((P.T @ P) * (Q.T @ Q), dtype=np.float64)
    return float(PQ_squared - 2 * np.sum(RtP * Q, dtype=np.float64))


class ErrorLog:
    """A callback: ``errors[step]`` is the squared error after a step, ``errors[0]`` before."""

    def __init__(self, R, P, Q):
        self.R = R
        self.errors = [squared_error(R, P, Q)]

    def __call__(self, step, P, Q):
        """Record the error after this step."""
        self.errors.append(squared_error(self.R, P, Q))


# Full-batch gradient descent ------------------------
def gradient_descent(R, P, Q, steps, alpha, beta, callback=None):
    """Factorize data of any sign by full-batch gradient descent, ``P`` first.

    Each step goes down the gradient of ``sum(E**2) + beta / 2 * (sum(P**2) + sum(Q**2))``. The
    residual ``E`` is the same in both halves of a step; ``Q`` already sees the new ``P``.

    Source: Koren, Bell and Volinsky (2009), Computer 42(8), 30-37.
    """
    R, P, Q = _finite(*_fitting_matrices(R, P, Q))
    alpha, beta = _number("alpha", alpha, positive=True), _number("beta", beta)
    step = partial(gradient_step, R, alpha=alpha, beta=beta)
    return _iterate(step, P, Q, steps, callback, alpha=alpha)


def gradient_step(R, P, Q, alpha, beta):
    """One step of :func:`gradient_descent`, unchecked."""
    keep = 1 - alpha * beta
    EQ = np.asarray(R @ Q) - P @ (Q.T @ Q)  # E Q, but E itself is never formed
    P_new = keep * P + 2 * alpha * EQ
    EtP = np.asarray(R.T @ P_new) - Q @ (P.T @ P_new)  # the same E: it still holds the old P
    Q_new = keep * Q + 2 * alpha * EtP
    return P_new, Q_new


# Online gradient descent (SGD), entry by entry ------
def sgd(R, P, Q, epochs, alpha, beta, callback=None):
    """Factorize a dense array by online gradient descent; NaN in ``R`` means "not observed".

    An epoch visits every observed entry once, row by row. A visit updates one row of ``P`` and one
    of ``Q`` from their old values, and charges ``beta``: a full epoch does so ``M`` times for a row
    of ``P``, ``N`` times for a row of ``Q``. Whole anti-diagonals are done at once; the numbers are
    those of the double loop, to the last bit if it adds over ``K`` in order.

    Source: as above; for the order Lamport (1974), Communications of the ACM 17(2), 83-93.
    """
    R, P, Q = _fitting_matrices(R, P, Q)
    if not isinstance(R, np.ndarray):
        raise TypeError(f"R must be a NumPy array for sgd, but got {type(R)}: use R.toarray()")
    _refuse("R", R, np.isinf(R), "be finite, or NaN for what was not observed")
    alpha, beta = _number("alpha", alpha, positive=True), _number("beta", beta)
    tall = R.shape[0] > R.shape[1]
    values, rates = waves(R.T if tall else R, 2 * alpha)  # the 2 of the gradient; doubling is exact
    epoch = partial(sgd_epoch, values, rates, beta=beta)
    update = (lambda P, Q: epoch(Q, P)[::-1]) if tall else epoch  # a wave spans the shorter side
    return _iterate(update, P, Q, epochs, callback, alpha=alpha, counted="epochs")


def waves(R, rate):
    """Return the anti-diagonals of ``R`` as rows, and the length of the step at each entry.

    ``values[t, i]`` is ``R[i, t - i]`` and ``rates[t, i]`` is ``rate``; both are 0 beyond ``R`` and
    where it is NaN. Their shape is (N + M - 1, N), with N at least 2.
    """
    if len(R) == 1:  # NumPy adds up a lone column pairwise, not in order: give it a blank neighbour
        R = np.vstack([R, np.full_like(R, np.nan)])
    N, M = R.shape
    t, i = np.ogrid[: N + M - 1, :N]
    values = np.where((t >= i) & (t - i < M), R[i, np.clip(t - i, 0, M - 1)], np.nan)
    observed = ~np.isnan(values)
    return np.where(observed, values, 0), np.where(observed, rate, 0).astype(R.dtype)


def sgd_epoch(values, rates, P, Q, beta):
    """One epoch of :func:`sgd` over the :func:`waves` of ``R`` and ``2 * alpha``, ``N <= M``."""
    N, M, K = values.shape[1], len(Q), Q.shape[1]
    PQ = np.zeros((2, K, N), P.dtype)
    p, q = PQ
    QP = PQ[::-1]
    p[:, : len(P)] = P.T
    strip = np.zeros((K, M + 2 * N - 2), P.dtype)  # Q reversed, with blanks at both ends
    strip[:, N - 1 : N - 1 + M] = Q[::-1].T
    windows = [strip[:, start : start + N] for start in reversed(range(N + M - 1))]
    add_up, multiply = np.add.reduce, np.multiply
    half_beta = np.array(beta / 2, P.dtype)
    pq, step, decay = map(np.empty_like, (p, PQ, PQ))  # reused by every wave
    for r, rate, window in zip(values, rates, windows):
        q[:] = window  # column i of it is row t - i of Q at wave t
        e = r - add_up(multiply(p, q, pq))
        # PQ += rate * (e * QP - half_beta * PQ), both from the old values
        multiply(e, QP, step)
        step -= multiply(half_beta, PQ, decay)
        step *= rate
        PQ += step
        window[:] = q
    return p[:, : len(P)].T.copy(), strip[:, N - 1 : N - 1 + M][:, ::-1].T.copy()


# Multiplicative updates -----------------------------
def multiplicative_update(R, P, Q, steps, tol=0.0, callback=None):
    """Factorize non-negative data by multiplicative updates from a non-negative start, ``P`` first.

    A zero in the start stays zero, and ``sum(E**2)`` never rises. From the same start the iterates
    are those of scikit-learn's ``NMF(solver="mu")``.

    Source: Lee and Seung (2001), Advances in Neural Information Processing Systems 13, 556-562.
    """
    R, P, Q = _non_negative(*_fitting_matrices(R, P, Q))
    return _iterate(partial(multiplicative_step, R), P, Q, steps, callback, R, tol)


def multiplicative_step(R, P, Q):
    """One step of :func:`multiplicative_update`, unchecked."""
    tiny = np.finfo(P.dtype).tiny  # where a denominator is 0, so is its numerator
    P = P * np.asarray(R @ Q) / np.maximum(P @ (Q.T @ Q), tiny)
    Q = Q * np.asarray(R.T @ P) / np.maximum(Q @ (P.T @ P), tiny)
    return P, Q


# HALS -----------------------------------------------
def hals(R, P, Q, steps, inner=4, tol=0.0, callback=None, extrapolate=True):
    """Factorize as :func:`multiplicative_update`, by hierarchical alternating least squares.

    Each column of ``P`` in turn is set to its best non-negative value while all else stands still,
    then each column of ``Q``: ``sum(E**2)`` never rises, a zero may leave zero unless the other
    factor's column is zero too, and far fewer steps are needed.

    Parameters
    ----------
    inner : int, default 4
        Sweeps over the columns of a factor in each step, at least 1, for one product with ``R``.
    extrapolate : bool, default True
        Go on beyond the sweeps by ``gamma`` of their way. A step whose error is higher is rejected:
        the factors stay, ``gamma`` shrinks, and the next step does not go beyond.

    Source: Cichocki and Phan (2009), IEICE Transactions E92-A(3), 708-721; Gillis and Glineur
    (2012), Neural Computation 24(4), 1085-1105; Ang and Gillis (2019), the same 31(2), 417-439.
    """
    R, P, Q = _non_negative(*_fitting_matrices(R, P, Q))
    inner = _number("inner", inner, whole=True, positive=True)
    gamma, lowest, Q_ahead = 0.5, None, Q

    def update(P, Q):
        nonlocal gamma, lowest, Q_ahead
        beyond = gamma if extrapolate and lowest is not None else 0
        P_new, Q_new, error = hals_step(R, P, Q_ahead, inner, beyond)
        if beyond and not error <= lowest:  # nor if it is not a number
            gamma, lowest, Q_ahead = gamma / 1.5, None, Q
            return P, Q
        gamma, lowest = min(1.01 * gamma, 1.0), error
        Q_ahead = np.maximum(Q_new + beyond * (Q_new - Q), 0)
        return P_new, Q_new

    return _iterate(update, P, Q, steps, callback, R, tol)


def hals_step(R, P, Q, inner, beyond=0):
    """One step of :func:`hals`, unchecked; also returns its error above ``sum(R**2)``."""
    P_new = hals_sweeps(P, np.asarray(R @ Q), Q.T @ Q, inner)
    P = np.maximum(P_new + beyond * (P_new - P), 0)
    RtP = np.asarray(R.T @ P)
    Q = hals_sweeps(Q, RtP, P.T @ P, inner)
    return P, Q, _error_above(RtP, P, Q)


def hals_sweeps(P, RQ, QtQ, inner):
    """Set the columns of ``P``, one after the other, to their best non-negative values."""
    size = np.diag(QtQ)
    size = np.where(size > 0, size, 1)  # where q_k is 0, this leaves b = -1 at k: p_k stays
    A = np.divide(RQ.T, size[:, None], order="C")
    B = QtQ / size - np.eye(len(QtQ), dtype=QtQ.dtype)
    P = P.T.copy()  # one column of P a row: side by side in memory
    for _ in range(inner):
        for p, a, b in zip(P, A, B.T):
            # max(0, (R q_k - sum over l != k of p_l (q_l . q_k)) / (q_k . q_k))
            np.maximum(a - b @ P, 0, out=p)
    return P.T.copy()


# What the four share: the loop, the product, and what is refused ----
def _iterate(update, P, Q, steps, callback, R=None, tol=0.0, alpha=None, counted="steps"):
    """Repeat ``P, Q = update(P, Q)``, watching for divergence and, if ``tol > 0``, for the end."""
    steps, tol = _number(counted, steps, whole=True), _number("tol", tol)
    P, Q = P.copy(), Q.copy()
    first = last = abs(squared_error(R, P, Q)) ** 0.5 if tol else 0.0
    for step in range(1, steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            P, Q = update(P, Q)
            size = np.vdot(P, P) + np.vdot(Q, Q)  # cheaper than looking at every entry
        if not math.isfinite(size):
            way_out = f"{alpha=:g} is too large, try {alpha / 10:g}" if alpha else "rescale R"
            raise FloatingPointError(f"diverged at step {step}: {way_out}")
        if callback is not None:
            callback(step, P, Q)
        if tol and step % 10 == 0:
            previous, last = last, abs(squared_error(R, P, Q)) ** 0.5
            if previous - last < tol * first:
                break
    return P, Q


def _fitting_matrices(*matrices):
    """R, P and Q as matrices of one float dtype whose shapes fit, the factors finite."""
    R, P, Q = map(_real_matrix, "RPQ", matrices)
    N, M, K = *R.shape, P.shape[1]
    wrong = "P" if P.shape[0] != N else "Q" if Q.shape != (M, K) else None
    if wrong:
        got = f"R {R.shape}, P {P.shape} and Q {Q.shape}"
        raise ValueError(f"{wrong} does not fit: expected (N, M), (N, K) and (M, K), but got {got}")
    dtype = np.result_type(*(X.dtype if X.dtype.kind == "f" else np.float64 for X in (R, P, Q)))
    if R.dtype != dtype:
        R = R.astype(dtype)
    P, Q = np.asarray(P, dtype), np.asarray(Q, dtype)
    _refuse("P", P, ~np.isfinite(P), "be finite")
    _refuse("Q", Q, ~np.isfinite(Q), "be finite")
    return R, P, Q


def _real_matrix(label, X):
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(f"{label} must be a plain array, but got a masked one: see filled(np.nan)")
    if not isinstance(getattr(X, "dtype", None), np.dtype):  # lists, data frames, tensors
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(f"{label} must be a matrix, but its rows differ in length") from error
    X = X.tocsr() if hasattr(X, "tocsr") else X  # SciPy's sparse formats differ in what they can do
    if X.dtype.kind not in "buif":
        raise TypeError(f"{label} must hold real numbers, but got dtype {X.dtype}")
    if len(X.shape) != 2 or 0 in X.shape:
        raise ValueError(f"{label} must be a matrix with rows and columns, but got shape {X.shape}")
    return X


def _finite(R, P, Q):
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.asarray(R @ np.ones(R.shape[1], P.dtype))  # finite only if the whole row is
    if not np.isfinite(sums).all():
        row = np.argmin(np.isfinite(sums))
        raise ValueError(f"R must be finite, but row {row} is not, or too large; NaN is for sgd")
    return R, P, Q


def _non_negative(R, P, Q):
    R, P, Q = _finite(R, P, Q)
    _refuse("P", P, P < 0, "be non-negative", "; start from rng.rand, for example")
    _refuse("Q", Q, Q < 0, "be non-negative", "; start from rng.rand, for example")
    if (least := float(R.min())) < 0:
        raise ValueError(f"R must be non-negative, not {least:.3g}: pass the faces before centring")
    return R, P, Q


def _refuse(label, X, bad, expected, hint=""):
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise ValueError(f"{label} must {expected}, but {label}[{i}, {j}] is {X[i, j]:.3g}{hint}")


def _number(label, value, whole=False, positive=False):
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise TypeError(f"{label} must be a {'whole ' * whole}number, but got {value!r}")
    if not 0 <= value < math.inf or (positive and value == 0):
        bound = "greater than 0" if positive else "at least 0"
        raise ValueError(f"{label} must be finite and {bound}, but got {value!r}")
    return int(value) if whole else float(value)  # NumPy's own would widen float32
