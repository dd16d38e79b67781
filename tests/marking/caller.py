"""Call an answer as the handout does: in the student's kernel, or in a process of its own."""

import ast
import contextlib
import dis
import inspect
import io
import re
import textwrap
import traceback

import exercises
import judge
import numpy as np

NUMBERS = {"alpha": 0.002, "beta": 0.02}  # the handout's defaults
ABSOLUTE = re.compile(r"(\w+\.)?(abs|absolute|fabs)\(R\)")
NONZERO = re.compile(r"R\b[^=!]* != 0(\.0)?|0(\.0)? != R\b[^=!]*")  # as in tutorials on ratings
VALUES = (int, float, list, np.number, np.ndarray)  # that a name of the notebook may have
NOT_ATTEMPTED = judge.Verdict("not attempted", "", "there is nothing to check yet.")


def check(f, exercise_name):
    """Return the verdict on a function of this kernel, as an answer to the exercise."""
    exercise = exercises.EXERCISES[exercise_name]
    if f is ... or exercises.is_blank(tree_of(f)):
        return NOT_ATTEMPTED
    with contextlib.redirect_stdout(io.StringIO()):  # its prints would bury the verdict
        return judge.judge(Answer(f, exercise.gradient))


def tree_of(f):
    """Return a function as a tree, or None where no source can be found."""
    with contextlib.suppress(OSError, TypeError, ValueError, SyntaxError, IndexError):
        source = textwrap.dedent(inspect.getsource(f))
        return ast.parse(source).body[0]
    return None


class Answer:
    """A function, called as the handout calls it; ``notes`` are what is remarkable about that."""

    def __init__(self, f, gradient, scope=None, files=()):
        self.f, self.gradient = f, gradient
        code = getattr(f, "__code__", None)
        self.files = files or [getattr(code, "co_filename", "")]
        self.scope = scope
        if scope is None:
            self.scope = getattr(f, "__globals__", {})
        self.notes = remarks(tree_of(f))
        names = used(code, self.scope)
        self.shared = [x for x in "KMNPQR" if isinstance(self.scope.get(x), VALUES)]
        borrowed = [x for x in self.shared if x in names]
        if borrowed:
            text = f"It takes {' and '.join(borrowed)} from the notebook."
            self.notes["names of the notebook"] = text

    def __call__(self, R, P, Q, steps, *numbers):
        """Return the new P and Q, or raise Settled."""
        if not callable(self.f):
            raise judge.wrong("not a function", got=type(self.f).__name__)
        originals = {"R": R, "P": P, "Q": Q}
        values = {name: X.copy() for name, X in originals.items()}
        values |= {"K": P.shape[1], "steps": steps}
        values |= zip(NUMBERS, numbers)
        given = self.arguments(values)
        values |= {"N": len(P), "M": len(Q)}
        before = {}
        for name in self.shared:
            before[name] = self.scope[name]
            self.scope[name] = values[name]
        try:
            result = self.f(*given.args, **given.kwargs)
        except (Exception, SystemExit) as error:
            raise stopped(error, self.files) from error
        finally:
            self.scope.update(before)
        changed = []
        for name, X in originals.items():
            if not np.array_equal(X, values[name]):
                changed.append(name)
        if changed:
            text = f"It changes {' and '.join(changed)}, so a second run starts elsewhere."
            self.notes["changes its arguments"] = text
        return self.factors(result, P, Q)

    def arguments(self, values):
        """Give each parameter the value of its name, or else the next in the handout's order."""
        signature = inspect.signature(lambda *all: None)
        with contextlib.suppress(TypeError, ValueError):  # where none can be found
            signature = inspect.signature(self.f)
        parameters = signature.parameters
        self.note_defaults(parameters)
        keyed = any(x.kind is x.VAR_KEYWORD for x in parameters.values())
        left = [x for x in values if x not in parameters and (x != "K" or self.gradient)]
        given, own = {}, False
        for name, parameter in parameters.items():
            if name in values:
                given[name] = values[name]
            elif parameter.kind is parameter.VAR_POSITIONAL:
                takes = [x for x in left if x in "RPQK" or not keyed]
                given[name] = [values[x] for x in takes]
                left = left[len(takes) :]
            elif parameter.kind is parameter.VAR_KEYWORD:
                given[name] = {x: values[x] for x in left}
                left = []
            elif left and (left[0] != "K" or parameter.default is parameter.empty):
                own |= left[0] not in "RPQK"
                given[name] = values[left.pop(0)]
        if own or left:
            self.notes["parameters of its own"] = f"Its parameters are {', '.join(parameters)}."
        return inspect.BoundArguments(signature, given)

    def note_defaults(self, parameters):
        for name in NUMBERS.keys() & parameters.keys():
            default = parameters[name].default
            usual = (NUMBERS[name], inspect.Parameter.empty)
            if repr(default) not in map(repr, usual):
                text = f"Its {name} is {default!r:.60} by default."
                self.notes[f"another default of {name}"] = text

    def factors(self, result, P, Q):
        """Return what came back as two matrices of numbers, or raise Settled."""
        several = isinstance(result, (tuple, list)) or getattr(result, "ndim", 0) == 3
        pair = result[:2] if several else [result]
        kinds = [type(X).__name__ for X in pair]
        try:
            X, Y = map(matrix, pair)
        except NotNumbers as error:
            raise judge.wrong("no pair of factors", got=str(error)) from None
        except Exception:
            raise judge.wrong("no pair of factors", got=" and ".join(kinds)) from None
        given = f"{P.shape} and {Q.shape}"
        got = f"{X.shape} and {Y.shape}"
        if given != got:
            raise judge.wrong("wrong shapes", given=given, got=got)
        if len(result) > 2:
            self.notes["more than two values"] = f"It returns {len(result)} values, not only P, Q."
        if "list" in kinds:
            self.notes["lists returned"] = "It returns lists, not arrays."
        return X, Y


