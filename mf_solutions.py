"""Matrix factorization: what ``week5_tutorial.ipynb`` calls.

From the top: the error, gradient descent, the same online, multiplicative updates, HALS, what these
four share; then getting faces, and looking. The arguments of the four, and what they return:

``R``         (N, M) array_like: the data, one face a row; finite
``P, Q``      (N, K) and (M, K) array_like: the start. A row of weights a face, a basis image a
              column: ``R ~ P @ Q.T``, ``E = R - P @ Q.T``. No argument is ever changed
``steps``     int, at least 0
``alpha``     float, greater than 0: the learning rate
``beta``      float, at least 0: the regularization
``tol``       float, at least 0: stop when, over the last 10 steps, the root of ``sum(E**2)`` fell
              by less than ``tol`` times its value at the start, as scikit-learn's ``solver="mu"``
``callback``  called as ``callback(step, P, Q)`` after each step, from 1 on; it may keep ``P`` and
              ``Q``, but must not change them
returns       ``P, Q``, new, in the widest float type of the three, float32 or wider; integers count
              as float64
raises        ValueError: shapes do not fit, a number is out of range, or the products of a step are
              too large or too small for the type; TypeError: a wrong type; FloatingPointError:
              the factors are no longer finite; names the step and ``alpha``

Their own docstrings say only what is their own. ``R`` may be whatever ``np.asarray`` takes. Once
it is checked, all but ``sgd`` ask it only for ``R @ Q`` and ``R.T @ P``, ``4 N M K`` operations a
step. So it may be a ``numpy.memmap`` or a SciPy sparse matrix (each of the factors' dtype, or it is
converted in memory), or a Dask array. The rest of a step makes ``4 (N + M) K**2`` operations, in
``hals`` ``(1 + inner) / 2`` times that, and ``2 M K**2`` more for its error. Where ``tol`` is not
0, the error is computed at the start and at every tenth step: ``2 N M K`` operations, and one more
reading of ``R``, of a Dask array two.
"""

import base64
import contextlib
import hashlib
import html
import io
import math
import os
import sys
import tempfile
import time
import urllib.request
import warnings
import zlib
from functools import partial
from numbers import Integral, Real
from pathlib import Path

import numpy as np

__version__ = "1.4"


# The error ------------------------------------------
def squared_error(R, P, Q):
    """Return the sum of ``(R - P @ Q.T) ** 2``; in a NumPy array NaN is "not observed".

    It is computed in float64 and never below 0. A sparse or Dask ``R`` is multiplied out, so that
    ``E`` is not formed: there about 1e-16 of ``sum(R**2)`` is lost to rounding.
    """
    return ErrorLog(R, P, Q).errors[0]


class ErrorLog:
    """A callback: ``errors[step]`` is the squared error after a step, ``errors[0]`` before."""

    def __init__(self, R, P, Q):
        self.R, P, Q = _fitting_matrices(R, P, Q)
        self.errors = []
        self(0, P, Q)

    @np.errstate(all="ignore")
    def __call__(self, step, P, Q):
        """Record the error after this step."""
        P, Q = np.asarray(P, float), np.asarray(Q, float)
        if isinstance(self.R, np.ndarray):
            n = 1 + 2**20 // len(Q)  # rows at a time, for data beyond memory
            starts = range(0, len(P), n)
            error = sum(_squares(self.R[i : i + n], P[i : i + n], Q) for i in starts)
        else:
            error = _multiplied_out(self.R.astype(float), P, Q)
        self.errors.append(math.inf if math.isnan(error) else max(0.0, error))  # NaN: inf - inf


def _squares(R, P, Q):
    E = R - P @ Q.T
    E[np.isnan(R)] = 0  # not observed
    return float(np.vdot(E, E))


def _multiplied_out(R, P, Q):
    squares = R.multiply(R) if hasattr(R, "multiply") else R * R  # sparse, or Dask's
    RtP = np.asarray(R.T @ P)
    return float(squares.sum()) + _error_above_data(RtP, P.T @ P, Q)


