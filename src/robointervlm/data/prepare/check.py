"""Everything that is wrong with a dataset, found before any training time is spent on it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import ImageSize, Point
from robointervlm.core.errors import DataError, RoboInterError
from robointervlm.core.sample import ImageRef, Place, Sample
from robointervlm.data import images
from robointervlm.data.annotations import FieldError, RecordProblem
from robointervlm.data.prepare.ranges import over_ranges
from robointervlm.data.prepare.stats import Statistics
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError, pictures_of
from robointervlm.data.spec import DatasetSpec

# How far outside the picture a coordinate may round to without being called outside, in pixels.
_ROUNDING = 1.0
# So many problems are held for the report; all of them are counted and passed on.
_HELD = 10_000
# Fewer answers say nothing of a balance; nor does a share this near to an even one.
_BALANCE_FROM = 200
_BALANCE_MARGIN = 0.1


@dataclass(frozen=True)
class Checked:
    """What a check of one dataset found.

    `problems` are the first of them (`held_back` tells how many more there are), `kinds` counts all by severity and
    field. `episodes` holds the first record of each one; `counted` is what `stats` counts.
    """

    dataset: str
    file: Path
    records: int
    pictures: int
    problems: tuple[RecordProblem, ...]
    kinds: Mapping[tuple[str, str], int] = field(default_factory=dict)
    episodes: Mapping[str, int] = field(default_factory=dict)
    split: str = ""
    counted: Statistics = field(default_factory=Statistics, compare=False)

    @property
    def answers(self) -> dict[str, Mapping[str, int]]:
        """How often each letter, or yes and no, is the answer, by task."""
        return _answers(self.counted)

    @property
    def errors(self) -> int:
        return sum(count for (severity, _), count in self.kinds.items() if severity == "error")

    @property
    def warnings(self) -> int:
        return sum(self.kinds.values()) - self.errors

    @property
    def held_back(self) -> int:
        """How many problems were found beyond those in `problems`."""
        return sum(self.kinds.values()) - len(self.problems)

    def also(self, *problems: RecordProblem) -> Checked:
        """This result with problems that were found elsewhere."""
        kinds = Counter(self.kinds)
        kinds.update((problem.severity, problem.field) for problem in problems)
        room = max(0, _HELD - len(self.problems))
        return replace(self, problems=(*self.problems, *problems[:room]), kinds=kinds)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "dataset": self.dataset,
            "file": str(self.file),
            "records": self.records,
            "pictures": self.pictures,
            "errors": self.errors,
            "warnings": self.warnings,
            "kinds": [{"severity": kind[0], "field": kind[1], "count": n} for kind, n in sorted(self.kinds.items())],
            "answers": self.answers,
            "held_back": self.held_back,
            "problems": [problem_as_json(problem) for problem in self.problems],
        }


def problem_as_json(problem: RecordProblem) -> dict[str, Any]:
    """A problem as JSON values."""
    return {**problem.__dict__, "file": str(problem.file)}


def check_dataset(  # noqa: PLR0913 - one per option
    spec: DatasetSpec,
    root: Path | None = None,
    *,
    quick: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    listed: Callable[[RecordProblem], object] = id,  # which forgets it
) -> Checked:
    """Reads every record of a dataset and every picture once, and lists what is wrong.

    `quick` reads the headers of the pictures only, which finds missing but not truncated ones. `progress` is told how
    many of how many records are done, `listed` every problem when it is found. A file that is missing or unreadable
    is one problem, not an exception.
    """
    file = spec.candidates(root)[0]
    try:
        file = spec.annotation_file(root)
        annotations = Annotations(spec, root)
        count = len(annotations)
    except DataError as error:
        found = _Found([RecordProblem(file, -1, "", str(error))])
        return _Collected(spec, file, listed).add(range(0), found).checked()
    collected = _Collected(spec, file, listed)
    for part, found in over_ranges(partial(_check_range, quick=quick), annotations, root, workers):
        collected.add(part, found)
        if progress is not None:
            progress(part.stop, count)
    if not count:
        collected.problem(RecordProblem(file, -1, "", "holds no records"))
    for problem in chain(_duplicates(annotations, collected.names()), _unbalanced(file, _answers(collected.counted))):
        collected.problem(problem)
    return collected.checked()


def check_splits(results: Sequence[Checked], listed: Callable[[RecordProblem], object] = id) -> list[Checked]:
    """The results, in which an episode that training and validation share is an error of the validation set."""
    trained = {episode: result for result in results if result.split == "train" for episode in result.episodes}
    checked = []
    for result in results:
        shared = [] if result.split == "train" else sorted(trained.keys() & result.episodes.keys())
        problems = []
        for episode in shared:
            reason = f"the episode '{episode}' is in the training set {trained[episode].dataset}, too"
            problems.append(RecordProblem(result.file, result.episodes[episode], "episode", reason))
            listed(problems[-1])
        checked.append(result.also(*problems))
    return checked


@dataclass
class _Found:
    """What one range of records holds; names and pictures as digests of 64 bits, 0 for a record without a sample."""

    problems: list[RecordProblem]
    names: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    pictures: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    episodes: dict[str, int] = field(default_factory=dict)
    counted: Statistics = field(default_factory=Statistics)


class _Collected:
    """What was found so far, of all ranges."""

    def __init__(self, spec: DatasetSpec, file: Path, listed: Callable[[RecordProblem], object]) -> None:
        self.counted = Statistics()
        self._spec = spec
        self._file = file
        self._listed = listed
        self._held: list[RecordProblem] = []
        self._kinds: Counter[tuple[str, str]] = Counter()
        self._names: list[NDArray[np.uint64]] = []
        self._pictures: list[NDArray[np.uint64]] = []
        self._episodes: dict[str, int] = {}
        self._records = 0

    def add(self, part: range, found: _Found) -> _Collected:
        for problem in found.problems:
            self.problem(problem)
        self._records += len(part)
        self._names.append(found.names)
        self._pictures.append(found.pictures)
        self.counted.merge(found.counted)
        for episode, record in found.episodes.items():
            self._episodes.setdefault(episode, record)
        return self

    def problem(self, problem: RecordProblem) -> None:
        self._listed(problem)
        self._kinds[problem.severity, problem.field] += 1
        if len(self._held) < _HELD:
            self._held.append(problem)

    def names(self) -> NDArray[np.uint64]:
        """The digests of all records' names, in order."""
        return np.concatenate([np.empty(0, np.uint64), *self._names])

    def checked(self) -> Checked:
        held = tuple(sorted(self._held, key=lambda problem: problem.record))
        totals = (self._records, len(np.unique(np.concatenate([np.empty(0, np.uint64), *self._pictures]))))
        return Checked(
            self._spec.name,
            self._file,
            *totals,
            held,
            kinds=self._kinds,
            episodes=self._episodes,
            split=self._spec.split,
            counted=self.counted,
        )


