"""Judge an answer by the numbers it returns. MARKING.md says what the verdicts mean.

1. Presumed right: on two small problems, with numbers like the handout's, it follows a known order.
2. Else it is measured: which way very short steps go, and whether many reach the optimum.
3. Only what fails both is looked up among the mistakes. A hint says what was measured.
"""

import ast
import collections
import contextlib
import functools
import inspect
import io
import re
import textwrap
import traceback
from typing import NamedTuple

import numpy as np

CORRECT, NOTED, WRONG = "correct", "correct, with a note", "wrong"


class Verdict(NamedTuple):
    kind: str  # one of the three above, "not attempted" or "no verdict"
    label: str  # what was recognised, in a few words
    text: str  # the same in a sentence or two

    def __str__(self):
        return textwrap.fill(f"{self.kind}: {self.text}", 90)

    __repr__ = __str__


class Settled(Exception):
    """Ends a check, wherever its verdict is reached: that is the only argument."""


def check_matrix_factorization(f):
    """Return the verdict on an answer to Exercise 1, ``f(R, P, Q, K, steps, alpha, beta)``."""
    return _check(f, gradient=True)


def check_multiplicative_update(f):
    """Return the verdict on an answer to Exercise 2, ``f(R, P, Q, steps)``."""
    return _check(f, gradient=False)


@np.errstate(all="ignore")
def _check(f, gradient):
    with contextlib.suppress(OSError, TypeError, ValueError):  # where no source can be found
        if f is ... or (f.blank if hasattr(f, "blank") else is_blank(inspect.getsource(f))):
            return Verdict("not attempted", "", "there is nothing to check yet.")
    try:
        return _judged(Answer(f, gradient))
    except Settled as settled:
        return settled.args[0]


HINTS = {  # for each mistake: what was measured, and where to look
    "not a function": "it needs your function itself, without brackets, but got {got}.",
    "the start comes back": "P and Q come back as they went in. Does what is calculated get there?",
    "one factor never changes": "{factor} comes back as it went in.",
    "no pair of factors": "it must end with a return of two matrices, P and Q, but returns {got}.",
    "wrong shapes": "P and Q go in with shapes {given} and come back with {got}.",
    "not finite": "NaN or infinity comes back after {what}.",
    "K hard-coded": "with K = 2 it is right, with K = 3 it is not. Which loop should know K?",
    "steps ignored": "{what}. How often does the loop run, and when does it return?",
    "stops early": "{what}. When should it stop?",
    "stale factors": "where it stops, it returns older factors than with fewer steps.",
    "entries with R <= 0 skipped": "only the positive entries of R have an effect, half a face.",
    "sign of the gradient": "a factor moves uphill, and the error grows. Look at the signs.",
    "sign of beta": "the regularization pushes a factor away from zero. It is there to pull back.",
    "beta ignored": "the size of beta makes no difference to one of the factors, or to both.",
    "beta counted again": "beta counts {P:.2g} times for P and {Q:.2g} for Q, the data once.",
    "2 missing": "the data pull half as much as they should. What is the slope of a square?",
    "fraction upside down": "where P Q^T is too small it shrinks. Which belongs on top?",
    "additive step": "something is added to the factor. What does the name of the method say?",
    "another method": "it is another method; it converges, but it is not the update asked for.",
    "not the update": "{what}. Take one entry of P, work out its step by hand, and compare.",
}


def _wrong(label, **details):
    return Settled(Verdict(WRONG, label, HINTS[label].format(**details)))


# The handout's own lines, and such as do nothing, as ast.unparse writes them
_LINES = r"""Pu, Qu = \(P, Q\)|Q = Q\.T|P = Pu|Q = Qu|e_[PQ] = .*|\w+ = (None|\.\.\.)|print\(.*\)
|pass|break|continue|return( None| \(P, Q(\.T)?\))?|raise NotImplementedError.*|'.*'|".*"|\.\.\.
|(for \w+ in range\(steps\)|if e_P < 0\.001 and e_Q < 0\.001):.*"""


