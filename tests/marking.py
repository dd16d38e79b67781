"""Mark a folder of submissions: ``pytest --submission FOLDER`` prints a table, a row each.

Every answer runs through nbval in a kernel and an empty folder of its own. What students
wrote is never parsed, let alone run, in the process that marks it; zips are not unpacked
to the disk; and no text of theirs reaches the terminal, the marks or the report unfiltered.
"""

import csv
import functools
import io
import itertools
import json
import math
import os
import re
import tempfile
import time
import unicodedata
import uuid
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from queue import Empty
from typing import NamedTuple

import nbformat
import pytest
from answers import CHECKS
from checks import Verdict
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "week5_tutorial.ipynb"
SUFFIXES = (".ipynb", ".ipynb.json", ".ipynb.txt", ".py")  # browsers add to the name
SKIPPED = {".ipynb_checkpoints", "__MACOSX", ".git", ".venv", "__pycache__"}
FILE_LIMIT = 20 * 2**20  # bytes of a submission; the reference notebook has 1.6 MB
EXPORT_ROOM = {"files": 5000, "bytes": 250 * FILE_LIMIT}  # of a zip with submissions, unpacked
ZIP_ROOM = {"files": 500, "bytes": 5 * FILE_LIMIT}  # of a zip in it, with all zips in that
RIGHT = ("correct", "correct, with a note")
KINDS = (*RIGHT, "wrong", "not attempted", "no verdict")
COLUMNS = ["submission", "exercise 1", "label 1", "remark 1", "exercise 2", "label 2", "remark 2"]


# --------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------


def add_options(parser):
    group = parser.getgroup("marking", "Marking what students hand in (week 5)")
    group.addoption(
        "--submission",
        action="append",
        default=[],
        metavar="PATH",
        help="mark this notebook, folder of notebooks or zip, and run no tests; may be repeated",
    )
    group.addoption("--marks", metavar="FILE.csv", help="write the table of marks to this file")
    group.addoption(
        "--time-limit",
        type=positive,
        default=60.0,
        metavar="SECONDS",
        help="for each exercise of a submission (default: 60)",
    )
    group.addoption(
        "--memory-limit",
        type=positive,
        default=4.0,
        metavar="GB",
        help="for each exercise of a submission, where the system has such limits (default: 4)",
    )


def positive(text):
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def configure(config):
    """Have the submissions run in the reference notebook's place, and nothing else."""
    option = config.option
    found = []
    for path in option.submission:
        here = list(find(Path(path), several=len(option.submission) > 1))
        if not any(isinstance(x, Submission) for x in here):
            raise pytest.UsageError(
                f"--submission {plain(path)}: expected a notebook, or a folder or zip with some, "
                "but " + ("there is none in it" if Path(path).exists() else "it does not exist")
            )
        found += here
    marks = option.marks and Path(option.marks)
    if marks:
        check_marks(marks)
    config.args = [str(ROOT / NOTEBOOK)]
    option.nbval = option.nbval_lax = False
    option.nbval_cell_timeout = option.time_limit
    option.reportchars = ""  # the table says it
    submissions = list(named_apart(x for x in found if isinstance(x, Submission)))
    others = [x for x in found if not isinstance(x, Submission)]
    config.pluginmanager.register(Marking(submissions, others, marks), "marking")


# --------------------------------------------------------------------------
# Finding submissions and reading their cells
# --------------------------------------------------------------------------


class Submission(NamedTuple):
    name: str
    cells: list  # the sources of its code cells
    fault: Verdict = None  # why there are none


class TooLargeError(Exception):
    pass


def fault(error):
    if isinstance(error, TooLargeError):
        return Verdict("no verdict", "too large", str(error))
    return Verdict("no verdict", "not readable", plain(f"{type(error).__name__}: {error}"))


