"""Numbers with a unit, such as an angle in degrees: how a task of them is made. None of the benchmark's is."""

from __future__ import annotations

from functools import partial

from robointervlm.core.reading import read_number
from robointervlm.core.writing import write_answer
from robointervlm.metrics.standard import absolute_error
from robointervlm.tasks.task import Task


def number_task(name: str, *, unit: str, penalty: float, key: str = "", file_stems: tuple[str, ...] = ()) -> Task:
    """A task whose answer is a number in this unit, under `key` if one is asked for; by default the task's name.

    It is measured by its absolute error, which for a failed answer is the penalty, and never more.
    """
    key = key or name
    return Task(
        name=name,
        reading=partial(read_number, key=key, unit=unit),
        write=partial(write_answer, key=key),
        metrics=(absolute_error(unit, penalty=penalty),),
        file_stems=file_stems,
        max_new_tokens=64,
    )