def is_blank(source):
    """Whether this function has only lines of the handout, ``pass``, texts, prints and the like."""
    with contextlib.suppress(SyntaxError, ValueError):
        (function,) = ast.parse(textwrap.dedent(source)).body
        inner = [x for x in ast.walk(function) if isinstance(x, ast.stmt)][1:]
        lines = _LINES.replace("\n", "")
        known = all(re.fullmatch(lines, ast.unparse(x), re.DOTALL) for x in inner)
        return known and isinstance(function, ast.FunctionDef)


# ---- Calling an answer


def place_of(error, *codes):
    """Return the line of these files where an exception came from, as " (line 3: ...)"."""
    files = {getattr(code, "co_filename", code) for code in codes}
    frames = [x for x in traceback.extract_tb(error.__traceback__) if x.filename in files]
    return f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


def _names(code):
    inner = [_names(x) for x in code.co_consts if inspect.iscode(x)]
    return {*code.co_names}.union(*inner)


class Answer:
    """A function, called as the handout calls it; ``shared`` are names of the notebook's cells."""

    def __init__(self, f, gradient):
        if not callable(f):
            raise _wrong("not a function", got=type(f).__name__)
        self.f, self.gradient, self.notes, self.changed = f, gradient, {}, set()
        self.code, self.scope = getattr(f, "__code__", None), getattr(f, "__globals__", {})
        self.shared = {x for x in "RPQKNM" if not callable(self.scope.get(x, callable))}
        self.borrowed = self.shared & (_names(self.code) if self.code else self.shared)
        self.quiet = contextlib.nullcontext()
        if not hasattr(f, "blank"):  # it runs here, and its prints would bury the verdict
            self.quiet = contextlib.redirect_stdout(io.StringIO())
        try:
            self.signature = inspect.signature(f)
        except (TypeError, ValueError):
            self.signature = inspect.signature(lambda *all: None)

    def __call__(self, R, P, Q, steps, *numbers):
        values = {"R": R.copy(), "P": P.copy(), "Q": Q.copy(), "K": P.shape[1], "steps": steps}
        values |= zip(("alpha", "beta"), numbers)
        arguments = self.arguments(values)
        before = {x: self.scope[x] for x in self.shared}
        self.scope.update((x, {**values, "N": len(P), "M": len(Q)}[x]) for x in self.shared)
        try:
            with self.quiet:
                result = self.f(*arguments.args, **arguments.kwargs)
        except ImportError as error:
            text = f"it needs {error.name}, which is not installed here."
            raise Settled(Verdict("no verdict", f"needs {error.name}", text)) from error
        except (Exception, SystemExit) as error:
            if isinstance(error, Settled):
                raise
            name, message = type(error).__name__, textwrap.shorten(str(error), 160)
            place = getattr(error, "place", "") or place_of(error, self.code)
            text = f"it stops with {name}: {message}{place}"
            raise Settled(Verdict(WRONG, name, text)) from error
        finally:
            self.scope.update(before)
        self.changed |= {x for x, X in zip("RPQ", (R, P, Q)) if not np.array_equal(X, values[x])}
        return self.factors(result, P, Q)

    def arguments(self, values):
        """Give each parameter the value of its name, or else the next in the handout's order."""
        parameters, given, odd = self.signature.parameters, {}, []
        order = [x for x in values if x != "K" or self.gradient]
        left = [x for x in order if x not in parameters]
        for place, (name, parameter) in enumerate(parameters.items()):
            if name in values:
                given[name] = values[name]
            elif parameter.kind is parameter.VAR_POSITIONAL:
                takes = "RPQK" if "kwargs" in parameters else order
                given[name] = [values[x] for x in left if x in takes]
                left = [x for x in left if x not in takes]
            elif parameter.kind is parameter.VAR_KEYWORD:
                given[name], left = {x: values[x] for x in left}, []
            elif left and (parameter.default is parameter.empty or order.index(left[0]) == place):
                odd += [f"{left[0]} is called {name}"] if left[0] not in "RPQK" else []
                given[name] = values[left.pop(0)]
        if odd := odd + [f"{x} is missing" for x in left]:
            self.notes["parameters of its own"] = f"Of its parameters, {', '.join(odd)}."
        return inspect.BoundArguments(self.signature, given)

    def factors(self, result, P, Q):
        several = isinstance(result, (tuple, list)) or getattr(result, "ndim", 0) == 3
        if not several or len(result) < 2:
            raise _wrong("no pair of factors", got=type(result).__name__)
        try:
            factors = [np.array(X, float) for X in result[:2]]
        except Exception:
            got = " and ".join(type(X).__name__ for X in result[:2])
            raise _wrong("no pair of factors", got=got) from None
        shapes = f"{P.shape} and {Q.shape}", " and ".join(str(X.shape) for X in factors)
        if shapes[0] != shapes[1]:
            raise _wrong("wrong shapes", given=shapes[0], got=shapes[1])
        if len(result) > 2:
            self.notes["more than two values"] = f"It returns {len(result)} values, not only P, Q."
        if list in map(type, result[:2]):
            self.notes["lists returned"] = "It returns lists, not arrays."
        return factors