def find(path, several=False):
    """Yield what is in a file, a folder or a zip: submissions, and the names of other files."""
    prefix = f"{path.as_posix()}/" if several else ""
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            folders.sort()
            for file in sorted(files):
                file = Path(folder, file)
                if file.is_file():  # not a pipe, nor a link to nowhere
                    name = prefix + file.relative_to(path).as_posix()
                    yield from look(name, *size_and_opener(file))
    elif path.is_file():
        name = path.as_posix() if several else path.name
        yield from look(name, *size_and_opener(path), named=True, prefix=prefix)


def size_and_opener(path):
    return path.stat().st_size, lambda: path.open("rb")


def look(name, size, opener, named=False, prefix=None, room=None):
    """Yield what one file is: a submission, those in a zip, or its name if it is neither."""
    parts = name.replace("\\", "/").split("/")
    lower = parts[-1].lower()
    if SKIPPED & set(parts) or lower.startswith("._"):
        return
    if lower.endswith(".zip"):
        try:
            yield from in_zip(f"{name}/" if prefix is None else prefix, opener, room)
        except Exception as error:  # what a broken zip raises depends on where it is broken
            yield Submission(name, [], fault(error))
        return
    submission = read(name, size, opener) if named or lower.endswith(SUFFIXES) else None
    if submission and (named or not lower.endswith(".py") or defines_an_answer(submission)):
        yield submission
    else:
        yield name


def in_zip(prefix, opener, room):
    """Yield what is in a zip, unpacked in memory, one file at a time."""
    with opener() as file:
        inner = room is not None
        source = io.BytesIO(read_all(file)) if inner else file
        room = room if inner else dict(EXPORT_ROOM)
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            room["files"] -= len(members)
            room["bytes"] -= sum(min(member.file_size, FILE_LIMIT) for member in members)
            if min(room.values()) < 0:
                raise TooLargeError("the zip holds too many files, or too large ones")
            for member in sorted(members, key=lambda member: member.filename):
                yield from look(
                    prefix + member.filename,
                    member.file_size,
                    functools.partial(archive.open, member),
                    room=room if inner else dict(ZIP_ROOM),
                )


def read(name, size, opener):
    try:
        if size > FILE_LIMIT:  # then it is not even opened
            raise TooLargeError(f"expected at most {FILE_LIMIT >> 20} MB, but got {size >> 20} MB")
        with opener() as file:
            content = read_all(file)
        return Submission(name, code_cells(content, is_module=name.lower().endswith(".py")))
    except Exception as error:
        return Submission(name, [], fault(error))


def read_all(file):
    content = file.read(FILE_LIMIT + 1)  # whatever the header of a zip promises
    if len(content) > FILE_LIMIT:
        raise TooLargeError(f"expected at most {FILE_LIMIT >> 20} MB unpacked")
    return content


def code_cells(content, is_module):
    """Return the sources of the code cells of a notebook of any version, or of a module."""
    if not content.strip():
        raise ValueError("the file is empty")
    if is_module:  # with the marks of VS Code or nbconvert between cells, or one cell
        text = content.decode("utf-8-sig", "replace")
        return re.split(r"^(?=# ?%%|# In\[[\d ]*\])", text, flags=re.M)
    notebook = json.loads(content)
    sheets = notebook.get("worksheets", [notebook])  # before version 4
    cells = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]
    return [source.encode("utf-8", "replace").decode() for source in sources]


def defines_an_answer(submission):
    pattern = "|".join(CHECKS)
    return any(re.search(rf"^\s*(def\s+)?({pattern})\b", x, re.M) for x in submission.cells)


def named_apart(submissions):
    """Give each submission a name that is fit to print and that no other has."""
    taken = set()
    for submission in submissions:
        name = plain(submission.name).replace("::", ":")  # which pytest takes for its own
        again = (f"{name} ({i})" for i in itertools.count(2))
        name = next(x for x in itertools.chain([name], again) if x not in taken)
        taken.add(name)
        yield submission._replace(name=name)


# --------------------------------------------------------------------------
# Running the answers through nbval
# --------------------------------------------------------------------------


