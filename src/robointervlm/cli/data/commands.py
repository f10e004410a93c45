"""`robointer data …`: the group of all commands of datasets, and those that show them: `list`, `show` and `view`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from robointervlm.cli import options
from robointervlm.cli.data import build, check, coordinates, counts, make
from robointervlm.core.coordinates import Space
from robointervlm.core.errors import RecipeError
from robointervlm.core.sample import Sample, written_question
from robointervlm.data.annotations import printable
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError
from robointervlm.data.spec import Catalog, data_root
from robointervlm.report.fragments import conversation_text, sample_card, samples_page
from robointervlm.runs.files import write_atomically
from robointervlm.tasks import task_named

app = typer.Typer(
    name="data",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="List, look at, check and make datasets. Start with `robointer data list`.",
)


@app.command("list")
def list_datasets(
    *, root: options.Root = None, catalog: options.Catalogs = None, task: options.TaskOption = ""
) -> None:
    """Show every dataset there is a name for, and whether its file is on disk.

    Example: `robointer data list --root /data/RoboInter-VQA --task current_box`
    """
    known = Catalog(*(catalog or ()))
    table = Table("name", "task", "split", "numbers", "on disk", title=f"data root: {data_root(root) or 'not set'}")
    shown = [spec for spec in known.values() if not task or spec.task == task]
    if not shown:
        raise RecipeError(f"no dataset asks the task '{task}'; without --task, all are listed.")
    for spec in shown:
        rooted = spec.root is not None or data_root(root) is not None
        on_disk = "?"
        if rooted or all(Path(path).is_absolute() for path in spec.annotations):
            on_disk = "yes" if any(path.is_file() for path in spec.candidates(root)) else "-"
        table.add_row(spec.name, spec.task, spec.split, spec.coordinates, on_disk)
    options.console_of().print(table)
    for alias, name in known.aliases.items():
        options.console_of().print(f"{alias} is a second name of {name}.", highlight=False)


@app.command("show")
def show(  # noqa: PLR0913 - one per option
    name: options.Name,
    *,
    count: Annotated[int, typer.Option("-n", min=1, help="Number of samples to show.")] = 3,
    root: options.Root = None,
    catalog: options.Catalogs = None,
    task: options.TaskOption = "",
    coordinates: options.CoordinatesOption = "pixel",
    image_dir: options.ImageDir = None,
    follow_links: options.FollowLinks = False,
) -> None:
    """Print the first samples of a dataset as text, their numbers in pixels.

    Example: `robointer data show sim_current_box_train -n 2`
    """
    known = Catalog(*(catalog or ()))
    spec = options.named_dataset(name, known, task, coordinates, image_dir, follow_links=follow_links)
    annotations = Annotations(spec, root)
    console, left_out = options.console_of(), options.LeftOut()
    console.print(
        f"{spec.name}: {len(annotations)} records in {annotations.file.path}", highlight=False, soft_wrap=True
    )
    for sample in _read(annotations, range(min(count, len(annotations))), left_out):
        size = f"{sample.size.width}x{sample.size.height}" if sample.size else "no picture"
        lines = [f"\n{printable(sample.id)}  (task {sample.task}, {size})"]
        lines += [f"  picture   {printable(image.path)}" for image in sample.images]
        space = Space.pixels(sample.size) if sample.size else None
        for turn in sample.turns:
            lines.append(f"  question  {written_question(turn.question, space)!r}")
            lines.append(f"  answer    {task_named(sample.task).write(turn.answer, space)!r}")
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
    left_out.say_how_many()


def _read(annotations: Annotations, places: Iterable[int], left_out: options.LeftOut) -> Iterator[Sample]:
    """The samples at these places; those that cannot be read are said and left out."""
    for place in places:
        try:
            sample = annotations[place]
        except (RecordError, RefusedRecordError) as error:
            left_out(error.problem)
        else:
            yield sample


def view(  # noqa: PLR0913 - one per option
    names: options.Names,
    *,
    count: Annotated[int, typer.Option("-n", min=1, help="Samples of each dataset, spread evenly over it.")] = 20,
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("samples.html"),
    root: options.Root = None,
    catalog: options.Catalogs = None,
    task: options.TaskOption = "",
    coordinates: options.CoordinatesOption = "pixel",
    image_dir: options.ImageDir = None,
    follow_links: options.FollowLinks = False,
) -> None:
    """Write a page of samples with their boxes, points and trajectories drawn over the pictures.

    Example: `robointer data view sim_current_box_train -n 20 --out samples.html`
    """
    known = Catalog(*(catalog or ()))
    shown, left_out = [], options.LeftOut()
    for name in names:
        spec = options.named_dataset(name, known, task, coordinates, image_dir, follow_links=follow_links)
        annotations = Annotations(spec, root)
        spread = np.linspace(0, len(annotations) - 1, min(count, len(annotations)), dtype=int).tolist()
        samples = _read(annotations, spread, left_out)
        shown.append((spec.name, [sample_card(sample, conversation_text(sample)) for sample in samples]))
    left_out.say_how_many()
    write_atomically(out, samples_page(shown))
    typer.echo(f"{out}: {sum(len(cards) for _, cards in shown)} samples")


app.command("convert")(make.convert)
app.command("build")(build.build)
app.command("coordinates")(coordinates.coordinates)
app.command("index")(counts.index)
app.command("unpack")(make.unpack)
app.command("check")(check.check)
app.command("stats")(counts.stats)
app.command("view")(view)
app.command("rewrite", no_args_is_help=True)(make.rewrite)
