"""Judge an answer by the numbers it returns. README.md says what the verdicts mean.

1. Presumed right: on two small problems, with numbers like the handout's, it follows a known order.
2. Else it is measured: in Exercise 1 which way very short steps go, and whether many reach the
   optimum; in Exercise 2 the product of the factors.
3. Of what fails reasons.py says where it parts from the update, and why.

Every verdict is raised as Settled, by the judge or by a call of the answer.
"""

import ast
import contextlib
import re
from typing import NamedTuple

import numpy as np
import reasons
from reasons import (
    CORRECT,
    NOTED,
    WRONG,
    NoNumbers,
    Problem,
    Settled,
    Verdict,
    near,
    path,
    start,
    wrong,
)

FACES = {  # a few steps at the handout's size, neither long nor short
    True: Problem(100, 256, 2, 1, (0.0015, 0.03)),
    False: Problem(100, 256, 2, 3, ()),  # the handout's own rule would stop it after six
}


@np.errstate(all="ignore")
def judge(answer):
    """Return the verdict on an answer, ``P, Q = answer(R, P, Q, steps, alpha, beta)``.

    ``answer.gradient`` says whether it is one to Exercise 1, ``answer.notes`` what is remarkable.
    """
    try:
        decide(answer)
    except Settled as settled:
        verdict = settled.args[0]
    if verdict.kind == WRONG and "loads the faces" in answer.notes:
        text = "it loads the faces by itself, and marking does not fetch them."
        return Verdict("no verdict", "needs the faces", text)
    return verdict


def right(answer, label, text):
    """Return what ends a check of an answer that is right, with all that is remarkable."""
    if not answer.notes:
        return Settled(Verdict(CORRECT, label, text))
    first = label if label in answer.notes else next(iter(answer.notes))
    text = " ".join([text, *answer.notes.values()])
    return Settled(Verdict(NOTED, first, text))


class Followed(NamedTuple):
    """What a run showed: the order that it follows and for how many steps, or what ended it."""

    order: str | None = None
    steps: int = 0
    ended: Verdict | None = None


def follow(answer, problem, orders=None, tolerance=None, steps=None):
    """Run the answer, for these steps or all of the problem's, and find whose path it follows."""
    try:
        factors = answer(*start(problem), steps or problem.steps, *problem.numbers)
    except Settled as settled:
        return Followed(ended=settled.args[0])
    tolerance = tolerance or (2e-5 if answer.gradient else 1e-3)
    for order in orders or (reasons.GRADIENT if answer.gradient else reasons.UPDATE):
        far = distances(factors, path(problem, order))
        place = int(np.argmin(far))
        if not steps and far[problem.steps] <= tolerance / 10:  # if in doubt, it does not stop
            place = problem.steps
        if far[place] <= tolerance:
            return Followed(order, place)
    return Followed()


def squared_error(R, P, Q):
    return np.sum((R - P @ Q.T) ** 2)


def distances(factors, points):
    """Return how far the factors are from each point of a path, relative to where it starts."""
    far = []
    for X, Y in zip(factors, points):
        largest = np.abs(X - Y).max(axis=(1, 2))
        far.append(largest / np.abs(Y[0]).max())
    # Both factors must be near; a path that ends in NaN is far
    return np.nan_to_num(np.maximum(*far), nan=np.inf)


# ---- 1. Presumed right


def decide(answer):
    """Raise the verdict."""
    # More rows than a small batch has, so that one is not taken for all of them
    tall = Problem(25, 7, 3, 12, (0.01, 0.02))
    wide = Problem(8, 11, 2, 20, (0.005, 0.05))
    if not answer.gradient:
        tall, wide = tall._replace(numbers=()), wide._replace(numbers=())
    one, other = follow(answer, tall), follow(answer, wide)
    if one.ended and other.ended and one.ended.label == "ZeroDivisionError":  # by steps // 100
        tall, wide = tall._replace(steps=120), wide._replace(steps=200)
        one, other = follow(answer, tall), follow(answer, wide)
    if one.order is None or one.order != other.order:
        decide_the_unknown(answer, [tall, wide], [one, other])
    order = one.order
    asked, stops = [tall.steps, wide.steps], [one.steps, other.steps]
    if one.steps == other.steps > 2:
        look_whether_it_moves(answer, wide)
    look_at_the_steps(answer, order, asked, stops)
    if order == reasons.BOTH_OLD:
        answer.notes[order] = "So the error can rise, as it cannot with the new P."
    look_at_small_numbers(answer)
    look_at_one_feature(answer, tall)
    look_at_special_data(answer, wide, order)
    look_at_the_faces(answer, order, tall)
    name = "gradient descent" if answer.gradient else "multiplicative updates"
    more = ": the order of the handout's printed figures" if order == "full batch, P first" else ""
    raise right(answer, order, f"{name}, {order}{more}.")


