"""The student's process: what is found in the cells, what comes along, and what is said of it."""

import json
import sys
import time
from unittest import mock

import judge
import numpy as np
import pytest
import student
from exercises import EXERCISES

MF, MU = EXERCISES

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
    "beside a magic alone": ["%%html", "%%capture\n\n", RIGHT, "%%time\n# nothing"],
    "with shell lines": ["!pip install x\nfiles = !ls\n" + RIGHT + "\nnp.dot?\n!!ls"],
    "with a magic inside": [
        RIGHT.replace("        E =", "        %time 1\n        !ls\n        E =")
    ],
    "with % at the start of a line": ["x = (4\n% 3)\n" + RIGHT],
    "under if": ["if True:\n" + indented(RIGHT) + "else:\n" + indented(WRONG)],
    "under if, with a call": [
        "if True:\n" + indented(RIGHT + f"P, Q = {MF}(R, P, Q, 2)\n"),
    ],
    "under try": ["try:\n" + indented(RIGHT) + "except ImportError:\n    import missing_module"],
    "a lambda": [RIGHT.replace(MF, "f"), f"{MF} = lambda *a, **k: f(*a, **k)"],
    "a function that others add to": [
        "from functools import singledispatch\n@singledispatch\ndef two(x):\n    raise TypeError",
        "@two.register(float)\ndef _(x):\n    return 2",
        RIGHT.replace("2 *", "two(1.0) *"),
    ],
    "another name": [RIGHT.replace(MF, "my_mf"), f"{MF} = my_mf"],
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
    "defaults": [
        "STEPS = 5\nA = STEPS / 2500",
        RIGHT.replace("500", "STEPS").replace("0.002", "A"),
    ],
    "a default from the notebook": ["K = len(Q)", RIGHT.replace("K, steps", "K=K, steps")],
    "with display, as notebooks have it": [
        "K = 2",
        RIGHT.replace(STEP, STEP + "        display(E)\n"),
    ],
    "annotated with what is not installed here": [
        "from missing import Float",
        RIGHT.replace("(R,", "(R: Float['N M'],"),
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
}


class Told:
    """An answer for the judge, as the command has it: only what the student's process replies."""

    def __init__(self, cells, name):
        self.server, self.notes = serving(cells), {}
        self.gradient = EXERCISES[name].gradient
        self.source = self.ask("define", name=name)["source"]

    def ask(self, what, **details):
        reply = self.server.reply(what, details)
        reply = json.loads(json.dumps(reply, default=np.ndarray.tolist))
        self.notes |= reply.get("notes", {})
        if "verdict" in reply:
            raise judge.Settled(judge.Verdict(*reply["verdict"]))
        return reply

    def __call__(self, R, P, Q, steps, *numbers):
        reply = self.ask("call", R=R, P=P, Q=Q, steps=steps, numbers=numbers)
        return [np.array(factor) for factor in reply["factors"]]


def serving(cells):
    """Return a server that has read these cells: sources, or pairs with whether that is code."""
    server = student.Server()
    server.cells = []
    for place, cell in enumerate(cells, 1):
        source, is_code = (cell, True) if isinstance(cell, str) else cell
        server.cells.append(student.Cell("week5.ipynb", place, source, is_code))
    return server


def judged(name, cells):
    limit = sys.getrecursionlimit()
    try:
        return judge.judge(Told(cells, name))
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
    "open bracket": (["\n\n%pylab\n" + OPEN], "wrong", "SyntaxError, line 7"),
    "after a magic": (["%%time\n" + OPEN], "wrong", "SyntaxError, line 5"),
    "not indented": ([UNINDENTED], "wrong", "IndentationError, line 5"),
    "half done": ([HALF_DONE], "wrong", "one factor never changes"),
    "a module that is missing": ([f"from missing import {MF}"], "no verdict", "needs missing"),
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
    server = serving(["half = 1 / 2", RIGHT])
    assert server.reply("define", {"name": MF}) == {"notes": {}, "source": [(1, 1, 7)]}
    assert server.reply("define", {"name": MU}).keys() == {"verdict"}


