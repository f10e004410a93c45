"""DeepSpeed's ZeRO: stage 2 shares out gradients and optimizer state, stage 3 the weights too; both can offload.

The recipe decides what is learned and how; the JSON file decides what lies where: `read_config` and `resolved` make it
definite, each `auto` with the value of the recipe, and refuse what contradicts it. Weights compute in bfloat16 or
float16 if `run.precision` says so, next to float32 master weights, and are exported as they compute.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Iterator, Mapping
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
    backend,
    gathered,
    in_mode_for_answers,
    joined,
    loaded_state,
    set_learning_rates,
    state_file,
    write_state,
)
from robointervlm.train.optimizer import optimizers
from robointervlm.train.recipe import TrainRecipe

AUTO = "auto"
# What the recipe decides alone.
_OURS = {"optimizer": "optim.*", "scheduler": "optim.schedule and optim.warmup_ratio"}


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
        scaler = self._engine.optimizer.loss_scaler
        state = {
            "parts": [{"master": part.detach(), **self._adamw.state.get(part, {})} for part in self._parts()],
            # What the loss scaler has counted.
            "scaler": {key: value for key, value in vars(scaler).items() if isinstance(value, int | float)},
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
            # The weights that compute, from their masters.
            optimizer = self._engine.optimizer
            if self._stage < 3:
                optimizer.update_lp_params()
                return
            optimizer.checkpoint_event_prologue()
            for weights, master in zip(optimizer.fp16_partitioned_groups_flat, self._parts(), strict=True):
                weights.data.copy_(master.data)
            optimizer.checkpoint_event_epilogue()

    def _parts(self) -> list[Tensor]:
        """The float32 master weights of this process, flat, one tensor per group of parameters or piece of one."""
        optimizer = self._engine.optimizer
        parts: list[Tensor] = (
            optimizer.fp32_partitioned_groups_flat if self._stage == 3 else optimizer.single_partition_of_fp32_groups
        )
        return parts


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


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a DeepSpeed file. Raises `RecipeError` where there are none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"run.deepspeed: {path} does not exist; qwen-vl-finetune/scripts has zero2, zero3 and zero3_offload.json."
        ) from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"run.deepspeed: {path} is not a JSON file: {error}.") from None
    if not isinstance(config, dict) or not isinstance(zero := config.get("zero_optimization"), dict):
        raise RecipeError(f"run.deepspeed: {path} has no section zero_optimization; for stage 0 use run.strategy=ddp.")
    if zero.get("stage") not in (1, 2, 3):
        raise RecipeError(f"run.deepspeed: {path} has zero_optimization.stage {zero.get('stage')}; use 1, 2 or 3.")
    for name, ours in _OURS.items():
        if name in config:
            raise RecipeError(f"run.deepspeed: {path} has a section '{name}', which {ours} decides here; take it out.")
    return config


def resolved(
    config: Mapping[str, Any], recipe: TrainRecipe, *, precision: str, processes: int, width: int
) -> dict[str, Any]:
    """The settings with each `auto` replaced; `width` is the size of the language model's hidden states.

    Raises `RecipeError` for a value that contradicts the recipe, and for an `auto` that means nothing here.
    """
    made: dict[str, Any] = copy.deepcopy({**config})
    micro = recipe.batch.per_device if recipe.batch.pack == "none" else 1
    decided = {
        "train_micro_batch_size_per_gpu": (micro, "batch.per_device (1 where batch.pack fills rows)"),
        "gradient_accumulation_steps": (recipe.batch.accumulate, "batch.accumulate"),
        "train_batch_size": (micro * recipe.batch.accumulate * processes, "per_device x accumulate x processes"),
        "gradient_clipping": (recipe.optim.clip, "optim.clip"),
        "bf16.enabled": (precision == "bf16", "run.precision"),
        "fp16.enabled": (precision == "fp16", "run.precision"),
    }
    for key, (value, source) in decided.items():
        _decide(made, key, value, source)
    zero = made["zero_optimization"]
    # The sizes that the Hugging Face integration takes: about one layer's matrix at a time.
    sizes = {
        "reduce_bucket_size": width * width,
        "stage3_prefetch_bucket_size": int(0.9 * width * width),
        "stage3_param_persistence_threshold": 10 * width,
    }
    zero.update({key: size for key, size in sizes.items() if zero.get(key) == AUTO})
    if left := list(_autos(made)):
        raise RecipeError(f"run.deepspeed: 'auto' of {', '.join(left)} cannot be resolved; give the value.")
    # The optimizer is torch's AdamW, offloaded or not: one arithmetic for all strategies.
    return {"zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True, **made}


def _decide(config: dict[str, Any], key: str, value: object, source: str) -> None:
    *sections, name = key.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    given = config.get(name, AUTO)
    if given not in (AUTO, value):
        raise RecipeError(
            f"run.deepspeed: {key} is {json.dumps(given)} in the file, but {source} makes it {json.dumps(value)}; "
            'write "auto" there.'
        )
    config[name] = value


def _autos(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _autos(value, f"{prefix}{key}.")
        elif value == AUTO:
            yield f"{prefix}{key}"
