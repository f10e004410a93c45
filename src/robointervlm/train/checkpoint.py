"""Checkpoints that are whole or not there.

A checkpoint is written to a temporary folder, every file synced, then a manifest with the SHA-256 of each, then the
folder is renamed. Resuming takes the newest whose manifest verifies and names those that do not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robointervlm.core.errors import DataError
from robointervlm.runs.files import sync_folder, writing_to

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model that loads by itself (`model/`) and the state of the training (`state.pt`)."""

    folder: Path
    step: int

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def state(self) -> Path:
        return self.folder / "state.pt"


def at(root: Path, step: int) -> Checkpoint:
    """The checkpoint of this step, whether it is there or not."""
    return Checkpoint(root / f"{_PREFIX}{step:08d}", step)


def save(root: Path, step: int, write: Callable[[Checkpoint], None], *, keep: int) -> Checkpoint:
    """Have `write` fill a checkpoint of this step under `root`, make it durable, then prune the oldest ones."""
    final = at(root, step)
    temporary = Checkpoint(root / f".tmp-{final.folder.name}", step)
    with writing_to(final.folder):
        discard(temporary.folder)
        temporary.folder.mkdir(parents=True)
        write(temporary)
        files = sorted(path for path in temporary.folder.rglob("*") if path.is_file())
        entries = {str(path.relative_to(temporary.folder)): _sealed(path) for path in files}
        manifest = temporary.folder / MANIFEST
        manifest.write_text(json.dumps({"step": step, "files": entries}, indent=1) + "\n")
        _sealed(manifest)
        for folder in {path.parent for path in files} | {temporary.folder}:
            sync_folder(folder)
        discard(final.folder)
        temporary.folder.replace(final.folder)
        sync_folder(root)
    _prune(root, step, keep)
    return final


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


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, None if each is as the manifest says."""
    try:
        entries = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
        for name, entry in entries.items():
            if _digest(folder / name) != entry["sha256"]:
                return f"{name} differs from the manifest"
    except (OSError, ValueError, KeyError, TypeError) as error:
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


def _sealed(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"sha256": _digest(path), "bytes": path.stat().st_size}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