def test_the_line_is_the_cell_s_whatever_stands_above():
    verdict = judged(MF, ["Some text.\n\n" + UNINDENTED])
    assert verdict.label == "IndentationError, line 7"
    assert verdict.text.count(" line ") == 1


def test_a_wrong_answer_is_wrong():
    assert judged(MF, [RIGHT, WRONG])[0] == "wrong"


# ---- Fair to what stands there


def noted(name, cells):
    """Return the verdict's kind, its first label, and all notes."""
    answer = Told(cells, name)
    verdict = judge.judge(answer)
    return verdict[:2], answer.notes


PROSE = "The error falls at every step.\nSo it works, I think (see the figure)."
AROUND = {
    "sentences": RIGHT + "\n" + PROSE,
    "a list": RIGHT + "\n- it falls\n- it works",
    "a word first": RIGHT + "\nDiscussion\n\n" + PROSE,
    "mathematics": RIGHT + "\n$$R \\approx P Q^T$$",
    "a sentence that begins with from": RIGHT + "\nfrom the figure one sees that it works.",
    "between two functions": RIGHT + "\n" + PROSE + "\n\ndef other():\n    return 1",
    "sentences above": PROSE + "\n" + RIGHT,
    "a list above": "# Exercise 1\n- my answer:\n\n" + RIGHT,
}


@pytest.mark.parametrize("cell", AROUND.values(), ids=AROUND)
def test_text_in_the_cell_of_an_answer_is_left_aside_with_a_note(cell):
    assert noted(MF, [cell])[0] == ("correct, with a note", "text in its cell")


@pytest.mark.parametrize(
    "lost",
    [
        RIGHT.replace("        E = R", "E = R"),
        RIGHT.replace("    for step", "for step").replace("    return", "return)"),
        RIGHT + "\nfor k in range(2):\nprint(k)",
    ],
)
def test_a_line_of_code_at_the_margin_is_no_text(lost):
    label = judged(MF, [lost]).label
    assert label.startswith(("IndentationError", "SyntaxError"))


OTHER_NAME = RIGHT.replace(MF, "my_mf")
NEAR = {
    "in a text cell": ([("Here:\n" + RIGHT, False)], "the text cell 1 of week5.ipynb has a"),
    "in a fence": (
        ["import numpy", ("```python\n" + RIGHT + "```", False)],
        "the text cell 2 of week5.ipynb has a function of that name",
    ),
    "by another name": ([OTHER_NAME], "but my_mf takes the same arguments"),
    "by another name, with other defaults": (
        ["def total(x):\n    return x", OTHER_NAME.replace("steps=500", "steps=9, verbose=True")],
        "but my_mf takes the same arguments",
    ),
    "a class": (["class MF:\n" + indented(RIGHT.replace(MF, "fit"))], "there is a class MF"),
    "a class with the method": (["class A:\n" + indented(RIGHT)], "there is a class A"),
    "nothing": (["x = 1"], "no cell defines a function matrix_factorization."),
}


@pytest.mark.parametrize("cells, said", NEAR.values(), ids=NEAR)
def test_what_is_not_found_is_named_where_it_may_be(cells, said):
    verdict = judged(MF, cells)
    assert verdict[:2] == ("no verdict", "not found") and said in verdict.text


def test_the_sheet_s_imports_stand_in_for_those_of_a_student_who_has_none():
    dots = RIGHT.replace("R - P @ Q", "R - np.dot(P, Q)")
    for cell in (dots, dots + RIGHT_MU):
        found, notes = noted(MF, [cell])
        assert found == ("correct, with a note", "imports of the sheet") and "np" in notes[found[1]]
    found, _ = noted(MU, ["pi = 3", RIGHT_MU.replace("P * (R", "np.array(P) * (R")])
    assert found == ("correct, with a note", "imports of the sheet")
    broken = ["np = None", dots]
    assert judged(MF, broken)[:2] == ("wrong", "AttributeError")


@pytest.fixture
def without_tqdm():
    with mock.patch.dict(sys.modules):
        student.lend_tqdm()
        yield


