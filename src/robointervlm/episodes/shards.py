"""Episodes written one by one, each with a shard that says it is complete."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robointervlm.core.errors import DataError, ExhaustedError
from robointervlm.episodes.episode import Episode, as_json
from robointervlm.episodes.questions import ASKERS, questions_about

Picture = NDArray[np.uint8]
Film = Callable[[Collection[int]], Mapping[int, Picture]]
"""Gives the pictures of any time steps of an episode."""


def shard_file(root: Path, split: str, number: int) -> Path:
    """The shard of an episode; it is there when all else of the episode is."""
    return root / ".shards" / split / f"{number:07d}.json"


def problem_file(root: Path, split: str, number: int) -> Path:
    """Where it is written why an episode cannot be made, in place of its shard."""
    return root / ".shards" / split / f"{number:07d}.problem.json"


def write_episode(  # noqa: PLR0913 - one each
    root: Path,
    split: str,
    number: int,
    episode: Episode,
    pictures: Sequence[str],
    *,
    film: Film,
    tasks: Sequence[str] = tuple(ASKERS),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes the pictures that the questions need besides those of the frames, then the shard.

    ``pictures`` are the paths of the frames' pictures, which are already there.
    """
    asked = questions_about(episode, pictures, split=split, tasks=tasks)
    for path, (frame, draw) in asked.drawings.items():
        write_file(root / path, png(draw(np.asarray(episode.frames[frame].picture))))
    if asked.moments:
        filmed = film(sorted(set(asked.moments.values())))
        for path, moment in asked.moments.items():
            write_file(root / path, png(Image.fromarray(filmed[moment])))
    shard = {
        "episode": as_json(episode, list(pictures)),
        "records": asked.records,
        "balances": {task: wanted for task, wanted in asked.balances.items() if any(wanted)},
        **(extra or {}),
    }
    write_file(shard_file(root, split, number), json.dumps(shard).encode())


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that it is either absent or complete; a repeated write reuses what an interrupted one left."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_of(path).write_bytes(content)
        partial_of(path).replace(path)


def partial_of(path: Path) -> Path:
    """Where a file is written until it is complete."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says while a file is written into an error that says what to do."""
    try:
        yield
    except OSError as error:
        partial_of(path).unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExhaustedError(
                f"no space left while writing {path}; free some and run the same command again."
            ) from None
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None
