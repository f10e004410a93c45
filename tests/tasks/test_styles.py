"""RoboBrain's task prompts, worded as the public release words them."""

from __future__ import annotations

import pytest

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.sample import ImageRef, Sample, Turn
from robointervlm.tasks import all_tasks, conversation, styled, task_named

# The object and the task stand in quotation marks, the second pair holding what is asked for.
MARKER = "<image>\n"
QUESTION = "<image>\nGive the '2D box' of the object for 'pick up the robot's cup, then stop'."
ABOUT = "pick up the robot's cup, then stop"
GROUNDING = "Please provide the bounding box coordinate of the region this sentence describes: "


@pytest.mark.parametrize(
    "task, words",
    [
        ("current_box", f"{GROUNDING}{ABOUT}."),
        ("contact_box", f"{GROUNDING}{ABOUT}."),
        ("final_box", f"{GROUNDING}{ABOUT}."),
        ("refcocog", f"{GROUNDING}{QUESTION.removeprefix(MARKER)}."),
        ("gripper_det", f"{GROUNDING}The gripper."),
        (
            "traj_wo_init_pos",
            f'You are a robot using the joint control. "{ABOUT}". Please predict up to 10 key trajectory points to '
            "complete the task. Your answer should be formatted as a list of tuples, i.e. [[x1, y1], [x2, y2], ...], "
            "where each tuple contains the x and y coordinates of a point.",
        ),
        (
            "where2place",
            f"{QUESTION.removeprefix(MARKER)}. Your answer should be formatted as a list of tuples, i.e. [(x1, y1), "
            "(x2, y2), ...], where each tuple contains the x and y coordinates of a point satisfying "
            "the conditions above. The coordinates should indicate the normalized "
            "pixel locations of the points in the image.",
        ),
        ("roborefit", QUESTION.removeprefix(MARKER)),
        ("contact_decide", QUESTION.removeprefix(MARKER)),
    ],
)
def test_robobrain_is_asked_in_the_words_of_its_task(task, words):
    assert styled(QUESTION, "robobrain", task_named(task).wordings) == f"<image>\n{words}"


def test_without_two_quotations_the_question_is_what_it_is_about():
    wordings = task_named("current_box").wordings
    assert styled("the red cup", "robobrain", wordings) == f"{GROUNDING}the red cup."
    assert styled("the robot's 'red' cup", "robobrain", wordings) == f"{GROUNDING}the robot's 'red' cup."


def test_no_picture_is_lost_with_the_text_around_a_quotation():
    question = "From 'here' <image> to 'there'"
    assert styled(question, "robobrain", task_named("current_box").wordings) == f"{GROUNDING}{question}."


def test_a_question_that_spells_a_placeholder_is_left_alone():
    assert styled("{about} {question}", "qwen_grounding").endswith("<ref>{about} {question}</ref>")
    assert styled("{question}", "robobrain", task_named("current_box").wordings) == f"{GROUNDING}{{question}}."


def test_robobrains_own_grounding_styles_are_worded_as_published():
    assert (
        styled("<image>\nred cup", "robobrain_grounding") == "<image>\nLocate the red cup, output the bbox coordinates."
    )
    assert styled("red cup", "robobrain_refindoor") == (
        "Give the box coordinates according to the instruction, Instruction: red cup, output the bbox coordinates in "
        "the format of [x1, y1, x2, y2]."
    )


def test_other_styles_are_the_same_for_every_task():
    for task in all_tasks().values():
        for style in ("default", "qwen_grounding", "refindoor", "w2p"):
            assert styled(QUESTION, style, task.wordings) == styled(QUESTION, style), (task.name, style)


def test_a_conversation_is_worded_by_its_task(tmp_path):
    turn = Turn(("<image>\nthe red cup",), Box(1, 2, 3, 4))
    sample = Sample("a", "current_box", "x", (ImageRef(tmp_path, "a.png"),), (turn,), ImageSize(10, 10))
    [message] = conversation(sample, task_named("current_box"), None, "robobrain")
    assert message.text == f"<image>\n{GROUNDING}the red cup."
