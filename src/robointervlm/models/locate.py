"""From what people give as "the model" to the folder that holds it, and the name that tells it from others.

A training writes `RUN/model`, `RUN/checkpoints/step-N/model` and, with low-rank updates, `…/model/adapter`; each of
these folders, and RUN itself, may be given. Light: no torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robointervlm.core.errors import ModelError

# `owner/name` or a bare name, as the hub writes them.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_CONFIG = "config.json"
_MODEL = "model"
_CHECKPOINTS = "checkpoints"
_STEP = "step-"


def model_folder(path: str) -> str:
    """The folder of the model that `path` means; `path` itself where it is one, a hub name, or nothing that exists.

    Raises `ModelError`, with what to give instead, for a folder that holds a training but no finished model, several
    checkpoints, or an adapter alone.
    """
    folder = Path(path)
    if folder.name == _CONFIG and folder.is_file():
        return str(folder.parent)
    if not folder.is_dir() or (folder / _CONFIG).is_file():
        return path
    if (folder / _MODEL / _CONFIG).is_file():
        return str(folder / _MODEL)
    if (folder / "adapter_config.json").is_file():
        merged = folder.resolve().parent
        whole = f"merge it into the model it was trained on: robointer convert merge BASE {folder} OUT, and give OUT"
        if (merged / _CONFIG).is_file():
            whole = f"the model with the adapter merged into it is {merged}"
        raise ModelError(f"'{path}' is an adapter without its model; {whole}.")
    if checkpoints := _checkpoints_in(folder):
        raise ModelError(
            f"'{path}' holds {len(checkpoints)} checkpoint(s) of a training and no finished model; give one of them, "
            f"the newest is {checkpoints[-1]}."
        )
    if (folder / "recipe.yaml").is_file():
        raise ModelError(f"'{path}' is the folder of a run that has saved no model yet.")
    return path


def _checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints that a training left here, ours or transformers' own (`checkpoint-N`), oldest first."""
    ours = [each for there in (folder, folder / _CHECKPOINTS) for each in there.glob(f"{_STEP}*")]
    found = [each for each in ours if (each / _MODEL / _CONFIG).is_file()]
    found += [each for each in folder.glob("checkpoint-*") if (each / _CONFIG).is_file()]
    return sorted(found, key=lambda each: int(number) if (number := each.name.rpartition("-")[2]).isdecimal() else -1)


def model_name(path: str) -> str:
    """What reports call the model in a folder: the run's name for what a training wrote, else the folder's name.

    `RUN/model` is RUN, `RUN/checkpoints/step-00000040/model` is RUN-step-40. A hub name is the part after its owner.
    """
    folder = Path(path)
    if not folder.is_dir():
        return folder.name or path
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would follow links, which have a name of their own
    if folder.name == _MODEL and folder.parent.name:
        folder = folder.parent
    step = folder.name.removeprefix(_STEP)
    if folder.name.startswith(_STEP) and step.isdecimal() and folder.parent.name == _CHECKPOINTS:
        return f"{folder.parent.parent.name}-{_STEP}{int(step)}"
    return folder.name or path


def is_hub_name(path: str) -> bool:
    """Whether a path that is no folder has the form of a name on the hub."""
    return not Path(path).exists() and _HUB_NAME.fullmatch(path) is not None


def settings_of(path: str, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint, in a folder or on the hub; empty where there is none."""
    from transformers.utils.hub import cached_file

    file = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if file is None:
        return {}
    try:
        settings: dict[str, Any] = {**json.loads(Path(file).read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file} holds no settings: {error}") from None
    return settings


def hub_config(name: str) -> Mapping[str, Any]:
    """The config.json of a model on the hub, from the cache or downloaded. Raises `ModelError` if it cannot be had."""
    try:
        found = settings_of(name, _CONFIG)
    except (OSError, ValueError):  # gated, private, or no such name
        found = {}
    if not found:
        raise _not_had(name)
    return found


def hub_folder(name: str) -> str:
    """The folder in the hub's cache with all files of a model, downloaded where they are not there yet."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError):
        raise _not_had(name) from None


def _not_had(name: str) -> ModelError:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}
    why = "; HF_HUB_OFFLINE is set, so only the cache was looked at" if offline else ""
    return ModelError(
        f"'{name}' is neither a folder here nor a model that can be had from the hub{why}. Give a checkpoint's folder, "
        "or a hub name such as Qwen/Qwen2.5-VL-3B-Instruct (a gated one needs `hf auth login`)."
    )
