"""`robointer data stats`: what datasets hold, as a table, a page with plots, and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from robointervlm.cli.data.index import feed_of, measured_rows, model_section
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
    progress_of,
)
from robointervlm.data.mixture import Mixture
from robointervlm.data.prepare.stats import Statistics, statistics_of
from robointervlm.data.spec import Catalog, DatasetSpec
from robointervlm.report.statistics import statistics_page
from robointervlm.runs.files import write_atomically

# At most; a class is a whole number of tokens wide.
_TOKEN_CLASSES = 20


def stats(  # noqa: PLR0913 - one per option
    names: Annotated[list[str], typer.Argument(help="Names of datasets, or annotation files (then with --task).")],
    *,
    out: Annotated[Path, typer.Option("--out", help="The page; the figures are written beside it as .json.")] = Path(
        "stats.html"
    ),
    root: Root = None,
    catalog: Catalogs = None,
    task: TaskOption = "",
    coordinates: CoordinatesOption = "pixel",
    image_dir: ImageDir = None,
    follow_links: FollowLinks = False,
    model: Annotated[Path | None, typer.Option("--model", help="Also count tokens, for this checkpoint.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Number of worker processes; default: one per core.")
    ] = None,
) -> None:
    """Count what datasets hold: tasks, sources, boxes, trajectories, answers, and with --model tokens.

    Example: `robointer data stats sim_current_box_train --out stats.html`
    """
    known = Catalog(*(catalog or ()))
    datasets: list[dict[str, Any]] = []
    left_out = LeftOut()
    for name in names:
        spec = named_dataset(
            name, known, task=task, coordinates=coordinates, image_dir=image_dir, follow_links=follow_links
        )
        with progress_of(f"counting {spec.name}") as advance:
            counted = statistics_of(spec, root, workers=workers, progress=advance, left_out=left_out)
        datasets.append(described(spec, counted))
        if model is not None:
            feed = feed_of(Mixture([spec], root=root, catalog=known), model_section(model))
            rows = measured_rows(feed, workers=workers)
            datasets[-1]["tokens"] = _classes(rows["tokens"][rows["tokens"] > 0])
    left_out.say_how_many()
    write_statistics(out, datasets)
    _print(datasets)
    typer.echo(f"{out} shows the plots, {out.with_suffix('.json')} holds the figures.")


def described(spec: DatasetSpec, counted: Statistics) -> dict[str, Any]:
    """The counts of a dataset as JSON values, with its name, source and split."""
    return {"dataset": spec.name, "source": spec.source, "split": spec.split, **counted.as_json()}


def write_statistics(out: Path, datasets: list[dict[str, Any]]) -> None:
    """Write the page of these datasets, and their figures beside it."""
    write_atomically(out, statistics_page(datasets))
    write_atomically(out.with_suffix(".json"), json.dumps(datasets, indent=1) + "\n")


def _classes(tokens: Any) -> dict[str, int]:
    """How many samples there are in equal classes of length, by where each class begins."""
    if not len(tokens):
        return {}
    first, last = int(tokens.min()), int(tokens.max())
    width = -(-(last - first + 1) // _TOKEN_CLASSES)
    counts = np.bincount((tokens - first) // width)
    return {str(first + width * place): int(count) for place, count in enumerate(counts)}


def _print(datasets: list[dict[str, Any]]) -> None:
    table = Table("dataset", "source", "split", "task", "samples", "unreadable", "answers")
    for dataset in datasets:
        for task, counts in dataset["tasks"].items():
            answers = ", ".join(f"{answer} {n:,}" for answer, n in counts.get("answers", {}).items())
            cells = (f"{counts['samples']:,}", f"{dataset['unreadable']:,}", answers)
            table.add_row(dataset["dataset"], dataset["source"] or "-", dataset["split"], task, *cells)
    console_of().print(table)
