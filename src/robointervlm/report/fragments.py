"""Answers and samples as pieces of a web page that somebody else makes, and samples as a page of their own.

What is shown is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.errors import RoboInterError
from robointervlm.core.prompt import Picture
from robointervlm.core.sample import ImageRef, Sample, written_question
from robointervlm.data import images
from robointervlm.report.overlay import COLOURS, data_uri, svg_shapes
from robointervlm.report.page import card
from robointervlm.report.tables import STATUS_MEANING
from robointervlm.report.templates import rendered
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
    """The page of datasets, each with its name and its cards: one HTML file, no network, no script."""
    return rendered("samples.html.j2", {"datasets": datasets, "colour": COLOURS["true"]}, trim=False)


def conversation_text(sample: Sample) -> str:
    """The questions and answers of a sample, in pixels of its first picture."""
    space = Space.pixels(sample.size) if sample.size else None
    task = task_named(sample.task)
    turns = [f"{written_question(turn.question, space)}\n→ {task.write(turn.answer, space)}" for turn in sample.turns]
    return "\n\n".join(turns)


def style_sheet() -> str:
    """The CSS of the pieces, which all stand inside an element of class `pieces`."""
    colours = f".pieces {{ --predicted: {COLOURS['predicted']}; --true: {COLOURS['true']}; }}\n"
    # Nested, so that it changes nothing else of the page.
    return colours + ".pieces {\n" + (Path(__file__).parent / "cards.css").read_text(encoding="utf-8") + "}\n"


def figure(picture: Picture, answer: Answer | None) -> Markup:
    """A picture with an answer over it; one that is no place leaves the picture as it is."""
    height, width, _ = picture.shape
    shapes = svg_shapes(answer, "predicted", ImageSize(width, height))
    return _piece("figure", uri=data_uri(picture), width=width, height=height, shapes=shapes)


def prediction_cards(samples: Sequence[Mapping[str, Any]]) -> Markup:
    """The cards of entries of `samples.jsonl`, with the predicted and the true answer over the picture."""
    return _piece("predictions", cards=[card(sample) for sample in samples], meanings=STATUS_MEANING)


def sample_cards(cards: Sequence[SampleCard]) -> Markup:
    """The cards of samples, with the true answer over the picture."""
    return _piece("samples", cards=cards)


def _piece(kind: str, **values: object) -> Markup:
    return Markup(rendered("fragments.html.j2", {"kind": kind, **values}))  # noqa: S704 - escaped
