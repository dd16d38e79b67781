"""Check an answer to an exercise, on problems of a few entries."""

import _thread
import contextlib
import dis
import io
import itertools
import math
import re
import signal
import textwrap
import threading
import time
import warnings
from typing import NamedTuple

import numpy as np

from mf_solutions import multiplicative_step, multiplicative_update, squared_error


class Verdict(NamedTuple):
    """What a check found.

    Attributes
    ----------
    kind : str
        "correct", "correct, with a note", "wrong" or "not attempted".
    label : str
        What was recognised, in a few words; empty if not attempted.
    text : str
        The same in a sentence or two.
    """

    kind: str
    label: str
    text: str

    def __str__(self):
        """Return the verdict as the student reads it."""
        return textwrap.fill(f"{self.kind}: {self.text}", 90)

    __repr__ = __str__


class WrongAnswer(AssertionError):
    """A wrong answer: the message is a hint, ``verdict`` the whole :class:`Verdict`."""

    def __init__(self, verdict):
        super().__init__(str(verdict))
        self.verdict = verdict


def check_matrix_factorization(f):
    """Check an answer to Exercise 1.

    The answer runs on problems of a few entries. One very short step shows which way
    it goes: whatever the order of the updates, that must be down the gradient. Longer
    steps tell the orders apart. An order that is not in the table is judged by where
    it ends, as the optimum is known: soft-thresholded singular values.

    Parameters
    ----------
    f : callable
        ``f(R, P, Q, K, steps, alpha, beta)`` that returns ``P`` and ``Q``.

    Returns
    -------
    Verdict

    Raises
    ------
    WrongAnswer
        If the answer is wrong; the message is a hint.
    TypeError
        If ``f`` is not a function.

    References
    ----------
    Cai, J.-F., Candes, E. J. and Shen, Z. (2010). A singular value thresholding
    algorithm for matrix completion. SIAM Journal on Optimization 20(4), 1956-1982.
    """
    return _check(_judge_matrix_factorization, f)


def check_multiplicative_update(f):
    """Check an answer to Exercise 2.

    The answer runs on problems of a few entries. Its first step is looked up among
    the right and the mistaken forms of the update; then the next ones must follow. A
    step that is not in the tables is judged by what the update promises: no negative
    entry, no rising error, a zero stays zero, and an exact factorization stays put.

    Parameters
    ----------
    f : callable
        ``f(R, P, Q, steps)`` that returns ``P`` and ``Q``.

    Returns
    -------
    Verdict

    Raises
    ------
    WrongAnswer
        If the answer is wrong; the message is a hint.
    TypeError
        If ``f`` is not a function.
    """
    return _check(_judge_multiplicative_update, f)


_HINTS = {  # for each mistake: what the numbers look like
    "entries with R <= 0 skipped": "only the positive entries of R have any effect. In ratings, 0 "
    'means "not rated"; here half of a centred face would vanish.',
    "start ignored": "P and Q are far from those that went in, after one very short step. Where "
    "does it start?",
    "error missing": "the step is the same however well P and Q fit already. Where is the error?",
    "error squared": "the step grows with the square of the error. The square is what should "
    "become small; its slope is something else.",
    "other features forgotten": "each feature is fitted as if there were no other. What does the "
    "sum in the error run over?",
    "sign of the gradient": "a factor moves uphill, and the error grows. Look at the signs.",
    "sign of beta": "the regularization pushes a factor away from zero. It is there to pull back.",
    "beta ignored": "the size of beta makes no difference to one of the factors, or to both.",
    "2 missing": "the data pull half as much as they should, beside beta. Take the derivative of "
    "the square again.",
    "one factor never changes": "{factor} comes back as it went in.",
    "Q untransposed": "Q goes in with shape {given} and comes back with {got}. If you turn it on "
    "its side, turn it back.",
    "K hard-coded": "it does not work for every K: not for K = {K}. Which loop should know K?",
    "steps ignored": "{what}. How often does the loop run, and when does it return?",
    "alpha ignored": "twice the alpha, and the same result. Where is alpha used?",
    "elementwise where a matrix product is needed": "* multiplies entry by entry, where the "
    "equation has a product of matrices.",
    "matrix product where elementwise is needed": "@ multiplies matrices, where the equation "
    "multiplies numbers: it has the same subscripts on both sides.",
    "transpose missing": "a product has the right matrices, but one of them is not turned. Write "
    "the shapes below each other: the inner numbers must agree.",
    "fraction upside down": "where the product of the factors is too small it shrinks, and where "
    "it is too large it grows. Which of the two belongs on top?",
    "additive step": "something is added to the factor. What does the name of the method say?",
    "old factor missing": "the fraction alone comes back. What is it the correction of?",
    "stale factors": "where it stops by itself, it returns older factors than with fewer steps. "
    "Which P and Q does it hold then?",
    "too slow": "no answer within {seconds} s, for matrices of about 30 entries. Is there a loop "
    "that never ends?",
    "no pair of factors": "it must end with a return of two matrices, P and Q.",
    "wrong shapes": "P and Q go in with shapes {given} and come back with {got}.",
    "not finite": "NaN or infinity comes back from a few short steps with small numbers.",
    "not the update": "{what}. Take one entry of P, work out its step by hand, and compare.",
}

