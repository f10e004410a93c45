"""Checkpoints that are whole or not there.

A checkpoint is written to a temporary folder, every file synced, then a manifest with the SHA-256 of each, then the
folder is renamed. Resuming takes the newest whose manifest verifies and names those that do not.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from robointervlm.core.errors import DataError, ExhaustedError, RecipeError
from robointervlm.runs.files import sync_folder, writing_to
from robointervlm.runs.journal import decoded_line, encoded_line
from robointervlm.runs.run import environment
from robointervlm.train.ranks import ALONE, Ranks, by_first, together

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
_PREFIX = "step-"
# How many files are hashed at once.
HASHING = 4


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model that loads by itself (`model/`) and the state of the training (`state.pt` and others)."""

    folder: Path
    step: int

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def state(self) -> Path:
        return self.folder / "state.pt"

    def rank_state(self, rank: int) -> Path:
        """What one process alone has: the states of its random generators."""
        return self.folder / f"rank-{rank:05d}.pt"


@contextlib.contextmanager
def writing_weights(path: Path) -> Iterator[None]:
    """As `writing_to`, also for the errors that torch and safetensors make of what the system told them."""
    with writing_to(path):
        try:
            yield
        except (RuntimeError, SafetensorError) as error:
            number = _system_error(error, path)
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from error


def _system_error(error: BaseException, path: Path) -> int | None:
    """The system's number of what went wrong, if that was writing."""
    if isinstance(error.__context__, OSError):
        return error.__context__.errno
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return int(found[1])
    if "inline_container.cc" in str(error):  # torch's archive; it says where it noticed, not why
        there = next(each for each in path.parents if each.is_dir())
        return errno.ENOSPC if shutil.disk_usage(there).free < 1 << 20 else errno.EIO
    return None


def at(root: Path, step: int) -> Checkpoint:
    """The checkpoint of this step, whether it is there or not."""
    return Checkpoint(root / f"{_PREFIX}{step:08d}", step)


def save(root: Path, step: int, write: Callable[[Checkpoint], None], *, keep: int, ranks: Ranks = ALONE) -> Checkpoint:
    """Have `write` fill a checkpoint of this step under `root`, make it durable, then prune the oldest ones.

    Called by every rank, and so is `write`, each with the same temporary folder, to add whatever files it has. What
    fails on one rank raises on all of them, and what was saved before stays as it was. A `write` that exchanges
    something with other ranks must do so before it writes, or they wait for the one whose disk is full.
    """
    final = at(root, step)
    temporary = Checkpoint(root / f".tmp-{final.folder.name}", step)

    writing = writing_weights(final.folder)

    @writing
    def begin() -> None:
        discard(temporary.folder)
        refuse_full_disk(root)
        temporary.folder.mkdir(parents=True)

    @writing
    def fill() -> None:
        if not temporary.folder.is_dir():
            raise RecipeError(f"{root} is not the same folder for all processes; choose a run.dir that they share.")
        write(temporary)

    @writing
    def seal() -> None:
        _seal(temporary, final, ranks.world)

    try:
        by_first(ranks, begin)
        together(ranks, fill)
        by_first(ranks, seal)
    except BaseException:
        if ranks.rank == 0:  # what is in it is of no use, but the room it takes may be
            shutil.rmtree(temporary.folder, ignore_errors=True)
        raise
    if ranks.rank == 0:
        _prune(root, step, keep)
    return final


def newest_step(root: Path) -> int | None:
    """The step of the newest checkpoint, whole or not; None if there never was one."""
    found = _all(root)
    return found[-1].step if found else None


