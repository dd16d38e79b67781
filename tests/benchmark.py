"""Time the kernels against what one would use instead, and show how cost grows.

    python -m pip install -r tests/requirements-benchmark.txt
    python tests/benchmark.py

prints a table and draws ``benchmark.png``. ``--quick`` tries everything once, on
small data: to see that it runs, not how fast.
"""

import argparse
import functools
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pyperf
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mf_solutions as mf  # noqa: E402

try:
    import numba
except ImportError:
    numba = None

warnings.simplefilter("ignore", ConvergenceWarning)

ALPHA, BETA = 1e-5, 0.02


# What the kernels are measured against


def scalar_epoch(R, P, Q, alpha, beta):
    """The online updates, as the notebook's exercise writes them."""
    K = P.shape[1]
    P, Q = P.copy(), Q.copy()
    for i in range(len(P)):
        for j in range(len(Q)):
            e = R[i, j] - sum(P[i, k] * Q[j, k] for k in range(K))
            for k in range(K):
                p, q = P[i, k], Q[j, k]
                P[i, k] = p + alpha * (2 * e * q - beta * p)
                Q[j, k] = q + alpha * (2 * e * p - beta * q)
    return P, Q


def plain_epoch(R, P, Q, alpha, beta):
    """Do the same in a form that numba compiles to its fastest."""
    P, Q = P.copy(), Q.copy()
    K = P.shape[1]
    for i in range(len(P)):
        for j in range(len(Q)):
            estimate = 0.0
            for k in range(K):
                estimate += P[i, k] * Q[j, k]
            e = R[i, j] - estimate
            for k in range(K):
                p, q = P[i, k], Q[j, k]
                P[i, k] = p + alpha * (2 * e * q - beta * p)
                Q[j, k] = q + alpha * (2 * e * p - beta * q)
    return P, Q


def textbook_step(R, P, Q, alpha, beta):
    E = R - P @ Q.T
    P = P + alpha * (2 * E @ Q - beta * P)
    Q = Q + alpha * (2 * E.T @ P - beta * Q)
    return P, Q


def scikit_learn(R, P, Q, **options):
    model = NMF(P.shape[1], init="custom", **options)
    W = model.fit_transform(R, W=P.copy(), H=Q.T.copy())
    return W, model.components_.T, model.n_iter_


# Timing. pyperf's Runner gives each benchmark processes of its own, one after the other, which is
# no way to compare two on a machine that others use as well. So the runs alternate here, in one
# process, and pyperf keeps the clock and the values, and knows the machine.


def alternate(functions, rounds, least=0.02):
    """Time the functions in turn; each value lasts at least this long."""
    loops = []
    for function in functions:
        function()
        once = seconds(function, 1)
        loops.append(max(1, round(least / once)))
    values = [[seconds(*pair) for pair in zip(functions, loops)] for _ in range(rounds)]
    runs = (pyperf.Run(v, metadata={"name": "run"}, collect_metadata=False) for v in zip(*values))
    return [pyperf.Benchmark([run]) for run in runs]


def seconds(function, loops):
    start = pyperf.perf_counter()
    for _ in range(loops):
        function()
    return (pyperf.perf_counter() - start) / loops


class Table:
    """Rows of a Markdown table, printed as they come."""

    def __init__(self, rounds):
        self.rounds = rounds
        print(f"\nMedians of {rounds} alternating runs, and [least, most]:\n")
        print("| kernel | work | time | against | time | wanted | reached |")
        print("|---|---|---|---|---|---|---|", flush=True)

    def row(self, kernel, work, ours, against, theirs, faster=None, slower=None, per=(1, 1)):
        """Add a row; ``per`` tells how many units of work a call of either does."""
        benchmarks = alternate([ours, theirs], self.rounds)
        (a, b) = (np.array(x.get_values()) / n for x, n in zip(benchmarks, per))
        ratio = np.median(b) / np.median(a)
        if faster is None:
            wanted, reached, good = f"<= {slower:g} x its time", 1 / ratio, 1 / ratio <= slower
            spread = a / b
        else:
            wanted, reached, good = f">= {faster:g} x faster", ratio, ratio >= faster
            spread = b / a
        verdict = "" if good else " **missed**"
        self.line(
            [kernel, work, times(a), against, times(b), wanted]
            + [f"{reached:.2f} x [{spread.min():.2f}, {spread.max():.2f}]{verdict}"]
        )

    def line(self, cells):
        print("| " + " | ".join(cells) + " |", flush=True)