def look_at_the_steps(answer, order, asked, stops):
    """Compare how many steps it takes in two runs with how many it should."""
    if stops == [0, 0]:
        look_whether_it_stops_at_once(answer)
        raise wrong("the start comes back")
    what = "where steps is {} and {}, it takes {} and {}".format(*asked, *stops)
    more = stops[0] - asked[0]
    if more and more == stops[1] - asked[1]:
        raise wrong("steps miscounted", what=what)
    in_proportion = stops[0] * asked[1] == stops[1] * asked[0]
    if order in reasons.REPEATED:
        answer.notes["steps counted otherwise"] = f"A step updates {order}."
    elif in_proportion and stops != asked:
        answer.notes["steps counted otherwise"] = f"{what.capitalize()}."
    else:
        look_where_it_stops(answer, order, stops)


def look_whether_it_stops_at_once(answer):
    """See whether it goes on where the numbers are small, so that a step is."""
    if answer.gradient:
        return
    R, P, Q = start(reasons.SMALL[False][0])
    P, Q = 1e-6 * P, 1e-6 * Q
    with contextlib.suppress(NoNumbers):
        if near(reasons.Experiment(answer)(1e-12 * R, P, Q, 3), (P, Q)):
            return
        raise wrong(
            "stops early",
            what="it goes on only where a step is small, and else gives the start back",
            look="Should it stop at large changes, or at small ones?",
        )


def look_where_it_stops(answer, order, stops):
    """Let it run for long, and see where it stops by itself."""
    problem = Problem(4, 5, 2, 1100, (0.008, 1e-6) if answer.gradient else ())
    found = follow(answer, problem, [order], 1e-4)
    stop, steps = found.steps, problem.steps
    if found.ended and found.ended.label == "RecursionError":  # as it is with the handout's steps
        raise Settled(found.ended)
    if found.order is None or stop == steps:
        return
    R, _, _ = start(problem)
    points = path(problem, order)
    errors = [squared_error(R, P, Q) for P, Q in zip(*points)]
    begin, here, end = errors[0], errors[stop], errors[steps]
    left = (here - end) / (begin - end)
    if left > 0.02:
        what = f"it stops after {stop} of {steps} steps, at a squared error of {here:.3g},"
        what += f" and more steps bring {end:.3g}"
        raise wrong("stops early", what=what, look=where_to_look(answer, [stop, *stops]))
    again = follow(answer, problem, [order], 1e-4, stop + 2)
    if again.order and again.steps > stop + 1:
        raise wrong("stale factors")
    if left > 1e-6 and not stops_by_the_handouts_rule(answer, points, stop):
        answer.notes["stops early"] = "It stops before the last step when the error is small."


def stops_by_the_handouts_rule(answer, points, stop):
    moves = []
    for X in points:
        move = X[stop + 1] - X[stop]
        moves.append(np.linalg.norm(move) / move.size)
    return not answer.gradient and max(moves) <= 0.0015


def where_to_look(answer, stops):
    if max(stops) > 2:
        return "When should it stop?"
    text = "Is there a return or a break inside the loop?"
    if not answer.gradient:
        text += " Or is Pu the same array as P where they are compared, so that e_P is 0?"
    return text


def look_at_small_numbers(answer):
    """See whether what is added to a denominator is small beside the faces' numbers, too."""
    problem = Problem(9, 7, 3, 2, ())
    if not answer.gradient and follow(answer, problem) == Followed():
        reasons.explain(answer, [problem])


def look_at_one_feature(answer, problem):
    found = follow(answer, problem._replace(N=6, M=5, K=1))
    if found.ended and found.ended.label != "too slow":
        answer.notes["not with K = 1"] = f"With K = 1 {found.ended.text}."
    elif not (found.ended or found.order):
        answer.notes["not with K = 1"] = "With K = 1 it is not right."


