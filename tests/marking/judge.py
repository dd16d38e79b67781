"""Judge an answer by the numbers it returns. MARKING.md says what the verdicts mean.

1. Presumed right: on two small problems, with numbers like the handout's, it follows a known order.
2. Else it is measured: which way very short steps go, and whether many reach the optimum.
3. Only what fails both is looked up among the mistakes. A hint says what was measured.
"""

import collections
import contextlib
import functools
import itertools
import re
import textwrap
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


class Settled(BaseException):
    """Ends a check, wherever its verdict is reached: that is the only argument."""


@np.errstate(all="ignore")
def judge(answer):
    """Return the verdict on an answer, ``P, Q = answer(R, P, Q, steps, alpha, beta)``.

    ``answer.gradient`` says whether it is one to Exercise 1, ``answer.notes`` what is remarkable.
    """
    try:
        verdict = _judged(answer)
    except Settled as settled:
        verdict = settled.args[0]
    if verdict.kind == WRONG and "loads the faces" in answer.notes:
        text = "it loads the faces by itself, and marking does not fetch them."
        return Verdict("no verdict", "needs the faces", text)
    return verdict


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


def wrong(label, **details):
    return Settled(Verdict(WRONG, label, HINTS[label].format(**details)))


# ---- The right orders: E takes the error, P and Q update a factor, q from the P that E saw

ORDERS = {  # and with a star for each feature by itself
    "P first": "EPQ",
    "Q first": "EQP",
    "both from the old values": "EPq",
    "P first, error recomputed": "EPEQ",
    "Q first, error recomputed": "EQEP",
}
ORDERS |= {f"feature by feature, {order}": f"*{program}" for order, program in ORDERS.items()}
SEES = ("full batch", "online", "a row at a time", "a column at a time")
GRADIENT = {f"{sees}, {x}": (sees, ORDERS[x]) for sees in SEES for x in ORDERS}
UPDATE = {  # the multiplicative one
    "P first": ("full batch", "EPEQ"),
    "Q first": ("full batch", "EQEP"),
    "both from the old values": ("full batch", "EPq"),
    "feature by feature": ("full batch", "*EP *EQ"),
    "feature by feature, Q first": ("full batch", "*EQ *EP"),
    "feature by feature, both in turn": ("full batch", "*EPEQ"),
    "feature by feature, both in turn, Q first": ("full batch", "*EQEP"),
}
REPEATED = {f"each factor {n} times": ("full batch", n * "EP" + n * "EQ") for n in (2, 3, 5, 10)}
PROGRAMS = GRADIENT | UPDATE | REPEATED
Problem = collections.namedtuple("Problem", "N M K steps numbers")  # alpha and beta, or none


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


def _blocks(sees, N, M):
    """Return the rows and columns that updates see; what has nothing in common goes together."""
    if sees == "online":  # the entries of an anti-diagonal
        diagonals = [np.arange(max(0, d - M + 1), min(N, d + 1)) for d in range(N + M - 1)]
        return [(i[:, None], d - i[:, None]) for d, i in enumerate(diagonals)]
    rows = np.arange(N).reshape((N, 1, 1) if sees == "a row at a time" else (1, 1, N))
    columns = np.arange(M).reshape((M, 1, 1) if sees == "a column at a time" else (1, 1, M))
    return [(i, j) for i in rows for j in columns]


def _new(X, Y, R, E, numbers):
    """Return the new X: down the gradient, or without alpha and beta by R Y / (X Y^T Y)."""
    if not numbers:
        return X * (R @ Y) / ((R - E) @ Y)
    alpha, beta = numbers
    return X + alpha * (2 * E @ Y - beta * X)


def _step(label, R, P, Q, *numbers):
    P, Q = P.copy(), Q.copy()
    sees, programs = PROGRAMS[label]
    for i, j in _blocks(sees, *R.shape):
        r, p, q = R[i[..., :, None], j[..., None, :]], P[i], Q[j]
        for program in programs.split():
            features = [[k] for k in range(P.shape[1])] if "*" in program else [slice(None)]
            for k, letter in itertools.product(features, program.strip("*")):
                if letter == "E":
                    E, old = r - p @ q.swapaxes(1, 2), p[..., k].copy()
                elif letter == "P":
                    p[..., k] = _new(p[..., k], q[..., k], r, E, numbers)
                else:
                    seen = old if letter == "q" else p[..., k]
                    q[..., k] = _new(q[..., k], seen, r.swapaxes(1, 2), E.swapaxes(1, 2), numbers)
        P[i], Q[j] = p, q
    return P, Q


