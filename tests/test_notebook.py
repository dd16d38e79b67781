"""The notebook as a product: executed, in order, clean, in its time, every figure told."""

import html
import re
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import minutes
import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from notebooks import (
    METADATA,
    MODULE,
    NOTEBOOK,
    executed,
    figures,
    figures_differ,
    is_compared,
    load,
    setup_source,
    tags,
)
from rebuild import PICTURE, picture

import mf_solutions as mf

NB = load()
CODE = [cell for cell in NB.cells if cell.cell_type == "code"]
TEXT = [cell for cell in NB.cells if cell.cell_type == "markdown"]
OUTPUTS = [(cell.id, output) for cell in CODE for output in cell.outputs]
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
TAGS = {
    "answer",  # not in the hand-out
    "deeper",  # not on the core path
    "nbval-check-output",  # the same on any faces
    "nbval-ignore-output",  # never the same
}

# Opens the folded answers when the page is printed; JupyterLab drops it from view
IN_PRINT = "@media print { details > *, details::details-content { display: block;"


def is_folded(cell):
    return "source_hidden" in cell.metadata.get("jupyter", {})


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
        others = {key: value for key, value in cell.metadata.items() if key != "tags"}
        assert others == (FOLDED if is_folded(cell) else {}), cell.id
        assert not is_folded(cell) or cell.source.startswith("# @title "), cell.id
    assert NB.metadata == METADATA
    for id, output in OUTPUTS:
        for mime, values in output.get("metadata", {}).items():
            assert mime == "image/png" and values.keys() <= {"alt", "height", "width"}, id


def test_the_file_is_written_as_a_rebuild_writes_it():
    assert NOTEBOOK.read_text(encoding="utf-8") == nbformat.writes(NB) + "\n"


def test_both_exercises_are_compared_on_any_faces():
    same = {cell.id for cell in CODE if "nbval-check-output" in tags(cell)}
    assert {"exercise-1-hand", "exercise-1-check"} <= same
    assert {"exercise-2-hand", "exercise-2-check"} <= same
    assert all(cell.outputs for cell in CODE if cell.id in same)


# Cells and time


def test_code_cells_are_short_and_no_line_is_cut_in_print():
    shown = [cell for cell in CODE if not is_folded(cell)]
    lines = [[line for line in cell.source.splitlines() if line.strip()] for cell in shown]
    length = [len(those) for those in lines]
    assert np.median(length) <= 5
    assert np.percentile(length, 95) <= 12
    assert [cell.id for cell, n in zip(shown, length) if n > 20] == []
    wide = {cell.id for cell in CODE for line in cell.source.splitlines() if len(line) > 79}
    assert wide == set()


def test_the_title_prints_the_minutes_that_are_counted():
    assert minutes.printed(NB.cells) == minutes.to_print(NB.cells)


def test_the_core_has_two_sittings_and_stands_in_one_piece():
    first, second = minutes.sittings(NB.cells)
    assert first <= 35 and second <= 35 and first + second <= 70
    deeper = ["deeper" in tags(cell) for cell in NB.cells]
    start = next(index for index, cell in enumerate(NB.cells) if cell.id == "part-6")
    assert not any(deeper[:start]) and all(deeper[start:])


# In print, and as a script


def test_folded_answers_open_in_print():
    folded = [cell.id for cell in TEXT if "<details>" in cell.source]
    assert folded and IN_PRINT in NB.cells[0].source.splitlines()[-1]


def test_no_text_is_taken_for_settings_by_pandoc():
    assert [cell.id for cell in TEXT if "---" in cell.source.splitlines()] == []


def test_no_character_is_lost_in_a_pdf_by_latex():
    """Its fonts have no Greek outside formulas, no stars and no raised letters."""
    known = set("\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u2022")
    formula = r"\$\$.*?\$\$|\$.*?\$"
    texts = [(cell.id, re.sub(formula, "", cell.source, flags=re.DOTALL)) for cell in TEXT]
    texts += [(cell.id, cell.source) for cell in CODE]
    texts += [(id, output.get("text", "")) for id, output in OUTPUTS]
    lost = [(id, set(re.findall(r"[^\0-\u017f]", text)) - known) for id, text in texts]
    assert [(id, letters) for id, letters in lost if letters] == []


def test_a_list_has_a_blank_line_before_it():
    item = r"(?:[*-]|\d+\.) "
    for cell in TEXT:
        for before, line in zip(cell.source.splitlines(), cell.source.splitlines()[1:]):
            inside = not before.strip() or re.match(rf" *{item}|  +|<", before)
            assert inside or not re.match(item, line), f"{cell.id}: {line}"


def test_it_can_be_exported_as_a_script(tmp_path):
    export = [sys.executable, "-m", "nbconvert", "--to", "script", f"--output-dir={tmp_path}"]
    done = subprocess.run([*export, NOTEBOOK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = tmp_path / f"{NOTEBOOK.stem}.py"
    compile(script.read_text(encoding="utf-8"), script.name, "exec")


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


def test_the_text_of_a_figure_stands_folded_below_it():
    """JupyterLab, Colab and HTML show neither the text/plain nor the alt of a picture."""
    for cell in CODE:
        for figure, below in zip(cell.outputs, [*cell.outputs[1:], {}]):
            if figures([figure]):
                text = below.get("data", {}).get("text/html", "")
                assert text.startswith("<details><summary>"), cell.id
                words = re.sub("<summary>.*?</summary>|<.*?>", "", text)
                assert html.unescape(words).strip() == figure.data["text/plain"], cell.id


def test_the_picture_in_the_readme_is_the_notebooks():
    assert PICTURE.read_bytes() == picture(NB)


# The module that it carries


def test_the_set_up_cell_carries_the_text_of_the_module():
    assert CODE[0].id == "set-up" and CODE[0].metadata == FOLDED
    assert CODE[0].source == setup_source()


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


def test_that_the_faces_are_others_is_said_again_where_numbers_are_read(capsys):
    (cell,) = (cell for cell in CODE if "mf.OLIVETTI" in cell.source)
    zeros = np.zeros((6, 6))
    names = dict.fromkeys(["R", "P_yours", "Q_yours", "sheet_mf"], zeros)
    names |= {"faces": SimpleNamespace(name="some others"), "corners": ..., "steps": 5000}
    exec(cell.source, {**names, "np": np, "mf": mf})
    assert "other faces (some others), so no number can agree" in capsys.readouterr().out
