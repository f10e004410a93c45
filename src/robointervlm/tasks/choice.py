"""Questions with lettered options. They differ in what they ask, not in how they are answered."""

from __future__ import annotations

from robointervlm.core.answer import Choice
from robointervlm.core.coordinates import Space
from robointervlm.core.reading import Reading, options_in, read_choice
from robointervlm.core.writing import write_answer
from robointervlm.tasks.task import Column, Task

# Of the published tables; all the others ask about a way of the gripper.
_COLUMNS: dict[str, Column] = {"grasppose_choice": "Grasp pose", "grounding_choice": "Grounding choice"}


def _reading(text: str, _space: Space | None) -> Reading:
    return read_choice(text)


def _reading_to(text: str, _space: Space | None, question: str) -> Reading:
    return read_choice(text, options_in(question) or None)


def _choice_task(name: str, *file_stems: str, places_in_question: bool = False) -> Task:
    return Task(
        name=name,
        reading=_reading,
        write=write_answer,
        metrics=Choice.metrics,
        file_stems=file_stems,
        places_in_question=places_in_question,
        max_new_tokens=256,
        reading_to=_reading_to,
        column=_COLUMNS.get(name, "Visual trace"),
    )


TASKS = (
    *(
        # The published stem, and those of the dataset registry, which also name the robot data.
        _choice_task(name, name, f"{name}_rh20t", f"{name}_droid")
        for name in (
            "grasppose_choice",
            "grounding_choice",
            "traj_choice",
            "trajlang_choice",
            "trajlang_sub_choice",
            "traj_direction_choice",
        )
    ),
    _choice_task(
        "traj_direction_choice_with_traj",
        "traj_direction_choice_with_traj",
        "traj_direction_choice_rh20t_with_traj",
        "traj_direction_choice_droid_with_traj",
        places_in_question=True,
    ),
)
