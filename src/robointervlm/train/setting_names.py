"""Settings as the user of this start has to write them: those of a recipe, of `sft.sh` or of `train_qwen.py`.

An error that says "lower the learning rate" has to be one that can be followed where the training was started.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

STARTED_BY = "ROBOINTER_STARTED_BY"
"""The environment variable in which a documented script tells its name."""

SFT, TRAIN_QWEN = "sft.sh", "train_qwen.py"


class _Names(NamedTuple):
    """What a key of the recipe is called in `sft.sh` and in `train_qwen.py`."""

    variable: str
    flag: str


NAMES: Mapping[str, _Names] = {
    "optim.language_lr": _Names("LEARNING_RATE", "learning_rate"),
    "optim.lora_lr": _Names("LEARNING_RATE", "learning_rate"),  # with --lora_enable it is that of the updates
    "optim.merger_lr": _Names("PROJECTOR_LR", "mm_projector_lr"),
    "optim.vision_lr": _Names("VISION_LR", "vision_tower_lr"),
    "optim.experts_lr": _Names("MOE_LR", "moe_lr"),
    "batch.max_tokens": _Names("MAX_LENGTH", "model_max_length"),
    "batch.too_long": _Names("TOO_LONG", "too_long"),
    "model.max_pixels": _Names("MAX_PIXELS", "max_pixels"),
    # In the scripts one switch for all rates; in a recipe the keys that may change.
    "run.change": _Names("CHANGE_LR", "change_lr"),
}


def started_by() -> str:
    """The script that started this training; empty for `robointer train`."""
    return os.environ.get(STARTED_BY, "")


def name_of(key: str) -> str:
    """A setting's name where this training was started, such as `batch.too_long` or `TOO_LONG`."""
    names, script = NAMES.get(key), started_by()
    if names is None or script not in (SFT, TRAIN_QWEN):
        return key
    return names.variable if script == SFT else f"--{names.flag}"


def written(settings: Mapping[str, object]) -> str:
    """Settings as they can be typed where this training was started, such as `TOO_LONG=drop` or `--too_long drop`."""
    script = started_by()
    parts: dict[str, str] = {}
    for key, value in settings.items():
        name = name_of(key)
        text = "True" if key == "run.change" and name != key else str(value)
        parts[name] = f"{name} {text}" if script == TRAIN_QWEN and name != key else f"{name}={text}"
    return " ".join(parts.values())


def where_to_write() -> str:
    """Where such settings go: the end of a sentence that begins with "run the same command again with …"."""
    if started_by() == SFT:
        return "in its environment, in place of the values that stand there"
    return "at its end"
