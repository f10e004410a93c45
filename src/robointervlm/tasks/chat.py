"""Conversations: any text is an answer, and numbers in it are left as they are.

Scored by equality up to white space.
"""

from __future__ import annotations

from robointervlm.core.writing import write_answer
from robointervlm.metrics.exact import exact
from robointervlm.tasks.task import Metric, Task, text_reading

TASKS = (
    Task(
        name="chat",
        reading=text_reading,
        write=write_answer,
        metrics=(Metric("Exact", "higher", exact, worst=0.0),),
    ),
)