# ---- The right orders

ORDERS = [
    *("P first", "Q first", "both from the old values"),
    *("P first, error recomputed", "Q first, error recomputed"),
    *("feature by feature", "feature by feature, both from the old values"),
]
SEES = ("full batch", "online", "a row at a time", "a column at a time")
GRADIENT = [f"{sees}, {order}" for sees in SEES for order in ORDERS]
REPEATED = {f"each factor {times} times": times for times in (2, 3, 5, 10)}
UPDATE = ["P first", "Q first", "both from the old values", "feature by feature", *REPEATED]
# The numbers are alpha and beta; the multiplicative update has none
Problem = collections.namedtuple("Problem", "N M K steps numbers")


@functools.cache
def _start(problem):
    """Return R, P, Q. In a long run the error can vanish, in a short one they are as the faces'."""
    N, M, K, steps, numbers = problem
    rng = np.random.RandomState(N + M)
    P, Q, A, B = (rng.rand(n, K) for n in (N, M, N, M))
    if not numbers:  # in units so small that the handout's rule for stopping waits
        unit = 1 if steps < 12 else 100 if steps <= 99 else 1e4
        return unit**2 * A @ B.T, unit * P, unit * Q
    if steps > 99:
        return 3 * np.linalg.qr(A - 0.5)[0] @ np.linalg.qr(B - 0.5)[0].T, P, Q
    return 0.7 * rng.randn(N, M), P, Q  # of both signs, as centred faces are


def _turned(x):
    return np.swapaxes(x, -1, -2)


def _blocks(sees, N, M):
    """Yield the rows and columns that an update sees; those with nothing in common, together."""
    rows, columns = np.arange(N), np.arange(M)
    if sees == "full batch":
        yield rows[None], columns[None]
    elif sees == "a row at a time":
        yield from ((np.array([[i]]), columns[None]) for i in rows)
    elif sees == "a column at a time":
        yield from ((rows[None], np.array([[j]])) for j in columns)
    else:  # online: the entries of an anti-diagonal
        for d in range(N + M - 1):
            i = rows[max(0, d - M + 1) : d + 1, None]
            yield i, d - i


def _downhill(order, r, p, q, alpha, beta):
    if order.startswith("Q first"):
        return _downhill(order.replace("Q", "P"), _turned(r), q, p, alpha, beta)[::-1]
    if order.startswith("feature by feature"):
        p, q, inner = p.copy(), q.copy(), order.partition(", ")[2]
        for k in range(p.shape[-1]):
            others = np.arange(p.shape[-1]) != k
            rest = r - p[..., others] @ _turned(q[..., others])  # what feature k is to explain
            one = p[..., [k]], q[..., [k]]
            p[..., [k]], q[..., [k]] = _downhill(inner, rest, *one, alpha, beta)
        return p, q
    e = r - p @ _turned(q)
    new_p = p + alpha * (2 * e @ q - beta * p)
    if "recomputed" in order:
        e = r - new_p @ _turned(q)
    seen = p if "old" in order else new_p
    return new_p, q + alpha * (2 * _turned(e) @ seen - beta * q)


def _multiplied(label, R, P, Q):
    if label == "feature by feature":
        P = P.copy()
        for k in range(P.shape[1]):
            P[:, k] *= R @ Q[:, k] / (P @ (Q.T @ Q[:, k]))
        return P
    for _ in range(REPEATED.get(label, 1)):
        P = P * (R @ Q) / (P @ (Q.T @ Q))
    return P


