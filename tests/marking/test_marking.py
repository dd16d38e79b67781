"""Marking: what is found in a submission, what is refused, and that nothing gets out."""

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
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import student
import judge
import mark
import nbformat
import pytest

CORPUS = mark.ROOT / "tests" / "marking" / "submissions"
MF, MU = student.EXERCISES

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


# ---- What is found, and what comes along

DEEP = f"""\
def {MF}(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    if steps == 0:
        return P, Q
    E = R - P @ Q.T
    P = P + alpha * (2 * E @ Q - beta * P)
    return {MF}(R, P, Q + alpha * (2 * E.T @ P - beta * Q), K, steps - 1, alpha, beta)
"""
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
    "a function that others add to": [
        "from functools import singledispatch\n@singledispatch\ndef two(x):\n    raise TypeError",
        "@two.register(float)\ndef _(x):\n    return 2",
        RIGHT.replace("2 *", "two(1.0) *"),
    ],
    "another name": [RIGHT.replace(MF, "my_mf"), f"{MF} = my_mf"],
    "two other names": [RIGHT.replace(MF, "f"), f"{MF}, {MU} = f, f"],
    "wrapped": [RIGHT, f"from functools import lru_cache, wraps\n{MF} = wraps({MF})({MF})"],
    "decorated, without the decorator": ["from numba_missing import njit", "@njit\n" + RIGHT],
    "decorated, then plain": ["from numba_missing import njit\n@njit\n" + WRONG, RIGHT],
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
    "a default from the notebook": ["K = len(Q)", RIGHT.replace("K, steps", "K=K, steps")],
    "with display, as notebooks have it": [
        "K = 2",
        RIGHT.replace(STEP, STEP + "        display(E)\n"),
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
    "a builtin that is perhaps rebound": [
        "try:\n    from missing import trange as range\nexcept ImportError:\n    pass",
        "if 1 > 2:\n    print = None\nimport functools\nprint = functools.partial(print, end='')",
        RIGHT.replace("    return", "    print(*range(2))\n    return"),
    ],
    "a star import, then names of its own": [
        "from numpy import *",
        "def gradient(R, P, Q):\n    return R - P @ Q",
        RIGHT.replace("R - P @ Q\n", "gradient(R, P, Q)\n"),
    ],
    "what a value was at its line": [
        "scale = 1\ntwo = 2 * scale\nscale = 255\nclass Base:\n    two = two\n",
        "class Model(Base):\n    pass\nclass Base:\n    two = 3",
        RIGHT.replace("2 *", "(two + Model.two) / 2 *"),
    ],
    "names only looked for": [
        "two = 2",
        RIGHT.replace("2 *", "(2 if 'two' in globals() else 1) *").replace("E =", "two; E ="),
    ],
    "another thing by the name of a matrix": [
        "import math as M\ndef N(x):\n    return x",
        RIGHT.replace("2 *", "N(M.floor(2.5)) *"),
    ],
    "with a deeper recursion": ["import sys", "sys.setrecursionlimit(9999)", DEEP],
    "an older version, kept": [
        RIGHT,
        f"textbook = {MF}",
        f"def {MF}(*a, **k):\n    return textbook(*a, **k)",
    ],
    "by the reference": [
        "import mf_solutions as mf",
        HEAD + "    return mf.gradient_descent(R, P, Q, steps, alpha, beta)",
    ],
}


def judged(name, cells):
    server, limit = student.Server(), sys.getrecursionlimit()
    try:
        server.define(name, cells)
        return judge.judge(server.answer)
    except judge.Settled as settled:
        return settled.args[0]
    finally:
        sys.setrecursionlimit(limit)


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
    "half done": ([HALF_DONE], "wrong", "one factor never changes"),
    "a module that is missing": ([f"from missing import {MF}"], "no verdict", "needs missing"),
    "a missing module in an annotation": (
        ["from missing import Float", RIGHT.replace("(R,", "(R: Float['N M'],")],
        *("no verdict", "needs missing"),
    ),
    "what a missing module makes": (
        [
            "import missing",
            "bar = missing.bar()",
            RIGHT.replace("E = R", "bar.on()\n        E = R"),
        ],
        *("no verdict", "needs missing"),
    ),
    "a name that is missing": ([f"{MF} = my_mf"], "wrong", "NameError"),
    "ends the program": ([HEAD + "    raise SystemExit"], "wrong", "SystemExit"),
}


