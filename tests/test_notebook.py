"""The notebook as a product: executed, in order, clean, within its budgets, every figure told."""

import base64
import io
import os
import re
import subprocess
import sys
from copy import deepcopy

import nbformat
import numpy as np
import pytest
from matplotlib.image import imsave
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from rebuild import (
    MODULE,
    NOTEBOOK,
    PICTURE,
    ROOT,
    executed,
    figures,
    figures_differ,
    is_compared,
    load,
    picture,
    pixels,
    setup_source,
)

import mf_solutions as mf

NB = load()
CODE = [cell for cell in NB.cells if cell.cell_type == "code"]
OUTPUTS = [(cell.id, output) for cell in CODE for output in cell.outputs]
TAGS = {
    "answer",  # not in the hand-out
    "deeper",  # not on the core path
    "nbval-check-output",  # the same on any faces
    "nbval-ignore-output",  # never the same
}


def tags(cell):
    return cell.metadata.get("tags", [])


def words(cells):
    """Count the words of prose: no formula, no markup, no address."""
    text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"\$\$.*?\$\$|\$.*?\$|<.*?>|\]\(.*?\)", " ", text, flags=re.DOTALL)
    return len(re.findall(r"\w[\w'.-]*", text))


def lines(path):
    return path.read_text(encoding="utf-8").count("\n")


# Executed and clean


def test_every_code_cell_has_been_executed_in_order():
    assert [cell.execution_count for cell in CODE] == list(range(1, len(CODE) + 1))


def test_no_cell_stores_an_error_or_a_warning():
    bad = [id for id, output in OUTPUTS if output.output_type == "error"]
    bad += [id for id, output in OUTPUTS if output.get("name") == "stderr"]
    assert bad == []


def test_no_absolute_path_is_stored():
    text = re.sub(r'"image/png": "[^"]*"', "", NOTEBOOK.read_text(encoding="utf-8"))
    path = r"/(?:home|root|tmp|usr|work|Users|content|mnt)/\S*|[A-Z]:\\\\\w+"
    assert re.findall(path, text) == []


def test_tags_are_known_and_metadata_is_minimal():
    assert {tag for cell in NB.cells for tag in tags(cell)} <= TAGS
    for cell in NB.cells:
        allowed = {"cellView", "jupyter"} if cell.id == "set-up" else {"tags"}
        assert cell.metadata.keys() <= allowed, cell.id
    assert NB.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for id, output in OUTPUTS:
        for mime, values in output.get("metadata", {}).items():
            assert mime == "image/png" and values.keys() <= {"alt", "height", "width"}, id


def test_the_file_is_written_as_a_rebuild_writes_it():
    assert NOTEBOOK.read_text(encoding="utf-8") == nbformat.writes(NB) + "\n"


def test_what_holds_for_any_faces_is_compared_on_any_faces():
    same = {cell.id for cell in CODE if "nbval-check-output" in tags(cell)}
    for name in ("exercise-1", "exercise-2"):
        assert {f"{name}-hand", f"{name}-check"} <= same
    assert {"centre", "thin-check", "waves-check", "turn-check", "nmf-check"} <= same
    assert all(cell.outputs for cell in CODE if cell.id in same)


# Cells


def test_code_cells_are_short():
    length = [sum(map(bool, map(str.strip, cell.source.splitlines()))) for cell in CODE]
    assert CODE[0].id == "set-up" and len(CODE[0].source.splitlines()) <= 12
    assert np.median(length[1:]) <= 5
    assert np.percentile(length[1:], 95) <= 12
    assert [cell.id for cell, n in zip(CODE, length) if n > 20] == []


def test_the_whole_can_be_read_in_an_afternoon_and_the_core_path_in_an_hour():
    assert words(NB.cells) <= 4600
    assert words(cell for cell in NB.cells if "deeper" not in tags(cell)) <= 2600


# Figures


def test_every_figure_is_announced_by_a_sentence_that_ends_in_a_colon():
    for before, cell in zip(NB.cells, NB.cells[1:]):
        if figures(cell.get("outputs", [])):
            announced = before.cell_type == "markdown" and before.source.rstrip().endswith(":")
            assert announced, f"{cell.id} comes after: ...{before.source[-60:]}"


def test_every_figure_has_a_text_equivalent_of_its_own():
    drawn = figures(output for _, output in OUTPUTS)
    texts = [output.data["text/plain"] for output in drawn]
    assert texts == [output.metadata.get("image/png", {}).get("alt") for output in drawn]
    assert all(text.strip() and not text.startswith("<Figure") for text in texts)
    assert len(set(texts)) == len(texts)


