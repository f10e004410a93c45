"""Builds a data set of recorded episodes in the published layout, as `episodes.build` does of simulated ones.

An episode leaves one shard when it is complete. One that cannot be read leaves a note why, is listed in `problems.json`
and does not stop the others; run again, a build tries it once more. Validation episodes are chosen from all that are
listed, by their names, so that neither broken ones nor the number of processes change the sides.
"""

from __future__ import annotations

import hashlib
import io
import json
import textwrap
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import yaml
from PIL import Image
from rich.console import Console

from robointervlm.core.errors import DataError, RefusedError
from robointervlm.episodes.assemble import Assembly, annotation_file, check_complete, published_task, read_shard
from robointervlm.episodes.build import WORDINGS_BY
from robointervlm.episodes.lerobot.mapping import ROBOINTER, Mapping
from robointervlm.episodes.lerobot.read import Recording
from robointervlm.episodes.lerobot.video import Picture
from robointervlm.episodes.shards import partial_of, problem_file, shard_file, write_episode, write_file, writing
from robointervlm.episodes.work import Crew, Job, claim

# Raised whenever the same recording gives other pictures, labels or questions than before.
EDITION = 2
PROBLEMS_FILE = "problems.json"
# At 95 the eye sees no difference; video frames are lossy already.
_QUALITY = 95
# Problems that are told; all are in the file.
_TOLD = 100


