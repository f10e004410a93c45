"""`robointer data …`: which datasets there are, what is in them, what is wrong with them, and making new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from robointervlm.cli.data.build import build
from robointervlm.cli.data.check import check
from robointervlm.cli.data.coordinates import coordinates as show_coordinates
from robointervlm.cli.data.index import index
from robointervlm.cli.data.options import (
    Catalogs,
    CoordinatesOption,
    FollowLinks,
    ImageDir,
    LeftOut,
    Root,
    TaskOption,
    console_of,
    named_dataset,
)
from robointervlm.cli.data.rewrite import rewrite
from robointervlm.cli.data.statistics import stats
from robointervlm.cli.data.unpack import unpack as unpack_archives
from robointervlm.cli.data.view import view
from robointervlm.core.coordinates import Space
from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.core.sample import Sample, written_question
from robointervlm.data.annotations import printable
from robointervlm.data.prepare.frames import DEFAULT_MAPPING, Converted, convert_frames, read_mapping
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError
from robointervlm.data.spec import Catalog, DatasetSpec, data_root
from robointervlm.tasks import task_named

app = typer.Typer(
    name="data",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="List, look at, check and make datasets. Start with `robointer data list`.",
)


@app.command("list")
def list_datasets(*, root: Root = None, catalog: Catalogs = None, task: TaskOption = "") -> None:
    """Show every dataset there is a name for, and whether its file is on disk.

    Example: `robointer data list --root /data/RoboInter-VQA --task current_box`
    """
    known = Catalog(*(catalog or ()))
    table = Table("name", "task", "split", "numbers", "on disk", title=f"data root: {data_root(root) or 'not set'}")
    shown = [spec for spec in known.values() if not task or spec.task == task]
    if not shown:
        raise RecipeError(f"no dataset asks the task '{task}'; without --task, all are listed.")
    for spec in shown:
        table.add_row(spec.name, spec.task, spec.split, spec.coordinates, _on_disk(spec, root))
    console_of().print(table)
    for alias, name in known.aliases.items():
        console_of().print(f"{alias} is a second name of {name}.", highlight=False)


def _on_disk(spec: DatasetSpec, root: Path | None) -> str:
    if spec.root is None and data_root(root) is None and not all(Path(path).is_absolute() for path in spec.annotations):
        return "?"
    return "yes" if any(path.is_file() for path in spec.candidates(root)) else "-"


@app.command("show")
def show(  # noqa: PLR0913 - one per option
    name: Annotated[str, typer.Argument(help="A dataset's name, or an annotation file (then with --task).")],
    *,
    count: Annotated[int, typer.Option("-n", min=1, help="Number of samples to show.")] = 3,
    root: Root = None,
    catalog: Catalogs = None,
    task: TaskOption = "",
    coordinates: CoordinatesOption = "pixel",
    image_dir: ImageDir = None,
    follow_links: FollowLinks = False,
) -> None:
    """Print the first samples of a dataset as text, their numbers in pixels.

    Example: `robointer data show sim_current_box_train -n 2`
    """
    spec = named_dataset(
        name,
        Catalog(*(catalog or ())),
        task=task,
        coordinates=coordinates,
        image_dir=image_dir,
        follow_links=follow_links,
    )
    annotations = Annotations(spec, root)
    console = console_of()
    console.print(
        f"{spec.name}: {len(annotations)} records in {annotations.file.path}", highlight=False, soft_wrap=True
    )
    left_out = LeftOut()
    for place in range(min(count, len(annotations))):
        try:
            console.print(_as_text(annotations[place]), highlight=False, markup=False, soft_wrap=True)
        except (RecordError, RefusedRecordError) as error:
            left_out(error.problem)
    left_out.say_how_many()


def _as_text(sample: Sample) -> str:
    size = f"{sample.size.width}x{sample.size.height}" if sample.size else "no picture"
    lines = [f"\n{printable(sample.id)}  (task {sample.task}, {size})"]
    lines += [f"  picture   {printable(image.path)}" for image in sample.images]
    space = Space.pixels(sample.size) if sample.size else None
    for turn in sample.turns:
        lines.append(f"  question  {written_question(turn.question, space)!r}")
        lines.append(f"  answer    {task_named(sample.task).write(turn.answer, space)!r}")
    return "\n".join(lines)


@app.command("convert")
def convert(
    *,
    annotations: Annotated[Path, typer.Option("--annotations", help="The table: a JSON list or JSONL of rows.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write to; pictures are copied into it.")],
    images: Annotated[
        Path | None, typer.Option("--images", help="What the rows' picture paths are relative to.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--from", help="What to convert: `frames`, a table of annotated frames.")
    ] = "frames",
    mapping: Annotated[Path | None, typer.Option("--mapping", help="YAML that says which column is what.")] = None,
) -> None:
    """Turn annotated frames into datasets in the published layout, with a catalog that names them.

    Example: `robointer data convert --from frames --annotations annotations.json --images . --out frames_data`,
    then `robointer data check frames_current_box_train --catalog frames_data`.
    The columns of your own table are named in a mapping; `robointervlm/data/prepare/mappings/frames.yaml` is the model.
    """
    if kind != "frames":
        raise RecipeError(f"--from {kind} is not known; `frames` is, a table of annotated frames.")
    folder = images if images is not None else annotations.parent
    converted = convert_frames(annotations, folder, out, read_mapping(mapping or DEFAULT_MAPPING))
    _print_converted(converted)
    if converted.problems:
        raise typer.Exit(ExitCode.BAD_INPUT)


def _print_converted(converted: Converted) -> None:
    console = console_of()
    table = Table(
        "task", "records", "empty cells", "partly outside", title=f"{converted.rows} rows into {converted.root}"
    )
    for name, count in converted.records.items():
        table.add_row(name, *map(str, (count, converted.empty.get(name, 0), converted.outside.get(name, 0))))
    console.print(table)
    for problem in converted.problems:
        console.print(f"left out: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Use them with --catalog {converted.root}; the names are in {converted.catalog}.",
        highlight=False,
        soft_wrap=True,
    )


app.command("build")(build)
app.command("coordinates")(show_coordinates)
app.command("index")(index)
app.command("unpack")(unpack_archives)
app.command("check")(check)
app.command("stats")(stats)
app.command("view")(view)
app.command("rewrite", no_args_is_help=True)(rewrite)
