"""Mark a folder of submissions: ``pytest --submission=FOLDER`` prints a table, a row each.

What students wrote is neither parsed nor run in this process: each submission has a process and a
folder of its own (answers.py), which is asked for numbers; the judge (checks.py) sits here. Zips
are not unpacked to the disk, and no text of a student's gets anywhere unfiltered.
"""

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
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import answers
import checks
import numpy as np
import pytest
from answers import CHECKS
from checks import CORRECT, NOTED, WRONG, Settled, Verdict

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = (".ipynb", ".ipynb.json", ".ipynb.txt")  # browsers add to the name
HELPERS = (".py", ".csv", ".txt", ".json", ".npy", ".npz")  # what an answer may need beside it
SKIPPED = {".ipynb_checkpoints", "__MACOSX", ".git", ".venv", "__pycache__"}
FILE_LIMIT = 20 * 2**20  # bytes of a submission; the reference notebook has 1.6 MB
EXPORT_ROOM = {"files": 5000, "bytes": 250 * FILE_LIMIT}  # of a zip with submissions, unpacked
ZIP_ROOM = {"files": 500, "bytes": 5 * FILE_LIMIT}  # of a zip in it, with all zips in that
CANVAS = re.compile(r"(\w+?_(?:LATE_)?\d+)_\d+_")  # student, file
AT_A_TIME = 2
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")  # of the environment
NOWHERE = "http://127.0.0.1:9"  # where nobody answers
RIGHT = (CORRECT, NOTED)
KINDS = (*RIGHT, WRONG, "not attempted", "no verdict")
COLUMNS = ["submission", "exercise 1", "label 1", "remark 1", "exercise 2", "label 2", "remark 2"]
COLUMNS += ["fingerprint"]


def add_options(parser):
    def option(name, metavar, text, **more):
        group.addoption(name, metavar=metavar, help=text, **more)

    group = parser.getgroup("marking", "Marking what students hand in (week 5)")
    text = "mark this notebook, folder of notebooks or zip, and run no tests; may be repeated"
    option("--submission", "PATH", text, action="append", default=[])
    option("--marks", "FILE.csv", "write the table of marks here, and go on where it ends")
    option("--feedback", "FOLDER", "write a page for each student here")
    text = "for each exercise of a submission, a third of it for each call (default: 60)"
    option("--time-limit", "SECONDS", text, type=positive, default=60.0)
    text = "for each submission, where the system has such limits (default: 4)"
    option("--memory-limit", "GB", text, type=positive, default=4.0)


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
            why = "there is none in it" if Path(path).exists() else "it does not exist"
            raise pytest.UsageError(
                f"--submission {plain(path)}: expected a notebook, or a folder or zip with some, "
                f"but {why}"
            )
        found += here
    option.nbval = option.nbval_lax = False
    option.dist, option.tx = "no", []  # of pytest-xdist
    config.pluginmanager.register(Marking(*sorted_out(found), option), "marking")


# ---- Finding submissions and reading their cells


class Submission(NamedTuple):
    """A file, and what was read of it."""

    name: str
    cells: list = ()  # the sources of its code cells
    fault: Verdict = None  # why there are none
    content: bytes = None  # if it may be needed beside a notebook
    beside: dict = {}  # the names and contents of such files


class TooLargeError(Exception):
    pass


def find(path, several=False):
    """Yield what is in a file, a folder or a zip."""

    def looked_at(file, name, *named):
        return look(name, file.stat().st_size, partial(file.open, "rb"), *named)

    if path.is_file():
        name = path.as_posix() if several else path.name
        yield from looked_at(path, name, True, f"{name}/" if several else "")
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():  # not a pipe, nor a link to nowhere
            name = file if several else file.relative_to(path)
            yield from looked_at(file, name.as_posix())