def newest(root: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if there never was one.

    Raises `DataError` if there are checkpoints but all are damaged: starting again in silence would lose the run.
    """
    for leftover in root.glob(".tmp-*"):
        discard(leftover)
    found = _all(root)
    for checkpoint in reversed(found):
        problem = damage(checkpoint.folder)
        if problem is None:
            return checkpoint
        logger.warning("checkpoint %s is damaged (%s); looking for an older one", checkpoint.folder, problem)
    if found:
        raise DataError(f"no checkpoint in {root} is whole; move the folder away to start again from step 0.")
    return None


def refuse_full_disk(root: Path, least: int = 0, keep: int = 0) -> None:
    """Raise `ExhaustedError` if the disk has no room for one more checkpoint: as large as the last one.

    Where there is none yet, of at least `least` bytes; warns if the `keep` of them and one more have no room.
    """
    there = next((each for each in (root, *root.parents) if each.is_dir()), root)
    with writing_to(root):
        free = shutil.disk_usage(there).free
    found = _all(root)
    files = [path for last in found[-1:] for path in last.folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) if found else least
    if size > free:
        raise ExhaustedError(
            f"{root} has no room for {'another' if found else 'a'} checkpoint: {_readable(size)} are needed, "
            f"{_readable(free)} are free. What was saved is intact; free some space, or lower run.keep, and rerun the "
            "same command."
        )
    if (keep + 1 - len(found)) * size > free:
        logger.warning(
            "%s: %s are free, and %d checkpoints of %s or more are kept while one more is written; free some space "
            "or lower run.keep before the disk is full",
            *(root, _readable(free), keep, _readable(size)),
        )


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, None if each is as the manifest says."""
    try:
        manifest = decoded_line((folder / MANIFEST).read_bytes().removesuffix(b"\n"))
        if manifest is None:
            return f"{MANIFEST} is damaged"
        entries: dict[str, dict[str, object]] = {**manifest["files"]}  # type: ignore[dict-item]
        # Sizes first: a cut file is found without reading the others.
        for name, entry in entries.items():
            if (folder / name).stat().st_size != entry["bytes"]:
                return f"{name} has {(folder / name).stat().st_size} bytes, not {entry['bytes']}"
        with ThreadPoolExecutor(max_workers=HASHING) as pool:
            digests = pool.map(_digest, [folder / name for name in entries])
            for (name, entry), digest in zip(entries.items(), digests, strict=True):
                if digest != entry["sha256"]:
                    return f"{name} differs from the manifest"
    except OSError as error:
        return str(error)
    return None


def discard(folder: Path) -> None:
    """Remove a folder; renamed first, so that a kill half-way leaves nothing that looks like a checkpoint."""
    if folder.exists():
        trash = folder.with_name(f".tmp-trash-{folder.name.lstrip('.')}")
        shutil.rmtree(trash, ignore_errors=True)
        folder.replace(trash)
        shutil.rmtree(trash, ignore_errors=True)


def _all(root: Path) -> list[Checkpoint]:
    """The checkpoints of a run, oldest first, whole or not; other folders are none of ours."""
    numbers = ((folder, folder.name.removeprefix(_PREFIX)) for folder in root.glob(f"{_PREFIX}*"))
    found = [Checkpoint(folder, int(number)) for folder, number in numbers if number.isdecimal()]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _prune(root: Path, newest_step: int, keep: int) -> None:
    """Remove all but the newest ones. What claims to be newer than the one just written is a damaged leftover."""
    found = _all(root)
    good = [checkpoint for checkpoint in found if checkpoint.step <= newest_step]
    for old in [*good[:-keep], *found[len(good) :]]:
        try:
            discard(old.folder)
        except OSError as error:
            logger.warning("the old checkpoint %s cannot be removed (%s); remove it yourself", old.folder, error)


def _seal(temporary: Checkpoint, final: Checkpoint, world: int) -> None:
    """Make what was written durable, and only then give the folder its name."""
    make_durable(temporary.folder, {"step": final.step, "processes": world})
    discard(final.folder)
    temporary.folder.replace(final.folder)
    sync_folder(final.folder.parent)


def make_durable(folder: Path, about: Mapping[str, object]) -> None:
    """Sync and hash every file of a folder and write its manifest, with what is said about it, last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [str(path.relative_to(folder)) for path in files]
    with ThreadPoolExecutor(max_workers=HASHING) as pool:
        entries = dict(zip(names, pool.map(_sealed, files), strict=True))
    manifest = folder / MANIFEST
    manifest.write_bytes(encoded_line({**about, "environment": environment(), "files": entries}))
    _sealed(manifest)
    for each in {path.parent for path in files} | {folder}:
        sync_folder(each)


def _sealed(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"sha256": _digest(path), "bytes": path.stat().st_size}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
