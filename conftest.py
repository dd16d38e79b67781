"""Run the notebook together with the tests, and compare what the faces at hand allow.

With the Olivetti faces every stored output is compared (nbval, strict) and every
figure (here). Without them the notebook runs on other faces, and only the cells
whose output holds for any faces are compared (nbval, lax).
"""

import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two files are tested at a time

import mark
import matplotlib
import pytest
import rebuild
from nbval.plugin import IPyNbCell

import mf_solutions as mf

FACES = pytest.StashKey()  # which faces there are, and what failed on the way to them
NOTEBOOK = rebuild.NOTEBOOK.name
LONGEST = [NOTEBOOK, "test_mark.py", "test_large.py", "test_notebook.py"]


def pytest_addoption(parser):
    mark.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Test the whole project file by file on two cores; anything less in this process."""
    option = config.option
    if (
        config.args_source is config.ArgsSource.TESTPATHS
        and config.pluginmanager.hasplugin("xdist")
        and not hasattr(config, "workerinput")  # a worker starts no workers
        and option.numprocesses is None
        and not (option.submission or option.usepdb)
    ):
        option.numprocesses, option.dist = 2, "loadfile"
        option.loadscopereorder = False  # the longest come first as it is


def pytest_configure(config):
    os.environ.pop("MPLBACKEND", None)  # it would take the figures out of the notebook's outputs
    config.option.nbval_current_env = True
    if config.option.submission:
        return mark.configure(config)  # which needs no faces
    if hasattr(config, "workerinput"):
        name, why = config.workerinput["faces"]
    else:
        name, why = look_for_the_faces()
    strict = name == mf.OLIVETTI
    if config.option.nbval and not strict:
        raise pytest.UsageError(
            "--nbval compares the outputs stored for the Olivetti faces, which are missing here. "
            f"{why}. Without --nbval, pytest compares what holds for any faces"
        )
    config.stash[FACES] = name, why
    config.option.nbval = strict
    config.option.nbval_lax = not strict


def look_for_the_faces():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        name = mf.fetch_faces().name
    return name, "; ".join(str(warning.message) for warning in caught)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["faces"] = node.config.stash[FACES]


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item):
    """Compare the figures of a cell of the notebook, which nbval does not."""
    if isinstance(item, IPyNbCell) and item.config.option.nbval and item.options["check"]:
        reason = rebuild.figures_differ(item.cell.outputs, item.test_outputs)
        if reason:
            item.raise_cell_error(f"{item.cell.id}: {reason}")


def pytest_terminal_summary(terminalreporter, config):
    if FACES not in config.stash:
        return
    name, why = config.stash[FACES]
    line = [f"faces: {name}"]
    reports = sum(terminalreporter.stats.values(), [])
    if any(report.nodeid.startswith(NOTEBOOK) for report in reports if hasattr(report, "when")):
        if name == mf.OLIVETTI:
            line.append(f"every stored output compared{figures_or_not()}")
        else:
            line.append("compared: what holds for any faces")
    terminalreporter.write_line("; ".join(line + [why] * bool(why)))


def figures_or_not():
    cells = [cell for cell in rebuild.load().cells if cell.cell_type == "code"]
    first, *_ = (figure for cell in cells for figure in rebuild.figures(cell.outputs))
    drawn_by = rebuild.drawn_by(first.data["image/png"])
    if drawn_by == matplotlib.__version__:
        return ", and every figure"
    return f", but not the pixels: Matplotlib {drawn_by} drew them, not {matplotlib.__version__}"


@pytest.fixture(scope="session")
def olivetti(request):
    """Return the handout's 100 faces at 16 x 16, before and after centring."""
    from skimage.transform import resize

    name, why = request.config.stash[FACES]
    if name != mf.OLIVETTI:
        pytest.skip(why)
    images = mf.fetch_faces().images[:100]
    small = resize(images.transpose(1, 2, 0), (16, 16)).transpose(2, 0, 1)
    D = small.reshape(100, 256)
    D_global = D - D.mean(axis=0)
    return D, D_global - D_global.mean(axis=1)[:, None]
