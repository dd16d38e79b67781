"""Call an answer as the handout does: in the student's kernel, or in a process of its own."""

import ast
import contextlib
import dis
import inspect
import io
import re
import textwrap
import traceback

import checks
import numpy as np

NUMBERS = {"alpha": 0.002, "beta": 0.02}  # the handout's defaults


def check(f, gradient):
    """Return the verdict on a function of this kernel."""
    with contextlib.suppress(OSError, TypeError, ValueError):  # where no source can be found
        if f is ... or is_blank(inspect.getsource(f)):
            return checks.Verdict("not attempted", "", "there is nothing to check yet.")
    with contextlib.redirect_stdout(io.StringIO()):  # its prints would bury the verdict
        return checks.judge(Answer(f, gradient))


class Answer:
    """A function, called as the handout calls it; ``notes`` are what is remarkable about that."""

    def __init__(self, f, gradient, scope=None, files=()):
        self.f, self.gradient, self.notes = f, gradient, {}
        self.files = files or [getattr(getattr(f, "__code__", None), "co_filename", "")]
        self.scope = getattr(f, "__globals__", {}) if scope is None else scope
        self.shared = [x for x in "KMNPQR" if not callable(self.scope.get(x, callable))]

    def __call__(self, R, P, Q, steps, *numbers):
        """Return the new P and Q, or raise Settled."""
        if not callable(self.f):
            raise checks.wrong("not a function", got=type(self.f).__name__)
        values = {"R": R.copy(), "P": P.copy(), "Q": Q.copy(), "K": P.shape[1], "steps": steps}
        values |= zip(NUMBERS, numbers)
        given = self.arguments(values)
        values |= {"N": len(P), "M": len(Q)}
        before = {x: self.scope[x] for x in self.shared}
        self.scope.update({x: values[x] for x in self.shared})
        try:
            result = self.f(*given.args, **given.kwargs)
        except (Exception, SystemExit) as error:
            raise stopped(error, self.files) from error
        finally:
            self.scope.update(before)
        changed = [x for x, X in zip("RPQ", (R, P, Q)) if not np.array_equal(X, values[x])]
        borrowed = [x for x in self.shared if x in used(self.f, self.scope)]
        if changed:
            text = f"It changes {' and '.join(changed)}, so a second run starts elsewhere."
            self.notes["changes its arguments"] = text
        if borrowed:
            text = f"It takes {' and '.join(borrowed)} from the notebook."
            self.notes["names of the notebook"] = text
        return self.factors(result, P, Q)

    def arguments(self, values):
        """Give each parameter the value of its name, or else the next in the handout's order."""
        signature = inspect.signature(lambda *all: None)
        with contextlib.suppress(TypeError, ValueError):  # where none can be found
            signature = inspect.signature(self.f)
        parameters, given, own = signature.parameters, {}, False
        left = [x for x in values if x not in parameters and (x != "K" or self.gradient)]
        for name, parameter in parameters.items():
            if name in values:
                given[name] = values[name]
            elif parameter.kind is parameter.VAR_POSITIONAL:
                takes = [x for x in left if x in "RPQK" or "kwargs" not in parameters]
                given[name], left = [values[x] for x in takes], left[len(takes) :]
            elif parameter.kind is parameter.VAR_KEYWORD:
                given[name], left = {x: values[x] for x in left}, []
            elif left:
                own |= left[0] not in "RPQK"
                given[name] = values[left.pop(0)]
            default = parameter.default
            if default not in (NUMBERS.get(name, default), parameter.empty):
                text = f"Its {name} is {default!r:.60} by default."
                self.notes[f"another default of {name}"] = text
        if own or left:
            self.notes["parameters of its own"] = f"Its parameters are {', '.join(parameters)}."
        return inspect.BoundArguments(signature, given)

    def factors(self, result, P, Q):
        several = isinstance(result, (tuple, list)) or getattr(result, "ndim", 0) == 3
        pair = result[:2] if several else [result]
        kinds = " and ".join(type(X).__name__ for X in pair)
        try:
            X, Y = (np.array(X.detach() if hasattr(X, "detach") else X, float) for X in pair)
        except Exception:
            raise checks.wrong("no pair of factors", got=kinds) from None
        shapes = [f"{A.shape} and {B.shape}" for A, B in ((P, Q), (X, Y))]
        if shapes[0] != shapes[1]:
            raise checks.wrong("wrong shapes", given=shapes[0], got=shapes[1])
        if len(result) > 2:
            self.notes["more than two values"] = f"It returns {len(result)} values, not only P, Q."
        if "list" in kinds:
            self.notes["lists returned"] = "It returns lists, not arrays."
        return X, Y


def stopped(error, files):
    """Return what ends a check when an answer, whose code is in these files, raises this."""
    if isinstance(error, ImportError):
        text = f"it needs {error.name}, which is not installed here."
        return checks.Settled(checks.Verdict("no verdict", f"needs {error.name}", text))
    name = type(error).__name__
    text = f"it stops with {name}: {textwrap.shorten(str(error), 160)}"
    frames = [x for x in traceback.extract_tb(error.__traceback__) if x.filename in files]
    text += f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return checks.Settled(checks.Verdict(checks.WRONG, name, text))


def used(f, scope):
    """Return the global names that a function uses, by itself or in functions of its notebook."""
    names, todo = set(), [getattr(f, "__code__", None)]
    for code in todo:  # which grows
        for x in dis.get_instructions(code) if code else ():
            todo += [x.argval] if inspect.iscode(x.argval) else []
            if x.opname == "LOAD_GLOBAL" and x.argval not in names:
                names.add(x.argval)
                todo.append(getattr(scope.get(x.argval), "__code__", None))
    return names


# The handout's own lines, and such as do nothing, as ast.unparse writes them
LINES = r"""Pu, Qu = \(P, Q\)|Q = Q\.T|P = Pu|Q = Qu|e_[PQ] = .*|\w+ = (None|\.\.\.)|print\(.*\)
|pass|break|continue|return( None| \(P, Q(\.T)?\))?|raise NotImplementedError.*|'.*'|".*"|\.\.\.
|(for \w+ in range\(steps\)|if e_P < 0\.001 and e_Q < 0\.001):.*"""


def is_blank(source):
    """Whether this function has only lines of the handout, ``pass``, texts, prints and the like."""
    with contextlib.suppress(SyntaxError, ValueError):
        (function,) = ast.parse(textwrap.dedent(source)).body
        inner = [x for x in ast.walk(function) if isinstance(x, ast.stmt)][1:]
        lines = LINES.replace("\n", "")
        known = all(re.fullmatch(lines, ast.unparse(x), re.DOTALL) for x in inner)
        return known and isinstance(function, ast.FunctionDef)
