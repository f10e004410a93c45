"""Builds a data set of simulated episodes in the published RoboInter-VQA layout.

Every episode is a function of (seed, number), is made by one process, and leaves one shard when it is complete; the
published files are put together from the shards in episode order. Therefore the number of processes and interruptions
change nothing, to the byte.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from rich.console import Console

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.episodes.assemble import Assembly, check_complete
from robointervlm.episodes.questions import ASKERS
from robointervlm.episodes.shards import png, shard_file, write_episode, write_file
from robointervlm.episodes.sim.engine import load_mujoco
from robointervlm.episodes.sim.scene import COLOURS
from robointervlm.episodes.sim.simulate import SimConfig, film, take
from robointervlm.episodes.work import Crew, Job, claim

Split = Literal["train", "val"]

# Raised whenever the same seed gives other pictures, labels or questions than before.
EDITION = 7
# Validation episodes are numbered from here, so that no seed gives an episode to both sides.
VAL_START = 1_000_000
SOURCE = "sim"
# Whose the questions' wordings are, said in every manifest: they are not the published ones.
WORDINGS_BY = "robointervlm"


@dataclass(frozen=True)
class BuildConfig:
    """What a data set consists of; equal configurations give equal files."""

    seed: int = 0
    train_episodes: int = 0
    val_episodes: int = 0
    size: ImageSize = ImageSize(196, 112)
    frames: int = 6
    failure_share: float = 0.15
    colours: tuple[str, ...] = tuple(COLOURS)
    tasks: tuple[str, ...] = tuple(ASKERS)

    def __post_init__(self) -> None:
        counts = (self.train_episodes, self.val_episodes)
        if self.seed < 0:
            raise DataError(f"seed {self.seed} is negative; use 0 or more.")
        if min(counts) < 0 or max(counts) < 1:
            raise DataError(f"{counts[0]} training and {counts[1]} validation episodes: ask for at least one.")
        if max(counts) > VAL_START:
            raise DataError(f"{max(counts)} episodes are more than {VAL_START}; use another seed for the rest.")
        if min(self.size) < 56:
            raise DataError(
                f"image size {tuple(self.size)} is too small to show anything: at least 56 pixels each way."
            )
        if self.frames < 2 or not 0 <= self.failure_share <= 1:
            raise DataError(f"{self.frames} frames, failure share {self.failure_share}: at least 2, and 0 to 1.")
        if unknown := [colour for colour in self.colours if colour not in COLOURS]:
            raise DataError(f"colour '{unknown[0]}' is not known; objects can be {', '.join(COLOURS)}.")
        if len(set(self.colours)) < 2 or len(set(self.colours)) < len(self.colours):
            raise DataError(f"colours {', '.join(self.colours)}: two different ones at least, each once.")
        if strange := [task for task in self.tasks if task not in ASKERS]:
            raise DataError(f"task '{strange[0]}' is not asked; these are: {', '.join(ASKERS)}.")

    def as_json(self) -> dict[str, Any]:
        return {
            "source": SOURCE,
            "edition": EDITION,
            "seed": self.seed,
            "train_episodes": self.train_episodes,
            "val_episodes": self.val_episodes,
            "size": list(self.size),
            "frames": self.frames,
            "failure_share": self.failure_share,
            "colours": list(self.colours),
            "tasks": [task for task in ASKERS if task in self.tasks],
            "wordings": WORDINGS_BY,
        }


@dataclass(frozen=True)
class BuildReport:
    """What a build left: numbers of records by split and task, episodes made now and found ready, time taken."""

    root: Path
    records: dict[str, dict[str, int]]
    made: int
    reused: int
    seconds: float


def build(
    config: BuildConfig,
    root: Path,
    *,
    workers: int | None = None,
    crew: Crew | None = None,
    console: Console | None = None,
) -> BuildReport:
    """Writes the data set to ``root`` and returns what was made; finishes a build that was interrupted.

    A ``crew`` shares the work, by default ``workers`` processes, one per processor. Raises `DataError` if ``root``
    holds other files or a data set of another configuration or of another release of MuJoCo, whose pictures differ in
    some pixels; or if episodes are missing when shares are merged.
    """
    mujoco = load_mujoco()
    began = time.monotonic()
    console, crew, root = console or Console(stderr=True), crew or Crew(workers), root.absolute()
    claim(root, {**config.as_json(), "mujoco": mujoco.__version__}, crew.share, added=("mujoco",))
    sides = {"train": range(config.train_episodes), "val": range(VAL_START, VAL_START + config.val_episodes)}

    def jobs(*, missing: bool) -> Iterator[Job]:
        mine = crew.jobs((split, number) for split, numbers in sides.items() for number in numbers)
        return (job for job in mine if not missing or not shard_file(root, *job).is_file())

    asked, todo = (sum(1 for _ in jobs(missing=missing)) for missing in (False, True))
    console.print(
        f"Simulated tabletop: {asked} episodes into {root} ({asked - todo} already there).",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    crew.run(partial(make_episode, config, root), jobs(missing=True), todo, root=root, console=console)
    counts: dict[str, dict[str, int]] = {}
    if crew.share is None:
        check_complete(root, ((split, number) for split, numbers in sides.items() for number in numbers))
        assembly = Assembly(root, SOURCE, config.tasks, empty=True)
        counts = {split: assembly.split(split, numbers) for split, numbers in sides.items() if numbers}
    return BuildReport(root, counts, todo, asked - todo, time.monotonic() - began)


def make_episode(config: BuildConfig, root: Path, split: str, number: int) -> None:
    """Simulates one episode and writes its pictures, then its shard, which says that it is complete."""
    taken = take(config.seed, number, SimConfig(config.size, config.frames, config.failure_share, config.colours))
    pictures = []
    for frame in taken.episode.frames:
        path = f"Generation/image/{split}/{SOURCE}/{taken.episode.id}/{frame.index:03d}.png"
        write_file(root / path, png(Image.fromarray(np.asarray(frame.picture))))
        pictures.append(path)
    scenes = partial(film, taken.scene, taken.motion)
    write_episode(root, split, number, taken.episode, pictures, film=scenes, tasks=config.tasks)
