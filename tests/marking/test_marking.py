"""The command: its options, its rows, its table, and that no input ends it or holds it."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import feedback
import mark
import process
import pytest
import submissions
from exercises import EXERCISES

CORPUS = Path(mark.__file__).parent / "submissions"
MF, MU = EXERCISES
RIGHT = f"""\
import numpy as np
def {MF}(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    Q = Q.T
    for step in range(steps):
        E = R - P @ Q
        P = P + alpha * (2 * E @ Q.T - beta * P)
        Q = Q + alpha * (2 * P.T @ E - beta * Q)
    return P, Q.T
def {MU}(R, P, Q, steps=5000):
    for step in range(steps):
        P = P * (R @ Q) / (P @ (Q.T @ Q))
        Q = Q * (R.T @ P) / (Q @ (P.T @ P))
    return P, Q
"""
WRONG = RIGHT.replace("+ alpha", "- alpha")
ENDLESS = RIGHT.replace("Q = Q.T", "while True: pass")
ASLEEP = RIGHT.replace("Q = Q.T", "__import__('time').sleep(999)")
DETACHED = "import os\n" + ENDLESS.replace("while", "os.fork() or os.setsid()\n    while")


@pytest.fixture(autouse=True, scope="module")
def with_or_without():
    """Where there is no sandbox, the command is tried without."""
    with process.scratch_folder() as scratch:
        Command.options = ["--no-sandbox"] if process.why_no_sandbox(scratch) else []


class Command:
    """``python mark.py in --marks=marks.csv`` in a folder, with a scratch folder of its own."""

    options = []

    def __init__(self, folder):
        self.folder, self.table, self.scratch = folder, folder / "marks.csv", folder / "scratch"
        self.scratch.mkdir()

    def hand_in(self, name, content=RIGHT):
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and name.endswith(".ipynb"):
            content = notebook(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def start(self, *options):
        words = [sys.executable, mark.__file__, "in", "--marks=marks.csv", *self.options, *options]
        environment = os.environ | {"TMPDIR": str(self.scratch)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(words, cwd=self.folder, env=environment, **pipes)

    def run(self, *options):
        """Return the exit status and what was printed."""
        running = self.start(*options)
        printed, _ = running.communicate(timeout=300)
        return running.returncode, printed

    def rows(self):
        """Return the verdicts on both exercises, by student."""
        with self.table.open(newline="", encoding="utf-8-sig") as file:
            return {row[0]: (row[1:4], row[4:7]) for row in list(csv.reader(file))[1:]}

    def left(self):
        """Return the files and processes that are left, after a while."""
        for _ in range(100):
            mine = str(self.scratch).encode()
            found = [file for file in Path("/proc").glob("[0-9]*/cmdline") if mine in read(file)]
            found += self.scratch.iterdir()
            if not found:
                return []
            time.sleep(0.1)
        return found


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def notebook(*cells):
    cells = [{"cell_type": "code", "source": cell} for cell in cells]
    return json.dumps({"cells": cells, "nbformat": 4})


@pytest.fixture
def command(tmp_path):
    return Command(tmp_path)


# ---- Rows, table and pages


def test_where_all_is_right_the_status_is_0_and_the_bytes_are_the_same_twice(command):
    for name in ("Anna Lee", "李小龍", "Зоя Ñandú"):
        command.hand_in(f"{name}/week5.ipynb")
    status, printed = command.run("--feedback=pages")
    assert status == 0, printed
    assert [*command.rows()] == ["Anna Lee", "Зоя Ñandú", "李小龍"]
    assert command.rows()["Anna Lee"][0][:2] == ["correct", "full batch, P first"]
    assert "3/3  " in printed and f"exercise 2, {MU}: 3 correct" in printed
    pages = command.folder / "pages"
    assert "E = R - P @ Q" in (pages / "李小龍.html").read_text(encoding="utf-8")
    first = [command.table.read_bytes(), *(page.read_bytes() for page in sorted(pages.iterdir()))]
    command.run("--feedback=pages")
    again = [command.table.read_bytes(), *(page.read_bytes() for page in sorted(pages.iterdir()))]
    assert first == again and command.left() == []


def test_where_something_is_wrong_the_status_is_1(command):
    command.hand_in("a/week5.ipynb", WRONG)
    command.hand_in("b/report.pdf", b"%PDF")
    feedback.write_table(command.table, [["gone", *["x"] * 6]])
    status, printed = command.run()
    assert status == 1 and [*command.rows()] == ["a", "b"], printed
    assert command.rows()["a"][0][0] == "wrong"
    assert command.rows()["b"][1][:2] == ["no verdict", "not a notebook"]


def test_a_page_is_there_for_every_student_and_marks_the_line_that_raised(command):
    command.hand_in("a/week5.ipynb", RIGHT.replace("E = R - P @ Q", "E = R - P @ S"))
    command.hand_in("b/week5.ipynb", RIGHT.replace("R - P @ Q", "(R - P @ Q"))
    command.hand_in("c/week5.docx", b"")
    command.hand_in("d/week5.ipynb", (CORPUS / "wrong_als_1.ipynb").read_bytes())
    command.run("--feedback=pages")
    pages = command.folder / "pages"
    assert 'data-line="5" class="marked">        E = R - P @ S' in (pages / "a.html").read_text()
    assert 'class="marked"' in (pages / "b.html").read_text()
    assert "Expected a notebook" in (pages / "c.html").read_text()
    assert 'class="marked"' not in (pages / "d.html").read_text()  # it raised in a trial only


# ---- Options


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        mark.main([str(word) for word in words])
    assert ended.value.code == mark.REFUSED
    return " ".join(capsys.readouterr().err.split())


def test_a_wrong_option_is_answered(capsys, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "week5.py").write_text(RIGHT)
    (tmp_path / "file").write_text("my thesis\n")
    path = tmp_path / "in"
    for words, answer in {
        (path, "--feedbak=x"): "did you mean --feedback?",
        (path, "--marks=" + str(tmp_path / "file")): "the first line there is 'my thesis'",
        (path, "--marks=" + str(tmp_path)): "expected a new file",
        (path, "--marks=" + str(tmp_path / "no" / "marks.csv")): "No such file or directory",
        (path, "--feedback=" + str(tmp_path / "file")): "File exists",
        (path, "--feedback=" + str(path / "pages")): "expected a folder that is not in",
        (path, "--time-limit=0"): "invalid seconds value: '0'",
        (path, "--time-limit=inf"): "invalid seconds value: 'inf'",
        (path, "--student=("): "is no regular expression",
        (path, "--student=x"): "(?P<student>",
        (tmp_path / "no",): "a folder or a zip; there is none",
        (): "the following arguments are required: PATH",
    }.items():
        assert answer in refusal(capsys, *words)
    assert (tmp_path / "file").read_text() == "my thesis\n"


def test_a_folder_without_submissions_is_refused(capsys, tmp_path):
    assert "but found none" in refusal(capsys, tmp_path)


def test_help_says_all(capsys):
    with pytest.raises(SystemExit):
        mark.main(["--help"])
    told = capsys.readouterr().out
    options = ("PATH", "--marks", "--feedback", "--time-limit", "--student", "--no-sandbox")
    assert all(option in told for option in (*options, "Exit status: 0"))


def test_the_home_folder_is_known_everywhere(command, monkeypatch):
    command.hand_in("a/week5.ipynb")
    monkeypatch.setenv("HOME", str(command.folder))
    status, printed = command.run("~/in", "--marks=~/all.csv", "--feedback=~/pages")
    assert status == 0, printed
    assert (command.folder / "all.csv").exists() and (command.folder / "pages").is_dir()


def test_whose_a_file_is_can_be_told(command):
    for name in ("s1", "s2"):
        command.hand_in(f"week5-{name}.ipynb")
    command.hand_in("notes.md")
    _, printed = command.run(r"--student=-(?P<student>s\d)")
    assert "nobody's: 1 file (notes.md)" in printed
    assert [*command.rows()] == ["s1", "s2"]


def test_without_a_sandbox_it_says_so_and_asks(capsys, tmp_path, monkeypatch):
    (tmp_path / "week5.py").write_text(RIGHT)
    monkeypatch.setattr(process, "why_no_sandbox", lambda scratch: "bwrap is not installed")
    text = "students' code can read and change all that you can"
    assert text in refusal(capsys, tmp_path)
    assert mark.main([str(tmp_path), "--no-sandbox"]) == 0
    printed = capsys.readouterr().out
    assert text in printed[: printed.index("1/1")]


# ---- Stopped in the middle


on_posix = pytest.mark.skipif(os.name != "posix", reason="there are no such signals")


@on_posix
@pytest.mark.parametrize(
    "name, times",  # a closed terminal sends its signal twice
    [("SIGINT", 1), ("SIGINT", 2), ("SIGTERM", 1), ("SIGHUP", 2), ("SIGKILL", 1)],
)
def test_what_is_judged_is_kept_and_nothing_else_is_left(command, name, times):
    for student in "abc":
        command.hand_in(f"{student}/week5.ipynb")
    command.hand_in("d/week5.ipynb", ENDLESS if command.options else DETACHED)
    for number in range(mark.AT_A_TIME):  # so that one waits for its turn
        command.hand_in(f"e{number}/week5.ipynb", ASLEEP)
    feedback.write_table(command.table, [["d", *["older"] * 6]])
    running = command.start()
    deadline = time.monotonic() + 120
    while len(command.rows()) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if name == "SIGHUP":
        running.stdout.close()  # as of a closed terminal
    for _ in range(times):
        running.send_signal(getattr(signal, name))
    try:
        printed = "" if name == "SIGHUP" else running.communicate(timeout=30)[0]
        assert running.wait(30) == (-9 if name == "SIGKILL" else mark.INTERRUPTED)
    finally:
        running.kill()
    if name in ("SIGINT", "SIGTERM"):
        assert f"stopped: 3 of {4 + mark.AT_A_TIME} are judged, and kept" in printed
    assert [*command.rows()] == [*"abcd"]
    assert command.rows()["a"][1][0] == "correct" and command.rows()["d"][0][0] == "older"
    assert command.left() == []


@on_posix
def test_it_ends_as_quietly_while_python_starts(command, monkeypatch):
    command.hand_in("a/week5.ipynb")
    module = command.folder / "modules" / "joblib.py"
    module.parent.mkdir()
    lines = [
        "import os, signal, time",
        # as in a terminal, also where a shell that runs this behind has it ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        "os.kill(os.getpid(), signal.SIGINT)",
        "time.sleep(60)",
    ]
    module.write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    assert command.run() == (mark.INTERRUPTED, "")


@on_posix
def test_it_ends_before_anybody_is_judged(command, monkeypatch):
    command.options = []
    command.hand_in("a/week5.ipynb")
    bwrap = command.folder / "commands" / "bwrap"
    bwrap.parent.mkdir()
    bwrap.write_text("#!/bin/sh\nkill -INT $PPID\nkill -HUP $PPID\nexec sleep 60")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bwrap.parent}:{os.environ['PATH']}")
    status, printed = command.run()
    assert (status, printed) == (mark.INTERRUPTED, "stopped: nobody is judged yet\n")
    assert command.left() == []


# ---- No input ends or holds the command


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_no_input_ends_the_command_or_holds_it(command):
    command.hand_in("right/week5.ipynb")
    command.hand_in("李" * 80 + "/week5.ipynb")
    command.hand_in("blank lines/week5.py", RIGHT + "\n" * 200_000)
    command.hand_in("bomb/week5.zip", zipped(**{"week5.ipynb": bytes(300 * 2**20)}))
    command.hand_in("long/week5.zip", zipped(**{"x" * 300 + ".ipynb": notebook(RIGHT)}))
    command.hand_in("nested/week5.ipynb", b"[" * 10**6)
    command.hand_in("brackets/week5.py", RIGHT + "(" * 10**5)
    command.hand_in("number/week5.ipynb", b'{"cells": ' + b"9" * 10**6 + b"}")
    command.hand_in("locked/in/week5.ipynb")
    (command.folder / "in" / "locked" / "in").chmod(0o644)
    for number in range(1000):
        command.hand_in(f"many/{number}.ipynb", ENDLESS)
    begin = time.monotonic()
    status, printed = command.run("--time-limit=2", "--feedback=pages")
    assert status == 1 and time.monotonic() < begin + 120, printed
    rows = command.rows()
    assert len(rows) == len([*(command.folder / "pages").iterdir()]) == 10
    for student in ("right", "李" * 80, "blank lines", "brackets", "long"):
        assert [verdict[0][:7] for verdict in rows[student]] == ["correct"] * 2, student
    for student in ("bomb", "nested", "number", "many"):
        assert rows[student][0][0] == "no verdict", student
    assert command.left() == []


def test_a_full_disk_costs_one_student_a_verdict(command, monkeypatch, capsys):
    for student in "abc":
        command.hand_in(f"{student}/week5.ipynb")
    hand_over = process.hand_over

    def full_at_times(files, folder):
        if "/b/" in str(files):
            raise OSError(28, "No space left on device")
        hand_over(files, folder)

    monkeypatch.setattr(process, "hand_over", full_at_times)
    monkeypatch.chdir(command.folder)
    assert mark.main(["in", "--marks=marks.csv", *command.options]) == 1
    kinds = {student: row[0][0] for student, row in command.rows().items()}
    assert kinds == {"a": "correct", "b": "no verdict", "c": "correct"}


def test_what_cannot_be_written_for_a_while_is_whole_in_the_end(command, monkeypatch, capsys):
    for student in "abc":
        command.hand_in(f"{student}/week5.ipynb")
    calls = []

    def full_at_times(write):
        def attempt(*details):
            calls.append(details)
            if len(calls) in (2, 3, 4):
                raise OSError(28, "No space left on device")
            write(*details)

        return attempt

    for name in ("write_table", "write_page"):
        monkeypatch.setattr(feedback, name, full_at_times(getattr(feedback, name)))
    monkeypatch.chdir(command.folder)
    assert mark.main(["in", "--marks=marks.csv", "--feedback=pages", *command.options]) == 0
    assert [*command.rows()] == [*"abc"] and len(os.listdir("pages")) == 3
    Path("pages/a.html").unlink()
    Path("pages/a.html").mkdir()
    options = ["--marks=marks.csv", "--feedback=pages", *command.options]
    assert mark.main(["in", *options]) == mark.UNWRITTEN
    assert "could not be written" in capsys.readouterr().out


# ---- The corpus


def test_every_submission_of_the_corpus_gets_its_verdict(monkeypatch):
    monkeypatch.setattr(process, "SMALL_CALL", 4)  # numba needs two to compile
    with (CORPUS / "expected.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["file"]: [*row.values()][1:] for row in csv.DictReader(file)}
    wrong = {}
    with process.scratch_folder() as scratch, ThreadPoolExecutor(2) as pool:
        limits = {
            "scratch": scratch,
            "time_limit": 8.0,
            "sandboxed": not process.why_no_sandbox(scratch),
        }
        students, _ = submissions.find([CORPUS], scratch)
        students.sort(key=lambda one: not re.search("endless|slow|swallows", one.student))
        for student, results in zip(students, pool.map(partial(mark.judged, **limits), students)):
            found = [text for result in results for text in result.verdict[:2]]
            if found != with_what_is_installed(expected.pop(student.student, None), found):
                wrong[student.student] = found
    assert (wrong, expected) == ({}, {})


def with_what_is_installed(expected, found):
    """Return what is expected; what needs a module may be right where that is installed."""
    expected = [*(expected or [""] * 4)]
    for place in (1, 3):
        module = expected[place].removeprefix("needs ")
        if "needs numba" in found[place] or (module != expected[place] and find_spec(module)):
            expected[place - 1 : place + 1] = found[place - 1 : place + 1]
    return expected
