"""Mark a folder of submissions: ``pytest --submission=FOLDER`` prints a table, a row each.

What students wrote is neither parsed nor run in this process: each submission has a process and a
folder of its own (student.py), which is asked for numbers; the judge (judge.py) sits here. Zips
are not unpacked to the disk, and no text of a student's gets anywhere unfiltered.
"""

import contextlib
import csv
import functools
import hashlib
import html
import io
import itertools
import json
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
from collections import Counter, defaultdict
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import student
import caller
import judge
import joblib
import numpy as np
import pytest
from exercises import EXERCISES
from judge import CORRECT, NOTED, WRONG, Settled, Verdict

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = (".ipynb", ".ipynb.json", ".ipynb.txt")  # browsers add to the name
HELPERS = (".py", ".csv", ".txt", ".json", ".npy", ".npz")  # what an answer may need beside it
SKIPPED = {".ipynb_checkpoints", "__MACOSX", ".git", ".venv", "__pycache__"}
FILE_LIMIT = 20 * 2**20  # bytes of a submission; the reference notebook has 1.6 MB
EXPORT_ROOM = {"files": 5000, "bytes": 250 * FILE_LIMIT}  # of a zip with submissions, unpacked
ZIP_ROOM = {"files": 500, "bytes": 5 * FILE_LIMIT}  # of a zip in it, with all zips in that
CANVAS = re.compile(r"(?s)(?:(.*)/)?(?:(\w+?_(?:LATE_)?\d+)_\d+_)?([^/]*)")  # folder, student, file
AT_A_TIME = 2
KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")  # of the environment
NOWHERE = "http://127.0.0.1:9"  # where nobody answers
RIGHT = (CORRECT, NOTED)
KINDS = (*RIGHT, WRONG, "not attempted", "no verdict")
OTHER = Verdict("no verdict", "not a notebook", "expected a notebook or a .py file.")
RESULTS = [f"{what} {i}" for i in (1, 2) for what in ("exercise", "label", "remark")]
COLUMNS = ["submission", *RESULTS, "fingerprint"]


def add_options(parser):
    add = parser.getgroup("marking", "Marking what students hand in (week 5)").addoption
    text = "mark this notebook, folder of notebooks or zip, and run no tests; may be repeated"
    add("--submission", metavar="PATH", help=text, action="append", default=[])
    add("--marks", metavar="FILE.csv", type=Path, help="write the table here, go on where it ends")
    add("--feedback", metavar="FOLDER", type=Path, help="write a page for each student here")
    text = "for each exercise of a submission, a third of it for each call (default: 60)"
    add("--time-limit", metavar="SECONDS", help=text, type=positive, default=60.0)
    text = "for each submission, where the system has such limits (default: 4)"
    add("--memory-limit", metavar="GB", help=text, type=positive, default=4.0)


