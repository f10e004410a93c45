"""The folder of one run, the lock that keeps it to one writer, and what it runs on."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

import robointervlm
from robointervlm.core.errors import RecipeError
from robointervlm.runs.files import write_atomically, writing_to
from robointervlm.runs.log import logging_to
from robointervlm.runs.settings import write_recipe

_PACKAGES = (
    "accelerate", "deepspeed", "mujoco", "mujoco-core", "numpy", "pillow", "safetensors", "torch", "transformers",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run that is open for writing. `recipe.yaml` repeats it, `environment.json` says what it ran on."""

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path, recipe: BaseModel | None = None) -> Iterator[Run]:
        """The run's folder, made, locked and logged to until the block ends.

        Without a recipe, what an earlier run left there is untouched until `record` is called. Raises `RecipeError` if
        another process is writing there.
        """
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder), logging_to(folder / "log.txt"):
            run = cls(folder)
            if recipe is not None:
                run.record(recipe)
            yield run

    def record(self, recipe: BaseModel) -> None:
        """Writes what repeats the run and what it runs on, once it is known that the folder is its own."""
        write_recipe(recipe, self.folder / "recipe.yaml")
        write_atomically(self.folder / "environment.json", json.dumps(environment(), indent=2) + "\n")


_locks: set[int] = set()


def _leave_locks_to_parent() -> None:
    """A process forked off, such as one that loads data, must not hold a lock longer than the run itself lives."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_leave_locks_to_parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; it goes with the process, however that ends."""
    path = folder / ".lock"
    with writing_to(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise RecipeError(
                f"{folder} is locked by pid {holder}: another process is writing this run. "
                "Wait for it, stop it, or choose another run.dir."
            ) from None
        with writing_to(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        _locks.add(descriptor)
        yield
    finally:
        _locks.discard(descriptor)
        os.close(descriptor)


def environment() -> dict[str, object]:
    """The versions a result depends on. Names no host, user or path."""
    packages: dict[str, str] = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            if version := importlib.metadata.version(name):
                packages[name] = version
    return {
        "robointervlm": robointervlm.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "packages": packages,
    }


def is_installed(name: str) -> bool:
    """Whether a package can be imported; a folder that only has its name, as wandb makes one, is none."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None


def _commit() -> str | None:
    """The git commit of the checkout this package lies in, `-dirty` if files differ; None outside a checkout."""
    here = Path(robointervlm.__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
