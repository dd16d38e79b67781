"""What the lesson says without showing it: the folded answers, and why the saddle is there."""

import numpy as np
import pytest

import mf_solutions as mf


def start(K=2, seed=1):
    rng = np.random.RandomState(seed)
    return rng.rand(100, K), rng.rand(256, K)


def hold_out(D, share):
    hidden = np.random.default_rng(0).random(D.shape) < share
    seen = np.where(hidden, np.nan, D).astype(float)
    return seen, np.nanmean(seen, axis=0), lambda guess: np.sqrt(np.mean((guess - D)[hidden] ** 2))


def fitted(X, K, steps=200):
    rng = np.random.default_rng(1)
    P, Q = 0.1 * rng.normal(size=(100, K)), 0.1 * rng.normal(size=(256, K))
    P, Q = mf.sgd(X, P, Q, steps, 0.02, 0.01)
    return P @ Q.T


def test_at_half_the_steps_the_error_is_still_large(olivetti):
    _, R = olivetti
    error = mf.squared_error(R, *mf.gradient_descent(R, *start(), 2500, 0.002, 0.02))
    assert f"{error:.1f}" == "185.3"


def test_the_weights_cancel_the_constant_part_of_the_start(olivetti):
    _, R = olivetti
    P, Q = mf.gradient_descent(R, *start(), 50, 0.002, 0.02)
    assert np.corrcoef(P.T)[0, 1] < -0.99
    assert np.linalg.norm(Q.mean(axis=0)) > 0.8 * np.linalg.norm(start()[1].mean(axis=0))


@pytest.mark.slow
def test_starts_of_mean_zero_are_faster(olivetti):
    _, R = olivetti
    near = 1.001 * np.sum(np.linalg.svd(R.astype(float), compute_uv=False)[2:] ** 2)
    took = {0: [], 0.5: []}
    for seed in range(2, 7):
        for shift, steps in took.items():
            log = mf.ErrorLog(R, *(X - shift for X in start(seed=seed)))
            mf.gradient_descent(R, *(X - shift for X in start(seed=seed)), 5500, 0.002, 0.02, log)
            steps.append(int(np.argmax(np.array(log.errors) < near)))
    assert (min(took[0]), max(took[0])) == (3997, 5177)
    assert (min(took[0.5]), max(took[0.5])) == (691, 2926)


def test_the_formula_of_the_plateau_fails_where_a_feature_is_gone(olivetti):
    _, R = olivetti
    s = np.linalg.svd(R.astype(float), compute_uv=False)
    rest, shrink = np.sum(s[2:] ** 2), 0.08 * 160 / 2
    assert f"{s[1]:.2f}" == "6.09" and f"{s[1] / 80:.3f}" == "0.076"
    assert f"{rest + 2 * shrink**2:.1f}" == "231.3"
    assert f"{rest + np.sum(np.minimum(s[:2], shrink) ** 2):.1f}" == "227.5"
    P, Q = start()
    P, Q = mf.sgd(R, P - 0.5, Q - 0.5, 500, 0.002, 0.08)
    assert abs(mf.squared_error(R, P, Q) - 227.4) < 1


def test_a_masked_full_batch_restores_the_hidden_pixels_as_well(olivetti):
    D, _ = olivetti
    seen, mean_face, rmse = hold_out(D, 0.5)
    rng = np.random.default_rng(1)
    P, Q = 0.1 * rng.normal(size=(100, 10)), 0.1 * rng.normal(size=(256, 10))
    for _ in range(3000):
        E = np.nan_to_num(seen - mean_face - P @ Q.T)
        P, Q = P + 0.004 * (2 * E @ Q - P), Q + 0.004 * (2 * E.T @ P - Q)
    assert abs(rmse(mean_face + P @ Q.T) - rmse(mean_face + fitted(seen - mean_face, 10))) < 0.001


def test_with_nine_tenths_hidden_one_feature_is_best(olivetti):
    D, _ = olivetti
    seen, mean_face, rmse = hold_out(D, 0.9)
    errors = [rmse(mean_face + fitted(seen - mean_face, K)) for K in (1, 2, 10)]
    assert f"{errors[0]:.3f}, {rmse(mean_face + 0 * D):.3f}" == "0.123, 0.126"
    assert min(errors) == errors[0]


def test_a_penalty_on_one_factor_alone_moves_the_scale(olivetti):
    D = olivetti[0].astype(float)
    fits = []
    for penalty in (0, 1):
        P, Q = start(16)
        for _ in range(1000):
            P = P * (D @ Q) / (P @ (Q.T @ Q) + penalty)
            Q = Q * (D.T @ P) / (Q @ (P.T @ P))
        fits.append((P, Q, np.sum((D - P @ Q.T) ** 2), np.mean(P < 0.01 * P.max(axis=0))))
    (P0, Q0, error0, dark0), (P1, Q1, error1, dark1) = fits
    assert P1.sum() < P0.sum() / 10 and np.linalg.norm(Q1) > 10 * np.linalg.norm(Q0)
    assert abs(error1 / error0 - 1) < 0.01 and abs(dark1 - dark0) < 0.01