class Source(Protocol):
    """Recordings that are open. What is wrong with one of them is a `DataError` or `RefusedError` of its reading."""

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of all that are listed, in order."""

    @property
    def digest(self) -> str:
        """What tells these recordings from others, wherever they lie."""

    def read(self, number: int) -> Recording:
        """One of them, with the frames that are wanted."""

    def pictures(self, number: int, steps: Sequence[int]) -> list[Picture]:
        """The pictures of any of its time steps."""


@dataclass(frozen=True)
class RecordedConfig(ABC):
    """What a data set is built from, and how; equal configurations of equal recordings give equal files.

    ``annotations`` is where the labels are, if not in the folder. ``columns`` is the mapping to use without one.
    """

    columns: ClassVar[Path] = ROBOINTER

    folder: Path
    mapping: Mapping
    camera: str | None = None
    frames: int = 8
    val_share: float = 0.1
    annotations: Path | None = None

    def __post_init__(self) -> None:
        if self.frames < 2 or not 0 <= self.val_share <= 1:
            raise DataError(f"{self.frames} frames, validation share {self.val_share}: at least 2, and 0 to 1.")
        for name in ("folder", "annotations"):  # other machines work in other folders
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, path.absolute())

    def __hash__(self) -> int:
        return hash((self.folder, self.camera))

    @abstractmethod
    def open(self) -> Source:
        """The recordings; raises `DataError` if there are none."""

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.mapping.source,
            "edition": EDITION,
            "camera": self.camera,
            "frames": self.frames,
            "val_share": self.val_share,
            "mapping": self.mapping.model_dump(mode="json"),
            "wordings": WORDINGS_BY,
        }


@dataclass(frozen=True)
class Problem:
    """Why an episode is left out (`error`), or what is odd about one that is not (`warning`)."""

    episode: int
    severity: str
    reason: str


@dataclass(frozen=True)
class RecordedReport:
    """What a build left: records by split and task, episodes made now and found ready, and what is wrong.

    ``errors`` are left out, ``problems`` the first hundred of all.
    """

    root: Path
    records: dict[str, dict[str, int]]
    made: int
    reused: int
    errors: int
    problems: tuple[Problem, ...]
    seconds: float


def build_recorded(
    config: RecordedConfig,
    root: Path,
    *,
    workers: int | None = None,
    crew: Crew | None = None,
    console: Console | None = None,
) -> RecordedReport:
    """Writes the data set to ``root`` and returns what was made; finishes a build that was interrupted.

    A ``crew`` shares the work, by default ``workers`` processes, one per processor. Raises `DataError` if the folder
    holds no recordings, if ``root`` holds a data set of another configuration, or if episodes are missing when the
    shares of a build are merged.
    """
    began = time.monotonic()
    console, crew, root = console or Console(stderr=True), crew or Crew(workers), root.absolute()
    source = config.open()
    numbers, held_out = source.numbers, validation(source.numbers, config)
    claim(root, {**config.as_json(), "dataset": source.digest}, crew.share)

    def jobs(*, missing: bool) -> Iterator[Job]:
        mine = crew.jobs(_jobs(numbers, held_out))
        return (job for job in mine if not missing or not shard_file(root, *job).is_file())

    asked, todo = (sum(1 for _ in jobs(missing=missing)) for missing in (False, True))
    console.print(
        f"{config.folder}: {asked} episodes into {root} ({asked - todo} already there).",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    make, lost = partial(make_episode, config, root), partial(_note_death, root)
    crew.run(make, jobs(missing=True), todo, root=root, console=console, lost=lost)
    found, records = _Problems(root), {}
    if crew.share is None:
        check_complete(root, _jobs(numbers, held_out))
        found.write(_jobs(numbers, held_out))
        records = _assembled(config, root, numbers, held_out)
    else:
        found.count(jobs(missing=True))
    made = todo - found.errors if not crew.merge else 0
    return RecordedReport(root, records, made, asked - todo, found.errors, tuple(found.told), time.monotonic() - began)


def validation(numbers: Sequence[int], config: RecordedConfig) -> frozenset[int]:
    """The share of the episodes that is for validation: those with the lowest hashes of their names."""
    by_hash = sorted(numbers, key=lambda number: hashlib.sha256(f"{config.mapping.source}_{number}".encode()).digest())
    return frozenset(by_hash[: round(len(numbers) * config.val_share)])


def _jobs(numbers: Sequence[int], held_out: frozenset[int]) -> Iterator[Job]:
    return (("val" if number in held_out else "train", number) for number in numbers)


@lru_cache(maxsize=1)
def _opened(config: RecordedConfig) -> Source:
    """The recordings, opened once by each process."""
    return config.open()


def make_episode(config: RecordedConfig, root: Path, split: str, number: int) -> None:
    """Writes the pictures of one episode, then its shard; or a note of what is wrong with it."""
    source, note = _opened(config), problem_file(root, split, number)
    try:
        recording = source.read(number)
        pictures, episode = [], recording.episode
        for frame in episode.frames:
            pictures.append(f"Generation/image/{split}/{episode.source}/{episode.id}/{frame.index:05d}.jpg")
            content = io.BytesIO()
            image = Image.fromarray(frame.picture)  # type: ignore[arg-type]
            image.save(content, format="JPEG", quality=_QUALITY, subsampling=0)
            write_file(root / pictures[-1], content.getvalue())
        write_episode(
            root, split, number, episode, pictures,
            film=lambda steps: dict(zip(steps, source.pictures(number, list(steps)), strict=True)),
            extra={"warnings": recording.warnings},
        )  # fmt: skip
    except (DataError, RefusedError) as error:
        write_file(note, json.dumps(str(error)).encode())
    else:
        note.unlink(missing_ok=True)


def _note_death(root: Path, job: Job) -> None:
    reason = "the process that read it died: a file that is damaged in an unusual way, or too little memory."
    write_file(problem_file(root, *job), json.dumps(reason).encode())


class _Problems:
    """What is wrong with the episodes of a data set: counted, the first ones kept, all written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.errors = 0
        self.told: list[Problem] = []

    def count(self, jobs: Iterator[Job]) -> None:
        """Counts the problems of these episodes."""
        for _ in self._of(jobs):
            pass

    def write(self, jobs: Iterator[Job]) -> None:
        """Counts the problems of these episodes, and writes them."""
        path = self.root / PROBLEMS_FILE
        with writing(path):
            with partial_of(path).open("w", encoding="utf-8") as file:
                file.write("[")
                for number, problem in enumerate(self._of(jobs)):
                    text = json.dumps(vars(problem), indent=2, ensure_ascii=False)
                    file.write(f"{',' if number else ''}\n{textwrap.indent(text, '  ')}")
                file.write("\n]\n")
            partial_of(path).replace(path)

    def _of(self, jobs: Iterator[Job]) -> Iterator[Problem]:
        for job in jobs:
            shard, note = shard_file(self.root, *job), problem_file(self.root, *job)
            found = []
            if shard.is_file():
                found = [Problem(job[1], "warning", reason) for reason in read_shard(shard)["warnings"]]
            elif note.is_file():
                found = [Problem(job[1], "error", str(json.loads(note.read_text(encoding="utf-8"))))]
            for problem in found:
                self.errors += problem.severity == "error"
                if len(self.told) < _TOLD:
                    self.told.append(problem)
                yield problem


def _assembled(
    config: RecordedConfig, root: Path, numbers: Sequence[int], held_out: frozenset[int]
) -> dict[str, dict[str, int]]:
    """Writes the published files and the catalog; the number of records by split and task, those without left out."""
    source = config.mapping.source
    assembly = Assembly(root, source)
    counts = {}
    for split in ("train", "val"):
        side = (number for of, number in _jobs(numbers, held_out) if of == split)
        ready = np.fromiter((n for n in side if shard_file(root, split, n).is_file()), np.int64)
        counts[split] = {task: count for task, count in assembly.split(split, ready.tolist()).items() if count}
    # Every dataset that has records: `<source>_<task>_<split>`.
    entries: dict[str, Any] = {"root": "."}
    for split, tasks in counts.items():
        for task in tasks:
            entries[f"{source}_{task}_{split}"] = {
                "task": published_task(task),
                "annotations": annotation_file(task, split, source),
                **({"where": {"task": [task]}} if task.startswith("planning") else {}),
                "split": split,
                "source": source,
                **({"licence": config.mapping.licence} if config.mapping.licence else {}),
                "notes": "made by `robointer data build`; the wordings are RoboInterVLM's own",
            }
    write_file(root / "catalog.yaml", yaml.safe_dump(entries, sort_keys=False, allow_unicode=True).encode())
    return counts
