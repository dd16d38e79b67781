"""The checks of students' answers: what is right passes, what is wrong gets its hint.

Whole submissions, in many more styles, are in ``submissions/`` (see test_marking.py).
"""

import itertools
import signal
import threading
import time

import checks as mf
import numpy as np
import pytest

MF, MU = mf.check_matrix_factorization, mf.check_multiplicative_update


def verdict(check, f):
    try:
        found = check(f)
        assert found.kind != "wrong"
        return found
    except mf.WrongAnswer as error:
        assert str(error) == str(error.verdict) and error.verdict.kind == "wrong"
        return error.verdict


def batch(data=2, beta_P=1, beta_Q=1, data_Q=None, residual=None, of_P=None, of_Q=None):
    """The textbook's three lines, with places to go wrong."""
    residual = residual or (lambda R, P, Q: R - P @ Q)
    of_P = of_P or (lambda E, Q: E @ Q.T)
    of_Q = of_Q or (lambda E, P: P.T @ E)

    def f(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        Q = Q.T
        for _ in range(steps):
            E = residual(R, P, Q)
            P = P + alpha * (data * of_P(E, Q) - beta_P * beta * P)
            Q = Q + alpha * ((data if data_Q is None else data_Q) * of_Q(E, P) - beta_Q * beta * Q)
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
    top_P=lambda R, Q: R @ Q,
    bottom_P=lambda P, Q: P @ Q.T @ Q,
    top_Q=lambda R, P: R.T @ P,
    bottom_Q=lambda Q, P: Q @ P.T @ P,
    enough=0.001,
):
    """The handout's second function, with places to go wrong."""

    def f(R, P, Q, steps=5000):
        for _ in range(steps):
            Pu = rule(P, top_P(R, Q), bottom_P(P, Q))
            Qu = rule(Q, top_Q(R, Pu), bottom_Q(Q, Pu))
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
    """Multiplicative, each entry from the newest values: in no table, and right."""
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        for X, Y, data in ((P, Q, R), (Q, P, R.T)):
            for i, k in np.ndindex(X.shape):
                X[i, k] *= data[i] @ Y[:, k] / (X[i] @ (Y.T @ Y[:, k]))
    return P, Q


def in_place(f):
    def changed(R, P, Q, *numbers):
        P[:], Q[:] = f(R, P, Q, *numbers)
        return P, Q

    return changed


def with_steps(f, steps):
    return lambda R, P, Q, K, _, *numbers: f(R, P, Q, K, steps, *numbers)


def mean_gradient(R, P, Q, K, steps, alpha, beta):
    return batch()(R, P, Q, K, steps, alpha / R.size, beta)


def small_change(R, P, Q, K, steps, alpha, beta):
    """The rule of the handout's second function, in the first: it holds the old factors."""
    for _ in range(steps):
        Pu, Qu = batch()(R, P, Q, K, 1, alpha, beta)
        if np.linalg.norm(Pu - P) / P.size < 0.001 > np.linalg.norm(Qu - Q) / Q.size:
            break
        P, Q = Pu, Qu
    return P, Q


def in_float32(R, P, Q, K, *numbers):
    return batch()(*(X.astype(np.float32) for X in (R, P, Q)), K, *numbers)


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


def momentum(R, P, Q, K, steps, alpha, beta):
    v_P, v_Q = 0, 0
    for _ in range(steps):
        P_new, Q_new = batch()(R, P, Q, K, 1, alpha, beta)
        v_P, v_Q = 0.5 * v_P + P_new - P, 0.5 * v_Q + Q_new - Q
        P, Q = P + v_P, Q + v_Q
    return P, Q


def random_entries(R, P, Q, K, steps, alpha, beta):
    """Draw the entries with replacement: an entry may come twice in a step, or not at all."""
    rng = np.random.RandomState(0)

    def draw(visits):
        everything = [*np.ndindex(R.shape)]
        return [everything[i] for i in rng.randint(R.size, size=R.size)]

    return loop(order=draw)(R, P, Q, K, steps, alpha, beta)