class NotNumbers(Exception):
    """What came back is no matrix of real numbers."""


def matrix(X):
    """Return an array of floats, if these are real numbers; NumPy alone would convert texts."""
    if hasattr(X, "detach"):  # of PyTorch
        X = X.detach()
    array = np.asarray(X)
    if array.dtype.kind == "O":
        array = np.array(array.tolist())  # of the type that these objects have in common
    if array.dtype.kind == "c":
        raise NotNumbers("complex numbers")
    if array.dtype.kind in "SU":
        raise NotNumbers("texts")
    return np.array(array, float)


def remarks(function):
    """Return notes on what is done to the data, which nobody asked for."""
    notes = {}
    if function is None:
        return notes
    for node in ast.walk(function):
        if isinstance(node, (ast.Call, ast.Compare)):
            text = ast.unparse(node)
            if ABSOLUTE.fullmatch(text):
                notes["absolute values of R"] = f"It takes {text}, which are other data."
            elif NONZERO.fullmatch(text):
                notes["entries with R = 0 left out"] = "It leaves out the entries where R is 0."
    return notes


def stopped(error, files):
    """Return what ends a check when an answer, whose code is in these files, raises this."""
    label = type(error).__name__
    message = textwrap.shorten(str(error)[:500], 160)
    if isinstance(error, ImportError):
        needed = error.name or message
        text = f"it needs {needed}, which is not installed here."
        if not isinstance(error, ModuleNotFoundError):
            text = f"it cannot import what it needs here: {message}."
        return judge.Settled(judge.Verdict("no verdict", f"needs {needed}", text))
    text = f"it stops with {label}: {message}"
    for frame in traceback.extract_tb(error.__traceback__)[::-1]:
        if frame.filename in files:
            text += f" (line {frame.lineno}: {frame.line})"
            break
    return judge.Settled(judge.Verdict(judge.WRONG, label, text))


def used(code, scope):
    """Return the global names that this code uses, by itself or in functions of this scope."""
    names, todo = set(), [code]
    for code in todo:  # which grows
        if not inspect.iscode(code):
            continue
        for step in dis.get_instructions(code):
            name = step.argval
            todo.append(name)  # a function inside
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name not in names:
                names.add(name)
                todo.append(getattr(scope.get(name), "__code__", None))
    return names
