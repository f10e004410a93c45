"""What the training loop asks of a strategy: the same step, however weights and optimizer lie on the processes.

All strategies minimise the same sum and divide it by the same number, clip by the same norm, and take the same step;
they differ in what each process holds. One class each is in `robointervlm.train.engines`.

The order of the samples and their variations draw from generators of their own, made anew for each; the generators that
are saved here are those that libraries draw from, such as dropout in the network.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.models.qwen2_5_vl.encoder import Batch


class Engine(Protocol):
    """A network that learns on all processes together. Every method is called by all of them, in the same order."""

    @property
    def name(self) -> str:
        """What lies where; a checkpoint is for an engine of the same name and as many processes."""
        ...

    @property
    def finds_scale(self) -> bool:
        """Whether it leaves out a step whose gradient is not finite by itself and tries again at a lower scale."""
        ...

    def accumulate(self, batch: Batch, share: float, *, last: bool) -> Tensor:
        """Add the gradient of `share` times the summed loss over this batch to that of the step; returns the sum.

        Over the processes gradients are summed. `last`: the step's last batch on this process.
        """
        ...

    def step(self, lr_scale: float) -> float:
        """Clip the gradient, apply it at this share of the peak learning rates, forget it; its norm before clipping.

        A norm that is not finite means that nothing was applied.
        """
        ...

    def answering(self) -> AbstractContextManager[Qwen2_5_VLForConditionalGeneration]:
        """The network with all its weights, for answers: each process can ask it what it likes, without the others.

        They meet where it begins, and nothing of what learns has changed when it ends.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """The whole model by parameter name, on the CPU of the first process; empty on the others."""
        ...

    def save(self, folder: Path) -> None:
        """Write what this process needs to go on, weights included; exchanges nothing with other processes."""
        ...

    def load(self, folder: Path) -> None:
        """Take back what `save` wrote on this process."""
        ...


def state_file(folder: Path, rank: int) -> Path:
    """Where a process keeps its part of an engine's state."""
    return folder / f"engine-{rank:05d}.pt"


def write_state(path: Path, state: Mapping[str, object]) -> None:
    """Write tensors, numbers and their containers. Through a file of ours: torch's own says of a full disk nothing."""
    with path.open("wb") as file:
        torch.save(state, file)


def loaded_state(folder: Path, rank: int) -> dict[str, object]:
    """What a process wrote with `torch.save`: tensors, numbers and their containers, nothing else."""
    state: dict[str, object] = torch.load(state_file(folder, rank), map_location="cpu", weights_only=True)
    return state


def set_learning_rates(optimizers: Iterable[torch.optim.Optimizer], lr_scale: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_scale


@contextmanager
def in_mode_for_answers(module: nn.Module) -> Iterator[None]:
    """The module as it is for answers, and afterwards every part of it in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def gathered(network: nn.Module, whole: Callable[[nn.Parameter], Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Every parameter made whole, one after the other, by name; only where they are kept do they stay in memory.

    Tied parameters stay tied: they are one tensor under two names.
    """
    found: dict[str, Tensor] = {}
    made: dict[nn.Parameter, Tensor] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if parameter not in made:
            tensor = whole(parameter)
            made[parameter] = tensor if keep else tensor.new_empty(0)
        if keep:
            found[name] = made[parameter]
    return found


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


def backend(accelerator: Accelerator) -> str:
    """The library by which processes exchange tensors here."""
    return "gloo" if accelerator.device.type == "cpu" else "nccl"


def joined(accelerator: Accelerator) -> None:
    """Make a group of one where accelerate, rightly, made none: a run on one process is the same code."""
    if not dist.is_initialized():
        distributed: Any = dist  # HashStore is documented, but not in its __all__
        distributed.init_process_group(backend(accelerator), store=distributed.HashStore(), rank=0, world_size=1)