def positive(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError(text)
    return number


def configure(config):
    """Have the submissions marked in the place of the tests."""
    option, found = config.option, []
    for path in map(Path, option.submission):
        here = list(find(path, several=len(option.submission) > 1))
        if not here:
            why = "there is none in it" if path.exists() else "it does not exist"
            raise pytest.UsageError(
                f"--submission {plain(path)}: expected a notebook, or a folder or zip with some, "
                f"but {why}"
            )
        found += here
    option.dist, option.tx = "no", []  # of pytest-xdist
    config.pluginmanager.register(Marking(*sorted_out(found), option), "marking")


# ---- Finding submissions and reading their cells


class Submission(NamedTuple):
    """A file, and what was read of it."""

    name: str
    cells: list = ()  # the sources of its code cells
    fault: Verdict = OTHER  # why there are none
    content: bytes = None  # if it may be needed beside a notebook
    beside: dict = {}  # the names and contents of such files


def find(path, several=False):
    """Yield what is in a file, a folder or a zip."""
    named = path.is_file()
    top = path.parent if named else path
    for file in [path] if named else sorted(path.rglob("*")):
        if file.is_file():  # not a pipe, nor a link to nowhere
            name = file.as_posix() if several else file.relative_to(top).as_posix()
            prefix = "" if named and not several else f"{name}/"
            yield from look(name, file.stat().st_size, partial(file.open, "rb"), prefix, named)


def look(name, size, opener, prefix="", named=False, room=None):
    """Yield what a file is, or what the files in a zip are."""
    lower, parts = name.lower(), name.replace("\\", "/").split("/")
    is_zip, wanted = lower.endswith(".zip"), named or lower.endswith(NOTEBOOKS)
    if SKIPPED & set(parts) or parts[-1].startswith("."):
        return
    if not (is_zip or wanted or lower.endswith(HELPERS)):
        yield Submission(name)
        return
    try:
        if size > FILE_LIMIT and (room or not is_zip):  # then it is not even opened
            most, got = FILE_LIMIT >> 20, size >> 20
            raise too_large(f"expected at most {most} MB, but got {got} MB")
        with opener() as file:
            if is_zip:
                yield from unzipped(file, prefix, room)
            else:
                yield read(name, file.read(FILE_LIMIT), wanted)
    except (Exception, Settled) as error:  # what a broken zip raises depends on where it is broken
        why = Verdict("no verdict", "not readable", plain(f"{type(error).__name__}: {error}"))
        why = error.args[0] if isinstance(error, Settled) else why
        yield Submission(name, (), why if wanted or lower.endswith((".py", ".zip")) else OTHER)


def too_large(text):
    return Settled(Verdict("no verdict", "too large", text))


def unzipped(file, prefix, room):
    """Yield what the files in a zip are, unpacked in memory one at a time, if there is room."""
    with zipfile.ZipFile(io.BytesIO(file.read(FILE_LIMIT)) if room else file) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        own = room or Counter(EXPORT_ROOM)
        own["files"] -= len(members)
        own["bytes"] -= sum(min(member.file_size, FILE_LIMIT) for member in members)
        if min(own.values()) < 0:
            raise too_large("the zip holds too many files, or too large ones")
        for member in sorted(members, key=lambda member: member.filename):
            name, opener = prefix + member.filename, partial(archive.open, member)
            inside = room or Counter(ZIP_ROOM)
            yield from look(name, member.file_size, opener, f"{name}/", room=inside)


def read(name, content, wanted):
    """Return the cells of what is wanted, and of any .py that defines an answer."""
    is_module = name.lower().endswith(".py")
    if is_module and b"\0" in content:  # UTF-16, as some editors save
        return Submission(name)
    cells = code_cells(content, is_module) if wanted or is_module else []
    pattern = rf"^\s*(def\s+)?({'|'.join(EXERCISES)})\b"
    if wanted or any(re.search(pattern, cell, re.M) for cell in cells):
        return Submission(name, cells or [""], None, content if is_module else None)
    return Submission(name, content=content if len(content) < 2**20 else None)


def code_cells(content, is_module):
    if not content.strip():
        raise ValueError("the file is empty")
    if is_module:  # with the marks of VS Code or nbconvert between cells, or one cell
        text = content.decode("utf-8-sig", "replace")
        return re.split(r"^(?=# ?%%|# In\[[\d ]*\])", text, flags=re.M)
    notebook = json.loads(content)
    sheets = notebook.get("worksheets", [notebook])  # before version 4
    cells = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]
    sources = ("".join(cell.get("source", cell.get("input", ""))) for cell in cells)
    return [source.encode("utf-8", "replace").decode() for source in sources]


def sorted_out(found):
    """Return the submissions, at least one for each student, and the names of what is left.

    A file goes with the notebook of the same student, as Canvas names them, or with the only one in
    its folder, or above. Whoever handed in no notebook has a row all the same.
    """
    places, here, notebooks = defaultdict(list), Counter(), Counter()
    for file in found:
        folder, student, own = CANVAS.fullmatch(file.name).groups("")
        is_row, is_module = file.fault != OTHER, file.name.lower().endswith(".py")
        places[folder, student].append((file, own, is_row, is_module))
        here[folder, student] += is_row
        notebooks[folder, student] += is_row and not is_module
    rows, left = [], []
    for (folder, student), files in places.items():
        rows_here, beside = here[folder, student], {}
        for number, (file, own, is_row, is_module) in enumerate(files):
            kept = file.content is not None
            if kept and (not file.cells or (is_module and notebooks[folder, student] == 1)):
                beside[own] = file.content
            helps = rows_here and (student or (is_module and kept))
            again = not rows_here and (folder or student) and number
            above = (here[x.as_posix(), ""] for x in PurePosixPath(file.name).parents)
            if is_row or not (helps or again or 1 in above):
                rows.append(file._replace(beside=beside))
            else:
                left.append(file.name)
    rows.sort(key=lambda row: row.name)
    names = distinct(plain(row.name) for row in rows)
    return [row._replace(name=name) for row, name in zip(rows, names)], left


def distinct(names):
    """Yield the names, with a number where there is one already, also on other systems' disks."""
    taken = set()
    for name in names:
        again = (f"{name} ({i})" for i in itertools.count(2))
        name = next(x for x in itertools.chain([name], again) if x.lower() not in taken)
        taken.add(name.lower())
        yield name


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


