"""Rebuild the notebook: ``python tests/tools/rebuild.py``.

Puts the text of ``mf_solutions.py`` into the set-up cell, runs every cell in a new
kernel and stores what comes out. A rebuild without changes gives no diff: an
output that is not compared (a timing) is kept while its cell is the same, and so
is a figure that looks the same.
"""

import base64
import io
import os
import re
import sys
from copy import deepcopy
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOK = ROOT / "week5_tutorial.ipynb"
MODULE = ROOT / "mf_solutions.py"
PICTURE = ROOT / "tests" / "tools" / "basis.png"  # in README.md
PICTURED = "full-figure"  # the cell that draws it

SETUP = """\
# @title Set-up: puts mf_solutions.py beside this notebook if there is none
import importlib.util
from pathlib import Path

MODULE = %r

if importlib.util.find_spec("mf_solutions") is None:
    Path("mf_solutions.py").write_text(MODULE, encoding="utf-8")
    importlib.invalidate_caches()"""


def load(path=NOTEBOOK):
    return nbformat.read(path, as_version=4)


def setup_source():
    return SETUP % MODULE.read_text(encoding="utf-8")


def is_compared(cell):
    return "nbval-ignore-output" not in cell.metadata.get("tags", [])


def executed(notebook, folder=ROOT, backwards=False):
    """Return a copy of the notebook, run in a new kernel in this folder.

    If ``backwards``, the cells run again afterwards, from the last to the first.
    """
    new = nbformat.from_dict(notebook)
    for cell in new.cells:
        if cell.id == "set-up":
            cell.source = setup_source()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    os.environ.pop("MPLBACKEND", None)  # it would take the figures away
    client = NotebookClient(
        new,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # how a print is cut into chunks depends on the clock
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel():
        order = list(enumerate(new.cells))
        for index, cell in order + backwards * order[::-1]:
            client.execute_cell(cell, index)
    return new


def rebuilt(notebook, folder=ROOT):
    """Return the executed notebook, with the old outputs where they say the same."""
    new = executed(notebook, folder)
    before = {cell.id: cell for cell in notebook.cells}
    for cell in new.cells:
        old = before[cell.id]
        if cell.cell_type != "code":
            continue
        if not is_compared(cell) and old.source == cell.source:
            cell.outputs = deepcopy(old.outputs) or cell.outputs
        for was, now in zip(figures(old.outputs), figures(cell.outputs)):
            if looks_the_same(was.data["image/png"], now.data["image/png"]):
                now.data["image/png"] = was.data["image/png"]
    return new


def figures(outputs):
    return [output for output in outputs if "image/png" in output.get("data", {})]


def pixels(png):
    return imread(io.BytesIO(base64.b64decode(png)))


def looks_the_same(one, other):
    a, b = pixels(one), pixels(other)
    return a.shape == b.shape and bool(np.abs(a - b).max() < 0.05)


def drawn_by(png):
    """Return the version of Matplotlib that the picture names, or None."""
    found = re.search(rb"Matplotlib version ?([\w.+]+)", base64.b64decode(png))
    return found and found[1].decode()


def figures_differ(stored, fresh):
    """Say how the figures of a cell differ from those stored, or return None."""
    stored, fresh = figures(stored), figures(fresh)
    if len(stored) != len(fresh):
        return f"{len(stored)} figures are stored, and {len(fresh)} come out"
    for number, (old, new) in enumerate(zip(stored, fresh), 1):
        png, now = old.data["image/png"], new.data["image/png"]
        if drawn_by(png) is None:
            return f"figure {number} as stored was not drawn by Matplotlib"
        if old.metadata != new.metadata or pixels(png).shape != pixels(now).shape:
            return f"figure {number} has another size or another text than the one stored"
        # the pixels of another version of Matplotlib need not be the same
        if drawn_by(png) == matplotlib.__version__ and not looks_the_same(png, now):
            return f"figure {number} looks different from the one stored"
    return None


def picture(notebook):
    """Return the figure that README.md shows: the basis images at full size."""
    (cell,) = (cell for cell in notebook.cells if cell.id == PICTURED)
    return base64.b64decode(figures(cell.outputs)[0].data["image/png"])


if __name__ == "__main__":
    notebook = rebuilt(load())
    nbformat.write(notebook, NOTEBOOK)
    PICTURE.write_bytes(picture(notebook))
    size = NOTEBOOK.stat().st_size / 1e6
    sys.stdout.write(f"{NOTEBOOK.name}: {len(notebook.cells)} cells, {size:.2f} MB\n")
