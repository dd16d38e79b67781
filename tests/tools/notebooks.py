"""What the tools and the tests need of the notebook: load it, run it, look at its figures.

The set-up cell is made here. It carries ``mf_solutions.py``, so that the notebook can
travel alone; in the hand-out it carries the judge as well.
"""

import base64
import io
import os
import re
import textwrap
import zlib
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
from matplotlib.image import imread
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOK = ROOT / "week5_tutorial.ipynb"
MODULE = ROOT / "mf_solutions.py"

FIGURE_TOLERANCE = 0.05  # of a pixel's colours, which go from 0 to 1

# Enough for "export as script" to make a .py. No version of Python: a rebuild gives no diff.
METADATA = {
    "title": "Week 5 tutorial: matrix factorization",
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}

SETUP = '''\
# @title Set-up: puts mf_solutions.py beside this notebook if there is none
# The long text is that file, compressed: this notebook can travel alone.
import base64
import importlib.util
import linecache
import sys
import types
import zlib
from pathlib import Path


def unpacked(text):
    return zlib.decompress(base64.b64decode(text)).decode()


def load(name, source):
    """Import a module from its source, without a file."""
    module = types.ModuleType(name)
    file = module.__file__ = f"<{name}>"
    linecache.cache[file] = len(source), None, source.splitlines(True), file
    exec(compile(source, file, "exec"), module.__dict__)
    sys.modules[name] = module


def place(name, text):
    """Write a module beside the notebook if there is none there."""
    if name in sys.modules or importlib.util.find_spec(name):
        return
    file, source = Path(f"{name}.py"), unpacked(text)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(source)
    except FileExistsError:  # with PYTHONSAFEPATH, Python does not look here
        source = file.read_text(encoding="utf-8")
    except OSError:  # a read-only folder
        pass
    importlib.invalidate_caches()
    if importlib.util.find_spec(name) is None:
        load(name, source)'''


# The file


def load(path=NOTEBOOK):
    return nbformat.read(path, as_version=4)


def save(notebook, path):
    nbformat.write(notebook, path)


def tags(cell):
    return cell.metadata.get("tags", [])


def is_compared(cell):
    return "nbval-ignore-output" not in tags(cell)


# The set-up cell


def setup_source(*in_memory):
    """Return the set-up cell's source; these files come along too, and are never written."""
    parts = [SETUP, call("place", MODULE, "{}")]
    parts += [call("load", path, "unpacked({})") for path in in_memory]
    return "\n\n\n".join(parts[:2]) + "".join(f"\n{part}" for part in parts[2:])


def call(function, path, argument):
    text = f'"""\n{packed(path)}\n"""'
    return f'{function}(\n    "{path.stem}",\n    {argument.format(text)},\n)'


def packed(path):
    """Return the text of a file, compressed, in lines that fit on a page."""
    text = path.read_text(encoding="utf-8").encode()
    return "\n".join(textwrap.wrap(base64.b64encode(zlib.compress(text, 9)).decode(), 79))


# Running


def blank(notebook):
    """Return a copy of the notebook without outputs."""
    new = nbformat.from_dict(notebook)
    for cell in new.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return new


def executed(notebook, folder=ROOT, backwards=False):
    """Return a copy of the notebook, run in a new kernel in this folder.

    If ``backwards``, the cells run again afterwards, from the last to the first.
    """
    new = blank(notebook)
    for cell in new.cells:
        if cell.id == "set-up":
            cell.source = setup_source()
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


# Figures


def figures(outputs):
    return [output for output in outputs if "image/png" in output.get("data", {})]


def pixels(png):
    return imread(io.BytesIO(base64.b64decode(png)))


def looks_the_same(one, other):
    a, b = pixels(one), pixels(other)
    return a.shape == b.shape and bool(np.abs(a - b).max() < FIGURE_TOLERANCE)


def as_large(one, other):
    """Whether two pictures have one size, to the pixel to which Matplotlib rounds it."""
    difference = np.subtract(pixels(one).shape, pixels(other).shape)
    return bool(np.abs(difference).max() <= 1)


def drawn_by(png):
    """Return the version of Matplotlib that the picture names, or None."""
    found = re.search(rb"Matplotlib version ?([\w.+]+)", base64.b64decode(png))
    return found and found[1].decode()


def another_matplotlib(notebook):
    """Return the version that drew the notebook's first figure, or None if it is the one here."""
    for cell in notebook.cells:
        for figure in figures(cell.get("outputs", [])):
            version = drawn_by(figure.data["image/png"])
            return None if version == matplotlib.__version__ else version
    return None


def figures_differ(stored, fresh):
    """Say how the figures of a cell differ from those stored, or return None."""
    stored, fresh = figures(stored), figures(fresh)
    if len(stored) != len(fresh):
        return f"{len(stored)} figures are stored, and {len(fresh)} come out"
    for number, (old, new) in enumerate(zip(stored, fresh), 1):
        png, now = old.data["image/png"], new.data["image/png"]
        if drawn_by(png) is None:
            return f"figure {number} as stored was not drawn by Matplotlib"
        if old.metadata != new.metadata or not as_large(png, now):
            return f"figure {number} has another size or another text than the one stored"
        # the pixels of another version of Matplotlib need not be the same
        if drawn_by(png) == matplotlib.__version__ and not looks_the_same(png, now):
            return f"figure {number} looks different from the one stored"
    return None