def _error_above_data(RtP, PtP, Q):
    """Return ``sum(E**2) - sum(R**2)``: below 0 as soon as ``P @ Q.T`` is of any use."""
    RtP, PtP, Q = (X.astype(float, copy=False) for X in (RtP, PtP, Q))
    return float(np.vdot(PtP, Q.T @ Q) - 2 * np.vdot(RtP, Q))


# Full-batch gradient descent ------------------------
def gradient_descent(R, P, Q, steps, alpha, beta, callback=None):
    """Factorize data of any sign by full-batch gradient descent, ``P`` first.

    Each step goes down the gradient of ``sum(E**2) + beta / 2 * (sum(P**2) + sum(Q**2))``, all
    entries at once. The residual ``E`` is the same in both halves of a step; ``Q`` already sees the
    new ``P``. That order is the tutorial sheet's; the method is as old as Cauchy (1847).
    """
    R, P, Q = _checked(R, P, Q)
    alpha, beta = _rates(alpha, beta)
    step = partial(gradient_step, R, alpha=alpha, beta=beta)
    return _iterate(step, P, Q, steps, callback, alpha=alpha)


def gradient_step(R, P, Q, alpha, beta):
    """One step of :func:`gradient_descent`, unchecked."""
    keep = 1 - alpha * beta
    EQ = np.asarray(R @ Q) - P @ (Q.T @ Q)  # E Q = R Q - P Q^T Q, but E itself is never formed
    P_new = keep * P + 2 * alpha * EQ
    EtP = np.asarray(R.T @ P_new) - Q @ (P.T @ P_new)  # the same E: it still holds the old P
    Q_new = keep * Q + 2 * alpha * EtP
    return P_new, Q_new


# Stochastic gradient descent (SGD), entry by entry --
def sgd(R, P, Q, epochs, alpha, beta, callback=None):
    """Factorize a dense array by online gradient descent; NaN in ``R`` means "not observed".

    An epoch visits every observed entry once, row by row. A visit updates one row of ``P`` and one
    of ``Q`` from their old values, and charges ``beta``: a full epoch does so ``M`` times for a row
    of ``P``, ``N`` times for a row of ``Q``. Whole anti-diagonals are done at once; the numbers are
    those of the double loop, to the last bit if it adds over ``K`` in order.

    Source: Koren, Bell and Volinsky (2009), Computer 42(8), 30-37, who write ``gamma`` for
    ``2 * alpha`` and ``lambda`` for ``beta / 2``; for the order Lamport (1974), Communications of
    the ACM 17(2), 83-93.
    """
    R, P, Q = _fitting_matrices(R, P, Q)
    if not isinstance(R, np.ndarray):
        way_out = "toarray" if hasattr(R, "toarray") else "compute"
        raise TypeError(f"R must be a NumPy array for sgd, but got {type(R)}: use R.{way_out}()")
    _refuse("R", R, np.isinf(R), "be finite, or NaN for what was not observed")
    _refuse_extremes(np.abs(R[~np.isnan(R)]).max(initial=0), P, Q)
    alpha, beta = _rates(alpha, beta)
    tall = len(P) > len(Q)  # a wave spans the shorter side
    values, rates = waves(R.T if tall else R, 2 * alpha)  # the 2 of the gradient; doubling is exact

    def update(P, Q):
        if tall:
            Q, P = sgd_epoch(values, rates, Q, P, beta)
            return P, Q
        return sgd_epoch(values, rates, P, Q, beta)

    return _iterate(update, P, Q, epochs, callback, alpha=alpha, counted="epochs")


@np.errstate(all="ignore")
def waves(R, rate):
    """Return the anti-diagonals of ``R`` as rows, and the length of the step at each entry.

    ``values[t, i]`` is ``R[i, t - i]`` and ``rates[t, i]`` is ``rate``, or 0 where that is NaN;
    both are 0 beyond ``R``. Their shape is (N + M - 1, N), with N at least 2.
    """
    if len(R) == 1:  # NumPy adds up a lone column pairwise, not in order: a blank row below helps
        R = np.vstack([R, np.full_like(R, np.nan)])
    N, M = R.shape
    t, i = np.ogrid[: N + M - 1, :N]
    j = t - i
    inside = (j >= 0) & (j < M)
    values = np.where(inside, R[i, np.clip(j, 0, M - 1)], 0)
    rates = np.where(inside & ~np.isnan(values), rate, 0)
    return values, rates.astype(R.dtype)