RANGE = "for step in range(steps):"
BARS = {
    "tqdm": ("from tqdm import tqdm", "for step in tqdm(range(steps), desc='MF'):"),
    "trange": ("from tqdm.auto import trange", "for step in trange(steps, leave=False):"),
    "notebook": ("from tqdm.notebook import tqdm", "for step in tqdm(range(steps)):"),
    "module": ("import tqdm", "for step in tqdm.tqdm(range(steps)):"),
    "by hand": (
        "from tqdm import tqdm\nbar = tqdm(total=100)",
        "bar.update(1)\n    bar.set_description('MF')\n    for step in range(steps):",
    ),
}


@pytest.mark.parametrize("line, loop", BARS.values(), ids=BARS)
def test_a_progress_bar_changes_no_number(without_tqdm, line, loop):
    assert judged(MF, [line, RIGHT.replace(RANGE, loop)])[:2] == ("correct", "full batch, P first")


def test_with_a_bar_an_answer_can_be_wrong_all_the_same(without_tqdm):
    assert sys.modules["tqdm"].tqdm is student.Nothing
    wrong = WRONG.replace(RANGE, BARS["tqdm"][1])
    assert judged(MF, [BARS["tqdm"][0], wrong]).kind == "wrong"


ENTRIES = """\
        E = np.zeros(R.shape)
        for i in range(len(R)):
            for j in range(len(R[0])):
                if R[i, j] != 0:
                    E[i, j] = R[i, j] - P[i, :] @ Q[:, j]
"""


@pytest.mark.parametrize("call", ["np.abs(R)", "abs(R)", "np.absolute(R)", "np.fabs(R)"])
def test_absolute_values_of_the_data_get_a_note(call):
    changed = RIGHT_MU.replace("    for", f"    R = {call}\n    for", 1)
    found, _ = noted(MU, ["import numpy as np", changed])
    assert found == ("correct, with a note", "absolute values of R")


@pytest.mark.parametrize("asked", ["R[i][j] != 0", "0 != R[i, j]", "R[i, j] != 0.0"])
def test_entries_left_out_where_they_are_0_get_a_note(asked):
    entries = ENTRIES.replace("R[i, j] != 0", asked)
    cell = RIGHT.replace("        E = R - P @ Q\n", entries)
    found, _ = noted(MF, ["import numpy as np", cell])
    assert found == ("correct, with a note", "entries with R = 0 left out")


@pytest.mark.parametrize(
    "pair, what",
    [
        ("P + 0j, Q.T + 0j", "complex"),
        ("(P + 0j).tolist(), Q.T.tolist()", "complex"),
        ("P.astype(str), Q.T.astype(str)", "texts"),
        ("P.astype(str).tolist(), Q.T", "texts"),
        ("P.astype(object) * (1 + 0j), Q.T", "complex"),
    ],
)
def test_complex_numbers_and_texts_are_no_factors(pair, what):
    verdict = judged(MF, [RIGHT.replace("return P, Q.T", f"return {pair}")])
    assert verdict[:2] == ("wrong", "no pair of factors") and what in verdict.text


@pytest.mark.parametrize(
    "pair", ["P.astype(object), Q.T", "P.astype('f4').tolist(), Q.T", "P, Q.T"]
)
def test_numbers_of_other_kinds_are(pair):
    assert judged(MF, [RIGHT.replace("return P, Q.T", f"return {pair}")]).kind != "wrong"


CALLS = HEAD + "    return mf.gradient_descent(R, P, Q, steps, alpha, beta)"


@pytest.mark.parametrize(
    "cells",
    [
        ["import mf_solutions as mf", CALLS],
        ["from mf_solutions import sgd", RIGHT.replace("E =", "sgd\n        E =")],
        [RIGHT.replace("    Q = Q.T", "    import mf_solutions\n    Q = Q.T")],
    ],
)
def test_who_uses_the_project_s_module_gets_a_note(cells):
    found, notes = noted(MF, cells)
    assert found[0] == "correct, with a note" and "uses mf_solutions" in notes
    assert judged(MF, ["import mf_solutions as mf", RIGHT]).kind == "correct"