@functools.lru_cache(maxsize=512)
def _path(problem, label):
    """Return P and Q at the start, after each step, and one further."""
    R, *points = _start(problem)
    points = [points]
    for _ in range(problem.steps + 1):
        points.append(_step(label, R, *points[-1], *problem.numbers))
    return [np.array(X) for X in zip(*points)]


def _follows(answer, problem, labels=None, tolerance=None, steps=None):
    """Return the order that an answer follows, and for how many steps; or None, and what came."""
    try:
        factors = answer(*_start(problem), steps or problem.steps, *problem.numbers)
    except Settled as settled:
        return None, settled
    tolerance = tolerance or (2e-5 if answer.gradient else 1e-3)
    for label in labels or (GRADIENT if answer.gradient else UPDATE | REPEATED):
        path = _path(problem, label)
        far = [np.abs(X - Y).max(axis=(1, 2)) / np.abs(Y[0]).max() for X, Y in zip(factors, path)]
        far = np.nan_to_num(np.maximum(*far), nan=np.inf)
        last = 0 if steps else problem.steps  # if in doubt
        place = last if far[last] <= tolerance / 10 else int(np.argmin(far))
        if far[place] <= tolerance:
            return label, place
    return None, None


# ---- 1. Presumed right


def _judged(answer):
    gradient = answer.gradient
    tall = Problem(9, 7, 3, 12, (0.01, 0.02) if gradient else ())
    wide = Problem(8, 11, 2, 20, (0.005, 0.05) if gradient else ())
    (label, stop), (same, other) = _follows(answer, tall), _follows(answer, wide)
    if label is None or label != same:
        return _unknown(answer, tall, wide, [stop, other], same)
    if stop == other == 0:
        raise wrong("the start comes back")
    what = f"where steps is {tall.steps} and {wide.steps}, it takes {stop} and {other}"
    if stop - tall.steps == other - wide.steps != 0:
        raise wrong("steps ignored", what=what)
    if label in REPEATED or stop * wide.steps == other * tall.steps != tall.steps * wide.steps:
        what = f"A step updates {label}" if label in REPEATED else what.capitalize()
        answer.notes["steps of another length"] = f"{what}."
    else:
        _stops(answer, label)
    if label == "both from the old values":
        answer.notes[label] = "So the error can rise, as it cannot with the new P."
    if not gradient and _follows(answer, Problem(9, 7, 3, 2, ())) == (None, None):
        raise wrong("not the update", what="on small numbers, like the faces', it differs")
    one, why = _follows(answer, Problem(6, 5, 1, 12, tall.numbers))
    if one is None and not (why and why.args[0].label == "too slow"):
        text = f"With K = 1 {why.args[0].text if why else 'it is not right'}."
        answer.notes["not with K = 1"] = text
    what = "gradient descent" if gradient else "multiplicative updates"
    more = ": the order of the handout's printed figures" if label == "full batch, P first" else ""
    return _right(answer, label, f"{what}, {label}{more}.")


def _right(answer, label, text):
    kind, notes = (NOTED if answer.notes else CORRECT), answer.notes
    return Verdict(kind, next(iter(notes), label), " ".join([text, *notes.values()]))


