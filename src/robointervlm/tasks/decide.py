"""Questions answered by yes or no."""

from __future__ import annotations

from robointervlm.core.coordinates import Space
from robointervlm.core.reading import Reading, read_yes_no
from robointervlm.core.writing import write_answer
from robointervlm.metrics.exact import exact
from robointervlm.tasks.task import Metric, Task


def _reading(text: str, _space: Space | None) -> Reading:
    return read_yes_no(text)


TASKS = (
    Task(
        name="contact_decide",
        reading=_reading,
        write=write_answer,
        metrics=(Metric("Accuracy", "higher", exact, worst=0.0),),
        stems=("contact_decide", "rh20t_contact_decide", "droid_contact_decide"),
        max_new_tokens=256,
        column="Contact",
    ),
)
