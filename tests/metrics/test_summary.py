"""Means, intervals, charges, counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.metric import charged
from robointervlm.metrics.summary import Interval, cluster_interval, cluster_intervals, mean


def test_the_mean_of_no_values_is_an_error_and_not_a_number():
    assert mean([1, 2, 6]) == 3
    with pytest.raises(ValueError, match="no values"):
        mean([])


def test_a_perfect_zero_counts_in_the_mean():
    # The published scorer dropped zeros, failures and perfect trajectories alike.
    assert mean([0, 0, 6]) == 2


def test_the_interval_holds_the_mean_and_is_the_same_for_the_same_seed():
    values, clusters = [0.1, 0.9, 0.4, 0.7, 0.2, 0.8, 0.3, 0.6], list("aabccdee")
    interval = cluster_interval(values, clusters, seed=3)
    assert interval.low < 0.5 < interval.high
    assert interval == cluster_interval(values, clusters, seed=3)
    assert interval != cluster_interval(values, clusters, seed=4)


def test_questions_of_one_episode_are_not_independent():
    # Forty times the same answer is one observation: the interval is that of the episodes.
    generator = np.random.default_rng(0)
    by_episode = generator.integers(0, 2, size=30).astype(float)
    alone = cluster_interval(by_episode.tolist(), range(30), seed=0)
    repeated = cluster_interval(np.repeat(by_episode, 40).tolist(), np.repeat(np.arange(30), 40).tolist(), seed=0)
    assert repeated == pytest.approx(alone)
    pretended = cluster_interval(np.repeat(by_episode, 40).tolist(), range(1200), seed=0)
    assert pretended.high - pretended.low < (repeated.high - repeated.low) / 3


def test_episodes_of_different_length_weigh_by_their_questions():
    # Two episodes, drawn twice: both long (0), both short (1), or one of each (1/10).
    interval = cluster_interval([0.0] * 9 + [1.0], ["long"] * 9 + ["short"], seed=1)
    assert interval == Interval(0.0, 1.0)


def test_the_interval_of_a_coin_is_about_that_of_the_normal_approximation():
    values = [0.0, 1.0] * 200
    interval = cluster_interval(values, range(400), seed=5, resamples=4000)
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.5 / 20, abs=0.005)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.5 / 20, abs=0.005)


@pytest.mark.parametrize("values", [[], [0.5], [0.1, 0.9, 0.4]])
def test_fewer_than_two_episodes_say_nothing_about_the_spread(values):
    low, high = cluster_interval(values, ["only"] * len(values), seed=0)
    assert math.isnan(low)
    assert math.isnan(high)


def test_every_value_needs_its_cluster():
    with pytest.raises(ValueError, match="3 values"):
        cluster_interval([1, 2, 3], ["a"], seed=0)


def test_many_clusters_are_drawn_in_blocks():
    interval = cluster_interval([1.0] * 30_000, range(30_000), seed=0, resamples=200)
    assert interval == Interval(1.0, 1.0)


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_a_failure_is_never_charged_less_than_an_answer(value, penalty):
    assert charged(None, penalty) >= charged(value, penalty)
    assert charged(min(value, penalty), penalty) == min(value, penalty)


def test_several_means_over_the_same_questions_have_the_intervals_they_have_alone():
    ones, other, clusters = [0.1, 0.9, 0.4, 0.7], [5.0, 1.0, 2.0, 2.0], list("aabc")
    together = cluster_intervals([ones, other], clusters, seed=3)
    assert together == [cluster_interval(ones, clusters, seed=3), cluster_interval(other, clusters, seed=3)]


def test_a_question_that_a_mean_leaves_out_changes_no_value_of_it():
    # The mean over the readable ones is 0.5 in every draw that holds any of them, whatever else is drawn.
    [interval] = cluster_intervals([[0.5, math.nan, 0.5, math.nan]], list("abcd"), seed=0)
    assert interval == Interval(0.5, 0.5)
    [alone] = cluster_intervals([[0.5, math.nan, math.nan, math.nan]], list("abcd"), seed=0)
    assert math.isnan(alone.low)