@pytest.mark.parametrize("cells, kind, label", NOT_JUDGED.values(), ids=NOT_JUDGED)
def test_without_an_answer_to_run_the_row_says_why(cells, kind, label):
    assert judged(MF, cells)[:2] == (kind, label)


def test_nothing_of_the_first_exercise_is_left_in_the_second():
    server = student.Server()
    first = server.reply("define", {"name": MF, "cells": ["half = 1 / 2", RIGHT]})
    assert first == {"notes": {}, "source": RIGHT.rstrip()}
    assert server.reply("define", {"name": MU, "cells": [RIGHT]}).keys() == {"verdict"}


def test_a_wrong_answer_is_wrong():
    assert judged(MF, [RIGHT, WRONG])[0] == "wrong"


# ---- Reading files, folders and zips


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
    assert mark.code_cells(content.encode(), is_module=False) == cells


def test_a_module_is_read_as_the_cells_that_it_marks():
    text = "import a\n# %%\nb\n#%% [markdown]\n# c\n# In[3]:\nd\n"
    cells = mark.code_cells(text.encode(), is_module=True)
    assert cells == ["import a\n", "# %%\nb\n", "#%% [markdown]\n# c\n", "# In[3]:\nd\n"]


BROKEN = [b"", b" \n", b"{", b"[]", b"1", b'{"cells": 1}', b'{"cells": [{}]}', b"\xff\xfe\xfd"]


@pytest.mark.parametrize("content", [*BROKEN, b"[" * 10**6], ids=range(9))
def test_what_is_no_notebook_is_a_row_of_its_own(content):
    (submission,) = mark.look("x.ipynb", len(content), lambda: io.BytesIO(content))
    assert submission.fault[:2] == ("no verdict", "not readable")


def found(path):
    """Return what there is as {name: what it is}."""
    rows, others = mark.sorted_out(list(mark.find(path)))
    labels = {row.name: row.fault.label if row.fault else len(row.cells) for row in rows}
    return labels | dict.fromkeys(others, "other")


def write(path, content=RIGHT):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if path.suffix == ".py" else notebook(content))


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_every_student_of_a_folder_has_a_row(tmp_path):
    write(tmp_path / "a" / "week5.ipynb")
    write(tmp_path / "a" / "helper.py", "x = 1")
    write(tmp_path / "a" / "pictures" / "one.png", b"")
    write(tmp_path / "b" / "answer.py")
    write(tmp_path / "b" / "week5.ipynb")
    write(tmp_path / "c" / "WEEK5.IPYNB.txt")
    write(tmp_path / "d" / "week5.html", b"<html>")
    write(tmp_path / "d" / "week5.docx", b"")
    write(tmp_path / "e" / "week5.py", RIGHT.encode("utf-16"))
    write(tmp_path / "f" / "report.pdf", b"")
    write(tmp_path / "g.ipynb.download", b"{}")
    write(tmp_path / "lee_12_34_week5.ipynb")
    write(tmp_path / "lee_12_35_report.pdf", b"")
    write(tmp_path / "mo_LATE_13_36_report.pdf", b"")
    for skipped in (".ipynb_checkpoints/x.ipynb", "__MACOSX/x.ipynb", "a/._week5.ipynb"):
        write(tmp_path / skipped)
    (tmp_path / "h.zip").write_bytes(zipped(**{"in/x.ipynb": notebook(RIGHT)}))
    (tmp_path / "nowhere.ipynb").symlink_to(tmp_path / "missing")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.ipynb")
    assert found(tmp_path) == {
        "a/week5.ipynb": 1,
        "b/answer.py": 1,
        "b/week5.ipynb": 1,
        "c/WEEK5.IPYNB.txt": 1,
        "d/week5.docx": "not a notebook",
        "e/week5.py": "not a notebook",
        "f/report.pdf": "not a notebook",
        "g.ipynb.download": "not a notebook",
        "h.zip/in/x.ipynb": 1,
        "lee_12_34_week5.ipynb": 1,
        "mo_LATE_13_36_report.pdf": "not a notebook",
        **dict.fromkeys(
            ["a/helper.py", "a/pictures/one.png", "d/week5.html", "lee_12_35_report.pdf"], "other"
        ),
    }


