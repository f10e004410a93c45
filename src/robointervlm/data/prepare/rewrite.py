"""Datasets written in another coordinate format or as records of another shape, numbers inside questions included."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from robointervlm.core.answer import Region
from robointervlm.core.coordinates import CoordinateFormat, Space, floored, smart_resize
from robointervlm.core.errors import DataError, RecipeError, RoboInterError
from robointervlm.core.sample import Sample, written_question
from robointervlm.data.annotations import FieldError, RecordProblem
from robointervlm.data.index import identity
from robointervlm.data.prepare.ranges import over_ranges
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError, two_sizes
from robointervlm.data.swift_objects import Marking, filled
from robointervlm.tasks import task_named

Shape = Literal["published", "training", "evaluation", "sharegpt", "ms-swift"]
Texts = list[tuple[str, str]]
# How many additions are made before the state is saved; after a stop so many are made again at most.
_SAVE_EVERY = 16


@dataclass(frozen=True)
class Rewriting:
    """What records become.

    `decimals` are those of the numbers in the texts; without them `unit` ones have two and the others none, as in the
    published files.
    """

    target: CoordinateFormat
    shape: Shape = "published"
    decimals: int | None = None


@dataclass(frozen=True)
class WrittenSpace(Space):
    """Coordinates as a file has them: with `decimals`, or as published (`resized` truncated, the others rounded)."""

    decimals: int | None = None

    def number(self, value: float) -> str:
        """A coordinate as text, without trailing zeros."""
        if self.decimals is None:
            return str(floored(value)) if self.format is CoordinateFormat.RESIZED else super().number(value)
        scale = 10**self.decimals
        text = f"{round(value * scale) / scale:.{self.decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text


def rewritten(annotations: Annotations, how: Rewriting, part: range | None = None) -> Iterator[dict[str, Any]]:
    """Every record of a dataset, or those of a part of it, one at a time, in the target format and shape.

    In the format they are in already, texts stay as they are. A wrong record raises `RecordError`, or
    `RefusedRecordError`; a dataset of another project (with `fields`) is a `RecipeError`.
    """
    for index in range(len(annotations)) if part is None else part:
        yield _record(annotations, index, how)


def _record(annotations: Annotations, index: int, how: Rewriting) -> dict[str, Any]:
    if annotations.spec.fields:
        raise RecipeError(f"dataset '{annotations.spec.name}' has records of another project; they are not rewritten.")
    with annotations.naming(index):
        sample = annotations[index]
        raw = filled(annotations.raw(index), annotations.spec.format)
        if any(isinstance(turn.answer, Region) for turn in sample.turns):
            raise FieldError("answer", "is a mask, which is not rewritten")
        space = None
        if sample.size is not None:
            resized = two_sizes(raw, ("new_w", "new_h")) or smart_resize(sample.size)
            space = WrittenSpace(how.target, sample.size, resized, how.decimals)
        if how.shape == "ms-swift":
            write = task_named(sample.task).write
            marking = Marking(space, how.target)
            texts = [(marking.question(turn.question), marking.answer(turn.answer, write)) for turn in sample.turns]
            return {**_shaped(raw, sample, texts, how.shape), **marking.objects()}
        same = how.target is annotations.spec.format and how.decimals is None
        return _shaped(raw, sample, _texts(sample, raw, space, same=same), how.shape)


def rewrite_to(  # noqa: PLR0913 - all but the first three by name
    out: Path,
    annotations: Annotations,
    how: Rewriting,
    *,
    root: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    left_out: Callable[[RecordProblem], object] = id,  # which forgets it
) -> int:
    """Writes all records to a JSON list, or to JSON lines if the name ends in `.jsonl`; returns how many.

    A wrong record is left out, and `left_out` told of it. The file is there when it is whole. The same call goes on
    where one was stopped, and gives the same bytes. `DataError` if no record can be written.
    """
    key = repr((identity(annotations.file.path), annotations.spec.model_dump_json(), str(root), how))
    with Unfinished(out, key) as unfinished:
        work = partial(_range_text, how=how)
        for part, (texts, problems) in over_ranges(work, annotations, root, workers, first=unfinished.records):
            unfinished.add(texts, part.stop)
            for problem in problems:
                left_out(problem)
            if progress is not None:
                progress(part.stop, len(annotations))
        if not unfinished.written and len(annotations):
            raise DataError(f"none of the {len(annotations)} records of {annotations.file.path} can be rewritten.")
        unfinished.finish()
    return unfinished.written


class Unfinished:
    """A JSON list, or JSON lines if the name ends in `.jsonl`, in the making beside its place, bit by bit.

    `key` says what the content depends on: what was begun with another one is begun anew. `records` is how many are
    done already, `written` how many of them are in the file. An error of ours leaves nothing behind; any other end
    leaves what is needed to go on. Raises `RecipeError` if another process is writing the same file.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.records = 0
        self.written = 0
        self._key = key
        self._lines = path.suffix == ".jsonl"
        self._temporary = path.with_name(f".tmp-{path.name}")
        self._state = path.with_name(f".tmp-{path.name}.state")
        self._unsaved = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have finished the file between its opening and the lock.
            alone = os.path.samestat(os.fstat(self._file.fileno()), self._temporary.stat())
        except (BlockingIOError, FileNotFoundError):
            alone = False
        if not alone:
            self._file.close()
            raise RecipeError(f"{self.path} is being written by another process; wait for it, or choose another name.")
        self.records, self.written, size = self._found()
        self._file.truncate(size)
        if not size and not self._lines:
            self._file.write(b"[")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, RoboInterError):
            self._temporary.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
        self._file.close()

    def add(self, texts: Sequence[str], records: int) -> None:
        """Write these records, after which `records` are done."""
        for text in texts:
            before = "" if self._lines else ",\n" if self.written else "\n"
            self._file.write(f"{before}{text}{chr(10) * self._lines}".encode())
            self.written += 1
        self.records = records
        self._unsaved += 1
        if self._unsaved == _SAVE_EVERY:
            self._synced()
            state = {"key": self._key, "records": self.records, "written": self.written, "bytes": self._file.tell()}
            new = self._state.with_name(f"{self._state.name}.new")
            new.write_text(json.dumps(state), encoding="utf-8")
            new.replace(self._state)
            self._unsaved = 0

    def finish(self) -> None:
        """Put the file in its place."""
        self._file.write(b"" if self._lines else b"\n]\n")
        self._synced()
        self._temporary.replace(self.path)
        self._state.unlink(missing_ok=True)

    def _found(self) -> tuple[int, int, int]:
        """How many records were done and written, in how many bytes, by an earlier call."""
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            records, written, size = (int(state[name]) for name in ("records", "written", "bytes"))
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0, 0
        whole = state.get("key") == self._key and self._temporary.stat().st_size >= size > 0
        return (records, written, size) if whole else (0, 0, 0)

    def _synced(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _range_text(annotations: Annotations, part: range, *, how: Rewriting) -> tuple[list[str], list[RecordProblem]]:
    """The records of a range as JSON, a text each, and the problems of those that cannot be written."""
    texts, problems = [], []
    for index in part:
        try:
            texts.append(json.dumps(_record(annotations, index, how), ensure_ascii=False))
        except (RecordError, RefusedRecordError) as error:
            problems.append(error.problem)
    return texts, problems


def _texts(sample: Sample, raw: Mapping[str, Any], space: Space | None, *, same: bool) -> Texts:
    """Questions and answers in the target's numbers."""
    turns = raw.get("conversations") or raw.get("messages") or ()
    said = [turn for turn in turns if "system" not in (turn.get("from"), turn.get("role"))]
    source = [turn.get("value", turn.get("content")) for turn in said]
    if same and source and len(source) == 2 * len(sample.turns):
        return list(zip(source[::2], source[1::2], strict=True))
    task = task_named(sample.task)
    return [(written_question(turn.question, space), task.write(turn.answer, space)) for turn in sample.turns]


def _shaped(raw: Mapping[str, Any], sample: Sample, texts: Texts, shape: Shape) -> dict[str, Any]:
    pictures = [reference.path for reference in sample.images]
    one_or_all = pictures[0] if len(pictures) == 1 else pictures
    system = sample.extra.get("system")
    if shape in {"sharegpt", "ms-swift"}:
        first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
        messages = first + _messages(texts, "role", "content", ("user", "assistant"))
        return {"id": sample.id, "messages": messages, "images": pictures}
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
