"""The updates, right and mistaken, and where the numbers of an answer part from them.

A step takes R, P, Q and its numbers (alpha and beta, or none) and returns the new P and Q. An
entry of R that is NaN is not looked at. The name of a mistake is given only if a second measurement
proves it: mostly that the formula with this mistake gives the answer's numbers on two problems.
"""

import contextlib
import functools
import itertools
import textwrap
from typing import NamedTuple

import numpy as np

# ---- Verdicts

CORRECT, NOTED, WRONG = "correct", "correct, with a note", "wrong"


class Verdict(NamedTuple):
    kind: str  # one of the three above, "not attempted" or "no verdict"
    label: str  # what was recognised, in a few words
    text: str  # the same in a sentence or two
    places: tuple = ()  # where it first parts from the update: (entry, yours, the update's)

    def __str__(self):
        return textwrap.fill(f"{self.kind}: {self.text}", 90)

    __repr__ = __str__


class Settled(BaseException):
    """Ends a check, wherever its verdict is reached: that is the only argument."""


HINTS = {  # for each mistake: what was measured, and where to look
    "not a function": "it needs your function itself, without brackets, but got {got}.",
    "no pair of factors": "it must end with a return of two matrices, P and Q, but returns {got}.",
    "wrong shapes": "P and Q go in with shapes {given} and come back with {got}.",
    "not finite": "NaN or infinity comes back after {what}.",
    "the start comes back": "P and Q come back as they went in. Does what is calculated get there, "
    "or is it replaced by the old P and Q afterwards?",
    "one factor never changes": "{X} comes back as it went in.",
    "part never moves": "in two steps nothing changes in {part} of {X}. Look at where the loops "
    "over it begin and end, and at what stands inside them.",
    "K hard-coded": "with K = 2 it is right, with K = 3 it is not. Which loop should know K?",
    "steps ignored": "{what}. What should the loop's range be, and when does it return?",
    "steps miscounted": "{what}. Where does the loop begin, and where does it end?",
    "stops early": "{what}. {look}",
    "stale factors": "where it stops, it returns older factors than with fewer steps.",
    "start ignored": "what comes back does not depend on the {X} handed in. Is there another start "
    "inside the function?",
    "old values ignored": "what comes back does not depend on the {X} handed in.",
    "not twice the same": "called again with the same numbers it returns others. What does it keep "
    "from call to call?",
    "only elsewhere": "on small matrices it is right. With R of 100 x 256 and K = 2, as the "
    "handout calls it, it is not:",
    "leaves the row": "as soon as one entry of R fits, it leaves the rest of its row. Which loop "
    "does the break end, and what should it be about?",
    # Beside the numbers of a step
    "entries with R <= 0 skipped": "Only the positive entries of R have an effect, half a face.",
    "other data": "These are the numbers of the update for other data: {what}.",
    "error taken once": "These are the numbers for the error as it is at the start. E changes with "
    "P and Q: it belongs inside the loop.",
    "R is changed": "These are the numbers for an R from which the P Q^T of earlier steps is "
    "subtracted. The data must stay as they are: give the error an array of its own.",
    "features apart": "These are the numbers for a P Q^T without its sum over the features: each "
    "entry is the sum of all K products, not one product alone.",
    "reshape": "These are the numbers for a Q that reshape brought into the shape of its "
    "transpose, which puts the entries elsewhere. Q.T transposes.",
    "changes added up": "The change of {X} is that of the step before and this step's together. "
    "What adds up from step to step, and where is it set to 0?",
    "old products": "{X} is updated with the other factor of the start. What is calculated from "
    "that one belongs inside the loop.",
    "steps of another length": "{X} moves {what:.3g} times as far as it should. Does alpha change "
    "on the way?",
    # In the step of a factor
    "2 missing": "For {X} the data pull half as much as they should. What is the slope of a "
    "square?",
    "half of beta": "For {X} beta counts half: the update has beta, not beta / 2.",
    "beta counted again": "For {X} beta counts twice. Does the 2 stand before a bracket with both?",
    "beta ignored": "For {X} the numbers are those without beta.",
    "sign of beta": "For {X} beta pushes away from zero. It is there to pull back.",
    "sign of the gradient": "For {X} the data push uphill. Look at the signs.",
    "data ignored": "For {X} only beta has an effect, as if the error were 0. Is the error there "
    "before it is needed?",
    "alpha misses beta": "For {X} beta is not multiplied by alpha. Is a bracket missing?",
    "alpha missing": "For {X} the step is not multiplied by alpha.",
    "alpha and beta exchanged": "For {X} the numbers are those with alpha and beta exchanged.",
    "alpha ignored": "For {X} the numbers are those for alpha = 0.002, whatever is given.",
    "change alone": "For {X} the change comes back alone, not added to the old values.",
    "beta of the other factor": "For {X} beta is multiplied by the other factor.",
    "data of the same factor": "For {X} the error is multiplied by the factor itself, not by the "
    "other one.",
    "beta with the sign": "For {X} beta is multiplied by the sign of the factor, not by it.",
    "beta with the square": "For {X} beta is multiplied by the square of the factor.",
    "sums multiplied": "For {X} error and other factor are each summed by themselves, then "
    "multiplied. Their matrix product multiplies first.",
    "divided by the error's norm": "For {X} the data term is divided by the root of the squared "
    "error. The handout's slope is that of the squared error itself.",
    "error squared": "For {X} the error is squared. The slope of a square is not.",
    "P Q^T never subtracted": "For {X} R stands where the error R - P Q^T should be.",
    "fraction upside down": "For {X} the fraction is upside down: where P Q^T is too small it "
    "shrinks. Which belongs on top?",
    "additive step": "For {X} something is added. What does the name of the method say?",
    "X itself missing": "For {X} the fraction is taken alone: the old values are not multiplied "
    "by it.",
    "denominator missing": "For {X} the denominator is missing.",
    "brackets": "For {X} the numbers are those without brackets round the denominator: Python "
    "reads a / b @ c as (a / b) @ c.",
    "old factor below": "For {X} the denominator has the old values of the other factor, the "
    "numerator the new ones.",
    "old factor above": "For {X} the numerator has the old values of the other factor, the "
    "denominator the new ones.",
    "other factor missing below": "For {X} the denominator is made of the factor itself alone; the "
    "other one is missing.",
    "last term below": "For {X} the denominator has only the last term of its sum. Is = written "
    "for +=?",
    "one denominator": "For {X} all is divided by one number, made of all the denominators. Each "
    "entry has its own.",
    "one fraction per row": "For {X} numerator and denominator are summed over the features. Each "
    "entry has a fraction of its own.",
    "running sums": "For {X} each feature's fraction has the sums of the features before it, too. "
    "Where are the sums set to 0?",
    "fraction rounded down": "For {X} the fraction is rounded down. Is // written for /?",
    "least squares": "For {X} the numbers are those of least squares for the other factor: "
    "another method, which the handout does not ask for.",
    "square root": "For {X} the numbers are those with the square root of the fraction: another "
    "method, which the handout does not ask for.",
    "square": "For {X} the fraction is squared.",
    "Kullback-Leibler": "For {X} the numbers are those of the update for the Kullback-Leibler "
    "divergence: another method, which the handout does not ask for.",
    "multiple": "For {X} the numbers are {what:.3g} times those of the update.",
    "constant below": "For {X} {what:.3g} is added to the denominator, which is too much.",
    "part of the step": "For {X} the way from the old to the new values is {what:.3g} times as "
    "far as it should be.",
    "penalty below": "For {X} the denominator has {what:.3g} times the old values added to it, "
    "which the handout does not have.",
    "half of the step, and a penalty": "For {X} half of the step is taken, the mean of old and new "
    "values, and the denominator has {what:.3g} times the old values added to it.",
    "additive rate": "For {X} {what:.3g} times numerator minus denominator is added. What does the "
    "name of the method say?",
    "counts": "For {X} the data count {what[0]:.3g} times and beta {what[1]:.3g} times.",
    "cut off at 0": "For {X} the update is right, but negative values are cut off at 0.",
    "cut off at 1": "For {X} the update is right, but values above 1 are cut off.",
    "lengths made 1": "For {X} the update is right, but then columns are brought to length 1.",
    "whole numbers": "For {X} the update is right, but then it is turned into whole numbers.",
}
OTHER_METHODS = ("least squares", "square root", "Kullback-Leibler")


