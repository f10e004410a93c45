"""The processes of one run, as far as they have to agree: what one of them cannot do, none of them goes on without."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.distributed import DistError

from robointervlm.core.errors import LostProcessError, RoboInterError

T = TypeVar("T")


class Ranks(Protocol):
    """One process among `world` of them."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, by rank; waits until all have given theirs."""
        ...

    def wait(self) -> None:
        """Wait until all processes are here."""
        ...


@dataclass(frozen=True)
class Alone:
    """The only process of a run."""

    rank: int = 0
    world: int = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def wait(self) -> None:
        return


ALONE = Alone()


@dataclass(frozen=True)
class Together:
    """The processes that an accelerator has joined."""

    accelerator: Accelerator

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        return int(self.accelerator.num_processes)

    def gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = gather_object([value])
        return gathered

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def together(ranks: Ranks, part: Callable[[], T]) -> T:
    """Do each rank's part and wait for the others; what fails on one rank fails on all, and none waits for ever.

    A part that itself waits for other ranks must do so before anything that can fail on one of them alone.
    """
    try:
        done = part()
    except Exception as error:
        kind = type(error) if isinstance(error, RoboInterError) else LostProcessError
        ranks.gather((kind, f"process {ranks.rank}: {error or type(error).__name__}"))
        raise
    for failure in ranks.gather(None):
        if failure is not None:
            kind, said = failure
            raise kind(said)
    return done


def by_first(ranks: Ranks, part: Callable[[], T]) -> T:
    """What the first rank alone does or finds out, known to all; they wait for it, and fail if it fails."""
    found: T = ranks.gather(together(ranks, lambda: part() if ranks.rank == 0 else None))[0]
    return found


@contextlib.contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Within the block, an error that another process caused by ending is `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        # DistError is NCCL's and the store's; gloo gives plain ones that name its own source files.
        if not isinstance(error, DistError) and "gloo/" not in str(error):
            raise
        rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        said = " ".join(str(error).split())[:160]
        raise LostProcessError(
            f"rank {rank}/{world}: lost connection to another rank ({said}). "
            "Fix the cause, then rerun the same command to resume from the newest checkpoint."
        ) from error