def sgd_epoch(values, rates, P, Q, beta):
    """One epoch of :func:`sgd` over the :func:`waves` of ``R`` and ``2 * alpha``, ``N <= M``."""
    N, M, K = values.shape[1], len(Q), Q.shape[1]
    factors = np.zeros((2, K, N), P.dtype)
    # At wave t, column i of p is row i of P, and column i of q is row t - i of Q. So p stays where
    # it is, and q is a window of N columns that moves along Q, which is reversed for that
    p, q = factors
    p[:, : len(P)] = P.T
    swapped = factors[::-1]
    strip = np.zeros((K, M + 2 * N - 2), P.dtype)  # with blanks at both ends
    strip[:, N - 1 : N - 1 + M] = Q[::-1].T
    windows = [strip[:, start : start + N] for start in reversed(range(N + M - 1))]
    hidden = np.isnan(values)
    some_hidden = hidden.any()
    half_beta = np.array(beta / 2, P.dtype)
    add_up, multiply = np.add.reduce, np.multiply
    products, step, decay = map(np.empty_like, (p, factors, factors))  # every wave uses them again
    for r, rate, gap, window in zip(values, rates, hidden, windows):
        q[:] = window
        e = r - add_up(multiply(p, q, out=products))
        if some_hidden:
            np.putmask(e, gap, 0)
        # factors += rate * (e * swapped - half_beta * factors), both from the old values
        multiply(e, swapped, out=step)
        step -= multiply(half_beta, factors, out=decay)
        step *= rate
        factors += step
        window[:] = q
    return p[:, : len(P)].T.copy(), strip[:, N - 1 : N - 1 + M][:, ::-1].T.copy()


# Multiplicative updates -----------------------------
def multiplicative_update(R, P, Q, steps, tol=0.0, callback=None):
    """Factorize non-negative data by multiplicative updates from a non-negative start, ``P`` first.

    A zero in the start stays zero, and ``sum(E**2)`` never rises. From the same start the iterates
    are those of scikit-learn's ``NMF(solver="mu")``.

    Source: Lee and Seung (2001), Advances in Neural Information Processing Systems 13, 556-562.
    """
    R, P, Q = _checked(R, P, Q, non_negative=True)
    return _iterate(partial(multiplicative_step, R), P, Q, steps, callback, R, tol)


def multiplicative_step(R, P, Q):
    """One step of :func:`multiplicative_update`, unchecked."""
    P = P * (np.asarray(R @ Q) / no_zeros(P @ (Q.T @ Q)))
    Q = Q * (np.asarray(R.T @ P) / no_zeros(Q @ (P.T @ P)))
    return P, Q


def no_zeros(X):
    """Put 1 for each 0 in a denominator: what is above it, or the factor before it, is 0 too.

    So it is where an entry that goes to 0, ever faster, has left the range of exact numbers.
    """
    X[X < np.finfo(X.dtype).smallest_normal] = 1
    return X


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
    R, P, Q = _checked(R, P, Q, non_negative=True)
    inner = _number("inner", inner, whole=True, positive=True)
    gamma, lowest, Q_ahead = 0.5, None, Q

    def update(P, Q):
        nonlocal gamma, lowest, Q_ahead
        beyond = gamma if extrapolate and lowest is not None else 0
        P_new, Q_new, error = hals_step(R, P, Q_ahead, inner, beyond)
        if beyond and error > lowest:
            gamma, lowest, Q_ahead = gamma / 1.5, None, Q
            return P, Q
        gamma, lowest = min(1.01 * gamma, 1.0), error
        Q_ahead = np.maximum(Q_new + beyond * (Q_new - Q), 0)
        return P_new, Q_new

    return _iterate(update, P, Q, steps, callback, R, tol)


def hals_step(R, P, Q, inner, beyond=0):
    """One step of :func:`hals`, unchecked; also returns its error above ``sum(R**2)``."""
    RQ, QtQ = np.asarray(R @ Q), Q.T @ Q
    P_new = hals_sweeps(P, RQ, QtQ, inner)
    P = np.maximum(P_new + beyond * (P_new - P), 0)
    RtP, PtP = np.asarray(R.T @ P), P.T @ P
    Q = hals_sweeps(Q, RtP, PtP, inner)
    error = _error_above_data(RtP, PtP, Q)
    return P, Q, error


