"""FSDP2, torch's own `fully_shard`: weights, gradients and optimizer state are shared out over the processes.

A layer's weights are gathered when it computes and let go again. Works on CPU processes over gloo as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.models.qwen2_5_vl.encoder import Batch
from robointervlm.models.qwen2_5_vl.network import SupervisedLoss
from robointervlm.models.qwen2_5_vl.state_dict import whole_network
from robointervlm.train.engines.engine import (
    gathered,
    joined,
    loaded_state,
    set_learning_rates,
    state_file,
    write_state,
)
from robointervlm.train.optimizer import optimizers
from robointervlm.train.recipe import TrainRecipe


class FsdpEngine:
    """Shards by layer of the vision tower and of the language model; the rest (embeddings, head) is one shard more."""

    name = "fsdp"
    finds_scale = False

    def __init__(
        self, network: Qwen2_5_VLForConditionalGeneration, recipe: TrainRecipe, accelerator: Accelerator
    ) -> None:
        self._network: Any = network
        self._accelerator = accelerator
        self._clip = recipe.optim.clip
        joined(accelerator)
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        self._module: Any = SupervisedLoss(self._network, holds_all=False)
        self._policy = policy = _policy(accelerator.mixed_precision)
        for layer in [*self._network.model.visual.blocks, *self._network.model.language_model.layers]:
            fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(self._module, mesh=mesh, mp_policy=policy)
        # After sharding: it replaces the parameters, which keep their names and, to the eye, their shapes.
        self._optimizers = optimizers(network, recipe.optim)
        self._module.train()

    def accumulate(self, batch: Batch, share: float, *, last: bool) -> Tensor:
        self._module.set_requires_gradient_sync(last)
        loss: Tensor = self._module(batch)
        # The wrapper averages gradients over the processes; the sum is wanted.
        (loss * (share * self._accelerator.num_processes)).backward()
        return loss.detach()

    def step(self, lr_scale: float) -> float:
        total = nn.utils.clip_grad_norm_(self._module.parameters(), self._clip)
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
        if math.isfinite(norm):
            set_learning_rates(self._optimizers, lr_scale)
            for optimizer in self._optimizers:
                optimizer.step()
                optimizer.zero_grad()
        return norm

    @contextmanager
    def answering(self) -> Iterator[Qwen2_5_VLForConditionalGeneration]:
        device, dtype = self._accelerator.device, self._policy.param_dtype
        weights = gathered(self._network, lambda each: _whole(each).to(device, dtype), keep=True)
        yield whole_network(self._network, weights, device)

    def weights(self) -> dict[str, Tensor]:
        return gathered(self._network, lambda each: _whole(each).cpu(), keep=self._accelerator.is_main_process)

    def save(self, folder: Path) -> None:
        state = {
            "weights": {name: _own(tensor) for name, tensor in self._learning()},
            "optimizers": [
                {index: {key: _own(value) for key, value in slots.items()} for index, slots in state["state"].items()}
                for state in (optimizer.state_dict() for optimizer in self._optimizers)
            ],
        }
        write_state(state_file(folder, self._accelerator.process_index), state)

    def load(self, folder: Path) -> None:
        state: dict[str, Any] = loaded_state(folder, self._accelerator.process_index)
        with torch.no_grad():
            for name, tensor in self._learning():
                _own(tensor).copy_(state["weights"][name])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            slots = {
                index: {key: _placed(value, parameters[index]) for key, value in values.items()}
                for index, values in saved.items()
            }
            optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})

    def _learning(self) -> list[tuple[str, nn.Parameter]]:
        """The others are as they were loaded, and are not written again and again."""
        return [(name, each) for name, each in self._network.named_parameters() if each.requires_grad]


def _policy(precision: str) -> MixedPrecisionPolicy:
    if precision == "no":
        return MixedPrecisionPolicy()
    # Inputs are left as they are: rotary angles must not be rounded.
    return MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)


def _whole(parameter: nn.Parameter) -> Tensor:
    tensor = parameter.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _own(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _placed(value: Tensor, parameter: DTensor) -> Tensor:
    """A saved part as the distributed tensor that belongs to the parameter; a step count stays a number."""
    if not value.ndim:
        return value
    return DTensor.from_local(
        value.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
