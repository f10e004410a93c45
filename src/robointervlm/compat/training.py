"""The flags of the documented training script, as settings of a recipe.

A flag that is not known is an error that names the nearest; one that is known but has nothing to set here says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robointervlm.compat.hugging_face import FIXED, WITHOUT_EFFECT, refuse_other_values
from robointervlm.compat.scripts import nearest
from robointervlm.core.errors import RecipeError
from robointervlm.runs.log import is_main_process
from robointervlm.runs.run import is_installed
from robointervlm.train.setting_names import STARTED_BY, TRAIN_QWEN


class _Flag(NamedTuple):
    """Which setting of the training recipe a flag is, and how its text is turned into the value."""

    key: str
    convert: Callable[[str], object] = str


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RecipeError(f"'{text}' is not a number.") from None


def _yes(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise RecipeError(f"'{text}' is neither True nor False.")
    return known[text.lower()]


def _whole(text: str) -> int:
    number = _number(text)
    if not number.is_integer():
        raise RecipeError(f"'{text}' is not a whole number.")
    return int(number)


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise RecipeError(f"{text} does not exist; a path starts in the folder where the script is run.")
    return text


def _minutes(text: str) -> float:
    return _number(text) / 60


def _optimizer(text: str) -> str:
    # All these are the same mathematics; those in 8 bits are not.
    return "adamw" if text in ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused") else text


def told(report_to: str) -> list[str]:
    """The trackers that `--report_to` means. `auto`: Weights & Biases where it is configured and installed.

    Where it is configured and not used, a line says why.
    """
    configured = [name for name in ("WANDB_PROJECT", "WANDB_ENTITY") if os.environ.get(name)]
    names = " and ".join(configured)
    if report_to in ("", "none"):
        if configured:
            _notice(f"{names} is set, but nothing is logged to Weights & Biases: --report_to none (REPORT_TO=none).")
        return []
    if report_to != "auto":
        return _names(report_to)
    if configured and not is_installed("wandb"):
        _notice(
            f"{names} is set, but nothing is logged to Weights & Biases: wandb is not installed. pip install wandb, or "
            "say REPORT_TO=none (--report_to none)."
        )
    return ["wandb"] if configured and is_installed("wandb") else []


_TRAIN_FLAGS = {
    "model_name_or_path": _Flag("model.path"),
    "dataset_use": _Flag("mixture", _names),
    "data_root": _Flag("data.root"),
    "catalog": _Flag("data.catalog", _names),
    "output_dir": _Flag("run.dir"),
    "max_pixels": _Flag("model.max_pixels", _whole),
    "min_pixels": _Flag("model.min_pixels", _whole),
    "model_max_length": _Flag("batch.max_tokens", _whole),
    "learning_rate": _Flag("optim.language_lr", _number),
    "mm_projector_lr": _Flag("optim.merger_lr", _number),
    "vision_tower_lr": _Flag("optim.vision_lr", _number),
    "moe_lr": _Flag("optim.experts_lr", _number),
    "weight_decay": _Flag("optim.weight_decay", _number),
    "warmup_ratio": _Flag("optim.warmup_ratio", _number),
    "lr_scheduler_type": _Flag("optim.schedule"),
    "max_grad_norm": _Flag("optim.clip", _number),
    "optim": _Flag("optim.name", _optimizer),
    "per_device_train_batch_size": _Flag("batch.per_device", _whole),
    "pack": _Flag("batch.pack"),
    "too_long": _Flag("batch.too_long"),
    "gradient_accumulation_steps": _Flag("batch.accumulate", _whole),
    "num_train_epochs": _Flag("run.epochs", _number),
    "save_steps": _Flag("run.save_every", _whole),
    "save_total_limit": _Flag("run.keep", _whole),
    "logging_steps": _Flag("run.log_every", _whole),
    "seed": _Flag("run.seed", _whole),
    "ddp_timeout": _Flag("run.timeout_minutes", _minutes),
    "gradient_checkpointing": _Flag("run.gradient_checkpointing", _yes),
    "dataloader_num_workers": _Flag("data.workers", _whole),
    "deepspeed": _Flag("run.deepspeed", _file),
    "run_name": _Flag("watch.name"),
}
# Translated together, or by hand.
_TRAIN_SPECIAL = (
    *("tune_mm_llm", "tune_mm_mlp", "tune_mm_vision", "tune_moe"),
    *("bf16", "fp16", "use_cpu", "no_cuda", "max_steps", "data_flatten", "data_packing"),
    *("lora_enable", "lora_r", "lora_alpha", "lora_dropout"),
    *("report_to", "change_lr"),
)
# Known to the documented script, and without anything to set here: why.
_TRAIN_WITHOUT_EFFECT = {
    **WITHOUT_EFFECT,
    **dict.fromkeys(
        ("video_max_frames", "video_min_frames", "base_interval", "video_max_frame_pixels", "video_min_frame_pixels"),
        "videos are not trained on",
    ),
    **dict.fromkeys(
        ("eval_strategy", "evaluation_strategy", "per_device_eval_batch_size"), "robointer predict evaluates"
    ),
    "cache_dir": "set HF_HUB_CACHE",
    "save_strategy": "checkpoints are saved every save_steps",
    "local_rank": "torchrun tells the rank by the environment",
    "do_train": "this script does nothing else",
}
_PARTS = {"tune_mm_llm": "language", "tune_mm_mlp": "merger", "tune_mm_vision": "vision", "tune_moe": "experts"}


def train(arguments: Sequence[str]) -> int:
    """Trains as `qwenvl/train/train_qwen.py` is documented to; the exit code."""
    from robointervlm.cli.main import run

    given = _pairs(arguments)
    if "help" in given:
        lines = ["Flags of the documented training script, and the recipe settings they are:"]
        lines += [f"  --{name:32} {flag.key}" for name, flag in _TRAIN_FLAGS.items()]
        lines += [f"  --{name:32} True or False: whether the {part} learns" for name, part in _PARTS.items()]
        lines += [f"  --{name}" for name in _TRAIN_SPECIAL if name not in _PARTS]
        lines += [f"  --{'gpus':32} processes to start, one per GPU; on the CPU where there is none"]
        sys.stdout.write("\n".join(lines) + "\n")
        return 0
    processes = started_processes(given)
    # The training, in this process or in those it starts, names settings as this script does, or `sft.sh`.
    before = os.environ.get(STARTED_BY)
    os.environ.setdefault(STARTED_BY, TRAIN_QWEN)
    try:
        return run(["train", *train_overrides(given), *processes])
    finally:
        if before is None:
            os.environ.pop(STARTED_BY, None)


def started_processes(given: dict[str, str]) -> list[str]:
    """How `--gpus N` is said to `robointer train`; where there is no GPU, N processes of the CPU, and a notice.

    Takes `gpus` out of the flags, and what is for GPUs alone.
    """
    asked = "gpus" in given
    wanted = _whole(given.pop("gpus", "1"))
    if asked and wanted and not _cpu_wanted(given):
        from robointervlm.train.devices import gpus_present

        if gpus_present():
            return ["--gpus", str(wanted)]
        given |= {"use_cpu": "True", "dataloader_num_workers": "0", "gradient_checkpointing": "False"}
        _notice(f"No GPU is found here: training on the CPU in {wanted} process(es), over gloo. This is for trials.")
    if asked and not wanted:
        given["use_cpu"] = "True"
    if _cpu_wanted(given) and "deepspeed" in given and importlib.util.find_spec("deepspeed") is None:
        _notice(
            f"DeepSpeed is not installed: {given.pop('deepspeed')} is left out, every process holds the whole model."
        )
    return ["--processes", str(wanted)] if wanted > 1 else []


def _notice(text: str) -> None:
    if is_main_process():  # under torchrun every process translates the flags
        sys.stderr.write(text + "\n")


def train_overrides(given: Mapping[str, str]) -> list[str]:
    """The recipe overrides that these flags of the documented training script mean."""
    known = [*_TRAIN_FLAGS, *_TRAIN_SPECIAL, *_TRAIN_WITHOUT_EFFECT, *FIXED]
    values: dict[str, object] = {}
    for name, text in given.items():
        if name in _TRAIN_WITHOUT_EFFECT:
            _notice(f"--{name} has no effect here: {_TRAIN_WITHOUT_EFFECT[name]}.")
        elif name in FIXED:
            refuse_other_values(name, text)
        elif name in _TRAIN_FLAGS:
            values[_TRAIN_FLAGS[name].key] = _converted(name, text)
        elif name not in _TRAIN_SPECIAL:
            raise RecipeError(f"--{name} is not known; {nearest(name, known)}")
    values |= _special(given)
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _converted(name: str, text: str) -> object:
    try:
        return _TRAIN_FLAGS[name].convert(text)
    except RecipeError as error:
        raise RecipeError(f"--{name}: {error}") from None


def _special(given: Mapping[str, str]) -> dict[str, object]:
    values = _learning(given) | _packing(given)
    for name in ("bf16", "fp16"):
        if _yes(given.get(name, "False")) and not _cpu_wanted(given):
            values["run.precision"] = name
    if _cpu_wanted(given):
        values["model.device"] = "cpu"
    if trackers := told(given.get("report_to", "auto")):
        values["watch.to"] = trackers
    if "wandb" in trackers and (project := os.environ.get("WANDB_PROJECT")):
        values["watch.project"] = project  # wandb itself reads the other WANDB_ variables
    if _yes(given.get("change_lr", "False")):
        from robointervlm.train.recipe import RATES

        values["run.change"] = list(RATES)
    steps = _whole(given.get("max_steps", "-1"))
    if steps > 0:  # Hugging Face's -1 leaves the number to the epochs
        values["run.max_steps"] = steps
    return values


def _learning(given: Mapping[str, str]) -> dict[str, object]:
    """Which parts learn, and how low-rank updates do: the defaults of those are QwenLM's script's."""
    asked = [name for name in _PARTS if name in given]
    tuned = [_PARTS[name] for name in asked if _yes(given[name])]
    values: dict[str, object] = {}
    if _yes(given.get("lora_enable", "False")):
        tuned = ["lora", *(part for part in tuned if part != "language")]
        values = {
            "model.lora.rank": _whole(given.get("lora_r", "64")),
            "model.lora.alpha": _whole(given.get("lora_alpha", "128")),
            "model.lora.dropout": _number(given.get("lora_dropout", "0")),
        }
        if "learning_rate" in given:  # it is that of the updates
            values["optim.lora_lr"] = _converted("learning_rate", given["learning_rate"])
    elif asked and not tuned:
        raise RecipeError(f"{', '.join(f'--{name} False' for name in asked)}: nothing would learn.")
    return values | ({"model.tune": tuned} if tuned else {})


def _packing(given: Mapping[str, str]) -> dict[str, object]:
    flattened = [name for name in ("data_flatten", "data_packing") if _yes(given.get(name, "False"))]
    if not flattened or "pack" in given:
        return {}
    _notice(
        f"--{flattened[0]} True is batch.pack=samples here: rows are filled up to --model_max_length, whatever "
        "--per_device_train_batch_size says."
    )
    return {"batch.pack": "samples"}


def _cpu_wanted(given: Mapping[str, str]) -> bool:
    return any(_yes(given.get(name, "False")) for name in ("use_cpu", "no_cuda"))


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value`, `--name=value` and a bare `--name`, which is True."""
    given: dict[str, str] = {}
    waiting = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            given[name] = value if equals else "True"
            waiting = "" if equals else name
        elif waiting:
            given[waiting], waiting = argument, ""
        else:
            raise RecipeError(f"'{argument}' follows no flag; flags look like --learning_rate 5e-6.")
    return given
