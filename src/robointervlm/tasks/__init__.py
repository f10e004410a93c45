"""Tasks, one file per family. A file that defines `TASKS` is found by itself; two tasks of one name are an error."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from robointervlm.core.errors import RecipeError
from robointervlm.tasks.task import Metric, Task, styled

__all__ = ["Metric", "Task", "all_tasks", "styled", "task_named"]


@cache
def all_tasks() -> dict[str, Task]:
    """Every task by name, in the order of the files and of their `TASKS`."""
    found: dict[str, Task] = {}
    origin: dict[str, str] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for task in getattr(importlib.import_module(f"{__name__}.{module}"), "TASKS", ()):
            if task.name in found:
                raise RecipeError(f"task '{task.name}' is defined in both {origin[task.name]}.py and {module}.py.")
            found[task.name], origin[task.name] = task, module
    return found


def task_named(name: str) -> Task:
    """The task of this name; a `RecipeError` names the nearest one otherwise."""
    tasks = all_tasks()
    if name not in tasks:
        near = ", ".join(difflib.get_close_matches(name, tasks, n=3)) or ", ".join(tasks)
        raise RecipeError(f"task '{name}' is not known; nearest: {near}.")
    return tasks[name]