def hals_sweeps(P, RQ, QtQ, inner):
    """Set the columns of ``P``, one after the other, to their best non-negative values."""
    size = no_zeros(np.diag(QtQ).copy())  # where q_k is 0, this leaves b = -1 at k: p_k stays
    A = (RQ / size).T.copy()
    B = QtQ / size - np.eye(len(QtQ), dtype=QtQ.dtype)
    P = P.T.copy()  # one column of P a row: side by side in memory
    for _ in range(inner):
        for p, a, b in zip(P, A, B.T):
            # max(0, (R q_k - sum over l != k of p_l (q_l . q_k)) / (q_k . q_k))
            np.maximum(a - b @ P, 0, out=p)
    return P.T.copy()


# What the four share: the loop, and what is refused -
def _iterate(update, P, Q, steps, callback, R=None, tol=0.0, alpha=None, counted="steps"):
    """Repeat ``P, Q = update(P, Q)``, watching for divergence and, if ``tol > 0``, for the end."""
    steps, tol = _number(counted, steps, whole=True), _number("tol", tol)
    P, Q = P.copy(), Q.copy()
    log = ErrorLog(R, P, Q) if tol else None
    P_zero, Q_zero = np.zeros_like(P), np.zeros_like(Q)
    users = np.geterr()  # for the callback
    with np.errstate(all="ignore"):
        for step in range(1, steps + 1):
            P, Q = update(P, Q)
            # 0 times what is not finite is NaN; the fastest way of looking at every entry
            if np.vdot(P, P_zero) + np.vdot(Q, Q_zero) != 0:
                way_out = f"{alpha=:g} is too large, try {alpha / 10:g}, or " if alpha else ""
                raise FloatingPointError(
                    f"diverged at step {step}: {way_out}rescale R, or try another start"
                )
            if callback is not None:
                with np.errstate(**users):
                    callback(step, P, Q)
            if tol and step % 10 == 0:
                log(step, P, Q)
                roots = np.sqrt(log.errors)
                if roots[-2] - roots[-1] < tol * roots[0]:
                    break
    return P, Q


def _fitting_matrices(R, P, Q):
    """Return matrices of one float dtype whose shapes fit, the factors finite."""
    R, P, Q = _real_matrix("R", R), _real_matrix("P", P), _real_matrix("Q", Q)
    N, M, K = *R.shape, P.shape[1]
    if P.shape[0] != N or Q.shape != (M, K):
        got = f"R {R.shape}, P {P.shape} and Q {Q.shape}"
        raise ValueError(f"R, P and Q must be (N, M), (N, K) and (M, K), but got {got}")
    floats = [X.dtype if X.dtype.kind == "f" else np.float64 for X in (R, P, Q)]
    dtype = np.result_type(np.float32, *floats)
    R, P, Q = (X.astype(dtype, copy=False) for X in (R, P, Q))
    _refuse("P", P, ~np.isfinite(P), "be finite")
    _refuse("Q", Q, ~np.isfinite(Q), "be finite")
    return R, P, Q


def _real_matrix(label, X):
    """Return ``X`` as an array; a sparse or Dask ``R`` stays what it is."""
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(f"{label} must be a plain array, but got a masked one: see {label}.filled")
    if hasattr(X, "tocsr"):  # SciPy's sparse formats differ in what they can do
        if label != "R":
            raise TypeError(f"{label} must be dense, but got {type(X)}: use {label}.toarray()")
        X = X.tocsr(copy=True)
        X.sum_duplicates()
    elif label != "R" or not hasattr(X, "map_overlap"):  # as only Dask's arrays have
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(f"{label} must be a matrix, but its rows make none") from error
    if X.dtype.kind not in "buif":
        hint = f"of a data frame use {label}.to_numpy(float, na_value=np.nan)"
        raise TypeError(f"{label} must hold real numbers, but got dtype {X.dtype}; {hint}")
    if len(X.shape) != 2 or 0 in X.shape:
        raise ValueError(f"{label} must be a matrix with rows and columns, but got shape {X.shape}")
    return X


