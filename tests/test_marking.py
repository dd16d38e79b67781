"""Marking: what is found in a submission, what is refused, and that nothing gets out."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import answers
import marking
import nbformat
import pytest

CORPUS = marking.ROOT / "tests" / "submissions"
MF, MU = answers.CHECKS

HEAD = "def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):\n"
STEP = """\
        E = R - P @ Q
        P = P + alpha * (2 * E @ Q.T - beta * P)
        Q = Q + alpha * (2 * P.T @ E - beta * Q)
"""
LOOP = f"    Q = Q.T\n    for step in range(steps):\n{STEP}    return P, Q.T\n"
RIGHT = HEAD + LOOP
WRONG = RIGHT.replace("+ alpha", "- alpha")
BLANK = RIGHT.replace(STEP, "        # To do here\n\n")
RIGHT_MU = """\
def mf_multiplicative_update(R, P, Q, steps=5000):
    for step in range(steps):
        P = P * (R @ Q) / (P @ (Q.T @ Q))
        Q = Q * (R.T @ P) / (Q @ (P.T @ P))
    return P, Q
"""


def indented(source):
    return "".join(f"    {line}\n" for line in source.splitlines())


def notebook(*cells):
    new = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return nbformat.writes(new)


# --------------------------------------------------------------------------
# What is found, and what comes along
# --------------------------------------------------------------------------

FOUND = {
    "alone": [RIGHT],
    "the last definition": [WRONG, RIGHT],
    "not one that does not parse": [RIGHT, RIGHT.replace("R - P @ Q", "(R - P @ Q")],
    "nor a blank that does not": [RIGHT, BLANK],
    "beside cells that do not parse": ["this is a note", RIGHT, "for", "x = = 2"],
    "beside cells that raise": ["1 / 0", "raise SystemExit", RIGHT, "D = faces.data"],
    "with null bytes about": ["x = '\0'", RIGHT],
    "indented throughout": [indented(RIGHT)],
    "with Windows line ends": [RIGHT.replace("\n", "\r\n")],
    "after a magic": ["%matplotlib inline\n" + RIGHT],
    "in a cell with a magic": ["\n# timed\n%%time\n" + RIGHT],
    "in a file to be written": ["%%writefile week5.py\n" + RIGHT],
    "with shell lines": ["!pip install x\nfiles = !ls\n" + RIGHT + "\nnp.dot?\n!!ls"],
    "with a magic inside": [
        RIGHT.replace("        E =", "        %time 1\n        !ls\n        E =")
    ],
    "with % at the start of a line": ["x = (4\n% 3)\n" + RIGHT],
    "under if": ["if True:\n" + indented(RIGHT) + "else:\n" + indented(WRONG)],
    "under try": ["try:\n" + indented(RIGHT) + "except ImportError:\n    import missing_module"],
    "under try, finally": ["try:\n" + indented(RIGHT) + "finally:\n    print('done')"],
    "under with": ["import warnings\nwith warnings.catch_warnings():\n" + indented(RIGHT)],
    "a lambda": [RIGHT.replace(MF, "f"), f"{MF} = lambda *a, **k: f(*a, **k)"],
    "another name": [RIGHT.replace(MF, "my_mf"), f"{MF} = my_mf"],
    "two other names": [RIGHT.replace(MF, "f"), f"{MF}, {MU} = f, f"],
    "wrapped": [RIGHT, f"from functools import lru_cache, wraps\n{MF} = wraps({MF})({MF})"],
    "decorated, without the decorator": ["from numba_missing import njit", "@njit\n" + RIGHT],
    "decorated, the last": [WRONG, "@later\n" + RIGHT, "def later(f):\n    return f"],
    "helper further down": [
        RIGHT.replace("R - P @ Q", "residual(R, P, Q)"),
        "def residual(R, P, Q):\n    return R - product(P, Q)",
        "product = lambda P, Q: np.dot(P, Q)",
        "import numpy as np",
    ],
    "a class": [
        "class Loss(Base):\n    def of(self, R, P, Q):\n        return R - P @ Q",
        "class Base:\n    pass",
        RIGHT.replace("R - P @ Q", "Loss().of(R, P, Q)"),
    ],
    "constants": ["half = 1 / 2", "two = 1", "two += 2 * half", RIGHT.replace("2 *", "two *")],
    "constants in a dictionary": [
        "settings = {}\nsettings['two'] = 2",
        RIGHT.replace("2 *", "settings['two'] *"),
    ],
    "constants from a loop": ["n = 0\nfor i in range(2):\n    n += 1", RIGHT.replace("2 *", "n *")],
    "defaults": [
        "STEPS = 5\nA = STEPS / 2500",
        RIGHT.replace("500", "STEPS").replace("0.002", "A"),
    ],
    "annotated": [
        "import numpy as np",
        RIGHT.replace("(R, P, Q,", "(R: np.ndarray, P, Q,").replace("0.02):", "0.02) -> tuple:"),
    ],
    "a star import": ["from numpy import *", RIGHT.replace("P @ Q\n", "dot(P, Q)\n")],
    "an assignment that raises is left aside": ["R = faces.data", "K = len(R)", RIGHT],
    "nothing is run that is not needed": ["P = exit()", "beta = 1 / 0", RIGHT, "Q = exit()"],
    "nor a fit whose result is used": [
        "import os",
        f"P, Q = {MF}(os._exit(1))",
        f"for i in range(9):\n    P, Q = {MF}(os._exit(1))",
        "def plot():\n    return P",
        RIGHT.replace("return P, Q.T", "return (P, Q.T) if True else plot()"),
    ],
    "with its own names for the judge's": ["Verdict = WrongAnswer = judged = None", RIGHT],
    "by the reference": [
        "import mf_solutions as mf",
        HEAD + "    return mf.gradient_descent(R, P, Q, steps, alpha, beta)",
    ],
}


def judged(name, cells):
    server = answers.Server()
    try:
        server.define(name, cells)
    except answers.Fault as fault:
        return fault.args
    return answers.CHECKS[name](server.f)


@pytest.mark.parametrize("cells", FOUND.values(), ids=FOUND)
def test_the_answer_is_found_with_what_it_needs(cells):
    assert judged(MF, cells)[:2] == ("correct", "full batch, P first")


UNINDENTED = RIGHT.replace(STEP, "        # To do here\n" + STEP.replace("        ", "    "))
HALF_DONE = BLANK.replace("    for", "    P = P + alpha * (R @ Q.T)\n    for")
OPEN = RIGHT.replace("R - P @ Q", "(R - P @ Q")
NOT_JUDGED = {
    "blank": ([BLANK], "not attempted", ""),
    "blank with pass": ([RIGHT.replace(STEP, "        pass\n")], "not attempted", ""),
    "blank, copied": ([BLANK, BLANK], "not attempted", ""),
    "both blank in a cell": ([BLANK + BLANK], "not attempted", ""),
    "nothing": ([], "no verdict", "not found"),
    "only called": ([f"{MF}(R, P, Q, 2)  # def {MF}"], "no verdict", "not found"),
    "only a method": (["class A:\n" + indented(RIGHT)], "no verdict", "not found"),
    "never defined": (["if False:\n" + indented(RIGHT)], "no verdict", "not found"),
    "open bracket": (["\n\n%pylab\n" + OPEN], "wrong", "SyntaxError, line 7 of the cell"),
    "after a magic": (["%%time\n" + OPEN], "wrong", "SyntaxError, line 5 of the cell"),
    "not indented": ([UNINDENTED], "wrong", "IndentationError, line 5 of the cell"),
    "half done": ([HALF_DONE], "wrong", "IndentationError, line 7 of the cell"),
    "a module that is missing": ([f"from missing import {MF}"], "no verdict", "needs missing"),
    "a name that is missing": ([f"{MF} = my_mf"], "wrong", "NameError"),
    "ends the program": ([HEAD + "    raise SystemExit"], "wrong", "SystemExit"),
}


@pytest.mark.parametrize("cells, kind, label", NOT_JUDGED.values(), ids=NOT_JUDGED)
def test_without_an_answer_to_run_the_row_says_why(cells, kind, label):
    assert judged(MF, cells)[:2] == (kind, label)


def test_a_wrong_answer_is_wrong():
    assert judged(MF, [RIGHT, WRONG])[0] == "wrong"


# --------------------------------------------------------------------------
# Reading files, folders and zips
# --------------------------------------------------------------------------


def sheet(**cell):
    return {"cells": [{"cell_type": "markdown", "source": "x"}, {"cell_type": "code", **cell}]}


@pytest.mark.parametrize(
    "content, cells",
    [
        (json.dumps(sheet(source=["a\n", "b"])), ["a\nb"]),
        (json.dumps(sheet(source="a\nb")), ["a\nb"]),
        ("\ufeff" + json.dumps(sheet(source="é")), ["é"]),
        (json.dumps({"worksheets": [sheet(input=["a"]), sheet(input="b")]}), ["a", "b"]),
        (json.dumps(sheet(source="\ud800")), ["?"]),
    ],
)
def test_code_cells_of_every_kind_of_notebook_are_read(content, cells):
    assert marking.code_cells(content.encode(), is_module=False) == cells


def test_a_module_is_read_as_the_cells_that_it_marks():
    text = "import a\n# %%\nb\n#%% [markdown]\n# c\n# In[3]:\nd\n"
    cells = marking.code_cells(text.encode(), is_module=True)
    assert cells == ["import a\n", "# %%\nb\n", "#%% [markdown]\n# c\n", "# In[3]:\nd\n"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"{",
        b"[]",
        b"1",
        b'{"cells": 1}',
        b'{"cells": [{}]}',
        b"\xff\xfe\xfd",
        b"[" * 10**6,
    ],
)
def test_what_is_no_notebook_is_a_row_of_its_own(content):
    submission = marking.read("x.ipynb", len(content), lambda: io.BytesIO(content))
    assert submission.fault[:2] == ("no verdict", "not readable")


def test_a_large_file_is_refused_without_being_opened():
    submission = marking.read("x.ipynb", 100 * 2**20, pytest.fail)
    assert submission.fault[1:] == (
        "too large",
        "expected at most 20 MB, but got 100 MB",
    )


def found(path, **options):
    """Return what there is as {name: what it is}."""
    return {
        getattr(x, "name", x): (x.fault.label if x.fault else len(x.cells))
        if isinstance(x, marking.Submission)
        else "other"
        for x in marking.find(path, **options)
    }


def write(path, content=RIGHT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if path.suffix == ".py" else notebook(content))


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_a_folder_is_searched(tmp_path):
    write(tmp_path / "a" / "week5.ipynb")
    write(tmp_path / "b" / "week5.ipynb")
    write(tmp_path / "b" / "answer.PY".lower())
    write(tmp_path / "b" / "helper.py", "x = 1")
    write(tmp_path / "c" / "WEEK5.IPYNB")
    write(tmp_path / "c" / "week5.ipynb.txt")
    for skipped in (".ipynb_checkpoints/x.ipynb", "__MACOSX/x.ipynb", "a/._week5.ipynb"):
        write(tmp_path / skipped)
    (tmp_path / "report.pdf").write_text("")
    (tmp_path / "d.zip").write_bytes(zipped(**{"in/x.ipynb": notebook(RIGHT)}))
    (tmp_path / "nowhere.ipynb").symlink_to(tmp_path / "missing")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert found(tmp_path) == {
        "d.zip/in/x.ipynb": 1,
        "report.pdf": "other",
        "a/week5.ipynb": 1,
        "b/answer.py": 1,
        "b/helper.py": "other",
        "b/week5.ipynb": 1,
        "c/WEEK5.IPYNB": 1,
        "c/week5.ipynb.txt": 1,
    }


def test_a_pipe_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes with names here")
    os.mkfifo(tmp_path / "x.ipynb")
    assert found(tmp_path) == {}


def test_a_file_that_the_tutor_names_is_read_whatever_it_is_called(tmp_path):
    (tmp_path / "answer.txt").write_text(notebook(RIGHT))
    write(tmp_path / "helper.py", "x = 1")
    assert found(tmp_path / "answer.txt") == {"answer.txt": 1}
    assert found(tmp_path / "helper.py", several=True) == {
        f"{(tmp_path / 'helper.py').as_posix()}": 1
    }


def test_zips_in_zips_are_read_without_being_unpacked(tmp_path):
    inner = zipped(**{"week5.ipynb": notebook(RIGHT), "__MACOSX/._week5.ipynb": "x"})
    outer = zipped(
        **{"Anna_1/week5.ipynb": notebook(RIGHT), "Bo_2/in.zip": inner, "Bo_2/a.pdf": ""}
    )
    (tmp_path / "export.zip").write_bytes(outer)
    assert found(tmp_path / "export.zip") == {
        "Anna_1/week5.ipynb": 1,
        "Bo_2/a.pdf": "other",
        "Bo_2/in.zip/week5.ipynb": 1,
    }
    assert os.listdir(tmp_path) == ["export.zip"]


def test_no_zip_does_harm(tmp_path):
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = 0o120777 << 16
    encrypted = bytearray(zipped(**{"x.ipynb": notebook(RIGHT)}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../up.ipynb", notebook(RIGHT))
        archive.writestr("/abs.ipynb", notebook(RIGHT))
        archive.writestr("a\\b.ipynb", notebook(RIGHT))
        archive.writestr("bomb.ipynb", bytes(marking.FILE_LIMIT + 1))
        archive.writestr("bomb.zip", zipped(**{"x.ipynb": bytes(10**6)} | many(600)))
        archive.writestr("broken.zip", zipped(x="1")[:-9])
        archive.writestr("encrypted.zip", bytes(encrypted))
        archive.writestr("inner.zip", zipped(**{"fat.zip": bytes(marking.FILE_LIMIT + 1)}))
        archive.writestr(link, "/etc/passwd")
        archive.writestr("right.ipynb", notebook(RIGHT))
    path = tmp_path / "in" / "export.zip"
    path.parent.mkdir()
    path.write_bytes(file.getvalue())
    assert found(path) == {
        "../../up.ipynb": 1,
        "/abs.ipynb": 1,
        next(name for name in found(path) if name.endswith("b.ipynb") and "a" in name): 1,
        "bomb.ipynb": "too large",
        "bomb.zip": "too large",
        "broken.zip": "not readable",
        "encrypted.zip/x.ipynb": "not readable",
        "inner.zip/fat.zip": "too large",
        "link.ipynb": "not readable",
        "right.ipynb": 1,
    }
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "export.zip"]


def many(count):
    return {f"{i}.ipynb": "" for i in range(count)}


def test_a_zip_that_promises_less_than_it_holds_is_refused(tmp_path):
    content = bytearray(zipped(**{"x.ipynb": bytes(marking.FILE_LIMIT + 1)}))
    size = (marking.FILE_LIMIT + 1).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(content.replace(size, (5).to_bytes(4, "little")))
    assert found(tmp_path / "x.zip") == {"x.ipynb": "not readable"}


def test_submissions_of_one_name_are_told_apart():
    names = ["x\x1b[2J.ipynb", "x.ipynb", "a::b", "x.ipynb (2)", "x.ipynb"]
    named = marking.named_apart(marking.Submission(name, []) for name in names)
    assert [x.name for x in named] == [
        "x.ipynb",
        "x.ipynb (2)",
        "a:b",
        "x.ipynb (2) (2)",
        "x.ipynb (3)",
    ]


# --------------------------------------------------------------------------
# What students wrote, in the table
# --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a\r\n\tb\0c", "a b c"),
        ("\x1b[31mred\x1b[0m\x1b]0;title\x07\x1bc\x9b1m", "red 1m"),
        ("a\u202eb\u2066c\u200bd\u2028e\ufeff", "a b c d e"),
        ("\udcff\ue000", ""),
        ("naïve 数 ∇", "naïve 数 ∇"),
        ("x" * 500, "x" * 397 + "..."),
    ],
)
def test_text_becomes_plain(text, expected):
    assert marking.plain(text) == expected


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_a_formula_becomes_text(text):
    assert marking.harmless(text) == "'" + text
    assert marking.harmless("x" + text) == "x" + text


def test_the_table_stays_in_line():
    right = dict.fromkeys(answers.CHECKS, marking.Verdict("correct", "P first", "."))
    rows = {"数": right, "e\u0301": right, "n" * 60 + ".ipynb": right}
    lines = list(marking.table(rows))
    assert {marking.width(line[: line.index("correct")]) for line in lines[1:4]} == {46}
    assert lines[4:] == ["total: 3", "exercise 1: 3 correct", "exercise 2: 3 correct"]


def test_only_a_table_of_marks_is_overwritten(tmp_path):
    foreign, new = tmp_path / "thesis.csv", tmp_path / "marks.csv"
    foreign.write_text("=1\x1b[2J\n")
    with pytest.raises(pytest.UsageError, match="the first line there is '=1'"):
        marking.check_marks(foreign)
    assert foreign.read_text() == "=1\x1b[2J\n"
    for _ in range(2):
        marking.check_marks(new)
        rows = {
            "=x": {MF: marking.Verdict("wrong", "-", "@"), MU: marking.Verdict("correct", "é", "")}
        }
        marking.write_marks(new, rows)
    lines = new.read_text(encoding="utf-8-sig").splitlines()
    assert lines[1:] == ["'=x,wrong,'-,'@,correct,é,"]
    foreign.write_bytes(b"PK\xff\xfe")
    for path in (foreign, tmp_path, tmp_path / "nowhere" / "marks.csv"):
        with pytest.raises(pytest.UsageError, match="cannot be written"):
            marking.check_marks(path)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_limits_are_numbers_greater_than_0(text):
    with pytest.raises(ValueError):
        marking.positive(text)


def test_a_path_without_submissions_is_an_error(tmp_path):
    for path, why in ((tmp_path, "there is none in it"), (tmp_path / "no", "it does not exist")):
        config = SimpleNamespace(option=SimpleNamespace(submission=[str(path)]))
        with pytest.raises(pytest.UsageError, match=why):
            marking.configure(config)


# --------------------------------------------------------------------------
# Runs
# --------------------------------------------------------------------------


def mark(folder, *options, cwd=marking.ROOT, paths=(), **environment):
    """Mark what is in the folder; return the process, its rows and its report."""
    marks, report = folder / "marks.csv", folder / "report.xml"
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(marking.ROOT)]
        + [f"--submission={path}" for path in paths or [folder / "in"]]
        + [f"--marks={marks}", f"--junitxml={report}", *options],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    rows = {}
    if marks.exists():
        with marks.open(newline="", encoding="utf-8-sig") as file:
            for name, *verdicts in list(csv.reader(file))[1:]:
                rows[name] = tuple(verdicts[:3]), tuple(verdicts[3:])
    return process, rows, report


def test_where_all_is_right_the_status_is_0_wherever_it_is_started(loopback, tmp_path):
    write(tmp_path / "in" / "x.ipynb", RIGHT + RIGHT_MU)
    process, rows, report = mark(tmp_path, cwd=tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert [[v[0] for v in row] for row in rows.values()] == [["correct", "correct"]]
    assert "total: 1\nexercise 1: 1 correct\nexercise 2: 1 correct\n" in process.stdout
    properties = [x.get("value") for x in ElementTree.parse(report).iter("property")]
    assert [x.split(".")[0] for x in properties] == [
        "correct: full batch, P first",
        "correct: P first",
    ]


def answer(*lines, name=MF):
    return f"import os, sys, time\ndef {name}(*args, **kwargs):\n" + indented("\n".join(lines))


def test_no_submission_affects_another_nor_what_is_around_it(loopback, tmp_path):
    hostile = {
        "exit": answer("os._exit(0)"),
        "kill": answer("os.kill(os.getpid(), 9)"),
        "child": answer("if os.fork() == 0:", "    time.sleep(600)", "os._exit(1)"),
        "folder": answer("raise OSError(f'{os.listdir()} in {os.getcwd()}')"),
        "litter": answer("open('litter', 'w').write('x')", "raise OSError('littered')"),
        "memory": answer("bytearray(3 * 2**30)"),
        "print": answer("print('\\x1b[2J' * 10**6)", "os.system('echo hello')", "raise OSError"),
        "question": answer("try:", "    input()", "except Exception:", "    raise OSError"),
        "escape": answer("raise OSError('=1\\x1b[31m\\u202e\\n')"),
        "swallow": answer(
            "while True:", "    try:", "        while True: pass", "    except:", "        pass"
        ),
        "late": answer(
            "try:", "    time.sleep(60)", "except BaseException:", "    pass", "return args[1:3]"
        ),
        "patch": "import numpy\nnumpy.dot = None\n" + RIGHT,
    }
    for name, cell in hostile.items():
        write(tmp_path / "in" / f"{name}.ipynb", cell + RIGHT_MU)
    (tmp_path / "in" / "conftest.py").write_text("raise SystemExit('run by pytest')")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process, rows, report = mark(
        tmp_path,
        "--time-limit=4",
        "--memory-limit=2",
        TMPDIR=str(scratch),
        JUPYTER_RUNTIME_DIR=str(scratch),
        SCIKIT_LEARN_DATA=str(tmp_path / "no faces"),
        https_proxy="http://127.0.0.1:9",  # nobody answers there
        MARKED_IN=str(tmp_path),
    )
    assert process.returncode == 1, process.stdout + process.stderr
    got = {name.removesuffix(".ipynb"): row[0] for name, row in rows.items()}
    labels = {name: label for name, (_, label, _) in got.items()}
    assert labels == {
        "exit": "killed its kernel",
        "kill": "killed its kernel",
        "child": "killed its kernel",
        "folder": "OSError",
        "litter": "OSError",
        "memory": "MemoryError",
        "print": "OSError",
        "question": "OSError",
        "escape": "OSError",
        "swallow": "no answer in 4 s",
        "late": "no answer in 4 s",
        "patch": "full batch, P first",
    }
    assert "[] in " in got["folder"][2]
    assert {row[1][0] for row in rows.values()} == {"correct"}
    assert "conftest.py" in process.stdout
    text = report.read_text(encoding="utf-8") + process.stdout
    assert "no answer in 4 s" in text and "=1" in text
    assert "\x1b" not in text and "\u202e" not in text and "#x1B" not in text
    assert list(scratch.rglob("*")) == []
    assert left_over(str(tmp_path)) == []


def left_over(mark):
    """Return the processes with this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARKED_IN={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def test_marks_are_refused_before_anything_runs(loopback, tmp_path):
    write(tmp_path / "in" / "x.ipynb")
    (tmp_path / "marks.csv").write_text("not marks\n")
    process, _, _ = mark(tmp_path)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert "expected a new file or an older table of marks" in process.stderr
    assert (tmp_path / "marks.csv").read_text() == "not marks\n"


def test_every_submission_of_the_corpus_gets_its_verdict(loopback, tmp_path):
    with (CORPUS / "expected.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["file"]: tuple(row.values())[1:] for row in csv.DictReader(file)}
    files = sorted(path for path in CORPUS.iterdir() if path.name != "expected.csv")
    idle = [path for path in files if re.search("endless|slow|swallows", path.name)]
    busy = [path for path in files if path not in idle]
    parts = [idle, busy[::2], busy[1::2]]  # at the same time, as two of them keep two cores busy
    folders = [tmp_path / str(i) for i in range(len(parts))]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor() as pool:
        runs = pool.map(
            lambda folder, paths: mark(folder, "--time-limit=25", paths=paths), folders, parts
        )
        rows = {name: row for _, part, _ in runs for name, row in part.items()}
    prefix = f"{CORPUS.as_posix()}/"
    got = {name.removeprefix(prefix): (*one[:2], *two[:2]) for name, (one, two) in rows.items()}
    assert got == expected


def test_a_kernel_that_fails_to_start_is_started_again(monkeypatch):
    failures = [RuntimeError("Kernel died before replying to kernel_info")] * 2

    def kernel(*_, **__):
        if failures:
            raise failures.pop()
        return "a kernel"

    monkeypatch.setattr(marking, "Kernel", kernel)
    assert marking.start_kernel("folder") == "a kernel"
    failures += [OSError("disk full")] * 3
    with pytest.raises(OSError, match="disk full"):
        marking.start_kernel("folder")
