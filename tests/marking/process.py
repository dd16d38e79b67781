"""Run an answer in a sandbox and a process of its own, and ask it for numbers.

How this file, submissions.py and student.py meet:

* ``submissions.find(paths, scratch, pattern)`` returns ``(students, left)``: a list of
  ``Submission(student, files, fault)``, sorted by ``student``, the name as the platform has it.
  ``files`` is a dictionary from the names that the files have beside the answer ("week5.ipynb",
  "helpers.py", "data/faces.csv") to the paths where they lie; ``fault`` is None, or a Verdict where
  there is nothing to judge. ``left`` are the names of files that are nobody's.
* student.py starts in a folder with these files. Once it has written ``["ready"]``, it answers
  each ``[number, what, details]`` by ``[number, reply]``, a line of JSON each. A reply may have
  ``"verdict": [kind, label, text]``, ``"notes": {label: sentence}``, and ``"line": [cell, line]``
  where an exception has one (lines count from 1, cells from 0).
* ``"read"`` comes first, before anything of the student's has run: ``{"cells": [[file, place,
  source], ...]}`` are the cells of all files, as they are looked through; "week5.ipynb", 7.
* ``"define", {"name": name}`` finds the answer: ``{"source": [[cell, first, last], ...]}`` are the
  lines that are judged, which the page cuts from the cells.
* ``"call", {"R", "P", "Q", "steps", "numbers"}`` calls it: ``{"factors": [P, Q]}``.
"""

