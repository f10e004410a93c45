"""Tests of paired differences, their intervals, and how many questions would be needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.metrics.paired import (
    design_effect,
    holm,
    mcnemar,
    paired_permutation,
    pairs_for_accuracy,
    pairs_for_distance,
)


@pytest.mark.parametrize(
    "first_only, second_only, p",
    [
        (0, 0, 1.0),
        (5, 0, 0.0625),  # 2 / 2**5
        (1, 9, 0.021484375),  # 2 * (1 + 10) / 2**10
        (4, 4, 1.0),
        # Twice 1 + 32 + 496 + 4960 + 35960 + 201376 + 906192 + 3365856, of 2**32.
        (7, 25, 9029746 / 4294967296),
    ],
)
def test_mcnemar_doubles_the_smaller_binomial_tail(first_only, second_only, p):
    assert mcnemar(first_only, second_only) == pytest.approx(p, rel=1e-12)
    assert mcnemar(second_only, first_only) == pytest.approx(p, rel=1e-12)


def test_mcnemar_of_ten_thousands_of_questions_is_no_overflow():
    assert mcnemar(20_000, 20_000) == 1.0
    assert 0 < mcnemar(19_700, 20_300) < 0.01


def test_mcnemar_of_a_negative_count_is_an_error():
    with pytest.raises(ValueError, match="0 or more"):
        mcnemar(-1, 3)


def test_a_permutation_of_few_clusters_counts_every_pattern():
    # Sums 1, 2, 3: only + + + and - - - reach 6, two of eight patterns.
    found = paired_permutation([1, 2, 3], ["a", "b", "c"], seed=0)
    assert found == (0.25, True, 8)
    # 1 + 2 - 1 = 2 is reached by the patterns with |sum| 2 or 4: ++-, +++, -++ and their mirror images.
    assert paired_permutation([1, 2, -1], ["a", "b", "c"], seed=0).p == 0.75


def test_the_questions_of_one_episode_change_their_sign_together():
    # Ten questions of one episode say once, not ten times, that the first model is better.
    assert paired_permutation([1] * 10, ["one"] * 10, seed=0).p == 1.0
    assert paired_permutation([1] * 10, list(range(10)), seed=0).p == 2 / 1024


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=12))
def test_the_exact_permutation_of_single_questions_is_mcnemar(differences):
    p = paired_permutation(differences, range(len(differences)), seed=0).p
    assert p == pytest.approx(mcnemar(differences.count(1), differences.count(-1)))


def test_the_drawn_permutation_is_near_the_exact_one_and_never_zero():
    differences = [1] * 20 + [-1] * 8
    drawn = paired_permutation(differences, range(28), seed=1)
    assert (drawn.exact, drawn.patterns) == (False, 10_000)
    assert drawn.p == pytest.approx(mcnemar(20, 8), abs=0.01)
    assert drawn == paired_permutation(differences, range(28), seed=1)
    # 40 wins of 40: no draw comes near, and p is 1 of 10,001.
    assert paired_permutation([0.5] * 40, range(40), seed=0).p == pytest.approx(1 / 10_001)


def test_a_permutation_of_different_sizes_is_near_the_normal_approximation():
    # 1 to 40 with eight signs turned: 820 - 2 * 108 = 604, of a spread of sqrt(22140) = 148.8; z = 4.06, p = 0.00005.
    differences = [float(-n if 10 <= n <= 17 else n) for n in range(1, 41)]
    assert sum(differences) == 604
    assert paired_permutation(differences, range(40), seed=0).p < 0.001


def test_what_does_not_differ_has_p_1():
    assert paired_permutation([0.0] * 5, range(5), seed=0).p == 1.0


def test_connors_sample_size():
    # Discordance 0.25, difference 0.1: (1.95996 * 0.5 + 0.84162 * sqrt(0.24))^2 / 0.01 = 1.39229^2 / 0.01 = 193.85.
    assert pairs_for_accuracy(0.25, 0.1) == 194
    assert pairs_for_accuracy(0.25, -0.1) == 194
    # A difference cannot be larger than the discordance: with 0.1 of both, (0.61979 + 0.25249)^2 / 0.01 = 76.09.
    assert pairs_for_accuracy(0.02, 0.1) == 77


def test_the_sample_size_of_a_paired_mean():
    # (1.95996 + 0.84162)^2 * 4 / 1 = 31.4.
    assert pairs_for_distance(4.0, 1.0) == 32
    assert pairs_for_distance(0.0, 5.0) == 2


def test_no_number_of_questions_shows_nothing():
    with pytest.raises(ValueError, match="difference of 0"):
        pairs_for_accuracy(0.2, 0)


def test_holm_as_in_the_textbook():
    # 0.005 * 4, 0.01 * 3, 0.03 * 2, and the last one is not below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_lowers_a_p_value(values):
    assert all(before <= after <= 1 for before, after in zip(values, holm(values), strict=True))


def test_questions_that_repeat_one_another_count_once():
    # Four episodes of three equal answers: 4/3 * 4 * 9/144 over 12/11/12, that is 1/3 over 1/11, is 11/3.
    assert design_effect([1, 1, 1, -1, -1, -1] * 2, list("aaabbbcccddd")) == pytest.approx(11 / 3)
    assert design_effect([1, -1, 1, -1], range(4)) == 1.0
    assert design_effect([1, -1, 1, -1], list("aabb")) == 1.0
