"""Records of annotation files as Samples: the README's training and evaluation formats, the published RoboInter-VQA
records, and ShareGPT messages. `data_process/README_DATA.md` documents every field.

Numbers become pixels of the stored image here and nowhere else, by the coordinate format the dataset declares.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Answer, Unparsed
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space, smart_resize
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.reading import find_places
from robointervlm.core.sample import IMAGE_MARKER, ImageRef, Question, Sample, Turn
from robointervlm.data import images, third_party
from robointervlm.data.annotations import FieldError, RecordError, RecordFile, RecordProblem, RefusedRecordError
from robointervlm.data.episode_frames import frame_of_key, is_frame_key
from robointervlm.data.index import stored
from robointervlm.data.spec import DatasetSpec
from robointervlm.data.swift_objects import filled
from robointervlm.tasks import Task, task_named

__all__ = ["Annotations", "RecordError", "RecordProblem", "RefusedRecordError", "read_record"]

# One validation file of the release spells it "huamn".
_ROLES = {"human": "user", "huamn": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"} | {
    "system": "system"
}
_IMAGE_FIELDS = ("image", "images", "image_path")
_ANSWER_FIELDS = ("ground_truth", "gt")
_READ_FIELDS = frozenset(
    ("id", "conversations", "messages", "question", "episode", "new_w", "new_h", "w", "h", "width", "height")
    + _IMAGE_FIELDS
    + _ANSWER_FIELDS
    + (third_party.MASK,)
)
# What values do that no reader expects, such as a number that no float can hold.
_WRONG_VALUES = (DataError, ArithmeticError, ValueError)
_HALF = re.compile("[\ud800-\udfff]")
# What a tokenizer of the Qwen family reads as a command rather than as text.
_SPECIAL_TOKEN = re.compile(r"<\|[A-Za-z_0-9]{1,40}\|>")


class _Conversation(NamedTuple):
    questions: list[str]
    answers: list[str]
    system: str


@dataclass(frozen=True)
class _Sizes:
    """What the first picture's size is, and which size the record's processor made of it."""

    stored: ImageSize | None
    processed: ImageSize | None


class Annotations(Sequence[Sample]):
    """The samples of one dataset, made from its records one at a time, when asked for.

    A wrong record raises `RecordError` (a `DataError`), and one that reaches outside its folder `RefusedRecordError` (a
    `RefusedError`); both name file, record, field and reason. Can be pickled.
    """

    def __init__(self, spec: DatasetSpec, root: Path | None = None) -> None:
        self.spec = spec
        self.task = task_named(spec.task)
        self.file = RecordFile(spec.annotation_file(root))
        self.image_root = spec.image_root(root)
        self._chosen: NDArray[np.int64] | None = None  # where in the file the records are that `where` takes
        if spec.where and self.file.is_large:
            self._chosen = stored("where", self.file.path, repr(sorted(spec.where.items())), self._match)
        elif spec.where:
            self._chosen = self._match()

    def __len__(self) -> int:
        return len(self.file) if self._chosen is None else len(self._chosen)

    def _match(self) -> NDArray[np.int64]:
        """The positions in the file of the records that the dataset takes; a `DataError` if it takes none."""
        chosen = array("q")
        for position in range(len(self.file)):
            with suppress(RecordError):  # a line that is no JSON has no fields
                record = self.file[position]
                if isinstance(record, dict) and all(record.get(key) in of for key, of in self.spec.where.items()):
                    chosen.append(position)
        if not chosen:
            raise DataError(
                f"dataset '{self.spec.name}': no record of {self.file.path} has "
                + " and ".join(f"{key} = {' or '.join(of)}" for key, of in self.spec.where.items())
                + ", which its entry asks for with `where`."
            )
        return np.array(chosen, dtype=np.int64)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with self.naming(index):
            record = self.raw(index)
            if isinstance(record, dict) and self.file.escapes_surrogates(self._position(index)):
                # JSON can write half of a surrogate pair, but nothing that is made of it.
                try:
                    json.dumps(record, ensure_ascii=False).encode()
                except UnicodeEncodeError:
                    field = next(place for place, text in _texts(record, "") if _HALF.search(text))
                    raise FieldError(field, "holds half of a surrogate pair, which is no character") from None
            return read_record(record, self.spec, self.task, self.image_root, self._position(index))

    @contextmanager
    def naming(self, index: int) -> Iterator[None]:
        """Raises whatever is found wrong with the record of a sample as an error that names it.

        This is the boundary at which one record's failure becomes a value that can be counted.
        """
        try:
            yield
        except (RecordError, RefusedRecordError):
            raise
        except RefusedError as error:
            raise RefusedRecordError(self._problem(index, "images", str(error))) from error
        except FieldError as error:
            raise RecordError(self._problem(index, error.field, error.reason)) from error
        except RecursionError as error:
            raise RecordError(self._problem(index, "", "is nested too deeply")) from error
        except _WRONG_VALUES as error:
            raise RecordError(self._problem(index, "", str(error))) from error

    def _problem(self, index: int, field: str, reason: str) -> RecordProblem:
        return self.problem(index, field, reason, _name(self.raw(index)))

    def raw(self, index: int) -> Any:
        """The record of a sample as JSON gives it."""
        return self.file[self._position(index)]

    def problem(self, index: int, field: str, reason: str, name: str = "") -> RecordProblem:
        """A problem of the sample at this position of the dataset, with its place in the file."""
        return self.file.problem(self._position(index), field, reason, name)

    def _position(self, index: int) -> int:
        """Where in the file the sample's record is."""
        return range(len(self))[index] if self._chosen is None else int(self._chosen[index])

    def __getstate__(self) -> dict[str, Any]:
        # Tasks hold functions; the name is enough to find them again.
        return {key: value for key, value in self.__dict__.items() if key != "task"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.task = task_named(self.spec.task)


def read_record(record: object, spec: DatasetSpec, task: Task, image_root: Path, index: int) -> Sample:
    """The sample that a record says. Raises `FieldError` where it says something wrong or nothing.

    Of a family of tasks that are published together, the sample's task is the one that the record's id names.
    """
    if not isinstance(record, dict):
        raise FieldError("", f"is {_kind(record)}; a record is a JSON object")
    if task.task_of_record is not None and (named := task.task_of_record(record)) is not None:
        task = task_named(named)
    if record.get("video") or record.get("videos"):
        raise FieldError(
            "video" if record.get("video") else "videos", "videos are not read; give their frames as images"
        )
    record = third_party.renamed(record, spec) if spec.fields else filled(record, spec.format)
    name = _id(record)
    conversation = _conversation(record)
    references = pictures_of(record, spec, image_root)
    questions = _with_markers(conversation.questions, len(references))
    sizes = _sizes(record, spec, references)
    space = _space(spec, sizes)
    notes: tuple[str, ...] = ()
    if third_party.MASK in record:
        region = third_party.region_of(record, image_root, sizes.stored, follow_links=spec.follow_links)
        turns = [Turn(_question(questions[0], task, space), region)]
    else:
        turns = []
        for question, answer in zip(questions, conversation.answers, strict=True):
            read, notes = _answer(answer, task, space)
            turns.append(Turn(_question(question, task, space), read))
    episode = record.get("episode")
    extra = {key: value for key, value in record.items() if key not in _READ_FIELDS}
    if conversation.system:
        extra["system"] = conversation.system
    return Sample(
        id=name or _generated_name(record, index),
        task=task.name,
        dataset=spec.name,
        images=references,
        turns=tuple(turns),
        size=sizes.stored,
        raw_answer=conversation.answers[-1],
        episode="" if episode is None else str(episode),
        extra=extra,
        notes=notes,
    )


def _texts(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, keys included, and where it is."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{place}[{number}]")
    elif isinstance(value, dict):
        for key, each in value.items():
            below = f"{place}.{key}" if place else key
            yield below, key
            yield from _texts(each, below)


def _id(record: Mapping[str, Any]) -> str:
    """The record's own id as text; empty if it has none. Raises `FieldError` for one that is no name."""
    value = record.get("id")
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise FieldError("id", f"is {_kind(value)}; a text or a number is expected")
    return _name(record)


def _name(record: object) -> str:
    """The record's own id as text; empty if it has none that is a name."""
    name = record.get("id") if isinstance(record, dict) else None
    return str(name) if isinstance(name, str | int | float) and not isinstance(name, bool) else ""


def _generated_name(record: Mapping[str, object], index: int) -> str:
    """A name for a record without one: its position and a digest of its content, the same at every reading."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=True)
    return f"{index}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _conversation(record: Mapping[str, Any]) -> _Conversation:
    for field, role, text in (("conversations", "from", "value"), ("messages", "role", "content")):
        if record.get(field) is not None:
            return _dialogue(record, field, role, text)
    if record.get("question") is None:
        raise FieldError(
            "conversations", "is missing; a record has conversations, messages, or question and ground_truth"
        )
    question = _text("question", record["question"])
    return _Conversation([question], [_reference(record)], "")


def _dialogue(record: Mapping[str, Any], field: str, role_key: str, text_key: str) -> _Conversation:
    entries = record[field]
    if not isinstance(entries, list) or not entries:
        raise FieldError(field, f"is {_kind(entries)}; a list of messages is expected")
    said: dict[str, list[str]] = {"user": [], "assistant": [], "system": []}
    for number, entry in enumerate(entries):
        try:
            role, text = _message(entry, role_key, text_key)
        except FieldError as error:
            raise FieldError(f"{field}[{number}]{error.field}", error.reason) from None
        expected = "assistant" if len(said["user"]) > len(said["assistant"]) else "user"
        if role != expected and not (role == "system" and number == 0):
            raise FieldError(f"{field}[{number}]", f"is from the {role}, but the {expected}'s turn is due")
        said[role].append(text)
    if len(said["user"]) > len(said["assistant"]):
        said["assistant"].append(_reference(record, f"the last question of {field} has no answer, and there is no gt"))
    if not said["user"]:
        raise FieldError(field, "holds no question")
    return _Conversation(said["user"], said["assistant"], "\n".join(said["system"]))


def _message(entry: object, role_key: str, text_key: str) -> tuple[str, str]:
    """Who says it, and what. Fields of errors are those within the message."""
    if not isinstance(entry, dict):
        raise FieldError("", f"is {_kind(entry)}; an object with '{role_key}' and '{text_key}' is expected")
    said_by = entry.get(role_key)
    role = _ROLES.get(said_by) if isinstance(said_by, str) else None
    if role is None:
        raise FieldError(f".{role_key}", f"is {said_by!r}; one of {', '.join(_ROLES)} is expected")
    try:
        text = _text(text_key, entry.get(text_key))
    except FieldError as error:
        raise FieldError(f".{text_key}", error.reason) from None
    if role != "user" and IMAGE_MARKER in text:
        raise FieldError(f".{text_key}", f"holds {IMAGE_MARKER} outside a question")
    return role, text


def _reference(record: Mapping[str, Any], missing: str = "is missing") -> str:
    """The answer of a record that keeps it apart from the conversation; lists and numbers as the JSON they are."""
    for field in _ANSWER_FIELDS:
        value = record.get(field)
        if value is not None:
            return _text(field, value if isinstance(value, str) else json.dumps(value))
    raise FieldError("ground_truth", missing)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise FieldError(field, f"is {_kind(value)}; text is expected")
    if "<|" in value and (token := _SPECIAL_TOKEN.search(value)):
        raise FieldError(field, f"holds the special token {token[0]}, which a model would obey instead of read")
    return value


def pictures_of(record: Mapping[str, Any], spec: DatasetSpec, root: Path) -> tuple[ImageRef, ...]:
    """The pictures a record names, with the size it states. Raises `FieldError` where it names them wrongly."""
    given = [field for field in _IMAGE_FIELDS if record.get(field) is not None]
    if not given:
        return ()
    if len(given) > 1:
        raise FieldError(given[0], f"stands beside '{given[1]}'; pictures are named in one of them")
    value = record[given[0]]
    paths = value if isinstance(value, list) else [value]
    for path in paths:
        if not isinstance(path, str) or not path:
            raise FieldError(given[0], f"holds {path!r}; the path of a picture is expected")
    if spec.strip_prefix or spec.episodes:
        paths = [_placed(record, given[0], path, spec) for path in paths]
    # Sizes are stated of the first picture.
    stated = two_sizes(record, ("w", "h")) or two_sizes(record, ("width", "height"))
    if stated is None and spec.image_size:
        stated = ImageSize(*spec.image_size)
    sizes = [stated, *[None] * len(paths)]
    return tuple(ImageRef(root, path, size, spec.follow_links) for path, size in zip(paths, sizes, strict=False))


def _placed(record: Mapping[str, Any], field: str, path: str, spec: DatasetSpec) -> str:
    """The picture's path below the dataset's `images`."""
    if spec.episodes and not record.get("is_local") and is_frame_key(path):
        return str(frame_of_key(path, spec.episodes, spec.camera, swapped=spec.channels == "bgr"))
    if not path.startswith(spec.strip_prefix):
        raise FieldError(
            field, f"'{path}' does not start with '{spec.strip_prefix}', which the dataset's strip_prefix takes off"
        )
    return path[len(spec.strip_prefix) :]


def two_sizes(record: Mapping[str, Any], fields: tuple[str, str]) -> ImageSize | None:
    """Width and height from two fields that are there together or not at all."""
    width, height = fields
    if record.get(width) is None and record.get(height) is None:
        return None
    return ImageSize(_side(width, record.get(width)), _side(height, record.get(height)))


def _side(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 or not 1 <= value <= 10**6:
        raise FieldError(field, f"is {value!r:.40}; a size in pixels is expected")
    return int(value)


def _with_markers(questions: list[str], pictures: int) -> list[str]:
    """The questions with one marker per picture; a record without any gets them in front of its first question."""
    markers = sum(question.count(IMAGE_MARKER) for question in questions)
    if markers == 0 and pictures:
        return [f"{IMAGE_MARKER}\n" * pictures + questions[0], *questions[1:]]
    if markers != pictures:
        raise FieldError("images", f"names {pictures} pictures, but the text has {markers} {IMAGE_MARKER} markers")
    return questions


def _sizes(record: Mapping[str, Any], spec: DatasetSpec, references: tuple[ImageRef, ...]) -> _Sizes:
    if not references:
        return _Sizes(None, None)
    stored = references[0].size
    if stored is None:
        try:
            stored = images.size(references[0])
        except DataError as error:
            raise FieldError("images", f"the record does not say w and h, and {error}") from error
    processed = None
    if spec.format is CoordinateFormat.RESIZED:
        processed = two_sizes(record, ("new_w", "new_h"))
        if processed is None and spec.resize_limits:
            processed = smart_resize(stored, min_pixels=spec.resize_limits[0], max_pixels=spec.resize_limits[1])
    return _Sizes(stored, processed)


def _space(spec: DatasetSpec, sizes: _Sizes) -> Space | None:
    if sizes.stored is None:
        return None
    if spec.format is CoordinateFormat.RESIZED and sizes.processed is None:
        raise FieldError(
            "new_w",
            "is missing, and coordinates in 'resized' format need new_w and new_h (or the dataset's resize_limits)",
        )
    return Space(spec.format, sizes.stored, sizes.processed)


def _answer(text: str, task: Task, space: Space | None) -> tuple[Answer, tuple[str, ...]]:
    """The answer, and the notes of its reading."""
    try:
        reading = task.reading(text, space)
    except DataError as error:
        if space is not None:
            raise
        raise FieldError("images", f"is missing: {error}") from error
    if isinstance(reading.answer, Unparsed):
        raise FieldError("answer", f"{text[:80]!r} is not read as {task.name}: {reading.answer.reason}")
    return reading.answer, reading.notes


def _question(text: str, task: Task, space: Space | None) -> Question:
    if not task.places_in_question or space is None:
        return (text,)
    return find_places(text, space)


def _kind(value: object) -> str:
    """A JSON value's kind, for a sentence."""
    if value is None:
        return "missing"
    if value in ([], {}, ""):
        return "empty"
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), type(value).__name__)