def one_feature_only(R, P, Q, K, steps, alpha, beta):
    P, Q = P.copy(), Q.copy()
    for _ in range(steps):
        for (i, j), r in np.ndenumerate(R):
            for k in range(K):
                e = r - P[i, k] * Q[j, k]
                P[i, k] += alpha * (2 * e * Q[j, k] - beta * P[i, k])
                Q[j, k] += alpha * (2 * e * P[i, k] - beta * Q[j, k])
    return P, Q


def start_of_its_own(R, P, Q, *numbers):
    rng = np.random.RandomState(0)
    return batch()(R, rng.rand(*P.shape), rng.rand(*Q.shape), *numbers)


def start_drawn_anew(R, P, Q, *numbers):
    return batch()(R, np.random.rand(*P.shape), np.random.rand(*Q.shape), *numbers)


def without_the_last_row(R, P, Q, *numbers):
    P_new, Q_new = loop()(R[:-1], P[:-1], Q, *numbers)
    return np.vstack([P_new, P[-1:]]), Q_new


def normalised(R, P, Q, steps=5000):
    """Multiplicative, with the columns of Q brought to length 1 after each step."""
    for _ in range(steps):
        P, Q = update()(R, P, Q, 1)
        length = np.linalg.norm(Q, axis=0)
        P, Q = P * length, Q / length
    return P, Q


def same_gradient_again(R, P, Q, K, steps, alpha, beta):
    P_new, Q_new = batch()(R, P, Q, K, 1, alpha, beta)
    return P + steps * (P_new - P), Q + steps * (Q_new - Q)


def from_features(kernel):
    return lambda R, P, Q, K, *numbers: kernel(R, P, Q, *numbers)


shuffled = loop(order=lambda visits: np.random.RandomState(0).permutation(visits).tolist())
by_column = loop(order=lambda visits: sorted(visits, key=lambda visit: visit[1]))
note, wrong = "correct, with a note", "wrong"