def wrong(label, **details):
    """Return what ends the check of an answer with a mistake that was recognised."""
    return measured(label, HINTS[label].format(**details))


def measured(label, text, places=()):
    """Return what ends the check of an answer of which numbers are told."""
    return Settled(Verdict(WRONG, label, text.strip(), places))


# ---- Problems


class Problem(NamedTuple):
    N: int
    M: int
    K: int
    steps: int
    numbers: tuple  # alpha and beta, or none


@functools.cache
def start(problem):
    """Return R, P, Q. In a long run the error can vanish, in a short one they are as the faces'."""
    N, M, K, steps, numbers = problem
    rng = np.random.RandomState(N + M)
    P, Q = rng.rand(N, K), rng.rand(M, K)
    A, B = rng.rand(N, K), rng.rand(M, K)
    if N >= 100:  # as the faces, it is nowhere black
        A, B = A + 0.2, B + 0.2
    if not numbers:  # in units so small that the handout's rule for stopping waits
        unit = 1 if steps < 12 else 100 if steps <= 99 else 1e4
        return unit**2 * A @ B.T, unit * P, unit * Q
    if steps > 99:
        U, _ = np.linalg.qr(A - 0.5)
        V, _ = np.linalg.qr(B - 0.5)
        return 3 * U @ V.T, P, Q
    if steps < 12:  # factors of both signs tell more formulas apart
        P, Q = P - 0.3, Q - 0.3
    return 0.7 * rng.randn(N, M), P, Q  # of both signs, as centred faces are


