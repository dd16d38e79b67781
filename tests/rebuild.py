"""Rebuild the notebook: ``python tests/rebuild.py``.

Puts the text of ``mf_solutions.py`` into the set-up cell, runs every cell in a new
kernel and stores what comes out. A rebuild without changes gives no diff: an
output that is not compared (a timing) is kept while its cell is the same, and so
is a figure that looks the same.
"""

import base64
import io
import os
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import numpy as np
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "week5_tutorial.ipynb"
MODULE = ROOT / "mf_solutions.py"
PICTURE = ROOT / "tests" / "basis.png"  # in README.md

SETUP = """\
# @title Set-up: puts mf_solutions.py beside this notebook if there is none
import importlib.util
from pathlib import Path

MODULE = r'''
%s'''.lstrip()

if importlib.util.find_spec("mf_solutions") is None:
    Path("mf_solutions.py").write_text(MODULE, encoding="utf-8")
    importlib.invalidate_caches()"""


def load(path=NOTEBOOK):
    return nbformat.read(path, as_version=4)


def setup_source():
    return SETUP % MODULE.read_text(encoding="utf-8")


def executed(notebook, folder=ROOT):
    """Return a copy of the notebook, run from the start in a new kernel in this folder."""
    new = nbformat.from_dict(notebook)
    for cell in new.cells:
        if cell.id == "set-up":
            cell.source = setup_source()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    os.environ.pop("MPLBACKEND", None)  # it would take the figures away
    NotebookClient(
        new,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # how a print is cut into chunks depends on the clock
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    new.metadata = notebook.metadata
    return new


def rebuilt(notebook, folder=ROOT):
    """Return the executed notebook, with the old outputs where they say the same."""
    new = executed(notebook, folder)
    before = {cell.id: cell for cell in notebook.cells}
    for cell in new.cells:
        if cell.cell_type == "code":
            settle(before[cell.id], cell)
    return new


def settle(old, new):
    """Keep the old outputs where the new ones say the same."""
    if "nbval-ignore-output" in new.metadata.get("tags", []) and old.source == new.source:
        new.outputs = deepcopy(old.outputs) or new.outputs
    for was, now in zip(old.outputs, new.outputs):
        if "image/png" in was.get("data", {}) and "image/png" in now.get("data", {}):
            if looks_the_same(was.data["image/png"], now.data["image/png"]):
                now.data["image/png"] = was.data["image/png"]


def looks_the_same(one, other):
    a, b = (imread(io.BytesIO(base64.b64decode(png))) for png in (one, other))
    return a.shape == b.shape and bool(np.abs(a - b).max() < 0.05)


def picture(notebook):
    """Return the figure that README.md shows: the basis images at full size."""
    (cell,) = (cell for cell in notebook.cells if cell.id == "more-64")
    first = next(output for output in cell.outputs if "image/png" in output.get("data", {}))
    return base64.b64decode(first.data["image/png"])


if __name__ == "__main__":
    notebook = rebuilt(load())
    nbformat.write(notebook, NOTEBOOK)
    PICTURE.write_bytes(picture(notebook))
    size = NOTEBOOK.stat().st_size / 1e6
    sys.stdout.write(f"{NOTEBOOK.name}: {len(notebook.cells)} cells, {size:.2f} MB\n")
