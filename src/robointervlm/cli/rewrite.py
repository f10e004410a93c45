"""`robointer data rewrite`: a dataset in another coordinate format, or as records of another shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import typer

from robointervlm.cli.data_options import (
    Catalogs,
    CoordinatesOption,
    ImageDir,
    Root,
    TaskOption,
    named_dataset,
)
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import RecipeError
from robointervlm.data.prepare.rewrite import Shape, rewritten
from robointervlm.data.records import Annotations
from robointervlm.data.spec import Catalog
from robointervlm.runs.files import writing_to


def rewrite(  # noqa: PLR0913 - one per option
    name: Annotated[str, typer.Argument(help="A dataset's name, or an annotation file (then with --task).")],
    out: Annotated[Path, typer.Argument(help="The JSON file to write.")],
    *,
    to: Annotated[str, typer.Option("--to", help="Its numbers: pixel, unit, per_mille, resized or a published name.")],
    shape: Annotated[str, typer.Option("--shape", help="published, training, evaluation or sharegpt.")] = "published",
    root: Root = None,
    catalog: Catalogs = None,
    task: TaskOption = "",
    coordinates: CoordinatesOption = "pixel",
    image_dir: ImageDir = None,
) -> None:
    """Write a dataset with its numbers in another format, those inside questions too; the file is there when whole.

    `unit` numbers have two decimals and `resized` ones are truncated, as in the published files, so that the way back
    is exact only up to that: convert from `pixel` where you can.

    Example: `robointer data rewrite sim_current_box_train boxes.json --to smart_resize_format`
    """
    if shape not in get_args(Shape):
        raise RecipeError(f"--shape {shape} is not known; one of: {', '.join(get_args(Shape))}.")
    spec = named_dataset(name, Catalog(*(catalog or ())), task=task, coordinates=coordinates, image_dir=image_dir)
    records = rewritten(Annotations(spec, root), CoordinateFormat.named(to), shape)  # type: ignore[arg-type]
    temporary = out.with_name(f".tmp-{out.name}")
    count = 0
    with writing_to(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write("[\n")
                for record in records:
                    file.write((",\n" if count else "") + json.dumps(record, ensure_ascii=False))
                    count += 1
                file.write("\n]\n")
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    typer.echo(f"{out}: {count:,} records")
