"""Answers and samples as pieces of a web page, for a page that somebody else makes. What is shown is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.prompt import Picture
from robointervlm.report.overlay import COLOURS, data_uri, svg_shapes
from robointervlm.report.page import card
from robointervlm.report.samples import SampleCard
from robointervlm.report.tables import STATUS_MEANING

_FOLDER = Path(__file__).parent


def style_sheet() -> str:
    """The CSS of the pieces, which all stand inside an element of class `pieces`."""
    colours = f".pieces {{ --predicted: {COLOURS['predicted']}; --true: {COLOURS['true']}; }}\n"
    # Nested, so that it changes nothing else of the page.
    return colours + ".pieces {\n" + (_FOLDER / "cards.css").read_text(encoding="utf-8") + "}\n"


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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return Markup(environment.get_template("fragments.html.j2").render(kind=kind, **values))  # noqa: S704 - escaped
