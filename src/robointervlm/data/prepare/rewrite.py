"""Datasets written in another coordinate format or as records of another shape, numbers inside questions included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from robointervlm.core.answer import Region
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space, floored, smart_resize
from robointervlm.core.errors import RecipeError
from robointervlm.core.sample import Sample, written_question
from robointervlm.data.records import Annotations, RecordError
from robointervlm.tasks import task_named

Shape = Literal["published", "training", "evaluation", "sharegpt"]
Texts = list[tuple[str, str]]


class PublishedSpace(Space):
    """Coordinates written as the published files have them: `resized` ones truncated, the others rounded."""

    def number(self, value: float) -> str:
        """A coordinate as text."""
        return str(floored(value)) if self.format is CoordinateFormat.RESIZED else super().number(value)


def rewritten(annotations: Annotations, target: CoordinateFormat, shape: Shape) -> Iterator[dict[str, Any]]:
    """Every record of a dataset, one at a time, in the target format and shape.

    In the format they are in already, texts stay as they are. A wrong record raises `RecordError`; a dataset of another
    project (with `fields`) is a `RecipeError`.
    """
    if annotations.spec.fields:
        raise RecipeError(f"dataset '{annotations.spec.name}' has records of another project; they are not rewritten.")
    for index in range(len(annotations)):
        sample = annotations[index]
        if any(isinstance(turn.answer, Region) for turn in sample.turns):
            raise RecordError(annotations.problem(index, "answer", "is a mask, which is not rewritten", sample.id))
        raw = annotations.raw(index)
        texts = _texts(sample, raw, target, same=target is annotations.spec.format)
        yield _shaped(raw, sample, texts, shape)


def _texts(sample: Sample, raw: Mapping[str, Any], target: CoordinateFormat, *, same: bool) -> Texts:
    """Questions and answers in the target's numbers."""
    source = [turn.get("value", turn.get("content")) for turn in raw.get("conversations") or raw.get("messages") or ()]
    if same and source and len(source) == 2 * len(sample.turns):
        return list(zip(source[::2], source[1::2], strict=True))
    space = None
    if sample.size is not None:
        width, height = raw.get("new_w"), raw.get("new_h")
        resized = ImageSize(width, height) if width and height else smart_resize(sample.size)
        space = PublishedSpace(target, sample.size, resized)
    task = task_named(sample.task)
    return [(written_question(turn.question, space), task.write(turn.answer, space)) for turn in sample.turns]


def _shaped(raw: Mapping[str, Any], sample: Sample, texts: Texts, shape: Shape) -> dict[str, Any]:
    pictures = [reference.path for reference in sample.images]
    one_or_all = pictures[0] if len(pictures) == 1 else pictures
    if shape == "sharegpt":
        return {"messages": _messages(texts, "role", "content", ("user", "assistant")), "images": pictures}
    turns = _messages(texts, "from", "value", ("human", "gpt"))
    if shape == "training":
        return {"id": sample.id, "image": one_or_all, "conversations": turns}
    if shape == "evaluation":
        question, answer = texts[-1]
        return {"id": sample.id, "image": one_or_all, "question": question, "ground_truth": answer}
    kept = {key: value for key, value in raw.items() if key not in {"messages", "question", "ground_truth"}}
    return {**kept, "id": sample.id, "conversations": turns, "gt": texts[-1][1]}


def _messages(texts: Texts, role: str, text: str, names: tuple[str, str]) -> list[dict[str, str]]:
    return [{role: name, text: said} for pair in texts for name, said in zip(names, pair, strict=True)]