def times(values):
    unit, scale = next(
        (unit, scale)
        for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6))
        if np.median(values) * scale >= 1 or unit == "us"
    )
    middle, least, most = (scale * f(values) for f in (np.median, np.min, np.max))
    return f"{middle:.3g} {unit} [{least:.3g}, {most:.3g}]"


# The rows


def problem(N, M, K, seed=0):
    rng = np.random.RandomState(seed)
    return [rng.rand(*shape) for shape in ((N, M), (N, K), (M, K))]


def size(R, P):
    return f"{R.shape[0]} x {R.shape[1]}, K={P.shape[1]}"


def half_missing(R):
    return np.where(np.random.RandomState(5).rand(*R.shape) < 0.5, np.nan, R)


def same(got, expected, rtol):
    for X, Y in zip(got, expected):
        np.testing.assert_allclose(X, Y, rtol=0, atol=rtol * np.abs(Y).max())


def sgd_rows(table, small, large):
    R, P, Q = problem(*small)
    same(mf.sgd(R, P, Q, 1, ALPHA, BETA), scalar_epoch(R, P, Q, ALPHA, BETA), 0)
    table.row(
        "`sgd`",
        f"an epoch of ten, {size(R, P)}",
        lambda: mf.sgd(R, P, Q, 10, ALPHA, BETA),
        "scalar triple loop",
        lambda: scalar_epoch(R, P, Q, ALPHA, BETA),
        faster=30,
        per=(10, 1),
    )
    X, A, B = problem(*large)
    if numba is None:
        table.line(
            ["`sgd`", f"one epoch, {size(X, A)}", "", "numba", "not installed", "", "skipped"]
        )
    else:
        compiled = numba.njit(plain_epoch)
        same(mf.sgd(X, A, B, 1, ALPHA, BETA), compiled(X, A, B, ALPHA, BETA), 0)
        table.row(
            "`sgd`",
            f"one epoch, {size(X, A)}",
            lambda: mf.sgd(X, A, B, 1, ALPHA, BETA),
            "the loop in numba",
            lambda: compiled(X, A, B, ALPHA, BETA),
            slower=6,
        )
    for data, P_start, Q_start in ((R, P, Q), (X, A, B)):
        missing = half_missing(data)
        table.row(
            "`sgd`",
            f"half missing, {size(data, P_start)}",
            functools.partial(mf.sgd, missing, P_start, Q_start, 1, ALPHA, BETA),
            "nothing missing",
            functools.partial(mf.sgd, data, P_start, Q_start, 1, ALPHA, BETA),
            slower=1.5,
        )


def gradient_rows(table, shape, faster):
    R, P, Q = problem(*shape)
    R = (R - R.mean()).astype(np.float32)  # float32 data and float64 factors, as in the notebook
    converted = R.astype(float)  # which gradient_descent does once
    for label, data in (("float32 data", R), ("float64 data", converted)):
        table.row(
            "`gradient_descent`",
            f"a step, {size(R, P)}, {label}",
            lambda: mf.gradient_step(converted, P, Q, ALPHA, BETA),
            "textbook, three lines",
            lambda data=data: textbook_step(data, P, Q, ALPHA, BETA),
            faster=faster,
        )


def multiplicative_row(table, shape, steps, faster):
    R, P, Q = problem(*shape)
    theirs = functools.partial(scikit_learn, R, P, Q, solver="mu", tol=0, max_iter=steps)
    same(mf.multiplicative_update(R, P, Q, steps), theirs()[:2], 1e-12)
    table.row(
        "`multiplicative_update`",
        f"{steps} steps, {size(R, P)}",
        lambda: mf.multiplicative_update(R, P, Q, steps),
        'scikit-learn, `"mu"`',
        theirs,
        faster=faster,
    )