# ---- The right updates


def turned(A):
    """Transpose a matrix, or each matrix of a stack."""
    return np.swapaxes(A, -1, -2)


def error_of(R, P, Q):
    E = R - P @ turned(Q)
    return np.where(np.isnan(R), 0, E)


def descend(X, Y, E, R, *numbers):
    """Move the factor X down the gradient, where Y is the other factor and E the error."""
    alpha, beta = numbers
    return X + alpha * (2 * E @ Y - beta * X)


def multiply(X, Y, E, R):
    return X * (R @ Y) / (X @ (Y.T @ Y))


def full_batch(order, R, P, Q, *numbers, rules=None):
    """Update both factors once; the rules are for P and for Q."""
    rules = rules or 2 * [descend if numbers else multiply]
    if order.startswith("Q first"):
        mirrored = order.replace("Q", "P")
        Q, P = full_batch(mirrored, turned(R), Q, P, *numbers, rules=rules[::-1])
        return P, Q
    E = error_of(R, P, Q)
    new_P = rules[0](P, Q, E, R, *numbers)
    seen = P if order == "both from the old values" else new_P
    if order.endswith("error recomputed"):
        E = error_of(R, new_P, Q)
    new_Q = rules[1](Q, seen, turned(E), turned(R), *numbers)
    return new_P, new_Q


def online(order, R, P, Q, *numbers, rules=None):
    """Update for one entry after the other, row by row.

    The entries of an anti-diagonal share no row and no column, so they can go together.
    """
    P, Q = P.copy(), Q.copy()
    N, M = R.shape
    for diagonal in range(N + M - 1):
        first, end = max(0, diagonal - M + 1), min(N, diagonal + 1)
        i = np.arange(first, end)
        seen = ~np.isnan(R[i, diagonal - i])
        i = i[seen][:, None]
        j = diagonal - i
        entries = R[i, j][:, :, None]  # a stack of matrices with one entry each
        new = full_batch(order, entries, P[i], Q[j], *numbers, rules=rules)
        P[i], Q[j] = new
    return P, Q


def online_from_one_error(order, R, P, Q, *numbers):
    """Update for one entry after the other, with the errors as they are before the first."""

    def rule(X, Y, E, errors, *numbers):
        return descend(X, Y, errors, None, *numbers)

    return online(order, error_of(R, P, Q), P, Q, *numbers, rules=[rule, rule])


def by_features(order, R, P, Q):
    """Update multiplicatively, each feature from the newest values of the others."""
    P, Q = P.copy(), Q.copy()
    turns = [(P, Q, R), (Q, P, R.T)]
    if order.endswith("Q first"):
        turns.reverse()
    visits = itertools.product(turns, range(P.shape[1]))
    if "both in turn" in order:
        visits = sorted(visits, key=lambda visit: visit[1])
    for (X, Y, data), k in visits:
        feature = Y[:, k]
        X[:, k] *= data @ feature / (X @ (Y.T @ feature))
    return P, Q


def repeated(times, R, P, Q):
    """Update P several times, then Q as often."""
    for _ in range(times):
        P = multiply(P, Q, None, R)
    for _ in range(times):
        Q = multiply(Q, P, None, R.T)
    return P, Q


def named(step, labels, prefix=""):
    return {prefix + label: functools.partial(step, label) for label in labels}


BOTH_OLD = "both from the old values"
ORDERS = ("P first", "Q first", BOTH_OLD, "P first, error recomputed", "Q first, error recomputed")
FEATURES = ("", ", Q first", ", both in turn", ", both in turn, Q first")
FULL_BATCH = named(full_batch, ORDERS, "full batch, ")
ONLINE = named(online, ORDERS, "online, ")
GRADIENT = FULL_BATCH | ONLINE
PLAIN = named(full_batch, ORDERS[:3])
REPEATED = {f"each factor {n} times": functools.partial(repeated, n) for n in (2, 3, 5, 10)}
UPDATE = PLAIN | named(by_features, [f"feature by feature{x}" for x in FEATURES]) | REPEATED
FROM_ONE_ERROR = named(online_from_one_error, ORDERS, "online from one error, ")
STEPS = GRADIENT | UPDATE | FROM_ONE_ERROR


@functools.lru_cache(maxsize=512)
def path(problem, label):
    """Return all P and all Q: at the start, after each step, and one further."""
    R, *points = start(problem)
    points = [points]
    for _ in range(problem.steps + 1):
        points.append(STEPS[label](R, *points[-1], *problem.numbers))
    return [np.array(factors) for factors in zip(*points)]


def largest(X):
    return np.abs(X).max()


def moves(new, old):
    return [X - Y for X, Y in zip(new, old)]


