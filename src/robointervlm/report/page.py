"""The report as one HTML file: no network, no script, the pictures inside."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robointervlm.core.answer import Answer
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.metric import number, unit_of
from robointervlm.core.reading import answer_from_json
from robointervlm.core.sample import IMAGE_MARKER, ImageRef
from robointervlm.data import images
from robointervlm.report.overlay import COLOURS, data_uri, in_words, points_of, svg_shapes
from robointervlm.report.scored import ScoredRun
from robointervlm.report.tables import (
    BOX_SIZES,
    STATUS_MEANING,
    has_paper,
    interval,
    paper_text,
    quirks_of,
    slices_of,
    unparsed_text,
)
from robointervlm.report.templates import rendered

# A question about eight pictures shows its first in full and this many more beside it.
_MORE_PICTURES = 7
_LONGEST_TEXT = 1500


@dataclass(frozen=True)
class Card:
    """One sample as the page shows it."""

    sample: Mapping[str, Any]
    picture: str | None
    missing: str
    more_pictures: tuple[str, ...]
    width: float
    height: float
    shapes: Markup
    prompt: str
    reply: str
    predicted: str
    reference: str
    notes: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gallery:
    """The worst, best and random samples of one task."""

    group: Mapping[str, Any]
    worst: tuple[Card, ...]
    best: tuple[Card, ...]
    random: tuple[Card, ...]


def page(run: ScoredRun, *, examples: int) -> str:
    """The page of a run, with up to so many worst, best and random samples a task."""
    filters: dict[str, Callable[..., object]] = {
        "interval": interval,
        "number": _number,
        "unparsed": unparsed_text,
        "charged": _charged,
        "bar": _interval_bar,
        "paper": paper_text,
        "has_paper": has_paper,
    }
    galleries = [_gallery(group, run.samples, examples) for group in run.report["tasks"]]
    values = {
        "report": run.report,
        "galleries": galleries,
        "colours": COLOURS,
        "meanings": STATUS_MEANING,
        "slices": slices_of(run.report),
        "quirks": quirks_of(run.report),
        "box_sizes": BOX_SIZES,
        "places": any(card.shapes for each in galleries for card in (*each.worst, *each.best, *each.random)),
    }
    return rendered("page.html.j2", values, filters=filters)


def _number(metric: Mapping[str, Any], key: str = "mean") -> str:
    return number(metric[key], unit_of(metric))


def _charged(metric: Mapping[str, Any]) -> str:
    return "included" if metric["bounded"] else number((metric["charged"] or {}).get("mean"), unit_of(metric))


def _interval_bar(metric: Mapping[str, Any]) -> Markup:
    """The 95 % interval of a share as a small drawing; empty for a metric in another unit."""
    if unit_of(metric) != "share" or metric["mean"] is None:
        return Markup("")
    track = Markup('<rect class="track" width="100" height="8" rx="2"/>')
    fill = Markup('<rect class="fill" width="{:.2f}" height="8" rx="2"/>').format(_percent(metric["mean"]))
    spread = Markup("")
    if metric["low"] is not None:
        low, high = _percent(metric["low"]), _percent(metric["high"])
        spread = Markup('<rect class="range" x="{:.2f}" y="3" width="{:.2f}" height="2"/>').format(
            low, max(0.5, high - low)
        )
    start = Markup('<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">')
    return start + track + fill + spread + Markup("</svg>")


def _percent(share: float) -> float:
    return min(1.0, max(0.0, share)) * 100


def _gallery(group: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], examples: int) -> Gallery:
    mine = [sample for sample in samples if sample["task"] == group["task"]]
    ordered = sorted(mine, key=lambda sample: badness(sample, group["metrics"]), reverse=True)
    # Never one sample twice: a small run shows some of its samples as worst, the others as best.
    share = min(examples, math.ceil(len(ordered) / 3)) if len(ordered) < 3 * examples else examples
    worst = ordered[:share]
    best = [sample for sample in reversed(ordered[share:]) if sample["status"] == "ok"][:share]
    shown = {id(sample) for sample in [*worst, *best]}
    rest = sorted((sample for sample in mine if id(sample) not in shown), key=_shuffled)
    return Gallery(group, _made(worst), _made(best), _made(rest[:examples]))


def badness(sample: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[float, ...], str]:
    """Failures are worse than any answer; a later metric breaks the ties of an earlier one, a digest the last ones."""
    values = sample["strict"]
    if not values:
        return (1, (), _shuffled(sample))
    signed = (-values[metric["name"]] if metric["better"] == "higher" else values[metric["name"]] for metric in metrics)
    return (0, tuple(signed), _shuffled(sample))


def _shuffled(sample: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"report {sample['id']} {sample['key']}".encode("utf-8", "replace")).hexdigest()


def _made(samples: Iterable[Mapping[str, Any]]) -> tuple[Card, ...]:
    return tuple(card(sample) for sample in samples)


def card(sample: Mapping[str, Any]) -> Card:
    """What the page shows of an entry of `samples.jsonl`; a picture that is not there is said to be missing."""
    predicted, reference = _answer(sample["predicted"]), _answer(sample["answer"])
    follow = bool(sample.get("follow_links"))
    pictures = [_picture(root, path, follow) for root, path in sample["images"][: 1 + _MORE_PICTURES]]
    first = pictures[0] if pictures else _Shown(None, "", (1, 1))
    width, height = sample["image_size"] or first.size
    image = ImageSize(round(width), round(height))
    return Card(
        sample=sample,
        picture=first.uri,
        missing=first.problem,
        more_pictures=tuple(shown.uri for shown in pictures[1:] if shown.uri),
        width=width,
        height=height,
        # The dashed truth goes over the prediction, so that both are seen where they agree.
        shapes=svg_shapes(predicted, "predicted", image) + svg_shapes(reference, "true", image),
        prompt=_cut(sample["prompt"]).replace(IMAGE_MARKER, "").strip(),
        reply=_cut(sample["reply"]),
        predicted=_cut(in_words(predicted)),
        reference=_cut(in_words(reference)) or _cut(sample["raw_answer"]),
        notes=_notes(sample, predicted, (width, height)),
        values=tuple((name, f"{value:.3g}") for name, value in sample["strict"].items()),
    )


def _answer(record: Mapping[str, object] | None) -> Answer | None:
    return None if record is None else answer_from_json(record)


def _notes(sample: Mapping[str, Any], predicted: Answer | None, size: tuple[float, float]) -> str:
    """What a reader should know about how an answer was read."""
    notes = list(sample["notes"])
    if sample["finish_reason"] == "length":
        notes.append("cut at max_new_tokens")
    if any(not (0 <= x <= size[0] and 0 <= y <= size[1]) for x, y in points_of(predicted)):
        notes.append("leaves the picture")
    return ", ".join(notes)


def _cut(text: object) -> str:
    said = "" if text is None else str(text)
    return said if len(said) <= _LONGEST_TEXT else f"{said[:_LONGEST_TEXT]}… ({len(said)} characters)"


@dataclass(frozen=True)
class _Shown:
    uri: str | None
    problem: str
    size: tuple[int, int]


@lru_cache(maxsize=64)
def _picture(root: str, path: str, follow_links: bool) -> _Shown:  # noqa: FBT001 - part of the cache's key
    try:
        picture = images.load(ImageRef(Path(root), path, follow_links=follow_links))
    except (DataError, RefusedError) as error:
        return _Shown(None, str(error), (4, 3))
    height, width, _ = picture.shape
    return _Shown(data_uri(picture), "", (width, height))