def look(name, size, opener, named=False, prefix=None, room=None):
    """Yield what one file is, or what the files in a zip are, unpacked in memory one at a time."""
    parts = name.replace("\\", "/").split("/")
    if SKIPPED & set(parts) or parts[-1].startswith("."):
        return
    if not name.lower().endswith(".zip"):
        yield read(name, size, opener, named or name.lower().endswith(NOTEBOOKS))
        return
    prefix = f"{name}/" if prefix is None else prefix
    try:
        with opener() as file:
            source = file if room is None else io.BytesIO(read_all(file))
            with zipfile.ZipFile(source) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                own = dict(EXPORT_ROOM) if room is None else room
                own["files"] -= len(members)
                own["bytes"] -= sum(min(member.file_size, FILE_LIMIT) for member in members)
                if min(own.values()) < 0:
                    raise TooLargeError("the zip holds too many files, or too large ones")
                for member in sorted(members, key=lambda member: member.filename):
                    inner, opener = prefix + member.filename, partial(archive.open, member)
                    yield from look(inner, member.file_size, opener, room=room or dict(ZIP_ROOM))
    except Exception as error:  # what a broken zip raises depends on where it is broken
        yield Submission(name, fault=unreadable(error))


def unreadable(error):
    if isinstance(error, TooLargeError):
        return Verdict("no verdict", "too large", str(error))
    return Verdict("no verdict", "not readable", plain(f"{type(error).__name__}: {error}"))


def read(name, size, opener, wanted):
    """Read a file that is wanted, and any .py that defines an answer; keep what may be needed."""
    is_module = name.lower().endswith(".py")
    if not (wanted or name.lower().endswith(HELPERS)):
        return Submission(name)
    try:
        if size > FILE_LIMIT:  # then it is not even opened
            most, got = FILE_LIMIT >> 20, size >> 20
            raise TooLargeError(f"expected at most {most} MB, but got {got} MB")
        with opener() as file:
            content = read_all(file)
        if is_module and b"\0" in content:  # UTF-16, as some editors save
            return Submission(name)
        cells = code_cells(content, is_module) if wanted or is_module else []
    except Exception as error:
        return Submission(name, fault=unreadable(error) if wanted or is_module else None)
    pattern = rf"^\s*(def\s+)?({'|'.join(CHECKS)})\b"
    if wanted or any(re.search(pattern, cell, re.M) for cell in cells):
        return Submission(name, cells or [""], content=content)
    return Submission(name, content=content if len(content) < 2**20 else None)


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


def place_of(name):
    """Return the folder of a file, and whose it is where Canvas has put that before its name."""
    folder, _, file = name.rpartition("/")
    canvas = CANVAS.match(file)
    return folder, canvas[1] if canvas else ""


def sorted_out(found):
    """Return the submissions, at least one for each student, and the names of what is left.

    A file goes with the notebook of the same student, as Canvas names them, or with the only one in
    its folder, or above. Whoever handed in no notebook has a row all the same.
    """
    rows = [x for x in found if x.cells or x.fault]
    here = Counter(place_of(row.name) for row in rows)
    notebooks = Counter(place_of(x.name) for x in rows if not x.name.lower().endswith(".py"))
    beside, alone, left = {}, {}, []
    for file in found:
        place = folder, student = place_of(file.name)
        is_module = file.name.lower().endswith(".py")
        if file.content is not None and (not file.cells or (is_module and notebooks[place] == 1)):
            own = CANVAS.sub("", file.name.rpartition("/")[2], count=1)
            beside.setdefault(place, {})[own] = file.content
        if file.cells or file.fault:
            continue
        above = [(x.as_posix(), "") for x in PurePosixPath(file.name).parents if x.name]
        helper = file.content is not None and is_module
        if (here[place] and (student or helper)) or any(here[x] == 1 for x in above):
            left.append(file.name)
        else:
            key = file.name if here[place] or not any(place) else place
            alone.setdefault(key, []).append(file.name)
    fault = Verdict("no verdict", "not a notebook", "expected a notebook or a .py file.")
    for names in alone.values():
        rows.append(Submission(names[0], fault=fault))
        left += names[1:]
    rows.sort(key=lambda row: row.name)
    named = zip(rows, distinct(plain(row.name) for row in rows))
    return [
        row._replace(name=name, beside=beside.get(place_of(row.name), {})) for row, name in named
    ], left


def distinct(names, suffix=""):
    """Yield the names, with a number where there is one already, also on other systems' disks."""
    taken = set()
    for name in names:
        again = (f"{name} ({i})" for i in itertools.count(2))
        name = next(x for x in itertools.chain([name], again) if x.lower() not in taken)
        taken.add(name.lower())
        yield name + suffix


# ---- The process of a submission


