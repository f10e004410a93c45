"""A DeepSpeed JSON file made definite: every `auto` is the recipe's value, and nothing contradicts the recipe."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robointervlm.core.errors import RecipeError
from robointervlm.train.recipe import TrainRecipe

AUTO = "auto"
# What the recipe decides alone.
_OURS = {"optimizer": "optim.*", "scheduler": "optim.schedule and optim.warmup_ratio"}


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
