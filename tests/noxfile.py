"""The whole suite on every supported version: ``nox -f tests/noxfile.py``.

``oldest`` has the lower bounds of requirements.txt, ``colab`` the versions of
Google Colab in August 2026, ``newest`` whatever is newest. ``blas`` repeats what
touches the stored outputs over three kernels and two thread counts of OpenBLAS.
``nbgrader`` lets that tool make the students' version from the same marks.
"""

import os
import re
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent
BOUNDS = [
    re.sub(r">=([\d.]+)", r"==\1.*", line)
    for name in ("requirements.txt", "tests/requirements.txt")
    for line in (ROOT / name).read_text().splitlines()
    if re.match(r"(numpy|scikit|matplotlib|jupyter|nbval|dask|distributed|hypothesis|pytest)", line)
]
COLAB = [
    "numpy==2.1.3",
    "scipy==1.16.3",
    "scikit-learn==1.6.1",
    "scikit-image==0.25.2",
    "matplotlib==3.10.0",
    "ipython==7.34.0",
    "ipykernel==6.17.1",
]

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["oldest", "colab", "newest", "nbgrader", "blas"]


def suite(session, *pins):
    session.chdir(ROOT)
    session.install("-r", "tests/requirements.txt", *pins)
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python="3.10")
def oldest(session):
    suite(session, *BOUNDS)


@nox.session(python="3.13")
def colab(session):
    suite(session, *COLAB)


@nox.session(python=["3.11", "3.12", "3.13"])
def newest(session):
    suite(session)


@nox.session
def nbgrader(session):
    session.chdir(ROOT)
    session.install("-r", "tests/requirements.txt", "nbgrader")
    session.run("python", "-m", "pytest", "tests/test_handout.py")


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