def _step(label, R, P, Q, *numbers):
    if numbers:
        P, Q = P.copy(), Q.copy()
        sees, _, order = label.partition(", ")
        for i, j in _blocks(sees, *R.shape):
            r = R[i[..., :, None], j[..., None, :]]
            P[i], Q[j] = _downhill(order, r, P[i], Q[j], *numbers)
        return P, Q
    if label == "Q first":
        return _step("P first", R.T, Q, P)[::-1]
    new_P = _multiplied(label, R, P, Q)
    return new_P, _multiplied(label, R.T, Q, P if "old" in label else new_P)


@functools.lru_cache(maxsize=512)
def _path(problem, label):
    """Return P and Q at the start, after each step, and one further."""
    R, *points = _start(problem)
    points = [points]
    for _ in range(problem.steps + 1):
        points.append(_step(label, R, *points[-1], *problem.numbers))
    return [np.array(X) for X in zip(*points)]


def _place(factors, path, last, tolerance):
    """Return after how many steps a path is at these factors, the last if in doubt, or None."""
    far = [np.abs(X - Y).max(axis=(1, 2)) / np.abs(Y[0]).max() for X, Y in zip(factors, path)]
    far = np.nan_to_num(np.maximum(*far), nan=np.inf)
    place = last if far[last] <= tolerance / 10 else int(np.argmin(far))
    return place if far[place] <= tolerance else None


def _follows(answer, problem):
    """Return the order that an answer follows, and for how many steps; or None, and what came."""
    try:
        factors = answer(*_start(problem), problem.steps, *problem.numbers)
    except Settled as settled:
        return None, settled
    for label in GRADIENT if problem.numbers else UPDATE:
        tolerance = 2e-5 if problem.numbers else 1e-3
        place = _place(factors, _path(problem, label), problem.steps, tolerance)
        if place is not None:
            return label, place
    return None, None


# ---- 1. Presumed right


def _judged(answer):
    gradient = answer.gradient
    tall = Problem(9, 7, 3, 12, (0.01, 0.02) if gradient else ())
    wide = Problem(8, 11, 2, 20, (0.005, 0.05) if gradient else ())
    (label, stop), (same, other) = _follows(answer, tall), _follows(answer, wide)
    if label is None or label != same:
        ended = next((x for x in (stop, other) if isinstance(x, Settled)), None)
        if ended and (ended.args[0].kind != WRONG or ended.args[0].label == "too slow"):
            raise ended
        three, why = _follows(answer, wide._replace(K=3))
        draws = re.search(r"\(line .*\b(plt|fig|axs?|axes)\b", str(why))
        if same and not (three or draws) and _follows(answer, tall._replace(K=2))[0]:
            raise _wrong("K hard-coded")
        if ended or answer.borrowed:
            _as_the_handout_calls(answer)
        if ended:
            raise ended
        return (_measured_gradient if gradient else _measured_update)(answer)
    if stop == other == 0:
        raise _wrong("the start comes back")
    what = f"where steps is {tall.steps} and {wide.steps}, it takes {stop} and {other}"
    if stop - tall.steps == other - wide.steps != 0:
        raise _wrong("steps ignored", what=what)
    if stop * wide.steps == other * tall.steps != tall.steps * wide.steps:
        answer.notes["steps of another length"] = f"{what[0].upper()}{what[1:]}."
    if label == "both from the old values":
        answer.notes[label] = "So the error can rise, as it cannot with the new P."
    if label in REPEATED:
        answer.notes["steps of another length"] = f"A step updates {label}."
    if "steps of another length" not in answer.notes:
        _stops(answer, label)
    if not gradient and _follows(answer, Problem(9, 7, 3, 2, ())) == (None, None):
        raise _wrong("not the update", what="on small numbers, like the faces', it differs")
    one, why = _follows(answer, Problem(6, 5, 1, 12, tall.numbers))
    if one is None and not (why and why.args[0].label == "too slow"):
        text = f"With K = 1 {why.args[0].text if why else 'it is not right'}."
        answer.notes["not with K = 1"] = text
    what = "gradient descent" if gradient else "multiplicative updates"
    more = ": the order of the handout's printed figures" if label == "full batch, P first" else ""
    return _right(answer, label, f"{what}, {label}{more}.")