def test_what_is_handed_in_beside_a_notebook_is_at_hand(tmp_path):
    for name, content in (
        ("a/week5.ipynb", "from mine import *"),
        ("a/mine.py", RIGHT),
        ("a/steps.py", "n = 1"),
        ("lee_12_34_week5.ipynb", RIGHT),
        ("lee_12_35_steps.py", "n = 2"),
        ("mo_13_36_week5.ipynb", RIGHT),
    ):
        write(tmp_path / name, content)
    rows, _ = mark.sorted_out(list(mark.find(tmp_path)))
    beside = {row.name: sorted(row.beside) for row in rows}
    assert beside == {
        "a/mine.py": ["mine.py", "steps.py"],
        "a/week5.ipynb": ["mine.py", "steps.py"],
        "lee_12_34_week5.ipynb": ["steps.py"],
        "mo_13_36_week5.ipynb": [],
    }


def test_a_file_that_the_tutor_names_is_read_whatever_it_is_called(tmp_path):
    (tmp_path / "answer.txt").write_text(notebook(RIGHT))
    assert found(tmp_path / "answer.txt") == {"answer.txt": 1}
    (named,) = mark.find(tmp_path / "answer.txt", several=True)
    assert named.name == (tmp_path / "answer.txt").as_posix()


def test_zips_in_zips_are_read_without_being_unpacked(tmp_path):
    inner = zipped(**{"week5.ipynb": notebook(RIGHT), "__MACOSX/._week5.ipynb": "x"})
    outer = zipped(
        **{"Anna_1/week5.ipynb": notebook(RIGHT), "Bo_2/in.zip": inner, "Bo_2/a.pdf": ""}
    )
    (tmp_path / "export.zip").write_bytes(outer)
    assert found(tmp_path / "export.zip") == {
        "Anna_1/week5.ipynb": 1,
        "Bo_2/a.pdf": "not a notebook",
        "Bo_2/in.zip/week5.ipynb": 1,
    }
    assert os.listdir(tmp_path) == ["export.zip"]