def near(new, old, tolerance=1e-6):
    """Whether all factors agree."""
    for X, Y in zip(new, old):
        close = largest(X - Y) <= tolerance * largest(Y)  # not so with NaN
        if not close:
            return False
    return True


# ---- Known mistakes: in the step of one factor


COUNTS = [  # how often the data and beta count
    ("", 1, 1),
    ("2 missing", 0.5, 1),
    ("half of beta", 1, 0.5),
    ("beta counted again", 1, 2),
    ("beta ignored", 1, 0),
    ("data ignored", 0, 1),
    ("sign of beta", 1, -1),
    ("sign of the gradient", -1, -1),
    ("sign of the gradient", -1, 1),
    ("sign of the gradient", -1, 0),
]


def gradient_formulas(X, Y, E, R, alpha, beta):
    """Return pairs of a label and the new X, the right one first, then as with known mistakes."""
    data, penalty = 2 * E @ Y, beta * X
    slope = data - penalty
    other = Y if X.shape == Y.shape else np.nan * X  # NaN is equal to nothing
    sums = E.sum(axis=-1, keepdims=True) * Y.sum(axis=-2, keepdims=True)
    norm = np.linalg.norm(E, axis=(-2, -1), keepdims=True)
    other_data = [
        ("data of the same factor", 2 * E[..., :1] * X),
        ("sums multiplied", 2 * sums),
        ("divided by the error's norm", data / norm),
        ("divided by the error's norm", data / norm / 2),
        ("error squared", 2 * E**2 @ Y),
        ("P Q^T never subtracted", 2 * R @ Y),
    ]
    other_penalties = [
        ("beta of the other factor", beta * other),
        ("beta with the sign", beta * np.sign(X)),
        ("beta with the square", beta * X**2),
    ]
    return [
        *((label, X + alpha * (a * data - b * penalty)) for label, a, b in COUNTS),
        *((label, X + alpha * (term - penalty)) for label, term in other_data),
        *((label, X + alpha * (data - term)) for label, term in other_penalties),
        ("alpha misses beta", X + alpha * data - penalty),
        ("alpha missing", X + slope),
        ("alpha ignored", X + 0.002 * slope),
        ("alpha and beta exchanged", X + beta * (data - alpha * X)),
        ("change alone", alpha * slope),
        *afterwards(X + alpha * slope),
    ]


