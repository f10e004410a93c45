import pytest

from robointervlm.app.ask import blanks, complete_question, own_question
from robointervlm.core.errors import RecipeError
from robointervlm.tasks import all_tasks


@pytest.mark.parametrize(
    "task, question",
    [
        ("gripper_det", "Where is the gripper now?"),
        ("current_box", "Task: {instruction}. Where is the object to move now?"),
        (
            "traj",
            "Task: {instruction}. The gripper is now at {point}. Where will the gripper move? Give ten points.",
        ),
        ("traj_direction_choice", "Which arrow shows where the gripper will move now? Answer with A, B, C or D."),
        ("refcoco", ""),
    ],
)
def test_a_task_asks_in_the_words_of_the_made_datasets(task, question):
    assert own_question(task) == question


def test_every_task_that_is_named_here_exists():
    assert {task for task in all_tasks() if own_question(task)} > {"grounding", "naming", "contact_decide"}


def test_blanks_are_told_from_answers_in_braces():
    assert blanks('Is {"a": [1, 2]} near the {name}, or the {name} at {box}?') == ("{name}", "{box}")


def test_a_question_with_blanks_is_not_asked():
    assert complete_question("contact_decide") == "Is the gripper in contact with an object now?"
    with pytest.raises(RecipeError, match=r"has \{name\} to be filled in"):
        complete_question("grounding")