def _stops(answer, label):
    """Let it run for long, and see where it stops by itself."""
    problem = Problem(4, 5, 2, 1100, (0.008, 1e-6) if answer.gradient else ())
    R, path, steps = _start(problem)[0], _path(problem, label), problem.steps
    found, stop = _follows(answer, problem, [label], 1e-4)
    if "RecursionError" in str(stop):  # as it is with the handout's 5000 steps
        raise stop
    if found is None or stop == steps:
        return
    errors = [np.sum((R - X @ Y.T) ** 2) for X, Y in zip(*path)]
    left = (errors[stop] - errors[steps]) / (errors[0] - errors[steps])
    if left > 0.02:
        what = f"it stops after {stop} of {steps} steps, at a squared error of {errors[stop]:.3g},"
        raise wrong("stops early", what=f"{what} and more steps bring {errors[steps]:.3g}")
    again, further = _follows(answer, problem, [label], 1e-4, stop + 2)
    if again and further > stop + 1:
        raise wrong("stale factors")
    moves = [np.linalg.norm(X[stop + 1] - X[stop]) / X[0].size for X in path]
    if left > 1e-6 and (answer.gradient or max(moves) > 0.0015):  # not by the handout's rule
        answer.notes["stops early"] = "It stops before the last step when the error is small."


def _unknown(answer, tall, wide, found, label):
    """Find out why an answer follows no order on both problems; on the wide one, perhaps this."""
    ended = next((x for x in found if isinstance(x, Settled)), None)
    if ended and (ended.args[0].kind != WRONG or ended.args[0].label == "too slow"):
        raise ended
    three, why = _follows(answer, wide._replace(K=3))
    draws = why and re.search(r"\(line .*\b(plt|fig|axs?|axes)\b", why.args[0].text)
    if label and not (three or draws) and _follows(answer, tall._replace(K=2))[0]:
        raise wrong("K hard-coded")
    if ended or "names of the notebook" in answer.notes:  # is it right on 100 faces of 16 x 16?
        faces = Problem(100, 256, 2, 12, (0.0015, 0.03) if answer.gradient else ())
        label, stop = _follows(answer, faces)
        if stop == faces.steps:
            text = "It is right as the handout calls it, on other sizes it is not."
            answer.notes["only on the handout's faces"] = text
            return _right(answer, label, f"{label}.")
    if ended:
        raise ended
    start = _start(wide)
    few, many = (answer(*start, steps, *wide.numbers) for steps in (1, 2))
    still = [x for x, X, Y in zip("PQ", many, start[1:]) if np.array_equal(X, Y)]
    if still:
        label = "one factor never changes" if len(still) == 1 else "the start comes back"
        raise wrong(label, factor=still[0])
    if _near(few, many, 1e-9):
        raise wrong("steps ignored", what="1 step or 2, and the result is the same")
    return (_measured_gradient if answer.gradient else _measured_update)(answer)


# ---- 2. Measured, and 3. looked up among the mistakes

BETA = 0.05  # where short steps are measured
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


def _near(new, old, tolerance=1e-3):
    return all(np.abs(X - Y).max() <= tolerance * np.abs(Y).max() for X, Y in zip(new, old))


def _pulls(answer, steps=20, alpha=1e-5, beta=BETA, tolerance=0.02, error=0.1, positive=False):
    """Return a and b of ``2 a E Q - b BETA P``, each for P and Q, or None where no numbers fit."""
    rng = np.random.RandomState(0)
    P, Q, E = rng.randn(6, 3), rng.randn(5, 3), error * rng.randn(6, 5)  # below most limits
    R, pulls = P @ Q.T + E, []
    factors = answer(R, P, Q, steps, alpha, beta)
    if not all(np.isfinite(X).all() for X in factors):
        raise wrong("not finite", what=f"{steps} steps with alpha = {alpha:g}")
    E *= R > 0 if positive else 1
    for new, X, data in zip(factors, (P, Q), (E @ Q, E.T @ P)):
        d = (new - X).ravel() / (alpha * steps)
        terms = np.column_stack([2 * data.ravel(), -BETA * X.ravel()])
        pulls.append(np.linalg.lstsq(terms, d, rcond=None)[0])
        if np.linalg.norm(d - terms @ pulls[-1]) > tolerance * np.linalg.norm(d):
            return None
    return np.transpose(pulls)