def _right(answer, label, text):
    """Return the verdict on a right answer, with what else there is to be said."""
    notes = answer.notes
    if answer.borrowed:
        names = " and ".join(sorted(answer.borrowed))
        notes["names of the notebook"] = f"It takes {names} from the notebook."
    if answer.changed:
        changed = " and ".join(sorted(answer.changed))
        text = f"It changes the caller's {changed}, so a second run starts elsewhere."
        notes["changes its arguments"] = text
    for name, value in (("alpha", 0.002), ("beta", 0.02)):
        default = getattr(answer.signature.parameters.get(name), "default", value)
        if default not in (value, inspect.Parameter.empty):
            notes[f"another default of {name}"] = f"Its {name} is {default!r} by default."
    if notes:
        return Verdict(NOTED, next(iter(notes)), " ".join([text, *notes.values()]))
    return Verdict(CORRECT, label, text)


def _stops(answer, label):
    """Let it run for long, and see where it stops by itself."""
    problem = Problem(5, 6, 2, 400, (0.008, 1e-6) if answer.gradient else ())
    (R, P, Q), path = _start(problem), _path(problem, label)

    def stop_of(steps, last):
        with contextlib.suppress(Settled):
            return _place(answer(R, P, Q, steps, *problem.numbers), path, last, 1e-4)

    stop = stop_of(problem.steps, problem.steps)
    if stop is None or stop == problem.steps:
        return
    errors = [np.sum((R - X @ Y.T) ** 2) for X, Y in zip(*path)]
    end = errors[problem.steps]
    left = (errors[stop] - end) / (errors[0] - end)
    if left > 0.02:
        what = f"it stops after {stop} of {problem.steps} steps, at a squared error of"
        what += f" {errors[stop]:.3g}, and more steps bring {end:.3g}"
        raise _wrong("stops early", what=what)
    if (stop_of(stop + 2, 0) or 0) > stop + 1:
        raise _wrong("stale factors")
    moves = [np.linalg.norm(X[stop + 1] - X[stop]) / X[0].size for X in path]
    goes_on = answer.gradient or max(moves) > 0.0015  # by the handout's rule
    if left > 1e-6 and goes_on:
        answer.notes["stops early"] = "It stops before the last step when the error is small."


def _as_the_handout_calls(answer):
    """End the check if the answer is right on 100 faces of 16 x 16 with K = 2."""
    problem = Problem(100, 256, 2, 12, (0.0015, 0.03) if answer.gradient else ())
    kept, answer.shared = answer.shared, set()
    label, stop = _follows(answer, problem)
    answer.shared = kept
    if label and stop == problem.steps:
        text = "It is right as the handout calls it, on other sizes it is not."
        answer.notes["only on the handout's faces"] = text
        raise Settled(_right(answer, label, f"{label}."))


# ---- 2. Measured, and 3. looked up among the mistakes

SLIPS = {  # how they show in what the data and beta count, each of which should be 1
    "sign of the gradient": lambda data, charge: min(data) < -0.05,
    "sign of beta": lambda data, charge: min(charge) < -0.05,
    "2 missing": lambda data, charge: min(abs(data - 0.5)) < 0.03,
    "beta counted again": lambda data, charge: max(charge) > 1.5 and max(abs(data - 1)) < 0.03,
}
RULES = [  # label, new factor from the old one and the two products
    ("fraction upside down", lambda X, top, bottom: X * bottom / top),
    ("additive step", lambda X, top, bottom: X + top / bottom),
    ("additive step", lambda X, top, bottom: X + top - bottom),
    ("additive step", lambda X, top, bottom: X + X * top / bottom),
]


BETA = 0.05  # where short steps are measured


def _moves(answer, start, steps=20, alpha=1e-5, beta=BETA):
    """Take very short steps; return how far they go, in units of alpha, on average."""
    factors = answer(*start, steps, alpha, beta)
    if not all(np.isfinite(X).all() for X in factors):
        raise _wrong("not finite", what=f"{steps} steps with alpha = {alpha:g}")
    return [(X - Y) / (alpha * steps) for X, Y in zip(factors, start[1:])]


