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
from robointervlm.data.annotations import RecordProblem
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

FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Read pictures behind symbolic links that lead out of the folder.")
]


def named_dataset(  # noqa: PLR0913 - one per option
    name: str,
    catalog: Catalog,
    *,
    task: str,
    coordinates: str,
    image_dir: Path | None,
    follow_links: bool = False,
) -> DatasetSpec:
    """The dataset of a catalog name, or of a file with what the options say of it."""
    spec = _named(name, catalog, task, coordinates, image_dir)
    return spec.model_copy(update={"follow_links": True}) if follow_links else spec


def _named(name: str, catalog: Catalog, task: str, coordinates: str, image_dir: Path | None) -> DatasetSpec:
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


class LeftOut:
    """Says on standard error which records are left out: the first of them, and in the end how many there are."""

    def __init__(self, shown: int = 20) -> None:
        self.count = 0
        self._shown = shown

    def __call__(self, problem: RecordProblem) -> None:
        self.count += 1
        if self.count <= self._shown:
            typer.echo(f"left out: {problem}", err=True)

    def say_how_many(self) -> None:
        """The last line, where not every record got one of its own."""
        if self.count > self._shown:
            typer.echo(f"{self.count:,} records are left out; `robointer data check` lists all.", err=True)


@contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, which goes away when the work is done; none where nobody watches."""
    console = console_of(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
