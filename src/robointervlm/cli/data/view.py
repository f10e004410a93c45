"""`robointer data view`: samples of datasets to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
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
)
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError
from robointervlm.data.spec import Catalog
from robointervlm.report.fragments import SampleCard, conversation_text, sample_card, samples_page
from robointervlm.runs.files import write_atomically


def view(  # noqa: PLR0913 - one per option
    names: Annotated[list[str], typer.Argument(help="Names of datasets, or annotation files (then with --task).")],
    *,
    count: Annotated[int, typer.Option("-n", min=1, help="Samples of each dataset, spread evenly over it.")] = 20,
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("samples.html"),
    root: Root = None,
    catalog: Catalogs = None,
    task: TaskOption = "",
    coordinates: CoordinatesOption = "pixel",
    image_dir: ImageDir = None,
    follow_links: FollowLinks = False,
) -> None:
    """Write a page of samples with their boxes, points and trajectories drawn over the pictures.

    Example: `robointer data view sim_current_box_train -n 20 --out samples.html`
    """
    known = Catalog(*(catalog or ()))
    shown, left_out = [], LeftOut()
    for name in names:
        spec = named_dataset(
            name, known, task=task, coordinates=coordinates, image_dir=image_dir, follow_links=follow_links
        )
        shown.append((spec.name, _cards(Annotations(spec, root), count, left_out)))
    left_out.say_how_many()
    write_atomically(out, samples_page(shown))
    typer.echo(f"{out}: {sum(len(cards) for _, cards in shown)} samples")


def _cards(annotations: Annotations, count: int, left_out: LeftOut) -> list[SampleCard]:
    cards = []
    for index in np.linspace(0, len(annotations) - 1, min(count, len(annotations)), dtype=int).tolist():
        try:
            sample = annotations[index]
        except (RecordError, RefusedRecordError) as error:
            left_out(error.problem)
            continue
        cards.append(sample_card(sample, conversation_text(sample)))
    return cards