def test_no_zip_does_harm(tmp_path):
    link = zipfile.ZipInfo("link.ipynb")
    link.external_attr = 0o120777 << 16
    encrypted = bytearray(zipped(**{"x.ipynb": notebook(RIGHT)}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    large = bytes(mark.FILE_LIMIT + 1)
    lying = zipped(**{"x.ipynb": large}).replace(len(large).to_bytes(4, "little"), b"\5\0\0\0")
    many = {f"{i}.ipynb": "" for i in range(600)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../up.ipynb", notebook(RIGHT))
        archive.writestr("/abs.ipynb", notebook(RIGHT))
        archive.writestr("bomb.ipynb", large)
        archive.writestr("bomb.zip", zipped(**{"x.ipynb": bytes(10**6)} | many))
        archive.writestr("broken.zip", zipped(x="1")[:-9])
        archive.writestr("encrypted.zip", bytes(encrypted))
        archive.writestr("inner.zip", zipped(**{"fat.zip": large}))
        archive.writestr("lying.zip", lying)
        archive.writestr(link, "/etc/passwd")
        archive.writestr("right.ipynb", notebook(RIGHT))
    write(tmp_path / "in" / "export.zip", file.getvalue())
    assert found(tmp_path / "in" / "export.zip") == {
        "../../up.ipynb": 1,
        "/abs.ipynb": 1,
        "bomb.ipynb": "too large",
        "bomb.zip": "too large",
        "broken.zip": "not readable",
        "encrypted.zip/x.ipynb": "not readable",
        "inner.zip/fat.zip": "too large",
        "lying.zip/x.ipynb": "not readable",
        "link.ipynb": "not readable",
        "right.ipynb": 1,
    }
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "export.zip"]


# ---- What students wrote, in the table and on the pages


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
    assert mark.plain(text) == expected


def test_a_formula_becomes_text():
    assert mark.harmless(["=1+1", "+1", " -1", "@SUM(1)", "x=1"]) == [
        *("'=1+1", "'+1", "' -1", "'@SUM(1)", "x=1")
    ]


def test_names_are_told_apart_on_every_disk():
    names = ["x.ipynb", "X.ipynb", "x.ipynb (2)", "x.ipynb"]
    found = list(mark.distinct(names))
    assert found == ["x.ipynb", "X.ipynb (2)", "x.ipynb (2) (2)", "x.ipynb (3)"]


def test_a_page_is_text_whatever_the_student_wrote():
    verdict = mark.Verdict("wrong", "<b>", "<script>alert(1)</script>")
    page = mark.page_of("<img>", {MF: (verdict, "if a < b:\n    print('\x1b[2J</pre>')")})
    assert not {"<script>", "<img>", "\x1b"} & set(re.findall(r"<\w+>|\x1b", page))
    assert page.count("</pre>") == 1 and "if a &lt; b:\n    print" in page


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_limits_are_numbers_greater_than_0(text):
    with pytest.raises(ValueError):
        mark.positive(text)


def test_only_a_table_of_marks_is_overwritten(tmp_path):
    foreign = tmp_path / "thesis.csv"
    foreign.write_text("=1\x1b[2J\n")
    with pytest.raises(pytest.UsageError, match="the first line there is '=1'"):
        mark.check_marks(foreign)
    assert foreign.read_text() == "=1\x1b[2J\n"
    foreign.write_bytes(b"PK\xff\xfe")
    for path in (foreign, tmp_path, tmp_path / "nowhere" / "marks.csv"):
        with pytest.raises(pytest.UsageError, match="cannot be written"):
            mark.check_marks(path)


def test_a_path_without_submissions_is_an_error(tmp_path):
    for path, why in ((tmp_path, "there is none in it"), (tmp_path / "no", "it does not exist")):
        config = SimpleNamespace(option=SimpleNamespace(submission=[str(path)]))
        with pytest.raises(pytest.UsageError, match=why):
            mark.configure(config)


# ---- Runs


def command(folder, *options):
    start = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(mark.ROOT)]
    return [*start, f"--submission={folder / 'in'}", f"--marks={folder / 'marks.csv'}", *options]


def mark(folder, *options):
    """Mark what is in the folder; return the process and its rows."""
    process = subprocess.run(
        command(folder, *options), cwd=folder, capture_output=True, text=True, timeout=300
    )
    return process, rows_of(folder / "marks.csv")


def rows_of(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {row[0]: (tuple(row[1:4]), tuple(row[4:7])) for row in list(csv.reader(file))[1:]}


def test_where_all_is_right_the_status_is_0_and_a_second_run_judges_nothing(tmp_path):
    write(tmp_path / "in" / "x.ipynb", RIGHT + RIGHT_MU)
    process, rows = mark(tmp_path, "--feedback=pages")
    assert process.returncode == 0, process.stdout + process.stderr
    assert [[v[:2] for v in row] for row in rows.values()] == [
        [("correct", "full batch, P first"), ("correct", "P first")]
    ]
    assert "judging x.ipynb, 0 left" in process.stdout
    assert "total: 1\nexercise 1: 1 correct\nexercise 2: 1 correct\n" in process.stdout
    page = (tmp_path / "pages" / "x.ipynb.html").read_text(encoding="utf-8")
    assert "<b>correct</b>" in page and "E = R - P @ Q\n" in page
    first = (tmp_path / "marks.csv").read_bytes()
    again, _ = mark(tmp_path, "--feedback=pages")
    assert "judging" not in again.stdout and "1 of 1 are marked already" in again.stdout
    assert again.returncode == 0 and (tmp_path / "marks.csv").read_bytes() == first
    write(tmp_path / "in" / "x.ipynb", WRONG)
    changed, rows = mark(tmp_path)
    assert changed.returncode == 1 and rows["x.ipynb"][0][:2] == ("wrong", "sign of the gradient")


def answer(*lines, name=MF):
    return f"import os, sys, time\ndef {name}(*args, **kwargs):\n" + indented("\n".join(lines))


def test_the_same_command_goes_on_after_an_interrupt(tmp_path):
    for name in "abc":
        write(tmp_path / "in" / f"{name}.ipynb", RIGHT + RIGHT_MU)
    write(tmp_path / "in" / "d.ipynb", answer("time.sleep(600)") + RIGHT_MU)
    process = subprocess.Popen(
        command(tmp_path, "--time-limit=60"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "marks.csv").exists() or len(rows_of(tmp_path / "marks.csv")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED and b"goes on from there" in output
    assert sorted(rows_of(tmp_path / "marks.csv")) == ["a.ipynb", "b.ipynb", "c.ipynb"]
    write(tmp_path / "in" / "d.ipynb", RIGHT + RIGHT_MU)
    process, rows = mark(tmp_path, "--time-limit=60")
    assert "3 of 4 are marked already" in process.stdout and "judging d.ipynb" in process.stdout
    assert process.returncode == 0 and list(rows) == [f"{name}.ipynb" for name in "abcd"]


def test_no_submission_affects_another_nor_what_is_around_it(tmp_path, monkeypatch):
    hostile = {
        "exit": (answer("os._exit(0)"), "killed its process"),
        "kill": (answer("os.kill(os.getpid(), 9)"), "killed its process"),
        "child": (
            answer("if os.fork() == 0:", "    os.setsid()", "    time.sleep(60)", "os._exit(1)"),
            "killed its process",
        ),
        "folder": (answer("raise OSError(f'{os.listdir()} in {os.getcwd()}')"), "OSError"),
        "litter": (answer("open('x', 'w').write('x')", "raise OSError('littered')"), "OSError"),
        "memory": (answer("bytearray(3 * 2**30)"), "MemoryError"),
        "print": (
            answer("print('\\x1b[2J' * 10**6)", "os.write(1, b'x')", "exit(3)"),
            "SystemExit",
        ),
        "question": (answer("input()"), "EOFError"),
        "escape": (answer("raise OSError('=1\\x1b[31m\\u202e\\n')"), "OSError"),
        "network": (
            answer("import socket", "socket.create_connection(('127.0.0.1', 9))"),
            "OSError",
        ),
        "swallow": (
            answer(
                "while True:", "    try:", "        time.sleep(9)", "    except:", "        pass"
            ),
            "too slow",
        ),
        "patch": ("import numpy\nnumpy.dot = None\n" + RIGHT, "full batch, P first"),
        "secret": (answer("raise OSError(os.environ.get('SECRET', 'none'))"), "OSError"),
    }
    for name, (cell, _) in hostile.items():
        write(tmp_path / "in" / f"{name}.ipynb", cell + RIGHT_MU)
    write(tmp_path / "in" / "conftest.py", "raise SystemExit('run by pytest')")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("SECRET", "told")
    process, rows = mark(tmp_path, "--time-limit=6", "--memory-limit=2")
    assert process.returncode == 1, process.stdout + process.stderr
    got = {name.removesuffix(".ipynb"): row[0] for name, row in rows.items()}
    assert {name: label for name, (_, label, _) in got.items()} == {
        name: label for name, (_, label) in hostile.items()
    }
    assert not re.search(r"\[.*(x|\.ipynb).*\] in", got["folder"][2])
    assert "none" in got["secret"][2] and "there is no network" in got["network"][2]
    assert {row[1][0] for row in rows.values()} == {"correct"}
    assert "\x1b" not in process.stdout and "\u202e" not in process.stdout
    assert list(scratch.rglob("*")) == []
    if "--kill-child" in mark.apart():
        assert left_over(str(scratch)) == []


def left_over(folder):
    """Return the processes that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(folder):
                found.append((process / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def test_marks_are_refused_before_anything_runs(tmp_path):
    write(tmp_path / "in" / "x.ipynb")
    (tmp_path / "marks.csv").write_text("not marks\n")
    process = subprocess.run(command(tmp_path), capture_output=True, text=True)
    assert process.returncode == pytest.ExitCode.USAGE_ERROR
    assert "expected a new file or an older table of marks" in process.stderr
    assert (tmp_path / "marks.csv").read_text() == "not marks\n"


def test_every_submission_of_the_corpus_gets_its_verdict():
    with (CORPUS / "expected.csv").open(newline="", encoding="utf-8") as file:
        expected = {row["file"]: tuple(row.values())[1:] for row in csv.DictReader(file)}
    option = SimpleNamespace(time_limit=15.0, memory_limit=4.0)
    rows, _ = mark.sorted_out([x for x in mark.find(CORPUS) if x.name != "expected.csv"])
    rows.sort(key=lambda row: not re.search("endless|slow|swallows", row.name))  # the longest first
    with ThreadPoolExecutor(3) as pool:
        results = pool.map(lambda row: mark.judged(row, option), rows)
        verdicts = {row.name: found for row, found in zip(rows, results)}
    for name, found in verdicts.items():
        for place, (verdict, _) in enumerate(found.values()):
            kind, label = expected[name][2 * place : 2 * place + 2]
            if verdict.label == "needs numba":  # where the others have it
                continue
            if label.startswith("needs ") and find_spec(label.removeprefix("needs ")):
                assert verdict.kind in mark.RIGHT, (name, verdict)
            else:
                assert verdict[:2] == (kind, label), (name, verdict)
    assert verdicts.keys() == expected.keys()
