"""DistributedDataParallel: every process holds the whole model, its gradients and the optimizer's state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.models.qwen2_5_vl.encoder import Batch
from robointervlm.models.qwen2_5_vl.network import SupervisedLoss
from robointervlm.models.qwen2_5_vl.state_dict import learned_state, load_learned_state
from robointervlm.train.engines.engine import (
    in_mode_for_answers,
    loaded_state,
    set_learning_rates,
    state_file,
    write_state,
)
from robointervlm.train.optimizer import optimizers
from robointervlm.train.recipe import TrainRecipe


class DdpEngine:
    """accelerate's wrapping, with its autocast for `run.precision`; also what one process alone uses."""

    name = "ddp"

    def __init__(
        self, network: Qwen2_5_VLForConditionalGeneration, recipe: TrainRecipe, accelerator: Accelerator
    ) -> None:
        self._network = network
        self._accelerator = accelerator
        self._clip = recipe.optim.clip
        self._plain = optimizers(network, recipe.optim)
        self._module: nn.Module = accelerator.prepare(SupervisedLoss(network))
        self._optimizers = [accelerator.prepare(optimizer) for optimizer in self._plain]
        self._module.train()

    @property
    def finds_scale(self) -> bool:
        return self._accelerator.scaler is not None

    def accumulate(self, batch: Batch, share: float, *, last: bool) -> Tensor:
        alone: AbstractContextManager[None] = nullcontext() if last else self._accelerator.no_sync(self._module)
        with alone:
            loss: Tensor = self._module(batch)
            # The wrapper averages gradients over the processes; the sum is wanted.
            self._accelerator.backward(loss * (share * self._accelerator.num_processes))
        return loss.detach()

    def step(self, lr_scale: float) -> float:
        norm = float(self._accelerator.clip_grad_norm_(self._module.parameters(), self._clip))
        # Under fp16 the scaler sees a gradient that is not finite as well, leaves the step out and lowers the scale.
        if math.isfinite(norm) or self.finds_scale:
            set_learning_rates(self._plain, lr_scale)
            for optimizer in self._optimizers:
                optimizer.step()
                optimizer.zero_grad()
        return norm

    @contextmanager
    def answering(self) -> Iterator[Qwen2_5_VLForConditionalGeneration]:
        with in_mode_for_answers(self._module), self._accelerator.autocast():
            yield self._network

    def weights(self) -> dict[str, Tensor]:
        return self._network.state_dict() if self._accelerator.is_main_process else {}

    def save(self, folder: Path) -> None:
        """The first process writes for all: they hold the same."""
        if not self._accelerator.is_main_process:
            return
        scaler = self._accelerator.scaler
        state = {
            "network": learned_state(self._network),
            "optimizers": [optimizer.state_dict() for optimizer in self._plain],
            "scaler": {} if scaler is None else scaler.state_dict(),
        }
        write_state(state_file(folder, 0), state)

    def load(self, folder: Path) -> None:
        state: dict[str, Any] = loaded_state(folder, 0)
        load_learned_state(self._network, state["network"])
        for optimizer, saved in zip(self._plain, state["optimizers"], strict=True):
            # The groups are the recipe's: a learning rate that was changed on purpose must not come back.
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({**saved, "param_groups": groups})
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