class KernelDiedError(Exception):
    pass


class Kernel(RunningKernel):
    """nbval's kernel, but one that has died is noticed, and so is one that never falls silent."""

    deadline = math.inf

    def get_message(self, stream, timeout=None):
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        while time.monotonic() < self.deadline:
            try:
                return super().get_message(stream, timeout=0.25)
            except Empty:
                if not self.is_alive():
                    raise KernelDiedError from None
                if time.monotonic() > end:
                    raise
        raise Empty


def start_kernel(folder, tries=3):
    """Start a kernel; again if it fails, as another process may have taken its ports meanwhile."""
    for left in reversed(range(tries)):
        try:
            return Kernel(CURRENT_ENV_KERNEL_NAME, cwd=folder)
        except Exception:
            if not left:
                raise


class Submissions(pytest.File):
    def collect(self):
        for submission in self.config.pluginmanager.get_plugin("marking").submissions:
            # Never a path of theirs: pytest would look for conftest.py beside it
            yield Answers.from_parent(
                self, path=self.path, nodeid=submission.name, submission=submission
            )


class Answers(IPyNbFile):
    """One submission, as a notebook of two cells: one for each answer."""

    def __init__(self, *, submission, **kwargs):
        super().__init__(**kwargs)
        self.submission = submission

    def setup(self):
        """Start no kernel here, as each answer has its own."""

    teardown = setup

    def collect(self):
        for number, name in enumerate(CHECKS):
            yield Answer.from_parent(
                self, name=name, cell_num=number, cell=None, options=defaultdict(bool)
            )


class Answer(IPyNbCell):
    def setup(self):
        self.parent.timed_out = False

    def reportinfo(self):
        return self.path, 0, f"{self.parent.submission.name}: {self.name}"

    def runtest(self):
        kind, label, text = self.parent.submission.fault or self.judged()
        verdict = Verdict(kind, plain(label, 60), plain(text))
        self.user_properties.append(("verdict", f"{short(verdict)}. {verdict.text}"))
        self.config.pluginmanager.get_plugin("marking").keep(self, verdict)
        if verdict.kind not in RIGHT:
            raise NotRightError(f"{short(verdict)}\n{verdict.text}")

    def judged(self):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            try:
                self.parent.kernel = start_kernel(folder)
            except Exception as error:
                return "no verdict", "no kernel", f"{type(error).__name__}: {error}"
            try:
                return self.judged_in(self.parent.kernel)
            finally:
                if hasattr(self.parent.kernel, "km"):  # nbval has not stopped it already
                    self.parent.kernel.stop()

    def judged_in(self, kernel):
        """Run the cell that judges, through nbval, and return what it publishes."""
        limit = self.config.option.time_limit
        mime = f"application/x-verdict-{uuid.uuid4().hex}"
        self.cell = nbformat.v4.new_code_cell(self.source(mime))
        kernel.deadline = time.monotonic() + limit + 2 * self.output_timeout
        try:
            super().runtest()
        except KernelDiedError:
            return "no verdict", "killed its kernel", "the process ended while the answer ran"
        except NbCellError:
            pass  # what it was is in the outputs
        if self.parent.timed_out:  # even if the answer swallowed the interrupt and went on
            return "no verdict", f"no answer in {limit:g} s", "it was interrupted"
        for output in self.test_outputs:
            if mime in output.get("data", {}):
                return [str(part) for part in output.data[mime]]
        errors = [output for output in self.test_outputs if output.output_type == "error"]
        name, value = (errors[0].ename, errors[0].evalue) if errors else ("no output", "")
        return "no verdict", name, f"the judge could not finish: {value}"

    def source(self, mime):
        arguments = {
            "name": self.name,
            "cells": self.parent.submission.cells,
            "memory": self.config.option.memory_limit,
            "mime": mime,
        }
        return (
            "import os, sys\n"
            "os.environ.update(MPLBACKEND='agg', OMP_NUM_THREADS='1')\n"  # threads take memory
            "sys.dont_write_bytecode = True\n"
            f"sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!a}\n"
            "import answers\n"
            f"answers.run(**{arguments!a})"
        )

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, NotRightError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class NotRightError(Exception):
    pass


