"""Matrix factorization kernels and helpers for ``week5_tutorial.ipynb``.

The functions stand in the order in which the notebook meets them. Notation is
the same everywhere:

========  ==========  ====================================================
``R``     ``(N, M)``  the data, one face a row, one pixel a column
``P``     ``(N, K)``  one row of weights a face
``Q``     ``(M, K)``  one basis image a column
``K``                 the number of latent features, ``R ~ P @ Q.T``
``E``     ``(N, M)``  the residual, ``R - P @ Q.T``
``alpha``             the learning rate, greater than 0
``beta``              the regularization, at least 0
========  ==========  ====================================================

Every kernel returns new factors and leaves its arguments alone. Integers count
as float64; otherwise the work is done in the widest float type among ``R``,
``P`` and ``Q``, so float32 stays float32.

Large data: ``gradient_descent``, ``multiplicative_update`` and ``hals`` meet ``R``
only in ``R @ Q`` and ``R.T @ P``, so it may be a ``numpy.memmap``, a SciPy sparse
matrix or a Dask array, on one machine or many; only the factors must fit here.
A step costs, with ``w`` bytes a number,

======================  =========================================================
reading ``R`` twice     ``2 w N M`` bytes
the two products        ``4 N M K`` operations (``4 K`` an entry if sparse)
the rest of the step    ``4 (N + M) K**2`` operations; for ``hals``
                        ``2 (1 + inner) (N + M) K**2``, here and not on the workers
factors sent about      ``2 w K (W M + N)`` bytes, for rows of ``R`` on ``W`` workers:
                        to each all of ``Q`` and its rows of ``P``, and as much back
======================  =========================================================

For example ``N = 1e6``, ``M = 1e5``, ``K = 50`` in float32: ``R`` has 4e11 bytes, so
8 workers with 64 GB keep 50 GB each. A step reads 8e11 bytes, 5 s at 20 GB/s on each
of the 8; its products are 2e13 operations, 25 s at 1e11 a second (two cores' worth);
the rest is 1.1e10, or 2.75e10 for ``hals`` with ``inner=4``: 0.1 s and, since its
sweeps wait for memory, 3 s at 1e10; the factors are 0.72 GB, 0.6 s at 10 Gbit/s. So
a step takes half a minute, most of it in the products, and 4 times the workers a
quarter of that, until sending ``Q`` to all of them takes as long.
"""

import _thread
import ast
import contextlib
import dis
import hashlib
import inspect
import io
import itertools
import math
import numbers
import os
import re
import shutil
import signal
import socket
import tempfile
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

__version__ = "1.1"

__all__ = [
    "ErrorLog",
    "Verdict",
    "WrongAnswer",
    "check_matrix_factorization",
    "check_multiplicative_update",
    "fetch_faces",
    "gradient_descent",
    "gradient_step",
    "hals",
    "hals_step",
    "hals_sweeps",
    "multiplicative_step",
    "multiplicative_update",
    "sgd",
    "sgd_epoch",
    "show_faces",
    "show_source",
    "squared_error",
    "waves",
]


# --------------------------------------------------------------------------
# Getting the faces
# --------------------------------------------------------------------------

OLIVETTI = "Olivetti faces"
_CACHE = "olivetti_py3.pkz"  # scikit-learn's name for its copy
_DOWNLOAD = "olivettifaces.mat"
_URL = "https://ndownloader.figshare.com/files/5976027"
_SHA256 = "e6b9b0fe62f642f64e4e6e584295133cd9aff7e5820c052fd52eb9ffea205c09"  # of data.tobytes()