@functools.cache
def apart():
    """Return the start of a command that has neither a network nor survivors, where there is one.

    A shell in between keeps the answer from being the first process, which no signal reaches.
    """
    for options in ("-n -p --fork --kill-child", "-rnp --fork --kill-child", "-n", "-rn"):
        command = ["unshare", *options.split(), "sh", "-c", '"$@"; exit $?', "sh"]
        with contextlib.suppress(OSError):
            if not subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
                return command
    return []


class Process:
    """Serves the calls of a submission's answers, and is ended when it takes too long."""

    running = set()

    def __init__(self, submission, folder, option):
        self.cells, self.folder = list(submission.cells), folder
        self.limit, self.memory = option.time_limit, option.memory_limit
        self.process, self.number, self.end = None, 0, 0

    def start(self):
        environment = {x: os.environ[x] for x in KEPT if x in os.environ}
        environment |= dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP"), self.folder)
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE)
        environment |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [*apart(), sys.executable, answers.__file__, str(self.memory), str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )
        self.lines = queue.Queue(20)
        threading.Thread(
            target=self.listen, args=[self.process.stdout, self.lines], daemon=True
        ).start()
        self.running.add(self)

    def listen(self, stream, lines):
        with stream, contextlib.suppress(OSError, ValueError):
            for line in iter(partial(stream.readline, 2**22), b""):
                lines.put(line)
        lines.put(b"")

    def heard(self, process):
        """Return the next line, or nothing once the process has ended, whoever holds its pipe."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self.lines.get(timeout=0.2)
            if process.poll() is not None:
                return b""

    def stop(self):
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
            self.running.discard(self)

    def ask(self, what, **details):
        """Return the reply, a dictionary; whatever else is written in its place is left aside."""
        if self.process is None:
            self.start()
        process, self.number = self.process, self.number + 1
        now = time.monotonic()
        seconds = max(0.0, min(self.limit / 3, self.end - now))
        timer = threading.Timer(seconds, self.stop)
        timer.start()
        try:
            process.stdin.write(json.dumps([self.number, what, details]).encode() + b"\n")
            process.stdin.flush()
            while line := self.heard(process):
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    number, reply = json.loads(line)
                    if number == self.number and isinstance(reply, dict):
                        return reply
        except (OSError, ValueError):  # it was ended meanwhile
            pass
        finally:
            timer.cancel()
        self.stop()
        kind, label = "no verdict", "killed its process"
        text = "the process ended while the answer ran."
        if time.monotonic() - now >= seconds - 0.01:
            kind, label = WRONG, "too slow"
            text = f"no answer within {seconds:.3g} s, for a few steps with a small matrix."
            if seconds < self.limit / 3 - 0.01:
                kind, label = "no verdict", f"no answer in {self.limit:g} s"
        raise Settled(Verdict(kind, label, text))


class Proxy:
    """Stands for the student's function: it has its signature, and sends calls to its process."""

    blank = False

    def __init__(self, process, name):
        process.end = time.monotonic() + process.limit
        known = process.ask("define", name=name, cells=process.cells)
        if "fault" in known:
            kind, label, text = map(str, known["fault"])
            raise Settled(Verdict(kind if kind in KINDS[2:] else "no verdict", label, text))
        self.process, self.ended, self.fetched = process, None, False
        self.source = str(known.get("source"))
        self.__globals__ = {x: None for x in answers.SHARED if x in known.get("shared", [])}
        with contextlib.suppress(TypeError, ValueError):
            parameters = []
            for x, kind, *default in known["parameters"]:
                default = default[0] if default else inspect.Parameter.empty
                kind = inspect._ParameterKind(kind)
                parameters.append(inspect.Parameter(x, kind, default=default))
            self.__signature__ = inspect.Signature(parameters)

    def __call__(self, *args, **kwargs):
        if self.ended:
            raise self.ended
        try:
            reply = self.process.ask(
                "call",
                args=[answers.encoded(x) for x in args],
                kwargs={name: answers.encoded(x) for name, x in kwargs.items()},
                shared={x: answers.encoded(y) for x, y in self.__globals__.items()},
            )
        except Settled as settled:
            self.ended = settled
            raise
        self.fetched |= bool(reply.get("fetched"))
        if "module" in reply:
            raise ImportError("it is not here", name=plain(reply["module"], 60))
        if "error" in reply:
            name, message, place = (plain(x) for x in reply["error"])
            raise type(name, (Exception,), {"place": f" {place}" if place else ""})(message)
        arrays = [x for x in [*args, *kwargs.values()] if isinstance(x, np.ndarray)]
        for x, changed in zip(arrays, reply.get("changed", [])):
            if changed:
                x.fill(np.nan)
        factors = reply.get("factors")
        if not isinstance(factors, list):
            return something(reply.get("kind"))
        return tuple(map(decoded, factors[:9]))