ANSWERS = [  # check, answer, kind, label
    (MF, batch(), "correct", "full batch, P first"),
    (MF, from_features(mf.gradient_descent), "correct", "full batch, P first"),
    (MF, from_features(mf.sgd), "correct", "online, both from the old values"),
    (MF, loop(), "correct", "online, both from the old values"),
    (MF, loop(step=0), "correct", "online, P first"),
    (MF, by_column, "correct", "online, both from the old values"),
    (MF, shuffled, "correct", "another method that works"),
    (MF, in_halves, "correct", "another method that works"),
    (MF, momentum, "correct", "another method that works"),
    (MF, random_entries, "correct", "another method that works"),
    (MF, one_feature_only, wrong, "other features forgotten"),
    (MF, batch(residual=lambda R, P, Q: (R - P @ Q) ** 2), wrong, "error squared"),
    (MF, batch(residual=lambda R, P, Q: R), wrong, "error missing"),
    (MF, start_of_its_own, wrong, "start ignored"),
    (MF, start_drawn_anew, wrong, "start ignored"),
    (MF, without_the_last_row, wrong, "not the update"),
    (MF, loop(enough=0.001), note, "stops early"),
    (MF, in_place(batch()), note, "changes its arguments"),
    (MF, mean_gradient, note, "steps of another length"),
    (MF, loop(visit=lambda r: r > 0), wrong, "entries with R <= 0 skipped"),
    (
        MF,
        batch(residual=lambda R, P, Q: (R - P @ Q) * (R > 0)),
        wrong,
        "entries with R <= 0 skipped",
    ),
    (MF, batch(data=-2), wrong, "sign of the gradient"),
    (MF, batch(data=-2, beta_P=-1, beta_Q=-1), wrong, "sign of the gradient"),
    (MF, batch(data_Q=-2), wrong, "sign of the gradient"),
    (MF, batch(beta_P=-1, beta_Q=-1), wrong, "sign of beta"),
    (MF, batch(beta_Q=-1), wrong, "sign of beta"),
    (MF, batch(beta_P=0, beta_Q=0), wrong, "beta ignored"),
    (MF, batch(beta_Q=0), wrong, "beta ignored"),
    (MF, batch(data=1), wrong, "2 missing"),
    (MF, batch(data_Q=1), wrong, "2 missing"),
    (MF, batch(beta_P=2, beta_Q=2), wrong, "not the update"),
    (MF, batch(data=0, data_Q=2, beta_P=0), wrong, "one factor never changes"),
    (MF, batch(data_Q=0, beta_Q=0), wrong, "one factor never changes"),
    (MF, lambda *a: (batch()(*a)[0], batch()(*a)[1].T), wrong, "Q untransposed"),
    (MF, lambda *a: batch()(*a)[::-1], wrong, "wrong shapes"),
    (MF, lambda *a: batch()(*a)[0], wrong, "no pair of factors"),
    (MF, lambda *a: print(batch()(*a)), wrong, "no pair of factors"),
    (MF, two_features, wrong, "K hard-coded"),
    (MF, second_feature, wrong, "K hard-coded"),
    (MF, same_gradient_again, wrong, "not the update"),
    (MF, with_steps(batch(), 1), wrong, "steps ignored"),
    (MF, with_steps(batch(), 100), wrong, "steps ignored"),
    (MF, lambda *a: batch()(*a[:4], a[4] + 1, *a[5:]), wrong, "steps ignored"),
    (MF, lambda *a: batch()(*a[:4], a[4] - 1, *a[5:]), wrong, "steps ignored"),
    (MF, small_change, note, "stops early"),
    (MF, in_float32, "correct", "full batch, P first"),
    (MF, lambda R, P, Q, K, n, alpha, b: batch()(R, P, Q, K, n, 0.002, b), wrong, "alpha ignored"),
    (MF, lambda *a: [X * np.nan for X in batch()(*a)], wrong, "not finite"),
    (MF, lambda R: R, wrong, "TypeError"),
    (MF, lambda *a: a[0][99], wrong, "IndexError"),
    (MF, lambda *a: exit(len(a)), wrong, "SystemExit"),
    (MF, batch(residual=lambda R, P, Q: R - P @ Q.T), wrong, "transpose missing"),
    (MF, batch(of_P=lambda E, Q: E @ Q), wrong, "transpose missing"),
    (MF, batch(of_Q=lambda E, P: P @ E), wrong, "transpose missing"),
    (
        MF,
        batch(of_P=lambda E, Q: E * Q),
        wrong,
        "elementwise where a matrix product is needed",
    ),
    (
        MF,
        batch(residual=lambda R, P, Q: R - P * Q.T),
        wrong,
        "elementwise where a matrix product is needed",
    ),
    (MU, update(), "correct", "P first"),
    (MU, update(enough=0), "correct", "P first"),
    (MU, update(enough=0.01), "correct", "P first"),
    (MU, update(lambda X, top, bottom: X * top / (bottom + 1e-5)), "correct", "P first"),
    (MU, update(lambda X, top, bottom: X * top / np.maximum(bottom, 1e-16)), "correct", "P first"),
    (MU, update(lambda X, t, b: X * (t + 1e-9) / (b + 1e-9)), "correct", "P first"),
    (MU, update(lambda X, top, bottom: X * (top / bottom + 1e-5)), "correct", "P first"),
    (MU, mf.multiplicative_update, "correct", "P first"),
    (
        MU,
        lambda R, P, Q, steps: mf.multiplicative_update(R.T, Q, P, steps)[::-1],
        "correct",
        "Q first",
    ),
    (MU, normalised, "correct", "another method that works"),
    (MU, entry_by_entry, "correct", "another method that works"),
    (MU, in_place(update()), note, "changes its arguments"),
    (MU, update(lambda X, top, bottom: X * bottom / top), wrong, "fraction upside down"),
    (MU, update(lambda X, top, bottom: X + top / bottom), wrong, "additive step"),
    (MU, update(lambda X, top, bottom: X + top - bottom), wrong, "additive step"),
    (MU, update(lambda X, top, bottom: top / bottom), wrong, "old factor missing"),
    (MU, lambda R, P, Q, n: (P, update()(R, P, Q, n)[1]), wrong, "one factor never changes"),
    (MU, lambda R, P, Q, n: update()(R, P, Q, 1), wrong, "steps ignored"),
    (MU, lambda R, P, Q, n: update()(R, P, Q, 5000), wrong, "steps ignored"),
    (MU, lambda R, P, Q, n: update()(R, P, Q, n + 1), wrong, "steps ignored"),
    (MU, lambda R, P, Q, n: update()(R, P, Q, n - 1), wrong, "steps ignored"),
    (MU, stale, wrong, "stale factors"),
    (MU, update(bottom_P=lambda P, Q: P @ Q @ Q.T), wrong, "transpose missing"),
    (MU, update(top_Q=lambda R, P: R @ P), wrong, "transpose missing"),
    (
        MU,
        update(top_P=lambda R, Q: R * Q),
        wrong,
        "elementwise where a matrix product is needed",
    ),
    (
        MU,
        update(bottom_Q=lambda Q, P: Q * (P.T @ P)),
        wrong,
        "elementwise where a matrix product is needed",
    ),
    (
        MU,
        update(lambda X, top, bottom: X @ (top / bottom)),
        wrong,
        "matrix product where elementwise is needed",
    ),
    (
        MU,
        update(lambda X, top, bottom: X @ top / bottom),
        wrong,
        "matrix product where elementwise is needed",
    ),
    (MU, update(lambda X, t, b: X + 0.001 * (t - b)), wrong, "not the update"),
    (MU, lambda R, P, Q, n: mf.gradient_descent(R, P, Q, n, 0.01, 0), wrong, "not the update"),
    (MU, update(lambda X, t, b: np.maximum(X + 0.05 * (t - b), 0)), wrong, "not the update"),
]


