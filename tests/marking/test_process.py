"""The process of an answer: what it can reach, what it may use, and that nothing is left of it."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import judge
import numpy as np
import process
import pytest
from exercises import EXERCISES

MF, MU = EXERCISES
SMALL = [np.ones((3, 4)), np.ones((3, 2)), np.ones((4, 2)), 1]


@pytest.fixture(scope="module")
def scratch():
    with process.scratch_folder() as folder:
        yield folder


@pytest.fixture(params=[True, False], ids=["sandbox", "no sandbox"])
def sandboxed(request, scratch):
    if request.param and (lacking := process.why_no_sandbox(scratch)):
        pytest.skip(lacking)
    return request.param


@pytest.fixture
def in_sandbox(scratch):
    if lacking := process.why_no_sandbox(scratch):
        pytest.skip(lacking)


def answer(*lines):
    """Return a module with an answer that does this, then what its last line says."""
    body = textwrap.indent("\n".join(lines), "    ")
    return f"import os, sys, time\ndef {MF}(R, P, Q, *rest):\n{body}\n"


def said(tmp_path, scratch, source, sandboxed=True, limit=20.0, name=MF, **files):
    """Return the verdict on one call of an answer, or the factors that come back."""
    (tmp_path / "week5.py").write_text(source)
    files = {"week5.py": tmp_path / "week5.py", **files}
    student = process.Student(files, scratch, limit, sandboxed)
    try:
        student.define(name)
        return student(*SMALL, 0.1, 0.1)
    except judge.Settled as settled:
        return settled.args[0]
    finally:
        student.close()


def raised(*args, **options):
    """Return the text of the exception in which an answer says what it found."""
    verdict = said(*args, **options)
    assert verdict.label == "RuntimeError", verdict
    return verdict.text


# ---- Numbers come back, whatever else is written


def test_numbers_come_back(tmp_path, scratch, sandboxed):
    P, Q = said(tmp_path, scratch, answer("return P + 1, Q"), sandboxed)
    assert P.tolist() == [[2, 2]] * 3 and Q.tolist() == [[1, 1]] * 4


@pytest.mark.parametrize(
    "line",
    [
        "for fd in range(9): os.write(fd, b'[1, {}]\\n[2, {}]\\n[3, {\"factors\": [1]}]\\n')",
        "for fd in range(9): os.write(fd, b'[' * 10**6 + b'\\n')",
        "for fd in range(9): os.close(fd)",
        "sys.stdout = sys.__stdout__ = None",
        "os._exit(0)",
        "os.kill(os.getpid(), 9)",
        "os.kill(os.getppid(), 9)",
    ],
)
def test_whatever_is_written_no_answer_becomes_right(tmp_path, scratch, in_sandbox, line):
    source = answer("try:", f"    {line}", "except OSError:", "    pass", "time.sleep(2)")
    verdict = said(tmp_path, scratch, source, limit=1)
    assert verdict.kind in ("no verdict", "wrong")


def test_no_answer_chooses_its_verdict_by_what_it_writes(tmp_path, scratch, sandboxed):
    reply = 'b\'\\n[%d, {"verdict": ["not attempted", "", ""]}]\\n\''
    source = answer(
        "for place in range(3, 20):",
        "    for number in range(60):",
        "        try:",
        f"            os.write(place, {reply} % number)",
        "        except OSError:",
        "            pass",
        "return P + 1, Q",
    )
    P, _ = said(tmp_path, scratch, source, sandboxed)
    assert P[0, 0] == 2


def test_it_starts_beside_what_was_handed_in(tmp_path, scratch, sandboxed):
    (tmp_path / "mine.py").write_text("one = 1")
    source = "import mine\n" + answer("open('new.txt', 'w').close()", "return P + mine.one, Q")
    P, _ = said(tmp_path, scratch, source, sandboxed, **{"lib/../mine.py": tmp_path / "mine.py"})
    assert P[0, 0] == 2
    assert not (tmp_path / "new.txt").exists()


def test_no_name_of_a_file_leads_out(tmp_path, scratch):
    said(
        tmp_path, scratch, answer("return P, Q"), False, **{"../../out.txt": tmp_path / "week5.py"}
    )
    assert not list(scratch.rglob("out.txt"))


# ---- What an answer reaches in the sandbox


def test_no_file_of_anybody_is_seen(tmp_path, scratch, in_sandbox):
    (tmp_path / "marks.csv").write_text("kept")
    project = process.PROJECT / "tests" / "oracles.py"  # Python itself may lie in its folder
    places = [tmp_path, project, Path.home() / ".ssh", scratch / "students", "/etc/passwd"]
    source = answer(
        f"places = {[str(place) for place in places]}",
        "found = [place for place in places if os.path.exists(place)]",
        "raise RuntimeError(f'{found} {sorted(os.listdir())}')",
    )
    text = raised(tmp_path, scratch, source)
    assert text.startswith("it stops with RuntimeError: [] ['scikit_learn_data', 'week5.py']")


def test_the_project_is_not_seen_where_the_system_is(tmp_path, scratch, in_sandbox, monkeypatch):
    monkeypatch.setattr(process, "PROJECT", Path("/usr/share"))
    source = answer("raise RuntimeError(f'{os.listdir(\"/usr/share\")}')")
    assert "RuntimeError: []" in raised(tmp_path, scratch, source)


def test_nothing_can_be_written_but_in_its_own_room(tmp_path, scratch, in_sandbox):
    source = answer(
        "done = []",
        "for folder, _, _ in os.walk('/'):",
        "    if not folder.startswith(('/proc', '/tmp')):",
        "        try:",
        "            open(folder + '/x', 'w').close()",
        "            done.append(folder)",
        "        except OSError:",
        "            pass",
        "raise RuntimeError(str(done))",
    )
    assert ": []" in raised(tmp_path, scratch, source)


def test_there_is_no_way_to_more_room(tmp_path, scratch, in_sandbox):
    source = "import subprocess\n" + answer(
        "made = subprocess.run(['unshare', '--user', '--map-root-user', '--mount', 'true'])",
        "raise RuntimeError(f'ended with {made.returncode}')",
    )
    assert "ended with 1" in raised(tmp_path, scratch, source)


def test_its_room_is_not_the_disk(tmp_path, scratch, in_sandbox):
    source = answer(
        "try:",
        "    for i in range(40):",
        "        open(f'{i % 2}{i}', 'wb').write(bytes(20 * 2**20))",
        "except OSError as error:",
        "    raise RuntimeError(error.strerror)",
    )
    assert "No space left" in raised(tmp_path, scratch, source)


def test_there_is_no_network_and_nothing_of_the_environment(
    tmp_path, scratch, in_sandbox, monkeypatch
):
    monkeypatch.setenv("PATH", os.environ["PATH"] + ":/told")
    for name in ("SECRET", "LANG", "LC_ALL", "USER"):
        monkeypatch.setenv(name, "told")
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = "import socket\n" + answer(
            "try:",
            f"    socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)",
            "except OSError:",
            "    raise RuntimeError('told' if 'told' in str(os.environ) else 'alone')",
        )
        assert "RuntimeError: alone" in raised(tmp_path, scratch, source)


def test_no_other_process_is_seen(tmp_path, scratch, in_sandbox):
    source = answer("raise RuntimeError(len([x for x in os.listdir('/proc') if x.isdigit()]))")
    assert "RuntimeError: 2" in raised(tmp_path, scratch, source)


# ---- What an answer may use


def test_memory_counts_for_all_its_processes(tmp_path, scratch, in_sandbox, monkeypatch):
    monkeypatch.setattr(process, "MEMORY", 1)
    source = answer(
        "for i in range(3): os.fork()", "x = bytearray(300 * 2**20)", "time.sleep(9)", "return P, Q"
    )
    assert said(tmp_path, scratch, source).label == "too large"


def test_a_single_process_that_wants_too_much_gets_a_memory_error(tmp_path, scratch, sandboxed):
    source = answer("bytearray(6 * 2**30)")
    assert said(tmp_path, scratch, source, sandboxed).label == "MemoryError"


def test_processes_without_end_are_ended(tmp_path, scratch, in_sandbox):
    source = answer("while os.fork() or True: time.sleep(0.001)")
    assert said(tmp_path, scratch, source).kind == "no verdict"


def test_a_call_that_runs_a_minute_is_wrong(tmp_path, scratch, sandboxed, monkeypatch):
    monkeypatch.setattr(process, "SMALL_CALL", 1)
    verdict = said(tmp_path, scratch, answer("while True: pass"), sandboxed)
    assert verdict[:2] == ("wrong", "too slow")


@pytest.mark.parametrize("line", ["while True: pass", "time.sleep(999)"])
def test_what_does_not_end_in_the_time_given_gets_no_verdict(tmp_path, scratch, sandboxed, line):
    verdict = said(tmp_path, scratch, answer(line), sandboxed, limit=1)
    assert verdict[:2] == ("no verdict", "no answer in time")


def test_a_stopped_process_holds_nobody(tmp_path, scratch, in_sandbox):
    source = answer("os.kill(os.getpid(), 19)", "return P, Q")
    assert said(tmp_path, scratch, source, limit=1).label == "no answer in time"


def test_time_that_the_machine_spends_on_others_does_not_count(tmp_path, scratch, in_sandbox):
    core = min(os.sched_getaffinity(0))
    here = f"os.sched_setaffinity(0, [{core}])"
    busy = [sys.executable, "-c", f"import os\n{here}\nwhile True: pass"]
    others = [subprocess.Popen(busy, start_new_session=True) for _ in range(6)]
    source = answer(
        here,
        "begin = time.process_time()",
        "while time.process_time() < begin + 0.5: pass",
        "return P * 1, Q",
    )
    begin = time.monotonic()
    try:
        assert len(said(tmp_path, scratch, source, limit=2)) == 2
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert time.monotonic() > begin + 2


def test_the_second_exercise_starts_afresh(tmp_path, scratch, sandboxed):
    (tmp_path / "week5.py").write_text(
        answer("os._exit(1)") + f"def {MU}(R, P, Q, steps):\n    return P * 1, Q\n"
    )
    student = process.Student({"week5.py": tmp_path / "week5.py"}, scratch, 9.0, sandboxed)
    labels = []
    for name in EXERCISES:
        student.define(name)
        try:
            labels.append(len(student(*SMALL)))
        except judge.Settled as settled:
            labels.append(settled.args[0].label)
    student.close()
    assert labels == ["killed its process", 2]


# ---- Nothing is left


def test_folders_that_cannot_be_deleted_hold_nobody(tmp_path, scratch, sandboxed):
    source = answer(
        "os.makedirs('locked')",
        "os.symlink('/', 'locked/link')",
        "os.chmod('locked', 0o500)",
        "for i in range(1200):",
        "    os.mkdir('d')",
        "    os.chdir('d')",
        "return P, Q",
    )
    assert len(said(tmp_path, scratch, source, sandboxed)) == 2


def test_the_scratch_folder_goes_whatever_is_in_it(monkeypatch):
    with process.scratch_folder() as folder:
        (folder / "locked").mkdir()
        (folder / "locked" / "link").symlink_to("/")
        (folder / "locked").chmod(0o500)
        monkeypatch.chdir(folder)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
    assert not folder.exists()