# ---- Cells that no machine should stumble over

DEEP_SUM = "x = " + "+".join(["1"] * 20_000)
NESTED = "x = " + "(" * 5000 + ")" * 5000
ELIFS = "if x == 0:\n    y = 0\n" + "".join(f"elif x == {i}:\n    y = {i}\n" for i in range(1500))


@pytest.mark.parametrize("cell", [DEEP_SUM, NESTED, ELIFS, "x = [" * 500], ids=range(4))
def test_a_cell_that_the_answer_does_not_need_is_left_aside(cell):
    assert judged(MF, [cell, RIGHT])[:2] == ("correct", "full batch, P first")
    assert judged(MF, [RIGHT, cell])[:2] == ("correct", "full batch, P first")


@pytest.mark.parametrize(
    "cell",
    [
        "\n" * 50_000,
        " \n" * 50_000 + "x = (",
        "x = (" + "\n" * 50_000,
        "%magic" + " " * 50_000 + "\nfor",
        "def f(\n" * 5000,
        "for x in y:\n" + "#\n" * 50_000,
        "for " + ":" * 25_000 + "\n" * 25_000,
        "Some text.\n" * 10_000,
        "!ls\n" * 10_000,
        "def f(): pass\n" * 4000 + "(",
    ],
    ids=range(10),
)
def test_reading_takes_a_time_like_the_length(cell):
    began = time.process_time()
    student.Reading([student.Cell("week5.py", 1, cell + "\n" + RIGHT)], MF)
    assert time.process_time() - began < 10


def test_magics_leave_the_lines_where_they_are():
    cell = "\n\n%matplotlib inline\n!pip install \\\n  x\nfiles = !ls\nnp.dot?\nlast = 1\n"
    source = student.readable(cell)
    lines = source.split("\n")
    assert lines[7] == "last = 1" and "pip install" in source
    assert student.readable("\n%%time\nx = 1 +\n").split("\n")[2] == "x = 1 +"


# ---- From files to cells


def read(tmp_path, monkeypatch, **files):
    for name, content in files.items():
        path = tmp_path / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    server = student.Server()
    return server, server.reply("read", {})


def sheet(**cell):
    return {"cells": [{"cell_type": "markdown", "source": "x"}, {"cell_type": "code", **cell}]}


@pytest.mark.parametrize(
    "content, sources",
    [
        (json.dumps(sheet(source=["a\n", "b"])), ["a\nb"]),
        (json.dumps(sheet(source="a\nb")), ["a\nb"]),
        ("\ufeff" + json.dumps(sheet(source="é")), ["é"]),
        (json.dumps({"worksheets": [sheet(input=["a"]), sheet(input="b")]}), ["a", "b"]),
        (json.dumps(sheet(source="\ud800")), ["?"]),
    ],
)
def test_cells_of_every_kind_of_notebook_are_read(tmp_path, monkeypatch, content, sources):
    _, reply = read(tmp_path, monkeypatch, week5__ipynb=content)
    assert [source for _, _, source in reply["cells"]] == sources
    assert reply["cells"][0][:2] == ("week5.ipynb", 2)


def test_a_module_is_read_as_the_cells_that_it_marks(tmp_path, monkeypatch):
    text = "import a\n# %%\nb\n#%% [markdown]\n# c\n# In[3]:\nd\n"
    _, reply = read(tmp_path, monkeypatch, week5__py=text)
    sources = [source.lstrip("\n") for _, _, source in reply["cells"]]
    assert sources == ["import a\n", "# %%\nb\n", "#%% [markdown]\n# c\n", "# In[3]:\nd\n"]


BROKEN = [b"", b" \n", b"{", b"[]", b"1", b'{"cells": 1}', b'{"cells": [{}]}', b"\xff\xfe\xfd"]


@pytest.mark.parametrize("content", [*BROKEN, b"[" * 10**6, b"9" * 10**6], ids=range(10))
def test_what_is_no_notebook_is_said_of_both_exercises(tmp_path, monkeypatch, content):
    server, reply = read(tmp_path, monkeypatch, week5__ipynb=content)
    assert reply["verdict"][:2] == ("no verdict", "not readable")
    assert server.reply("define", {"name": MU})["verdict"] == reply["verdict"]


