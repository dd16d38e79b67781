"""What part 6 of the lesson says without showing it."""

import warnings

import numpy as np
import pytest
from oracles import sheet_start
from sklearn.decomposition import NMF

import mf_solutions as mf

OTHERS = [
    0,
    *range(2, 22),
]  # the seeds of 21 other starts; the lesson's own is 1


def start(K=2, seed=1):
    return sheet_start(K=K, seed=seed)


def best(X, K):
    """Return the squared error of the truncated SVD."""
    sizes = np.linalg.svd(X.astype(float), compute_uv=False)
    return np.sum(sizes[K:] ** 2)


def above(D, P, Q):
    """Return how many per cent above the bound the error lies."""
    error = mf.squared_error(D, P, Q)
    K = P.shape[1]
    return 100 * (error / best(D, K) - 1)


# Part 2 ---------------------------------------------
def waves_of(R, P, Q):
    """One epoch as in the lesson's `wave_epoch`, alpha = 0.002, beta = 0.02."""
    P, Q = P.copy(), Q.copy()
    N, M = R.shape
    for t in range(N + M - 1):
        first = max(0, t - M + 1)
        last = min(t, N - 1)
        i = np.arange(first, last + 1)
        j = t - i
        p = P[i]
        q = Q[j]
        e = R[i, j] - np.sum(p * q, axis=1)
        e = e[:, None]
        P[i] = p + 0.002 * (2 * e * q - 0.02 * p)
        Q[j] = q + 0.002 * (2 * e * p - 0.02 * q)
    return P, Q


@pytest.mark.parametrize("K, alike", [(2, True), (7, True), (9, False)])
def test_waves_add_in_the_order_of_the_loop_up_to_seven_features(olivetti, K, alike):
    R = olivetti[1].astype(float)
    by_waves = waves_of(R, *start(K))
    by_sgd = mf.sgd(R, *start(K), 1, 0.002, 0.02)
    assert np.array_equal(by_waves[0], by_sgd[0]) == alike


def test_with_a_larger_alpha_sgd_settles_a_little_higher(olivetti):
    _, R = olivetti
    ends = []
    for alpha, epochs in [(0.01, 400), (0.02, 300), (0.05, 200)]:
        factors = mf.sgd(R, *start(), epochs, alpha, 0.02)
        ends.append(mf.squared_error(R, *factors))
    assert ends == sorted(ends)
    assert 154.5 < ends[0] and ends[-1] < 156


def small_start(K):
    rng = np.random.default_rng(1)
    P = 0.1 * rng.normal(size=(100, K))
    Q = 0.1 * rng.normal(size=(256, K))
    return P, Q


def what_is_seen(D, hidden):
    """Return the data with holes, and the mean of what is seen of each pixel."""
    seen = np.where(hidden, np.nan, D).astype(float)
    return seen, np.nanmean(seen, axis=0)


def error_on(hidden, D, guess):
    wrong = (guess - D)[hidden]
    return np.sqrt(np.mean(wrong**2))


def restored(D, hidden, K, beta, epochs):
    """Return the error of the lesson's `restore` on the hidden pixels."""
    seen, mean_face = what_is_seen(D, hidden)
    P, Q = small_start(K)
    P, Q = mf.sgd(seen - mean_face, P, Q, epochs, 0.02, beta)
    return error_on(hidden, D, mean_face + P @ Q.T)


