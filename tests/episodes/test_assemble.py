from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from made_episodes import balanced

from robointervlm.episodes.questions import Balance

YES, NO = Balance("lift", "Yes", 2), Balance("lift", "No", 2)


def test_the_rarer_answer_is_kept_whole_and_the_other_thinned_to_it():
    assert balanced([YES, YES, NO, YES, YES]) == [False, False, True, False, True]


def test_what_is_left_out_is_spread_over_the_list():
    kept = balanced([YES] * 6 + [NO] * 3)
    assert kept == [False, True, False, True, False, True, True, True, True]


def test_a_group_without_one_of_its_answers_is_left_out():
    assert balanced([YES, YES, Balance("push", "No", 2)]) == [False, False, False]


def test_groups_are_balanced_each_by_itself():
    other = [Balance("push", "Yes", 2), Balance("push", "No", 2)]
    assert balanced([YES, NO, NO, *other]) == [True, False, True, True, True]


def test_questions_that_want_no_balance_stay():
    assert balanced([None, YES, None]) == [True, False, True]


@given(st.lists(st.sampled_from("abc")))
def test_all_classes_are_equally_frequent_afterwards(answers):
    kept = balanced([Balance("", answer, 3) for answer in answers])
    counts = Counter(answer for answer, keep in zip(answers, kept, strict=True) if keep)
    least = min(answers.count(answer) for answer in "abc")
    assert counts == ({"a": least, "b": least, "c": least} if least else {})