def fetch_faces(timeout=15.0):
    """Return the Olivetti faces or, where they cannot be had, 100 others.

    scikit-learn's copy is tried first, then a file ``olivettifaces.mat`` beside
    it, then the download. The last resort is the first 100 faces of Labeled Faces
    in the Wild that scikit-image ships, with a warning that says what failed and
    what to do. Nothing that is there already is overwritten or deleted.

    Parameters
    ----------
    timeout : float, default 15.0
        Seconds to wait for the download, greater than 0.

    Returns
    -------
    sklearn.utils.Bunch
        ``name``; ``images``, shape ``(400, 64, 64)`` or ``(100, 25, 25)``, grey
        values in [0, 1]; ``data``, the same with one image a row; ``target``, who
        is on each image, or None where that is not known; ``DESCR``.

    References
    ----------
    Olivetti faces: AT&T Laboratories Cambridge, 1992-1994.
    Huang, G. B., Ramesh, M., Berg, T. and Learned-Miller, E. (2007). Labeled Faces
    in the Wild. University of Massachusetts, Amherst, Technical Report 07-49.
    """
    timeout = _number("timeout", timeout, positive=True)
    folder = Path(os.path.expanduser(os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")))
    sources = {
        f"reading {folder / _CACHE}": _from_cache,
        f"reading {folder / _DOWNLOAD}": _from_file,
        "the download": _from_network,
    }
    troubles = []
    for name, source in sources.items():
        try:
            faces = source(folder, timeout)
        except Exception as error:
            troubles.append(f"{name} failed ({error})")
            continue
        if faces is None:
            continue  # no copy yet, which is no trouble
        try:
            _keep(faces.pop("file"), folder)
        except OSError as error:
            troubles.append(f"no copy could be kept in {folder} ({error})")
        if troubles:
            warnings.warn(
                "These are the Olivetti faces, but " + ", and ".join(troubles), stacklevel=2
            )
        return faces
    warnings.warn(
        "The Olivetti faces cannot be had: " + ", and ".join(troubles) + ". Instead you have 100 "
        "faces of Labeled Faces in the Wild, which come with scikit-image: everything runs, but "
        "the numbers differ from those in the text. For the Olivetti faces, try again later, or "
        f"save {_URL} as {folder / _DOWNLOAD} and run this again",
        stacklevel=2,
    )
    return _other_faces()


def _from_cache(folder, timeout):
    if not os.path.lexists(folder / _CACHE):
        return None
    return _olivetti(folder, download_if_missing=False)


def _from_file(folder, timeout):
    import joblib
    from scipy.io import loadmat

    if not os.path.lexists(folder / _DOWNLOAD):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        joblib.dump(
            loadmat(folder / _DOWNLOAD)["faces"].T.copy(), Path(scratch, _CACHE), compress=6
        )
        return _olivetti(scratch, download_if_missing=False)


def _from_network(folder, timeout):
    import sklearn.datasets  # noqa: F401  # takes a while, which is not the download's

    outcome = {}

    def work(scratch):
        try:
            outcome["faces"] = _olivetti(scratch)
        except Exception as error:
            outcome["error"] = error

    # A thread, since no time-out of urllib's bounds a server that sends a byte a second
    # and it may outlive the call, as does this filter for what it says then
    warnings.filterwarnings("ignore", "Retry downloading", module="sklearn")
    before = socket.getdefaulttimeout()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        thread = threading.Thread(target=work, args=[scratch], daemon=True)
        try:
            socket.setdefaulttimeout(timeout)
            with contextlib.redirect_stdout(io.StringIO()):
                thread.start()
                thread.join(timeout)
        finally:
            socket.setdefaulttimeout(before)
    if thread.is_alive():
        raise TimeoutError(f"not complete after {timeout:g} s")
    if "error" in outcome:
        error = outcome["error"]
        raise OSError(f"{type(error).__name__}: {error}") from error
    return outcome["faces"]


def _olivetti(folder, **options):
    """Ask scikit-learn for the faces in this folder; refuse any others."""
    from sklearn.datasets import fetch_olivetti_faces

    faces = fetch_olivetti_faces(data_home=folder, **options)
    if hashlib.sha256(faces.data.tobytes()).hexdigest() != _SHA256:
        raise ValueError("its content is not that of the Olivetti faces")
    return faces.__class__(name=OLIVETTI, file=Path(folder, _CACHE).read_bytes(), **faces)


def _keep(content, folder):
    """Put a copy where scikit-learn looks for it, unless something is there."""
    if os.path.lexists(folder / _CACHE):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # whole or not at all
        Path(scratch, _CACHE).write_bytes(content)
        shutil.move(Path(scratch, _CACHE), folder / _CACHE)


def _other_faces():
    from skimage.data import lfw_subset
    from sklearn.utils import Bunch

    images = lfw_subset()[:100].astype(np.float32)
    return Bunch(
        name="Labeled Faces in the Wild",
        images=images,
        data=images.reshape(100, -1),
        target=None,
        DESCR="100 faces of 25 x 25 pixels from Labeled Faces in the Wild, photographs from the\n"
        "news, as scikit-image ships them (skimage.data.lfw_subset).",
    )


# --------------------------------------------------------------------------
# Looking at faces, at sources and at the error
# --------------------------------------------------------------------------


def show_faces(rows, title=None, names=None, signed=False, limit=None, width=9.0):
    """Draw stacks of square images in a grid, one stack a row.

    Parameters
    ----------
    rows : dict of str to array_like, or array_like
        Each value is a stack of flattened square images, shape ``(n, m * m)``;
        its key is written at the left of its row. A bare array is one row
        without a label. Rows may differ in ``n`` and in ``m``.
    title : str, optional
        Title of the figure.
    names : sequence of str, optional
        One name for each column, written above it.
    signed : bool, default False
        False draws from 0 up, dark to light. True draws on a diverging map
        centred at zero: blue is negative, white is zero, red is positive.
    limit : float or "each", optional
        The value at the end of the colour scale. By default it is the largest
        magnitude in the figure, so that all images share one scale. "each"
        gives every image a scale of its own: for basis images, whose scale
        means nothing.
    width : float, default 9.0
        Width of the figure in inches.

    Raises
    ------
    ValueError
        If an image is not square.
    """
    import matplotlib.pyplot as plt

    if not isinstance(rows, dict):
        rows = {"": rows}
    stacks = {label: np.atleast_2d(stack) for label, stack in rows.items()}
    for label, stack in stacks.items():
        if math.isqrt(stack.shape[1]) ** 2 != stack.shape[1]:
            raise ValueError(
                f"rows must hold square images, but {label!r} has {stack.shape[1]} pixels an image"
            )
    columns = max(len(stack) for stack in stacks.values())
    bar = signed and limit != "each"
    cell = (0.9 if bar else 1.0) * width / columns
    height = len(stacks) * cell + (0.45 if title else 0.0) + (0.25 if names else 0.0)
    figure, axes = plt.subplots(
        len(stacks), columns, figsize=(width, height), squeeze=False, layout="constrained"
    )
    figure.suptitle(title)
    if limit is None:
        limit = max(np.nanmax(np.abs(stack)) for stack in stacks.values())
    for line, (label, stack) in zip(axes, stacks.items()):
        side = math.isqrt(stack.shape[1])
        for axis in line[len(stack) :]:
            axis.axis("off")
        for axis, image in zip(line, stack):
            top = np.nanmax(np.abs(image)) if limit == "each" else limit
            picture = axis.imshow(
                image.reshape(side, side),
                cmap="RdBu_r" if signed else "gray",
                vmin=-top if signed else 0,
                vmax=top,
            )
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(label)
    for axis, name in zip(axes[0], names or []):
        axis.set_title(name, fontsize="medium")
    if bar:
        figure.colorbar(picture, ax=axes, shrink=0.9, aspect=8 * len(stacks), pad=0.01)
    plt.show()


def show_source(function):
    """Show the source of a function, without its docstring.

    Parameters
    ----------
    function : callable
        A function written in Python.

    Returns
    -------
    IPython.display.Markdown
        The source as it is now, so that what the notebook shows is never stale.
    """
    from IPython.display import Markdown

    source = textwrap.dedent(inspect.getsource(function))
    definition = ast.parse(source).body[0]
    lines = source.splitlines()
    if ast.get_docstring(definition) is not None:
        docstring = definition.body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return Markdown("```python\n" + "\n".join(lines) + "\n```")


def squared_error(R, P, Q):
    """Sum of the squared residuals over the observed entries.

    Parameters
    ----------
    R : array_like, SciPy sparse matrix or Dask array, shape (N, M)
        The data. In a dense array NaN means "not observed" and does not count.
    P : array_like, shape (N, K)
    Q : array_like, shape (M, K)

    Returns
    -------
    float
        The sum of ``(R - P @ Q.T) ** 2``.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If an argument does not hold real numbers.
    """
    return _squared_error(*_matrices(R, P, Q))


def _squared_error(R, P, Q):
    with np.errstate(over="ignore", invalid="ignore"):
        if not isinstance(R, np.ndarray):  # multiply out, so that E is never formed
            squares = R.multiply(R) if hasattr(R, "multiply") else R * R  # sparse, or Dask's
            cross = np.sum(_product(R.T, P) * Q, dtype=np.float64)
            both = np.sum((P.T @ P) * (Q.T @ Q), dtype=np.float64)
            return float(squares.sum(dtype=np.float64)) - 2 * float(cross) + float(both)
        total = 0.0
        rows = max(1, 2**20 // R.shape[1])  # a block of E at a time, for data beyond memory
        for i in range(0, len(R), rows):
            block = R[i : i + rows]
            E = np.where(np.isnan(block), 0, block - P[i : i + rows] @ Q.T)
            total += float(np.sum(E * E, dtype=np.float64))
        return total


class ErrorLog:
    """A callback that records the squared error as a kernel runs.

    Parameters
    ----------
    R : array_like, shape (N, M)
        The data that the error is measured against.
    every : int, default 1
        Record only the steps that this number divides.

    Attributes
    ----------
    steps, errors : list
        The steps recorded and the squared error after each.
    """

    def __init__(self, R, every=1):
        self.R = R
        self.every = _count("every", every, least=1)
        self.steps = []
        self.errors = []

    def __call__(self, step, P, Q):
        """Record the error after this step."""
        if step % self.every == 0:
            self.steps.append(step)
            self.errors.append(squared_error(self.R, P, Q))


# --------------------------------------------------------------------------
# Full-batch gradient descent
# --------------------------------------------------------------------------


def gradient_descent(R, P, Q, steps, alpha, beta, callback=None):
    """Factorize by full-batch gradient descent, ``P`` first.

    Each step goes down the gradient of
    ``sum(E**2) + beta / 2 * (sum(P**2) + sum(Q**2))``. The residual ``E`` is the
    same in both halves of a step; ``Q`` already sees the new ``P``.

    Parameters
    ----------
    R : array_like, shape (N, M)
        The data: finite, any sign. Only ``R @ Q`` and ``R.T @ P`` are asked of
        it, so a ``numpy.memmap``, a SciPy sparse matrix or a Dask array does as
        well; give the first two the dtype of the factors, or they are converted
        in memory first.
    P : array_like, shape (N, K)
        Start of the weights.
    Q : array_like, shape (M, K)
        Start of the basis.
    steps : int
        Number of steps, at least 0.
    alpha : float
        Learning rate, greater than 0.
    beta : float
        Regularization, at least 0.
    callback : callable, optional
        Called as ``callback(step, P, Q)`` after each step, counted from 1.

    Returns
    -------
    P : ndarray, shape (N, K)
    Q : ndarray, shape (M, K)

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range or not finite.
    TypeError
        If an argument is of the wrong type.
    FloatingPointError
        If the factors diverge; names the step and ``alpha``.

    References
    ----------
    Koren, Y., Bell, R. and Volinsky, C. (2009). Matrix factorization techniques
    for recommender systems. Computer 42(8), 30-37.
    """
    R, P, Q = _checked(R, P, Q)
    alpha = _number("alpha", alpha, positive=True)
    beta = _number("beta", beta)

    def update(P, Q):
        return gradient_step(R, P, Q, alpha, beta)

    return _iterate(update, P, Q, steps, callback, rate=alpha)


def gradient_step(R, P, Q, alpha, beta):
    """One step of :func:`gradient_descent`, without its checks."""
    keep = 1 - alpha * beta
    EQ = _product(R, Q) - P @ (Q.T @ Q)  # E Q, but E itself is never formed
    P_new = keep * P + 2 * alpha * EQ
    EtP = _product(R.T, P_new) - Q @ (P.T @ P_new)  # the same E: it still holds the old P
    Q_new = keep * Q + 2 * alpha * EtP
    return P_new, Q_new


# --------------------------------------------------------------------------
# Stochastic gradient descent, entry by entry
# --------------------------------------------------------------------------


def sgd(R, P, Q, epochs, alpha, beta, callback=None):
    """Factorize by online gradient descent over the observed entries.

    An epoch visits every observed entry once, row by row and left to right. Each
    visit updates one row of ``P`` and one row of ``Q`` from their old values.
    Whole anti-diagonals are done at once; the numbers are those of the double
    loop, to the last bit when the loop adds over ``K`` in order.

    Parameters
    ----------
    R : array_like, shape (N, M)
        The data, any sign. NaN means "not observed": never visited.
    P : array_like, shape (N, K)
        Start of the weights.
    Q : array_like, shape (M, K)
        Start of the basis.
    epochs : int
        Number of passes over the data, at least 0.
    alpha : float
        Learning rate, greater than 0.
    beta : float
        Regularization, at least 0. It is charged at every visit, so a full
        epoch charges a row of ``P`` ``M`` times, and a row of ``Q`` ``N`` times.
    callback : callable, optional
        Called as ``callback(epoch, P, Q)`` after each epoch, counted from 1.

    Returns
    -------
    P : ndarray, shape (N, K)
    Q : ndarray, shape (M, K)

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range or infinite.
    TypeError
        If an argument is of the wrong type.
    FloatingPointError
        If the factors diverge; names the epoch and ``alpha``.

    References
    ----------
    Koren, Y., Bell, R. and Volinsky, C. (2009). Matrix factorization techniques
    for recommender systems. Computer 42(8), 30-37.
    """
    R, P, Q = _checked(R, P, Q, missing=True)
    alpha = _number("alpha", alpha, positive=True)
    beta = _number("beta", beta)
    tall = R.shape[0] > R.shape[1]
    values, rates = waves(R.T if tall else R, 2 * alpha)  # the 2 of the gradient; doubling is exact

    def update(P, Q):
        if tall:  # a wave spans the shorter side, so the factors change places
            return sgd_epoch(values, rates, Q, P, beta)[::-1]
        return sgd_epoch(values, rates, P, Q, beta)

    return _iterate(update, P, Q, epochs, callback, rate=alpha, unit="epoch", name="epochs")


def waves(R, alpha):
    """Lay out the anti-diagonals of ``R`` as rows.

    Parameters
    ----------
    R : ndarray, shape (N, M)
        The data; NaN means "not observed".
    alpha : float
        Learning rate.

    Returns
    -------
    values : ndarray, shape (N + M - 1, N), with N at least 2
        ``values[t, i]`` is ``R[i, t - i]``, or 0 where that is not observed or
        outside ``R``.
    rates : ndarray, same shape
        ``alpha`` where there is a value, else 0: a step of no length.
    """
    if len(R) == 1:  # NumPy adds up a lone column pairwise, not in order: give it a blank neighbour
        R = np.vstack([R, np.full_like(R, np.nan)])
    N, M = R.shape
    observed = ~np.isnan(R)

    def slanted(X):
        # Pad each row by N blanks, cut the rows one entry shorter: row i slides i to the right
        padded = np.zeros((N, M + N), R.dtype)
        padded[:, :M] = X
        return padded.ravel()[: N * (N + M - 1)].reshape(N, N + M - 1).T.copy()

    return slanted(np.where(observed, R, 0)), slanted(np.where(observed, alpha, 0))


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


# --------------------------------------------------------------------------
# Non-negative matrix factorization
# --------------------------------------------------------------------------


def multiplicative_update(R, P, Q, steps, tol=0.0, callback=None):
    """Factorize non-negative data by multiplicative updates, ``P`` first.

    ``P`` and ``Q`` stay non-negative and ``sum(E**2)`` never rises. From the same
    start the iterates are those of scikit-learn's ``NMF(solver="mu")``.

    Parameters
    ----------
    R : array_like, shape (N, M)
        The data: finite and non-negative. Only ``R @ Q`` and ``R.T @ P`` are asked
        of it once it is checked (and the error every 10 steps if ``tol > 0``), so
        a ``numpy.memmap``, a SciPy sparse matrix or a Dask array does as well; give
        the first two the dtype of the factors, or they are converted in memory
        first.
    P : array_like, shape (N, K)
        Start of the weights, non-negative. A zero stays zero.
    Q : array_like, shape (M, K)
        Start of the basis, non-negative. A zero stays zero.
    steps : int
        Largest number of steps, at least 0.
    tol : float, default 0.0
        Stop when, over the last 10 steps, the root of ``sum(E**2)`` fell by less
        than ``tol`` times its value at the start: scikit-learn's rule. 0 runs all
        the steps.
    callback : callable, optional
        Called as ``callback(step, P, Q)`` after each step, counted from 1.

    Returns
    -------
    P : ndarray, shape (N, K)
    Q : ndarray, shape (M, K)

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is negative, or a number is out of range or
        not finite.
    TypeError
        If an argument is of the wrong type.
    FloatingPointError
        If the numbers grow beyond the float type; names the step.

    References
    ----------
    Lee, D. D. and Seung, H. S. (2001). Algorithms for non-negative matrix
    factorization. Advances in Neural Information Processing Systems 13, 556-562.
    """
    R, P, Q = _checked(R, P, Q, negative=False)
    tol = _number("tol", tol)
    stop = _StoppingRule(R, P, Q, tol) if tol > 0 else None

    def update(P, Q):
        return multiplicative_step(R, P, Q)

    return _iterate(update, P, Q, steps, callback, stop=stop)


def multiplicative_step(R, P, Q):
    """One step of :func:`multiplicative_update`, without its checks."""
    P = P * _ratio(_product(R, Q), P @ (Q.T @ Q))
    Q = Q * _ratio(_product(R.T, P), Q @ (P.T @ P))
    return P, Q


def _ratio(numerator, denominator):
    """Divide entry by entry; where the denominator is 0 so is what it scales, or its numerator."""
    denominator[denominator == 0] = 1
    return np.divide(numerator, denominator, out=denominator)


def hals(R, P, Q, steps, inner=4, tol=0.0, callback=None):
    """Factorize non-negative data by hierarchical alternating least squares, ``P`` first.

    Each column of ``P`` in turn is set to its best non-negative value while all
    else stands still, then each column of ``Q``: so ``P`` and ``Q`` stay
    non-negative and ``sum(E**2)`` never rises, as with :func:`multiplicative_update`,
    but a zero may leave zero, and far fewer steps are needed.

    Parameters
    ----------
    R : array_like, shape (N, M)
        The data: finite and non-negative; what :func:`multiplicative_update` takes.
    P : array_like, shape (N, K)
        Start of the weights, non-negative.
    Q : array_like, shape (M, K)
        Start of the basis, non-negative. A column that is zero leaves that of ``P``
        as it is, and comes alive from it; if both are zero, both stay zero.
    steps : int
        Largest number of steps, at least 0.
    inner : int, default 4
        Sweeps over the columns of ``P``, and then of ``Q``, in each step, at least
        1. They share one ``R @ Q`` or ``R.T @ P``, so they cost little where
        ``N`` and ``M`` are large, and more of them save steps.
    tol : float, default 0.0
        Stop when, over the last 10 steps, the root of ``sum(E**2)`` fell by less
        than ``tol`` times its value at the start. 0 runs all the steps.
    callback : callable, optional
        Called as ``callback(step, P, Q)`` after each step, counted from 1.

    Returns
    -------
    P : ndarray, shape (N, K)
    Q : ndarray, shape (M, K)

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is negative, or a number is out of range or
        not finite.
    TypeError
        If an argument is of the wrong type.
    FloatingPointError
        If the numbers grow beyond the float type; names the step.

    References
    ----------
    Cichocki, A. and Phan, A.-H. (2009). Fast local algorithms for large scale
    nonnegative matrix and tensor factorizations. IEICE Transactions on
    Fundamentals E92-A(3), 708-721.
    Gillis, N. and Glineur, F. (2012). Accelerated multiplicative updates and
    hierarchical ALS algorithms for nonnegative matrix factorization. Neural
    Computation 24(4), 1085-1105.
    """
    R, P, Q = _checked(R, P, Q, negative=False)
    inner = _count("inner", inner, least=1)
    tol = _number("tol", tol)
    stop = _StoppingRule(R, P, Q, tol) if tol > 0 else None

    def update(P, Q):
        return hals_step(R, P, Q, inner)

    return _iterate(update, P, Q, steps, callback, stop=stop)


def hals_step(R, P, Q, inner):
    """One step of :func:`hals`, without its checks."""
    P = hals_sweeps(P, _product(R, Q), Q.T @ Q, inner)
    Q = hals_sweeps(Q, _product(R.T, P), P.T @ P, inner)
    return P, Q


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


class _StoppingRule:
    """Stop once 10 steps shrink the norm of ``E`` by less than ``tol`` times its first value."""

    def __init__(self, R, P, Q, tol):
        self.R = R
        self.tol = tol
        self.first = self.last = self.norm(P, Q)

    def norm(self, P, Q):
        return math.sqrt(max(_squared_error(self.R, P, Q), 0.0))

    def __call__(self, step, P, Q):
        if step % 10:
            return False
        previous, self.last = self.last, self.norm(P, Q)
        return previous - self.last < self.tol * self.first


# --------------------------------------------------------------------------
# What the kernels share: the loop and the checks
# --------------------------------------------------------------------------


def _iterate(update, P, Q, steps, callback, stop=None, rate=None, unit="step", name="steps"):
    """Repeat ``P, Q = update(P, Q)``, watching for divergence."""
    steps = _count(name, steps)
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback must be a function of (step, P, Q) or None, but got {callback!r}"
        )
    for step in range(1, steps + 1):
        with np.errstate(over="ignore", invalid="ignore"):
            P, Q = update(P, Q)
            size = np.vdot(P, P) + np.vdot(Q, Q)  # cheaper than looking at every entry
        if not math.isfinite(size):
            raise FloatingPointError(_divergence(unit, step, rate))
        if callback is not None:
            callback(step, P, Q)
        if stop is not None and stop(step, P, Q):
            break
    return P, Q


def _divergence(unit, step, rate):
    if rate is None:
        return (
            f"overflow at {unit} {step}: R, P or Q holds numbers too large; divide R by its maximum"
        )
    return (
        f"diverged at {unit} {step} with alpha={rate:g}: the factors grow beyond all bounds. "
        f"Try a smaller alpha, for example {rate / 10:g}"
    )


def _product(R, X):
    """``R @ X`` as an array, whatever ``R`` is: a Dask array is computed here, block by block."""
    return np.asarray(R @ X)


def _checked(R, P, Q, missing=False, negative=True):
    """R, P and Q in one float dtype, the factors copied; or an error that names the way out."""
    R, P, Q = _matrices(R, P, Q)
    for label, X in (("P", P), ("Q", Q)):
        _refuse(label, X, ~np.isfinite(X), "be finite")
        if not negative:
            _refuse(label, X, X < 0, "be non-negative", "; start from rng.rand, for example")
    if missing:
        if not isinstance(R, np.ndarray):
            raise TypeError(
                f"R must be a dense array for sgd, but got {type(R).__name__}: "
                f"use {_dense('R', R)}, with NaN where nothing was observed"
            )
        _refuse("R", R, np.isinf(R), "be finite, or NaN for what was not observed")
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            sums = _product(R, np.ones(R.shape[1], P.dtype))  # finite only if the whole row is
        if not np.isfinite(sums).all():
            raise ValueError(
                f"R must be finite, but row {np.flatnonzero(~np.isfinite(sums))[0]} has NaN, "
                "infinity or numbers too large to add up. sgd takes NaN for what was not observed"
            )
    if not negative and (least := float(R.min())) < 0:
        raise ValueError(
            f"R must be non-negative, but its smallest entry is {least:.3g}. "
            "Non-negative factors are for non-negative data: pass the faces before "
            "centring, or use gradient_descent for data of both signs"
        )
    return R, P.copy(), Q.copy()


def _matrices(R, P, Q):
    """R, P and Q as matrices of one float dtype whose shapes fit."""
    R, P, Q = _matrix("R", R), _matrix("P", P), _matrix("Q", Q)
    for label, X, length, meaning in (("P", P, R.shape[0], "row"), ("Q", Q, R.shape[1], "column")):
        if X.shape[0] != length:
            raise ValueError(
                f"{label} must have one row for each {meaning} of R, shape ({length}, K), "
                f"but got shape {X.shape}"
            )
    if P.shape[1] != Q.shape[1]:
        raise ValueError(
            "P and Q must have the same number K of columns, "
            f"but got shapes {P.shape} and {Q.shape}; give Q as (M, K), not transposed"
        )
    for label, X in (("P", P), ("Q", Q)):
        if not isinstance(X, np.ndarray):
            raise TypeError(
                f"{label} must be a dense array, but got {type(X).__name__}: use {_dense(label, X)}"
            )
    dtype = np.result_type(*(X.dtype if X.dtype.kind == "f" else np.float64 for X in (R, P, Q)))
    if isinstance(R, np.ndarray):
        R = np.asarray(R, dtype)  # a view where the dtype is the same, of a memmap too
    elif R.dtype != dtype:
        R = R.astype(dtype)
    return R, np.asarray(P, dtype), np.asarray(Q, dtype)


def _dense(label, X):
    return f"{label}.toarray()" if hasattr(X, "toarray") else f"np.asarray({label})"


def _matrix(label, X):
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(
            f"{label} must be a plain array, but got a masked one: use filled(np.nan) and sgd"
        )
    if not isinstance(getattr(X, "dtype", None), np.dtype):  # lists, data frames, tensors
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(f"{label} must be a matrix, but its rows differ in length") from error
    if hasattr(X, "tocsr"):  # SciPy's sparse formats differ in what they can do
        X = X.tocsr()
    if X.dtype.kind not in "buif":
        raise TypeError(f"{label} must hold real numbers, but got dtype {X.dtype}")
    if np.isnan(X.shape).any():  # what Dask cannot tell before it has computed
        raise ValueError(
            f"{label} must know its shape, but got shape {X.shape}: "
            f"call {label}.compute_chunk_sizes() first"
        )
    if len(X.shape) != 2 or 0 in X.shape:
        raise ValueError(f"{label} must be a matrix with rows and columns, but got shape {X.shape}")
    return X


def _refuse(label, X, bad, expected, hint=""):
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise ValueError(f"{label} must {expected}, but {label}[{i}, {j}] is {X[i, j]:.3g}{hint}")


def _number(label, value, positive=False):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{label} must be a number, but got {value!r}")
    if not abs(value) < math.inf or value < 0 or (positive and value == 0):
        bound = "greater than 0" if positive else "at least 0"
        raise ValueError(f"{label} must be finite and {bound}, but got {value!r}")
    return float(value)


def _count(label, value, least=0):
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{label} must be a whole number, but got {value!r}")
    if value < least:
        raise ValueError(f"{label} must be at least {least}, but got {value}")
    return int(value)


# --------------------------------------------------------------------------
# Checking your own answers
# --------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What a check found.

    Attributes
    ----------
    kind : str
        "correct", "correct, with a note", "wrong" or "not attempted".
    label : str
        What was recognised, in a few words; empty if not attempted.
    text : str
        The same in a sentence or two.
    """

    kind: str
    label: str
    text: str

    def __str__(self):
        """Return the verdict as the student reads it."""
        return textwrap.fill(f"{self.kind}: {self.text}", 90)

    __repr__ = __str__


class WrongAnswer(AssertionError):
    """A wrong answer: the message is a hint, ``verdict`` the whole :class:`Verdict`."""

    def __init__(self, verdict):
        super().__init__(str(verdict))
        self.verdict = verdict


def check_matrix_factorization(f):
    """Check an answer to Exercise 1.

    The answer runs on problems of a few entries. One very short step shows which way
    it goes: whatever the order of the updates, that must be down the gradient. Longer
    steps tell the orders apart. An order that is not in the table is judged by where
    it ends, as the optimum is known: soft-thresholded singular values.

    Parameters
    ----------
    f : callable
        ``f(R, P, Q, K, steps, alpha, beta)`` that returns ``P`` and ``Q``.

    Returns
    -------
    Verdict

    Raises
    ------
    WrongAnswer
        If the answer is wrong; the message is a hint.
    TypeError
        If ``f`` is not a function.

    References
    ----------
    Cai, J.-F., Candes, E. J. and Shen, Z. (2010). A singular value thresholding
    algorithm for matrix completion. SIAM Journal on Optimization 20(4), 1956-1982.
    """
    return _check(_judge_matrix_factorization, f)


def check_multiplicative_update(f):
    """Check an answer to Exercise 2.

    The answer runs on problems of a few entries. Its first step is looked up among
    the right and the mistaken forms of the update; then the next ones must follow. A
    step that is not in the tables is judged by what the update promises: no negative
    entry, no rising error, a zero stays zero, and an exact factorization stays put.

    Parameters
    ----------
    f : callable
        ``f(R, P, Q, steps)`` that returns ``P`` and ``Q``.

    Returns
    -------
    Verdict

    Raises
    ------
    WrongAnswer
        If the answer is wrong; the message is a hint.
    TypeError
        If ``f`` is not a function.
    """
    return _check(_judge_multiplicative_update, f)


_HINTS = {  # for each mistake: what the numbers look like
    "entries with R <= 0 skipped": "only the positive entries of R have any effect. In ratings, 0 "
    'means "not rated"; here half of a centred face would vanish.',
    "start ignored": "P and Q are far from those that went in, after one very short step. Where "
    "does it start?",
    "error missing": "the step is the same however well P and Q fit already. Where is the error?",
    "error squared": "the step grows with the square of the error. The square is what should "
    "become small; its slope is something else.",
    "other features forgotten": "each feature is fitted as if there were no other. What does the "
    "sum in the error run over?",
    "sign of the gradient": "a factor moves uphill, and the error grows. Look at the signs.",
    "sign of beta": "the regularization pushes a factor away from zero. It is there to pull back.",
    "beta ignored": "the size of beta makes no difference to one of the factors, or to both.",
    "2 missing": "the data pull half as much as they should, beside beta. Take the derivative of "
    "the square again.",
    "one factor never changes": "{factor} comes back as it went in.",
    "Q untransposed": "Q goes in with shape {given} and comes back with {got}. If you turn it on "
    "its side, turn it back.",
    "K hard-coded": "it does not work for every K: not for K = {K}. Which loop should know K?",
    "steps ignored": "{what}. How often does the loop run, and when does it return?",
    "alpha ignored": "twice the alpha, and the same result. Where is alpha used?",
    "elementwise where a matrix product is needed": "* multiplies entry by entry, where the "
    "equation has a product of matrices.",
    "matrix product where elementwise is needed": "@ multiplies matrices, where the equation "
    "multiplies numbers: it has the same subscripts on both sides.",
    "transpose missing": "a product has the right matrices, but one of them is not turned. Write "
    "the shapes below each other: the inner numbers must agree.",
    "fraction upside down": "where the product of the factors is too small it shrinks, and where "
    "it is too large it grows. Which of the two belongs on top?",
    "additive step": "something is added to the factor. What does the name of the method say?",
    "old factor missing": "the fraction alone comes back. What is it the correction of?",
    "stale factors": "where it stops by itself, it returns older factors than with fewer steps. "
    "Which P and Q does it hold then?",
    "too slow": "no answer within {seconds} s, for matrices of about 30 entries. Is there a loop "
    "that never ends?",
    "no pair of factors": "it must end with a return of two matrices, P and Q.",
    "wrong shapes": "P and Q go in with shapes {given} and come back with {got}.",
    "not finite": "NaN or infinity comes back from a few short steps with small numbers.",
    "not the update": "{what}. Take one entry of P, work out its step by hand, and compare.",
}

_NOTES = {  # for what a right answer may do otherwise
    "both from the old values": "Both factors start from the old values, so the error can rise. "
    "When Q is updated with the new P, it never does.",
    "stops early": "It stops before the last step when the error is small enough.",
    "steps of another length": "Its steps are {length:.2g} times as long as the equations say (on "
    "a matrix of {N} x {M}), so alpha means something else.",
    "changes its arguments": "It changes the caller's {names}, so a second run starts elsewhere: "
    "P += ... writes into the old array, P = P + ... makes a new one.",
}


# What both checks share. A verdict can be reached anywhere: it is raised as _Settled.


class _Settled(Exception):
    """Ends a check; its argument is the verdict."""


def _wrong(label, **details):
    return _Settled(Verdict("wrong", label, _HINTS[label].format(**details)))


def _blank():
    return _Settled(Verdict("not attempted", "", "there is nothing to check yet."))


def _check(judge, f):
    """Ask the judge, with the answer's prints and warnings kept away and its time bounded."""
    if f is not ... and not callable(f):
        raise TypeError(f"f must be your function itself, without brackets, but got {f!r}")
    try:
        with (
            _time_limit(20),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            verdict = judge(_Answer(f))
    except _Settled as settled:
        (verdict,) = settled.args
    if verdict.kind == "wrong":
        raise WrongAnswer(verdict)
    return verdict


@contextlib.contextmanager
def _time_limit(seconds):
    """Interrupt the main thread after so many seconds, as Ctrl-C would."""
    late, done, lock = threading.Event(), threading.Event(), threading.Lock()

    def watch():
        while not done.wait(1 if late.is_set() else seconds):  # again, should it be swallowed
            with lock:
                if not done.is_set():
                    late.set()
                    _thread.interrupt_main()

    if threading.current_thread() is not threading.main_thread():  # no other can be interrupted
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            yield
        finally:
            with lock:
                done.set()
            if late.is_set():
                time.sleep(0.1)  # the last interrupt may still be on its way
    except (KeyboardInterrupt, _Settled):
        if not late.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
    if late.is_set():
        raise _wrong("too slow", seconds=seconds)


class _Answer:
    """A student's function, called on copies. What cannot be judged ends the check."""

    def __init__(self, f):
        self.f = f
        self.changed = set()

    def __call__(self, R, P, Q, *numbers):
        if self.f is ...:
            raise _blank()
        arguments = {"R": R.copy(), "P": P.copy(), "Q": Q.copy()}
        try:
            factors = self.f(*arguments.values(), *numbers)
        except (Exception, SystemExit) as error:
            unfinished = isinstance(error, NameError) and self.is_blank()
            if unfinished or type(error) is NotImplementedError:
                raise _blank() from None
            name, message = type(error).__name__, textwrap.shorten(str(error), 160)
            verdict = Verdict("wrong", name, f"it stops with {name}: {message}")
            raise _Settled(verdict) from None
        for name, X in zip("RPQ", (R, P, Q)):
            if not np.array_equal(X, arguments[name]):
                self.changed.add(name)
        if factors is None and self.is_blank():
            raise _blank()
        return self.pair(factors, P, Q)

    def is_blank(self):
        """Whether it never reads R, as in the blanks of the handout."""
        code = getattr(self.f, "__code__", None)
        if code is None or not code.co_varnames:
            return False
        read = " ".join(str(instruction.argval) for instruction in dis.get_instructions(code))
        return code.co_varnames[0] not in re.findall(r"\w+", read)

    def pair(self, factors, P, Q):
        if not isinstance(factors, (tuple, list)) or len(factors) != 2:
            raise _wrong("no pair of factors")
        try:
            new_P, new_Q = (np.asarray(X, float) for X in factors)
        except Exception:
            raise _wrong("no pair of factors") from None
        if new_P.shape == P.shape and new_Q.shape == Q.T.shape != Q.shape:
            raise _wrong("Q untransposed", given=Q.shape, got=new_Q.shape)
        if new_P.shape != P.shape or new_Q.shape != Q.shape:
            given, got = f"{P.shape} and {Q.shape}", f"{new_P.shape} and {new_Q.shape}"
            raise _wrong("wrong shapes", given=given, got=got)
        if not np.isfinite(new_P).all() or not np.isfinite(new_Q).all():
            raise _wrong("not finite")
        return new_P, new_Q

    def is_correct(self, label, text, notes):
        """Return the verdict on a right answer, with what else there is to say about it."""
        if self.changed:
            notes = {
                **notes,
                "changes its arguments": {"names": " and ".join(sorted(self.changed))},
            }
        if not notes:
            return Verdict("correct", label, text)
        said = " ".join(_NOTES[note].format(**details) for note, details in notes.items())
        return Verdict("correct, with a note", next(iter(notes)), f"{text} {said}")


def _random(N, M, K, draw):
    """Return a small problem of these shapes, the same every time."""
    rng = np.random.RandomState(N + M)
    return tuple(getattr(rng, draw)(*shape) for shape in ((N, M), (N, K), (M, K)))


def _near(new, old, tol=1e-3):
    return all(np.abs(X - Y).max() <= tol for X, Y in zip(new, old))


# Exercise 1: the entries that an update sees, times the order in which it goes


def _everything(N, M):
    return [(slice(None), slice(None))]


def _entries(N, M):
    return [([i], [j]) for i in range(N) for j in range(M)]


def _rows(N, M):
    return [([i], slice(None)) for i in range(N)]


def _columns(N, M):
    return [(slice(None), [j]) for j in range(M)]


_VISITS = {
    "full batch": ("full-batch gradient descent", _everything),
    # An entry waits only for those above it and to its left, so both orders give the same
    "online": ("online gradient descent, entry by entry, row by row or column by column", _entries),
    "a row at a time": ("gradient descent, a row of R at a time", _rows),
    "a column at a time": ("gradient descent, a column of R at a time", _columns),
}


def _both_old(r, p, q, alpha, beta):
    e = r - p @ q.T
    return p + alpha * (2 * e @ q - beta * p), q + alpha * (2 * e.T @ p - beta * q)


def _P_first(r, p, q, alpha, beta):
    e = r - p @ q.T
    p = p + alpha * (2 * e @ q - beta * p)
    return p, q + alpha * (2 * e.T @ p - beta * q)


def _recomputed(r, p, q, alpha, beta):
    p = p + alpha * (2 * (r - p @ q.T) @ q - beta * p)
    return p, q + alpha * (2 * (r - p @ q.T).T @ p - beta * q)


def _by_feature(update):
    def updates(r, p, q, alpha, beta):
        p, q = p.copy(), q.copy()
        for k in range(p.shape[1]):
            others = np.arange(p.shape[1]) != k
            rest = r - p[:, others] @ q[:, others].T  # what feature k is to explain
            p[:, [k]], q[:, [k]] = update(rest, p[:, [k]], q[:, [k]], alpha, beta)
        return p, q

    return updates


def _swapped(update):
    return lambda r, p, q, alpha, beta: update(r.T, q, p, alpha, beta)[::-1]


_ORDERS = {
    "P first": ("P first, then Q from the new P and the same residual", _P_first),
    "Q first": ("Q first, then P from the new Q and the same residual", _swapped(_P_first)),
    "both from the old values": ("both factors from the old values", _both_old),
    "error recomputed": ("P first, then Q from a new residual", _recomputed),
    "Q first, error recomputed": ("Q first, then P from a new residual", _swapped(_recomputed)),
    "feature by feature": ("feature by feature, each from a new residual", _by_feature(_P_first)),
    "feature by feature, both from the old values": (
        "feature by feature, both factors from the old values and a new residual",
        _by_feature(_both_old),
    ),
}

_STEPS = {  # of P, without the 2 and the regularization, that are not the gradient's
    "entries with R <= 0 skipped": lambda R, P, Q: ((R - P @ Q.T) * (R > 0)) @ Q,
    "error missing": lambda R, P, Q: R @ Q,
    "error squared": lambda R, P, Q: (R - P @ Q.T) ** 2 @ Q,
    "other features forgotten": lambda R, P, Q: R @ Q - P * np.sum(Q * Q, axis=0),
}

_SLIPS = {  # how they show in the pulls of the data and of beta, each of which should be 1
    "sign of the gradient": lambda data, charge: min(data) < -0.05,
    "sign of beta": lambda data, charge: min(charge) < -0.05,
    "beta ignored": lambda data, charge: min(charge) < 0.05,
    "2 missing": lambda data, charge: abs(min(data) - 0.5) < 0.03,
}


def _judge_matrix_factorization(answer):
    tall, wide, single = (_random(*shape, "randn") for shape in ((6, 5, 3), (4, 7, 2), (5, 4, 1)))
    numbers = 4, 0.03, 0.5
    try:
        directions = [_direction(answer, *tall), _direction(answer, *wide)]
        found = answer(*wide, 2, *numbers)
    except _Settled as settled:
        raise _of_shapes(settled, answer, "randn", _gradient_forms) from None
    try:
        directions.append(_direction(answer, *single))
    except _Settled:
        raise _wrong("K hard-coded", K=1) from None

    R, P, Q = wide
    for visits, order in itertools.product(_VISITS, _ORDERS):
        if _near(found, _descent(visits, order, R, P, Q, *numbers), tol=1e-4):
            notes = {"stops early": {}} if _stops_early(answer, visits, order) else {}
            label, text = f"{visits}, {order}", f"{_VISITS[visits][0]}, {_ORDERS[order][0]}"
            if label == "full batch, P first":
                text += ": the order of the handout's printed figures"
            return answer.is_correct(label, f"{text}.", notes)

    text = "gradient descent in an order of its own, and it reaches the optimum."
    if None in directions:  # it may choose at random which entries it sees
        if not _reaches_the_optimum(answer):
            raise _wrong("not the update", what="the step does not go down the gradient")
        return answer.is_correct("another method that works", text, {})
    length, charges = directions[1]
    notes = {}
    if abs(length - 1) > 0.03:
        notes["steps of another length"] = {"length": length, "N": len(P), "M": len(Q)}
    if charges[0] == charges[1] and any(
        _near(found, _descent("full batch", order, R, P, Q, 4, 0.03, 0.5 * charges[0]), tol=1e-4)
        for order in _ORDERS
    ):
        raise _wrong("not the update", what=f"beta counts {charges[0]:.0f} times")
    if not _reaches_the_optimum(answer):
        raise _wrong("not the update", what="one step is right, but many do not reach the optimum")
    return answer.is_correct("another method that works", text, notes)


def _descent(visits, order, R, P, Q, steps, alpha, beta):
    """Gradient descent over these entries and in this order."""
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        for i, j in _VISITS[visits][1](*R.shape):
            P[i], Q[j] = _ORDERS[order][1](R[i][:, j], P[i], Q[j], alpha, beta)
    return P, Q


def _direction(answer, R, P, Q):
    """Take one very short step; return its length, and how often it charges beta to P and Q.

    To first order in alpha every right answer does the same,
    ``P += alpha * (2 E Q - c beta P)``: c is 1 for a full batch, and ``M`` online.
    """
    K, alpha, beta = P.shape[1], 1e-5, 0.5
    scale = 1024  # the same problem in larger units, lest a rule for stopping thinks it small

    def ends(steps, alpha, P=P, Q=Q):
        big = R * scale**2, P * scale, Q * scale
        factors = answer(*big, K, steps, alpha / scale**2, beta * scale**2)
        return [X / scale for X in factors]

    def moved(steps, alpha):
        return [(X - Y) / alpha for X, Y in zip(ends(steps, alpha), (P, Q))]

    if _near(ends(1, alpha), ends(1, alpha, 2 * P, 2 * Q), tol=0):
        raise _wrong("start ignored")
    dP, dQ = one = moved(1, alpha)
    idle = ~dP.any(axis=0) & ~dQ.any(axis=0)
    if idle.all():
        if not any(X.any() for X in moved(3, alpha)):
            raise _blank()
        raise _wrong("steps ignored", what="with steps = 1 nothing moves")
    size = max(np.abs(X).max() for X in one)
    if _near(moved(1, 2 * alpha), (dP / 2, dQ / 2), tol=1e-6 * size):
        raise _wrong("alpha ignored")
    if idle.any():
        raise _wrong("K hard-coded", K=K)
    for name, d in (("P", dP), ("Q", dQ)):
        if not d.any():
            raise _wrong("one factor never changes", factor=name)

    E = R - P @ Q.T
    pulls = _pull(dP, E @ Q, P), _pull(dQ, E.T @ P, Q)
    if None in pulls:
        for (label, step), seen in itertools.product(_STEPS.items(), (R == R, R > 0)):
            charged = seen.sum(axis=1)[:, None] * P, seen.sum(axis=0)[:, None] * Q
            if _pull(dP, step(R, P, Q), charged[0]) or _pull(dQ, step(R.T, Q, P), charged[1]):
                raise _wrong(label)
    if alpha * size > 0.5:
        raise _wrong("start ignored")
    if None in pulls:
        return None
    three = max(np.abs(X).max() for X in moved(3, alpha)) / size
    if abs(three - 1) < 1e-6:
        raise _wrong("steps ignored", what="1 step or 3 steps, and the result is the same")
    if abs(three - 2) < 0.01:
        raise _wrong("steps ignored", what="it takes one step more than it should")
    data = np.array([of_data / 2 for of_data, _ in pulls])
    charge = np.array([-of_beta / beta for _, of_beta in pulls])
    charges = np.round(charge / data)
    if abs(data[0] - data[1]) < 0.03 * data[0] and np.allclose(charge, charges * data, rtol=0.03):
        if np.all(1 <= charges) and np.all(charges <= R.shape[::-1]):
            if min(charges) == 1 or abs(data[0] - 1) < 0.03:
                return data[0], charges
    for label, shows in _SLIPS.items():
        if shows(data, charge):
            raise _wrong(label)
    counts = f"the data count {data[0]:.2g} times and beta {charge[0]:.2g} times"
    raise _wrong("not the update", what=f"in the step of P, {counts}")


def _pull(d, data, factor):
    """Return a, b of ``d = a * data + b * factor``, or None where no numbers fit."""
    terms = np.column_stack([data.ravel(), factor.ravel()])
    pull = np.linalg.lstsq(terms, d.ravel(), rcond=None)[0]
    rest = d.ravel() - terms @ pull
    return tuple(pull) if np.linalg.norm(rest) < 0.02 * np.linalg.norm(d) else None


def _stops_early(answer, visits, order):
    """Start where the error is small, and see whether it goes all the way."""
    R, P, Q = _random(6, 5, 3, "randn")
    R = P @ Q.T + 1e-4 * R
    numbers = 4, 0.02, 0.0
    last = _descent(visits, order, R, P, Q, *numbers)
    return not _near(answer(R, P, Q, 3, *numbers), last, tol=0.05 * np.abs(last[0] - P).max())


def _reaches_the_optimum(answer):
    """Run for long, and compare the objective with the closed form of its optimum."""
    sizes = np.array([3.0, 2.0])  # the singular values of R
    rng = np.random.RandomState(0)
    U, V = (np.linalg.qr(rng.randn(n, 2))[0] for n in (5, 4))
    R, P, Q = (U * sizes) @ V.T, rng.rand(5, 2), rng.rand(4, 2)
    length, charges = _direction(answer, R, P, Q) or (1, np.array([4, 5]))
    beta = 1 / math.sqrt(np.prod(charges))  # each singular value shrinks by half of this root
    beta_P, beta_Q = beta * charges
    optimum = np.sum(0.25 + (sizes - 0.5))
    P, Q = answer(R, P, Q, 2, 1000, min(0.01 / length, 1.0), beta)
    reached = np.sum((R - P @ Q.T) ** 2) + (beta_P * np.sum(P**2) + beta_Q * np.sum(Q**2)) / 2
    return reached < 1.05 * optimum


# Exercise 2: what a factor is multiplied by, and in which order it goes


def _simultaneous_step(R, P, Q):
    return multiplicative_step(R, P, Q)[0], multiplicative_step(R.T, Q, P)[0]


def _Q_first_step(R, P, Q):
    return multiplicative_step(R.T, Q, P)[::-1]


_FIRST = {  # from which Q and from which P: label, sentence, step, notes
    ("old", "new"): ("P first", "P first, then Q from the new P.", multiplicative_step, {}),
    ("new", "old"): ("Q first", "Q first, then P from the new Q.", _Q_first_step, {}),
    ("old", "old"): (
        "both from the old values",
        "as the equations literally say.",
        _simultaneous_step,
        {"both from the old values": {}},
    ),
}

_RULES = [  # label (none for the right one), new factor from the old one and the two products
    ("", lambda X, top, bottom: X * top / bottom),
    ("fraction upside down", lambda X, top, bottom: X * bottom / top),
    ("additive step", lambda X, top, bottom: X + top / bottom),
    ("additive step", lambda X, top, bottom: X + top - bottom),
    ("additive step", lambda X, top, bottom: X + X * top / bottom),
    ("old factor missing", lambda X, top, bottom: top / bottom),
    ("one factor never changes", lambda X, top, bottom: X),
]


def _judge_multiplicative_update(answer):
    tall, wide = (_random(*shape, "rand") for shape in ((6, 5, 3), (4, 7, 2)))
    try:
        orders = {_first_step(answer, *tall), _first_step(answer, *wide)}
    except _Settled as settled:
        raise _of_shapes(settled, answer, "rand", _update_forms) from None
    if len(orders) > 1 or None in orders:
        _keeps_its_promises(answer, *tall)
        text = "multiplicative, in an order of its own: the error never rises."
        return answer.is_correct("another method that works", text, {})
    label, text, step, notes = _FIRST[orders.pop()]
    _goes_on(answer, step, *tall)
    return answer.is_correct(label, f"multiplicative updates, {text}", notes)


def _first_step(answer, R, P, Q):
    """Return from which Q and from which P the first step starts, or None if it is not known."""
    one, three = answer(R, P, Q, 1), answer(R, P, Q, 3)
    if _near(three, (P, Q), tol=0):
        if _near(answer(R * 100, P * 10, Q * 10, 3), (P * 10, Q * 10), tol=0):
            raise _blank()
        raise _wrong("not the update", what="whether it moves depends on the units of R")
    if _near(one, (P, Q), tol=0):
        raise _wrong("steps ignored", what="with steps = 1 nothing moves")
    if _near(one, three, tol=1e-9):
        raise _wrong("steps ignored", what="1 step or 3 steps, and the result is the same")
    if any(_near(one, step(R, *step(R, P, Q))) for _, _, step, _ in _FIRST.values()):
        raise _wrong("steps ignored", what="it takes one step more than it should")
    new_P, new_Q = one
    order = _origin(new_P, R, P, Q, new_Q, "P"), _origin(new_Q, R.T, Q, P, new_P, "Q")
    return None if None in order else order


def _origin(new, R, P, Q, new_Q, name):
    """Return which Q the new P comes from: "old", "new", or None where no rule leads there."""
    for label, rule in _RULES:
        for origin, Y in (("old", Q), ("new", new_Q)):
            if _near([new], [rule(P, R @ Y, P @ (Y.T @ Y))]):
                if label:
                    raise _wrong(label, factor=name)
                return origin
    return None


def _goes_on(answer, step, R, P, Q):
    """More steps must lead further along the path that the first step begins."""
    path = [(P, Q)]
    for _ in range(500):
        path.append(step(R, *path[-1]))

    def place(steps):
        found = answer(R, P, Q, steps)
        distances = [max(np.abs(X - Y).max() for X, Y in zip(found, point)) for point in path]
        if min(distances) > 0.01:
            raise _wrong("not the update", what="the first step is right, but not all of the next")
        return int(np.argmin(distances))

    stop = place(500)
    for steps in (*range(2, 10), *range(stop + 1, min(stop + 10, 500))):
        there = place(steps)
        if there > stop + 1 and not _near(path[there], path[stop]):
            raise _wrong("stale factors")


def _keeps_its_promises(answer, R, P, Q):
    def errors(*steps):
        return [squared_error(R, *answer(R, P, Q, number)) for number in steps]

    start, best = (squared_error(R, *multiplicative_update(R, P, Q, n)) for n in (0, 500))
    with_zero = P.copy()
    with_zero[0, 0] = 0
    kept_P, kept_Q = answer(P @ Q.T, P, Q, 3)
    broken = {
        "an entry goes negative": min(X.min() for X in answer(R, P, Q, 20)) < 0,
        "the error rises": np.any(np.diff([start, *errors(*range(1, 21))]) > 1e-6),
        "the error stays large": errors(500)[0] > best + 0.1 * (start - best),
        "a zero does not stay zero": abs(answer(R, with_zero, Q, 3)[0][0, 0]) > 1e-3,
        "an exact factorization changes": not _near([kept_P @ kept_Q.T], [P @ Q.T], tol=0.01),
    }
    for what, holds in broken.items():
        if holds:
            raise _wrong("not the update", what=what)


# Products of the wrong form stop with an error about shapes. On square matrices they run,
# and can be told apart.


def _of_shapes(settled, answer, draw, forms):
    """Return the verdict on products of the wrong form, or the one that there is."""
    if settled.args[0].label != "ValueError":
        return settled
    try:
        for labels in forms(answer, *_random(4, 4, 4, draw)):
            if labels and "" not in labels:
                return _wrong(labels[0])
    except _Settled:
        pass
    return settled


def _products(A, B):
    """Yield the product of two square matrices, and its wrong forms with their labels."""
    for X, Y in itertools.product((A, A.T), (B, B.T)):
        yield "" if X is A and Y is B else "transpose missing", X @ Y
        yield "elementwise where a matrix product is needed", X * Y


def _gradient_forms(answer, R, P, Q):
    """Yield the forms that fit the step of P, then those that fit the step of Q."""
    new_P, new_Q = answer(R, P, Q, 4, 1, 1e-5, 0.5)
    for new, X, data, Y in ((new_P, P, R, Q), (new_Q, Q, R.T, P)):
        yield [
            label or other
            for label, product in _products(X, Y.T)
            for other, gradient in _products(data - product, Y)
            if _pull(new - X, gradient, X)
        ]


def _update_forms(answer, R, P, Q):
    """Yield the forms that fit the new P, then those that fit the new Q."""
    new_P, new_Q = answer(R, P, Q, 1)
    for new, X, data, others in ((new_P, P, R, (Q, new_Q)), (new_Q, Q, R.T, (P, new_P))):
        labels = []
        for Y in others:
            top, bottom = data @ Y, X @ Y.T @ Y
            for mixed in (X @ (top / bottom), X.T @ (top / bottom), X @ top / bottom):
                if _near([new], [mixed]):
                    labels.append("matrix product where elementwise is needed")
            bottoms = [(a or b, W) for a, V in _products(X, Y.T) for b, W in _products(V, Y)]
            bottoms += [(a or b, W) for a, V in _products(Y.T, Y) for b, W in _products(X, V)]
            for (label, top), (other, bottom) in itertools.product(_products(data, Y), bottoms):
                if _near([new], [X * top / bottom]):
                    labels.append(label or other)
        yield labels