_NOTES = {  # for what a right answer may do otherwise
    "both from the old values": "Both factors start from the old values, so the error can rise. "
    "When Q is updated with the new P, it never does.",
    "stops early": "It stops before the last step when the error is small enough.",
    "steps of another length": "Its steps are {length:.2g} times as long as the equations say (on "
    "a matrix of {N} x {M}), so alpha means something else.",
    "changes its arguments": "It changes the caller's {names}, so a second run starts elsewhere: "
    "P += ... writes into the old array, P = P + ... makes a new one.",
}


# What both checks share. A verdict can be reached anywhere: it is raised as _Settled.


class _Settled(Exception):
    """Ends a check; its argument is the verdict."""


def _wrong(label, **details):
    return _Settled(Verdict("wrong", label, _HINTS[label].format(**details)))


def _blank():
    return _Settled(Verdict("not attempted", "", "there is nothing to check yet."))


def _check(judge, f):
    """Ask the judge, with the answer's prints and warnings kept away and its time bounded."""
    if f is not ... and not callable(f):
        raise TypeError(f"f must be your function itself, without brackets, but got {f!r}")
    try:
        with (
            _time_limit(20),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            verdict = judge(_Answer(f))
    except _Settled as settled:
        (verdict,) = settled.args
    if verdict.kind == "wrong":
        raise WrongAnswer(verdict)
    return verdict


@contextlib.contextmanager
def _time_limit(seconds):
    """Interrupt the main thread after so many seconds, as Ctrl-C would."""
    late, done, lock = threading.Event(), threading.Event(), threading.Lock()

    def watch():
        while not done.wait(1 if late.is_set() else seconds):  # again, should it be swallowed
            with lock:
                if not done.is_set():
                    late.set()
                    _thread.interrupt_main()

    if threading.current_thread() is not threading.main_thread():  # no other can be interrupted
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            yield
        finally:
            with lock:
                done.set()
            if late.is_set():
                time.sleep(0.1)  # the last interrupt may still be on its way
    except (KeyboardInterrupt, _Settled):
        if not late.is_set():
            raise
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
    if late.is_set():
        raise _wrong("too slow", seconds=seconds)


class _Answer:
    """A student's function, called on copies. What cannot be judged ends the check."""

    def __init__(self, f):
        self.f = f
        self.changed = set()

    def __call__(self, R, P, Q, *numbers):
        if self.f is ...:
            raise _blank()
        arguments = {"R": R.copy(), "P": P.copy(), "Q": Q.copy()}
        try:
            factors = self.f(*arguments.values(), *numbers)
        except (Exception, SystemExit) as error:
            unfinished = isinstance(error, NameError) and self.is_blank()
            if unfinished or type(error) is NotImplementedError:
                raise _blank() from None
            name, message = type(error).__name__, textwrap.shorten(str(error), 160)
            verdict = Verdict("wrong", name, f"it stops with {name}: {message}")
            raise _Settled(verdict) from None
        for name, X in zip("RPQ", (R, P, Q)):
            if not np.array_equal(X, arguments[name]):
                self.changed.add(name)
        if factors is None and self.is_blank():
            raise _blank()
        return self.pair(factors, P, Q)

    def is_blank(self):
        """Whether it never reads R, as in the blanks of the handout."""
        code = getattr(self.f, "__code__", None)
        if code is None or not code.co_varnames:
            return False
        read = " ".join(str(instruction.argval) for instruction in dis.get_instructions(code))
        return code.co_varnames[0] not in re.findall(r"\w+", read)

    def pair(self, factors, P, Q):
        if not isinstance(factors, (tuple, list)) or len(factors) != 2:
            raise _wrong("no pair of factors")
        try:
            new_P, new_Q = (np.asarray(X, float) for X in factors)
        except Exception:
            raise _wrong("no pair of factors") from None
        if new_P.shape == P.shape and new_Q.shape == Q.T.shape != Q.shape:
            raise _wrong("Q untransposed", given=Q.shape, got=new_Q.shape)
        if new_P.shape != P.shape or new_Q.shape != Q.shape:
            given, got = f"{P.shape} and {Q.shape}", f"{new_P.shape} and {new_Q.shape}"
            raise _wrong("wrong shapes", given=given, got=got)
        if not np.isfinite(new_P).all() or not np.isfinite(new_Q).all():
            raise _wrong("not finite")
        return new_P, new_Q

    def is_correct(self, label, text, notes):
        """Return the verdict on a right answer, with what else there is to say about it."""
        if self.changed:
            notes = {
                **notes,
                "changes its arguments": {"names": " and ".join(sorted(self.changed))},
            }
        if not notes:
            return Verdict("correct", label, text)
        said = " ".join(_NOTES[note].format(**details) for note, details in notes.items())
        return Verdict("correct, with a note", next(iter(notes)), f"{text} {said}")


def _random(N, M, K, draw):
    """Return a small problem of these shapes, the same every time."""
    rng = np.random.RandomState(N + M)
    return tuple(getattr(rng, draw)(*shape) for shape in ((N, M), (N, K), (M, K)))


def _near(new, old, tol=1e-3):
    return all(np.abs(X - Y).max() <= tol for X, Y in zip(new, old))


# Exercise 1: the entries that an update sees, times the order in which it goes


def _everything(N, M):
    return [(slice(None), slice(None))]


def _entries(N, M):
    return [([i], [j]) for i in range(N) for j in range(M)]


def _rows(N, M):
    return [([i], slice(None)) for i in range(N)]


def _columns(N, M):
    return [(slice(None), [j]) for j in range(M)]


_VISITS = {
    "full batch": ("full-batch gradient descent", _everything),
    # An entry waits only for those above it and to its left, so both orders give the same
    "online": ("online gradient descent, entry by entry, row by row or column by column", _entries),
    "a row at a time": ("gradient descent, a row of R at a time", _rows),
    "a column at a time": ("gradient descent, a column of R at a time", _columns),
}


def _both_old(r, p, q, alpha, beta):
    e = r - p @ q.T
    return p + alpha * (2 * e @ q - beta * p), q + alpha * (2 * e.T @ p - beta * q)


def _P_first(r, p, q, alpha, beta):
    e = r - p @ q.T
    p = p + alpha * (2 * e @ q - beta * p)
    return p, q + alpha * (2 * e.T @ p - beta * q)


def _recomputed(r, p, q, alpha, beta):
    p = p + alpha * (2 * (r - p @ q.T) @ q - beta * p)
    return p, q + alpha * (2 * (r - p @ q.T).T @ p - beta * q)


def _by_feature(update):
    def updates(r, p, q, alpha, beta):
        p, q = p.copy(), q.copy()
        for k in range(p.shape[1]):
            others = np.arange(p.shape[1]) != k
            rest = r - p[:, others] @ q[:, others].T  # what feature k is to explain
            p[:, [k]], q[:, [k]] = update(rest, p[:, [k]], q[:, [k]], alpha, beta)
        return p, q

    return updates


def _swapped(update):
    return lambda r, p, q, alpha, beta: update(r.T, q, p, alpha, beta)[::-1]


_ORDERS = {
    "P first": ("P first, then Q from the new P and the same residual", _P_first),
    "Q first": ("Q first, then P from the new Q and the same residual", _swapped(_P_first)),
    "both from the old values": ("both factors from the old values", _both_old),
    "error recomputed": ("P first, then Q from a new residual", _recomputed),
    "Q first, error recomputed": ("Q first, then P from a new residual", _swapped(_recomputed)),
    "feature by feature": ("feature by feature, each from a new residual", _by_feature(_P_first)),
    "feature by feature, both from the old values": (
        "feature by feature, both factors from the old values and a new residual",
        _by_feature(_both_old),
    ),
}

_STEPS = {  # of P, without the 2 and the regularization, that are not the gradient's
    "entries with R <= 0 skipped": lambda R, P, Q: ((R - P @ Q.T) * (R > 0)) @ Q,
    "error missing": lambda R, P, Q: R @ Q,
    "error squared": lambda R, P, Q: (R - P @ Q.T) ** 2 @ Q,
    "other features forgotten": lambda R, P, Q: R @ Q - P * np.sum(Q * Q, axis=0),
}

_SLIPS = {  # how they show in the pulls of the data and of beta, each of which should be 1
    "sign of the gradient": lambda data, charge: min(data) < -0.05,
    "sign of beta": lambda data, charge: min(charge) < -0.05,
    "beta ignored": lambda data, charge: min(charge) < 0.05,
    "2 missing": lambda data, charge: abs(min(data) - 0.5) < 0.03,
}


def _judge_matrix_factorization(answer):
    tall, wide, single = (_random(*shape, "randn") for shape in ((6, 5, 3), (4, 7, 2), (5, 4, 1)))
    numbers = 4, 0.03, 0.5
    try:
        directions = [_direction(answer, *tall), _direction(answer, *wide)]
        found = answer(*wide, 2, *numbers)
    except _Settled as settled:
        raise _of_shapes(settled, answer, "randn", _gradient_forms) from None
    try:
        directions.append(_direction(answer, *single))
    except _Settled:
        raise _wrong("K hard-coded", K=1) from None

    R, P, Q = wide
    for visits, order in itertools.product(_VISITS, _ORDERS):
        if _near(found, _descent(visits, order, R, P, Q, *numbers), tol=1e-4):
            notes = {"stops early": {}} if _stops_early(answer, visits, order) else {}
            label, text = f"{visits}, {order}", f"{_VISITS[visits][0]}, {_ORDERS[order][0]}"
            if label == "full batch, P first":
                text += ": the order of the handout's printed figures"
            return answer.is_correct(label, f"{text}.", notes)

    text = "gradient descent in an order of its own, and it reaches the optimum."
    if None in directions:  # it may choose at random which entries it sees
        if not _reaches_the_optimum(answer):
            raise _wrong("not the update", what="the step does not go down the gradient")
        return answer.is_correct("another method that works", text, {})
    length, charges = directions[1]
    notes = {}
    if abs(length - 1) > 0.03:
        notes["steps of another length"] = {"length": length, "N": len(P), "M": len(Q)}
    if charges[0] == charges[1] and any(
        _near(found, _descent("full batch", order, R, P, Q, 4, 0.03, 0.5 * charges[0]), tol=1e-4)
        for order in _ORDERS
    ):
        raise _wrong("not the update", what=f"beta counts {charges[0]:.0f} times")
    if not _reaches_the_optimum(answer):
        raise _wrong("not the update", what="one step is right, but many do not reach the optimum")
    return answer.is_correct("another method that works", text, notes)


def _descent(visits, order, R, P, Q, steps, alpha, beta):
    """Gradient descent over these entries and in this order."""
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        for i, j in _VISITS[visits][1](*R.shape):
            P[i], Q[j] = _ORDERS[order][1](R[i][:, j], P[i], Q[j], alpha, beta)
    return P, Q


def _direction(answer, R, P, Q):
    """Take one very short step; return its length, and how often it charges beta to P and Q.

    To first order in alpha every right answer does the same,
    ``P += alpha * (2 E Q - c beta P)``: c is 1 for a full batch, and ``M`` online.
    """
    K, alpha, beta = P.shape[1], 1e-5, 0.5
    scale = 1024  # the same problem in larger units, lest a rule for stopping thinks it small

    def ends(steps, alpha, P=P, Q=Q):
        big = R * scale**2, P * scale, Q * scale
        factors = answer(*big, K, steps, alpha / scale**2, beta * scale**2)
        return [X / scale for X in factors]

    def moved(steps, alpha):
        return [(X - Y) / alpha for X, Y in zip(ends(steps, alpha), (P, Q))]

    if _near(ends(1, alpha), ends(1, alpha, 2 * P, 2 * Q), tol=0):
        raise _wrong("start ignored")
    dP, dQ = one = moved(1, alpha)
    idle = ~dP.any(axis=0) & ~dQ.any(axis=0)
    if idle.all():
        if not any(X.any() for X in moved(3, alpha)):
            raise _blank()
        raise _wrong("steps ignored", what="with steps = 1 nothing moves")
    size = max(np.abs(X).max() for X in one)
    if _near(moved(1, 2 * alpha), (dP / 2, dQ / 2), tol=1e-6 * size):
        raise _wrong("alpha ignored")
    if idle.any():
        raise _wrong("K hard-coded", K=K)
    for name, d in (("P", dP), ("Q", dQ)):
        if not d.any():
            raise _wrong("one factor never changes", factor=name)

    E = R - P @ Q.T
    pulls = _pull(dP, E @ Q, P), _pull(dQ, E.T @ P, Q)
    if None in pulls:
        for (label, step), seen in itertools.product(_STEPS.items(), (R == R, R > 0)):
            charged = seen.sum(axis=1)[:, None] * P, seen.sum(axis=0)[:, None] * Q
            if _pull(dP, step(R, P, Q), charged[0]) or _pull(dQ, step(R.T, Q, P), charged[1]):
                raise _wrong(label)
    if alpha * size > 0.5:
        raise _wrong("start ignored")
    if None in pulls:
        return None
    three = max(np.abs(X).max() for X in moved(3, alpha)) / size
    if abs(three - 1) < 1e-6:
        raise _wrong("steps ignored", what="1 step or 3 steps, and the result is the same")
    if abs(three - 2) < 0.01:
        raise _wrong("steps ignored", what="it takes one step more than it should")
    data = np.array([of_data / 2 for of_data, _ in pulls])
    charge = np.array([-of_beta / beta for _, of_beta in pulls])
    charges = np.round(charge / data)
    if abs(data[0] - data[1]) < 0.03 * data[0] and np.allclose(charge, charges * data, rtol=0.03):
        if np.all(1 <= charges) and np.all(charges <= R.shape[::-1]):
            if min(charges) == 1 or abs(data[0] - 1) < 0.03:
                return data[0], charges
    for label, shows in _SLIPS.items():
        if shows(data, charge):
            raise _wrong(label)
    counts = f"the data count {data[0]:.2g} times and beta {charge[0]:.2g} times"
    raise _wrong("not the update", what=f"in the step of P, {counts}")


def _pull(d, data, factor):
    """Return a, b of ``d = a * data + b * factor``, or None where no numbers fit."""
    terms = np.column_stack([data.ravel(), factor.ravel()])
    pull = np.linalg.lstsq(terms, d.ravel(), rcond=None)[0]
    rest = d.ravel() - terms @ pull
    return tuple(pull) if np.linalg.norm(rest) < 0.02 * np.linalg.norm(d) else None


def _stops_early(answer, visits, order):
    """Start where the error is small, and see whether it goes all the way."""
    R, P, Q = _random(6, 5, 3, "randn")
    R = P @ Q.T + 1e-4 * R
    numbers = 4, 0.02, 0.0
    last = _descent(visits, order, R, P, Q, *numbers)
    return not _near(answer(R, P, Q, 3, *numbers), last, tol=0.05 * np.abs(last[0] - P).max())


def _reaches_the_optimum(answer):
    """Run for long, and compare the objective with the closed form of its optimum."""
    sizes = np.array([3.0, 2.0])  # the singular values of R
    rng = np.random.RandomState(0)
    U, V = (np.linalg.qr(rng.randn(n, 2))[0] for n in (5, 4))
    R, P, Q = (U * sizes) @ V.T, rng.rand(5, 2), rng.rand(4, 2)
    length, charges = _direction(answer, R, P, Q) or (1, np.array([4, 5]))
    beta = 1 / math.sqrt(np.prod(charges))  # each singular value shrinks by half of this root
    beta_P, beta_Q = beta * charges
    optimum = np.sum(0.25 + (sizes - 0.5))
    P, Q = answer(R, P, Q, 2, 1000, min(0.01 / length, 1.0), beta)
    reached = np.sum((R - P @ Q.T) ** 2) + (beta_P * np.sum(P**2) + beta_Q * np.sum(Q**2)) / 2
    return reached < 1.05 * optimum


# Exercise 2: what a factor is multiplied by, and in which order it goes


def _simultaneous_step(R, P, Q):
    return multiplicative_step(R, P, Q)[0], multiplicative_step(R.T, Q, P)[0]


def _Q_first_step(R, P, Q):
    return multiplicative_step(R.T, Q, P)[::-1]


_FIRST = {  # from which Q and from which P: label, sentence, step, notes
    ("old", "new"): ("P first", "P first, then Q from the new P.", multiplicative_step, {}),
    ("new", "old"): ("Q first", "Q first, then P from the new Q.", _Q_first_step, {}),
    ("old", "old"): (
        "both from the old values",
        "as the equations literally say.",
        _simultaneous_step,
        {"both from the old values": {}},
    ),
}

_RULES = [  # label (none for the right one), new factor from the old one and the two products
    ("", lambda X, top, bottom: X * top / bottom),
    ("fraction upside down", lambda X, top, bottom: X * bottom / top),
    ("additive step", lambda X, top, bottom: X + top / bottom),
    ("additive step", lambda X, top, bottom: X + top - bottom),
    ("additive step", lambda X, top, bottom: X + X * top / bottom),
    ("old factor missing", lambda X, top, bottom: top / bottom),
    ("one factor never changes", lambda X, top, bottom: X),
]


def _judge_multiplicative_update(answer):
    tall, wide = (_random(*shape, "rand") for shape in ((6, 5, 3), (4, 7, 2)))
    try:
        orders = {_first_step(answer, *tall), _first_step(answer, *wide)}
    except _Settled as settled:
        raise _of_shapes(settled, answer, "rand", _update_forms) from None
    if len(orders) > 1 or None in orders:
        _keeps_its_promises(answer, *tall)
        text = "multiplicative, in an order of its own: the error never rises."
        return answer.is_correct("another method that works", text, {})
    label, text, step, notes = _FIRST[orders.pop()]
    _goes_on(answer, step, *tall)
    return answer.is_correct(label, f"multiplicative updates, {text}", notes)


def _first_step(answer, R, P, Q):
    """Return from which Q and from which P the first step starts, or None if it is not known."""
    one, three = answer(R, P, Q, 1), answer(R, P, Q, 3)
    if _near(three, (P, Q), tol=0):
        if _near(answer(R * 100, P * 10, Q * 10, 3), (P * 10, Q * 10), tol=0):
            raise _blank()
        raise _wrong("not the update", what="whether it moves depends on the units of R")
    if _near(one, (P, Q), tol=0):
        raise _wrong("steps ignored", what="with steps = 1 nothing moves")
    if _near(one, three, tol=1e-9):
        raise _wrong("steps ignored", what="1 step or 3 steps, and the result is the same")
    if any(_near(one, step(R, *step(R, P, Q))) for _, _, step, _ in _FIRST.values()):
        raise _wrong("steps ignored", what="it takes one step more than it should")
    new_P, new_Q = one
    order = _origin(new_P, R, P, Q, new_Q, "P"), _origin(new_Q, R.T, Q, P, new_P, "Q")
    return None if None in order else order


def _origin(new, R, P, Q, new_Q, name):
    """Return which Q the new P comes from: "old", "new", or None where no rule leads there."""
    for label, rule in _RULES:
        for origin, Y in (("old", Q), ("new", new_Q)):
            if _near([new], [rule(P, R @ Y, P @ (Y.T @ Y))]):
                if label:
                    raise _wrong(label, factor=name)
                return origin
    return None


def _goes_on(answer, step, R, P, Q):
    """More steps must lead further along the path that the first step begins."""
    path = [(P, Q)]
    for _ in range(500):
        path.append(step(R, *path[-1]))

    def place(steps):
        found = answer(R, P, Q, steps)
        distances = [max(np.abs(X - Y).max() for X, Y in zip(found, point)) for point in path]
        if min(distances) > 0.01:
            raise _wrong("not the update", what="the first step is right, but not all of the next")
        return int(np.argmin(distances))

    stop = place(500)
    for steps in (*range(2, 10), *range(stop + 1, min(stop + 10, 500))):
        there = place(steps)
        if there > stop + 1 and not _near(path[there], path[stop]):
            raise _wrong("stale factors")


def _keeps_its_promises(answer, R, P, Q):
    def errors(*steps):
        return [squared_error(R, *answer(R, P, Q, number)) for number in steps]

    start, best = (squared_error(R, *multiplicative_update(R, P, Q, n)) for n in (0, 500))
    with_zero = P.copy()
    with_zero[0, 0] = 0
    kept_P, kept_Q = answer(P @ Q.T, P, Q, 3)
    broken = {
        "an entry goes negative": min(X.min() for X in answer(R, P, Q, 20)) < 0,
        "the error rises": np.any(np.diff([start, *errors(*range(1, 21))]) > 1e-6),
        "the error stays large": errors(500)[0] > best + 0.1 * (start - best),
        "a zero does not stay zero": abs(answer(R, with_zero, Q, 3)[0][0, 0]) > 1e-3,
        "an exact factorization changes": not _near([kept_P @ kept_Q.T], [P @ Q.T], tol=0.01),
    }
    for what, holds in broken.items():
        if holds:
            raise _wrong("not the update", what=what)


# Products of the wrong form stop with an error about shapes. On square matrices they run,
# and can be told apart.


def _of_shapes(settled, answer, draw, forms):
    """Return the verdict on products of the wrong form, or the one that there is."""
    if settled.args[0].label != "ValueError":
        return settled
    try:
        for labels in forms(answer, *_random(4, 4, 4, draw)):
            if labels and "" not in labels:
                return _wrong(labels[0])
    except _Settled:
        pass
    return settled


def _products(A, B):
    """Yield the product of two square matrices, and its wrong forms with their labels."""
    for X, Y in itertools.product((A, A.T), (B, B.T)):
        yield "" if X is A and Y is B else "transpose missing", X @ Y
        yield "elementwise where a matrix product is needed", X * Y


def _gradient_forms(answer, R, P, Q):
    """Yield the forms that fit the step of P, then those that fit the step of Q."""
    new_P, new_Q = answer(R, P, Q, 4, 1, 1e-5, 0.5)
    for new, X, data, Y in ((new_P, P, R, Q), (new_Q, Q, R.T, P)):
        yield [
            label or other
            for label, product in _products(X, Y.T)
            for other, gradient in _products(data - product, Y)
            if _pull(new - X, gradient, X)
        ]


def _update_forms(answer, R, P, Q):
    """Yield the forms that fit the new P, then those that fit the new Q."""
    new_P, new_Q = answer(R, P, Q, 1)
    for new, X, data, others in ((new_P, P, R, (Q, new_Q)), (new_Q, Q, R.T, (P, new_P))):
        labels = []
        for Y in others:
            top, bottom = data @ Y, X @ Y.T @ Y
            for mixed in (X @ (top / bottom), X.T @ (top / bottom), X @ top / bottom):
                if _near([new], [mixed]):
                    labels.append("matrix product where elementwise is needed")
            bottoms = [(a or b, W) for a, V in _products(X, Y.T) for b, W in _products(V, Y)]
            bottoms += [(a or b, W) for a, V in _products(Y.T, Y) for b, W in _products(X, V)]
            for (label, top), (other, bottom) in itertools.product(_products(data, Y), bottoms):
                if _near([new], [X * top / bottom]):
                    labels.append(label or other)
        yield labels