@functools.cache
def faces():
    """Return what stands for the file of the photographs, which are not fetched while marking."""
    file = io.BytesIO()
    joblib.dump(np.arange(400 * 4096, dtype="uint8").reshape(400, 4096), file, compress=3)
    return file.getvalue()


class Remote:
    """An answer in a process of its own, which is ended when it takes too long."""

    running = set()

    def __init__(self, folder, option):
        self.folder, self.limit, self.memory = folder, option.time_limit, option.memory_limit
        self.process, self.number = None, 0

    def start(self):
        environment = {x: os.environ[x] for x in KEPT if x in os.environ}
        environment |= dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP"), self.folder)
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE)
        environment |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [*apart(), sys.executable, student.__file__, str(self.memory), str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
        )
        self.lines = queue.Queue(20)
        heard = self.process.stdout, self.lines
        threading.Thread(target=listen, args=heard, daemon=True).start()
        self.running.add(self)

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
            raise self.ended
        process, self.number, begin = self.process, self.number + 1, time.monotonic()
        seconds = max(0.0, min(self.limit / 3, self.end - begin))
        timer = threading.Timer(seconds, self.stop)
        timer.start()
        with contextlib.suppress(OSError, ValueError):  # it was ended meanwhile
            request = json.dumps([self.number, what, details], default=np.ndarray.tolist)
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
        while process.poll() is None or not self.lines.empty():
            with contextlib.suppress(queue.Empty, ValueError, TypeError, RecursionError):
                number, reply = json.loads(self.lines.get(timeout=0.2))
                if number == self.number and isinstance(reply, dict):
                    timer.cancel()
                    return reply
        timer.cancel()
        self.stop()
        text = f"no answer within {seconds:.3g} s, for a few steps with a small matrix."
        verdict = Verdict(WRONG, "too slow", text)
        if time.monotonic() - begin < seconds - 0.01:
            text = "the process ended while the answer ran."
            verdict = Verdict("no verdict", "killed its process", text)
        elif seconds < self.limit / 3 - 0.01:  # because of the calls before
            verdict = Verdict("no verdict", f"no answer in {self.limit:g} s", text)
        self.ended = Settled(verdict)
        raise self.ended

    def told(self, what, **details):
        """Return the factors, if there are any, with what else the reply says kept."""
        reply = self.ask(what, **details)
        self.notes |= {str(x): str(y) for x, y in dict(reply.get("notes", {})).items()}
        self.source = str(reply.get("source", ""))
        if "verdict" in reply:
            kind, label, text = map(str, reply["verdict"])
            raise Settled(Verdict(kind if kind in KINDS[2:] else "no verdict", label, text))
        return reply.get("factors")

    def define(self, name, cells):
        self.gradient, self.notes, self.source = EXERCISES[name].gradient, {}, ""
        self.end = time.monotonic() + self.limit
        if self.process is None:
            self.start()
        self.told("define", name=name, cells=cells)

    def __call__(self, R, P, Q, steps, *numbers):
        factors = self.told("call", R=R, P=P, Q=Q, steps=steps, numbers=numbers)
        X, Y = (np.array(X, float) for X in factors)
        if (X.shape, Y.shape) != (P.shape, Q.shape):
            raise ValueError("what came back are no factors")  # which an honest process has checked
        return X, Y


def listen(stream, lines):
    with stream, contextlib.suppress(OSError, ValueError):
        for line in iter(partial(stream.readline, 2**22), b""):
            lines.put(line)


def judged(submission, option):
    """Return the verdict on each exercise, and the source that was judged."""
    if submission.fault:
        return dict.fromkeys(EXERCISES, (submission.fault, ""))
    results = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        beside = itertools.islice(submission.beside.items(), 100)
        files = {name: content for name, content in beside if re.fullmatch(r"\w[\w. -]*", name)}
        for name, content in (files | {"scikit_learn_data/olivetti_py3.pkz": faces()}).items():
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_bytes(content)
        remote = Remote(folder, option)
        for name in EXERCISES:
            try:
                remote.define(name, submission.cells)
                verdict = judge.judge(remote)
            except Settled as settled:
                verdict = settled.args[0]
            except Exception as error:
                text = f"the judge could not finish: {error}"
                verdict = Verdict("no verdict", type(error).__name__, text)
            kind, label, text = verdict
            results[name] = Verdict(kind, plain(label, 60), plain(text)), remote.source
        remote.stop()
    return results


# ---- The run, the table and the pages


