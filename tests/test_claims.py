"""What the core of the lesson says without showing it: numbers that no cell prints."""

import numpy as np
import pytest
from oracles import sheet_start
from scipy.linalg import subspace_angles

import mf_solutions as mf

SEEDS = range(1, 22)


# Part 2


def down(x, slope_of_data):
    """One step of the example by hand: alpha is 0.1, beta is 1."""
    return x + 0.1 * (2 * slope_of_data - x)


def test_the_example_by_hand_in_every_order():
    r = np.array([1.0, 0.0])
    q = np.array([0.5, 1.0])
    e = r - q
    p = down(1.0, e @ q)
    assert round(p, 3) == 0.75
    from_new = down(q, e * p)
    from_old = down(q, e)
    anew = down(q, (r - p * q) * p)
    assert from_new.round(3).tolist() == [0.525, 0.75]
    assert from_old.round(3).tolist() == [0.55, 0.7]
    assert anew.round(3).tolist() == [0.544, 0.788]


def test_the_example_by_hand_entry_by_entry():
    p = 1.0
    visited = []
    for r, q in [(1.0, 0.5), (0.0, 1.0)]:
        e = r - p * q
        visited.append(down(q, e * p))
        p = down(p, e * q)
    assert round(p, 3) == 0.665
    assert np.allclose(visited, [0.55, 0.72], atol=0.001)


def test_sgd_can_take_larger_steps_than_the_full_batch(olivetti):
    _, R = olivetti
    P, Q = mf.sgd(R, *sheet_start(), 20, 0.05, 0.02)
    after_20 = mf.squared_error(R, P, Q)
    log = mf.ErrorLog(R, *sheet_start())
    mf.gradient_descent(R, *sheet_start(), 4000, 0.004, 0.02, log)
    needed = np.argmax(np.array(log.errors) <= after_20)
    assert 2950 < needed < 3150
    with pytest.raises(FloatingPointError):
        mf.gradient_descent(R, *sheet_start(), 20, 0.0044, 0.02)


@pytest.mark.parametrize("alpha", [0.02, 0.05])
def test_sgd_settles_higher_as_it_pays_the_penalty_at_each_visit(olivetti, alpha):
    _, R = olivetti
    P, Q = mf.sgd(R, *sheet_start(), 500, alpha, 0.02)
    assert 154 < mf.squared_error(R, P, Q) < 156


def test_after_5000_steps_the_orders_have_not_all_arrived(olivetti):
    R = olivetti[1].astype(float)
    ends = []
    for anew in (False, True):
        P, Q = sheet_start()
        for _ in range(5000):
            E = R - P @ Q.T
            P_new = P + 0.002 * (2 * E @ Q - 0.02 * P)
            if anew:
                P, E = P_new, R - P_new @ Q.T
            Q = Q + 0.002 * (2 * E.T @ P - 0.02 * Q)
            P = P_new
        ends.append(R - P @ Q.T)
    P, Q = mf.gradient_descent(R, *sheet_start(), 5000, 0.002, 0.02)
    sheet = R - P @ Q.T
    corners = np.ix_([0, 1, 2, -3, -2, -1], [0, 1, 2, -3, -2, -1])
    for end in ends:
        assert 0.03 < np.abs(end - sheet)[corners].max() < 0.055


# Part 3


@pytest.mark.slow
def test_that_the_images_look_alike_is_the_starts_doing(olivetti):
    R = olivetti[1].astype(float)
    plane = np.linalg.svd(R)[2][:2].T
    cosines = {0: [], 0.5: []}
    for seed in SEEDS:
        for shift, found in cosines.items():
            P, Q = (X - shift for X in sheet_start(seed=seed))
            _, Q = mf.gradient_descent(R, P, Q, 5000, 0.002, 0.02)
            a, b = (Q / np.linalg.norm(Q, axis=0)).T
            found.append(a @ b)
            if shift:
                assert np.rad2deg(subspace_angles(Q, plane)).max() < 0.05
    told = {shift: f"{min(x):.2f} to {max(x):.2f}" for shift, x in cosines.items()}
    assert told == {0: "0.61 to 0.70", 0.5: "-0.17 to 0.11"}


# Part 4


def test_the_example_of_exercise_2_by_hand():
    r = np.array([[3.0, 2]])
    p = np.array([[1.0, 1]])
    q = np.array([[1.0, 0], [1, 1]])
    assert (r @ q).tolist() == [[5, 2]]
    assert (p @ q.T @ q).tolist() == [[3, 2]]
    p_new = np.array([[5 / 3, 1]])
    q_new = q * (r.T @ p_new) / (q @ p_new.T @ p_new)
    assert np.allclose(q_new, [[1.8, 0], [0.75, 0.75]])
    assert np.allclose(p_new @ q_new.T, r)
    q_from_old = q * (r.T @ p) / (q @ p.T @ p)
    assert np.allclose(q_from_old, [[3, 0], [1, 1]])
    assert np.sum((r - p @ q.T) ** 2) == 4
    assert round(np.sum((r - p_new @ q_from_old.T) ** 2), 2) == 4.44


@pytest.mark.slow
def test_from_other_starts_image_2_ends_anywhere_in_its_room(olivetti):
    D = olivetti[0].astype(float)
    plane = np.linalg.svd(D, full_matrices=False)[2][:2].T
    ends = []
    for seed in SEEDS:
        P, Q = mf.multiplicative_update(D, *sheet_start(seed=seed), 5000)
        assert abs(mf.squared_error(D, P, Q) - 189.3637) < 0.001
        along = Q.T @ plane
        angles = np.rad2deg(np.arctan(along[:, 1] / along[:, 0]))
        ends.append(np.sort(angles))
    room = np.sort(np.ptp(ends, axis=0))
    assert room[0] < 0.1
    assert 4 < room[1] < 5.7


@pytest.mark.slow
def test_with_more_images_other_starts_end_elsewhere(olivetti):
    D = olivetti[0].astype(float)
    ends = []
    for seed in range(1, 8):
        P, Q = mf.hals(D, *sheet_start(K=6, seed=seed), 1000)
        ends.append(mf.squared_error(D, P, Q))
    assert max(ends) > 1.001 * min(ends)