def look_at_special_data(answer, problem, order):
    """Note what is done with zeros in R in Exercise 1, with negative numbers in Exercise 2."""
    R, *before = start(problem)
    R = reasons.every_third(R, 0 if answer.gradient else -1)
    try:
        factors = answer(R, *before, 2, *problem.numbers)
    except Settled:
        return  # a refusal of negative numbers is fine
    run = reasons.Run(problem, R, before, factors, 2)
    if near(factors, run.step(order), 1e-4):
        return
    for label, (text, then) in reasons.SPECIAL_DATA.items():
        if near(factors, run._replace(R=then(R)).step(order), 1e-4):
            answer.notes[label] = text


def look_at_the_faces(answer, order, problem):
    """See that it is as right at the handout's size, and still is after some more calls."""
    faces = FACES[answer.gradient]
    few = Problem(3, 4, 2, 6, faces.numbers)
    for steps in range(1, few.steps + 1):  # so that the last call is about the twelfth
        follow(answer, few, [order], steps=steps)
    found = follow(answer, faces, [order])
    other_length = "steps counted otherwise" in answer.notes
    if other_length or (found.ended and found.ended.label != "too slow"):  # by steps // 10, say
        faces = faces._replace(steps=problem.steps)
        found = follow(answer, faces, [order])
    if found.steps == faces.steps or (found.order and other_length):
        return
    if found.order:
        look_how_early_it_stops(answer, found.steps, faces.steps)
    elif found.ended and found.ended.label == "too slow":
        answer.notes["slow"] = "A step with the handout's faces takes very long."
    elif found.ended and found.ended.kind != WRONG:
        raise Settled(found.ended)
    elif follow(answer, problem, [order]).order is None:
        raise wrong("not twice the same")
    else:
        raise only_elsewhere(answer, order, faces, found)


def look_how_early_it_stops(answer, stop, steps):
    what = f"it stops after {stop} of {steps} steps with R of 100 x 256 and K = 2"
    if stop == 0:
        raise wrong("stops early", what=what, look="When should it stop?")
    answer.notes["stops early"] = f"I{what[1:]}."


def only_elsewhere(answer, order, faces, found):
    text = reasons.HINTS["only elsewhere"]
    if found.ended:
        return reasons.measured("only elsewhere", f"{text} {found.ended.text}")
    run = reasons.run_of(answer, faces, faces.steps)
    return reasons.parting("only elsewhere", text, run, run.step(order))


# ---- 2. Measured


def decide_the_unknown(answer, problems, runs):
    """Raise the verdict on an answer that follows no order on both problems."""
    tall, wide = problems
    ended = [run.ended for run in runs if run.ended]
    for verdict in ended:
        if verdict.kind != WRONG or verdict.label == "too slow":
            raise Settled(verdict)
    if runs[1].order:
        look_at_more_features(answer, tall, wide)
    look_at_the_faces_alone(answer, ended)
    if ended:
        raise Settled(with_brackets(ended[0]))
    look_whether_it_moves(answer, wide)
    label, finding = "not the update", ""
    experiment = reasons.Experiment(answer)
    with contextlib.suppress(NoNumbers):
        if answer.gradient:
            label, finding = measure_gradient(experiment)
        else:
            look_at_the_product(experiment)
    reasons.explain(answer, problems, label, finding)


def look_at_more_features(answer, tall, wide):
    """See whether it is K that makes the difference, and not a drawing for each feature."""
    three = follow(answer, wide._replace(K=3))
    draws = three.ended and re.search(r"\(line .*\b(plt|fig|axs?|axes)\b", three.ended.text)
    if three.order or draws:
        return
    if follow(answer, tall._replace(K=2)).order:
        raise wrong("K hard-coded")


def look_at_the_faces_alone(answer, ended):
    """Accept what is right as the handout calls it, and see first whether one step is."""
    faces = FACES[answer.gradient]
    found = follow(answer, faces)
    if found.steps != faces.steps:
        return
    for steps in (12, 20):
        longer = follow(answer, faces._replace(steps=steps), [found.order])
        if longer.steps != steps:
            return
    label = "only on the handout's faces"
    answer.notes[label] = "It is right as the handout calls it, on other sizes it is not."
    if ended:
        answer.notes[label] += f" There {ended[0].text}."
    raise right(answer, label, f"{found.order}.")


