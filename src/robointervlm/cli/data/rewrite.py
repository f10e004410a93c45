"""`robointer data rewrite`: a dataset in another coordinate format, or as records of another shape."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from robointervlm.cli.data.options import (
    Catalogs,
    CoordinatesOption,
    FollowLinks,
    ImageDir,
    LeftOut,
    Root,
    TaskOption,
    named_dataset,
    progress_of,
)
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import ExitCode, RecipeError
from robointervlm.data.prepare.rewrite import Rewriting, Shape, rewrite_to
from robointervlm.data.records import Annotations
from robointervlm.data.spec import Catalog
from robointervlm.runs.files import writing_to


def rewrite(  # noqa: PLR0913 - one per option
    name: Annotated[str, typer.Argument(help="A dataset's name, or an annotation file (then with --task).")],
    out: Annotated[Path, typer.Argument(help="The JSON file to write; JSON lines if its name ends in .jsonl.")],
    *,
    to: Annotated[str, typer.Option("--to", help="Its numbers: pixel, unit, per_mille, resized or a published name.")],
    shape: Annotated[
        str, typer.Option("--shape", help="published, training, evaluation, sharegpt or ms-swift.")
    ] = "published",
    decimals: Annotated[
        int | None, typer.Option("--decimals", min=0, max=9, help="Of its numbers; default: as in the published files.")
    ] = None,
    root: Root = None,
    catalog: Catalogs = None,
    task: TaskOption = "",
    coordinates: CoordinatesOption = "pixel",
    image_dir: ImageDir = None,
    follow_links: FollowLinks = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Number of worker processes; default: one per core.")
    ] = None,
) -> None:
    """Write a dataset with its numbers in another format, those inside questions too; the file is there when whole.

    As in the published files, `unit` numbers have two decimals, which moves a place by up to 1.6 pixels in a picture
    320 wide, and `resized` ones are truncated. `--decimals 4` keeps `unit` within a thirtieth of a pixel at 640.
    Stopped and run again, it goes on where it was. A wrong record is named and left out; the exit code is then 3.

    Example: `robointer data rewrite sim_current_box_train boxes.json --to smart_resize_format`
    """
    if shape not in get_args(Shape):
        raise RecipeError(f"--shape {shape} is not known; one of: {', '.join(get_args(Shape))}.")
    spec = named_dataset(
        name,
        Catalog(*(catalog or ())),
        task=task,
        coordinates=coordinates,
        image_dir=image_dir,
        follow_links=follow_links,
    )
    how = Rewriting(CoordinateFormat.named(to), shape, decimals)  # type: ignore[arg-type]
    with writing_to(out), progress_of(f"rewriting {spec.name}") as advance:
        annotations, left_out = Annotations(spec, root), LeftOut()
        count = rewrite_to(out, annotations, how, root=root, workers=workers, progress=advance, left_out=left_out)
    typer.echo(f"{out}: {count:,} records")
    if count < len(annotations):
        # Those that an earlier call left out before it was stopped were named by it.
        typer.echo(f"{len(annotations) - count:,} are left out; `robointer data check` lists all.", err=True)
        raise typer.Exit(ExitCode.BAD_INPUT)
