"""Time the functions against what one would use instead, and against the limit.

    python -m pip install -r tests/tools/requirements-benchmark.txt
    python tests/tools/benchmark.py --write

prints the page ``BENCHMARK.md`` and, with ``--write``, puts it and its figure into this folder, or
the folder named. The rows about faces need the Olivetti faces, and say so without them. ``--quick``
tries everything once, on small data: to see that it runs, not how fast.
"""

import argparse
import os
import platform
import sys
import textwrap
import time
import warnings
from functools import partial
from pathlib import Path

import numba
import numpy as np
import sklearn
from threadpoolctl import threadpool_info

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent)]

import oracles  # noqa: E402
from oracles import problem  # noqa: E402

import mf_solutions as mf  # noqa: E402

ALPHA, BETA = 1e-5, 0.02
SEEDS = 1, 2, 3, 4, 5

TOP = """\
# How fast, and how large

Written by `python tests/tools/benchmark.py --write` on {machine}.

Medians of {rounds} runs in turn with what stands against them, and the range. A step has to compute
`R @ Q` and `R.T @ P`; what these two take alone, in the same run, is its limit. (scikit-learn
computes `P.T @ R` instead, which some BLAS kernels do faster.) In parentheses: what we wanted.
"""

HALS = """
`hals` against scikit-learn's `cd`, from {n} starts each (`RandomState(seed)`, seeds 1 to {n}). It
runs until its error is 1.01 x the one with which `cd` ends by its default settings, at most 200
iterations. First against `cd` stopped at that error too, then against all of its run.
"""

FIGURE = """
![Time of a step against the size of the data, and of the two products alone](benchmark.png)

A step's time grows as a power of `N M` (K = {K}, from {first:,} to {last:,} entries): {slopes}.

Where a row of `hals` is missed, the rest of its step are its sweeps: matrix-vector products, which
a second core does not help. With one thread a large step takes about twice its two products.
`sgd` makes one wave at a time, about ten array operations each, and numba's loop none.

All but `sgd` also take a `numpy.memmap`, a SciPy sparse matrix or a Dask array and never put it
together: `python -m pytest -s tests/test_large.py` shows it, and prints the memory it took. What a
step reads and computes is at the top of `mf_solutions.py`.
"""


def wrapped(text):
    """Break lines that are too long for a page where they are prose."""
    lines = text.splitlines()
    prose = [textwrap.fill(line, 100) if len(line) > 100 else line for line in lines]
    return "\n".join(prose) + "\n"


def two_products(R, P, Q):
    """The least that a step has to compute."""
    return R @ Q, R.T @ P


# Timing


def alternate(rounds, *functions):
    """Time the functions in turn, so that whatever else the machine does is in all of them.

    Returns the seconds of a call, one row a function; each value is a mean over 20 ms or more.
    """
    loops = []
    for function in functions:
        once = seconds(function, 1)
        loops.append(max(1, round(0.02 / once)))
    times = [list(map(seconds, functions, loops)) for _ in range(rounds)]
    return np.transpose(times)


def seconds(function, loops):
    start = time.perf_counter()
    for _ in range(loops):
        function()
    return (time.perf_counter() - start) / loops


def in_ms(times):
    return f"{1e3 * np.median(times):.3g} ms"


def judged(values, at_least=0, at_most=np.inf):
    """Return the median, the range if there is one, and whether it is what was wanted."""
    middle = np.median(values)
    text = f"{middle:.2f} x"
    if np.size(values) > 1:
        text += f" [{np.min(values):.2f}, {np.max(values):.2f}]"
    wanted = []
    if at_least:
        wanted.append(f">= {at_least:.3g}")
    if at_most < np.inf:
        wanted.append(f"<= {at_most:.3g}")
    if not wanted:
        return text
    missed = "" if at_least <= middle <= at_most else ": **missed**"
    return f"{text} ({wanted[0]}{missed})"


class Page:
    """Text that is printed as it comes, and kept."""

    def __init__(self, rounds):
        self.rounds, self.text = rounds, ""

    def say(self, text):
        print(text, flush=True)
        self.text += text + "\n"

    def line(self, *cells):
        self.say("| " + " | ".join(cells) + " |")

    def header(self, *cells):
        self.line(*cells)
        self.line(*["---"] * len(cells))

    def row(self, work, ours, against, theirs, wanted=0, steps=(1, 1), at=None, limit=np.inf):
        """Time ours and theirs, each so many steps, and the two products at these matrices."""
        least = partial(two_products, *at) if at else theirs
        our_time, their_time, least_time = alternate(self.rounds, ours, theirs, least)
        our_time /= steps[0]
        their_time /= steps[1]
        over = judged(our_time / least_time, at_most=limit) if at else ""
        faster = judged(their_time / our_time, wanted)
        self.line(work, in_ms(our_time), over, against, in_ms(their_time), faster)


