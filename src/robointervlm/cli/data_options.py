"""What the commands of `robointer data` have in common: options, how a dataset is named, the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robointervlm.core.errors import RecipeError
from robointervlm.data.spec import ROOT_VARIABLE, Catalog, Coordinates, DatasetSpec, spec_of_file
from robointervlm.tasks import all_tasks, task_named

Root = Annotated[
    Path | None, typer.Option("--root", help=f"The folder dataset paths are relative to; default: ${ROOT_VARIABLE}.")
]
Catalogs = Annotated[
    list[Path] | None,
    typer.Option("--catalog", help="A folder of YAML files (or one such file) with datasets of your own; repeatable."),
]
TaskOption = Annotated[str, typer.Option("--task", help="For a file: the task its records ask, e.g. current_box.")]
CoordinatesOption = Annotated[
    str, typer.Option("--coordinates", help="For a file: the format of its numbers: pixel, unit, per_mille or resized.")
]
ImageDir = Annotated[
    Path | None,
    typer.Option("--image-dir", help="For a file: what picture paths are relative to; default: its folder."),
]


def named_dataset(name: str, catalog: Catalog, *, task: str, coordinates: str, image_dir: Path | None) -> DatasetSpec:
    """The dataset of a catalog name, or of a file with what the options say of it."""
    named = name.partition("%")[0]
    if named.partition("@")[0] in catalog or not Path(name).is_file():
        return catalog[named]
    if not task:
        raise RecipeError(f"'{name}' is a file, so its task must be given: --task, one of {', '.join(all_tasks())}.")
    return spec_of_file(Path(name), task=task_named(task).name, images=image_dir, coordinates=_coordinates(coordinates))


def _coordinates(name: str) -> Coordinates:
    for known in get_args(Coordinates):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise RecipeError(f"--coordinates {name} is not known; one of: {', '.join(get_args(Coordinates))}.")


def console_of(*, stderr: bool = False) -> Console:
    """The terminal; where the output is not one, lines are long enough to be searched."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, which goes away when the work is done; none where nobody watches."""
    console = console_of(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
