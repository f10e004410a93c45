"""`robointer data convert`, `rewrite` and `unpack`: datasets made of tables, other datasets and published archives."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.table import Table

from robointervlm.cli import options
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.data import spec
from robointervlm.data.prepare import frames
from robointervlm.data.prepare import rewrite as rewriting
from robointervlm.data.prepare import unpack as unpacking
from robointervlm.data.records import Annotations
from robointervlm.runs.files import writing_to

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


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
    columns = frames.read_mapping(mapping or frames.DEFAULT_MAPPING)
    converted = frames.convert_frames(annotations, images if images is not None else annotations.parent, out, columns)
    title = f"{converted.rows} rows into {converted.root}"
    table = Table("task", "records", "empty cells", "partly outside", title=title)
    for name, count in converted.records.items():
        table.add_row(name, *map(str, (count, converted.empty.get(name, 0), converted.outside.get(name, 0))))
    console = options.console_of()
    console.print(table)
    for problem in converted.problems:
        console.print(f"left out: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    use = f"Use them with --catalog {converted.root}; the names are in {converted.catalog}."
    console.print(use, highlight=False, soft_wrap=True)
    if converted.problems:
        raise typer.Exit(ExitCode.BAD_INPUT)


def rewrite(  # noqa: PLR0913 - one per option
    name: options.Name,
    out: Annotated[Path, typer.Argument(help="The JSON file to write; JSON lines if its name ends in .jsonl.")],
    *,
    to: Annotated[str, typer.Option("--to", help="Its numbers: pixel, unit, per_mille, resized or a published name.")],
    shape: Annotated[
        str, typer.Option("--shape", help="published, training, evaluation, sharegpt or ms-swift.")
    ] = "published",
    decimals: Annotated[
        int | None, typer.Option("--decimals", min=0, max=9, help="Of its numbers; default: as in the published files.")
    ] = None,
    root: options.Root = None,
    catalog: options.Catalogs = None,
    task: options.TaskOption = "",
    coordinates: options.CoordinatesOption = "pixel",
    image_dir: options.ImageDir = None,
    follow_links: options.FollowLinks = False,
    workers: options.Workers = None,
) -> None:
    """Write a dataset with its numbers in another format, those inside questions too; the file is there when whole.

    As in the published files, `unit` numbers have two decimals, which moves a place by up to 1.6 pixels in a picture
    320 wide, and `resized` ones are truncated. `--decimals 4` keeps `unit` within a thirtieth of a pixel at 640.
    Stopped and run again, it goes on where it was. A wrong record is named and left out; the exit code is then 3.

    Example: `robointer data rewrite sim_current_box_train boxes.json --to smart_resize_format`
    """
    if shape not in get_args(rewriting.Shape):
        raise RecipeError(f"--shape {shape} is not known; one of: {', '.join(get_args(rewriting.Shape))}.")
    known = spec.Catalog(*(catalog or ()))
    dataset = options.named_dataset(name, known, task, coordinates, image_dir, follow_links=follow_links)
    how = rewriting.Rewriting(CoordinateFormat.named(to), shape, decimals)  # type: ignore[arg-type]
    with writing_to(out), options.progress_of(f"rewriting {dataset.name}") as advance:
        annotations, left_out = Annotations(dataset, root), options.LeftOut()
        count = rewriting.rewrite_to(
            out, annotations, how, root=root, workers=workers, progress=advance, left_out=left_out
        )
    typer.echo(f"{out}: {count:,} records")
    if count < len(annotations):
        # Those that an earlier call left out before it was stopped were named by it.
        typer.echo(f"{len(annotations) - count:,} are left out; `robointer data check` lists all.", err=True)
        raise typer.Exit(ExitCode.BAD_INPUT)


def unpack(
    *,
    data_type: Annotated[
        str, typer.Option("--data-type", "--data_type", help=f"{', '.join(unpacking.TYPES)}, or all.")
    ] = "Generation",
    root: Annotated[
        Path | None,
        typer.Option("--root", "--data_root", help="The folder that holds Generation; default: $ROBOINTER_DATA."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "--num_workers", min=1, help="Number of worker processes; default: one per core."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dry_run", help="Look the archives through, write nothing.")
    ] = False,
    max_unpacked: Annotated[
        str, typer.Option("--max-unpacked", help="Bytes that all archives may unpack to, such as 500GB.")
    ] = "2TB",
) -> None:
    """Unpack the picture archives next to where they lie, split ones too. Run again, it finishes what was stopped.

    A damaged archive (exit code 3) or a hostile one (exit code 5) is named, and the others are unpacked all the same.

    Example: `robointer data unpack --data-type all --root /data/RoboInter-VQA`
    """
    types = unpacking.TYPES
    folder = spec.data_root(root)
    if folder is None:
        raise RecipeError(f"--root (or {spec.ROOT_VARIABLE}) is missing: the folder that holds {', '.join(types)}.")
    size = re.fullmatch(r"(\d+)\s*([KMGT]?)B?", max_unpacked, re.IGNORECASE)
    if size is None:
        raise RecipeError(f"--max-unpacked {max_unpacked} is not a size; write it as 500GB.")
    if data_type != "all" and data_type not in types:
        raise RecipeError(f"--data-type {data_type} is not known; one of {', '.join(types)}, all.")
    archives = unpacking.archives_of(folder, types if data_type == "all" else (data_type,))
    with options.progress_of("unpacking") as advance:
        results = unpacking.unpack(
            archives,
            workers=workers or os.cpu_count() or 1,
            max_unpacked=int(size[1]) * _UNITS[size[2].upper()],
            dry_run=dry_run,
            progress=advance,
        )
    for result in results:
        done = f"{result.written} files written,"
        if dry_run:
            done = f"{result.members} files, {result.size / 1e9:.2f} GB;"
        line = f"{result.archive}: {done} {result.kept} there already"
        typer.echo(f"not unpacked: {result.problem}" if result.problem else line, err=bool(result.problem))
    if code := max(result.exit_code for result in results):
        raise typer.Exit(code)
