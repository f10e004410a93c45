"""What a run writes about its questions: the list of what was asked for, and a record per answer.

`requested.json` lists every question once, in order; it is the denominator. `records.jsonl` is the append-only journal
of what came back, joined to the list by `key`; the last record of a key counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError
from robointervlm.runs.files import write_atomically

SCHEMA = 1
RECORDS = "records.jsonl"
REQUESTED = "requested.json"


@dataclass(frozen=True)
class Requested:
    """One question of the list, with what is needed to score its answer without the dataset.

    `answer` is the reference as `core.writing.answer_to_json` gives it, in pixels of the stored image, None for a
    record that could not be read; `raw_answer` is the annotation's own text. `images` are (root, path) pairs. `skill`
    is what the robot does in the episode, empty where the record does not say. With `follow_links` the pictures may lie
    behind symbolic links that lead out of their root.
    """

    key: str
    id: str
    dataset: str
    task: str
    episode: str
    images: tuple[tuple[str, str], ...]
    image_size: tuple[int, int] | None
    answer: Mapping[str, object] | None
    raw_answer: str
    skill: str = ""
    follow_links: bool = False


@dataclass(frozen=True)
class RequestedList:
    """What a run was asked for: the model it names, how it asks, and every question."""

    model: Mapping[str, object]
    decoding: Mapping[str, object]
    style: str
    questions: tuple[Requested, ...]


def digest(parts: Iterable[object]) -> str:
    """A key that differs whenever one of these parts does."""
    text = json.dumps(list(parts), ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_requested(folder: Path, requested: RequestedList) -> None:
    """Writes the list, one question a line, so that two lists can be compared by eye."""
    head = {"schema": SCHEMA, "model": requested.model, "decoding": requested.decoding, "style": requested.style}
    lines = ",\n".join(json.dumps(vars(question)) for question in requested.questions)
    text = json.dumps(head)[:-1] + ',\n"questions": [\n' + lines + "\n]}\n"
    write_atomically(folder / REQUESTED, text)


def read_requested(folder: Path) -> RequestedList:
    """The list of a run; a `DataError` if the folder holds none."""
    path = folder / REQUESTED
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        questions = tuple(_requested(entry) for entry in content["questions"])
        return RequestedList(content["model"], content["decoding"], content["style"], questions)
    except FileNotFoundError:
        raise DataError(f"{folder} is not the folder of a prediction run: it has no {REQUESTED}.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); rerun `robointer predict` with the same settings.") from None


def _requested(entry: Mapping[str, object]) -> Requested:
    values = dict(entry)
    images = values.pop("images")
    size = values.pop("image_size")
    assert isinstance(images, Sequence)
    return Requested(
        **values,  # type: ignore[arg-type]
        images=tuple((str(root), str(path)) for root, path in images),
        image_size=_pair(size),
    )


def space_of(record: Mapping[str, object]) -> Space | None:
    """The coordinates in which the model of a record answered; None for a question without a picture.

    The size is not known of some imported boxes, and does not matter to how much they overlap with references in the
    same format: the picture is then taken for one by one.
    """
    size = _pair(record.get("image_size"))
    if size is None:
        return unsized(CoordinateFormat(record["format"])) if record.get("format") else None
    processed = _pair(record.get("processed_size"))
    return Space(
        CoordinateFormat(record["format"]), ImageSize(*size), None if processed is None else ImageSize(*processed)
    )


def unsized(coordinates: CoordinateFormat) -> Space:
    """The space of a format in a picture whose size is not known, taken for one by one."""
    return Space(coordinates, ImageSize(1, 1), ImageSize(1, 1))


def _pair(value: object) -> tuple[int, int] | None:
    if not isinstance(value, Sequence):
        return None
    width, height = value
    return int(width), int(height)
