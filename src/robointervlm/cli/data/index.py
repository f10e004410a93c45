"""`robointer data index`: what training has to know of large datasets, found out before it begins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from robointervlm.cli.data.options import (
    Catalogs,
    CoordinatesOption,
    FollowLinks,
    ImageDir,
    Root,
    TaskOption,
    console_of,
    named_dataset,
    progress_of,
)
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog

if TYPE_CHECKING:
    from robointervlm.models.qwen2_5_vl import Section
    from robointervlm.train.data.dataset import TrainingDataset
    from robointervlm.train.packing.lengths import Measures


def index(  # noqa: PLR0913 - one per option
    names: Annotated[list[str], typer.Argument(help="Names of datasets, or annotation files (then with --task).")],
    *,
    root: Root = None,
    catalog: Catalogs = None,
    task: TaskOption = "",
    coordinates: CoordinatesOption = "pixel",
    image_dir: ImageDir = None,
    follow_links: FollowLinks = False,
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
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Number of worker processes; default: one per core.")
    ] = None,
) -> None:
    """Find where the records of large files lie, and with --model how long every sample is and what it shares.

    Training does both itself where it is not done; this does it ahead, on all cores. It is kept in $ROBOINTER_CACHE
    (default: ~/.cache/robointervlm). Run again, it goes on where it stopped, and measures what has other pictures now.

    Example: `robointer data index sim_current_box_train --model runs/demo/model`
    """
    known = Catalog(*(catalog or ()))
    specs = [
        named_dataset(name, known, task=task, coordinates=coordinates, image_dir=image_dir, follow_links=follow_links)
        for name in names
    ]
    section = None if model is None else model_section(model, min_pixels, max_pixels)
    columns = ("dataset", "records", "unreadable", "tokens: median", "largest", "pictures and prefixes", "seconds")
    table = Table(*columns)
    for spec in specs:
        started = time.perf_counter()
        mixture = Mixture([spec], root=root, catalog=known)
        feed = None if section is None else feed_of(mixture, section, crops=crops)
        measured = [] if feed is None else _measured(measured_rows(feed, workers=workers))
        cells = measured or ["-"] * 4
        table.add_row(spec.name, f"{len(mixture):,}", *cells, f"{time.perf_counter() - started:.1f}")
    console_of().print(table)


def model_section(model: Path, min_pixels: int | None = None, max_pixels: int | None = None) -> Section:
    """The model section of a recipe that names this checkpoint."""
    from robointervlm.models.qwen2_5_vl import Section  # noqa: PLC0415 - needs the extra `train`

    return Section(path=str(model), min_pixels=min_pixels, max_pixels=max_pixels)


def feed_of(mixture: Mixture, section: Section, *, crops: bool = False) -> TrainingDataset:
    """The samples of a mixture on their way to a checkpoint, as training feeds them."""
    from robointervlm.models.qwen2_5_vl.encoder import read_encoder
    from robointervlm.models.qwen2_5_vl.folder import read_config  # noqa: PLC0415 - torch takes seconds to import
    from robointervlm.train.data.dataset import TrainingDataset
    from robointervlm.train.recipe import AugmentSection

    augment = AugmentSection(crop_min=0.5 if crops else 1.0)
    return TrainingDataset(mixture, read_encoder(section, read_config(section.path)), augment, seed=0, max_tokens=0)


def measured_rows(feed: TrainingDataset, *, workers: int | None = None) -> Measures:
    """What a checkpoint makes of each sample of the feed's one dataset; those kept from before are read."""
    from robointervlm.train.packing.lengths import Work, cores, measures_of  # noqa: PLC0415 - as above

    dataset = feed.mixture.datasets[0]
    with progress_of(f"measuring {dataset.spec.name}") as advance:
        return measures_of(feed, dataset, Work(workers or cores(), advance, check=True))


def _measured(rows: Measures) -> list[str]:
    """The cells of the table that tell of the samples' measures."""
    tokens = rows["tokens"][rows["tokens"] > 0]
    if not len(tokens):
        return [f"{len(rows):,}", "-", "-", "-"]
    shared = np.unique(rows["key"][rows["shared"] > 0], axis=0)
    return [f"{len(rows) - len(tokens):,}", f"{np.median(tokens):.0f}", f"{tokens.max():,}", f"{len(shared):,}"]
