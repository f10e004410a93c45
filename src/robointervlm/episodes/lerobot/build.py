"""Builds a data set of recorded episodes in the published layout, as `episodes.build` does of simulated ones.

An episode leaves one shard when it is complete. One that cannot be read leaves none, is listed in `problems.json` and
does not stop the others; run again, a build tries it once more. Validation episodes are chosen from all that are
listed, by their names, so that neither broken ones nor the number of processes change the sides.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from rich.console import Console

from robointervlm.core.errors import DataError, RefusedError
from robointervlm.episodes.build import WORDINGS_BY, Split, claim, run_jobs
from robointervlm.episodes.episode import Episode
from robointervlm.episodes.layout import annotation_file, published_task
from robointervlm.episodes.lerobot.dataset import LeRobotDataset
from robointervlm.episodes.lerobot.mapping import Mapping
from robointervlm.episodes.lerobot.read import pictures_at, read_episode
from robointervlm.episodes.shards import assemble, shard_file, write_episode, write_file

# Raised whenever the same recording gives other pictures, labels or questions than before.
EDITION = 2
PROBLEMS_FILE = "problems.json"
# At 95 the eye sees no difference; video frames are lossy already.
_QUALITY = 95


@dataclass(frozen=True)
class LeRobotConfig:
    """What a data set is built from, and how; equal configurations of an equal folder give equal files."""

    folder: Path
    mapping: Mapping
    camera: str | None = None
    frames: int = 8
    val_share: float = 0.1

    def __post_init__(self) -> None:
        if self.frames < 2 or not 0 <= self.val_share <= 1:
            raise DataError(f"{self.frames} frames, validation share {self.val_share}: at least 2, and 0 to 1.")

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
class LeRobotReport:
    """What a build left: records by split and task, episodes made now, found ready and left out, and what is wrong."""

    root: Path
    records: dict[str, dict[str, int]]
    made: int
    reused: int
    problems: tuple[Problem, ...]
    seconds: float

    @property
    def errors(self) -> int:
        """How many episodes were left out."""
        return sum(problem.severity == "error" for problem in self.problems)


def build_lerobot(
    config: LeRobotConfig, root: Path, *, workers: int | None = None, console: Console | None = None
) -> LeRobotReport:
    """Writes the data set to ``root`` and returns what was made; finishes a build that was interrupted.

    Raises `DataError` if the folder is no LeRobot dataset, or if ``root`` holds a data set of another configuration.
    """
    began = time.monotonic()
    console = console or Console(stderr=True)
    dataset = LeRobotDataset(config.folder)
    dataset.camera(config.camera or config.mapping.camera)
    splits = split_episodes([listed.index for listed in dataset.episodes], config)
    claim(root, {**config.as_json(), "dataset": dataset.digest})
    jobs: list[tuple[str, int]] = sorted(((split, index) for index, split in splits.items()), key=lambda job: job[1])
    missing = [job for job in jobs if not shard_file(root, *job).is_file()]
    console.print(
        f"{config.folder}: {len(jobs)} episodes into {root} ({len(jobs) - len(missing)} already there).",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    failed = [
        problem
        for problem in run_jobs(
            partial(make_episode, config, root), missing, root=root, workers=workers, console=console
        )
        if problem is not None
    ]
    ready = [job for job in jobs if shard_file(root, *job).is_file()]
    problems = sorted([*failed, *_warnings(root, ready)], key=lambda problem: problem.episode)
    counts = {split: _assembled(config, root, ready, split) for split in ("train", "val")}
    _write_catalog(config, root, counts)
    listed = [vars(problem) for problem in problems]
    write_file(root / PROBLEMS_FILE, (json.dumps(listed, indent=2, ensure_ascii=False) + "\n").encode())
    made = len(missing) - len(failed)
    return LeRobotReport(root, counts, made, len(jobs) - len(missing), tuple(problems), time.monotonic() - began)


def split_episodes(indices: list[int], config: LeRobotConfig) -> dict[int, Split]:
    """On which side each episode is: the share with the lowest hashes of their names is for validation."""
    by_hash = sorted(indices, key=lambda index: hashlib.sha256(f"{config.mapping.source}_{index}".encode()).digest())
    held_out = set(by_hash[: round(len(indices) * config.val_share)])
    return {index: "val" if index in held_out else "train" for index in indices}


@cache
def _dataset(folder: Path) -> LeRobotDataset:
    """The metadata, read once by each process."""
    return LeRobotDataset(folder)


def make_episode(config: LeRobotConfig, root: Path, split: str, number: int) -> Problem | None:
    """Writes the pictures of one episode, then its shard; what is wrong with it if it cannot be read."""
    dataset = _dataset(config.folder)
    listed = dataset.numbered[number]
    camera = dataset.camera(config.camera or config.mapping.camera)
    try:
        recording = read_episode(dataset, listed, config.mapping, camera=camera, frames=config.frames)
        pictures = _write_pictures(recording.episode, root, split)
        write_episode(
            root, split, number, recording.episode, pictures,
            film=lambda steps: dict(zip(steps, pictures_at(dataset, listed, list(steps), camera=camera), strict=True)),
            extra={"warnings": recording.warnings},
        )  # fmt: skip
    except (DataError, RefusedError) as error:
        return Problem(number, "error", str(error))
    return None


def _write_pictures(episode: Episode, root: Path, split: str) -> list[str]:
    paths = []
    for frame in episode.frames:
        path = f"Generation/image/{split}/{episode.source}/{episode.id}/{frame.index:05d}.jpg"
        content = io.BytesIO()
        Image.fromarray(frame.picture).save(content, format="JPEG", quality=_QUALITY, subsampling=0)  # type: ignore[arg-type]
        write_file(root / path, content.getvalue())
        paths.append(path)
    return paths


def _warnings(root: Path, ready: list[tuple[str, int]]) -> list[Problem]:
    found = []
    for split, number in ready:
        shard = json.loads(shard_file(root, split, number).read_text(encoding="utf-8"))
        found += [Problem(number, "warning", reason) for reason in shard["warnings"]]
    return found


def _assembled(config: LeRobotConfig, root: Path, ready: list[tuple[str, int]], split: str) -> dict[str, int]:
    """The number of records by task, those with none left out, after the files of a split are written."""
    numbers = [number for side, number in ready if side == split]
    counts = assemble(root, numbers, split, config.mapping.source, empty=False)
    return {task: count for task, count in counts.items() if count}


def _write_catalog(config: LeRobotConfig, root: Path, counts: dict[str, dict[str, int]]) -> None:
    """Names every dataset that has records: `<source>_<task>_<split>`."""
    source = config.mapping.source
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
                "notes": "made by `robointer data build --source lerobot`; the wordings are RoboInterVLM's own",
            }
    write_file(root / "catalog.yaml", yaml.safe_dump(entries, sort_keys=False, allow_unicode=True).encode())
