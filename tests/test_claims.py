"""What the lesson says without showing it: numbers in the text that no cell prints."""

import numpy as np
import pytest
from scipy.linalg import subspace_angles

import mf_solutions as mf


def start(K=2, seed=1):
    rng = np.random.RandomState(seed)
    return rng.rand(100, K), rng.rand(256, K)


def squared_bound(X, K):
    return np.sum(np.linalg.svd(X.astype(float), compute_uv=False)[K:] ** 2)


# Part 2


def test_the_example_by_hand_in_every_order():
    r, q, alpha, beta = np.array([1.0, 0.0]), np.array([0.5, 1.0]), 0.1, 1.0
    e = r - q
    p = 1 + alpha * (2 * e @ q - beta)
    assert round(p, 3) == 0.75
    from_new = q + alpha * (2 * e * p - beta * q)
    from_old = q + alpha * (2 * e * 1 - beta * q)
    anew = q + alpha * (2 * (r - p * q) * p - beta * q)
    assert from_new.round(3).tolist() == [0.525, 0.75]
    assert from_old.round(3).tolist() == [0.55, 0.7]
    assert anew.round(3).tolist() == [0.544, 0.788]
    p, visited = 1.0, []
    for r_j, q_j in zip(r, q):
        e = r_j - p * q_j
        visited.append(q_j + alpha * (2 * e * p - beta * q_j))
        p += alpha * (2 * e * q_j - beta * p)
    assert round(p, 3) == 0.665
    assert np.allclose(visited, [0.55, 0.72], atol=0.001)


def test_sgd_can_take_larger_steps_than_the_full_batch(olivetti):
    _, R = olivetti
    after_20 = mf.squared_error(R, *mf.sgd(R, *start(), 20, 0.05, 0.02))
    log = mf.ErrorLog(R, *start())
    mf.gradient_descent(R, *start(), 4000, 0.004, 0.02, log)
    needed = int(np.argmax(np.array(log.errors) <= after_20))
    assert 2950 < needed < 3150
    with pytest.raises(FloatingPointError):
        mf.gradient_descent(R, *start(), 20, 0.0044, 0.02)


def test_sgd_settles_higher_as_it_pays_the_penalty_at_each_visit(olivetti):
    _, R = olivetti
    ends = [mf.squared_error(R, *mf.sgd(R, *start(), 500, a, 0.02)) for a in (0.02, 0.05)]
    assert 154 < min(ends) and max(ends) < 156


# Part 3


@pytest.mark.slow
def test_that_the_images_look_alike_is_the_starts_doing(olivetti):
    _, R = olivetti
    plane = np.linalg.svd(R.astype(float))[2][:2].T
    cosines = {0: [], 0.5: []}
    for seed in range(1, 22):
        for shift, found in cosines.items():
            P, Q = (X - shift for X in start(seed=seed))
            Q = mf.gradient_descent(R, P, Q, 5000, 0.002, 0.02)[1]
            a, b = (Q / np.linalg.norm(Q, axis=0)).T
            found.append(a @ b)
            assert shift == 0 or np.rad2deg(subspace_angles(Q, plane)).max() < 0.05
    assert f"{min(cosines[0]):.2f} to {max(cosines[0]):.2f}" == "0.61 to 0.70"
    assert f"{min(cosines[0.5]):.2f} to {max(cosines[0.5]):.2f}" == "-0.17 to 0.11"


# Part 4


def test_the_example_of_exercise_2_by_hand():
    r, p, q = np.array([[3.0, 2]]), np.array([[1.0, 1]]), np.array([[1.0, 0], [1, 1]])
    assert (r @ q).tolist() == [[5, 2]] and (p @ q.T @ q).tolist() == [[3, 2]]
    p_new = np.array([[5 / 3, 1]])
    q_new = q * (r.T @ p_new) / (q @ p_new.T @ p_new)
    assert np.allclose(q_new, [[1.8, 0], [0.75, 0.75]])
    assert np.allclose(p_new @ q_new.T, r)
    assert np.allclose(q * (r.T @ p) / (q @ p.T @ p), [[3, 0], [1, 1]])


@pytest.mark.slow
def test_from_other_starts_image_2_ends_anywhere_in_its_room(olivetti):
    D = olivetti[0].astype(float)
    V = np.linalg.svd(D, full_matrices=False)[2][:2].T
    ends = []
    for seed in range(1, 22):
        P, Q = mf.multiplicative_update(D, *start(seed=seed), 5000)
        assert abs(mf.squared_error(D, P, Q) - 189.3637) < 0.001
        along = Q.T @ V
        ends.append(np.sort(np.rad2deg(np.arctan(along[:, 1] / along[:, 0]))))
    ends = np.array(ends) * np.sign(ends[0][np.argmin(np.ptp(ends, axis=0))])
    fixed, free = sorted(ends.T, key=np.ptp)
    assert np.ptp(fixed) < 0.1 and 4 < np.ptp(free) < 5.7


@pytest.mark.slow
def test_with_more_features_other_starts_end_elsewhere(olivetti):
    D = olivetti[0].astype(float)
    ends = [mf.squared_error(D, *mf.hals(D, *start(6, seed), 1000)) for seed in range(1, 8)]
    assert max(ends) > 1.001 * min(ends)