# The rows


def size(R, P):
    return f"{R.shape[0]} x {R.shape[1]}, K = {P.shape[1]}"


def sgd_rows(page, small, large):
    def epochs(number, R, P, Q):
        return partial(mf.sgd, R, P, Q, number, ALPHA, BETA)

    R, P, Q = problem(*small)
    loop = partial(oracles.plain_epoch, R, P, Q, ALPHA, BETA)
    work = f"`sgd`, an epoch of ten, {size(R, P)}"
    page.row(work, epochs(10, R, P, Q), "the loop in Python", loop, 30, steps=(10, 1))

    R, P, Q = problem(*large)
    one, work = epochs(1, R, P, Q), f"`sgd`, an epoch, {size(R, P)}"
    compiled = partial(numba.njit(oracles.plain_epoch), R, P, Q, ALPHA, BETA)
    page.row(work, one, "the loop in numba", compiled, 1 / 5)
    half = np.where(np.random.RandomState(5).rand(*R.shape) < 0.5, np.nan, R)
    page.row(f"{work}, half missing", epochs(1, half, P, Q), "nothing missing", one, 1 / 1.2)


def gradient_rows(page, shape, **wanted):
    R, P, Q = problem(*shape)
    R = (R - R.mean()).astype(np.float32)  # float32 data and float64 factors, as in the notebook
    converted = R.astype(float)  # which gradient_descent does once
    ours = partial(mf.gradient_step, converted, P, Q, ALPHA, BETA)
    wanted["at"] = converted, P, Q
    for data in (R, converted):
        work = f"`gradient_descent`, a step, {size(R, P)}, {data.dtype}"
        theirs = partial(oracles.textbook_step, data, P, Q, ALPHA, BETA)
        page.row(work, ours, "the textbook's three lines", theirs, **wanted)


def log_row(page, shape, steps):
    """The same with and without a log: what it costs to know the error of each step."""
    R, P, Q = problem(*shape)
    plain = partial(mf.gradient_descent, R, P, Q, steps, ALPHA, BETA)
    log = mf.ErrorLog(R, P, Q)
    work = f"`gradient_descent` with `ErrorLog`, a step of {steps}, {size(R, P)}"
    page.row(work, partial(plain, log), "without", plain, steps=(steps, steps))


def multiplicative_row(page, shape, steps, **wanted):
    R, P, Q = problem(*shape)
    ours = partial(mf.multiplicative_update, R, P, Q, steps)
    options = {"solver": "mu", "tol": 0, "max_iter": steps}
    theirs = partial(oracles.scikit_learn, R, P, Q, **options)
    work = f"`multiplicative_update`, a step of {steps}, {size(R, P)}"
    wanted |= {"steps": (steps, steps), "at": (R, P, Q)}
    page.row(work, ours, 'scikit-learn\'s `"mu"`', theirs, **wanted)


def hals_row(page, name, shape, median=0, worst=0, limit=np.inf):
    N, M, K = shape
    R = problem(N, M, K)[0] if name == "uniform" else faces(N, M)
    work = f"{name}, {N} x {M}, K = {K}"
    if R is None:
        page.line(work, *[""] * 6, "the Olivetti faces are not here")
        return
    runs = []
    for seed in SEEDS:
        rng = np.random.RandomState(seed)
        runs.append(hals_run(R, rng.rand(N, K), rng.rand(M, K), page.rounds))
    steps, iterations, over, to_the_same, whole = zip(*runs)
    page.line(
        work,
        ", ".join(map(str, steps)),
        judged(over, at_most=limit),
        ", ".join(map(str, iterations)),
        judged(to_the_same),
        judged(min(to_the_same)),
        judged(whole, median),
        judged(min(whole), worst),
    )


def hals_run(R, P, Q, rounds):
    """Return the steps to the error wanted, those of ``cd``, and three ratios of times."""
    cd = partial(oracles.scikit_learn, R, solver="cd")
    target = 1.01 * mf.squared_error(R, *cd(P, Q)[:2])
    log = mf.ErrorLog(R, P, Q)
    mf.hals(R, P, Q, 100, callback=log)
    steps = next(step for step, error in enumerate(log.errors) if error <= target)
    factors, iterations = (P, Q), 0
    while mf.squared_error(R, *factors) > target:
        *factors, _ = cd(*factors, tol=0, max_iter=1)
        iterations += 1
    ours, to_the_same, whole, products = alternate(
        rounds if R.size < 1e5 else min(rounds, 3),  # the large ones take seconds
        partial(mf.hals, R, P, Q, steps),
        partial(cd, P, Q, tol=0, max_iter=iterations),
        partial(cd, P, Q),
        partial(two_products, R, P, Q),
    )
    ratios = ours / steps / products, to_the_same / ours, whole / ours
    return steps, iterations, *map(np.median, ratios)


