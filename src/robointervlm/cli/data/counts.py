"""`robointer data index` and `stats`: what training has to know of large datasets, and what datasets hold."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from robointervlm.cli import options
from robointervlm.data.mixture import Mixture
from robointervlm.data.prepare.stats import Statistics, statistics_of
from robointervlm.data.spec import Catalog, DatasetSpec
from robointervlm.report.statistics import statistics_page
from robointervlm.runs.files import write_atomically

if TYPE_CHECKING:
    from robointervlm.train.data.dataset import TrainingDataset
    from robointervlm.train.packing.lengths import Measures

# At most; a class is a whole number of tokens wide.
_TOKEN_CLASSES = 20


def index(  # noqa: PLR0913 - one per option
    names: options.Names,
    *,
    root: options.Root = None,
    catalog: options.Catalogs = None,
    task: options.TaskOption = "",
    coordinates: options.CoordinatesOption = "pixel",
    image_dir: options.ImageDir = None,
    follow_links: options.FollowLinks = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Also measure every sample's token length for this checkpoint, as sequence packing needs it.",
        ),
    ] = None,
    min_pixels: Annotated[int | None, typer.Option("--min-pixels", help="As model.min_pixels of the recipe.")] = None,
    max_pixels: Annotated[int | None, typer.Option("--max-pixels", help="As model.max_pixels of the recipe.")] = None,
    crops: Annotated[bool, typer.Option("--crops", help="For a recipe with augment.crop_min under 1.")] = False,
    workers: options.Workers = None,
) -> None:
    """Find where the records of large files lie, and with --model how long every sample is and what it shares.

    Training does both itself where it is not done; this does it ahead, on all cores. It is kept in $ROBOINTER_CACHE
    (default: ~/.cache/robointervlm). Run again, it goes on where it stopped, and measures what has other pictures now.

    Example: `robointer data index sim_current_box_train --model runs/demo/model`
    """
    known = Catalog(*(catalog or ()))
    specs = [
        options.named_dataset(name, known, task, coordinates, image_dir, follow_links=follow_links) for name in names
    ]
    columns = ("dataset", "records", "unreadable", "tokens: median", "largest", "pictures and prefixes", "seconds")
    table = Table(*columns)
    for spec in specs:
        started = time.perf_counter()
        mixture, cells = Mixture([spec], root=root, catalog=known), ["-"] * 4
        if model is not None:
            feed = feed_of(mixture, model, (min_pixels, max_pixels), crops=crops)
            cells = _cells(measured_rows(feed, workers=workers))
        table.add_row(spec.name, f"{len(mixture):,}", *cells, f"{time.perf_counter() - started:.1f}")
    options.console_of().print(table)


def feed_of(
    mixture: Mixture, model: Path, pixels: tuple[int | None, int | None] = (None, None), *, crops: bool = False
) -> TrainingDataset:
    """The samples of a mixture on their way to a checkpoint, as training feeds them.

    `pixels` are model.min_pixels and model.max_pixels of the recipe; None leaves the checkpoint's own.
    """
    # Needs the extra `train`, and torch takes seconds to import.
    from robointervlm.models.qwen2_5_vl import Section, encoder, folder
    from robointervlm.train.data.dataset import TrainingDataset
    from robointervlm.train.recipe import AugmentSection

    section = Section(path=str(model), min_pixels=pixels[0], max_pixels=pixels[1])
    read = encoder.read_encoder(section, folder.read_config(section.path))
    return TrainingDataset(mixture, read, AugmentSection(crop_min=0.5 if crops else 1.0), seed=0, max_tokens=0)


def measured_rows(feed: TrainingDataset, *, workers: int | None = None) -> Measures:
    """What a checkpoint makes of each sample of the feed's one dataset; those kept from before are read."""
    from robointervlm.train.packing.lengths import Work, cores, measures_of

    dataset = feed.mixture.datasets[0]
    with options.progress_of(f"measuring {dataset.spec.name}") as advance:
        return measures_of(feed, dataset, Work(workers or cores(), advance, check=True))


def _cells(rows: Measures) -> list[str]:
    """The cells of the table that tell of the samples' measures."""
    tokens = rows["tokens"][rows["tokens"] > 0]
    if not len(tokens):
        return [f"{len(rows):,}", "-", "-", "-"]
    shared = np.unique(rows["key"][rows["shared"] > 0], axis=0)
    return [f"{len(rows) - len(tokens):,}", f"{np.median(tokens):.0f}", f"{tokens.max():,}", f"{len(shared):,}"]


def stats(  # noqa: PLR0913 - one per option
    names: options.Names,
    *,
    out: Annotated[Path, typer.Option("--out", help="The page; the figures are written beside it as .json.")] = Path(
        "stats.html"
    ),
    root: options.Root = None,
    catalog: options.Catalogs = None,
    task: options.TaskOption = "",
    coordinates: options.CoordinatesOption = "pixel",
    image_dir: options.ImageDir = None,
    follow_links: options.FollowLinks = False,
    model: Annotated[Path | None, typer.Option("--model", help="Also count tokens, for this checkpoint.")] = None,
    workers: options.Workers = None,
) -> None:
    """Count what datasets hold: tasks, sources, boxes, trajectories, answers, and with --model tokens.

    Example: `robointer data stats sim_current_box_train --out stats.html`
    """
    known = Catalog(*(catalog or ()))
    datasets: list[dict[str, Any]] = []
    left_out = options.LeftOut()
    for name in names:
        spec = options.named_dataset(name, known, task, coordinates, image_dir, follow_links=follow_links)
        with options.progress_of(f"counting {spec.name}") as advance:
            counted = statistics_of(spec, root, workers=workers, progress=advance, left_out=left_out)
        datasets.append(described(spec, counted))
        if model is not None:
            feed = feed_of(Mixture([spec], root=root, catalog=known), model)
            rows = measured_rows(feed, workers=workers)
            datasets[-1]["tokens"] = _classes(rows["tokens"][rows["tokens"] > 0])
    left_out.say_how_many()
    write_statistics(out, datasets)
    table = Table("dataset", "source", "split", "task", "samples", "unreadable", "answers")
    for dataset in datasets:
        for name, counts in dataset["tasks"].items():
            answers = ", ".join(f"{answer} {n:,}" for answer, n in counts.get("answers", {}).items())
            cells = (f"{counts['samples']:,}", f"{dataset['unreadable']:,}", answers)
            table.add_row(dataset["dataset"], dataset["source"] or "-", dataset["split"], name, *cells)
    options.console_of().print(table)
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