@pytest.mark.parametrize("check, f, kind, label", ANSWERS)
def test_an_answer_gets_its_verdict(check, f, kind, label):
    found = verdict(check, f)
    assert (found.kind, found.label) == (kind, label)
    assert found.text and found.text.isprintable()


def simultaneous(R, P, Q, steps=5000):
    for _ in range(steps):
        P, Q = P * (R @ Q) / (P @ (Q.T @ Q)), Q * (R.T @ P) / (Q @ (P.T @ P))
    return P, Q


def test_the_equations_read_literally_are_right_with_a_note():
    found = verdict(MU, simultaneous)
    assert found[:2] == ("correct, with a note", "both from the old values")
    assert "the error can rise" in found.text


def test_every_hint_and_every_note_is_given_to_some_answer():
    given = {label for _, _, _, label in ANSWERS} | {"both from the old values", "too slow"}
    assert {*mf._HINTS, *mf._NOTES} - given == set()


@pytest.mark.parametrize("visits, order", [*itertools.product(mf._VISITS, mf._ORDERS)])
def test_every_order_is_told_from_the_others_and_reaches_the_optimum(visits, order):
    def f(R, P, Q, K, steps, alpha, beta):
        return mf._descent(visits, order, R, P, Q, steps, alpha, beta)

    found = verdict(MF, f)
    assert found.kind == "correct"
    assert found.label == f"{visits}, {order}"
    assert mf._reaches_the_optimum(mf._Answer(f))


