"""Episodes written one by one, each with a shard that says it is complete, and the published files put together."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robointervlm.core.errors import DataError, ExhaustedError
from robointervlm.episodes.balance import balanced
from robointervlm.episodes.episode import Episode, as_json
from robointervlm.episodes.layout import annotation_file, episodes_file
from robointervlm.episodes.questions import ASKERS, Balance, Questions, questions_about

Picture = NDArray[np.uint8]
Film = Callable[[Collection[int]], Mapping[int, Picture]]
"""Gives the pictures of any time steps of an episode."""


def shard_file(root: Path, split: str, number: int) -> Path:
    """The shard of an episode; it is there when all else of the episode is."""
    return root / ".shards" / split / f"{number:07d}.json"


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
    _write_pictures(root, episode, asked, film)
    shard = {
        "episode": as_json(episode, list(pictures)),
        "records": asked.records,
        "balances": {task: wanted for task, wanted in asked.balances.items() if any(wanted)},
        **(extra or {}),
    }
    write_file(shard_file(root, split, number), json.dumps(shard).encode())


def _write_pictures(root: Path, episode: Episode, asked: Questions, film: Film) -> None:
    for path, (frame, draw) in asked.drawings.items():
        write_file(root / path, png(draw(np.asarray(episode.frames[frame].picture))))
    if asked.moments:
        filmed = film(sorted(set(asked.moments.values())))
        for path, moment in asked.moments.items():
            write_file(root / path, png(Image.fromarray(filmed[moment])))


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def assemble(  # noqa: PLR0913 - one each
    root: Path, numbers: Sequence[int], split: str, source: str, *, tasks: Sequence[str] = tuple(ASKERS), empty: bool
) -> dict[str, int]:
    """Puts the published files of a split together; returns the number of records by task.

    Of tasks that want it, questions are left out until their answers are equally frequent. A file without a record is
    written only if ``empty`` files are wanted.
    """
    if not numbers:
        return {}
    rows: dict[str, list[str]] = {task: [] for task in tasks}
    wanted: dict[str, list[Balance | None]] = {task: [] for task in tasks}
    episodes = []
    for number in numbers:
        shard = json.loads(shard_file(root, split, number).read_text(encoding="utf-8"))
        episodes.append(json.dumps(shard["episode"]))
        for task, made in shard["records"].items():
            rows[task] += [json.dumps(record) for record in made]
            marks = shard["balances"].get(task) or [None] * len(made)
            wanted[task] += [Balance(*mark) if mark else None for mark in marks]
    kept = {task: [row for row, keep in zip(rows[task], balanced(wanted[task]), strict=True) if keep] for task in rows}
    files: dict[str, list[str]] = {}
    for task, lines in kept.items():
        files.setdefault(annotation_file(task, split, source), []).extend(lines)
    for file, lines in files.items():
        if lines or empty:
            write_file(root / file, ("[\n" + ",\n".join(lines) + "\n]\n").encode())
    write_file(root / episodes_file(split, source), ("\n".join(episodes) + "\n").encode())
    return {task: len(lines) for task, lines in kept.items()}


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that it is either absent or complete; a repeated write reuses what an interrupted one left."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExhaustedError(
                f"no space left while writing {path}; free some and run the same command again."
            ) from None
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None
