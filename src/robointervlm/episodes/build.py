"""Builds a data set of simulated episodes in the published RoboInter-VQA layout.

Every episode is a function of (seed, number), is made by one process, and leaves one shard when it is complete; the
published files are put together from the shards in episode order. Therefore the number of processes and interruptions
change nothing, to the byte.
"""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, ExhaustedError
from robointervlm.episodes.questions import ASKERS
from robointervlm.episodes.shards import assemble, png, shard_file, write_episode, write_file
from robointervlm.episodes.sim.film import film
from robointervlm.episodes.sim.scene import COLOURS
from robointervlm.episodes.sim.simulate import SimConfig, take
from robointervlm.episodes.sim.stage import load_mujoco

Split = Literal["train", "val"]
Result = TypeVar("Result")

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


def _sim(config: BuildConfig) -> SimConfig:
    return SimConfig(config.size, config.frames, config.failure_share, config.colours)


@dataclass(frozen=True)
class BuildReport:
    """What a build left: numbers of records by split and task, episodes made now and found ready, time taken."""

    root: Path
    records: dict[str, dict[str, int]]
    made: int
    reused: int
    seconds: float


def build(
    config: BuildConfig, root: Path, *, workers: int | None = None, console: Console | None = None
) -> BuildReport:
    """Writes the data set to ``root`` and returns what was made; finishes a build that was interrupted.

    ``workers`` processes share the work, by default one per processor. Raises `DataError` if ``root`` holds a data set
    of another configuration or other files.
    """
    load_mujoco()
    began = time.monotonic()
    console = console or Console(stderr=True)
    claim(root, config.as_json())
    jobs = [("train", n) for n in range(config.train_episodes)]
    jobs += [("val", VAL_START + n) for n in range(config.val_episodes)]
    missing = [(split, number) for split, number in jobs if not shard_file(root, split, number).is_file()]
    console.print(
        f"Simulated tabletop: {len(jobs)} episodes into {root} ({len(jobs) - len(missing)} already there).",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    run_jobs(partial(make_episode, config, root), missing, root=root, workers=workers, console=console)
    counts = {
        split: assemble(root, [n for s, n in jobs if s == split], split, SOURCE, tasks=config.tasks, empty=True)
        for split in ("train", "val")
    }
    counts = {split: count for split, count in counts.items() if count}
    return BuildReport(root, counts, len(missing), len(jobs) - len(missing), time.monotonic() - began)


def claim(root: Path, wanted: dict[str, Any]) -> None:
    """Writes the manifest, or checks that the one there asks for the same; a `DataError` says what differs."""
    manifest = root / "manifest.json"
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            raise DataError(f"{manifest} is not JSON; remove {root} or build into another folder.") from None
        if found != wanted:
            names = [name for name in wanted if found.get(name) != wanted[name]]
            changes = ", ".join(f"{name} is {found.get(name)} there and {wanted[name]} now" for name in names)
            raise DataError(f"{root} holds another data set: {changes}. Build into another folder or remove this one.")
        return
    if root.exists() and any(path.name != ".manifest.json.partial" for path in root.iterdir()):
        raise DataError(f"{root} is not empty and holds no manifest.json; build into a new folder.")
    write_file(manifest, (json.dumps(wanted, indent=2) + "\n").encode())


def run_jobs(
    make: Callable[[str, int], Result],
    jobs: list[tuple[str, int]],
    *,
    root: Path,
    workers: int | None,
    console: Console,
) -> list[Result]:
    """What ``make`` returned for each (split, number), in their order; ``workers`` processes share the work.

    By default there is one per processor. ``make`` and its results are pickled, if there is more than one.
    """
    workers = workers or os.cpu_count() or 1
    with _progress(console, len(jobs)) as advance:
        results: list[Result] = []
        if min(workers, len(jobs)) <= 1:
            for split, number in jobs:
                results.append(make(split, number))
                advance()
            return results
        context = multiprocessing.get_context("spawn")
        with _single_threaded_children():
            pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=_end_with_parent)
            futures = [pool.submit(make, split, number) for split, number in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                advance()
            return [future.result() for future in futures]
        except BrokenProcessPool:
            raise ExhaustedError(
                f"a process of {workers} died while building {root}, most likely for lack of memory; "
                "run the same command again with fewer workers, it goes on where it stopped."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Ends this worker when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started inside use one thread each; the arrays here are too small for more."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def make_episode(config: BuildConfig, root: Path, split: str, number: int) -> None:
    """Simulates one episode and writes its pictures, then its shard, which says that it is complete."""
    taken = take(config.seed, number, _sim(config))
    pictures = []
    for frame in taken.episode.frames:
        path = f"Generation/image/{split}/{SOURCE}/{taken.episode.id}/{frame.index:03d}.png"
        write_file(root / path, png(Image.fromarray(np.asarray(frame.picture))))
        pictures.append(path)
    scenes = partial(film, taken.scene, taken.motion)
    write_episode(root, split, number, taken.episode, pictures, film=scenes, tasks=config.tasks)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each episode: a live bar on a terminal, else a line every tenth of the work."""
    if console.is_terminal:
        columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("episodes", total=total)
            yield lambda: bar.advance(task)
        return
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            console.print(f"{done}/{total} episodes", highlight=False)

    yield advance