class TestNotAttempted:
    def handout_1(R, P, Q, K, steps=500, alpha=0.002, beta=0.02):
        Q = Q.T
        for _ in range(steps):
            ...
        return P, Q.T

    def handout_2(R, P, Q, steps=5000):
        for step in range(steps):
            # To do here

            e_P = np.sqrt(np.sum((Pu - P) ** 2, axis=(0, 1))) / P.size  # noqa: F821
            e_Q = np.sqrt(np.sum((Qu - Q) ** 2, axis=(0, 1))) / Q.size  # noqa: F821
            if e_P < 0.001 and e_Q < 0.001:
                print("step is:", step)
                break
            P = Pu  # noqa: F821
            Q = Qu  # noqa: F821
        return P, Q

    def nothing(*arguments):
        pass

    def refusing(*arguments):
        raise NotImplementedError

    def unchanged(R, P, Q, *numbers):
        return P, Q

    @pytest.mark.parametrize("f", [handout_1, nothing, refusing, unchanged, ...])
    def test_exercise_1(self, f):
        assert verdict(MF, f)[:2] == ("not attempted", "")

    @pytest.mark.parametrize("f", [handout_2, nothing, refusing, unchanged, ...])
    def test_exercise_2(self, f):
        assert verdict(MU, f)[:2] == ("not attempted", "")

    def test_half_an_answer_is_an_attempt(self):
        def half(R, P, Q, steps=5000):
            for _ in range(steps):
                Pu = P * (R @ Q) / (P @ (Q.T @ Q))
                P, Q = Pu, Qu  # noqa: F821
            return P, Q

        assert verdict(MU, half)[:2] == ("wrong", "NameError")

    def test_so_is_one_that_forgets_to_return(self):
        def forgetful(R, P, Q, steps=5000):
            for _ in range(steps):
                P = P * (R @ Q) / (P @ (Q.T @ Q))

        assert verdict(MU, forgetful)[:2] == ("wrong", "no pair of factors")


class TestTimeLimit:
    """Two answers that never return, under a limit of half a second."""

    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch):
        original = mf._time_limit
        monkeypatch.setattr(mf, "_time_limit", lambda seconds: original(0.5))

    def endless(self, *arguments):
        while True:
            time.sleep(0.01)

    def test_an_endless_loop_is_interrupted(self):
        assert verdict(MF, self.endless)[:2] == ("wrong", "too slow")
        assert verdict(MU, self.endless)[:2] == ("wrong", "too slow")

    def test_so_is_one_that_swallows_the_first_interrupt(self):
        def stubborn(*arguments):
            try:
                self.endless()
            except:  # noqa: E722
                self.endless()

        assert verdict(MF, stubborn)[:2] == ("wrong", "too slow")

    def test_an_interrupt_of_the_users_own_stays_one(self):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            MF(interrupted)

    def test_it_works_where_interrupts_are_ignored_and_leaves_that_so(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as after "nohup ... &"
        try:
            assert verdict(MF, self.endless)[:2] == ("wrong", "too slow")
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    def test_nothing_is_interrupted_once_it_is_over(self):
        assert verdict(MF, batch()).kind == "correct"
        time.sleep(0.7)

    def test_another_thread_has_no_limit_and_disturbs_nobody(self):
        found = []
        thread = threading.Thread(target=lambda: found.append(verdict(MF, batch())))
        thread.start()
        thread.join()
        assert found[0].kind == "correct"


def test_prints_and_warnings_of_the_answer_stay_away(capsys, recwarn):
    def noisy(*arguments):
        print("step is: 4")
        np.array([1.0]) / 0
        return batch()(*arguments)

    assert verdict(MF, noisy).kind == "correct"
    assert capsys.readouterr() == ("", "") and not recwarn.list


def test_the_random_numbers_of_the_answer_are_its_own():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    MF(batch())
    assert np.array_equal(before, np.random.get_state()[1])


def test_a_result_instead_of_the_function_is_refused():
    with pytest.raises(TypeError, match="your function itself, without brackets"):
        MF((1, 2))


def test_a_check_runs_few_entries_few_times():
    sizes, visits = set(), 0

    def counted(R, P, Q, K, steps, alpha, beta):
        nonlocal visits
        sizes.add(R.size)
        visits += steps * R.size
        return shuffled(R, P, Q, K, steps, alpha, beta)

    assert verdict(MF, counted).kind == "correct"
    assert max(sizes) <= 30 and visits <= 25_000  # less than one pass over the faces


def test_a_verdict_reads_as_one_text_and_fits_the_page():
    found = MF(batch())
    assert repr(found) == str(found)
    assert str(found).startswith("correct: full-batch gradient descent, P first")
    assert max(map(len, str(found).splitlines())) <= 90
