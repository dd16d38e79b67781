"""The students' version: it runs, checks, and does not hand over the answers."""

import subprocess
import sys

import nbformat
import pytest
from handout import LEFT_OUT, blanked, handout
from nbclient import NotebookClient
from rebuild import NOTEBOOK, ROOT, load

REFERENCE = load()
HANDOUT = handout(REFERENCE)
EXERCISES = ["exercise-1-answer", "exercise-2-answer"]


def cell_of(notebook, id):
    return next(cell for cell in notebook.cells if cell.id == id)


def ran(notebook, folder):
    new = nbformat.from_dict(notebook)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(new, timeout=600, kernel_name="python3", resources=resources).execute()
    return new


def verdicts(notebook):
    cells = [cell_of(notebook, id) for id in ("exercise-1-judge", "exercise-2-judge")]
    return [cell.outputs[0].data["text/plain"] for cell in cells]


def cut(notebook):
    """Only what the checks need: the set-up, the imports, the answers and the checks."""
    new = nbformat.from_dict(notebook)
    needed = {"set-up", "imports", *EXERCISES, "exercise-1-judge", "exercise-2-judge"}
    new.cells = [cell for cell in new.cells if cell.id in needed]
    return new


def test_it_runs_to_the_end_and_both_exercises_are_not_attempted(loopback, tmp_path):
    new = ran(HANDOUT, tmp_path)
    assert verdicts(new) == ["not attempted: there is nothing to check yet."] * 2
    assert list(tmp_path.iterdir()) == []  # nor is the module written where it can be read


def test_with_the_answers_filled_in_both_are_correct(loopback, tmp_path):
    new = cut(HANDOUT)
    for id in EXERCISES:
        cell_of(new, id).source = cell_of(REFERENCE, id).source
    assert all(text.startswith("correct: ") for text in verdicts(ran(new, tmp_path)))


@pytest.mark.parametrize("id", EXERCISES)
def test_each_solution_becomes_one_todo(id):
    source = cell_of(HANDOUT, id).source
    assert source.count("# TODO: ") == 1 and "SOLUTION" not in source
    compile(source, id, "exec")


def test_no_code_of_an_answer_can_be_read():
    text = "\n".join(cell.source for cell in HANDOUT.cells if cell.cell_type == "code")
    lines = [line.strip() for line in text.splitlines()]
    for id in EXERCISES:
        solution = cell_of(REFERENCE, id).source.partition("BEGIN SOLUTION")[2]
        for line in solution.partition("# END SOLUTION")[0].strip().splitlines():
            assert line.strip() not in lines
    for sign in ("beta * P", "beta * Q", "2 * e", "R @ Q", "R.T @ P", "show_source"):
        assert sign not in text


def test_what_is_left_out_is_said_once_in_each_place():
    sources = [cell.source for cell in HANDOUT.cells]
    assert LEFT_OUT in sources
    assert all((a, b) != (LEFT_OUT, LEFT_OUT) for a, b in zip(sources, sources[1:]))
    left_out = [cell for cell in REFERENCE.cells if "answer" in cell.metadata.get("tags", [])]
    assert left_out and not any(cell.source in sources for cell in left_out)


def test_outputs_are_cleared_and_the_file_is_valid():
    nbformat.validate(HANDOUT)
    assert all(cell.outputs == [] for cell in HANDOUT.cells if cell.cell_type == "code")
    assert "every exercise is completed" not in HANDOUT.cells[0].source


def test_the_command_writes_it_and_overwrites_nothing(tmp_path):
    command = [sys.executable, ROOT / "tests" / "handout.py", "student.ipynb"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (first.returncode, first.stderr) == (0, "")
    written = (tmp_path / "student.ipynb").read_bytes()
    assert nbformat.reads(written.decode(), 4).cells == HANDOUT.cells
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already: move it away" in again.stderr
    assert (tmp_path / "student.ipynb").read_bytes() == written


def test_only_what_is_marked_is_blanked():
    source = "a\n  # BEGIN SOLUTION\n  b\n  # END SOLUTION\nc\n# BEGIN SOLUTION\nd\n# END SOLUTION"
    assert blanked(source, ["# TODO", "..."]) == "a\n  # TODO\n  ...\nc\n# TODO\n..."


def test_nbgrader_finds_the_same_solutions(loopback, tmp_path):
    preprocessors = pytest.importorskip("nbgrader.preprocessors")
    from traitlets.config import Config

    config = Config({"ClearSolutions": {"enforce_metadata": False}})
    new, _ = preprocessors.ClearSolutions(config=config).preprocess(nbformat.read(NOTEBOOK, 4), {})
    for id in EXERCISES:
        assert "# YOUR CODE HERE\n        raise NotImplementedError()" in cell_of(new, id).source
    assert (
        verdicts(ran(cut(new), tmp_path)) == ["not attempted: there is nothing to check yet."] * 2
    )
