"""What lmms-eval calls of an exported task folder: a question as it is put, and a reply read and measured as ours.

This runs inside lmms-eval, in its environment: it needs `core`, `metrics` and `tasks` of this package, numpy, Pillow
and sacrebleu, and nothing of lmms-eval. `evaluate.interop.lmms_eval` writes the folders.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from robointervlm.core.answer import Unparsed
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.reading import answer_from_json
from robointervlm.core.sample import IMAGE_MARKER
from robointervlm.tasks import task_named

UNPARSED = "unparsed"
CHARGED = " with failures charged"
# How lmms-eval's models for APIs say, in a reply's place, that there is none.
_NO_REPLY = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED]")

Doc = Mapping[str, Any]


def record_of(doc: Doc) -> dict[str, Any]:
    """What the export wrote of a question; it is text in the data file, so that Arrow does not merge its fields."""
    record: dict[str, Any] = json.loads(doc["record"])
    return record


def doc_to_visual(doc: Doc, folder: Path) -> list[Image.Image]:
    """The pictures of a question, in order; `folder` is the exported one."""
    pictures = []
    for name in record_of(doc)["images"]:
        with Image.open(folder / name) as image:
            pictures.append(image.convert("RGB"))
    return pictures


def doc_to_text(doc: Doc) -> str:
    """The question without its picture markers, for models to which lmms-eval gives the pictures first."""
    text: str = record_of(doc)["messages"][-1][1]
    return text.replace(f"{IMAGE_MARKER}\n", "").replace(IMAGE_MARKER, "")


def doc_to_messages(doc: Doc, folder: Path) -> list[dict[str, Any]]:
    """All turns with the pictures where their markers are, for lmms-eval's chat models."""
    pictures = iter(doc_to_visual(doc, folder))
    messages = []
    for role, text in record_of(doc)["messages"]:
        pieces = text.split(IMAGE_MARKER) if role == "user" else [text]
        content: list[dict[str, Any]] = []
        for place, piece in enumerate(pieces):
            if place:
                content.append({"type": "image", "url": next(pictures)})
            if piece:
                content.append({"type": "text", "text": piece})
        messages.append({"role": role, "content": content})
    return messages


def process_results(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Every metric of one reply, as `robointer score` gives it; NaN where a readable answer would have a value.

    The names are those of `metric_names`.
    """
    record = record_of(doc)
    task = task_named(record["task"])
    reference = answer_from_json(record["answer"])
    size = None if record["image_size"] is None else ImageSize(*record["image_size"])
    answer = None if results[0].startswith(_NO_REPLY) else _read(record, results[0])
    values: dict[str, float] = {}
    for metric in task.metrics:
        value = None if answer is None else metric.measure(answer, reference, size)
        charge = metric.charge(value, reference, size)
        if metric.worst is None:
            values[metric.name] = math.nan if value is None else value
            values[metric.name + CHARGED] = charge
        else:
            values[metric.name] = charge
    return {**values, UNPARSED: float(answer is None)}


def metric_names(task_name: str) -> list[tuple[str, bool]]:
    """The names of what `process_results` gives for a task, and whether more is better."""
    names = []
    for metric in task_named(task_name).metrics:
        higher = metric.better == "higher"
        names.append((metric.name, higher))
        if metric.worst is None:
            names.append((metric.name + CHARGED, higher))
    return [*names, (UNPARSED, False)]


def mean(values: Sequence[float]) -> float:
    """The mean of what is no NaN; NaN where nothing is left."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _read(record: Mapping[str, Any], reply: str) -> Any:
    """The answer in a reply, None where there is none."""
    space = None
    if record["image_size"] is not None:
        processed = None if record["processed_size"] is None else ImageSize(*record["processed_size"])
        space = Space(CoordinateFormat(record["format"]), ImageSize(*record["image_size"]), processed)
    reading = task_named(record["task"]).reading_of(reply, space, record["messages"][-1][1])
    return None if isinstance(reading.answer, Unparsed) else reading.answer
