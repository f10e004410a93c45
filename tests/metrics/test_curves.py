"""Distances between paths."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.metrics.curves import (
    discrete_frechet,
    discrete_frechet_many,
    dtw,
    dtw_many,
    hausdorff,
    hausdorff_many,
    rmse,
    rmse_many,
)

ALL = [dtw, discrete_frechet, hausdorff, rmse]
TARGET = [[0, 0], [10, 0]]


@pytest.mark.parametrize("distance", ALL)
def test_a_path_is_at_no_distance_from_itself(distance):
    assert distance([[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]]) == 0


@pytest.mark.parametrize("distance, expected", [(dtw, 10), (discrete_frechet, 5), (hausdorff, 5), (rmse, 5)])
def test_an_offset_of_three_and_four_is_a_distance_of_five(distance, expected):
    # The published "RMSE" is the mean of the roots by axis, 3.5 here.
    assert distance([[3, 4], [103, 4]], [[0, 0], [100, 0]]) == expected


def test_a_longer_prediction_is_not_a_perfect_trajectory():
    # The published rmse was 0, the best value, whenever the lengths differed.
    longer = [[0, 0], [10, 0], [10, 50]]
    assert dtw(longer, TARGET) == 50
    assert discrete_frechet(longer, TARGET) == 50
    assert hausdorff(longer, TARGET) == 50
    assert rmse(longer, TARGET) == math.inf
    assert rmse(longer, TARGET, missing=300) == pytest.approx(math.sqrt(300**2 / 3))


def test_a_missing_waypoint_costs_rmse_what_it_is_given_to_cost():
    assert rmse([[3, 4]], TARGET, missing=10) == pytest.approx(math.sqrt((25 + 100) / 2))


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.1, 1e3))
def test_a_path_of_another_length_never_has_the_best_rmse(one, other, missing):
    still = [[5.0, 5.0]]
    assert (rmse(still * one, still * other, missing=missing) == 0) == (one == other)


def test_dtw_adds_up_the_whole_alignment_without_normalising_it():
    # (0,0)-(0,0), (5,0)-(0,0), (10,0)-(10,0) -> 5; doubling the waypoints doubles nothing else.
    assert dtw([[0, 0], [5, 0], [10, 0]], TARGET) == 5
    assert dtw([[1, 0]] * 4, [[0, 0]] * 4) == 4


def test_frechet_sees_the_order_that_hausdorff_does_not():
    forth, back = [[0, 0], [5, 0], [10, 0]], [[10, 0], [5, 0], [0, 0]]
    assert hausdorff(forth, back) == 0
    assert discrete_frechet(forth, back) == 10


@pytest.mark.parametrize("distance", ALL)
@pytest.mark.parametrize("path", [[], [1, 2], [[1, 2, 3]], [[[1, 2]]]])
def test_what_is_not_a_path_is_an_error_and_never_a_best_value(distance, path):
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        distance(path, TARGET)
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        distance(TARGET, path)


@pytest.mark.parametrize("distance", ALL)
def test_two_thousand_points_need_no_recursion(distance):
    # The published Frechet distance failed from 600 points on. (Times are in benchmarks/curves_speed.py.)
    angles = np.linspace(0, 6, 2000)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert distance(circle, circle) == 0
    assert distance(circle + [3, 4], circle) > 0


def slow_alignment(first, second, combine):
    """The textbook recurrence, cell by cell."""
    cost = {(-1, -1): 0.0}
    for i, p in enumerate(first):
        for j, q in enumerate(second):
            best = min(cost.get(cell, math.inf) for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1)))
            cost[i, j] = combine(math.dist(p, q), best)
    return cost[len(first) - 1, len(second) - 1]


path = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=9)


@given(path, path)
def test_dtw_and_frechet_are_those_of_the_textbook(first, second):
    assert dtw(first, second) == pytest.approx(slow_alignment(first, second, lambda d, best: d + best))
    assert discrete_frechet(first, second) == pytest.approx(slow_alignment(first, second, max))


@given(path, path)
def test_hausdorff_is_that_of_the_textbook(first, second):
    there = max(min(math.dist(p, q) for q in second) for p in first)
    back = max(min(math.dist(p, q) for p in first) for q in second)
    assert hausdorff(first, second) == pytest.approx(max(there, back), abs=1e-9)


@given(path, path)
def test_distances_are_symmetric_and_zero_only_for_equal_places(first, second):
    for distance in ALL:
        assert distance(first, first) == 0
        assert distance(first, second) >= 0
        assert distance(first, second) == pytest.approx(distance(second, first))


@given(path, path)
def test_hausdorff_is_never_more_than_frechet_and_that_never_more_than_dtw(first, second):
    assert hausdorff(first, second) <= discrete_frechet(first, second) + 1e-9 <= dtw(first, second) + 2e-9


MANY = [
    (dtw, dtw_many),
    (discrete_frechet, discrete_frechet_many),
    (hausdorff, hausdorff_many),
    (lambda *pair: rmse(*pair, missing=70), lambda *pairs: rmse_many(*pairs, missing=70)),
]


@pytest.mark.parametrize("one, many", MANY)
@given(st.lists(st.tuples(path, path), max_size=8))
def test_many_pairs_at_once_have_the_distances_of_each(one, many, pairs):
    found = many([first for first, _ in pairs], [second for _, second in pairs])
    assert found.tolist() == [one(first, second) for first, second in pairs]


@pytest.mark.parametrize("one, many", MANY)
def test_many_pairs_may_be_two_arrays_and_more_than_fit_into_one_block(one, many):
    first, second = np.random.default_rng(0).random((2, 2_000, 10, 2)) * 600
    found = many(first, second)
    assert found.shape == (2_000,)
    for index in (0, 1, 743, 744, 745, 1_999):  # a block holds 8,192 // 11 = 744 pairs
        assert found[index] == one(first[index], second[index])


def test_a_missing_waypoint_may_cost_each_pair_another_price():
    assert rmse_many([[[0, 0]]] * 2, [[[0, 0], [9, 9]]] * 2, missing=[2, 4]) == pytest.approx([2**0.5, 8**0.5])


@pytest.mark.parametrize("wrong", [[], [1, 2], [[1, 2, 3], [4, 5, 6]], [[1, 2], [3]], "x"])
def test_one_of_many_that_is_no_path_is_an_error(wrong):
    for _, many in MANY:
        with pytest.raises(ValueError, match=r"\(N, 2\)|inhomogeneous|could not convert"):
            many([TARGET, wrong], [TARGET, TARGET])


def test_every_one_of_many_needs_its_other_path():
    with pytest.raises(ValueError, match="2 paths are compared with 1"):
        dtw_many([TARGET, TARGET], [TARGET])
