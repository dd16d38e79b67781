"""The notebook as a product: executed, in order, clean, and what a rebuild gives."""

import base64
import re

import matplotlib
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from rebuild import MODULE, NOTEBOOK, PICTURE, executed, load, picture, rebuilt, setup_source

NB = load()
CODE = [cell for cell in NB.cells if cell.cell_type == "code"]
OUTPUTS = [(cell.id, output) for cell in CODE for output in cell.outputs]
TAGS = {"nbval-check-output", "nbval-ignore-output", "answer"}  # the last: not in the hand-out


def figures(outputs):
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def test_every_code_cell_has_been_executed_in_order():
    counts = [cell.execution_count for cell in CODE]
    assert counts == list(range(1, len(CODE) + 1))


def test_no_cell_stores_an_error_or_a_warning():
    bad = [id for id, output in OUTPUTS if output.output_type == "error"]
    bad += [id for id, output in OUTPUTS if output.get("name") == "stderr"]
    assert bad == []


def test_no_absolute_path_is_stored():
    text = NOTEBOOK.read_text(encoding="utf-8")
    text = re.sub(r'"image/png": "[^"]*"', "", text)
    assert (
        re.findall(r"/(?:home|root|tmp|usr|work|Users|content|mnt)/\S*|[A-Z]:\\\\\w+", text) == []
    )


def test_tags_are_known_and_metadata_is_minimal():
    assert {tag for cell in NB.cells for tag in cell.metadata.get("tags", [])} <= TAGS
    allowed = {"set-up": {"cellView", "jupyter"}}
    for cell in NB.cells:
        assert set(cell.metadata) - {"tags"} <= allowed.get(cell.id, set())
    assert NB.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(output.get("metadata", {}) == {} for _, output in OUTPUTS)


def test_solutions_are_marked_once_in_each_exercise():
    marked = [cell for cell in CODE if "SOLUTION" in cell.source]
    assert [cell.id for cell in marked] == ["exercise-1-answer", "exercise-2-answer"]
    for cell in marked:
        marks = re.findall(r"^ *# (BEGIN|END) SOLUTION$", cell.source, re.M)
        assert marks == ["BEGIN", "END"]


def test_every_figure_is_announced_by_a_sentence_that_ends_in_a_colon():
    prose = ""
    for cell in NB.cells:
        if cell.cell_type == "markdown":
            prose = cell.source
        elif figures(cell.outputs):
            assert prose.rstrip().endswith(":"), f"{cell.id} comes after: ...{prose[-60:]}"


def test_a_third_of_the_cells_can_be_compared_on_any_faces():
    checked = [cell for cell in CODE if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert 3 * len(checked) >= len(CODE)
    assert all(cell.outputs for cell in checked)


def test_the_notebook_stays_small():
    assert NOTEBOOK.stat().st_size < 2_000_000


def test_the_set_up_cell_carries_the_text_of_the_module():
    (cell,) = (cell for cell in CODE if cell.id == "set-up")
    assert cell.source == setup_source()
    assert cell.metadata == {"cellView": "form", "jupyter": {"source_hidden": True}}
    scope = {}
    exec(cell.source.partition("\nif ")[0], scope)  # the text, without putting it anywhere
    assert scope["MODULE"] == MODULE.read_text(encoding="utf-8")


def test_the_picture_in_the_readme_is_the_notebooks():
    assert PICTURE.read_bytes() == picture(NB)


def test_alone_in_an_empty_folder_it_runs_and_a_rebuild_gives_no_diff(loopback, olivetti, tmp_path):
    old, new = load(), rebuilt(NB, tmp_path)
    assert (tmp_path / "mf_solutions.py").read_text(encoding="utf-8") == MODULE.read_text("utf-8")
    if drawn_by() != matplotlib.__version__:  # another Matplotlib draws other pixels
        for cell in [*old.cells, *new.cells]:
            for output in cell.get("outputs", []):
                output.get("data", {}).pop("image/png", None)
    for stored, fresh in zip(old.cells, new.cells):
        assert fresh == stored, f"cell {stored.id} changes: run python tests/rebuild.py"
    assert nbformat.writes(new) == nbformat.writes(old)


def test_alone_in_an_empty_folder_it_runs_without_the_faces(loopback, monkeypatch, tmp_path):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "no faces"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    new = executed(NB, tmp_path)
    text = "".join(o.get("text", "") for c in new.cells for o in c.get("outputs", []))
    assert "Instead you have 100 faces of Labeled Faces in the Wild" in text
    assert len(figures(o for c in new.cells for o in c.get("outputs", []))) == len(
        figures(output for _, output in OUTPUTS)
    )


def test_an_older_module_beside_it_is_named_and_left_alone(loopback, tmp_path):
    module = tmp_path / "mf_solutions.py"
    module.write_text("__version__ = '0.9'\n")
    with pytest.raises(CellExecutionError, match=r"needs mf_solutions 1\.1, but .* is 0\.9"):
        executed(NB, tmp_path)
    assert module.read_text() == "__version__ = '0.9'\n"


def drawn_by():
    png = base64.b64decode(figures(output for _, output in OUTPUTS)[0])
    return re.search(rb"Matplotlib version([\d.]+)", png)[1].decode()
