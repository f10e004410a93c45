"""What it looks like to a process when another one of its run is gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from torch.distributed import DistError

from robointervlm.core.errors import LostProcessError


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
