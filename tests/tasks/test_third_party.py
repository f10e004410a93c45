"""Tasks of other projects' benchmarks: what they read and what they measure."""

import numpy as np
import pytest

from robointervlm.core.answer import Box, Choice, Points, Region, Text, Unparsed
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.tasks import task_named

SIZE = ImageSize(8, 4)
PIXELS = Space.pixels(SIZE)
# The right half of an 8 x 4 picture.
MASK = np.zeros((4, 8), dtype=bool)
MASK[:, 4:] = True
RIGHT_HALF = Region.of_mask(MASK)


def values(task, answer, reference, size=SIZE):
    return {metric.name: metric.measure(answer, reference, size) for metric in task_named(task).metrics}


@pytest.mark.parametrize(
    "name, column",
    [
        ("refcoco", "RefCOCO val"),
        ("refcoco_plus", "RefCOCO+ val"),
        ("refcocog", "RefCOCOg val"),
        ("roborefit", "RoboRefIt"),
        ("where2place", "Where2Place"),
        ("robovqa", "RoboVQA"),
    ],
)
def test_each_feeds_its_column_of_the_second_table(name, column):
    assert task_named(name).column == column


def test_referring_boxes_are_hit_over_one_half():
    assert task_named("refcoco").metrics[0].name == "ACC@IoU>0.5"
    # 10 x 10 boxes, the second moved by 4: 60 of 140 common.
    found = values("refcoco", Box(0, 0, 10, 10), Box(4, 0, 14, 10))
    assert found == {"ACC@IoU>0.5": 0.0, "ACC@IoU>0.1": 1.0, "IoU": pytest.approx(60 / 140)}


def test_the_share_of_the_points_inside_the_mask_is_the_headline():
    answer = Points(((5.0, 1.0), (1.0, 1.0), (7.9, 3.9), (8.0, 1.0)))  # the last is outside of the picture
    assert values("where2place", answer, RIGHT_HALF) == {"Inside": 0.5, "First inside": 1.0}
    assert values("where2place", Points(((1.0, 1.0), (5.0, 1.0))), RIGHT_HALF) == {"Inside": 0.5, "First inside": 0.0}


@pytest.mark.parametrize(
    "text, points",
    [
        ("[(5, 1), (7, 3)]", ((5.0, 1.0), (7.0, 3.0))),
        ("[[5, 1], [7, 3]]", ((5.0, 1.0), (7.0, 3.0))),
        ("(5, 1)", ((5.0, 1.0),)),
        ("<point>5 1</point>", ((5.0, 1.0),)),
    ],
)
def test_one_point_or_several_are_read(text, points):
    reading = task_named("where2place").reading(text, PIXELS)
    assert (reading.answer, reading.notes) == (Points(points), ())


@pytest.mark.parametrize(
    "text", ["[4, 0, 8, 4]", "(4, 0, 8, 4)", '{"bbox_2d": [4, 0, 8, 4]}', "<box>(4,0),(8,4)</box>"]
)
def test_a_box_counts_by_its_centre_and_says_so(text):
    reading = task_named("where2place").reading(text, PIXELS)
    assert reading.answer == Points(((6.0, 2.0),))
    assert reading.notes == ("centre of a box",)


def test_a_box_in_the_thinking_does_not_make_the_answer_one():
    reading = task_named("where2place").reading("<think>[4, 0, 8, 4]</think>[(5, 1), (7, 3)]", PIXELS)
    assert reading.answer == Points(((5.0, 1.0), (7.0, 3.0)))


def test_no_point_is_no_answer():
    assert isinstance(task_named("where2place").read("There is no free space.", PIXELS), Unparsed)


def test_a_plan_is_measured_by_its_words():
    plan = Text("put the yellow packet in the organizer")
    found = values("robovqa", plan, plan)
    assert found["BLEU-1"] == pytest.approx(1)
    assert found["BLEU-4"] == pytest.approx(1)
    assert found["Exact"] == 1
    other = values("robovqa", Text("drop candy"), plan)
    assert other["BLEU-1"] == 0
    assert other["Exact"] == 0


@pytest.mark.parametrize(
    "said, wanted, right",
    [
        ("no", "no", 1),
        ("No, it is not done.", "no", 1),
        ("not sure", "no", 0),
        ("I know", "no", 0),
        ("Yes.", "no", 0),
        ("yes", "yes", 1),
    ],
)
def test_a_yes_or_no_is_right_in_any_wording_and_never_by_substring(said, wanted, right):
    assert values("robovqa", Text(said), Text(wanted))["Exact"] == right


QUESTION = "Which is next?\nA. pick up the cup\nB. put it down\nAnswer with one letter."


def test_the_words_of_an_option_count_as_its_letter_where_the_question_lists_them():
    task = task_named("grasppose_choice")
    reading = task.reading_of("Put it down", None, QUESTION)
    assert (reading.answer, reading.tier) == (Choice("B"), "option")
    assert isinstance(task.reading_of("Put it down", None).answer, Unparsed)
    assert isinstance(task.reading_of("C", None, QUESTION).answer, Unparsed)


def test_a_repeated_question_is_no_answer():
    task = task_named("grasppose_choice")
    assert isinstance(task.reading_of(QUESTION, None, QUESTION).answer, Unparsed)
    reading = task.reading_of(f"{QUESTION}\nB", None, f"<image>\n{QUESTION}")
    assert (reading.answer, reading.notes) == (Choice("B"), ("after the question",))