def something(kind):
    """Return what has a type of this name."""
    return type(plain(kind, 60), (), {})()


def decoded(value):
    """Return an array, or a list of numbers; what is neither, as something of that type."""
    try:
        array = answers.decoded(value)
        return array.tolist() if value["list"] else array
    except Exception:
        return something(value)


def judged(submission, option):
    """Return the verdict on each exercise, and the source that was judged."""
    if submission.fault:
        return {name: (submission.fault, "") for name in CHECKS}
    results = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, content in itertools.islice(submission.beside.items(), 100):
            if re.fullmatch(r"\w[\w. -]*", name):
                Path(folder, name).write_bytes(content)
        process = Process(submission, folder, option)
        for name, check in CHECKS.items():
            source = ""
            try:
                proxy = Proxy(process, name)
                source = proxy.source
                verdict = about_faces(check(proxy), proxy.fetched)
            except Settled as settled:
                verdict = settled.args[0]
            except Exception as error:
                text = f"the judge could not finish: {error}"
                verdict = Verdict("no verdict", type(error).__name__, text)
            kind, label, text = verdict
            results[name] = Verdict(kind, plain(label, 60), plain(text)), source
        process.stop()
    return results


def about_faces(verdict, fetched):
    """Say so where the function loads the faces, for which marking has something else."""
    if fetched and verdict.kind in RIGHT:
        return Verdict(NOTED, "loads the faces", f"{verdict.text} It loads the faces by itself.")
    if fetched and verdict.kind == WRONG:
        text = "it loads the faces by itself, and marking does not fetch them."
        return Verdict("no verdict", "needs the faces", text)
    return verdict


# ---- The run, the table and the pages


class Marking:
    """The plugin that runs the submissions, keeps their verdicts and prints the table."""

    def __init__(self, submissions, others, option):
        self.submissions, self.others, self.option = submissions, others, option
        self.marks = option.marks and Path(option.marks)
        names = [x.name for x in submissions]
        files = (re.sub(r"[^\w.()-]+", "_", x.replace("/", "-")).lstrip(".-_") for x in names)
        self.pages = dict(zip(names, distinct((cut(x, 99) for x in files), ".html")))
        self.feedback = option.feedback and Path(option.feedback)
        if self.feedback:
            self.feedback.mkdir(parents=True, exist_ok=True)
        self.prints = {x.name: fingerprint(x, option) for x in submissions}
        self.rows = {}
        for name, *cells, mark in check_marks(self.marks) if self.marks else []:
            name = name.removeprefix("'")  # as harmless() has it
            page = self.feedback / self.pages.get(name, "") if self.feedback else ROOT
            if mark == self.prints.get(name) and "no verdict" not in cells and page.exists():
                self.rows[name] = dict(zip(CHECKS, (Verdict(*cells[:3]), Verdict(*cells[3:]))))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session):
        session.testscollected = len(self.submissions)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        say = session.config.pluginmanager.get_plugin("terminalreporter").write_line
        todo = deque(x for x in self.submissions if x.name not in self.rows)
        if self.rows:
            say(f"{len(self.rows)} of {len(self.submissions)} are marked already")
        self.write(self.rows)
        running = {}
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            try:
                while todo or running:
                    while todo and len(running) < AT_A_TIME:
                        submission = todo.popleft()
                        running[pool.submit(judged, submission, self.option)] = submission.name
                        say(f"judging {cut(submission.name)}, {len(todo)} left")
                    for future in wait(running, 1, FIRST_COMPLETED).done:
                        self.keep(running.pop(future), future.result())
            except BaseException:
                while not all(future.done() for future in running):
                    for process in list(Process.running):
                        process.end = 0
                        process.stop()
                    time.sleep(0.05)
                raise
        self.rows = {x.name: self.rows[x.name] for x in self.submissions}
        self.write(self.rows)
        verdicts = itertools.chain(*(row.values() for row in self.rows.values()))
        session.testsfailed = sum(verdict.kind not in RIGHT for verdict in verdicts)
        return True

    def keep(self, name, results):
        self.rows[name] = {exercise: verdict for exercise, (verdict, _) in results.items()}
        if self.feedback:
            page = page_of(name, results)
            (self.feedback / self.pages[name]).write_text(page, encoding="utf-8")
        self.write({name: self.rows[name]}, "a")

    def write(self, rows, mode="w"):
        if self.marks:
            encoding = "utf-8-sig" if mode == "w" else "utf-8"  # the mark is for Excel
            with self.marks.open(mode, newline="", encoding=encoding) as file:
                lines = [COLUMNS] if mode == "w" else []
                for name, row in rows.items():
                    lines.append([name, *itertools.chain(*row.values()), self.prints[name]])
                csv.writer(file).writerows(map(harmless, lines))

    def pytest_terminal_summary(self, terminalreporter, exitstatus):
        terminalreporter.section("marks")
        for line in table(self.rows):
            terminalreporter.write_line(line)
        if self.others:
            names = plain(", ".join(self.others), 200)
            terminalreporter.write_line(f"not looked at: {len(self.others)} other files ({names})")
        if self.marks:
            stopped = exitstatus == pytest.ExitCode.INTERRUPTED
            more = " so far; the same command goes on from there" if stopped else ""
            terminalreporter.write_line(f"the same table: {self.marks}{more}")