def mask(D, share=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random(D.shape) < share


def test_some_regularization_makes_many_features_harmless(olivetti):
    D, _ = olivetti
    hidden = mask(D)
    errors = [restored(D, hidden, K, 0.01, 100) for K in (16, 25, 40)]
    assert errors == pytest.approx([0.0641, 0.0638, 0.0648], abs=5e-5)


def best_size(D, hidden, beta):
    """Return the K whose error on the hidden pixels is lowest."""
    errors = {}
    for K in (6, 10, 16, 25):
        errors[K] = restored(D, hidden, K, beta, 100)
    return min(errors, key=errors.get)


@pytest.mark.slow
def test_where_the_lowest_point_lies_varies_with_the_mask(olivetti):
    D, _ = olivetti
    masks = [mask(D, seed=seed) for seed in range(16)]
    without = [best_size(D, hidden, 0) for hidden in masks]
    assert without[0] == 16
    assert without[1:].count(10) > 8
    some = [best_size(D, hidden, 0.01) for hidden in masks]
    assert set(some) == {16, 25}


def test_at_half_the_steps_no_printed_residual_agrees(olivetti):
    _, R = olivetti
    half = mf.gradient_descent(R, *start(), 2500, 0.002, 0.02)
    whole = mf.gradient_descent(R, *start(), 5000, 0.002, 0.02)
    error = mf.squared_error(R, *half)
    assert f"{error:.1f}" == "185.3"
    printed = [0, 1, 2, -3, -2, -1]
    corners = np.ix_(printed, printed)
    by_half = half[0] @ half[1].T
    by_whole = whole[0] @ whole[1].T
    difference = np.abs(by_half - by_whole)
    assert difference[corners].min() > 5e-9


def shuffled_epoch(R, P, Q, rng):
    """One epoch of SGD in a random order, alpha = 0.01, beta = 0.02."""
    P, Q = P.copy(), Q.copy()
    for entry in rng.permutation(R.size):
        i, j = np.unravel_index(entry, R.shape)
        p = P[i]
        q = Q[j]
        e = R[i, j] - p @ q
        step_p = 2 * e * q - 0.02 * p
        step_q = 2 * e * p - 0.02 * q
        P[i] = p + 0.01 * step_p
        Q[j] = q + 0.01 * step_q
    return P, Q


@pytest.mark.slow
def test_a_random_order_settles_at_the_same_plateau(olivetti):
    R = olivetti[1].astype(float)
    rng = np.random.default_rng(0)
    P, Q = (X - 0.5 for X in start())
    P_fixed, Q_fixed = mf.sgd(R, P, Q, 200, 0.01, 0.02)
    for _ in range(200):
        P, Q = shuffled_epoch(R, P, Q, rng)
    assert not np.allclose(P, P_fixed, atol=1e-4)
    fixed = mf.squared_error(R, P_fixed, Q_fixed)
    shuffled = mf.squared_error(R, P, Q)
    assert abs(shuffled - fixed) < 0.1


def test_with_nine_tenths_hidden_one_feature_is_best(olivetti):
    D, _ = olivetti
    hidden = mask(D, share=0.9)
    _, mean_face = what_is_seen(D, hidden)
    by_mean = error_on(hidden, D, mean_face + 0 * D)
    one, *more = [restored(D, hidden, K, 0.01, 200) for K in (1, 2, 4, 10)]
    assert f"{one:.3f}" == "0.123"
    assert f"{by_mean:.3f}" == "0.126"
    assert min(more) > by_mean
    assert restored(D, hidden, 1, 0.01, 100) > by_mean


def test_the_formula_of_the_plateau_fails_where_a_feature_is_gone(olivetti):
    _, R = olivetti
    s = np.linalg.svd(R.astype(float), compute_uv=False)
    assert f"{s[1]:.2f}" == "6.09"
    assert f"{s[1] / 80:.3f}" == "0.076"
    formula = best(R, 2) + 2 * (80 * 0.08) ** 2
    assert f"{formula:.1f}" == "231.3"
    P, Q = (X - 0.5 for X in start())
    P, Q = mf.sgd(R, P, Q, 500, 0.002, 0.08)
    assert f"{mf.squared_error(R, P, Q):.1f}" == "227.4"
    assert np.linalg.svd(P @ Q.T, compute_uv=False)[1] < 0.01


def test_a_masked_full_batch_restores_the_hidden_pixels_as_well(olivetti):
    D, _ = olivetti
    hidden = mask(D)
    seen, mean_face = what_is_seen(D, hidden)
    P, Q = small_start(10)
    for _ in range(3000):
        E = seen - mean_face - P @ Q.T
        E[hidden] = 0
        P = P + 0.004 * (2 * E @ Q - P)
        Q = Q + 0.004 * (2 * E.T @ P - Q)
    by_batch = error_on(hidden, D, mean_face + P @ Q.T)
    by_sgd = restored(D, hidden, 10, 0.01, 200)
    assert abs(by_batch - by_sgd) < 0.001


# Part 3 ---------------------------------------------
class Descent:
    """Full-batch descent; counts the steps at the bound for K = 1."""

    def __init__(self, R, P, Q, steps):
        self.R = R
        self.squares = np.sum(R**2)
        self.saddle = best(R, 1)
        self.bound = best(R, 2)
        self.flat = 0
        self.first_near = None
        mf.gradient_descent(R, P, Q, steps, 0.002, 0.02, callback=self)

    def __call__(self, step, P, Q):
        # the squared error, multiplied out: E itself would take too long
        product = np.sum((P.T @ P) * (Q.T @ Q))
        both = np.sum((self.R @ Q) * P)
        error = self.squares - 2 * both + product
        if abs(error / self.saddle - 1) < 0.01:
            self.flat += 1
        if self.first_near is None and error < 1.001 * self.bound:
            self.first_near = step


@pytest.mark.slow
def test_shifting_q_alone_frees_the_run_and_shifting_p_alone_does_not(
    olivetti,
):
    R = olivetti[1].astype(float)
    flat = []
    for seed in [1, *OTHERS]:
        P, Q = start(seed=seed)
        starts = [(P, Q), (P - 0.5, Q), (P, Q - 0.5)]
        flat.append([Descent(R, *pair, 6000).flat for pair in starts])
    neither, only_p, only_q = np.array(flat).T
    assert (neither.min(), neither.max()) == (820, 2497)
    assert (only_q.min(), only_q.max()) == (8, 475)
    assert np.all(only_p > neither)


def test_the_weights_cancel_the_constant_part_which_fades_late(olivetti):
    R = olivetti[1].astype(float)
    P, Q = mf.gradient_descent(R, *start(), 50, 0.002, 0.02)
    assert np.corrcoef(P.T)[0, 1] < -0.99
    early = np.linalg.norm(Q.mean(axis=0))
    P, Q = mf.gradient_descent(R, *start(), 3000, 0.002, 0.02)
    late = np.linalg.norm(Q.mean(axis=0))
    assert late / early == pytest.approx(5 / 6, abs=0.01)


def second_with(R, constant, steps):
    """Return the second singular value; after step 300 Q's column means are times this."""
    P, Q = start()
    for step in range(1, steps + 1):
        P, Q = mf.gradient_step(R, P, Q, 0.002, 0.02)
        if step == 300:
            mean = constant * Q.mean(axis=0)
        if step >= 300:
            Q = Q - Q.mean(axis=0) + mean
    return np.linalg.svd(P @ Q.T, compute_uv=False)[1]


def test_features_part_though_the_constant_part_is_held_for_ever(olivetti):
    R = olivetti[1].astype(float)
    assert f"{second_with(R, 1, 8000):.1f}" == "5.0"
    assert f"{second_with(R, 0, 1000):.1f}" == "5.8"


@pytest.mark.slow
def test_starts_of_mean_zero_are_faster(olivetti):
    R = olivetti[1].astype(float)
    as_they_are = []
    shifted = []
    for seed in range(2, 7):
        P, Q = start(seed=seed)
        run = Descent(R, P, Q, 5500)
        as_they_are.append(run.first_near)
        run = Descent(R, P - 0.5, Q - 0.5, 5500)
        shifted.append(run.first_near)
    assert min(as_they_are) == 3997
    assert max(as_they_are) == 5177
    assert min(shifted) == 691
    assert max(shifted) == 2926


def test_there_are_saddles_elsewhere(olivetti):
    R = olivetti[1].astype(float)
    U, s, Vt = np.linalg.svd(R, full_matrices=False)
    first_and_third = [0, 2]
    root = np.sqrt(s[first_and_third])
    P = U[:, first_and_third] * root
    Q = Vt[first_and_third].T * root
    P, Q = mf.gradient_descent(R, P, Q, 4000, 0.002, 0)
    error = mf.squared_error(R, P, Q)
    assert f"{error:.2f}" == "158.95"
    assert f"{best(R, 1):.2f}" == "186.49"
    assert f"{best(R, 2):.2f}" == "149.41"


# Part 4 ---------------------------------------------
def test_updates_from_the_same_old_values_never_settle(olivetti):
    D = olivetti[0].astype(float)
    P, Q = start()
    errors = []
    for _ in range(3000):
        P_new = P * (D @ Q) / (P @ (Q.T @ Q))
        Q_new = Q * (D.T @ P) / (Q @ (P.T @ P))
        P, Q = P_new, Q_new
        errors.append(mf.squared_error(D, P, Q))
    rises = np.diff(errors[-101:]) > 0
    assert np.sum(rises) == 50


def test_each_tolerance_stops_where_the_lesson_says(olivetti):
    D, _ = olivetti
    for tol, updates in [(1e-6, 460), (1e-7, 980)]:
        log = mf.ErrorLog(D, *start())
        mf.multiplicative_update(D, *start(), 5000, tol, log)
        assert len(log.errors) - 1 == updates
    log = mf.ErrorLog(D, *start(16))
    P, Q = mf.multiplicative_update(D, *start(16), 5000, 1e-4, log)
    assert len(log.errors) - 1 == 250
    assert f"{above(D, P, Q):.0f}" == "47"


@pytest.mark.slow
def test_the_shoulder_traps_a_loose_tolerance(olivetti):
    D, _ = olivetti
    trapped = 0
    for seed in OTHERS:
        end = best(D, 2) * 1.00034
        loose = mf.multiplicative_update(D, *start(seed=seed), 5000, 1e-2)
        default = mf.multiplicative_update(D, *start(seed=seed), 5000, 1e-4)
        trapped += mf.squared_error(D, *loose) > 1.4 * end
        assert mf.squared_error(D, *default) < 1.003 * end
    assert trapped == 12


def steps_where_plain_leads(D, seed):
    logs = []
    for extrapolate in (False, True):
        logs.append(mf.ErrorLog(D, *start(16, seed)))
        mf.hals(
            D,
            *start(16, seed),
            300,
            callback=logs[-1],
            extrapolate=extrapolate,
        )
    plain, ahead = (np.array(log.errors) for log in logs)
    return 2 + np.flatnonzero(plain[2:] < ahead[2:])


@pytest.mark.slow
def test_extrapolation_leads_nearly_always(olivetti):
    D, _ = olivetti
    steps = steps_where_plain_leads(D, 1)
    assert (steps[0], steps[-1]) == (109, 285)
    always = [len(steps_where_plain_leads(D, seed)) == 0 for seed in OTHERS]
    assert sum(always) == 19


def kkt_residual(D, P, Q):
    """Return the largest |min(p, slope)|; each pair of columns has one length."""
    length_P = np.linalg.norm(P, axis=0)
    length_Q = np.linalg.norm(Q, axis=0)
    balance = np.sqrt(length_Q / length_P)
    P = P * balance
    Q = Q / balance
    E = D - P @ Q.T
    off_P = np.minimum(P, -2 * E @ Q)
    off_Q = np.minimum(Q, -2 * E.T @ P)
    return max(np.abs(off_P).max(), np.abs(off_Q).max())


@pytest.mark.slow
def test_updates_have_not_arrived_after_a_thousand_steps_and_hals_has(olivetti):
    D, _ = olivetti
    found = {mf.multiplicative_update: [], mf.hals: []}
    for method, rows in found.items():
        for seed in OTHERS:
            P, Q = method(D, *start(16, seed), 1000)
            rows.append([kkt_residual(D, P, Q), above(D, P, Q)])
    updates = np.array(found[mf.multiplicative_update])
    assert updates.min(axis=0) == pytest.approx([0.19, 7.6], abs=0.05)
    assert updates.max(axis=0) == pytest.approx([0.34, 13.8], abs=0.05)
    assert f"{updates[:, 0].min():.2f}" == "0.19"
    assert f"{updates[:, 0].max():.2f}" == "0.34"
    by_hals = np.array(found[mf.hals])
    assert by_hals[:, 0].max() < 0.009
    assert by_hals[:, 1].min() == pytest.approx(1.7, abs=0.05)
    assert by_hals[:, 1].max() == pytest.approx(2.5, abs=0.05)


@pytest.mark.slow
def test_sixty_thousand_updates_do_not_arrive_either(olivetti):
    D, _ = olivetti
    factors = mf.multiplicative_update(D, *start(16), 60000)
    assert f"{above(D, *factors):.1f}" == "3.6"


def test_scikit_learns_nndsvd_start_is_bad_for_updates(olivetti):
    D = olivetti[0].astype(float)
    model = NMF(6, init="nndsvd", solver="mu", tol=0, max_iter=1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        P = model.fit_transform(D)
    assert any("cannot update zeros" in str(warning.message) for warning in caught)
    assert f"{above(D, P, model.components_.T):.2f}" == "59.88"  # as from the cell's start


def masked(D, hidden, K, seed):
    """Return the error of the lesson's `masked_nmf` on the hidden pixels."""
    rng = np.random.default_rng(seed)
    P = rng.random((100, K))
    Q = rng.random((256, K))
    seen = np.where(hidden, 0, D)
    for _ in range(1000):
        product = np.where(hidden, 0, P @ Q.T)
        P = P * (seen @ Q) / (product @ Q)
        product = np.where(hidden, 0, P @ Q.T)
        Q = Q * (seen.T @ P) / (product.T @ P)
    return error_on(hidden, D, P @ Q.T)


def test_masked_nmf_is_level_with_sgd_and_worse_with_25_features(olivetti):
    D, _ = olivetti
    hidden = mask(D)
    by_sgd = [restored(D, hidden, K, 0.01, 200) for K in (10, 16)]
    assert by_sgd == pytest.approx([0.064, 0.060], abs=5e-4)
    errors = [masked(D, hidden, 25, seed) for seed in range(1, 9)]
    assert f"{min(errors):.3f}" == "0.064"
    assert f"{max(errors):.3f}" == "0.067"


def sparseness(Q):
    """Return Hoyer's measure, the mean over the columns."""
    root = np.sqrt(len(Q))
    sums = np.sum(Q, axis=0)
    ratio = sums / np.linalg.norm(Q, axis=0)
    return np.mean((root - ratio) / (root - 1))


def test_more_people_hardly_make_the_images_sparser(olivetti):
    everybody = mf.fetch_faces().images.reshape(400, -1)
    found = []
    for X in (everybody[:100], everybody[::4]):
        rng = np.random.RandomState(1)
        P = rng.rand(100, 16)
        Q = rng.rand(4096, 16)
        P, Q = mf.hals(X, P, Q, 100)
        found.append(sparseness(Q))
    assert found == pytest.approx([0.18, 0.23], abs=0.005)


def test_a_zero_stays_in_updates_and_leaves_in_hals(olivetti):
    D, _ = olivetti
    P, Q = start()
    P[0, 0] = 0
    by_updates = mf.multiplicative_update(D, P, Q, 5000)
    by_hals = mf.hals(D, P, Q, 300)
    assert by_updates[0][0, 0] == 0
    assert by_hals[0][0, 0] > 0
    assert f"{mf.squared_error(D, *by_updates):.1f}" == "193.5"
    assert f"{mf.squared_error(D, *by_hals):.3f}" == "189.364"


def with_penalty(D, penalty):
    P, Q = start(16)
    for _ in range(1000):
        P = P * (D @ Q) / (P @ (Q.T @ Q) + penalty)
        Q = Q * (D.T @ P) / (Q @ (P.T @ P))
    return P, Q


def share_of_dark(P):
    return np.mean(P < 0.01 * P.max(axis=0))


def test_a_penalty_on_one_factor_alone_moves_the_scale(olivetti):
    D = olivetti[0].astype(float)
    P, Q = with_penalty(D, 0)
    P_small, Q_large = with_penalty(D, 1)
    assert P_small.sum() < P.sum() / 10
    assert np.linalg.norm(Q_large) > 10 * np.linalg.norm(Q)
    error = mf.squared_error(D, P, Q)
    with_it = mf.squared_error(D, P_small, Q_large)
    assert with_it == pytest.approx(error, rel=0.01)
    sparser = share_of_dark(P_small) - share_of_dark(P)
    assert abs(sparser) < 0.01


def test_a_few_negative_entries_do_no_harm(olivetti):
    darker = olivetti[0].astype(float) - 0.2
    assert f"{np.mean(darker < 0):.1%}" == "2.3%"
    P, Q = start()
    errors = [mf.squared_error(darker, P, Q)]
    for _ in range(3000):
        P, Q = mf.multiplicative_step(darker, P, Q)
        assert min(P.min(), Q.min()) >= 0
        errors.append(mf.squared_error(darker, P, Q))
    assert np.diff(errors).max() < 1e-10 * errors[0]
