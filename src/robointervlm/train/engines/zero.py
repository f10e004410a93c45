"""DeepSpeed's ZeRO: stage 2 shares out gradients and optimizer state, stage 3 the weights too; both can offload.

The recipe decides what is learned and how; the JSON file decides what lies where (see `zero_config`). Weights compute
in bfloat16 or float16 if `run.precision` says so, next to float32 master weights, and are exported as they compute.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl.encoder import Batch
from robointervlm.models.qwen2_5_vl.network import SupervisedLoss
from robointervlm.models.qwen2_5_vl.state_dict import whole_network
from robointervlm.train.engines.engine import (
    gathered,
    in_mode_for_answers,
    loaded_state,
    set_learning_rates,
    state_file,
    write_state,
)
from robointervlm.train.engines.processes import backend, joined
from robointervlm.train.engines.zero_config import read_config, resolved
from robointervlm.train.optimizer import optimizers
from robointervlm.train.recipe import TrainRecipe


class ZeroEngine:
    """A DeepSpeed engine around the network, with our AdamW and our schedule."""

    def __init__(
        self, network: Qwen2_5_VLForConditionalGeneration, recipe: TrainRecipe, accelerator: Accelerator
    ) -> None:
        if recipe.run.deepspeed is None:
            raise RecipeError("run.strategy=deepspeed needs its settings: run.deepspeed=FILE.")
        config = resolved(
            read_config(recipe.run.deepspeed),
            recipe,
            precision=accelerator.mixed_precision,
            processes=accelerator.num_processes,
            width=network.config.get_text_config().hidden_size,
        )
        deepspeed = _deepspeed(accelerator)
        self._network = network
        self._accelerator = accelerator
        self._stage = int(config["zero_optimization"]["stage"])
        self._holds_all = self._stage < 3
        # Before the weights are shared out: afterwards a matrix has one dimension, and decay goes by that.
        [self._adamw] = optimizers(network, recipe.optim)
        self._engine: Any = deepspeed.initialize(
            model=SupervisedLoss(network, holds_all=self._holds_all),
            optimizer=self._adamw,
            config=config,
            dist_init_required=False,
        )[0]
        self._gathering = deepspeed.zero.GatheredParameters
        self._engine.train()

    @property
    def name(self) -> str:
        return f"zero{self._stage}"

    @property
    def finds_scale(self) -> bool:
        return bool(self._engine.fp16_enabled())

    def accumulate(self, batch: Batch, share: float, *, last: bool) -> Tensor:
        self._engine.set_gradient_accumulation_boundary(last)
        loss: Tensor = self._engine(batch)
        # DeepSpeed averages gradients over the processes; the sum is wanted.
        self._engine.backward(loss * (share * self._accelerator.num_processes), scale_wrt_gas=False)
        return loss.detach()

    def step(self, lr_scale: float) -> float:
        set_learning_rates([self._adamw], lr_scale)
        self._engine.step()
        # DeepSpeed leaves a step out whose gradient is not finite, in every precision.
        return float("inf") if self._engine.optimizer.overflow else float(self._engine.get_global_grad_norm())

    @contextmanager
    def answering(self) -> Iterator[Qwen2_5_VLForConditionalGeneration]:
        if self._holds_all:
            with in_mode_for_answers(self._engine):
                yield self._network
            return
        device = self._accelerator.device
        yield whole_network(self._network, gathered(self._network, partial(self._whole, on=device), keep=True), device)

    def weights(self) -> dict[str, Tensor]:
        whole = partial(self._whole, on=torch.device("cpu"))
        return gathered(self._network, whole, keep=self._accelerator.is_main_process)

    def _whole(self, parameter: nn.Parameter, *, on: torch.device) -> Tensor:
        with self._gathering([parameter], enabled=not self._holds_all):
            return parameter.detach().to(on, copy=True)

    def save(self, folder: Path) -> None:
        """Plain tensors, so that reading them executes nothing; DeepSpeed's own files are pickles."""
        state = {
            "parts": [{"master": part.detach(), **self._adamw.state.get(part, {})} for part in self._parts()],
            "scaler": _plain(self._engine.optimizer.loss_scaler),
        }
        write_state(state_file(folder, self._accelerator.process_index), state)

    def load(self, folder: Path) -> None:
        state: dict[str, Any] = loaded_state(folder, self._accelerator.process_index)
        with torch.no_grad():
            for part, saved in zip(self._parts(), state["parts"], strict=True):
                part.data.copy_(saved.pop("master"))
                slots = {key: value.to(part.device) if value.ndim else value for key, value in saved.items()}
                if slots:
                    self._adamw.state[part] = slots
            vars(self._engine.optimizer.loss_scaler).update(state["scaler"])
            self._weights_from_masters()

    def _parts(self) -> list[Tensor]:
        """The float32 master weights of this process, flat, one tensor per group of parameters or piece of one."""
        optimizer = self._engine.optimizer
        parts: list[Tensor] = (
            optimizer.fp32_partitioned_groups_flat if self._stage == 3 else optimizer.single_partition_of_fp32_groups
        )
        return parts

    def _weights_from_masters(self) -> None:
        optimizer = self._engine.optimizer
        if self._stage < 3:
            optimizer.update_lp_params()
            return
        optimizer.checkpoint_event_prologue()
        for weights, master in zip(optimizer.fp16_partitioned_groups_flat, self._parts(), strict=True):
            weights.data.copy_(master.data)
        optimizer.checkpoint_event_epilogue()


def _plain(scaler: object) -> dict[str, float]:
    """What a loss scaler has counted."""
    return {key: value for key, value in vars(scaler).items() if isinstance(value, int | float)}


def _deepspeed(accelerator: Accelerator) -> Any:
    """The library, joined to the processes that accelerate has started."""
    if accelerator.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when it is imported
    try:
        import deepspeed  # noqa: PLC0415 - an extra, which takes seconds to import
    except ImportError as error:
        raise RecipeError(
            f"run.strategy=deepspeed needs DeepSpeed ({error}): pip install 'robointervlm[scale]'."
        ) from None
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    joined(accelerator)
    os.environ.setdefault("LOCAL_RANK", str(accelerator.local_process_index))  # it asks, also where no launcher was
    deepspeed.init_distributed(dist_backend=backend(accelerator), auto_mpi_discovery=False, verbose=False)
    return deepspeed
