"""What several commands share: options, how a dataset is named, the terminal. Quick to import, for --help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console

from robointervlm.core.errors import RecipeError

if TYPE_CHECKING:
    from robointervlm.data.annotations import RecordProblem
    from robointervlm.data.spec import Catalog, DatasetSpec

# Of `robointer data`: which datasets, and what is to be known of a file that no catalog names.
Name = Annotated[str, typer.Argument(help="A dataset's name, or an annotation file (then with --task).")]
Names = Annotated[list[str], typer.Argument(help="Names of datasets, or annotation files (then with --task).")]
Root = Annotated[
    Path | None, typer.Option("--root", help="The folder dataset paths are relative to; default: $ROBOINTER_DATA.")
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
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Number of worker processes; default: one per core.")
]

# Of the commands that ask or train a model on datasets.
FileTask = Annotated[str | None, typer.Option("--task", help="The task of the annotation file's samples.")]
FileImages = Annotated[
    Path | None, typer.Option("--image-dir", help="The folder that the file's image paths are relative to.")
]
DataRoot = Annotated[Path | None, typer.Option("--root", help="Data root; $ROBOINTER_DATA by default.")]
OwnCatalog = Annotated[list[Path] | None, typer.Option("--catalog", help="A catalog of your own; repeatable.")]

# Of the commands that load a model.
Family = Annotated[str | None, typer.Option(help="Model family; detected from config.json if not given.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Maximum number of tokens to generate.")]
ModelSettings = Annotated[list[str] | None, typer.Option("--set", help="Keys of the model section: device=cpu.")]


def model_section(model: str, family: str | None, settings: list[str] | None) -> dict[str, object]:
    """The `model` section of a recipe that these flags describe."""
    from robointervlm.runs.settings import override_values

    section = {"path": model, "family": family, **override_values(settings or [])}
    return {key: value for key, value in section.items() if value is not None}


def named_dataset(  # noqa: PLR0913 - one per option
    name: str, catalog: Catalog, task: str, coordinates: str, image_dir: Path | None, *, follow_links: bool = False
) -> DatasetSpec:
    """The dataset of a catalog name, or of a file with what the options say of it."""
    from robointervlm.data import spec
    from robointervlm.tasks import all_tasks, task_named

    named = name.partition("%")[0]
    if named.partition("@")[0] in catalog or not Path(name).is_file():
        found = catalog[named]
    elif not task:
        raise RecipeError(f"'{name}' is a file, so its task must be given: --task, one of {', '.join(all_tasks())}.")
    else:
        asked, formats = task_named(task).name, get_args(spec.Coordinates)
        if coordinates not in formats:
            raise RecipeError(f"--coordinates {coordinates} is not known; one of: {', '.join(formats)}.")
        found = spec.spec_of_file(Path(name), task=asked, images=image_dir, coordinates=coordinates)  # type: ignore[arg-type]
    return found.model_copy(update={"follow_links": True}) if follow_links else found


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
    from robointervlm.jobs.progress import progress_bar

    with progress_bar(console_of(stderr=True), transient=True) as bar:
        job = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(job, completed=done, total=total)
