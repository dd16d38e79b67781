"""The versions that are supported, and how sharp the tests are: ``nox -f tests/noxfile.py``.

``oldest`` has the lower bounds of requirements.txt, ``colab`` the versions of Google Colab
in July and in August 2026, ``newest`` whatever is newest. ``blas`` repeats what touches the
stored outputs over three kernels and two thread counts of OpenBLAS. ``nbgrader`` lets that
tool make the students' version from the same marks. ``mutants`` breaks the module in about
a thousand ways, one at a time, and lists what no test notices; it takes about half an hour.
"""

import os
import re
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
FUNCTIONS = [f"tests/test_{name}.py" for name in ("kernels", "hals", "faces")]
LESSON = [*FUNCTIONS, "tests/test_notebook.py", "week5_tutorial.ipynb"]

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["oldest", "colab", "newest", "nbgrader", "blas"]


def suite(session, *pins, files=LESSON):
    session.chdir(ROOT)
    session.install("-r", "tests/requirements.txt", *pins)
    session.run("python", "-m", "pytest", *(session.posargs or files))


@nox.session(python="3.10")
def oldest(session):
    suite(session, *BOUNDS)


@nox.session
@nox.parametrize(
    "python, numpy",
    [
        nox.param("3.12", "2.0.2", id="2026.07"),
        nox.param("3.13", "2.1.3", id="2026.08"),
    ],
)
def colab(session, numpy):
    suite(session, f"numpy=={numpy}", *COLAB)


@nox.session(python=["3.11", "3.12", "3.13"])
def newest(session):
    suite(session, files=[])


@nox.session
def nbgrader(session):
    suite(session, "nbgrader", files=["tests/test_handout.py"])


@nox.session
def blas(session):
    session.chdir(ROOT)
    session.install("-r", "tests/requirements.txt")
    for kernel in ("Nehalem", "Sandybridge", "Haswell"):
        for threads in ("1", "2"):
            env = {**os.environ, "OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads}
            session.run(
                "python", "-m", "pytest", "tests/test_faces.py", "week5_tutorial.ipynb", env=env
            )


@nox.session
def mutants(session):
    session.chdir(ROOT)
    session.install("-r", "tests/requirements.txt", "mutmut>=3.8")
    session.run("mutmut", "run", "--max-children", "2")
    session.run("mutmut", "results")
