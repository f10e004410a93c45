"""Tasks, one file per family. A file that defines `TASKS` is found by itself; two tasks of one name are an error.

So are the `TASKS` of plugins (docs/plugins.md).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from functools import cache

from robointervlm.core import plugins
from robointervlm.core.errors import RecipeError
from robointervlm.tasks.styles import styled
from robointervlm.tasks.task import Case, Metric, Task, conversation

__all__ = ["Case", "Metric", "Task", "all_tasks", "conversation", "styled", "task_for_stem", "task_named"]


def all_tasks() -> dict[str, Task]:
    """Every task by name: ours in the order of the files and of their `TASKS`, then those of plugins and packages."""
    return _all_tasks(plugins.loaded())


@cache
def _all_tasks(given: tuple[plugins.Plugin, ...]) -> dict[str, Task]:
    found: dict[str, Task] = {}
    origin: dict[str, str] = {}
    for place, tasks in _places(given):
        for task in tasks:
            if task.name in found:
                raise RecipeError(f"task '{task.name}' is defined in both {origin[task.name]} and {place}.")
            found[task.name], origin[task.name] = task, place
    return found


def _ours() -> Iterator[tuple[str, Iterable[Task]]]:
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        yield f"{module}.py", getattr(importlib.import_module(f"{__name__}.{module}"), "TASKS", ())


def _places(given: tuple[plugins.Plugin, ...]) -> Iterator[tuple[str, Iterable[Task]]]:
    """Where tasks are defined, and those that are."""
    yield from _ours()
    for plugin in given:
        place = f"the plugin {plugin.name}"
        yield place, _tasks_in(getattr(plugin.module, "TASKS", ()), place)
    # A package that names its tasks may be given as a plugin, too.
    seen = [getattr(plugin.module, "TASKS", None) for plugin in given]
    for point in plugins.of_entry_points("robointervlm.tasks"):
        named = plugins.entry_point_object(point)
        tasks = getattr(named, "TASKS", named)
        if not any(tasks is each for each in seen):
            place = plugins.in_words(point)
            yield place, _tasks_in(tasks, place)


def _tasks_in(value: object, place: str) -> Iterable[Task]:
    tasks = value if isinstance(value, list | tuple) else (value,)
    for each in tasks:
        if not isinstance(each, Task):
            raise RecipeError(f"{place}: TASKS holds a {type(each).__name__}; a tuple of Task is expected.")
    return tasks


def task_named(name: str) -> Task:
    """The task of this name; a `RecipeError` names the nearest one otherwise."""
    tasks = all_tasks()
    if name not in tasks:
        near = ", ".join(difflib.get_close_matches(name, tasks, n=3)) or ", ".join(tasks)
        raise RecipeError(f"task '{name}' is not known; nearest: {near}.")
    return tasks[name]


def is_ours(name: str) -> bool:
    """Whether a task comes with this package, and not from a plugin."""
    return any(task.name == name for _, tasks in _ours() for task in tasks)


def task_for_stem(stem: str) -> Task:
    """The task of an annotation file, by its name without folder and `.json`, or by the task's own name (`--type`)."""
    name = stem.removesuffix(".jsonl").removesuffix(".json")
    known = {known: task for task in all_tasks().values() for known in (task.name, *task.file_stems)}
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=3)) or ", ".join(all_tasks())
        raise RecipeError(f"no task is known for the annotations '{name}'; nearest: {near}.")
    return known[name]