import compileall
import contextlib
import functools
import io
import json
import os
import queue
import secrets
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import joblib
import numpy as np
from exercises import EXERCISES
from judge import WRONG, Settled, Verdict

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
AT_HAND = (
    *("student.py", "caller.py", "judge.py", "reasons.py", "exercises.py"),
    "../../mf_solutions.py",
)
SYSTEM = (  # what programs need, and nothing of anybody's
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")  # of os.environ, to find modules

# What a student may use
SMALL_CALL = 60  # seconds of processor time: a call that takes longer is wrong, not unlucky
START = 300  # seconds by the clock, until Python and NumPy have started
MEMORY = 4  # GB, of all processes together
DISK = 256  # MB
PROCESSES = 64
REPLY, CELLS = 2**20, 2**23  # bytes of a line that a process writes, of all cells

POLL = 0.1  # seconds between two looks at a process


# ---- The scratch folder


@contextlib.contextmanager
def scratch_folder():
    """Make a folder that is gone afterwards, even if this process is killed or cannot delete it."""
    folder = Path(tempfile.mkdtemp(prefix="marking-")).resolve()
    cleaner = None
    if os.name == "posix":  # it reads until this process ends, in whatever way
        script = 'cat > /dev/null; chmod -R u+rwX "$1"; rm -rf "$1"'
        cleaner = subprocess.Popen(
            ["sh", "-c", script, "sh", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        code = folder / "code"
        code.mkdir()
        for name in AT_HAND:
            shutil.copy(HERE / name, code)
        compileall.compile_dir(code, quiet=2)
        (folder / "students").mkdir()
        yield folder
    finally:
        if cleaner:
            cleaner.communicate()
        else:
            shutil.rmtree(folder, ignore_errors=True)


def hand_over(files, folder):
    """Copy a student's files into the folder, with something for that of the photographs."""
    for name, path in files.items():
        copy = folder / name
        if folder in copy.resolve().parents:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    photographs = folder / "scikit_learn_data" / "olivetti_py3.pkz"
    photographs.parent.mkdir(exist_ok=True)
    photographs.write_bytes(faces())


@functools.cache
def faces():
    """Return what stands for the file of the photographs, which are not fetched while marking."""
    file = io.BytesIO()
    joblib.dump(np.arange(400 * 4096, dtype="uint8").reshape(400, 4096), file, compress=3)
    return file.getvalue()


# ---- The sandbox


def sandbox(scratch, folder):
    """Return the start of a command that sees nothing but Python and this folder.

    Only the one room under /tmp can be written to; it is in memory and gone afterwards.
    """
    python = Path(sys.executable).resolve().parent.parent  # where the links to it lead
    packages = [place for place in sys.path if place.endswith("-packages")]
    mounts = {place: ["--ro-bind-try", place, place] for place in SYSTEM}
    for place in (sys.prefix, sys.base_prefix, str(python), *packages):
        mounts[place] = ["--ro-bind", place, place]
    if any(place in mounts for place in map(str, PROJECT.parents)):
        mounts[str(PROJECT)] = ["--size", "65536", "--tmpfs", str(PROJECT)]
    mounts["/tmp"] = ["--size", str(DISK << 20), "--tmpfs", "/tmp"]
    mounts["/marking"] = ["--ro-bind", str(scratch / "code"), "/marking"]
    command = ["bwrap"]  # and first what others lie in
    for place in sorted(mounts, key=lambda place: len(Path(place).parts)):
        command += mounts[place]
    for device in DEVICES:
        command += ["--dev-bind", device, device]
    command += ["--symlink", "/tmp", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd"]
    command += ["--proc", "/proc", "--dir", "/tmp/answer"]
    for entry in sorted(folder.iterdir()):
        command += ["--ro-bind", str(entry), f"/tmp/answer/{entry.name}"]
    command += ["--chdir", "/tmp/answer", "--remount-ro", "/", "--cap-drop", "ALL"]
    command += ["--unshare-all", "--unshare-user", "--disable-userns"]
    return [*command, "--setenv", "PATH", os.defpath, "--die-with-parent", "--new-session"]


def launch(scratch, folder, sandboxed):
    """Start student.py in the sandbox, or without."""
    code, home, begin = scratch / "code", folder, []
    if sandboxed:
        code, home, begin = Path("/marking"), "/tmp/answer", sandbox(scratch, folder)
    elif shutil.which("setpriv"):
        begin = ["setpriv", "--pdeathsig", "KILL"]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP"), str(home))
    environment |= {"MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}
    environment |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}  # time is counted for all
    if site.ENABLE_USER_SITE:
        environment["PYTHONUSERBASE"] = site.getuserbase()
    return subprocess.Popen(
        [*begin, sys.executable, str(code / "student.py"), str(MEMORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def why_no_sandbox(scratch):
    """Return why there is no sandbox here, or None where there is one."""
    if not shutil.which("bwrap"):
        return "bubblewrap, the command bwrap, is not installed"
    command = [*sandbox(scratch, scratch / "students"), sys.executable, "-c", "import numpy"]
    process = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lines = process.stderr.splitlines() or ["bwrap does not start"]
    return lines[-1] if process.returncode else None


# ---- What a process and all that it started use, where Linux tells it


def family(pid):
    """Return the fields of /proc/PID/stat, from the state on, of a process and its descendants."""
    found, todo = [], [pid]
    for pid in todo:  # which grows
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            found.append(stat.rpartition(b")")[2].split())
            for thread in os.listdir(f"/proc/{pid}/task"):
                todo += Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    return found


def processor_time(members):
    """Return the seconds that these have run, with those that they have seen end."""
    ticks = sum(int(ticks) for fields in members for ticks in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK") if members else 0.0


def memory(members):
    """Return the GB that these hold."""
    pages = sum(int(fields[21]) for fields in members)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30 if members else 0.0


# ---- The process, asked


class Student:
    """A student's answers: the ``answer`` of the judge, in a process that is ended in time."""

    stopping = False  # whether the command ends, and with it every process

    def __init__(self, files, scratch, time_limit, sandboxed=True):
        self.scratch, self.time_limit, self.sandboxed = scratch, time_limit, sandboxed
        self.cells, self.source, self.raised = None, [], {}  # for the page
        self.notes, self.process, self.running, self.ended = {}, None, False, None
        self.idle = self.begin = 0
        self.folder = Path(tempfile.mkdtemp(dir=scratch / "students"))
        try:
            hand_over(files, self.folder)
        except OSError:  # such as a full disk, which a half is not to fill
            self.close()
            raise

    # Its process and the two threads that keep a full pipe from holding us

    def start(self):
        self.process, self.ended = launch(self.scratch, self.folder, self.sandboxed), None
        self.running = True
        self.requests, self.lines = queue.Queue(), queue.Queue(2)
        for work, stream in ((write, self.process.stdin), (listen, self.process.stdout)):
            lines = self.requests if work is write else self.lines
            threading.Thread(target=work, args=(stream, lines), daemon=True).start()
        latest = time.monotonic() + START
        while self.message(REPLY) != ["ready"]:
            if self.process.poll() is not None or time.monotonic() > latest:
                self.end("did not start", "Python did not start, or without NumPy.")
        try:
            cells = self.ask("read")["cells"]
        except Settled as settled:  # there is nothing to ask for
            self.stop()
            self.ended = settled
            raise
        if self.cells is None:  # later ones may have been read after the student's code had run
            self.cells = [(str(file), int(place), str(text)) for file, place, text in cells]

    def kill(self):
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def stop(self):
        """End the process and what it started, once: its number may soon be another's."""
        if not self.running:
            return
        self.kill()
        self.process.wait()
        self.requests.put(None)
        with contextlib.suppress(queue.Empty):  # so that no thread waits for room
            while True:
                self.lines.get_nowait()
        self.running = False

    def end(self, label, text, kind="no verdict"):
        self.stop()
        self.ended = Settled(Verdict(kind, label, text))
        raise self.ended

    def close(self):
        self.stop()
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(self.folder)

    # Questions

    def message(self, longest):
        """Return what the next line says, or None after a while."""
        if self.stopping:  # whoever waits for an answer comes here
            self.end("stopped", "the command was stopped.")
        with contextlib.suppress(queue.Empty, ValueError, RecursionError):
            line = self.lines.get(timeout=POLL)
            if len(line) <= longest:
                return json.loads(line)
        return None

    def ask(self, what, **details):
        """Return the reply, a dictionary; whatever else is written in its place is left aside."""
        if self.ended:
            raise self.ended
        self.number = secrets.randbits(64)  # no answer can write its reply by guessing
        request = json.dumps([self.number, what, details], default=np.ndarray.tolist)
        self.requests.put(request)
        began = processor_time(family(self.process.pid))
        looked = time.monotonic()
        while True:
            gone = self.process.poll() is not None
            match self.message(CELLS if what == "read" else REPLY):
                case [self.number, dict(reply)]:
                    return self.told(reply)
                case None if gone:
                    self.end("killed its process", "the process ended while the answer ran.")
            if time.monotonic() > looked + POLL:
                self.look(began)
                looked = time.monotonic()

    def look(self, began):
        """End the process if it has used more than a student may."""
        members = family(self.process.pid)
        used = processor_time(members)
        if not any(fields[0] in (b"R", b"D") for fields in members):
            self.idle += POLL  # it waits for something, not for a processor
        if used - began > SMALL_CALL:
            text = "a few steps with a small matrix took more than "
            self.end("too slow", f"{text}{SMALL_CALL} s of processor time.", WRONG)
        limit = f"{self.time_limit:g} s"
        if used - self.begin > self.time_limit:
            self.end("no answer in time", f"after {limit} of processor time it still ran.")
        if self.idle > self.time_limit:
            self.end("no answer in time", f"for {limit} it waited, and did nothing.")
        if memory(members) > MEMORY or len(members) > PROCESSES:
            text = f"expected at most {MEMORY} GB and {PROCESSES} processes."
            self.end("too large", text)

    def told(self, reply):
        """Return the reply, if it is no verdict, with what it tells of the answer kept."""
        notes = dict(reply.get("notes", {}))
        self.notes |= {str(label): str(text) for label, text in notes.items()}
        self.source = reply.get("source", self.source)
        if "verdict" in reply:
            kind, label, text = map(str, reply["verdict"][:3])
            self.raised[label] = reply.get("line")
            known = kind in (WRONG, "not attempted")  # never a good one: numbers decide that
            raise Settled(Verdict(kind if known else "no verdict", label, text))
        return reply

    def define(self, name):
        """Find the answer to an exercise."""
        self.gradient = EXERCISES[name].gradient
        self.notes, self.source, self.raised = {}, [], {}
        self.begin = self.idle = 0
        if self.process is None or self.ended:
            self.start()
        self.begin = processor_time(family(self.process.pid))
        self.ask("define", name=name)

    def __call__(self, R, P, Q, steps, *numbers):
        reply = self.ask("call", R=R, P=P, Q=Q, steps=steps, numbers=numbers)
        X, Y = (np.array(factor, float) for factor in reply["factors"])
        if (X.shape, Y.shape) != (P.shape, Q.shape):
            raise ValueError("what came back are no factors")  # which an honest process has checked
        return X, Y


def write(stream, requests):
    with contextlib.suppress(OSError, ValueError), stream:
        for request in iter(requests.get, None):
            stream.write(request.encode() + b"\n")
            stream.flush()


def listen(stream, lines):
    with contextlib.suppress(OSError, ValueError), stream:
        for line in iter(functools.partial(stream.readline, CELLS), b""):
            lines.put(line)
