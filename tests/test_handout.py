"""The students' version: it runs, checks, and does not hand over the answers."""

import re
import subprocess
import sys

import nbformat
import pytest
from exercises import EXERCISES
from handout import LEFT_OUT, REFERENCE, STUDENTS, anchors, handout
from nbclient import NotebookClient
from notebooks import METADATA, MODULE, ROOT, load, tags

NOTEBOOK = load()
HANDOUT = handout(NOTEBOOK)
CORE = handout(NOTEBOOK, core=True)
BOTH = pytest.mark.parametrize("notebook", [HANDOUT, CORE], ids=["all", "core"])
ANSWERS = [f"{exercise.cell}-answer" for exercise in EXERCISES.values()]
VERDICTS = [f"{exercise.cell}-verdict" for exercise in EXERCISES.values()]


def cell_of(notebook, id):
    return next(cell for cell in notebook.cells if cell.id == id)


def ran(notebook, folder):
    new = nbformat.from_dict(notebook)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(new, timeout=600, kernel_name="python3", resources=resources).execute()
    return new


def verdicts(notebook):
    return [cell_of(notebook, id).outputs[0].text for id in VERDICTS]


def with_answers(notebook):
    new = nbformat.from_dict(notebook)
    for id in ANSWERS:
        cell_of(new, id).source = cell_of(NOTEBOOK, id).source
    return new


@pytest.mark.slow
@BOTH
def test_it_runs_to_the_end_and_both_exercises_are_not_attempted(notebook, tmp_path):
    assert all(text.startswith("not attempted") for text in verdicts(ran(notebook, tmp_path)))
    (module,) = tmp_path.iterdir()  # which a student may read; the judge is not there
    assert module.read_text(encoding="utf-8") == MODULE.read_text(encoding="utf-8")


@pytest.mark.slow
@BOTH
def test_answered_it_runs_to_the_end_and_both_are_correct(notebook, tmp_path):
    new = ran(with_answers(notebook), tmp_path)
    assert all(text.startswith("correct: ") for text in verdicts(new))


def test_with_the_answers_filled_in_both_are_correct(tmp_path):
    new = with_answers(HANDOUT)
    needed = ["set-up", "imports", *ANSWERS, *VERDICTS]
    new.cells = [cell for cell in new.cells if cell.id in needed]
    assert all(text.startswith("correct: ") for text in verdicts(ran(new, tmp_path)))


@BOTH
def test_the_verdict_comes_first_below_the_answer(notebook):
    ids = [cell.id for cell in notebook.cells]
    for answer, verdict in zip(ANSWERS, VERDICTS):
        assert ids.index(verdict) == ids.index(answer) + 1


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_blank_is_the_reference_with_a_todo_in_the_place_of_the_solution(exercise):
    id = f"{exercise.cell}-answer"
    marks = r" *# BEGIN SOLUTION\n.*# END SOLUTION"
    before, after = re.split(marks, cell_of(NOTEBOOK, id).source, flags=re.DOTALL)
    assert exercise.blank.startswith(before) and exercise.blank.endswith(after)
    todo = exercise.blank.removeprefix(before).removesuffix(after)
    assert todo.strip().startswith("# TODO: ") and todo.count("#") == 1
    assert cell_of(HANDOUT, id).source == exercise.blank
    compile(exercise.blank, id, "exec")


def test_no_code_of_an_answer_can_be_read():
    text = "\n".join(cell.source for cell in HANDOUT.cells if cell.cell_type == "code")
    lines = [line.strip() for line in text.splitlines()]
    for id in ANSWERS:
        solution = cell_of(NOTEBOOK, id).source.partition("BEGIN SOLUTION")[2]
        for line in solution.partition("# END SOLUTION")[0].strip().splitlines():
            assert line.strip() not in lines
    for sign in ("SOLUTION", "beta * P", "beta * Q", "2 * e", "R @ Q", "R.T @ P", "getsource"):
        assert sign not in text


def test_what_is_left_out_is_said_once_in_each_place():
    sources = [cell.source for cell in HANDOUT.cells]
    assert LEFT_OUT in sources
    assert all((a, b) != (LEFT_OUT, LEFT_OUT) for a, b in zip(sources, sources[1:]))
    left_out = [cell for cell in NOTEBOOK.cells if "answer" in tags(cell)]
    assert left_out and not any(cell.source in sources for cell in left_out)


def test_the_core_is_what_goes_no_deeper():
    deeper = [cell.id for cell in HANDOUT.cells if "deeper" in tags(cell)]
    core = [cell.id for cell in HANDOUT.cells if "deeper" not in tags(cell)]
    assert deeper and [cell.id for cell in CORE.cells] == core
    assert [cell.id for cell in CORE.cells if "deeper" in cell.source.lower()] == []


@BOTH
def test_no_link_leads_nowhere(notebook):
    places = {place for cell in notebook.cells for place in anchors(cell)}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            links = set(re.findall(r"\]\(#(.*?)\)(?=[^)]|$)", cell.source))
            assert links <= places, cell.id


@BOTH
def test_outputs_are_cleared_and_the_file_is_valid(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")
    assert REFERENCE in NOTEBOOK.cells[0].source
    assert STUDENTS in notebook.cells[0].source
    assert REFERENCE not in notebook.cells[0].source


# The command


def command(*arguments, folder):
    line = [sys.executable, ROOT / "tests" / "tools" / "handout.py", *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_command_writes_it_and_overwrites_nothing(tmp_path):
    status, _, errors = command("--core", "student.ipynb", folder=tmp_path)
    assert (status, errors) == (0, "")
    written = (tmp_path / "student.ipynb").read_bytes()
    cells = nbformat.reads(written.decode(), 4).cells
    assert [cell.source for cell in cells] == [cell.source for cell in CORE.cells]
    status, _, errors = command("student.ipynb", folder=tmp_path)
    assert status == 1 and "is there already: move it away" in errors
    assert (tmp_path / "student.ipynb").read_bytes() == written


def test_the_command_says_what_it_writes_and_what_to_do_about_a_missing_folder(tmp_path):
    assert "week5_handout.ipynb" in command("--help", folder=tmp_path)[1]
    status, _, errors = command("class/student.ipynb", folder=tmp_path)
    assert status == 1 and "there is no folder class: make it first" in errors


@pytest.mark.parametrize("how", ["new", "none"])
def test_a_notebook_without_its_ids_is_refused_by_name(how):
    """Nbstripout gives every cell a new id, Colab keeps them elsewhere."""
    stripped = nbformat.from_dict(NOTEBOOK)
    for number, cell in enumerate(stripped.cells):
        del cell["id"]
        if how == "new":
            cell["id"] = str(number)
    with pytest.raises(KeyError, match="id title or set-up or exercise-1-answer.*--keep-id"):
        handout(stripped)