# --------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------


class Marking:
    """The plugin that collects the submissions, keeps their verdicts and prints the table."""

    def __init__(self, submissions, others, marks):
        self.submissions = submissions
        self.others = others
        self.marks = marks
        nothing = Verdict("no verdict", "not run", "")
        self.rows = {x.name: dict.fromkeys(CHECKS, nothing) for x in submissions}

    def keep(self, answer, verdict):
        self.rows[answer.parent.submission.name][answer.name] = verdict

    def pytest_collect_file(self, file_path, parent):
        if file_path.name == NOTEBOOK:
            return Submissions.from_parent(parent, path=file_path)

    def pytest_terminal_summary(self, terminalreporter, exitstatus):
        terminalreporter.section("marks")
        for line in table(self.rows):
            terminalreporter.write_line(line)
        if self.others:
            names = plain(", ".join(self.others), 200)
            terminalreporter.write_line(f"not looked at: {len(self.others)} other files ({names})")
        if self.marks and exitstatus == pytest.ExitCode.INTERRUPTED:
            terminalreporter.write_line(f"interrupted, so {self.marks} is left as it was")
        elif self.marks:
            try:
                write_marks(self.marks, self.rows)
                terminalreporter.write_line(f"the same table: {self.marks}")
            except OSError as error:
                terminalreporter.write_line(f"the table cannot be written: {error}", red=True)


def short(verdict):
    return f"{verdict.kind}: {verdict.label}" if verdict.label else verdict.kind


def table(rows):
    """Yield the lines of the table, then what it adds up to."""
    lines = [["submission", *(f"exercise {i}: {name}" for i, name in enumerate(CHECKS, 1))]]
    lines += [[cut(name), *map(short, row.values())] for name, row in rows.items()]
    widths = [max(map(width, column)) for column in zip(*lines)]
    for line in lines:
        yield "  ".join(text + " " * (w - width(text)) for text, w in zip(line, widths)).rstrip()
    yield f"total: {len(rows)}"
    for i, name in enumerate(CHECKS, 1):
        counts = Counter(row[name].kind for row in rows.values())
        some = (f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        yield f"exercise {i}: " + "; ".join(some)


def check_marks(path):
    """Refuse to overwrite what is not a table of marks, and a place where none can be written."""
    try:
        with path.open("a+", newline="", encoding="utf-8-sig") as file:
            file.seek(0)
            first = file.readline().strip()
    except (OSError, UnicodeError) as error:
        raise pytest.UsageError(f"--marks {path} cannot be written: {error}") from error
    if first and first != ",".join(COLUMNS):
        raise pytest.UsageError(
            f"--marks {path}: expected a new file or an older table of marks, but the first line "
            f"there is {plain(first, 80)!r}. Give another name, or move that file away"
        )


def write_marks(path, rows):
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # the mark is for Excel
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for name, row in rows.items():
            writer.writerow(map(harmless, [name, *itertools.chain(*row.values())]))


def harmless(text):
    """Have a spreadsheet take a text for a text, whatever it begins with."""
    return "'" + text if text.lstrip().startswith(("=", "+", "-", "@")) else text


def plain(text, longest=400):
    """Return a text on one line, without anything that moves the cursor or turns the writing."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", str(text))
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def cut(name, longest=44):
    """Shorten a name in the middle: folders differ at the start, files at the end."""
    return name if len(name) <= longest else f"{name[: longest - 20]}...{name[-17:]}"


def width(text):
    """Return how many columns of a terminal a text takes."""
    marks = {"W": 2, "F": 2}
    return sum(
        0 if unicodedata.combining(c) else marks.get(unicodedata.east_asian_width(c), 1)
        for c in text
    )
