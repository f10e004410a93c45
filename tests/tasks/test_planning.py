"""The three planning tasks: told apart by the id, and scored as a reader would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.answer import Text, Unparsed
from robointervlm.tasks import task_named
from robointervlm.tasks.planning import KINDS, Kind, chosen, decided, final_answer, planning_kind

PLANNING = task_named("planning")


def test_there_are_six_six_and_four_kinds():
    families = [kind.family for kind in KINDS]
    assert [families.count(name) for name in ("planning", "planning_choice", "planning_decide")] == [6, 6, 4]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_is_told_by_its_id(kind):
    assert planning_kind(f"0_{kind.name}_12") == kind


@pytest.mark.parametrize(
    "identifier, name",
    [
        ("Success_(Negative)_Task_7", "Success_Negative_Task"),
        ("Success_(Positive)_Task", "Success_Positive_Task"),
        ("12#Discriminative_Affordance_(Positive)_Task", "Discriminative_Affordance_Positive_Task"),
        ("success_positive_task_1", "Success_Positive_Task"),
        ("Planning with Context Task/3", "Planning_with_Context_Task"),
    ],
)
def test_parentheses_and_case_do_not_hide_a_kind(identifier, name):
    assert planning_kind(identifier).name == name


@pytest.mark.parametrize("identifier", ["", "Unknown_Task_1", "x_Planning_Task_Scene_Understanding"])
def test_no_kind_and_kinds_of_two_tasks_are_not_guessed(identifier):
    assert planning_kind(identifier) is None


def test_two_kinds_of_one_task_are_of_that_task():
    assert planning_kind("Success_Negative_Task_of_Success_Positive_Task") == Kind(
        "planning_decide", "Success_Negative_Task"
    )


@pytest.mark.parametrize(
    "text, plan",
    [
        ("pick up the cup", "pick up the cup"),
        ("Let me think.\npick up the cup\n\n", "pick up the cup"),
        ("The plan:\n1. pick up\n2. place", "1. pick up\n2. place"),
        ("1. pick up\n2. place\nSo: pick up and place", "So: pick up and place"),
        ("Step 1: pick up\nStep 2: place", "Step 1: pick up\nStep 2: place"),
        ("- pick up\n- place", "- pick up\n- place"),
        ("", ""),
    ],
)
def test_a_plan_is_the_list_at_the_end_or_the_last_line(text, plan):
    assert final_answer(text) == plan


def scored(task, predicted, reference):
    """The metrics of an answer, read as a model's text is; a failure costs the worst value."""
    answer, wanted = task.read(predicted, None), task.read(reference, None)
    failed = isinstance(answer, Unparsed)
    return {metric.name: metric.worst if failed else metric.measure(answer, wanted, None) for metric in task.metrics}


def test_a_new_line_at_the_end_does_not_lose_a_plan():
    assert scored(PLANNING, "pick up the cup\n", "pick up the cup") == {
        "BLEU": 1,
        "BLEU unsmoothed": 1,
        "sacreBLEU": 1,
    }


def test_a_plan_with_one_wrong_word_has_part_of_the_score():
    # BLEU-1 to -4 with the published smoothing: 3/4, (3/4 2/3)^1/2, (3/4 2/3 1/2)^.33, (3/4 2/3 1/2 0.1)^1/4.
    values = scored(PLANNING, "Pick up the cup", "pick up the plate")
    assert values["BLEU"] == pytest.approx((0.75 + 0.70711 + 0.63288 + 0.39764) / 4, abs=1e-4)
    assert values["BLEU unsmoothed"] == pytest.approx((0.75 + 0.70711 + 0.63288) / 4, abs=1e-4)
    assert 0 < values["sacreBLEU"] < 0.5


def test_a_reference_of_several_lines_is_compared_with_the_whole_answer():
    assert scored(PLANNING, "pick up\nplace", "pick up\nplace")["BLEU"] == 1


@pytest.mark.parametrize("empty", ["", " ", "\n\n", "<think>pick up the cup"])
@pytest.mark.parametrize("task", ["planning", "planning_choice", "planning_decide"])
def test_an_empty_answer_is_no_answer(task, empty):
    assert isinstance(task_named(task).read(empty, None), Unparsed)


@pytest.mark.parametrize(
    "answer, reference, right",
    [
        ("D", "D", 1),
        ("d", "D", 1),
        ("The answer is D.", "D", 1),
        ("D. open the drawer", "D", 1),
        ("open the drawer", "D. open the drawer", 1),
        ("Let me see.\nC", "C", 1),
        ("C. grab a bad cold drawer", "D", 0),
        ("A, B, C or D", "D", 0),
        ("I cannot tell", "D", 0),
        ("open the drawer", "open the drawer", 1),
        ("B. Open the drawer.", "open the drawer", 1),
        ("open", "open the drawer", 0),
        ("open the drawer twice", "open the drawer", 0),
    ],
)
def test_a_choice_is_read_by_its_letter_or_its_words(answer, reference, right):
    assert chosen(Text(answer), Text(reference)) == right


@pytest.mark.parametrize(
    "answer, reference, right",
    [
        ("yes", "Yes", 1),
        ("No, that was yesterday", "Yes", 0),
        ("No, that was yesterday", "no", 1),
        ("No?\nYes", "yes", 1),
        ("true", "yes", 1),
        ("I am not sure", "No", 0),
        ("unknown", "No", 0),
        ("graspable", "graspable", 1),
        ("The cup is graspable.", "graspable", 1),
        ("The cup is not graspable", "graspable", 0),
        ("ungraspable", "graspable", 0),
    ],
)
def test_a_decision_is_read_in_any_wording(answer, reference, right):
    assert decided(Text(answer), Text(reference)) == right


def test_the_reading_says_in_which_form_the_letter_was_and_when_there_is_none():
    choice, decide = task_named("planning_choice"), task_named("planning_decide")
    assert choice.reading("The answer is B.", None).tier == "statement"
    assert choice.reading("open the drawer", None).notes == ("no letter",)
    assert decide.reading("Yes", None).tier == "alone"
    assert decide.reading("graspable", None).notes == ("no yes or no",)


words = st.lists(st.sampled_from(["pick", "up", "the", "cup", "on"]), min_size=1, max_size=8).map(" ".join)


@given(words, st.text(max_size=40))
def test_no_plan_is_better_than_the_reference_and_none_worse_than_failing(reference, answer):
    for name, value in scored(PLANNING, answer, reference).items():
        assert 0 <= value <= scored(PLANNING, reference, reference)[name] + 1e-9