def _pull(d, data, factor, tolerance=0.02):
    """Return a, b of ``d = 2 a * data - b BETA factor``, or None where no numbers fit."""
    terms = np.column_stack([2 * data.ravel(), -BETA * factor.ravel()])
    pull = np.linalg.lstsq(terms, d.ravel(), rcond=None)[0]
    rest = d.ravel() - terms @ pull
    return pull if np.linalg.norm(rest) < tolerance * np.linalg.norm(d) else None


def _pulls(moves, E, P, Q, tolerance=0.02):
    pulls = [_pull(d, D, X, tolerance) for d, D, X in zip(moves, (E @ Q, E.T @ P), (P, Q))]
    return None if any(pull is None for pull in pulls) else np.transpose(pulls)


def _measured_gradient(answer):
    """Measure c in ``P += alpha * (2 E Q - c beta P)``: 1 in a batch, M or N entry by entry."""
    rng = np.random.RandomState(0)
    P, Q, E = rng.randn(6, 3), rng.randn(5, 3), 0.1 * rng.randn(6, 5)  # below most limits
    start = P @ Q.T + E, P, Q
    moves, twice = _moves(answer, start), _moves(answer, start, 40)
    pulls, tolerance = _pulls(moves, E, P, Q), 0.03
    if pulls is None:  # it may choose at random what it looks at
        pulls, tolerance = _pulls(_moves(answer, start, 1000), E, P, Q, 0.2), 0.25
        if pulls is not None:  # and where the error is 0, only beta moves it
            still = zip(_moves(answer, (P @ Q.T, P, Q), 1000), (P, Q))
            pulls[1] = [-np.sum(d * X) / np.sum(X * X) / BETA for d, X in still]
    if pulls is None or min(pulls[0]) <= 0:
        raise _gradient_mistake(answer, start, moves, pulls)
    length, counts = pulls[0].mean(), pulls[1] / pulls[0]
    whole = np.maximum(np.round(counts), 1)
    ratio = 2 * np.linalg.norm(twice[0]) / np.linalg.norm(moves[0])
    batches = min(whole) == 1 or tolerance > 0.1 or (abs(length - 1) < 0.03 and np.ptp(whole))
    close = np.allclose([*pulls[0] / length, *counts], [1, 1, *whole], rtol=tolerance)
    faster = _moves(answer, start, alpha=2e-5)
    linear = np.allclose(faster[0], moves[0], rtol=0.1, atol=0.1 * length)
    run = (length, 1000) if tolerance < 0.1 else (1.0, int(1000 / min(length, 1)))
    short = batches and close and linear and ratio > 1.1
    if not (short and _reaches_the_optimum(answer, whole, *run)):
        raise _gradient_mistake(answer, start, moves, pulls)
    if abs(ratio - 2) > 0.01 and tolerance < 0.1:
        text = f"Twice as many steps take it {ratio:.3g} times as far."
        answer.notes["steps that change"] = text
    text = f"It reaches the optimum. In a step the data count {length:.2g} times, beta"
    text += f" {counts[0]:.2g} times for P and {counts[1]:.2g} for Q."
    answer.notes["a method of its own"] = text
    return _right(answer, "a method of its own", "gradient descent.")


def _reaches_the_optimum(answer, counts, length=1.0, steps=1000, alphas=(0.01, 0.05)):
    """Compare the objective with the optimum: singular values, soft-thresholded (Cai, 2010)."""
    sizes = np.array([3.0, 2.0])  # the singular values of R
    rng = np.random.RandomState(0)
    U, V = (np.linalg.qr(rng.randn(n, 2))[0] for n in (5, 4))
    R, P, Q = (U * sizes) @ V.T, rng.rand(5, 2), rng.rand(4, 2)
    beta = 1 / np.sqrt(np.prod(counts))  # each singular value shrinks by half of this root
    for alpha in alphas:
        X, Y = answer(R, P, Q, steps, min(alpha / length, 1.0), beta)
        weights = beta * (counts[0] * np.sum(X**2) + counts[1] * np.sum(Y**2))
        if np.sum((R - X @ Y.T) ** 2) + weights / 2 < 1.05 * np.sum(0.25 + (sizes - 0.5)):
            return True
    return False


