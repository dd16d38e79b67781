"""Data beyond memory: on disk, sparse, and in the blocks of a Dask array.

Each test prints what it took (``pytest -s tests/test_large.py``).
"""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from oracles import same, sheet_start

import mf_solutions as mf

pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

SHAPE = N, M, K = 1000, 20_000, 4
MB = 1e6
KERNELS = {
    "gradient_descent": {"alpha": 1e-6, "beta": 0.02},
    "multiplicative_update": {"tol": 1e-9},
    "hals": {"tol": 1e-9},
}
every_kernel = pytest.mark.parametrize("name", KERNELS)


def run(name, R, P, Q, steps=2):
    log = mf.ErrorLog(R, P, Q)
    factors = getattr(mf, name)(R, P, Q, steps, **KERNELS[name], callback=log)
    return *factors, np.array(log.errors)


def traced(*args):
    """Return what ``run`` gives, and the memory that it took at most, in bytes."""
    tracemalloc.start()
    got = run(*args)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return got, peak


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "R"
    rng = np.random.default_rng(0)
    with open(path, "wb") as out:
        for _ in range(N):
            rng.random(M).tofile(out)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def dense(file):
    """What the kernels give for the same data in memory."""
    R = np.fromfile(file).reshape(N, M)
    return {name: run(name, R, *sheet_start(N, M, K)) for name in KERNELS}


# On disk

ALLOWED = 64 * MB  # R has 160 MB

WITHIN_LIMITS = """
import resource, sys
import numpy as np
from oracles import sheet_start
from test_large import ALLOWED, K, M, N, traced

name, source, target = sys.argv[1:]
R = np.memmap(source, mode="r", shape=(N, M), dtype=float)
np.ones((500, 500)) @ np.ones((500, 500))  # BLAS takes its buffers now
with open("/proc/self/status") as status:
    now = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
limit = int(now + ALLOWED)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    sys.exit(f"no limit: {np.array(R).nbytes} bytes")
except MemoryError:
    pass
(P, Q, errors), peak = traced(name, R, *sheet_start(N, M, K))
np.savez(target, P=P, Q=Q, errors=errors, peak=peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds all memory on Linux only")
@every_kernel
def test_a_memory_map_may_be_larger_than_the_memory(name, file, dense, tmp_path):
    """RLIMIT_DATA counts what a process writes to, not the pages of a file it only reads."""
    done = subprocess.run(
        [sys.executable, "-c", WITHIN_LIMITS, name, file, tmp_path / "got.npz"],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    got = np.load(tmp_path / "got.npz")
    same([got[label] for label in ("P", "Q", "errors")], dense[name], 1e-9)
    print(f"{name}, map of {8 * N * M / MB:.0f} MB: {got['peak'] / MB:.1f} MB in arrays")


# Sparse


@every_kernel
def test_a_sparse_matrix_may_be_far_larger_than_memory_if_it_were_dense(name):
    rows, columns, entries = 200_000, 100_000, 500_000  # 160 GB if it were dense
    rng = np.random.default_rng(0)
    places = rng.integers(rows, size=entries), rng.integers(columns, size=entries)
    R = scipy.sparse.csr_array((rng.random(entries), places), shape=(rows, columns))
    (*_, errors), peak = traced(name, R, *sheet_start(rows, columns, 2))
    assert len(errors) == 1 + 2 and np.all(np.diff(errors) <= 0)
    assert peak < 100 * MB
    print(f"{name}, sparse, {8 * rows * columns / 1e9:.0f} GB if dense: {peak / MB:.1f} MB")


# In the blocks of a Dask array


def read(path, shape, block_info=None):
    """Read one block, where it is needed."""
    at = tuple(slice(*bounds) for bounds in block_info[None]["array-location"])
    return np.array(np.memmap(path, mode="r", shape=shape, dtype=float)[at])


@pytest.fixture
def da(monkeypatch):
    """Dask's arrays, but none as large as R may be computed."""
    dask = pytest.importorskip("dask")
    da = pytest.importorskip("dask.array")
    as_array, compute = da.Array.__array__, da.Array.compute

    def small(function):
        def checked(self, *args, **kwargs):
            assert self.size < N * M, f"an array of shape {self.shape} is to be formed"
            return function(self, *args, **kwargs)

        return checked

    monkeypatch.setattr(da.Array, "__array__", small(as_array))
    monkeypatch.setattr(da.Array, "compute", small(compute))
    with dask.config.set(scheduler="synchronous"):
        yield da


@pytest.fixture
def lazy(da, file):
    blocks = ((N // 4,) * 4, (M // 4,) * 4)
    return da.map_blocks(read, file, (N, M), chunks=blocks, dtype=float, meta=np.empty((0, 0)))


def test_the_guard_refuses_to_form_the_data(lazy):
    for form in (np.asarray, lambda R: R.compute()):
        with pytest.raises(AssertionError, match="is to be formed"):
            form(lazy)


@every_kernel
def test_a_dask_array_with_threads(name, lazy, dense):
    import dask
    from dask.callbacks import Callback

    largest = []
    note = Callback(posttask=lambda key, result, *_: largest.append(getattr(result, "nbytes", 0)))
    with dask.config.set(scheduler="threads", num_workers=2), note:
        got, peak = traced(name, lazy, *sheet_start(N, M, K))
    same(got, dense[name], 1e-9)
    assert max(largest) <= 8 * N * M / 16  # a block
    assert peak < 8 * N * M / 2
    print(f"{name}, Dask, 2 threads: {peak / MB:.1f} MB in arrays")


@every_kernel
@pytest.mark.parametrize("chunks", [(9, 8), (4, 3), ((2, 7), (7, 1))], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_any_chunks_and_any_type_will_do(name, chunks, dtype, da):
    R = (9 * np.random.RandomState(0).rand(9, 8)).astype(dtype)
    P, Q = (X.astype(np.float32 if dtype == np.float32 else float) for X in sheet_start(9, 8))
    got = run(name, da.from_array(R, chunks=chunks), P, Q, 11)
    expected = run(name, R, P, Q, 11)
    assert [type(X) for X in got[:2]] == [np.ndarray, np.ndarray]
    assert [X.dtype for X in got[:2]] == [X.dtype for X in expected[:2]]
    for X, Y in zip(got, expected):
        np.testing.assert_allclose(X, Y, rtol=1e-3 if dtype == np.float32 else 1e-9)


SPOILT = {
    "negative": (lambda R: R.map_blocks(lambda X: X - 2), "R must be non-neg.* -2"),
    "not finite": (lambda R: R + np.inf, "^R must be finite, not from inf"),
}


@pytest.mark.parametrize("spoil, message", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("name", ["multiplicative_update", "hals"])
def test_what_cannot_be_is_refused_for_a_dask_array_too(name, spoil, message, da):
    R = spoil(da.zeros((9, 8), chunks=4))
    with pytest.raises(ValueError, match=message):
        run(name, R, *sheet_start(9, 8))


def test_the_module_imports_little_beside_numpy():
    late = {"dask", "matplotlib", "scipy", "sklearn", "skimage"}
    code = f"import sys, mf_solutions; assert not {late} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