def _checked(R, P, Q, non_negative=False):
    R, P, Q = _fitting_matrices(R, P, Q)
    low, high = float(R.min()), float(R.max())
    if not math.isfinite(high - low):  # nor is it if an entry is NaN
        where = "np.isfinite(R) tells where; NaN is for sgd"
        raise ValueError(f"R must be finite, not from {low:.3g} to {high:.3g}: {where}")
    if non_negative:
        if low < 0:
            way_out = "pass the faces before centring"
            raise ValueError(f"R must be non-negative, not {low:.3g}: {way_out}")
        expected = "be non-negative, as from rng.rand"
        _refuse("P", P, P < 0, expected)
        _refuse("Q", Q, Q < 0, expected)
    _refuse_extremes(max(-low, high), P, Q, non_negative)
    return R, P, Q


@np.errstate(all="ignore")
def _refuse_extremes(largest, P, Q, non_negative=False):
    """Refuse a start whose step leaves the range of its type, by the largest entry of each."""
    limits = np.finfo(P.dtype)
    low, high = limits.minexp + 10, math.inf  # a gradient that overflows is noticed after the step
    r, p, q = np.log2([largest, np.abs(P).max(), np.abs(Q).max()])
    sizes = [max(r, p + q) + max(p, q)]
    if non_negative:
        high = limits.maxexp - math.log2(P.size * len(Q))  # there is room for sums
        # The first step takes P to the size of R over that of Q, where it remains
        sizes = [2 * q, p + 2 * q, r + q, 2 * r - q, 2 * (r - q)]
        if limits.maxexp > 500:  # so that the squared error would leave the range as well
            sizes.append(2 * r)
    if not all(low < size < high for size in sizes if math.isfinite(size)):
        raise ValueError(
            f"R, P and Q must have products that {P.dtype} can hold, but got some too large or too "
            "small: rescale R by a number, and P and Q by its root"
        )


def _refuse(label, X, bad, expected):
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise ValueError(f"{label} must {expected}, but {label}[{i}, {j}] is {X[i, j]:.3g}")


def _rates(alpha, beta):
    return _number("alpha", alpha, positive=True), _number("beta", beta)


def _number(label, value, whole=False, positive=False):
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise TypeError(f"{label} must be a {'whole ' * whole}number, but got {value!r}")
    if isinstance(value, np.generic):
        value = value.item()  # float32 is no measure for the largest float
    if not 0 <= value <= sys.float_info.max or (positive and value == 0):
        bound = "greater than 0" if positive else "at least 0"
        raise ValueError(f"{label} must be finite and {bound}, but got {value!r:.50}")
    return int(value) if whole else float(value)  # NumPy's own would widen float32


# Getting faces --------------------------------------
OLIVETTI, LABELED = "Olivetti faces", "Labeled Faces in the Wild"
_URL = "https://ndownloader.figshare.com/files/5976027"
_SHA256 = "e6b9b0fe62f642f64e4e6e584295133cd9aff7e5820c052fd52eb9ffea205c09"  # of data.tobytes()