def _measured_gradient(answer):
    """Measure c in ``P += alpha * (2 E Q - c beta P)``: 1 in a batch, M or N entry by entry."""
    runs = (20, 1e-5), (20, 2e-5), (40, 1e-5), (500, 1e-6), (1000, 1e-6)
    once, faster, twice, many, more = (_pulls(answer, *run, tolerance=1)[0, 0] for run in runs)
    pulls, close = _pulls(answer), 0.03
    if pulls is None and (pulls := _pulls(answer, 1000, tolerance=0.2)) is not None:
        close = 0.25  # it chooses at random what it looks at; without an error only beta moves it
        pulls[1] = _pulls(answer, 1000, tolerance=1, error=0)[1]
    linear = abs(faster - once) <= 0.1 * abs(once)
    if pulls is None or min(pulls[0]) <= 0 or not linear:
        raise _gradient_mistake(answer, pulls, linear)
    if more < 0.525 * many:
        raise wrong("not the update", what="1000 steps take it hardly further than 500")
    length, counts = pulls[0].mean(), pulls[1] / pulls[0]
    if close > 0.1 and length < 0.05:
        raise wrong("not the update", what=f"a step takes {30 * length:.2g} of 30 entries")
    whole = np.maximum(np.round(counts), 1)
    batches = min(whole) == 1 or close > 0.1 or (abs(length - 1) < 0.03 and np.ptp(whole))
    fits = np.allclose([*pulls[0] / length, *counts], [1, 1, *whole], rtol=close)
    run = (length, 1000) if close < 0.1 else (1.0, int(1000 / min(length, 1)))
    if not (batches and fits and _reaches_the_optimum(answer, whole, *run)):
        raise _gradient_mistake(answer, pulls, linear)
    if abs(twice - once) > 0.005 * once and close < 0.1:
        text = f"Twice as many steps take it {2 * twice / once:.3g} times as far."
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


def _gradient_mistake(answer, pulls, linear):
    with contextlib.suppress(Settled):
        if _reaches_the_optimum(answer, np.ones(2), steps=20, alphas=[1e-4]):
            return wrong("another method")
    if not linear:
        return wrong("not the update", what="with twice the alpha its step is not twice as long")
    if pulls is None or np.abs(pulls).max() > 100:
        if _pulls(answer, beta=0, positive=True) is not None:
            return wrong("entries with R <= 0 skipped")
        return wrong("not the update", what="the step of P or Q does not go down the gradient")
    drags = _pulls(answer, beta=2 * BETA, tolerance=1)[1] - pulls[1]
    if min(abs(drags)) < 0.01:
        return wrong("beta ignored")
    for label, shows in SLIPS.items():
        if np.allclose(drags, pulls[1], atol=0.1) and shows(*pulls):
            return wrong(label, P=pulls[1][0], Q=pulls[1][1])
    what = "for P the data count {:.2g} times and beta {:.2g}, for Q {:.2g} and {:.2g}"
    if np.allclose(pulls, 1, atol=0.03):
        what = "a few steps are right, but many do not reach the optimum"
    return wrong("not the update", what=what.format(*np.transpose(pulls).ravel()))


def _measured_update(answer):
    problem = Problem(6, 5, 3, 99, ())
    (R, P, Q), (Ps, Qs) = _start(problem), _path(problem, "P first")
    if _near(*([X @ Y.T] for X, Y in (answer(R, P, Q, 20), (Ps[20], Qs[20])))):
        answer.notes["scaled otherwise"] = "P and Q are scaled otherwise; their product is right."
        return _right(answer, "P first", "multiplicative updates, P first.")
    r, p, q = R / 1e4, P / 100, Q / 100  # on which what is added would show
    new = answer(r, p, q, 1)[0]
    for label, rule in RULES:
        if _near([new], [rule(p, r @ q, p @ (q.T @ q))]):
            raise wrong(label)
    X, Y = answer(R, P, Q, 99)
    pairs = (P, Q), (Ps[99], Qs[99]), (X, Y)
    begin, end, error = (np.sum((R - A @ B.T) ** 2) for A, B in pairs)
    if min(X.min(), Y.min()) >= 0 and error < end + 0.05 * (begin - end):
        raise wrong("another method")
    what = "the error after 99 steps is far from where the update leads"
    if _near([new], [Ps[1] / 100]):
        what = "P is right after the first step, what follows is not"
    raise wrong("not the update", what=what)