def hals_row(table, name, R, P, Q, faster):
    theirs = functools.partial(scikit_learn, R, P, Q, solver="cd", tol=1e-4, max_iter=200)
    W, H, iterations = theirs()
    target = 1.01 * mf.squared_error(R, W, H)
    steps = steps_until(target, R, P, Q)
    table.row(
        "`hals`",
        f"to 1.01 x the error, {name}, {size(R, P)} ({steps} steps)",
        lambda: mf.hals(R, P, Q, steps),
        f'scikit-learn, `"cd"` ({iterations} iterations)',
        theirs,
        faster=faster,
    )


def steps_until(target, R, P, Q):
    steps = 0
    while mf.squared_error(R, P, Q) > target:
        P, Q = mf.hals(R, P, Q, 1)
        steps += 1
    return steps


def faces(side, count):
    """Return the first faces, resized, or None where they are not to be had."""
    from skimage.transform import resize

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bunch = mf.fetch_faces()
    if bunch.name != mf.OLIVETTI:
        return None
    images = bunch.images[:count].transpose(1, 2, 0)
    if images.shape[0] != side:
        images = resize(images, (side, side))
    return images.reshape(-1, count).T.astype(float)


def hals_rows(table, quick):
    shapes = (
        [(20, 30, 2, 0)] if quick else [(100, 256, 2, 1), (100, 256, 16, 1), (400, 4096, 40, 4)]
    )
    for N, M, K, faster in shapes:
        R, P, Q = problem(N, M, K)
        hals_row(table, "uniform", R, P, Q, faster)
        if quick:
            continue
        R = faces(64 if M == 4096 else 16, N)
        if R is None:
            table.line(["`hals`", f"the Olivetti faces, K={K}", "", "", "not here", "", "skipped"])
            continue
        rng = np.random.RandomState(1)
        hals_row(table, "faces", R, rng.rand(N, K), rng.rand(M, K), faster)


