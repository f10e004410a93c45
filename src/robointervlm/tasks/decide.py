"""Questions answered by yes or no."""

from __future__ import annotations

from robointervlm.core.answer import YesNo
from robointervlm.core.coordinates import Space
from robointervlm.core.reading import Reading, read_yes_no
from robointervlm.core.writing import write_answer
from robointervlm.tasks.task import Task


def _reading(text: str, _space: Space | None) -> Reading:
    return read_yes_no(text)


TASKS = (
    Task(
        name="contact_decide",
        reading=_reading,
        write=write_answer,
        metrics=YesNo.metrics,
        file_stems=("contact_decide", "rh20t_contact_decide", "droid_contact_decide"),
        max_new_tokens=256,
        column="Contact",
    ),
)
