"""The students' version: it runs, checks, and does not hand over the answers."""

import subprocess
import sys

import nbformat
import pytest
from handout import LEFT_OUT, STUDENTS, VERDICTS, blanked, handout
from nbclient import NotebookClient
from rebuild import ROOT, load

REFERENCE = load()
HANDOUT = handout(REFERENCE)
CORE = handout(REFERENCE, core=True)
ANSWERS = [f"{exercise}-answer" for exercise in VERDICTS]


def cell_of(notebook, id):
    return next(cell for cell in notebook.cells if cell.id == id)


def ran(notebook, folder):
    new = nbformat.from_dict(notebook)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(new, timeout=600, kernel_name="python3", resources=resources).execute()
    return new


def verdicts(notebook):
    return [cell_of(notebook, f"{exercise}-verdict").outputs[0].text for exercise in VERDICTS]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", [HANDOUT, CORE], ids=["all", "core"])
def test_it_runs_to_the_end_and_both_exercises_are_not_attempted(notebook, tmp_path):
    assert all(text.startswith("not attempted") for text in verdicts(ran(notebook, tmp_path)))
    assert list(tmp_path.iterdir()) == []  # nor is a module written where it can be read


def test_with_the_answers_filled_in_both_are_correct(tmp_path):
    new = nbformat.from_dict(HANDOUT)
    needed = ["set-up", "imports", *ANSWERS, *(f"{exercise}-verdict" for exercise in VERDICTS)]
    new.cells = [cell for cell in new.cells if cell.id in needed]
    for id in ANSWERS:
        cell_of(new, id).source = cell_of(REFERENCE, id).source
    assert all(text.startswith("correct: ") for text in verdicts(ran(new, tmp_path)))


@pytest.mark.parametrize("id", ANSWERS)
def test_each_solution_becomes_one_todo(id):
    source = cell_of(HANDOUT, id).source
    assert source.count("# TODO: ") == 1 and "SOLUTION" not in source
    compile(source, id, "exec")


def test_no_code_of_an_answer_can_be_read():
    text = "\n".join(cell.source for cell in HANDOUT.cells if cell.cell_type == "code")
    lines = [line.strip() for line in text.splitlines()]
    for id in ANSWERS:
        solution = cell_of(REFERENCE, id).source.partition("BEGIN SOLUTION")[2]
        for line in solution.partition("# END SOLUTION")[0].strip().splitlines():
            assert line.strip() not in lines
    for sign in ("SOLUTION", "beta * P", "beta * Q", "2 * e", "R @ Q", "R.T @ P", "getsource"):
        assert sign not in text


def test_what_is_left_out_is_said_once_in_each_place():
    sources = [cell.source for cell in HANDOUT.cells]
    assert LEFT_OUT in sources
    assert all((a, b) != (LEFT_OUT, LEFT_OUT) for a, b in zip(sources, sources[1:]))
    left_out = [cell for cell in REFERENCE.cells if "answer" in cell.metadata.get("tags", [])]
    assert left_out and not any(cell.source in sources for cell in left_out)


def test_the_core_is_what_goes_no_deeper():
    deeper = [cell.id for cell in HANDOUT.cells if "deeper" in cell.metadata.get("tags", [])]
    notes = [f"before-{cell.id}" for cell in REFERENCE.cells]
    core = [cell.id for cell in CORE.cells if cell.id not in notes]
    everything = [cell.id for cell in HANDOUT.cells if cell.id not in notes]
    assert deeper and core == [id for id in everything if id not in deeper]


@pytest.mark.parametrize("notebook", [HANDOUT, CORE], ids=["all", "core"])
def test_outputs_are_cleared_and_the_file_is_valid(notebook):
    nbformat.validate(notebook)
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")
    assert STUDENTS in notebook.cells[0].source
    assert "every exercise is completed" not in notebook.cells[0].source


def test_the_command_writes_it_and_overwrites_nothing(tmp_path):
    command = [sys.executable, ROOT / "tests" / "tools" / "handout.py", "--core", "student.ipynb"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (0, "")
    written = (tmp_path / "student.ipynb").read_bytes()
    assert [cell.source for cell in nbformat.reads(written.decode(), 4).cells] == [
        cell.source for cell in CORE.cells
    ]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already: move it away" in again.stderr
    assert (tmp_path / "student.ipynb").read_bytes() == written


def test_only_what_is_marked_is_blanked():
    source = "a\n  # BEGIN SOLUTION\n  b\n  # END SOLUTION\nc\n# BEGIN SOLUTION\nd\n# END SOLUTION"
    assert blanked(source, ["# TODO", "..."]) == "a\n  # TODO\n  ...\nc\n# TODO\n..."


def test_nbgrader_finds_the_same_solutions():
    preprocessors = pytest.importorskip("nbgrader.preprocessors")
    from traitlets.config import Config

    config = Config({"ClearSolutions": {"enforce_metadata": False}})
    new, _ = preprocessors.ClearSolutions(config=config).preprocess(load(), {})
    for id in ANSWERS:
        assert "# YOUR CODE HERE\n        raise NotImplementedError()" in cell_of(new, id).source