def _check_range(annotations: Annotations, part: range, *, quick: bool) -> _Found:
    checker = _Checker(annotations, quick=quick)
    names = np.zeros(len(part), np.uint64)
    found = _Found([], names, counted=Statistics(records=len(part)))
    for place, index in enumerate(part):
        sample, problems = checker.record(index)
        found.problems += problems
        if sample is None:
            found.counted.unreadable += 1
            continue
        found.counted.add(sample)
        names[place] = _digest(sample.id)
        if episode := episode_of(sample):
            found.episodes.setdefault(episode, index)
    found.pictures = np.array(sorted(map(_digest, checker.pictures)), np.uint64)
    return found


def episode_of(sample: Sample) -> str:
    """The recording a sample is from: what the record says, else the key of a picture named `key#index`, else empty."""
    if sample.episode or not sample.images:
        return sample.episode
    return sample.images[0].path.rpartition("/")[2].rpartition("#")[0]


def _digest(text: str) -> int:
    # Of 2.5 million names two different ones fall together in one of 6 million datasets.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1


def _duplicates(annotations: Annotations, names: NDArray[np.uint64]) -> Iterator[RecordProblem]:
    """A problem for every record whose name an earlier one has; positions are those of the dataset."""
    order = np.argsort(names, kind="stable")
    ordered = names[order]
    first = 0
    for place in range(1, len(order)):
        if ordered[place] != ordered[first]:
            first = place
        elif ordered[place]:
            earlier = annotations.problem(int(order[first]), "", "").place
            name = annotations[int(order[place])].id
            reason = f"is also the id of {earlier}; records of results are kept by id"
            yield annotations.problem(int(order[place]), "id", reason, name)


def _answers(counted: Statistics) -> dict[str, Mapping[str, int]]:
    return {task: dict(counts.answers) for task, counts in counted.tasks.items() if counts.answers}


def _unbalanced(file: Path, answers: Mapping[str, Mapping[str, int]]) -> Iterator[RecordProblem]:
    """A warning for a task of which one answer is much more frequent than the others."""
    for task, counts in answers.items():
        total = sum(counts.values())
        answer = max(counts, key=lambda key: counts[key])
        share, even = counts[answer] / total, 1 / max(2, len(counts))
        if total >= _BALANCE_FROM and share > even + _BALANCE_MARGIN:
            reason = f"{share:.0%} of the {total:,} answers to {task} are '{answer}'; {even:.0%} would be even"
            yield RecordProblem(file, -1, "balance", reason, severity="warning")


