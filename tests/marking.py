"""Mark a folder of submissions: ``pytest --submission FOLDER`` prints a table, a row each.

What students wrote is never parsed, let alone run, in this process: each submission has a process
and a folder of its own (answers.py), which is asked for numbers; the judge (checks.py) sits here.
Zips are not unpacked to the disk, and no text of theirs gets anywhere unfiltered.
"""

import base64
import contextlib
import csv
import functools
import hashlib
import html
import inspect
import io
import itertools
import json
import math
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import zipfile
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import answers
import checks
from answers import CHECKS
from checks import CORRECT, NOTED, WRONG, Settled, Verdict

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = (".ipynb", ".ipynb.json", ".ipynb.txt")  # browsers add to the name
HELPERS = (".py", ".csv", ".txt", ".json", ".npy", ".npz")  # what an answer may need beside it
SKIPPED = {".ipynb_checkpoints", "__MACOSX", ".git", ".venv", "__pycache__"}
FILE_LIMIT = 20 * 2**20  # bytes of a submission; the reference notebook has 1.6 MB
HELPER_LIMIT = 2**20
EXPORT_ROOM = {"files": 5000, "bytes": 250 * FILE_LIMIT}  # of a zip with submissions, unpacked
ZIP_ROOM = {"files": 500, "bytes": 5 * FILE_LIMIT}  # of a zip in it, with all zips in that
AT_A_TIME = 2
RIGHT = (CORRECT, NOTED)
KINDS = (*RIGHT, WRONG, "not attempted", "no verdict")
COLUMNS = [
    *("submission", "exercise 1", "label 1", "remark 1", "exercise 2", "label 2", "remark 2"),
    "fingerprint",
]


# --------------------------------------------------------------------------
# Options
# --------------------------------------------------------------------------


def add_options(parser):
    group = parser.getgroup("marking", "Marking what students hand in (week 5)")
    option = functools.partial(group.addoption, default=None)
    option(
        "--submission",
        action="append",
        default=[],
        metavar="PATH",
        help="mark this notebook, folder of notebooks or zip, and run no tests; may be repeated",
    )
    option("--marks", metavar="FILE.csv", help="write the marks here, and go on where they end")
    option("--feedback", metavar="FOLDER", help="write a page for each student to this folder")
    option(
        "--time-limit",
        type=positive,
        default=60.0,
        metavar="SECONDS",
        help="for each exercise of a submission, a third of it for each call (default: 60)",
    )
    option(
        "--memory-limit",
        type=positive,
        default=4.0,
        metavar="GB",
        help="for each submission, where the system has such limits (default: 4)",
    )


def positive(text):
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def configure(config):
    """Have the submissions marked in the place of the tests."""
    option = config.option
    found = []
    for path in option.submission:
        here = list(find(Path(path), several=len(option.submission) > 1))
        if not here:
            raise pytest.UsageError(
                f"--submission {plain(path)}: expected a notebook, or a folder or zip with some, "
                "but " + ("there is none in it" if Path(path).exists() else "it does not exist")
            )
        found += here
    submissions, others = sorted_out(found)
    marking = Marking(list(named_apart(submissions)), others, option)
    option.nbval = option.nbval_lax = False
    option.dist, option.tx, option.numprocesses = "no", [], None  # of pytest-xdist
    config.pluginmanager.register(marking, "marking")


# --------------------------------------------------------------------------
# Finding submissions and reading their cells
# --------------------------------------------------------------------------


class Submission(NamedTuple):
    """A file, and what was read of it."""

    name: str
    cells: list = ()  # the sources of its code cells
    fault: Verdict = None  # why there are none
    content: bytes = None  # of what may be needed beside a notebook
    beside: dict = {}  # the names and contents of such files

    @property
    def folder(self):
        return self.name.rpartition("/")[0]

    @property
    def student(self):
        """The start of the name that Canvas gives to all files of a student, or nothing."""
        canvas = re.match(r"\w+?_(LATE_)?\d+_\d+_", self.name.rpartition("/")[2])
        return canvas[0] if canvas else ""

    @property
    def is_answer(self):
        return bool(self.cells) or bool(self.fault)


class TooLargeError(Exception):
    pass


NOT_A_NOTEBOOK = Verdict("no verdict", "not a notebook", "expected a notebook or a .py file.")


def fault(error):
    if isinstance(error, TooLargeError):
        return Verdict("no verdict", "too large", str(error))
    return Verdict("no verdict", "not readable", plain(f"{type(error).__name__}: {error}"))