def _gradient_mistake(answer, start, moves, pulls):
    R, P, Q = start
    if not any(d.any() for d in moves):
        return _wrong("the start comes back")
    with contextlib.suppress(Settled):
        if _reaches_the_optimum(answer, np.ones(2), steps=20, alphas=[1e-4]):
            return _wrong("another method")
    for name, d in zip("PQ", moves):
        if not d.any():
            return _wrong("one factor never changes", factor=name)
    if np.allclose(2 * _moves(answer, start, 40)[0], moves[0], rtol=1e-9, atol=0):
        return _wrong("steps ignored", what="20 steps or 40, and P is the same")
    faster = _moves(answer, start, alpha=2e-5)
    if not np.allclose(faster[0], moves[0], atol=0.1 * max(np.abs(X).max() for X in moves)):
        return _wrong("not the update", what="with twice the alpha its step is not twice as long")
    if pulls is None:
        seen = R > 0
        E = (R - P @ Q.T) * seen
        for visits in (np.ones(R.shape), seen):
            charged_P, charged_Q = visits.sum(axis=1)[:, None] * P, visits.sum(axis=0)[:, None] * Q
            fits = _pull(moves[0], E @ Q, charged_P), _pull(moves[1], E.T @ P, charged_Q)
            if any(fit is not None for fit in fits):
                return _wrong("entries with R <= 0 skipped")
        return _wrong("not the update", what="the step of P or Q does not go down the gradient")
    charged = _moves(answer, start, beta=2 * BETA)
    drags = [(X - Y) / BETA for X, Y in zip(moves, charged)]
    if min(np.abs(d).max() for d in drags) < 0.01:
        return _wrong("beta ignored")
    if all(np.allclose(d, c * X, atol=0.1) for d, c, X in zip(drags, pulls[1], (P, Q))):
        for label, shows in SLIPS.items():
            if shows(*pulls):
                return _wrong(label, P=pulls[1][0], Q=pulls[1][1])
    (data, other), (beta, beta_Q) = pulls
    what = f"for P the data count {data:.2g} times and beta {beta:.2g}, for Q {other:.2g} and"
    what += f" {beta_Q:.2g}"
    if np.allclose(pulls, 1, atol=0.03):
        what = "a few steps are right, but many do not reach the optimum"
    return _wrong("not the update", what=what)


def _near(new, old, tolerance=1e-3):
    return all(np.abs(X - Y).max() <= tolerance * np.abs(Y).max() for X, Y in zip(new, old))


def _measured_update(answer):
    problem = Problem(6, 5, 3, 99, ())
    (R, P, Q), (Ps, Qs) = _start(problem), _path(problem, "P first")
    ends = [answer(R, P, Q, steps) for steps in (12, 20)]
    if _near([X @ Y.T for X, Y in ends], [Ps[n] @ Qs[n].T for n in (12, 20)]):
        answer.notes["scaled otherwise"] = "P and Q are scaled otherwise; their product is right."
        return _right(answer, "P first", "multiplicative updates, P first.")
    r, p, q = R / 1e4, P / 100, Q / 100  # on which what is added would show
    new = answer(r, p, q, 1)[0]
    for label, rule in RULES:
        if _near([new], [rule(p, r @ q, p @ (q.T @ q))]):
            raise _wrong(label)
    if _near(*ends, 1e-9):
        raise _wrong("steps ignored", what="12 steps or 20, and the result is the same")
    for name, X, old in zip("PQ", ends[0], (P, Q)):
        if np.array_equal(X, old):
            raise _wrong("one factor never changes", factor=name)
    X, Y = answer(R, P, Q, 99)
    pairs = (P, Q), (Ps[99], Qs[99]), (X, Y)
    begin, end, error = (np.sum((R - A @ B.T) ** 2) for A, B in pairs)
    if min(X.min(), Y.min()) >= 0 and error < end + 0.05 * (begin - end):
        raise _wrong("another method")
    what = "the error after 99 steps is far from where the update leads"
    if _near([new], [Ps[1] / 100]):
        what = "P is right after the first step, what follows is not"
    raise _wrong("not the update", what=what)