def fetch_faces(timeout=15.0):
    """Return the Olivetti faces or, where they cannot be had, 100 others and a warning.

    Tried in turn: scikit-learn's copy, a file ``olivettifaces.mat`` beside it, and the download,
    which then becomes that file. The others are what scikit-image ships of Labeled Faces in the
    Wild (Huang et al., 2007). Nothing that is there already is overwritten or deleted.
    scikit-learn's copy is a pickle, which may run what somebody wrote into it: here only its pixels
    are read, and checked. That scikit-learn's own function runs it stays scikit-learn's risk.

    Parameters
    ----------
    timeout : float, default 15.0
        Seconds to wait for the next byte of the download, more than 0; four times that for all
        bytes, once they begin.

    Returns
    -------
    sklearn.utils.Bunch
        ``name``, ``images`` (400 or 100 squares of grey values in [0, 1], float32) and ``data``
        (one image a row).
    """
    from skimage.data import lfw_subset
    from sklearn.utils import Bunch

    timeout = _number("timeout", timeout, positive=True)
    folder = Path(os.path.expanduser(os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")))
    cache, file = folder / "olivetti_py3.pkz", folder / "olivettifaces.mat"
    name, troubles = LABELED, []
    files = [path for path in (cache, file) if os.path.isfile(path)]
    for source in (*files, _URL):
        try:
            content = _downloaded(timeout) if source == _URL else source.read_bytes()
            name, images = OLIVETTI, _olivetti(content)
            break
        except Exception as error:
            hint = "" if source == _URL else ", so move it away"
            troubles.append(f"{source} failed ({type(error).__name__}: {error}){hint}")
    if name == LABELED:
        images = lfw_subset()[:100].astype(np.float32)
        troubles.append(
            f"Instead of the {OLIVETTI} there are 100 of {LABELED}, which come with scikit-image: "
            "everything runs, but the numbers differ from the text's. Try again later, or make "
            f"the folder, if there is none, save {_URL} as {file}, and run this again"
        )
    elif source == _URL:
        try:
            _keep(content, file)
        except OSError as error:
            troubles.append(f"No copy of the {OLIVETTI} could be kept ({error})")
    if troubles:
        warnings.warn(". ".join(troubles), stacklevel=2)
    return Bunch(name=name, images=images, data=images.reshape(len(images), -1))


def _keep(content, file):
    """Put a copy where the next call looks, unless something is there; whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        copy = Path(scratch, file.name)
        copy.write_bytes(content)
        if not os.path.lexists(file):
            copy.rename(file)


def _downloaded(timeout):
    """Return the file's content; give up after so long a silence, or four times as long in all."""
    start, content = time.monotonic(), b""
    with urllib.request.urlopen(_URL, timeout=timeout) as response:
        while part := response.read1(2**16):  # what has come, without waiting for more
            content += part
            if time.monotonic() - start > 4 * timeout:
                raise TimeoutError(f"not complete after {4 * timeout:g} s")
    return content


def _olivetti(content):
    """Return the images in a file of either kind; refuse others."""
    if content.startswith(b"x"):  # scikit-learn's: a packed pickle, which is not run
        end = zlib.decompress(content)[-400 * 4096 - 1 : -1]  # a full stop follows the pixels
        pixels = np.frombuffer(end, np.uint8)
    else:
        from scipy.io import loadmat

        pixels = loadmat(io.BytesIO(content))["faces"].T
    images = pixels.reshape(400, 64, 64).transpose(0, 2, 1).astype(np.float32)
    images -= images.min()
    images /= images.max()
    if hashlib.sha256(images.tobytes()).hexdigest() != _SHA256:
        raise ValueError("its content is not that of the Olivetti faces")
    return images


# Looking --------------------------------------------
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]  # Okabe and Ito


@contextlib.contextmanager
def _plain_style():
    """Draw by Matplotlib's own settings, whatever the user's are; larger letters are followed."""
    import matplotlib.style

    size = max(10, matplotlib.rcParams["font.size"])
    with matplotlib.style.context(["default", {"font.size": size}]):
        yield


@_plain_style()
def show_figure(figure, text):
    """Show a figure of Matplotlib's; ``text`` is what it says, for whoever does not see it."""
    from IPython import get_ipython
    from IPython.display import display
    from matplotlib.pyplot import close

    close(figure)  # or Jupyter shows it once more
    if get_ipython() is None:  # in a plain script
        print(text)
        return
    file = io.BytesIO()
    figure.savefig(file, dpi=200)  # twice what the page has, so that it is sharp
    about = {"alt": text, "width": round(100 * figure.get_figwidth())}
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": text}
    display(data, metadata={"image/png": about}, raw=True)
    # Most front ends show no alternative text of a picture: below it, folded, they show this
    words = f"<details><summary>The figure in words</summary>{html.escape(text)}</details>"
    display({"text/html": words}, raw=True)


@_plain_style()
def show_faces(rows, title, names=(), signed=False):
    """Draw stacks of square images in a grid, one stack a row; NaN is drawn in orange.

    Parameters
    ----------
    rows : dict of str to array_like, or array_like
        Stacks of images, shape (n, m * m) or (n, m, m), or one image (m, m), at most 40 in a row;
        the keys stand at the left.
    title, names : str, sequence of str
        What stands above the figure, and above each column.
    signed : bool, default False
        Whether blue is below zero and red above.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    rows = rows if isinstance(rows, dict) else {"": rows}
    rows = {label: _images(label, stack) for label, stack in rows.items()}
    n = max(map(len, rows.values()))
    size = min(1.5, 8.2 / n)
    figure = Figure((n * size + 0.8, len(rows) * size + 0.6), layout="constrained")
    figure.suptitle(title)
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    axes = figure.subplots(len(rows), n, squeeze=False, subplot_kw=bare)
    colours = colormaps["RdBu_r" if signed else "gray"].with_extremes(bad=_COLOURS[4])
    top = max(np.nanmax(np.abs(images)) for images in rows.values()) or 1
    said = [f"{title}: {', '.join(names)}." if names else f"{title}."]
    for line, (label, images) in zip(axes, rows.items()):
        line[0].set_ylabel(label)
        for axis, image in zip(line, images):
            drawn = axis.imshow(image, colours, vmin=-top if signed else 0, vmax=top)
        low, high = np.nanmin(images), np.nanmax(images)
        said.append(
            f"{label or 'Images'}: {len(images)} of {len(image)} x {len(image)} pixels, "
            f"values {low:.2f} to {high:.2f}."
        )
    for axis, name in zip(axes[0], names):
        axis.set_title(name, fontsize="medium")
    if signed:
        figure.colorbar(drawn, ax=axes, shrink=0.9, aspect=8 * len(rows), pad=0.01)
    show_figure(figure, " ".join(said).replace("-0.00", "0.00"))


def _images(label, stack):
    """Return the images of a row, (n, m, m); a square matrix is one image."""
    images = np.ma.array(stack, float, ndmin=2).filled(np.nan)
    if images.shape[:-1] == images.shape[-1:]:
        images = images[None]
    m = math.isqrt(math.prod(images.shape[1:]))
    if images.shape[1:] not in [(m, m), (m * m,)] or m < 2 or not 0 < len(images) <= 40:
        raise ValueError(
            f"{label or 'rows'} must hold at most 40 images, (n, m * m), (n, m, m) or (m, m), but "
            f"got shape {np.shape(stack)}: of basis images pass Q.T, of many images only some"
        )
    return images.reshape(-1, m, m)


@_plain_style()
def show_curves(curves, title, xlabel, ylabel, **axis_settings):
    """Draw curves, named in a legend.

    Parameters
    ----------
    curves : dict of str to array_like, or tuple of array_like
        The heights of a curve over 0, 1, 2, ..., or (places, heights).
    title, xlabel, ylabel, **axis_settings
        For ``matplotlib.axes.Axes.set``, for example ``yscale="log"``.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure((7.5, 3.2), layout="constrained")
    axis = figure.subplots()
    dashes = ["-", "--", "-.", ":", "-", "--"]
    axis.set_prop_cycle(color=_COLOURS, linestyle=dashes, marker=list("osD^vP"))
    said = [f"{title}: {ylabel} against {xlabel}."]
    for label, curve in curves.items():
        curve = curve if isinstance(curve, tuple) else (range(len(curve)), curve)
        x, y = map(np.asarray, curve)
        (line,) = axis.plot(x, y, label=label)
        n = len(x)
        some = range(n)
        if n == 1:
            line.set_linestyle("")
        if n >= 20:
            line.set_marker("")
            some = sorted({0, n // 100, n // 10, n - 1})
        points = [f"{_written(y[i])} at {x[i]:.9g}" for i in some]
        said.append(f"{label}: {', '.join(points)}.")
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel, **axis_settings)
    axis.grid(alpha=0.3)
    for side in (axis.xaxis, axis.yaxis):
        if side.get_scale() == "log":
            side.set_major_formatter("{x:.9g}")
            side.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    figure.legend(loc="outside right center", frameon=False)
    show_figure(figure, " ".join(said))


def _written(number):
    """Write four digits of a number, without a power of ten."""
    return np.format_float_positional(number, 4, fractional=False, trim="-")
