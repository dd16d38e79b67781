"""The student's process: what is found in the cells, what comes along, and what is said of it."""

import json
import sys

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
    for place, cell in enumerate(cells, 1):
        source, is_code = (cell, True) if isinstance(cell, str) else cell
        server.cells.append(student.Cell("week5.ipynb", place, source, is_code))
    server.code = [number for number, cell in enumerate(server.cells) if cell.is_code]
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
    server = serving(["half = 1 / 2", RIGHT])
    first = server.reply("define", {"name": MF})
    assert first.keys() == {"notes", "source", "cpu"} and not first["notes"]
    assert first["source"] == [(1, 1, 7)]
    assert server.reply("define", {"name": MU}).keys() == {"verdict", "cpu"}


def test_a_wrong_answer_is_wrong():
    assert judged(MF, [RIGHT, WRONG])[0] == "wrong"
