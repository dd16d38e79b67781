"""Run the notebook together with the tests, and compare what the faces at hand allow.

With the Olivetti faces every stored output is compared (nbval, strict) and every
figure (here). Without them the notebook runs on other faces, and only the cells
whose output holds for any faces are compared (nbval, lax).
"""

import functools
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two files are tested at a time
os.environ.pop("MPLBACKEND", None)  # it would take the figures out of the notebook's outputs

import matplotlib
import notebooks
import pytest
from nbval.plugin import IPyNbCell

import mf_solutions as mf


@functools.cache
def faces():
    """Look for the faces, once; pytest shows the warning that says why there are others."""
    return mf.fetch_faces()


# Strict or lax


def pytest_configure(config):
    if config.option.nbval and faces().name != mf.OLIVETTI:
        raise pytest.UsageError(
            "--nbval compares the outputs stored for the Olivetti faces, which are missing here. "
            "Without --nbval, pytest compares what holds for any faces"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collect_file(file_path, parent):
    """Choose strict or lax where nothing is chosen; nbval's own hook comes next."""
    option = parent.config.option
    if file_path.suffix == ".ipynb" and not (option.nbval or option.nbval_lax):
        option.nbval = faces().name == mf.OLIVETTI
        option.nbval_lax = not option.nbval


# Figures


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item):
    """Compare the figures of a cell of the notebook, which nbval does not."""
    if not isinstance(item, IPyNbCell):
        return
    strict = not item.config.option.nbval_lax
    item.user_properties.append(("strict", strict))
    if strict and item.options["check"]:
        reason = notebooks.figures_differ(item.cell.outputs, item.test_outputs)
        if reason:
            item.raise_cell_error(f"{item.cell.id}: {reason}")


# The summary line


def pytest_terminal_summary(terminalreporter):
    """Say what was compared in each notebook, as the reports of its cells tell."""
    strict = {}
    for report in sum(terminalreporter.stats.values(), []):
        properties = dict(getattr(report, "user_properties", []))
        if "strict" in properties:
            file = report.nodeid.partition("::")[0]
            strict.setdefault(file, {})[report.nodeid] = properties["strict"]
    for file, cells in strict.items():
        notebook = notebooks.load(Path(terminalreporter.config.rootpath, file))
        line = what_was_compared(notebook, len(cells), all(cells.values()))
        terminalreporter.write_line(f"{file}: {line}")


def what_was_compared(notebook, ran, strict):
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    if ran < code:
        return f"{ran} of {code} cells were run"
    if not strict:
        return "compared is what holds for any faces, as the Olivetti faces are not here"
    other = notebooks.another_matplotlib(notebook)
    if other is None:
        return f"{mf.OLIVETTI}; every stored output compared, and every figure"
    here = matplotlib.__version__
    return f"every stored output compared, but no pixels: Matplotlib {other} drew them, not {here}"


# The faces, for tests


@pytest.fixture(scope="session")
def olivetti():
    """Return the handout's 100 faces at 16 x 16, before and after centring."""
    from skimage.transform import resize

    if faces().name != mf.OLIVETTI:
        pytest.skip("the Olivetti faces are not here")
    images = faces().images[:100]
    small = resize(images.transpose(1, 2, 0), (16, 16)).transpose(2, 0, 1)
    D = small.reshape(100, 256)
    D_global = D - D.mean(axis=0)
    return D, D_global - D_global.mean(axis=1)[:, None]
