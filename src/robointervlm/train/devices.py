"""What this machine has to compute on."""

from __future__ import annotations

import torch


def gpus_present() -> int:
    """How many GPUs torch can use."""
    return torch.cuda.device_count()
