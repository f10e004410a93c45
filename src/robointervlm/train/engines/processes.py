"""The group of processes that sharding needs, also where there is only one process."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from accelerate import Accelerator


def backend(accelerator: Accelerator) -> str:
    return "gloo" if accelerator.device.type == "cpu" else "nccl"


def joined(accelerator: Accelerator) -> None:
    """Make a group of one where accelerate, rightly, made none: a run on one process is the same code."""
    if not dist.is_initialized():
        distributed: Any = dist  # HashStore is documented, but not in its __all__
        distributed.init_process_group(backend(accelerator), store=distributed.HashStore(), rank=0, world_size=1)