class Marking:
    """The plugin that has the submissions judged, keeps the table and prints it."""

    def __init__(self, submissions, others, option):
        self.submissions, self.others, self.option = submissions, others, option
        self.prints = {x.name: fingerprint(x, option) for x in submissions}
        self.pages, self.rows = {}, {}
        if option.feedback:
            option.feedback.mkdir(parents=True, exist_ok=True)
            files = (re.sub(r"[^\w.()-]+", "_", x.replace("/", "-")) for x in self.prints)
            files = distinct(cut(x.lstrip(".-_"), 99) for x in files)
            self.pages = {x: option.feedback / f"{y}.html" for x, y in zip(self.prints, files)}
        for row in check_marks(option.marks) if option.marks else []:
            page = self.pages.get(row[0], ROOT)
            if row[-1] == self.prints.get(row[0]) and "no verdict" not in row and page.exists():
                self.rows[row[0]] = row

    def pytest_collection(self):
        return True

    def pytest_runtestloop(self, session):
        say = session.config.pluginmanager.get_plugin("terminalreporter").write_line
        todo = [x for x in self.submissions if x.name not in self.rows]
        if self.rows:
            say(f"{len(self.rows)} of {len(self.submissions)} are marked already")
        self.write([COLUMNS, *self.rows.values()], "w")
        running = {}
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            try:
                while todo or running:
                    while todo and len(running) < AT_A_TIME:
                        submission = todo.pop(0)
                        running[pool.submit(judged, submission, self.option)] = submission.name
                        say(f"judging {cut(submission.name)}, {len(todo)} left")
                    for future in wait(running, 1, FIRST_COMPLETED).done:
                        self.keep(running.pop(future), future.result())
            finally:
                while not all(future.done() for future in running):
                    for remote in list(Remote.running):
                        remote.end = 0
                        remote.stop()
                    time.sleep(0.05)
        self.rows = {x.name: self.rows[x.name] for x in self.submissions}
        self.write([COLUMNS, *self.rows.values()], "w")
        session.testscollected = len(self.rows)
        kinds = itertools.chain(*(row[1:-1:3] for row in self.rows.values()))
        session.testsfailed = sum(kind not in RIGHT for kind in kinds)
        return True

    def keep(self, name, results):
        verdicts = itertools.chain(*(verdict for verdict, _ in results.values()))
        self.rows[name] = [name, *verdicts, self.prints[name]]
        if self.pages:
            self.pages[name].write_text(page_of(name, results), encoding="utf-8")
        self.write([self.rows[name]], "a")

    def write(self, rows, mode):
        if self.option.marks:  # with a mark at the start of the file, for Excel
            with self.option.marks.open(mode, newline="", encoding="utf-8-sig") as file:
                csv.writer(file).writerows(map(harmless, rows))

    def pytest_terminal_summary(self, terminalreporter, exitstatus):
        lines = [*table(self.rows.values())]
        if self.others:
            names = plain(", ".join(self.others), 200)
            lines.append(f"not looked at: {len(self.others)} other files ({names})")
        if self.option.marks:
            stopped = exitstatus == pytest.ExitCode.INTERRUPTED
            more = " so far; the same command goes on from there" if stopped else ""
            lines.append(f"the same table: {self.option.marks}{more}")
        terminalreporter.section("marks")
        terminalreporter.write_line("\n".join(lines))


def fingerprint(submission, option):
    """Return what changes when the submission, the judge or what it runs on does."""
    sources = [Path(module.__file__).read_bytes() for module in (student, caller, judge)]
    told = [submission[1:], option.time_limit, option.memory_limit, sys.version, np.__version__]
    return hashlib.sha256(b"".join([*sources, repr(told).encode()])).hexdigest()[:12]


def table(rows):
    """Yield the lines of the table, then what it adds up to."""
    lines = [["submission", *(f"exercise {i}: {name}" for i, name in enumerate(EXERCISES, 1))]]
    for name, *row in rows:
        found = zip(row[:-1:3], row[1:-1:3])
        lines.append([cut(name), *(": ".join(filter(None, pair)) for pair in found)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        yield "  ".join(map(str.ljust, line, widths)).rstrip()
    yield f"total: {len(rows)}"
    for i in range(1, len(EXERCISES) + 1):
        counts = Counter(row[3 * i - 2] for row in rows)
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
    return [[x.removeprefix("'") for x in row] for row in rows if len(row) == len(COLUMNS)]


def page_of(name, results):
    """Return a page with the verdicts and what was judged, where everything is text."""
    title = html.escape(name)
    page = f'<!doctype html>\n<meta charset="utf-8">\n<title>{title}</title>\n<h1>{title}</h1>\n'
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