def with_brackets(verdict):
    """Add what a division before a matrix product means, where an exception's line has one."""
    line = re.search(r"\(line \d+: (.*)\)$", verdict.text)
    try:
        tree = ast.parse(line[1] if line else "")
    except SyntaxError:
        return verdict
    if any(divides_first(node) for node in ast.walk(tree)):
        text = "Python reads a / b @ c as (a / b) @ c. Are brackets missing round the denominator?"
        return verdict._replace(text=f"{verdict.text}. {text}")
    return verdict


def divides_first(node):
    """Whether this is ``a / b @ c``, without brackets."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)):
        return False
    divided = isinstance(getattr(node.left, "op", None), ast.Div)
    return divided and node.left.col_offset == node.col_offset  # no bracket stands before it


def look_whether_it_moves(answer, problem):
    R, *before = start(problem)
    try:
        few, many = (answer(R, *before, steps, *problem.numbers) for steps in (1, 2))
    except Settled:  # perhaps by steps // 10
        return
    for name, X, Y in zip("PQ", many, before):
        if np.array_equal(X, Y):
            raise wrong("one factor never changes", X=name)
    if not np.isfinite(np.vstack(few)).all():
        raise wrong("not finite", what="1 step")
    if near(few, many, 1e-9):
        found = follow(answer, problem._replace(steps=500), steps=1)
        if found.steps > 1:
            raise wrong(
                "steps ignored",
                what=f"it takes {found.steps} steps where steps is 1, and as many where it is 2",
            )
        with contextlib.suppress(NoNumbers):
            reasons.explain_standstill(answer)
        raise wrong("steps ignored", what="1 step or 2, and the result is the same")


class Pulls(NamedTuple):
    """How often data and beta count in the steps of P and of Q, and what part that leaves over."""

    data: np.ndarray
    beta: np.ndarray
    rest: float


def measure_pulls(answer, steps=20, alpha=1e-5, error=0.1):
    """Fit a and b in steps so short that they add up: P += alpha * (2 a E Q - b beta P)."""
    beta = 0.05
    rng = np.random.RandomState(0)
    P, Q = rng.randn(6, 3), rng.randn(5, 3)
    E = error * rng.randn(6, 5)  # below most limits
    factors = answer(P @ Q.T + E, P, Q, steps, alpha, beta)
    if not np.isfinite(np.vstack(factors)).all():
        return Pulls(np.zeros(2), np.zeros(2), np.inf)
    counts, rests = [], []
    pulls = E @ Q, E.T @ P
    for new, X, data in zip(factors, (P, Q), pulls):
        move = (new - X).ravel() / (alpha * steps)
        terms = np.column_stack([2 * data.ravel(), -beta * X.ravel()])
        fitted, *_ = np.linalg.lstsq(terms, move, rcond=None)
        rest = move - terms @ fitted
        counts.append(fitted)
        rests.append(np.linalg.norm(rest) / np.linalg.norm(move))
    return Pulls(*np.transpose(counts), max(rests))


def measure_gradient(answer):
    """Accept what goes down the gradient and reaches the optimum, in whatever order.

    Return a label and a sentence on what stands against it.
    """
    pulls = short = measure_pulls(answer)
    chance = short.rest > 0.02
    if chance:  # if it chooses what it looks at: without an error only beta moves it
        without_error = measure_pulls(answer, 1000, error=0)
        pulls = measure_pulls(answer, 1000)._replace(beta=without_error.beta)
    if pulls.rest > 0.2 or min(pulls.data) <= 0:
        return what_counts(answer, short)
    against = what_stands_against(answer, pulls, chance)
    if against:
        return fallback(answer, against)
    whole, length = whole_counts(pulls, chance), pulls.data.mean()
    if whole is None:
        return what_counts(answer, short)
    steps = int(1000 / min(length, 1)) if chance else 1000
    if not reaches_the_optimum(answer, whole, 1.0 if chance else length, steps):
        return fallback(answer, "Many steps do not take it to the optimum.")
    times = measure_pulls(answer, 40).data[0] / short.data[0]
    if abs(times - 1) > 0.005 and not chance:
        text = f"It reaches the optimum. Twice as many steps take it {2 * times:.3g} times as far."
        answer.notes["steps that change"] = text
    else:
        counts = length, *pulls.beta / pulls.data
        text = "It reaches the optimum. In a step the data count {:.2g} times, beta {:.2g} times"
        answer.notes["a method of its own"] = (text + " for P and {:.2g} for Q.").format(*counts)
    raise right(answer, "", "gradient descent.")


def what_stands_against(answer, pulls, chance):
    """Return what is no gradient descent in how far it goes, or an empty text."""
    length = pulls.data.mean()
    if chance and length < 0.05:
        return f"A step takes {30 * length:.2g} of 30 entries."
    once = measure_pulls(answer, alpha=1e-5).data[0]
    faster = measure_pulls(answer, alpha=2e-5).data[0]
    if abs(faster - once) > (0.5 if chance else 0.1) * abs(once):
        return "With twice the alpha its steps are not twice as long."
    many = measure_pulls(answer, 500, 1e-6).data[0]
    more = measure_pulls(answer, 1000, 1e-6).data[0]
    if more < 0.525 * many:
        return "1000 steps take it hardly further than 500."
    if rises_on_the_faces(answer):
        return "With R of 100 x 256 and K = 2 the first step makes the error larger."
    return ""


def rises_on_the_faces(answer):
    """Whether a short step does not go down where R is as large as the handout's."""
    faces = FACES[True]
    R, P, Q = start(faces)
    try:
        X, Y = answer(R, P, Q, 1, 1e-5, 0.03)
    except NoNumbers:  # perhaps by steps // 10
        return False
    return not squared_error(R, X, Y) <= squared_error(R, P, Q)


