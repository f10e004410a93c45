"""Tasks, one file per family. A file that defines `TASKS` is found by itself; two tasks of one name are an error."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from robointervlm.core.errors import RecipeError
from robointervlm.tasks.styles import styled
from robointervlm.tasks.task import Case, Metric, Task, conversation

__all__ = ["Case", "Metric", "Task", "all_tasks", "conversation", "styled", "task_for_stem", "task_named"]


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


def task_for_stem(stem: str) -> Task:
    """The task of an annotation file, by its name without folder and `.json`, or by the task's own name (`--type`)."""
    name = stem.removesuffix(".jsonl").removesuffix(".json")
    known = {known: task for task in all_tasks().values() for known in (task.name, *task.stems)}
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=3)) or ", ".join(all_tasks())
        raise RecipeError(f"no task is known for the annotations '{name}'; nearest: {near}.")
    return known[name]
