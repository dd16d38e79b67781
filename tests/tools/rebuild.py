"""Rebuild the notebook: ``python tests/tools/rebuild.py``.

Puts ``mf_solutions.py`` into the set-up cell, runs every cell in a new kernel and stores
what comes out, with README's picture. A rebuild without changes gives no diff: an output
that is not compared (a timing) is kept while its cell is the same, and so is a figure that
looks the same. It needs the Olivetti faces: the numbers of other faces are never stored.
"""

import argparse
import base64
import sys
import warnings
from copy import deepcopy

import matplotlib
from notebooks import (
    METADATA,
    NOTEBOOK,
    ROOT,
    another_matplotlib,
    executed,
    figures,
    is_compared,
    load,
    looks_the_same,
    save,
)

sys.path.insert(0, str(ROOT))

import mf_solutions as mf  # noqa: E402

PICTURE = ROOT / "tests" / "tools" / "basis.png"  # in README.md
PICTURED = "full-figure"  # the cell that draws it


def rebuilt(notebook, folder=ROOT):
    """Return the executed notebook, with the old outputs where they say the same."""
    new = executed(notebook, folder)
    new.metadata = METADATA
    before = {cell.id: cell for cell in notebook.cells}
    for cell in new.cells:
        if cell.cell_type == "code":
            keep_what_is_the_same(before[cell.id], cell)
    return new


def keep_what_is_the_same(old, cell):
    if not is_compared(cell) and old.source == cell.source:
        cell.outputs = deepcopy(old.outputs) or cell.outputs
    for was, now in zip(figures(old.outputs), figures(cell.outputs)):
        if looks_the_same(was.data["image/png"], now.data["image/png"]):
            now.data["image/png"] = was.data["image/png"]


def picture(notebook):
    """Return the figure that README.md shows: the basis images at full size."""
    (cell,) = (cell for cell in notebook.cells if cell.id == PICTURED)
    return base64.b64decode(figures(cell.outputs)[0].data["image/png"])


def refuse_other_faces():
    """End here where the Olivetti faces cannot be had, with the reason."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        name = mf.fetch_faces().name
    if name != mf.OLIVETTI:
        reasons = [str(warning.message) for warning in caught]
        sys.exit(" ".join(["nothing is rebuilt: the text is about the Olivetti faces.", *reasons]))


def main():
    description = "Run every cell of the notebook and store what comes out."
    argparse.ArgumentParser(description=description).parse_args()
    refuse_other_faces()
    old = load()
    if drawn_by := another_matplotlib(old):
        here = matplotlib.__version__
        print(f"Matplotlib {drawn_by} drew the figures, and {here} draws them now", flush=True)
    new = rebuilt(old)
    save(new, NOTEBOOK)
    PICTURE.write_bytes(picture(new))
    size = NOTEBOOK.stat().st_size / 1e6
    print(f"{NOTEBOOK.name}: {len(new.cells)} cells, {size:.2f} MB")


if __name__ == "__main__":
    main()