def whole_counts(pulls, chance):
    """Return how often beta counts for P and Q: once in a batch, M or N times entry by entry."""
    length, counts = pulls.data.mean(), pulls.beta / pulls.data
    whole = np.maximum(np.round(counts), 1)
    # Counts of 2 and 2, say, are no batches, but beta charged twice
    same_length = abs(length - 1) < 0.03
    batches = min(whole) == 1 or (same_length and whole[0] != whole[1])
    close = 0.25 if chance else 0.03
    alike = np.allclose(pulls.data / length, 1, rtol=close)
    fits = alike and np.allclose(counts, whole, rtol=close)
    return whole if fits and (batches or chance) else None


def what_counts(answer, pulls):
    """Give numbers only where they leave nothing over."""
    if pulls.rest > 0.005:
        return fallback(answer, "")
    text = (
        "In short steps the data count {:.2g} times for P and {:.2g} for Q, beta {:.2g} times and "
        "{:.2g}. Right is once for each, or for beta 5 and 6 times where it goes entry by entry."
    )
    return fallback(answer, text.format(*pulls.data, *pulls.beta))


def fallback(answer, text):
    if reaches_the_optimum(answer, np.ones(2), steps=20, alphas=[1e-4]):
        text = "20 steps with alpha = 0.0001 take it within 5 % of the optimum: another method."
        return "another method", text
    return "not the update", text


def reaches_the_optimum(answer, counts, length=1.0, steps=1000, alphas=(0.01, 0.05)):
    """Compare the objective with the optimum: singular values, soft-thresholded (Cai, 2010)."""
    sizes = np.array([3.0, 2.0])  # the singular values of R
    rng = np.random.RandomState(0)
    U, _ = np.linalg.qr(rng.randn(5, 2))
    V, _ = np.linalg.qr(rng.randn(4, 2))
    R = (U * sizes) @ V.T
    P, Q = rng.rand(5, 2), rng.rand(4, 2)
    beta = 1 / np.sqrt(np.prod(counts))  # each singular value shrinks by half of this root
    optimum = np.sum(0.25 + (sizes - 0.5))
    for alpha in alphas:
        try:
            X, Y = answer(R, P, Q, steps, min(alpha / length, 1.0), beta)
        except NoNumbers:
            return False
        weights = counts @ [np.sum(X**2), np.sum(Y**2)]
        objective = squared_error(R, X, Y) + beta / 2 * weights
        if objective < 1.05 * optimum:
            return True
    return False


def look_at_the_product(answer):
    """Accept factors whose product is right."""
    problem = Problem(6, 5, 3, 20, ())
    X, Y = answer(*start(problem), 20)
    P, Q = (points[20] for points in path(problem, "P first"))
    if near([X @ Y.T], [P @ Q.T], 1e-3):
        answer.notes["scaled otherwise"] = "P and Q are scaled otherwise; their product is right."
        raise right(answer, "P first", "multiplicative updates, P first.")