class _Checker:
    """Checks records one by one and opens each of their pictures once."""

    def __init__(self, annotations: Annotations, *, quick: bool) -> None:
        self.annotations = annotations
        self.quick = quick
        # The size of each picture, or what is wrong with it.
        self.pictures: dict[str, ImageSize | str] = {}

    def record(self, index: int) -> tuple[Sample | None, list[RecordProblem]]:
        """The sample at this position, None if it cannot be read, and its problems."""
        try:
            sample = self.annotations[index]
        except (RecordError, RefusedRecordError) as error:
            return None, [error.problem, *self._pictures_of_wrong(index, error.problem)]
        found = [*self._pictures(sample.images), *_outside(sample)]
        if "corners swapped" in sample.notes:  # it is read, with the corners put in order
            said = f"the corners in {sample.raw_answer[:80]!r} are swapped; x1 <= x2 and y1 <= y2 are due"
            found.append(("error", "answer", said))
        return sample, [self._placed(index, sample.id, *problem) for problem in found]

    def _placed(self, index: int, name: str, severity: str, field: str, reason: str) -> RecordProblem:
        problem = self.annotations.problem(index, field, reason, name)
        return problem if severity == "error" else replace(problem, severity="warning")

    def _pictures_of_wrong(self, index: int, problem: RecordProblem) -> list[RecordProblem]:
        """What is wrong with the pictures of a record that is wrong elsewhere, so that one check finds both."""
        if problem.field in {"", "image", "images", "image_path"}:
            return []
        try:
            references = pictures_of(self.annotations.raw(index), self.annotations.spec, self.annotations.image_root)
        except (FieldError, RecursionError):
            return []
        return [self._placed(index, problem.id, *found) for found in self._pictures(references)]

    def _pictures(self, references: tuple[ImageRef, ...]) -> Iterator[_Flaw]:
        for reference in references:
            if reference.path not in self.pictures:  # each is opened once
                try:
                    if self.quick:
                        self.pictures[reference.path] = images.size(reference)
                    else:
                        height, width, _ = images.load(reference).shape
                        self.pictures[reference.path] = ImageSize(width, height)
                except RoboInterError as error:
                    self.pictures[reference.path] = str(error)
            found = self.pictures[reference.path]
            if isinstance(found, str):
                yield "error", "images", found
            elif reference.size is not None and reference.size != found:
                stated, real = (f"{size.width}x{size.height}" for size in (reference.size, found))
                swapped = ": width and height are swapped" if reference.size == found[::-1] else ""
                yield "error", "w", f"the record says {stated}, but the picture {reference.path} is {real}{swapped}"


_Flaw = tuple[str, str, str]
"""Severity, field and reason."""


def _outside(sample: Sample) -> Iterator[_Flaw]:
    """Places that lie outside the picture: legitimate for parts, suspicious for a whole box."""
    if sample.size is None:
        return
    for turn in sample.turns:
        if isinstance(turn.answer, Box):
            yield from _box_outside(turn.answer, sample.size)
        elif places := turn.answer.places:
            out = sum(not _inside(point, sample.size) for point in places)
            if out:
                yield "warning", "answer", f"{out} of {len(places)} points lie outside the picture"
        for part in turn.question:
            if isinstance(part, Place) and not all(_inside(point, sample.size) for point in part.points):
                yield "warning", "question", f"the place {_rounded(part.points)} lies outside the picture"


def _box_outside(box: Box, size: ImageSize) -> Iterator[_Flaw]:
    if 0 <= box.x1 < box.x2 <= size.width and 0 <= box.y1 < box.y2 <= size.height:
        return  # as most are
    where = f"the box {_rounded(box.corners)} in a picture of {size.width}x{size.height}"
    if box.x2 <= 0 or box.y2 <= 0 or box.x1 >= size.width or box.y1 >= size.height:
        yield "error", "answer", f"{where} lies wholly outside"
    elif not all(_inside(corner, size) for corner in box.corners):
        yield "warning", "answer", f"{where} lies partly outside"
    if box.area == 0:
        yield "error", "answer", f"{where} has no area"


def _inside(point: Point, size: ImageSize) -> bool:
    x, y = point
    return -_ROUNDING <= x <= size.width + _ROUNDING and -_ROUNDING <= y <= size.height + _ROUNDING


def _rounded(points: tuple[Point, ...]) -> str:
    return json.dumps([[round(x), round(y)] for x, y in points])
