"""The states of the random generators that a process has, written into a checkpoint and put back.

The order of the samples and their variations draw from generators of their own, made anew for each; these here are for
what libraries draw from, such as dropout in the network.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from robointervlm.train.engines.engine import write_state


def save_generators(path: Path) -> None:
    """Write the states of this process's generators: Python's, numpy's, torch's on the CPU and on its GPU."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
    write_state(path, state)


def restore_generators(path: Path) -> None:
    """Put the states back. A GPU's is left out where there is none now, or was none."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
