"""Conversations: any text is an answer, and numbers in it are left as they are.

Scored by equality up to white space.
"""

from __future__ import annotations

from robointervlm.core.answer import Text
from robointervlm.core.writing import write_answer
from robointervlm.tasks.task import Task, text_reading

TASKS = (
    Task(
        name="chat",
        reading=text_reading,
        write=write_answer,
        metrics=Text.metrics,
    ),
)