def fingerprint(submission, option):
    """Return what changes when the submission, the judge or what it runs on does."""
    judge = [Path(module.__file__).read_bytes() for module in (answers, checks)]
    told = [submission[1:], option.time_limit, option.memory_limit, sys.version, np.__version__]
    return hashlib.sha256(b"".join([*judge, repr(told).encode()])).hexdigest()[:12]


def table(rows):
    """Yield the lines of the table, then what it adds up to."""
    lines = [["submission", *(f"exercise {i}: {name}" for i, name in enumerate(CHECKS, 1))]]
    for name, row in rows.items():
        lines.append([cut(name), *(": ".join(filter(None, found[:2])) for found in row.values())])
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip()
    yield f"total: {len(rows)}"
    for i, name in enumerate(CHECKS, 1):
        counts = Counter(row[name].kind for row in rows.values())
        some = (f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
        yield f"exercise {i}: " + "; ".join(some)


def check_marks(path):
    """Return the rows of an older table; refuse other files, and where none can be written."""
    try:
        with path.open("a+", newline="", encoding="utf-8-sig") as file:
            file.seek(0)
            first, *rows = list(csv.reader(file)) or [COLUMNS]
    except (OSError, UnicodeError, csv.Error) as error:
        raise pytest.UsageError(f"--marks {path} cannot be written: {error}") from error
    if first not in (COLUMNS, COLUMNS[:-1]):
        raise pytest.UsageError(
            f"--marks {path}: expected a new file or an older table of marks, but the first line "
            f"there is {plain(','.join(first), 80)!r}. Give another name, or move that file away"
        )
    return [row for row in rows if len(row) == len(COLUMNS)]


def page_of(name, results):
    """Return a page with the verdicts and what was judged, where everything is text."""
    page = f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(name)}</title>\n'
    page += f"<h1>{html.escape(name)}</h1>\n"
    for number, (exercise, (verdict, source)) in enumerate(results.items(), 1):
        lines = "\n".join(plain(line, 200, spaces=True) for line in source.splitlines()[:500])
        page += f"<h2>Exercise {number}: {exercise}</h2>\n<p><b>{verdict.kind}</b>: "
        page += f"{html.escape(verdict.text)}</p>\n<pre>{html.escape(lines)}</pre>\n"
    return page


def harmless(row):
    """Have a spreadsheet take a text for a text, whatever it begins with."""
    return ["'" + x if x.lstrip().startswith(("=", "+", "-", "@", "'")) else x for x in row]


def plain(text, longest=400, spaces=False):
    """Return a text on one line, without anything that moves the cursor or turns the writing."""
    text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", str(text))
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    text = text if spaces else " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def cut(name, longest=44):
    """Shorten a name in the middle: folders differ at the start, files at the end."""
    return name if len(name) <= longest else f"{name[: longest - 20]}...{name[-17:]}"
