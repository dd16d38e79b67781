"""The exercises, one entry each: what the hand-out leaves blank, and what marking looks for.

A third exercise is a third entry. Standard library only: the hand-out carries this file.
"""

import ast
import functools
from typing import NamedTuple


class Exercise(NamedTuple):
    name: str  # of the function that a student completes
    cell: str  # in the notebook: "exercise-1" stands for the cell "exercise-1-answer"
    gradient: bool  # gradient descent, with alpha and beta, or an update without such numbers
    blank: str  # the answer's cell as the hand-out has it, with something that runs
    sheet: str = ""  # lines that older copies of the sheet have there instead


BLANK_1 = """\
def matrix_factorization(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    Q = Q.T
    for step in range(steps):
        # TODO: calculate E, and update P and Q
        ...
    return P, Q.T"""

BLANK_2 = """\
def mf_multiplicative_update(R, P, Q, steps=5000):
    for step in range(steps):
        # TODO: calculate Pu and Qu
        Pu, Qu = P, Q

        e_P = np.linalg.norm(Pu - P) / P.size
        e_Q = np.linalg.norm(Qu - Q) / Q.size
        if e_P < 0.001 and e_Q < 0.001:
            print("step is:", step)
            break
        P = Pu
        Q = Qu
    return P, Q"""

SHEET_2 = """\
e_P = np.sqrt(np.sum((Pu - P) ** 2, axis=(0, 1))) / P.size
e_Q = np.sqrt(np.sum((Qu - Q) ** 2, axis=(0, 1))) / Q.size"""

EXERCISES = {
    exercise.name: exercise
    for exercise in (
        Exercise("matrix_factorization", "exercise-1", True, BLANK_1),
        Exercise("mf_multiplicative_update", "exercise-2", False, BLANK_2, SHEET_2),
    )
}


# ---- What is blank


def is_blank(function):
    """Whether a function, as a tree, has only lines of the hand-out, and such as do nothing.

    Trees are compared, not texts, as versions of Python write the same tree differently.
    """
    if not isinstance(function, ast.FunctionDef):
        return False
    inner = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and node != function]
    return all(is_idle(node) or first_line(node) in handed_out() for node in inner)


def is_idle(node):
    """Whether a statement does nothing: pass, a text, ``...``, a print, ``E = None``."""
    if isinstance(node, ast.Raise):
        return "NotImplementedError" in ast.dump(node)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return getattr(node.value.func, "id", "") == "print"
    if isinstance(node, ast.Assign):
        named = all(isinstance(target, ast.Name) for target in node.targets)
        return named and getattr(node.value, "value", 0) in (None, ...)
    if isinstance(node, (ast.Expr, ast.Return)):
        return node.value is None or isinstance(node.value, ast.Constant)
    return isinstance(node, (ast.Pass, ast.Break, ast.Continue))


@functools.cache
def handed_out():
    """Return the first line of every statement in the hand-out's cells."""
    sources = [x for exercise in EXERCISES.values() for x in (exercise.blank, exercise.sheet)]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    return {first_line(node) for node in nodes if isinstance(node, ast.stmt)}


def first_line(node):
    """Return a statement as text, of a loop or a condition only what it runs over or asks."""
    if isinstance(node, ast.For):
        node = node.iter
    elif isinstance(node, ast.If):
        node = node.test
    return ast.dump(node)