def test_the_picture_in_the_readme_is_the_notebooks():
    assert PICTURE.read_bytes() == picture(NB)


def as_png(values, **metadata):
    file = io.BytesIO()
    imsave(file, values, metadata=metadata)
    return base64.b64encode(file.getvalue()).decode()


def flipped(values):
    return np.concatenate([values[..., 2::-1], values[..., 3:]], axis=-1)


FORGERIES = {
    "kept": lambda own, other: own,
    "one-level-of-256": lambda own, other: as_png(np.clip(pixels(own) - 1 / 256, 0, 1)),
    "black": lambda own, other: as_png(0 * pixels(own) + [0, 0, 0, 1]),
    "black-by-another-tool": lambda own, other: as_png(0 * pixels(own), Software="a brush"),
    "of-another-cell": lambda own, other: other,
    "other-colour-map": lambda own, other: as_png(flipped(pixels(own))),
    "smaller": lambda own, other: as_png(pixels(own)[:-1]),
    "not-compared": lambda own, other: other,
}
NOTICED = set(FORGERIES) - {"kept", "one-level-of-256", "not-compared"}


def test_a_figure_that_is_not_the_one_drawn_fails_the_run_and_is_named(olivetti, tmp_path):
    source = "import matplotlib.pyplot as plt\nplt.imshow([[0, 1], [2, {}]]);\nplt.show()"
    cells = [new_code_cell(source.format(5), id="another")]
    cells += [new_code_cell(source.format(3), id=name) for name in FORGERIES]
    cells[-1].metadata.tags = ["nbval-ignore-output"]
    forged = executed(new_notebook(cells=cells), tmp_path)
    other, *own = (cell.outputs[-1].data for cell in forged.cells)
    for data, forgery in zip(own, FORGERIES.values()):
        data["image/png"] = forgery(data["image/png"], other["image/png"])
    nbformat.write(forged, tmp_path / "forged.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "--color=no", tmp_path / "forged.ipynb"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                map(str, [ROOT, ROOT / "tests/tools", ROOT / "tests/marking"])
            ),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert set(re.findall(r"Cell \d+: ([\w-]+): ", done.stdout)) == NOTICED, done.stdout
    assert f"{len(NOTICED)} failed, {len(cells) - len(NOTICED)} passed" in done.stdout


def test_a_figure_too_many_or_too_few_is_noticed():
    cell = next(cell for cell in CODE if figures(cell.outputs))
    assert figures_differ(cell.outputs, cell.outputs) is None
    assert figures_differ(cell.outputs, []) and figures_differ([], cell.outputs)


# The set-up cell


def test_the_set_up_cell_carries_the_text_of_the_module(tmp_path):
    assert CODE[0].source == setup_source()
    assert CODE[0].metadata == {"cellView": "form", "jupyter": {"source_hidden": True}}
    run = [sys.executable, "-c", f"{CODE[0].source}\nimport mf_solutions"]
    for _ in range(2):  # the second time it is there
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        written = (tmp_path / MODULE.name).read_text(encoding="utf-8")
        assert written == MODULE.read_text(encoding="utf-8")


def test_an_older_module_beside_it_is_named_and_left_alone(tmp_path):
    module = tmp_path / "mf_solutions.py"
    module.write_text("__version__ = '0.9'\n")
    needed = re.escape(mf.__version__)
    with pytest.raises(CellExecutionError, match=rf"needs mf_solutions {needed}, but .* is 0\.9"):
        executed(NB, tmp_path)
    assert module.read_text() == "__version__ = '0.9'\n"


# Once more


@pytest.mark.slow
def test_alone_in_an_empty_folder_every_cell_says_the_same_again_from_last_to_first(
    olivetti, tmp_path
):
    new = executed(NB, tmp_path, backwards=True)
    assert (tmp_path / MODULE.name).read_text(encoding="utf-8") == MODULE.read_text("utf-8")
    different = {
        cell.id: figures_differ(old.outputs, cell.outputs) or "its text differs"
        for old, cell in zip(NB.cells, new.cells)
        if cell.cell_type == "code" and is_compared(cell)
        if figures_differ(old.outputs, cell.outputs) or told(old) != told(cell)
    }
    assert different == {}


def told(cell):
    """Return what a cell puts out, without its figures and its number."""
    outputs = deepcopy(cell.outputs)
    for output in outputs:
        output.pop("execution_count", None)
        output.get("data", {}).pop("image/png", None)
    return outputs