def faces(count, pixels):
    """Return the first faces, resized, or None where they are not to be had."""
    from skimage.transform import resize

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bunch = mf.fetch_faces()
    if bunch.name != mf.OLIVETTI:
        return None
    images, side = bunch.images[:count].transpose(1, 2, 0), round(pixels**0.5)
    images = images if len(images) == side else resize(images, (side, side))
    return images.reshape(pixels, count).T.astype(float)


# How it grows


def growth(page, shapes, folder):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    entries = [N * M for N, M, _ in shapes]
    cost = []
    for shape in shapes:
        R, P, Q = problem(*shape)
        functions = {
            "gradient_descent": partial(mf.gradient_step, R, P, Q, ALPHA / R.size, BETA),
            "sgd": partial(mf.sgd_epoch, *mf.waves(R, ALPHA / R.size), P, Q, BETA),
            "multiplicative_update": partial(mf.multiplicative_step, R, P, Q),
            "hals": partial(mf.hals_step, R, P, Q, 4, 0.5),
            "the two products alone": partial(two_products, R, P, Q),
        }
        times = alternate(min(page.rounds, 5), *functions.values())
        cost.append(np.median(times, axis=1))
    slopes = np.polyfit(np.log(entries), np.log(cost), 1)[0]
    texts = ", ".join(f"{name} {slope:.2f}" for name, slope in zip(functions, slopes))
    told = FIGURE.format(K=shapes[0][2], first=entries[0], last=entries[-1], slopes=texts)
    page.say(wrapped(told))
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, times in zip(functions, np.transpose(cost)):
        look = "k--" if "alone" in name else "o-"
        axis.loglog(entries, 1e3 * times, look, label=name)
    axis.set(xlabel=f"entries of R, N M (K = {shapes[0][2]})", ylabel="milliseconds a step")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    if folder:
        figure.savefig(folder / "benchmark.png", dpi=80)
    plt.close(figure)


def machine():
    """Say what it ran on, as far as it shows in the numbers."""
    info = Path("/proc/cpuinfo")
    model = platform.processor()
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if "model name" in line]
        model = lines[0].split(": ")[1] if lines else model
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    known = []
    for library in threadpool_info():
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            known += [library[key] for key in ("internal_api", "version", "architecture")]
            known.append(f"threads: {library['num_threads']}")
    return (
        f"{model}, {os.cpu_count()} cores, load {load} at the start; Python "
        f"{platform.python_version()}, NumPy {np.__version__} ({', '.join(map(str, known))}), "
        f"scikit-learn {sklearn.__version__}, numba {numba.__version__}"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small data, one run: a smoke test")
    parser.add_argument("--rounds", type=int, default=9, help="alternating runs (default: 9)")
    parser.add_argument("--write", nargs="?", const=HERE, type=Path, help="folder for the page")
    options = parser.parse_args(arguments)
    quick, folder = options.quick, options.write
    page = Page(1 if quick else options.rounds)
    page.say(wrapped(TOP.format(machine=machine(), rounds=page.rounds)))
    page.header("function", "time", "over its two products", "against", "time", "times as fast")
    small = (10, 20, 2) if quick else (100, 256, 2)
    large = (20, 30, 4) if quick else (400, 4096, 20)
    sgd_rows(page, small, large)
    gradient_rows(page, small, wanted=1.7)
    gradient_rows(page, large, limit=1.2)
    log_row(page, small, 200)
    multiplicative_row(page, small, 200, wanted=1.2)
    multiplicative_row(page, large, 50, limit=1.2)

    page.say(HALS.format(n=len(SEEDS)))
    page.header(
        *("data", "steps", "a step over its two products", "iterations of `cd`"),
        *("times as fast, median", "worst", "as its whole run, median", "worst"),
    )
    if quick:
        hals_row(page, "uniform", (20, 30, 2))
        hals_row(page, "faces", (20, 64, 2))
    else:
        hals_row(page, "faces", (400, 4096, 40), 4.5, 4, limit=2.2)
        hals_row(page, "faces", (100, 256, 16), 1.1, 0.9)
        hals_row(page, "faces", (100, 256, 2), worst=1.5)
        hals_row(page, "uniform", (400, 4096, 40), worst=9)
    factors, K = ((1, 2), 4) if quick else ((5, 10, 20, 40), 16)
    growth(page, [(20 * n, 80 * n, K) for n in factors], folder)
    if folder:
        (folder / "BENCHMARK.md").write_text(page.text, encoding="utf-8")


if __name__ == "__main__":
    main()
