"""Samples with their answers drawn over their pictures, as one HTML file: no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from robointervlm.core.coordinates import Space
from robointervlm.core.errors import RoboInterError
from robointervlm.core.sample import ImageRef, Sample, written_question
from robointervlm.data import images
from robointervlm.report.overlay import COLOURS, data_uri, svg_shapes
from robointervlm.tasks import task_named


@dataclass(frozen=True)
class Shown:
    """A picture inside the page, or why it is missing."""

    uri: str
    width: int
    height: int
    missing: str = ""


@dataclass(frozen=True)
class SampleCard:
    """One sample as the page shows it; the answers are drawn over its first picture."""

    id: str
    task: str
    pictures: tuple[Shown, ...]
    shapes: Markup
    text: str


def sample_card(sample: Sample, text: str) -> SampleCard:
    """The card of a sample, with its questions and answers as text."""
    shapes = Markup("").join(svg_shapes(turn.answer, "true", sample.size) for turn in sample.turns)
    return SampleCard(sample.id, sample.task, tuple(map(_shown, sample.images)), shapes, text)


def _shown(reference: ImageRef) -> Shown:
    try:
        picture = images.load(reference)
    except RoboInterError as error:
        return Shown("", 0, 0, str(error))
    return Shown(data_uri(picture), picture.shape[1], picture.shape[0])


def samples_page(datasets: Sequence[tuple[str, Sequence[SampleCard]]]) -> str:
    """The page of datasets, each with its name and its cards."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("samples.html.j2").render(datasets=datasets, colour=COLOURS["true"])


def conversation_text(sample: Sample) -> str:
    """The questions and answers of a sample, in pixels of its first picture."""
    space = Space.pixels(sample.size) if sample.size else None
    task = task_named(sample.task)
    turns = [f"{written_question(turn.question, space)}\n→ {task.write(turn.answer, space)}" for turn in sample.turns]
    return "\n\n".join(turns)
