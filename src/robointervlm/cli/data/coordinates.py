"""`robointer data coordinates`: a prediction file under every coordinate hypothesis, to look at, not to choose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from robointervlm.cli.options import console_of
from robointervlm.core.errors import RoboInterError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.evaluate.interop.coordinate_formats import Diagnosis, Hypothesis, Range, diagnose
from robointervlm.report.overlay import save_overlay
from robointervlm.runs.files import write_atomically

DIAGNOSTIC = (
    "This is a diagnostic. It chooses nothing, and the best row is no result: ask the author of the file, or look at "
    "the pictures, then declare the format with `robointer score --coordinates`."
)
OVERLAYS = 5


def coordinates(  # noqa: PLR0913 - one per flag
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of predictions: JSON or JSON lines.")],
    *,
    kind: Annotated[str, typer.Option(help="A task, or box, traj, point.")],
    gt_coordinates: Annotated[
        str | None, typer.Option("--gt-coordinates", help="What the references are in; default: each format in turn.")
    ] = None,
    image_dir: Annotated[
        Path | None, typer.Option(help="The folder picture paths start in; then overlays are drawn.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write coordinates.json and the overlays into this folder.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="WxH of pictures whose record does not say; or published.")
    ] = None,
    resize_limits: Annotated[str | None, typer.Option(help="MIN,MAX pixels of the processor, for resized.")] = None,
) -> None:
    """Show what a prediction file would score in each coordinate format. A diagnostic: it never chooses.

    Example: `robointer data coordinates eval_details_traj.json --kind traj --image-dir pictures --out look`
    """
    from robointervlm.cli.evaluate import declared

    said = declared(
        kind, gt_coordinates=gt_coordinates, image_size=image_size, image_dir=image_dir, resize_limits=resize_limits
    )
    found = diagnose(file, said)
    typer.echo(_said_of("predictions", found.predictions))
    typer.echo(_said_of("references", found.references))
    table = Table("predictions in", "references in", "task", "n", "unparsed", "inside the picture", "scores")
    for hypothesis in found.hypotheses:
        for row in _rows(hypothesis):
            table.add_row(*row)
    console_of().print(table)
    if out is not None:
        write_atomically(out / "coordinates.json", json.dumps(_as_json(found), indent=2) + "\n")
        # What is drawn of a prediction does not depend on the format of the references.
        for hypothesis in {each.coordinates: each for each in found.hypotheses if each.scored}.values():
            _draw(hypothesis, out / "overlays" / hypothesis.coordinates.value)
        typer.echo(
            f"{out / 'coordinates.json'} holds the figures, {out / 'overlays'} the pictures where there are any."
        )
    typer.echo(DIAGNOSTIC)


def _said_of(name: str, found: Range | None) -> str:
    if found is None:
        return f"{name}: no place was read"
    x, y = ("{:g} … {:g} … {:g}".format(*values) for values in (found.x, found.y))
    return f"numbers of {found.places} {name} (smallest … median … largest): x {x}, y {y}"


def _rows(hypothesis: Hypothesis) -> Iterator[tuple[str, ...]]:
    formats = (hypothesis.coordinates.value, hypothesis.references.value)
    if hypothesis.problem:
        yield *formats, "", "", "", "", hypothesis.problem
    for group in hypothesis.groups:
        inside = "" if hypothesis.inside is None else f"{hypothesis.inside:.0%}"
        means = [(metric["name"], metric["mean"]) for metric in cast("list[dict[str, Any]]", group["metrics"])]
        scores = "  ".join(f"{name} {'–' if mean is None else f'{mean:.4g}'}" for name, mean in means)
        yield *formats, str(group["task"]), str(group["n"]), str(group["unparsed"]), inside, scores


def _as_json(found: Diagnosis) -> dict[str, object]:
    return {
        "diagnostic": DIAGNOSTIC,
        "predictions": found.predictions and found.predictions._asdict(),
        "references": found.references and found.references._asdict(),
        "hypotheses": [
            {
                "coordinates": each.coordinates.value,
                "gt_coordinates": each.references.value,
                "problem": each.problem,
                "inside": each.inside,
                "tasks": list(each.groups),
            }
            for each in found.hypotheses
        ],
    }


def _draw(hypothesis: Hypothesis, folder: Path) -> None:
    """The first readable answers whose pictures are there, each drawn over its picture."""
    drawn = 0
    for scored in hypothesis.scored:
        if drawn == OVERLAYS:
            return
        if scored.predicted is None or not scored.requested.images:
            continue
        root, path = scored.requested.images[0]
        try:
            picture = images.load(ImageRef(Path(root), path, follow_links=scored.requested.follow_links))
        except RoboInterError:
            continue  # the table counts what is wrong; here the next picture is drawn instead
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", scored.requested.id)[:60]
        save_overlay(folder / f"{drawn}-{name}.png", picture, scored.predicted)
        drawn += 1