def notebook_row(table):
    """CPU time of a full nbval run, and of a kernel that only imports."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "imports.ipynb")
        path.write_text(imports_only())
        full = cpu_of([sys.executable, "-m", "pytest", "-q", "--nbval", "week5_tutorial.ipynb"])
        bare = cpu_of([sys.executable, "-m", "jupyter", "execute", str(path)])
    verdict = "" if full < 60 else " **missed**"
    table.line(
        ["notebook", "a full nbval run", f"{full:.1f} s of CPU", "a kernel that only imports"]
        + [f"{bare:.1f} s of CPU", "< 60 s of CPU", f"{full:.1f} s, {full / bare:.1f} x{verdict}"]
    )


def imports_only():
    import nbformat

    notebook = nbformat.read(ROOT / "week5_tutorial.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "import mf_solutions" in cell.source)
    lines = [
        line
        for line in cell.source.splitlines()
        if line.startswith(("%matplotlib", "import ", "from ")) and "mf_solutions" not in line
    ]
    cell.source, cell.outputs = "\n".join(lines), []
    notebook.cells = [cell]
    return nbformat.writes(notebook)


def cpu_of(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


# How low and how steep it goes


def products(shapes, rounds):
    """Print how much of a step the two products with R are: what is left when nothing else is."""
    print("\nOf a step, R @ Q and R.T @ P alone are:")
    for shape in shapes:
        R, P, Q = problem(*shape)
        names = ("gradient_descent", "multiplicative_update", "hals")
        steps = [one_step(name, R, P, Q) for name in names]
        alone, *whole = alternate([lambda R=R, P=P, Q=Q: (R @ Q, R.T @ P), *steps], rounds)
        parts = ", ".join(
            f"{alone.median() / step.median():.0%} of {name}" for name, step in zip(names, whole)
        )
        print(f"  {size(R, P):22} {times(alone.get_values())}: {parts}")


def one_step(name, R, P, Q):
    numbers = {"alpha": ALPHA / R.size, "beta": BETA} if name in ("gradient_descent", "sgd") else {}
    R, P, Q = mf._checked(R, P, Q, missing=name == "sgd")
    if name == "sgd":
        values, rates = mf.waves(R, numbers["alpha"])
        return lambda: mf.sgd_epoch(values, rates, P, Q, BETA)
    if name == "hals":
        return lambda: mf.hals_step(R, P, Q, 4)
    if name == "multiplicative_update":
        return lambda: mf.multiplicative_step(R, P, Q)
    return lambda: mf.gradient_step(R, P, Q, **numbers)


def growth(shapes, rounds):
    """Return the median time of a step of each kernel, for each shape."""
    names = ("gradient_descent", "sgd", "multiplicative_update", "hals")
    cost = {name: [] for name in names}
    for shape in shapes:
        matrices = problem(*shape)
        benchmarks = alternate([one_step(name, *matrices) for name in names], rounds)
        for name, benchmark in zip(names, benchmarks):
            cost[name].append(benchmark.median())
    return cost


def draw(path, quick, rounds):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = [(20 * n, 80 * n, 4 if quick else 16) for n in ((1, 2) if quick else (10, 20, 40, 80))]
    widths = [(*((20, 80) if quick else (800, 3200)), K) for K in (4, 8, 16, 32, 64)]
    series = {
        "N M": ([N * M for N, M, _ in shapes], shapes, f"K={shapes[0][2]}"),
        "K": ([K for *_, K in widths], widths, f"{widths[0][0]} x {widths[0][1]}"),
    }
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for axis, (label, (x, points, rest)) in zip(axes, series.items()):
        print(f"\nTime of a step grows as ({label})^slope, {rest}, {x[0]} to {x[-1]}:")
        for name, cost in growth(points, rounds).items():
            slope = np.polyfit(np.log(x), np.log(cost), 1)[0]
            print(f"  {name:22} {slope:5.2f}   " + "  ".join(f"{1e3 * t:.3g} ms" for t in cost))
            axis.loglog(x, cost, "o-", label=f"{name}, slope {slope:.2f}")
        axis.set(xlabel=f"{label} ({rest})", ylabel="seconds a step")
        axis.set_xticks(x, [f"{n:,}" for n in x])
        axis.minorticks_off()
        axis.legend(fontsize="small")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"\ndrawn: {path}")


def describe_machine():
    run = pyperf.Run([1.0], metadata={"name": "machine"})
    known = run.get_metadata()
    print(f"{known.get('cpu_model_name', known['platform'])}, {os.cpu_count()} CPUs")
    try:
        from threadpoolctl import threadpool_info  # scikit-learn brings it
    except ImportError:
        threadpool_info = list
    blas = {
        f"{i['internal_api']} {i['version']} ({i.get('architecture')}, {i['num_threads']} threads)"
        for i in threadpool_info()
        if i["user_api"] == "blas"
    }
    print(f"Python {known['python_version']}, NumPy {np.__version__}, BLAS: {'; '.join(blas)}")
    print(f"load when started: {known.get('load_avg_1min', '?')}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small data, one run: a smoke test")
    parser.add_argument("--rounds", type=int, default=9, help="alternating runs (default: 9)")
    parser.add_argument("--plot", default="benchmark.png", help="file to draw (benchmark.png)")
    options = parser.parse_args(arguments)
    quick, rounds = options.quick, 1 if options.quick else options.rounds
    describe_machine()
    table = Table(rounds)
    small, large = ((10, 20, 2), (20, 30, 4)) if quick else ((100, 256, 2), (400, 4096, 20))
    sgd_rows(table, small, large)
    gradient_rows(table, small, 1.7)
    gradient_rows(table, large, 7)
    multiplicative_row(table, small, 200, 1.8)
    multiplicative_row(table, (*large[:2], 2 * large[2]), 50, 1)
    hals_rows(table, quick)
    if not quick:
        notebook_row(table)
    products([small, large, (*large[:2], 2 * large[2])], rounds)
    draw(options.plot, quick, min(rounds, 5))


if __name__ == "__main__":
    main()