def find(path, several=False):
    """Yield what is in a file, a folder or a zip."""
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
    """Yield what one file is, or what the files in a zip are."""
    parts = name.replace("\\", "/").split("/")
    lower = parts[-1].lower()
    if SKIPPED & set(parts) or lower.startswith("."):
        return
    if lower.endswith(".zip"):
        try:
            yield from in_zip(f"{name}/" if prefix is None else prefix, opener, room)
        except Exception as error:  # what a broken zip raises depends on where it is broken
            yield Submission(name, fault=fault(error))
    else:
        yield read(name, size, opener, named or lower.endswith(NOTEBOOKS))


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


def read(name, size, opener, wanted):
    """Read a file that is wanted, and any .py that defines an answer; keep what may be needed."""
    is_module = name.lower().endswith(".py")
    try:
        if wanted or is_module:
            if size > FILE_LIMIT:  # then it is not even opened
                most, got = FILE_LIMIT >> 20, size >> 20
                raise TooLargeError(f"expected at most {most} MB, but got {got} MB")
            with opener() as file:
                content = read_all(file)
            if is_module and b"\0" in content:  # UTF-16, as some editors save
                return Submission(name)
            cells = code_cells(content, is_module)
            pattern = rf"^\s*(def\s+)?({'|'.join(CHECKS)})\b"
            if wanted or any(re.search(pattern, cell, re.M) for cell in cells):
                return Submission(name, cells or [""], content=content)
            return Submission(name, content=content)
        if size <= HELPER_LIMIT and name.lower().endswith(HELPERS):
            with opener() as file:
                return Submission(name, content=read_all(file))
    except Exception as error:
        return Submission(name, fault=fault(error))
    return Submission(name)


def read_all(file):
    content = file.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise TooLargeError(f"expected at most {FILE_LIMIT >> 20} MB, but got more")
    return content


def code_cells(content, is_module):
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


def sorted_out(found):
    """Return the rows of the table, one for each student at least, and the names of what is left.

    A file beside a notebook goes with it: to the student whose name Canvas puts before both, else
    to the one notebook in its folder, or below. Whoever handed in no notebook has a row as well.
    """
    rows = [x for x in found if x.is_answer]
    others = [x for x in found if not x.is_answer]
    beside = {row.name: {} for row in rows}
    alone, left = {}, []
    for file in others:
        same = [x for x in rows if x.folder == file.folder and x.student == file.student]
        below = [x for x in rows if file.folder and x.folder.startswith(f"{file.folder}/")]
        above = [x for x in rows if x.folder and file.folder.startswith(f"{x.folder}/")]
        if file.content is not None:
            for row in same:
                own = file.name.rpartition("/")[2].removeprefix(file.student)
                beside[row.name][own] = file.content
        helper = file.name.lower().endswith(".py") and file.content is not None
        if same and (file.student or helper or (file.folder and len(same) == 1)):
            left.append(file.name)
        elif not same and (len({x.folder for x in below}) == 1 or len(above) == 1):
            left.append(file.name)
        else:
            key = file.student or file.folder or file.name
            alone.setdefault(key if not same else file.name, []).append(file.name)
    for names in alone.values():
        rows.append(Submission(names[0], fault=NOT_A_NOTEBOOK))
        left += names[1:]
    rows.sort(key=lambda row: row.name)
    return [row._replace(beside=beside.get(row.name, {})) for row in rows], left


def named_apart(submissions):
    """Give each submission a name that is fit to print and that no other has."""
    taken = set()
    for submission in submissions:
        name = plain(submission.name)
        again = (f"{name} ({i})" for i in itertools.count(2))
        name = next(x for x in itertools.chain([name], again) if x not in taken)
        taken.add(name)
        yield submission._replace(name=name)


# --------------------------------------------------------------------------
# The process of an answer
# --------------------------------------------------------------------------


@functools.cache
def apart():
    """Return the start of a command that has neither a network nor survivors, where there is one.

    A shell in between keeps the answer from being the first process, which no signal reaches.
    """
    for options in (["-n", "-p"], ["-r", "-n", "-p"], ["-n"], ["-r", "-n"]):
        fork = ["--fork", "--kill-child"] if "-p" in options else []
        command = ["unshare", *options, *fork, "sh", "-c", '"$@"; exit $?', "sh"]
        with contextlib.suppress(OSError):
            if not subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
                return command
    return []


