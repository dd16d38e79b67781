"""The judge: what is right passes, in whatever style; what is wrong gets a hint that is true.

Whole submissions, in many more styles, are in ``submissions/`` (see test_marking.py).
"""

import ast
import inspect
from functools import partial

import caller
import exercises
import judge
import numpy as np
import pytest

import mf_solutions as mf

MF = partial(caller.check, exercise_name="matrix_factorization")
MU = partial(caller.check, exercise_name="mf_multiplicative_update")


def batch(data=2, beta_P=1, beta_Q=1, data_Q=None, residual=None, of_P=None):
    """The textbook's three lines, with places to go wrong."""
    residual = residual or (lambda R, P, Q: R - P @ Q)
    of_P = of_P or (lambda E, Q: E @ Q.T)

    def f(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        Q = Q.T
        for _ in range(steps):
            E = residual(R, P, Q)
            P = P + alpha * (data * of_P(E, Q) - beta_P * beta * P)
            Q = Q + alpha * ((data if data_Q is None else data_Q) * P.T @ E - beta_Q * beta * Q)
        return P, Q.T

    return f


def loop(visit=lambda r: True, enough=0.0, order=None, step=1):
    """The triple loop of recommender tutorials; ``order`` rearranges the visits."""

    def f(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        P, Q = P.copy(), Q.T.copy()
        visits = [(i, j) for i in range(len(R)) for j in range(len(R[0]))]
        for _ in range(steps):
            if order:
                visits = order(visits)
            for i, j in visits:
                if visit(R[i][j]):
                    e = R[i][j] - np.dot(P[i, :], Q[:, j])
                    for k in range(K):
                        p = P[i][k]
                        P[i][k] += alpha * (2 * e * Q[k][j] - beta * P[i][k])
                        Q[k][j] += alpha * (2 * e * (p if step else P[i][k]) - beta * Q[k][j])
            if np.sum((R - P @ Q) ** 2) < enough:
                break
        return P, Q.T

    return f


def update(
    rule=lambda X, top, bottom: X * top / bottom,
    enough=0.001,
    most=5000,
):
    """The handout's second function, with places to go wrong."""

    def f(R, P, Q, steps=5000):
        for _ in range(min(steps, most)):
            Pu = rule(P, R @ Q, P @ Q.T @ Q)
            Qu = rule(Q, R.T @ Pu, Q @ Pu.T @ Pu)
            e_P = np.linalg.norm(Pu - P) / P.size
            e_Q = np.linalg.norm(Qu - Q) / Q.size
            if e_P < enough and e_Q < enough:
                break
            P, Q = Pu, Qu
        return P, Q

    return f


def stale(R, P, Q, steps=5000):
    kept = P, Q
    for step in range(steps):
        P_new, Q_new = mf.multiplicative_step(R, P, Q)
        if np.linalg.norm(P_new - P) / P.size < 0.001 > np.linalg.norm(Q_new - Q) / Q.size:
            return kept
        if step % 4 == 0:
            kept = P, Q
        P, Q = P_new, Q_new
    return P, Q


def entry_by_entry(R, P, Q, steps=5000):
    """Multiplicative, each entry from the newest values."""
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        for X, Y, data in ((P, Q, R), (Q, P, R.T)):
            for i, k in np.ndindex(X.shape):
                X[i, k] *= data[i] @ Y[:, k] / (X[i] @ (Y.T @ Y[:, k]))
    return P, Q


def normalised(R, P, Q, steps=5000):
    """Multiplicative, with the columns of Q brought to length 1 after each step."""
    for _ in range(steps):
        P, Q = update()(R, P, Q, 1)
        length = np.linalg.norm(Q, axis=0)
        P, Q = P * length, Q / length
    return P, Q


def kullback_leibler(R, P, Q, steps=5000):
    for _ in range(steps):
        P = P * ((R / (P @ Q.T)) @ Q) / Q.sum(axis=0)
        Q = Q * ((R / (P @ Q.T)).T @ P) / P.sum(axis=0)
    return P, Q


def simultaneous(R, P, Q, steps=5000):
    for _ in range(steps):
        P, Q = P * (R @ Q) / (P @ (Q.T @ Q)), Q * (R.T @ P) / (Q @ (P.T @ P))
    return P, Q


def least_squares(R, P, Q, K, steps, alpha, beta):
    for _ in range(steps):
        P = np.linalg.solve(Q.T @ Q + beta / 2 * np.eye(K), Q.T @ R.T).T
        Q = np.linalg.solve(P.T @ P + beta / 2 * np.eye(K), P.T @ R).T
    return P, Q


def in_place(f):
    def changed(R, P, Q, *numbers):
        P[:], Q[:] = f(R, P, Q, *numbers)
        return P, Q

    return changed


def with_steps(of):
    return lambda R, P, Q, K, steps, *numbers: batch()(R, P, Q, K, of(steps), *numbers)


def stepwise(alpha_of=lambda alpha, step: alpha, limit=lambda d: d, momentum=0.0):
    """Gradient descent with a falling rate, clipped gradients or momentum."""

    def f(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        v_P = v_Q = 0
        for step in range(steps):
            rate = alpha_of(alpha, step)
            E = R - P @ Q.T
            v_P = momentum * v_P + rate * limit(2 * E @ Q - beta * P)
            P = P + v_P
            v_Q = momentum * v_Q + rate * limit(2 * E.T @ P - beta * Q)
            Q = Q + v_Q
        return P, Q

    return f


def two_features(R, P, Q, K, steps, alpha, beta):
    P_two, Q_two = batch()(R, P[:, :2], Q[:, :2], 2, steps, alpha, beta)
    return np.hstack([P_two, P[:, 2:]]), np.hstack([Q_two, Q[:, 2:]])


def second_feature(R, P, Q, K, *numbers):
    P[:, 1] *= 1  # there is none when K = 1
    return batch()(R, P, Q, K, *numbers)


def in_halves(R, P, Q, K, steps, alpha, beta):
    """Two batches of rows a step: charges Q twice, and P once."""
    P = P.copy()
    for _ in range(steps):
        for half in (slice(0, None, 2), slice(1, None, 2)):
            P[half], Q = batch()(R[half], P[half], Q, K, 1, alpha, beta)
    return P, Q


def random_entries(R, *rest):
    """Draw the entries with replacement: an entry may come twice in a step, or not at all."""
    rng = np.random.RandomState(0)

    def draw(visits):
        everything = [*np.ndindex(R.shape)]
        return [everything[i] for i in rng.randint(R.size, size=R.size)]

    return loop(order=draw)(R, *rest)


def one_entry(R, P, Q, K, steps, alpha, beta):
    """Draw one entry a step, not as many as there are."""
    rng = np.random.RandomState(0)
    everything = [*np.ndindex(R.shape)]
    draws = [everything[i] for i in rng.randint(R.size, size=steps)]
    return loop(order=lambda _: draws)(R, P, Q, K, 1, alpha, beta)


def too_strong(R, P, Q, K, steps, alpha, beta):
    """A bracket is missing: alpha times the data, beta by itself."""
    for _ in range(steps):
        E = R - P @ Q.T
        P, Q = P + alpha * 2 * E @ Q - beta * P, Q + alpha * 2 * E.T @ P - beta * Q
    return P, Q


def without_the_last_row(R, P, Q, *numbers):
    P_new, Q_new = loop()(R[:-1], P[:-1], Q, *numbers)
    return np.vstack([P_new, P[-1:]]), Q_new


def same_gradient_again(R, P, Q, K, steps, alpha, beta):
    P_new, Q_new = batch()(R, P, Q, K, 1, alpha, beta)
    return P + steps * (P_new - P), Q + steps * (Q_new - Q)


def reversed_test(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    for _ in range(steps):
        P, Q = batch()(R, P, Q, K, 1, alpha, beta)
        if np.sum((R - P @ Q.T) ** 2) > 0.001:
            break
    return P, Q


def recursive(R, P, Q, K, steps, alpha, beta):
    if steps == 0:
        return P, Q
    return recursive(R, *batch()(R, P, Q, K, 1, alpha, beta), K, steps - 1, alpha, beta)


def in_turn(R, P, Q, steps=5000):
    """Multiplicative, P and Q of a feature before the next feature."""
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        for k in range(P.shape[1]):
            P[:, k] *= R @ Q[:, k] / (P @ (Q.T @ Q[:, k]))
            Q[:, k] *= R.T @ P[:, k] / (Q @ (P.T @ P[:, k]))
    return P, Q


def needs_a_module(*arguments):
    import module_that_is_missing  # noqa: F401


def from_features(kernel):
    return lambda R, P, Q, K, *numbers: kernel(R, P, Q, *numbers)


def square(E, Q):
    return E.reshape(100, 256) @ Q.T


shuffled = loop(order=lambda visits: np.random.RandomState(0).permutation(visits).tolist())
by_column = loop(order=lambda visits: sorted(visits, key=lambda visit: visit[1]))
right, note, wrong = judge.CORRECT, judge.NOTED, judge.WRONG
own = "a method of its own"

ANSWERS = [  # check, answer, kind, label
    (MF, batch(), right, "full batch, P first"),
    (MF, from_features(mf.sgd), right, "online, both from the old values"),
    (MF, loop(), right, "online, both from the old values"),
    (MF, loop(step=0), right, "online, P first"),
    (MF, by_column, right, "online, both from the old values"),
    (MF, shuffled, note, own),
    (MF, in_halves, note, own),
    (MF, random_entries, note, own),
    (MF, stepwise(limit=lambda d: np.clip(d, -1, 1)), note, own),
    (MF, lambda *a: batch()(*a[:5], a[5] / a[0].size, a[6]), note, own),
    (MF, stepwise(momentum=0.5), note, "steps that change"),
    (MF, stepwise(lambda alpha, step: alpha / (1 + step / 1000)), note, "steps that change"),
    (MF, batch(of_P=square), note, "only on the handout's faces"),
    (MF, second_feature, note, "not with K = 1"),
    (MF, loop(enough=0.001), note, "stops early"),
    (MF, in_place(batch()), note, "changes its arguments"),
    (MF, lambda *a: (*batch()(*a), 1), note, "more than two values"),
    (MF, lambda *a: [X.tolist() for X in batch()(*a)], note, "lists returned"),
    (MF, batch(residual=lambda R, P, Q: R), wrong, "not the update"),
    (MF, without_the_last_row, wrong, "not the update"),
    (MF, one_entry, wrong, "not the update"),
    (MF, too_strong, wrong, "not the update"),
    (MF, same_gradient_again, wrong, "not the update"),
    (MF, stepwise(lambda alpha, step: alpha**2), wrong, "not the update"),
    (MF, stepwise(lambda alpha, step: alpha / 2 ** (step // 10)), wrong, "not the update"),
    (MF, recursive, wrong, "RecursionError"),
    (MF, least_squares, wrong, "another method"),
    (MF, loop(visit=lambda r: r > 0), wrong, "entries with R <= 0 skipped"),
    (MF, batch(data=-2), wrong, "sign of the gradient"),
    (MF, batch(data_Q=-2), wrong, "sign of the gradient"),
    (MF, batch(beta_P=-1, beta_Q=-1), wrong, "sign of beta"),
    (MF, batch(beta_Q=-1), wrong, "sign of beta"),
    (MF, batch(beta_Q=0), wrong, "beta ignored"),
    (MF, lambda *a: batch()(*a[:6], 0.02), wrong, "beta ignored"),
    (MF, batch(beta_P=2, beta_Q=2), wrong, "beta counted again"),
    (MF, batch(data=1), wrong, "2 missing"),
    (MF, batch(data_Q=1), wrong, "2 missing"),
    (MF, batch(data_Q=0, beta_Q=0), wrong, "one factor never changes"),
    (MF, lambda *a: (batch()(*a)[0], batch()(*a)[1].T), wrong, "wrong shapes"),
    (MF, lambda *a: batch()(*a)[0], wrong, "no pair of factors"),
    (MF, lambda *a: print(batch()(*a)), wrong, "no pair of factors"),
    (MF, two_features, wrong, "K hard-coded"),
    (MF, with_steps(lambda n: 1), wrong, "stops early"),
    (MF, with_steps(lambda n: 100), wrong, "steps ignored"),
    (MF, with_steps(lambda n: n + 1), wrong, "steps ignored"),
    (MF, with_steps(lambda n: min(n, 101)), wrong, "stops early"),
    (MF, reversed_test, wrong, "stops early"),
    (MF, stepwise(lambda alpha, step: 0.002), wrong, "not the update"),
    (MF, lambda *a: a[1:3], wrong, "the start comes back"),
    (MF, lambda *a: [X * np.nan for X in batch()(*a)], wrong, "not finite"),
    (MF, lambda *a: a[0][99], wrong, "IndexError"),
    (MF, lambda *a: exit(len(a)), wrong, "SystemExit"),
    (MF, batch(residual=lambda R, P, Q: R - P @ Q.T), wrong, "ValueError"),
    (MF, (1, 2), wrong, "not a function"),
    (MF, needs_a_module, "no verdict", "needs module_that_is_missing"),
    (MU, update(), right, "P first"),
    (MU, update(lambda X, top, bottom: X * top / (bottom + 1e-5)), right, "P first"),
    (MU, update(lambda X, top, bottom: X * top / np.maximum(bottom, 1e-16)), right, "P first"),
    (MU, mf.multiplicative_update, right, "P first"),
    (MU, lambda R, P, Q, steps: update()(R.T, Q, P, steps)[::-1], right, "Q first"),
    (MU, entry_by_entry, right, "feature by feature"),
    (MU, in_turn, right, "feature by feature, both in turn"),
    (MU, simultaneous, note, "both from the old values"),
    (MU, normalised, note, "scaled otherwise"),
    (MU, update(enough=0.5), note, "stops early"),
    (MU, update(lambda X, top, bottom: X * top / (bottom + 1e-3)), right, "P first"),
    (MU, update(lambda X, t, b: X * t / (b + 0.01)), wrong, "not the update"),
    (MU, update(lambda X, t, b: X * t / (b + 1)), wrong, "not the update"),
    (MU, in_place(update()), note, "changes its arguments"),
    (MU, kullback_leibler, wrong, "another method"),
    (MU, update(lambda X, top, bottom: X * np.sqrt(top / bottom)), wrong, "another method"),
    (MU, update(lambda X, top, bottom: X * bottom / top), wrong, "fraction upside down"),
    (MU, update(lambda X, top, bottom: X + top - bottom), wrong, "additive step"),
    (MU, update(most=1), wrong, "stops early"),
    (MU, lambda R, P, Q, n: update()(R, P, Q, 5000), wrong, "steps ignored"),
    (MU, stale, wrong, "stale factors"),
    (MU, update(lambda X, t, b: X + 0.001 * (t - b)), wrong, "not the update"),
    (MU, lambda *a: a[1:3], wrong, "the start comes back"),
]


@pytest.mark.parametrize("check, f, kind, label", ANSWERS)
def test_an_answer_gets_its_verdict(check, f, kind, label):
    found = check(f)
    assert found[:2] == (kind, label), found
    assert found.text and found.text.isprintable() and repr(found) == str(found)
    assert str(found).startswith(f"{kind}: ") and max(map(len, str(found).splitlines())) <= 90


def test_every_hint_is_given_to_some_answer():
    assert {*judge.HINTS} - {label for _, _, _, label in ANSWERS} == set()


@pytest.mark.parametrize("label", judge.GRADIENT)
def test_every_order_is_told_from_the_others_and_reaches_the_optimum(label):
    def f(R, P, Q, K, steps, alpha, beta):
        for _ in range(steps):
            P, Q = judge._step(label, R, P, Q, alpha, beta)
        return P, Q

    assert MF(f)[:2] == (right, label)
    counts = {"full": (1, 1), "onli": (4, 5), "a ro": (1, 5), "a co": (4, 1)}[label[:4]]
    assert judge._reaches_the_optimum(caller.Answer(f, True), np.array(counts))


AS_USUAL = "R, P, Q, K, steps, alpha, beta"
own_names = "parameters of its own"
SIGNATURES = [  # of an answer that is right, what it hands on, and the first thing to be said
    ("R, P, Q, K, beta, steps, alpha", AS_USUAL, "full batch, P first"),
    ("R, P, Q, K, *, alpha=0.002, beta=0.02, steps=500", AS_USUAL, "full batch, P first"),
    ("R, P, Q, K, steps=500, alpha=0.002, beta=0.02, tol=None", AS_USUAL, "full batch, P first"),
    ("K, Q, P, R, *, steps, alpha, **kwargs", f"{AS_USUAL[:-4]}**kwargs", "full batch, P first"),
    ("R, P, Q, K, steps=500, alpha=0.002, beta=0.1", AS_USUAL, "another default of beta"),
    ("X, W, H, k, n=500, lr=1.0, reg=0.0", "X, W, H, k, n, lr, reg", own_names),
    ("X, W, H, k, n, lr, reg", "X, W, H, k, n, lr, reg", own_names),
    ("R, P, Q, steps, alpha, beta", "R, P, Q, 0, steps, alpha, beta", own_names),
    ("R, P, Q, steps, alpha, beta, k=9", "R, P, Q, {9: 0}[k], steps, alpha, beta", own_names),
]


@pytest.mark.parametrize("signature, call, label", SIGNATURES)
def test_an_answer_is_called_as_its_signature_wants(signature, call, label):
    f = eval(f"lambda {signature}: answer({call})", {"answer": batch()})
    assert MF(f)[:2] == (right if label == "full batch, P first" else note, label)


N, M, K = 100, 256, 2


def rows():
    return range(N)


def of_the_notebook(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        E = np.array([[R[i, j] - P[i] @ Q[j] for j in range(M)] for i in rows()])
        P = P + alpha * (2 * E @ Q - beta * P)
        Q = Q + alpha * (2 * E.T @ P - beta * Q)
    return P, Q


def test_names_of_the_notebook_are_right_with_a_note_and_stay_as_they_are():
    found = MF(of_the_notebook)
    assert found[:2] == (note, "names of the notebook") and "M and N" in found.text
    assert (N, M, K) == (100, 256, 2)


def of_the_faces(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
    return batch()(R, P, Q, K, steps, alpha * 25_600 / (N * M), beta)


def drawing(R, P, Q, K, *numbers):
    axes = [None] * 2
    for k in range(K):
        axes[k] = P[:, k]
    return batch()(R, P, Q, K, *numbers)


@pytest.mark.parametrize("f", [of_the_faces, drawing])
def test_what_is_right_on_the_faces_alone_is_right_with_a_note(f):
    found = MF(f)
    assert found.kind == note and "on other sizes it is not" in found.text


class TestNotAttempted:
    def handout_1(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        """Write your own."""
        Q = Q.T
        for _ in range(steps):
            # TODO
            ...
            print("here")
        return P, Q.T

    def handout_2(R, P, Q, steps=5000):
        for step in range(steps):
            Pu, Qu = P, Q
            e_P = np.linalg.norm(Pu - P) / P.size
            e_Q = np.linalg.norm(Qu - Q) / Q.size
            if e_P < 0.001 and e_Q < 0.001:
                print("step is:", step)
                break
            P = Pu
            Q = Qu
        return P, Q

    def refusing(*arguments):
        raise NotImplementedError

    @pytest.mark.parametrize("f", [handout_1, handout_2, refusing, ...])
    def test_it_is_as_blank_as_the_handout(self, f):
        assert MF(f)[:2] == MU(f)[:2] == ("not attempted", "")

    @pytest.mark.parametrize("line", ["E = R - P @ Q.T", "P = P", "steps += 0", "sorted(P)"])
    @pytest.mark.parametrize("f", [handout_1, handout_2])
    def test_whatever_is_calculated_is_an_attempt(self, f, line):
        function = caller.tree_of(f)
        assert exercises.is_blank(function)
        function.body[-1:-1] = ast.parse(line).body
        assert not exercises.is_blank(function)


def test_prints_do_not_bury_the_verdict(capsys):
    def noisy(*arguments):
        print("step is: 4")
        return batch()(*arguments)

    assert MF(noisy).kind == right
    assert capsys.readouterr() == ("", "")


def test_a_check_runs_few_entries_few_times():
    visits = 0

    def counted(R, P, Q, K, steps, alpha, beta):
        nonlocal visits
        visits += steps * R.size
        return batch()(R, P, Q, K, steps, alpha, beta)

    assert MF(counted).kind == right
    assert visits <= 25_600  # one pass over the faces


def test_the_judge_knows_nothing_of_the_project_and_is_short():
    source = inspect.getsource(judge)
    assert "mf_solutions" not in source and len(source.splitlines()) <= 400
