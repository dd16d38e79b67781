"""Everything but the first run of the tests: ``nox -f tests/tools/noxfile.py``.

In the environment at hand: ``unconnected`` has no faces and no network, ``slow`` runs every cell
from last to first and the hand-outs from top to bottom, ``browser`` opens the notebook in
JupyterLab and Notebook, ``benchmark`` tries the benchmark. In new ones: ``oldest`` has the lower
bounds of requirements.txt, ``colab`` the versions of Google Colab in July and in August 2026,
``newest`` whatever is newest, ``arrays`` other libraries whose arrays may be data. Only by name:
``blas`` repeats what touches the stored outputs over three kernels and two thread counts of
OpenBLAS; ``mutants`` breaks the module in about a thousand ways, one at a time, and lists what no
test notices, which takes half an hour.
"""

import os
import re
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent.parent
BOUNDS = [
    re.sub(r">=([\d.]+)", r"==\1.*", line)
    for name in ("requirements.txt", "tests/requirements.txt")
    for line in (ROOT / name).read_text().splitlines()
    if ">=" in line and not line.startswith("ruff")
]
COLAB = [
    "scipy==1.16.3",
    "scikit-learn==1.6.1",
    "scikit-image==0.25.2",
    "matplotlib==3.10.0",
    "ipython==7.34.0",
    "ipykernel==6.17.1",
]
LESSON = [
    "week5_tutorial.ipynb",
    "tests/test_kernels.py",
    "tests/test_hals.py",
    "tests/test_faces.py",
    "tests/test_looking.py",
    "tests/test_handout.py",
]
ONLY_LOOPBACK = """
import fcntl, socket, struct
name_and_flags = struct.pack("16sh", b"lo", 1)  # the interface, and that it is up
fcntl.ioctl(socket.socket(), 0x8914, name_and_flags)
"""

nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "unconnected",
    "slow",
    "browser",
    "benchmark",
    "oldest",
    "colab",
    "newest",
    "arrays",
]


def install(session, *pins):
    session.chdir(ROOT)
    session.install("-r", "tests/requirements.txt", *pins)


def run_pytest(session, *arguments, **options):
    session.chdir(ROOT)
    session.run("python", "-m", "pytest", *arguments, *session.posargs, **options)


# In the environment at hand


@nox.session(venv_backend="none")
def unconnected(session):
    """No faces, no network; jupyter's own messages still go over the loopback."""
    command = ["unshare", "--net"] + ["--map-root-user"] * (os.getuid() != 0)
    if not shutil.which("unshare") or os.system(" ".join([*command, "true"])):
        session.skip("this machine does not let us take the network away")
    home = str(Path(session.create_tmp()).resolve())
    session.chdir(ROOT)
    env = {"HOME": home, "SCIKIT_LEARN_DATA": f"{home}/no faces"}
    script = 'python -c "$0" && python -m pytest "$@"'
    command += ["bash", "-c", script, ONLY_LOOPBACK, *session.posargs]
    session.run(*command, env=env, external=True)


@nox.session(venv_backend="none")
def slow(session):
    run_pytest(session, "-m", "slow", "tests")


@nox.session(venv_backend="none")
def browser(session):
    run_pytest(session, "-m", "browser", "-rs", "tests/test_browser.py")


@nox.session(venv_backend="none")
def benchmark(session):
    run_pytest(session, "-rs", "tests/test_benchmark.py")


# In new environments


@nox.session(python="3.10")
def oldest(session):
    install(session, *BOUNDS)
    run_pytest(session)


@nox.session
@nox.parametrize(
    "python, numpy",
    [
        nox.param("3.12", "2.0.2", id="2026.07"),
        nox.param("3.13", "2.1.3", id="2026.08"),
    ],
)
def colab(session, numpy):
    install(session, f"numpy=={numpy}", *COLAB)
    run_pytest(session, *LESSON)


@nox.session(python=["3.11", "3.12", "3.13"])
def newest(session):
    install(session)
    run_pytest(session)


@nox.session
def arrays(session):
    install(session, "xarray", "h5py", "zarr", "pandas", "polars")
    run_pytest(session, "tests/test_edges.py")


@nox.session
def blas(session):
    install(session)
    for kernel in ("Nehalem", "Sandybridge", "Haswell"):
        for threads in ("1", "2"):
            env = {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads}
            run_pytest(session, "tests/test_faces.py", "week5_tutorial.ipynb", env=env)


@nox.session
def mutants(session):
    install(session, "mutmut>=3.8")
    session.run("mutmut", "run", "--max-children", "2")
    session.run("mutmut", "results")