class Process:
    """Serves the calls of a submission's answers, and is ended when it takes too long."""

    running = set()

    def __init__(self, submission, folder, option):
        self.cells, self.folder, self.limit = list(submission.cells), folder, option.time_limit
        self.memory = option.memory_limit
        self.process, self.end, self.number = None, math.inf, 0

    def start(self):
        kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
        home = str(self.folder)
        environment = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            **dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "MPLCONFIGDIR"), home),
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
            **{"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            **{"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
        }
        self.process = subprocess.Popen(
            [*apart(), sys.executable, answers.__file__, str(self.memory), str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        self.lines = queue.Queue(1000)
        threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True).start()
        self.running.add(self)

    def read(self, stream):
        with contextlib.suppress(OSError, ValueError):
            for line in iter(lambda: stream.readline(2**25), b""):
                self.lines.put(line)
        self.lines.put(None)

    def stop(self):
        if self.process is not None:
            with contextlib.suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            self.running.discard(self)
            self.process = None

    def ask(self, what, **details):
        """Return the reply, a dictionary; whatever else is written in its place is left aside."""
        if self.process is None:
            self.start()
        self.number += 1
        now = time.monotonic()
        seconds = min(self.limit / 3, self.end - now)
        timer = threading.Timer(max(seconds, 0), self.stop)
        timer.start()
        try:
            request = json.dumps([self.number, what, details]).encode()
            self.process.stdin.write(request + b"\n")
            self.process.stdin.flush()
            while line := self.lines.get(timeout=seconds + 5):
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    number, reply = json.loads(line)
                    if number == self.number and isinstance(reply, dict):
                        return reply
        except (OSError, ValueError, AttributeError, queue.Empty):
            pass
        finally:
            timer.cancel()
        self.stop()
        if time.monotonic() - now < seconds - 0.01:
            text = "the process ended while the answer ran."
            raise Settled(Verdict("no verdict", "killed its process", text))
        if seconds < self.limit / 3:
            raise Settled(
                Verdict("no verdict", f"no answer in {self.limit:g} s", "it took too long.")
            )
        text = (
            f"no answer within {seconds:.3g} s, for a few steps on a small matrix. Is there a loop "
            "that never ends?"
        )
        raise Settled(Verdict(WRONG, "too slow", text))


class Proxy:
    """Stands for the student's function: it has its signature, and sends calls to its process."""

    blank = False

    def __init__(self, process, name):
        self.process, self.name, self.fetched, self.source = process, name, False, ""
        self.process.end = time.monotonic() + process.limit
        self.alive = True
        known = process.ask("define", name=name, cells=process.cells)
        if "fault" in known:
            kind, label, text = map(str, known["fault"])
            raise Settled(Verdict(kind if kind in KINDS[2:] else "no verdict", label, text))
        if not known.get("callable"):
            raise Settled(Verdict(WRONG, "not a function", f"{name} is not a function."))
        self.source = str(known.get("source"))
        self.__globals__ = {x: None for x in known.get("shared", []) if x in answers.SHARED}
        with contextlib.suppress(TypeError, ValueError, AttributeError):
            self.__signature__ = inspect.Signature(
                inspect.Parameter(
                    name,
                    inspect._ParameterKind(kind),
                    default=inspect.Parameter.empty if bare else default,
                )
                for name, kind, bare, default in known["parameters"]
            )

    def __call__(self, *args, **kwargs):
        if not self.alive:
            raise Settled(Verdict(WRONG, "too slow", ""))
        values = [*args, *kwargs.values()]
        shared = {x: encoded(value) for x, value in self.__globals__.items() if value is not None}
        self.alive = False
        reply = self.process.ask(
            "call",
            args=[encoded(x) for x in args],
            kwargs={name: encoded(x) for name, x in kwargs.items()},
            shared=shared,
        )
        self.alive = True
        self.fetched |= bool(reply.get("fetched"))
        if "module" in reply:
            raise ImportError("not here", name=plain(reply["module"], 60))
        if "error" in reply:
            name, message, place = map(plain, reply["error"])
            raise type(name, (Exception,), {"place": f" {place}" if place else ""})(message)
        arrays = [x for x in values if isinstance(x, np.ndarray)]
        for x, changed in zip(arrays, reply.get("changed", [])):
            if changed:
                x.fill(np.nan)
        factors = reply.get("factors")
        if not isinstance(factors, list):
            return type(plain(reply.get("kind"), 60), (), {})()
        return tuple(map(decoded, factors[:9]))


def encoded(value):
    if not isinstance(value, np.ndarray):
        return value
    data = base64.b64encode(np.ascontiguousarray(value, "<f8").tobytes()).decode()
    return {"shape": value.shape, "data": data}


def decoded(value):
    """Return an array or a list of numbers; what is neither, as something of that type."""
    try:
        content = base64.b64decode(value["data"])
        array = np.frombuffer(content, "<f8").reshape(value["shape"])
        return array.tolist() if value.get("list") else array
    except Exception:
        return type(plain(value, 60), (), {})()


def judged(submission, option):
    """Return the verdict on each exercise, and the source that was judged."""
    if submission.fault:
        return {name: (submission.fault, "") for name in CHECKS}
    results = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, content in itertools.islice(submission.beside.items(), 100):
            if re.fullmatch(r"\w[\w. -]*", name):
                Path(folder, name).write_bytes(content)
        for font in fonts():
            shutil.copy(font, folder)
        process = Process(submission, folder, option)
        try:
            for name, check in CHECKS.items():
                proxy = None
                try:
                    proxy = Proxy(process, name)
                    verdict = about_faces(check(proxy), proxy.fetched)
                except Settled as settled:
                    verdict = settled.args[0]
                except Exception as error:
                    text = f"the judge could not finish: {error}"
                    verdict = Verdict("no verdict", type(error).__name__, text)
                results[name] = verdict, proxy.source if proxy else ""
        finally:
            process.stop()
    return {
        name: (Verdict(kind, plain(label, 60), plain(text)), source)
        for name, ((kind, label, text), source) in results.items()
    }


def about_faces(verdict, fetched):
    """Say so where the function loads the faces, for which marking has something else."""
    kind, label, text = verdict
    if fetched and kind in RIGHT:
        return Verdict(NOTED, "loads the faces", f"{text} It loads the faces by itself.")
    if fetched and kind == WRONG:
        text = "it loads the faces by itself, and marking must not fetch them."
        return Verdict("no verdict", "needs the faces", text)
    return verdict


@functools.cache
def fonts():
    """Return Matplotlib's list of fonts, which takes it long to make."""
    with contextlib.suppress(Exception):
        import matplotlib

        return list(Path(matplotlib.get_cachedir()).glob("fontlist-*.json"))
    return []


# --------------------------------------------------------------------------
# The run, the table and the pages
# --------------------------------------------------------------------------


class Marking:
    """The plugin that runs the submissions, keeps their verdicts and prints the table."""

    def __init__(self, submissions, others, option):
        self.submissions, self.others, self.option = submissions, others, option
        self.marks = option.marks and Path(option.marks)
        self.feedback = option.feedback and Path(option.feedback)
        self.pages = dict(zip([x.name for x in submissions], page_names(submissions)))
        self.prints = {x.name: fingerprint(x, option) for x in submissions}
        self.rows = {}
        if self.marks:
            self.resume(check_marks(self.marks))
        if self.feedback:
            self.feedback.mkdir(parents=True, exist_ok=True)

    def resume(self, rows):
        """Keep what an earlier run has settled, if neither the submission nor the judge changed."""
        names = {harmless(x.name): x.name for x in self.submissions}
        for name, *cells, mark in rows:
            name = names.get(name)
            if mark != self.prints.get(name) or "no verdict" in cells:
                continue
            if self.feedback and not (self.feedback / self.pages[name]).exists():
                continue
            self.rows[name] = dict(zip(CHECKS, (Verdict(*cells[:3]), Verdict(*cells[3:]))))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        session.testscollected = len(self.submissions)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if self.rows:
            reporter.write_line(f"{len(self.rows)} of {len(self.submissions)} are marked already")
        todo = deque(x for x in self.submissions if x.name not in self.rows)
        running = {}
        if self.marks:
            write_marks(self.marks, self.rows, self.prints)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            try:
                while todo or running:
                    while todo and len(running) < AT_A_TIME:
                        submission = todo.popleft()
                        running[pool.submit(judged, submission, self.option)] = submission
                        reporter.write_line(f"judging {cut(submission.name)}, {len(todo)} left")
                    for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                        self.keep(running.pop(future), future.result())
            except BaseException:
                for future in running:
                    future.cancel()
                while not all(future.done() for future in running):
                    for process in list(Process.running):
                        process.stop()
                    time.sleep(0.05)
                raise
        self.rows = {x.name: self.rows[x.name] for x in self.submissions}
        if self.marks:
            write_marks(self.marks, self.rows, self.prints)
        wrong = [x for row in self.rows.values() for x in row.values() if x.kind not in RIGHT]
        session.testsfailed = len(wrong)
        return True

    def keep(self, submission, results):
        row = self.rows[submission.name] = {name: found for name, (found, _) in results.items()}
        if self.feedback:
            page = self.feedback / self.pages[submission.name]
            page.write_text(page_of(submission.name, results), encoding="utf-8")
        if self.marks:
            write_marks(self.marks, {submission.name: row}, self.prints, "a")

    def pytest_terminal_summary(self, terminalreporter, exitstatus):
        terminalreporter.section("marks")
        for line in table(self.rows):
            terminalreporter.write_line(line)
        if self.others:
            names = plain(", ".join(self.others), 200)
            terminalreporter.write_line(f"not looked at: {len(self.others)} other files ({names})")
        if exitstatus == pytest.ExitCode.INTERRUPTED and self.marks:
            terminalreporter.write_line("interrupted: the same command goes on from here")
        if self.marks:
            terminalreporter.write_line(f"the same table: {self.marks}")


def fingerprint(submission, option):
    """Return what changes when the submission, the judge or what it runs on does."""
    judge = [Path(module.__file__).read_bytes() for module in (answers, checks)]
    told = [submission[1:], option.time_limit, option.memory_limit, sys.version, np.__version__]
    return hashlib.sha256(b"".join([*judge, repr(told).encode()])).hexdigest()[:12]


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
    """Refuse what is not a table of marks, and a place where none can be written; return rows."""
    try:
        with path.open("a+", newline="", encoding="utf-8-sig") as file:
            file.seek(0)
            first, *rows = list(csv.reader(file)) or [COLUMNS]
    except (OSError, UnicodeError, csv.Error) as error:
        raise pytest.UsageError(f"--marks {path} cannot be written: {error}") from error
    if first[:-1] != COLUMNS[:-1] and first != COLUMNS[:-1]:
        raise pytest.UsageError(
            f"--marks {path}: expected a new file or an older table of marks, but the first line "
            f"there is {plain(','.join(first), 80)!r}. Give another name, or move that file away"
        )
    return [row for row in rows if len(row) == len(COLUMNS)]


def write_marks(path, rows, prints, mode="w"):
    with path.open(mode, newline="", encoding="utf-8-sig" if mode == "w" else "utf-8") as file:
        writer = csv.writer(file)  # the mark of utf-8-sig is for Excel
        if mode == "w":
            writer.writerow(COLUMNS)
        for name, row in rows.items():
            cells = [name, *itertools.chain(*row.values()), prints[name]]
            writer.writerow(map(harmless, cells))


PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{name}</title>
<style>body {{max-width: 50em; margin: 2em auto; font-family: sans-serif}} pre {{background: #eee}}</style>
<h1>{name}</h1>
"""
PART = """<h2>Exercise {number}: {name}</h2>
<p><b>{kind}</b>{label}: {text}</p>
<pre>{source}</pre>
"""


def page_of(name, results):
    """Return a page with the verdicts and what was judged, where everything is text."""
    parts = [PAGE.format(name=html.escape(name))]
    for number, (exercise, (verdict, source)) in enumerate(results.items(), 1):
        lines = "\n".join(plain(line, 500, keep=True) for line in source.splitlines()[:500])
        parts.append(
            PART.format(
                number=number,
                name=exercise,
                kind=verdict.kind,
                label=html.escape(f" ({verdict.label})" if verdict.label else ""),
                text=html.escape(verdict.text),
                source=html.escape(lines),
            )
        )
    return "".join(parts)


def page_names(submissions):
    """Yield names of files, harmless on every system, in which the students' can be recognised."""
    taken = set()
    for submission in submissions:
        name = re.sub(r"[^\w.()-]+", "_", submission.name.replace("/", "-")).lstrip("._-")
        name = cut(name, 100) if len(name) > 100 else name
        again = (f"{name}-{i}" for i in itertools.count(2))
        name = next(x for x in itertools.chain([name], again) if x.lower() not in taken)
        taken.add(name.lower())
        yield f"{name}.html"


def harmless(text):
    """Have a spreadsheet take a text for a text, whatever it begins with."""
    return "'" + text if text.lstrip().startswith(("=", "+", "-", "@")) else text


def plain(text, longest=400, keep=False):
    """Return a text on one line, without anything that moves the cursor or turns the writing."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", str(text))
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = text if keep else " ".join(text.split())
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