def update_formulas(X, Y, E, R, old):
    """Do the same for the multiplicative update; old is the other factor before the step."""
    top, bottom = R @ Y, X @ (Y.T @ Y)
    right = X * top / bottom
    ones = np.ones((X.shape[1], 1))
    fractions = [
        ("fraction upside down", bottom, top),
        ("old factor below", top, X @ (old.T @ old)),
        ("old factor above", R @ old, bottom),
        ("other factor missing below", top, X @ (X.T @ X)),
        ("last term below", top, X @ np.outer(Y[-1], Y[-1])),
        ("one denominator", top, np.linalg.norm(bottom)),
        ("one denominator", top, bottom.sum()),
        ("one fraction per row", top @ ones, bottom @ ones),
        ("running sums", top.cumsum(axis=1), bottom.cumsum(axis=1)),
    ]
    return [
        ("", right),
        *((label, X * above / below) for label, above, below in fractions),
        ("additive step", X + top / bottom),
        ("additive step", X + right),
        ("X itself missing", top / bottom),
        ("denominator missing", X * top),
        ("brackets", top @ (Y.T @ Y)),
        ("brackets", X * (top / X @ (Y.T @ Y))),
        ("fraction rounded down", X * (top // bottom)),
        ("least squares", R @ np.linalg.pinv(np.nan_to_num(Y)).T),
        ("square root", X * np.sqrt(top / bottom)),
        ("square", X * (top / bottom) ** 2),
        ("Kullback-Leibler", X * (R / (X @ Y.T) @ Y) / Y.sum(axis=0)),
        *afterwards(right),
    ]


def afterwards(X):
    """Return what becomes of a right factor when something is done to it afterwards."""
    return [
        ("cut off at 0", np.maximum(X, 0)),
        ("cut off at 1", np.minimum(X, 1)),
        ("lengths made 1", X / np.linalg.norm(X, axis=-2, keepdims=True)),
        ("whole numbers", np.trunc(X)),
    ]


# ---- Known mistakes: in what the updates see


def other_data(R):
    """Return what is taken for R by mistake, each with its label and what it is, in words."""
    return {
        ("other data", "the absolute values of R"): abs(R),
        ("other data", "R with its negative entries set to 0"): np.maximum(R, 0),
        ("other data", "R - R.min()"): R - R.min(),
        ("other data", "R - R.mean()"): R - R.mean(),
        ("other data", "R with each column's mean subtracted"): R - R.mean(axis=0),
        ("other data", "R / R.max()"): R / R.max(),
        ("entries with R <= 0 skipped", ""): np.where(R > 0, R, np.nan),
    }


SPECIAL_DATA = {  # notes on an answer that is right otherwise
    "entries with R = 0 left out": (
        "It leaves out the entries where R is 0.",
        lambda R: np.where(R != 0, R, np.nan),
    ),
    "absolute values of R": ("It takes the absolute values of R, which are other data.", np.abs),
    "negative entries of R": (
        "It takes the negative entries of R for 0, which are other data.",
        lambda R: np.maximum(R, 0),
    ),
}


def every_third(R, times):
    """Return R with every third entry that many times as large."""
    third = np.indices(R.shape).sum(axis=0) % 3 == 0
    return np.where(third, times * R, R)


# ---- Where an answer parts from the update

# Two problems on which a first step is looked at, and two with a single entry in R
SINGLE = [
    Problem(1, 1, 5, 3, (0.01, 0.3)),
    Problem(1, 1, 4, 3, (0.02, 0.2)),
]
SMALL = {
    True: [Problem(9, 7, 3, 3, (0.01, 0.3)), Problem(8, 11, 2, 3, (0.02, 0.2))],
    False: [Problem(9, 7, 3, 3, ()), Problem(8, 11, 2, 3, ())],
}


class NoNumbers(Exception):
    """An answer raised something."""


class Experiment:
    """An answer whose exceptions end only the experiment that meets them."""

    def __init__(self, answer):
        self.answer, self.gradient, self.notes = answer, answer.gradient, answer.notes

    def __call__(self, *arguments):
        try:
            return self.answer(*arguments)
        except Settled as settled:
            verdict = settled.args[0]
            if verdict.kind != WRONG or verdict.label == "too slow":
                raise
            raise NoNumbers from settled


class Run(NamedTuple):
    """What an answer made of P and Q in one step, or a few."""

    problem: Problem
    R: np.ndarray
    before: tuple
    after: tuple
    steps: int

    def of(self, factor):
        return self.after["PQ".index(factor)]

    def step(self, order):
        """Return what an order makes of them."""
        factors = self.before
        for _ in range(self.steps):
            factors = STEPS[order](self.R, *factors, *self.problem.numbers)
        return factors


def run_of(answer, problem, steps=1):
    R, *before = start(problem)
    after = answer(R, *before, steps, *problem.numbers)
    return Run(problem, R, before, after, steps)


def shown(value, other):
    """Return a number with as many digits as it takes to tell it from the other one."""
    for digits in range(3, 13):
        text = f"{value:#.{digits}g}"
        if text != f"{other:#.{digits}g}":
            break
    return text


def difference(factor, before, yours, update, step):
    """Return a sentence on the first entry where much is missing, and three such entries."""
    off = np.nan_to_num(np.abs(yours - update), nan=np.inf)
    # The first entries that are about as far off as the worst, not those off by rounding
    entries = np.argwhere(off >= 0.3 * off.max())[:3].tolist()
    places = []
    for i, k in entries:
        came, right = float(yours[i, k]), float(update[i, k])
        places.append((f"{factor}[{i}, {k}] after step {step}", came, right))
    i, k = entries[0]
    _, came, right = places[0]
    text = f"{factor}[{i}, {k}] is {before[i, k]:.3g}, should become {shown(right, came)}"
    return f"{text} and becomes {shown(came, right)}.", tuple(places)


def parting(label, when, run, update, text=""):
    """Return what ends a check where the factors of a run are not those of the update."""
    for factor, before, yours, right in zip("PQ", run.before, run.after, update):
        if not near([yours], [right], 1e-5):
            numbers, places = difference(factor, before, yours, right, run.steps)
            return measured(label, f"{when} {numbers} {text}", places)
    return measured(label, text)


# ---- The first step, one factor after the other


class Reading(NamedTuple):
    """Which formulas of its list give the first step: 0 is the right one, None that none does."""

    label: str  # as the verdict gives it
    order: str
    places: tuple  # for P and for Q
    runs: list

    def wrong_factors(self):
        """Return them in the order in which they are updated."""
        factors = "QP" if self.order.startswith("Q") else "PQ"
        return [x for x in factors if x not in self.of_factors(0)]

    def worth(self):
        return len(self.of_factors(0)), -len(self.of_factors(None))

    def of_factors(self, place):
        return [factor for factor, found in zip("PQ", self.places) if found == place]


def sight(order, factor, run):
    """Return what the update of a factor sees: it, the other one, the error, R, the old other."""
    R, before, after = run.R, run.before, run.after
    if factor == "Q":
        R, before, after = R.T, before[::-1], after[::-1]
    X, old = before
    Y, E = old, error_of(R, X, old)
    # The second factor sees what the answer made of the first one, be that right or wrong: so the
    # two can be judged apart
    if not order.startswith(factor) and order != BOTH_OLD:
        Y = after[1]
        if order.endswith("recomputed"):
            E = error_of(R, X, Y)
    return X, Y, E, R, old


def formulas(order, factor, run):
    seen = sight(order, factor, run)
    if run.problem.numbers:
        return gradient_formulas(*seen[:4], *run.problem.numbers)
    return update_formulas(*seen)


def fitting(order, factor, runs):
    """Return the place of the first formula that gives all the runs, or None."""
    common = None
    for run in runs:
        new = run.of(factor)
        moved = largest(new - run.before["PQ".index(factor)])
        places = set()
        for place, (_, formula) in enumerate(formulas(order, factor, run)):
            if largest(new - formula) <= 1e-4 * moved:  # loose enough for float32
                places.add(place)
        common = places if common is None else common & places
    return min(common, default=None)


def read_first_step(answer):
    """Return the reading, of all orders, with the most that is right, then the most known."""
    runs = [run_of(answer, problem) for problem in SMALL[answer.gradient]]
    readings = []
    for order in ORDERS if answer.gradient else PLAIN:
        places = tuple(fitting(order, factor, runs) for factor in "PQ")
        label = f"full batch, {order}" if answer.gradient else order
        readings.append(Reading(label, order, places, runs))
    if answer.gradient:
        readings += read_online(answer, runs)
    return max(readings, key=Reading.worth)


def read_online(answer, runs):
    """Read the step for a single entry of R, and keep what holds for all entries in turn.

    With a single entry, entry by entry is the same as a full batch, and the factors stay apart.
    """
    single = []
    with contextlib.suppress(NoNumbers):
        single = [run_of(answer, problem) for problem in SINGLE]
    for order in ORDERS if single else ():
        places = tuple(fitting(order, factor, single) for factor in "PQ")
        if None in places:
            continue
        if all(is_online(order, places, run) for run in runs):
            yield Reading(f"online, {order}", order, places, single)
    for label in FROM_ONE_ERROR:
        if all(near(run.step(label), run.after) for run in runs):
            yield Reading(label, label, (0, 0), runs)


def is_online(order, places, run):
    """Whether the formulas at these places give the run, for one entry after the other."""
    rules = [functools.partial(one_formula, place) for place in places]
    step = online(order, run.R, *run.before, *run.problem.numbers, rules=rules)
    return near(step, run.after)


def one_formula(place, *seen):
    return gradient_formulas(*seen)[place][1]


def measure(order, factor, runs):
    """Return a label and numbers that fit both runs, or None twice."""
    measure_one = measure_gradient if runs[0].problem.numbers else measure_update
    found, also = (measure_one(order, factor, run) for run in runs)
    for label in found:
        if found[label] == also.get(label):
            return label, found[label]
    return None, None


def measure_gradient(order, factor, run):
    """Return how often the data and beta count, if that leaves nothing over."""
    X, Y, E, _, _ = sight(order, factor, run)
    alpha, beta = run.problem.numbers
    move = (run.of(factor) - X).ravel()
    data = 2 * alpha * E @ Y
    terms = np.column_stack([data.ravel(), -alpha * beta * X.ravel()])
    counts = np.linalg.lstsq(terms, move, rcond=None)[0]
    if largest(terms @ counts - move) > 1e-4 * largest(move):
        return {}
    return {"counts": tuple(np.round(counts, 3))}


def measure_update(order, factor, run):
    """Return what is the same number for all entries."""
    X, Y, _, R, _ = sight(order, factor, run)
    new = run.of(factor)
    top, bottom = R @ Y, X @ (Y.T @ Y)
    values = {
        "multiple": new * bottom / (X * top),
        "constant below": X * top / new - bottom,
        "part of the step": (new - X) / (X * top / bottom - X),
        "penalty below": (X * top / new - bottom) / X,
        "half of the step, and a penalty": (X * top / (2 * new - X) - bottom) / X,
        "additive rate": (new - X) / (top - bottom),
    }
    found = {}
    for label, value in values.items():
        middle = np.median(value)
        if np.ptp(value) < 1e-3 * abs(middle):
            found[label] = float(f"{middle:.3g}")
    return found


def name_mistakes(reading):
    """Return a label and a sentence for each mistake that is proved."""
    found = {}
    for factor in reading.wrong_factors():
        place = reading.places["PQ".index(factor)]
        if place is None:
            name = measure(reading.order, factor, reading.runs)
        else:
            label, _ = formulas(reading.order, factor, reading.runs[0])[place]
            name = label, None
        if not name[0]:
            break  # what is wrong with the first factor may be what looks wrong in the second
        found.setdefault(name, []).append(factor)
    names = []
    for (label, what), factors in found.items():
        together = " and ".join(sorted(factors))
        names.append((label, HINTS[label].format(X=together, what=what)))
    return names


def explain_factors(reading, label="not the update", finding=""):
    """Raise what is wrong with the first step: the numbers, and the names that are proved."""
    run, right = reading.runs[0], reading.of_factors(0)
    factor = reading.wrong_factors()[0]
    before = run.before["PQ".index(factor)]
    update = formulas(reading.order, factor, run)[0][1]
    numbers, places = difference(factor, before, run.of(factor), update, 1)
    when = "In the first step "
    if run.R.size == 1:
        when = "On an R with a single entry, in the first step "
    if right and (reading.order == BOTH_OLD or reading.order.startswith(right[0])):
        when += f"{right[0]} is right. "
    elif right:
        numbers += f" {right[0]} follows from it as it should."
    names = name_mistakes(reading)
    if names:
        label = names[0][0]
        finding = " ".join(sentence for _, sentence in names)
    if label in OTHER_METHODS:
        label = "another method"
    raise measured(label, f"{when}{numbers} {finding}", places)


# ---- Other experiments


def explain(answer, problems, label="not the update", finding=""):
    """Raise the reason why an answer is wrong; problems are those where it was seen.

    Where no name is proved, label and finding are what stands beside the numbers.
    """
    answer = Experiment(answer)
    try:
        order = explain_first_step(answer, label, finding)
        for problem in [*SMALL[answer.gradient], *problems]:
            explain_later_steps(answer, problem, order, label, finding)
    except NoNumbers:  # which it gives only where steps is larger, perhaps
        run = run_of(answer, problems[0], problems[0].steps)
        raise explain_nearest(answer, run, label, finding) from None
    raise measured(label, f"A few steps are right, but many are not. {finding}")


def explain_first_step(answer, label, finding):
    """Return the order of the first step if it is right, or raise a reason."""
    first = run_of(answer, SMALL[answer.gradient][0])
    again = run_of(answer, first.problem)
    now, then = np.vstack(first.after), np.vstack(again.after)
    if not np.array_equal(now, then, equal_nan=True):
        explain_chance(answer, first)
        raise measured(label, f"Two runs from the same start differ. {finding}")
    with contextlib.suppress(NoNumbers):
        explain_parts(answer)
    reading = read_first_step(answer)
    if reading.places == (0, 0):
        return reading.label
    if None in reading.places and 0 not in reading.places:
        explain_whole_step(answer, reading.runs)
    if None in reading.places and not (answer.gradient and label == "another method"):
        explain_start(answer, first)
    if reading.places == (None, None) and not name_mistakes(reading):
        if answer.gradient:
            explain_rows(answer)
        raise explain_nearest(answer, first, label, finding)
    explain_factors(reading, label, finding)


def explain_standstill(answer):
    """Raise a reason why one step or two give the same, unless it is that it stands still."""
    answer = Experiment(answer)
    explain_parts(answer)
    reading = read_first_step(answer)
    if None not in reading.places and reading.places != (0, 0):
        explain_factors(reading)
    explain_start(answer, reading.runs[0])


def explain_nearest(answer, run, label, finding):
    """Compare with the order that comes nearest."""

    def far(update):
        return sum(largest(X - Y) / largest(Y) for X, Y in zip(run.after, update))

    orders = GRADIENT if answer.gradient else PLAIN
    nearest = min(map(run.step, orders), key=far)
    when = "In the first step" if run.steps == 1 else f"In {run.steps} steps"
    return parting(label, when, run, nearest, finding)


def explain_chance(answer, run):
    """See whether an answer that draws random numbers goes on from the P and Q that it gets."""
    large = [1000 * X for X in run.before]
    factors = answer(run.R, *large, 1, *run.problem.numbers)
    sizes = [np.median(abs(X)) / np.median(abs(Y)) for X, Y in zip(run.after, factors)]
    if 0.1 < min(sizes) and max(sizes) < 10:
        raise wrong("start ignored", X="P and Q")


def explain_start(answer, run):
    """See whether another start gives the same."""
    P, Q = run.before
    # Further than rounding to whole numbers could hide
    other_P, other_Q = P[::-1] + 1.1, Q[::-1] + 1.1
    starts = {
        "P and Q": (other_P, other_Q),
        "P": (other_P, Q),
        "Q": (P, other_Q),
    }
    for X, factors in starts.items():
        after = answer(run.R, *factors, 1, *run.problem.numbers)
        if near(after, run.after, 1e-9):
            label = "start ignored" if X == "P and Q" else "old values ignored"
            raise wrong(label, X=X)


def explain_parts(answer):
    """See whether the same rows or features stay as they are on two problems."""
    # Two steps, as some update P and Q in turn, a step each
    runs = [run_of(answer, problem, 2) for problem in SMALL[answer.gradient]]
    found = {}
    for factor in "PQ":
        still, also = ({*still_parts(factor, run)} for run in runs)
        for part in sorted(still & also):
            found.setdefault(part, []).append(factor)
    for part, factors in found.items():
        raise wrong("part never moves", X=" and ".join(factors), part=part)


def still_parts(factor, run):
    """Yield what stays as it is, in words."""
    same_entries = run.of(factor) == run.before["PQ".index(factor)]
    for axis, thing in enumerate(("row", "feature")):
        still = np.all(same_entries, axis=1 - axis).tolist()
        ends = {"first": (still[:1], still[1:]), "last": (still[-1:], still[:-1])}
        for end, (one, others) in ends.items():
            if all(one) and not any(others):
                yield f"the {end} {thing}"
            if all(others) and not any(one):
                yield f"all but the {end} {thing}"


def explain_whole_step(answer, runs):
    """See whether the first step is right for another R, or but for what is done afterwards."""
    for order in GRADIENT if answer.gradient else PLAIN:
        found, also = (whole_mistakes(order, run) for run in runs)
        for label, what in found:
            if (label, what) in also:
                text = HINTS[label].format(X="P and Q", what=what)
                raise parting(label, "In the first step", runs[0], runs[0].step(order), text)


def whole_mistakes(order, run):
    """Return the labels, and what there is to say, of all that gives this run."""
    made = {}
    for name, R in other_data(run.R).items():
        made[name] = run._replace(R=R).step(order)
    update = run.step(order)
    made["change alone", ""] = moves(update, run.before)
    for (label, P), (_, Q) in zip(*map(afterwards, update)):
        made[label, ""] = P, Q
    made["features apart", ""] = apart(order, run)
    P, Q = run.before
    P, mixed = run._replace(before=(P, Q.reshape(Q.shape[::-1]).T)).step(order)
    made["reshape", "and back by Q.T"] = P, mixed
    made["reshape", "and back by reshape"] = P, mixed.T.reshape(Q.shape)
    return [name for name, factors in made.items() if near(run.after, factors)]


def apart(order, run):
    """Return what becomes of the factors if each feature is fitted by itself."""
    features = []
    for k in range(run.problem.K):
        alone = [X[:, [k]] for X in run.before]
        features.append(run._replace(before=alone).step(order))
    return [np.hstack(columns) for columns in zip(*features)]


def explain_rows(answer):
    """See whether a single entry that fits keeps the rest of its row from being visited."""
    R, P, Q = start(Problem(1, 6, 2, 1, (0.01, 0.0)))  # R is one row
    fitting = R.copy()
    fitting[0, 0] = P[0] @ Q[0]
    moved = []
    for data in (R, fitting):
        _, new = answer(data, P, Q, 1, 0.01, 0.0)
        moved.append(np.any(new[1:] != Q[1:]))
    if moved == [True, False]:
        raise wrong("leaves the row")


def explain_later_steps(answer, problem, order, label, finding):
    """Go on step by step, until one is not the update of what the answer had before."""
    R, *before = start(problem)
    points = [before]
    for step in range(1, 21):
        points.append(answer(R, *before, step, *problem.numbers))
        update = STEPS[order](R, *points[-2], *problem.numbers)
        if not near(points[-1], update, 1e-5):
            break
    else:
        return
    when = "In"
    if step == 2:
        when = "The first step is right. In"
    elif step > 2:
        when = f"The first {step - 1} steps are right. In"
    run = Run(problem, R, points[-2], points[-1], step)
    name, text = name_later_mistake(order, run, points, update)
    raise parting(name or label, f"{when} step {step}", run, update, text or finding)


def name_later_mistake(order, run, points, update):
    """Return what is proved of a step that is the first wrong one: a label and a sentence."""
    P, Q = run.before
    earlier = sum(X @ Y.T for X, Y in points[:-2])
    taken_for_R = {  # whose update comes to the same
        "error taken once": error_of(run.R, *points[0]) + P @ Q.T,
        "R is changed": run.R - earlier,
    }
    for name, data in taken_for_R.items():
        step = STEPS[order](data, *run.before, *run.problem.numbers)
        if near(run.after, step, 1e-5):
            return name, HINTS[name]
    if len(points) > 2:
        return name_what_is_kept(run, points, update)
    return "", ""


def name_what_is_kept(run, points, update):
    """Do the same for a later step than the first."""
    made_moves = moves(run.after, run.before)
    if not run.problem.numbers:
        (P, Q), (first_P, first_Q) = run.before, points[0]
        old = multiply(P, first_Q, None, run.R), multiply(Q, first_P, None, run.R.T)
        for factor, new, X in zip("PQ", run.after, old):
            if near([new], [X], 1e-5):
                return "old products", HINTS["old products"].format(X=factor)
    moves_before = moves(run.before, points[-3])
    asked_moves = moves(update, run.before)
    for factor, made, asked, before in zip("PQ", made_moves, asked_moves, moves_before):
        if near([made], [asked + before], 1e-5):
            return "changes added up", HINTS["changes added up"].format(X=factor)
        times = np.sum(made * asked) / np.sum(asked**2)
        if abs(times - 1) > 1e-3 and near([made], [times * asked], 1e-4):
            name = "steps of another length"
            return name, HINTS[name].format(X=factor, what=times)
    return "", ""