def test_a_module_in_utf_16_is_no_answer(tmp_path, monkeypatch):
    _, reply = read(tmp_path, monkeypatch, week5__py=RIGHT.encode("utf-16"))
    assert reply["verdict"][:2] == ("no verdict", "not a notebook")


@pytest.mark.parametrize(
    "line", ["%run helpers.py", "%run helpers", "exec(open('helpers.py').read())"]
)
@pytest.mark.parametrize("helpers", [RIGHT, "def descend():\n    pass\n"])
def test_a_module_that_the_notebook_runs_is_read(tmp_path, monkeypatch, line, helpers):
    notebook = json.dumps(sheet(source=line + "\n"))
    files = {"week5__ipynb": notebook, "helpers__py": helpers, "other__py": "x = 1"}
    _, reply = read(tmp_path, monkeypatch, **files)
    assert [file for file, *_ in reply["cells"]] == ["helpers.py", "week5.ipynb"]


def test_a_module_in_a_folder_of_its_own_is_found(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "descent_of_anna.py").write_text(RIGHT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    cells = "import sys\nsys.path.append('lib')\nfrom descent_of_anna import *\n"
    server, _ = read(tmp_path, monkeypatch, week5__ipynb=json.dumps(sheet(source=cells)))
    assert "source" in server.reply("define", {"name": MF})


@pytest.mark.parametrize(
    "cell, what, shown",
    [
        ("import os\n\n" + RIGHT, "source", [(0, 3, 9)]),
        ("@staticmethod\n" + RIGHT, "source", [(0, 1, 8)]),
        ("\n" + OPEN, "line", (0, 5)),
        (RIGHT.replace("steps=500", "steps=1 / 0"), "line", (0, 1)),
    ],
)
def test_the_page_can_show_where_it_stands(cell, what, shown):
    server = serving([("text", False), cell])
    assert server.reply("define", {"name": MF})[what] == shown


# ---- What is blank

IDLE = [
    "pass",
    "...",
    "print('here')",
    "'a text'",
    "E = None",
    "raise NotImplementedError",
    "Pu = ...",
]
ATTEMPTS = ["E = R - P @ Q", "P = P", "steps += 0", "sorted(P)", "E = 0", "return Q, P", "del R"]
SHEET = """\
def mf_multiplicative_update(R, P, Q, steps=5000):
    for step in range(steps):
        # To do here

        e_P = np.sqrt(np.sum((Pu-P)**2, axis=(0,1)))/P.size
        e_Q = np.sqrt(np.sum((Qu-Q)**2, axis=(0,1)))/Q.size
        if e_P<0.001 and e_Q<0.001:
            print("step is:",step)
            break
        P = Pu
        Q = Qu
    return P, Q
"""


@pytest.mark.parametrize("name", EXERCISES)
def test_the_hand_out_s_own_cell_is_blank_whatever_idle_lines_are_added(name):
    blank = EXERCISES[name].blank
    for line in ["", *IDLE]:
        cell = blank.replace("    return", f"    {line}\n    return")
        assert judged(name, [cell]).kind == "not attempted", line
    for line in ATTEMPTS:
        cell = blank.replace("    return", f"    {line}\n    return")
        assert judged(name, ["import numpy as np", cell]).kind == "wrong", line


@pytest.mark.parametrize("cell", [SHEET, SHEET.replace("\n\n", "\n        Pu, Qu = (P, Q)\n")])
def test_so_is_the_sheet_s(cell):
    assert judged(MU, [cell]).kind == "not attempted"


def test_the_lines_of_a_py_are_counted_as_in_the_file():
    text = "# %%\nimport numpy as np\n# %%\n" + UNINDENTED
    cells = student.module_cells("week5.py", text.encode())
    alone = judged(MF, [UNINDENTED]).label
    together = judged(MF, [cell.source for cell in cells]).label
    assert [alone, together] == ["IndentationError, line 5", "IndentationError, line 8"]
