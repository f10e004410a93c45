"""A checkpoint folder in the Hugging Face layout, of any family: its settings, its tokenizer and its weights.

Everything here also takes a hub name. What is not whole is a `ModelError` of one line. No code of a checkpoint is run.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as library_logging
from transformers.utils.import_utils import is_flash_attn_2_available

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import ExhaustedError, ModelError
from robointervlm.models._shared.section import CheckpointSection
from robointervlm.models.locate import settings_of

DECLARATION = "robointer.json"
"""The file of a checkpoint that says what it writes: coordinate format, pixel limits, answer style."""


def processor_of(path: str) -> dict[str, Any]:
    """The settings of a checkpoint's image processor, in either of the two files that hold them."""
    name, newer = "preprocessor_config.json", "processor_config.json"
    found: dict[str, Any] = settings_of(path, name) or settings_of(path, newer).get("image_processor") or {}
    if not found:
        raise ModelError(f"'{path}' has neither {name} nor {newer}, so it is not known how it looks at pictures.")
    return found


def coordinates_of(section: CheckpointSection, family: CoordinateFormat) -> CoordinateFormat:
    """The format a checkpoint writes in: what the section says, else what it declares itself, else its family's own."""
    declared = settings_of(section.path, DECLARATION).get("coordinates", family.value)
    return CoordinateFormat.named(section.coordinates or declared)


def config_in(path: str) -> PreTrainedConfig:
    """The config.json of a folder or of a hub name, as the class its model_type names."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path}' is not a model folder, nor a hub name that can be reached: {error}") from None
    return config


def tokenizer_in(path: str, config: PreTrainedConfig | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer; `config` is needed only where the folder's own config.json is not one of transformers'."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, config=config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path}' has no tokenizer that can be read: {error}") from None
    return tokenizer


def network_in(section: CheckpointSection, config: PreTrainedConfig, loader: Any, **more: Any) -> tuple[Any, Any]:
    """The weights on the device and in the precision asked for, and what transformers says of loading them.

    `loader` is a class with `from_pretrained`. Whether every weight found its place is for `refuse_wrong_keys`.
    """
    device_name, attention = section.device, section.attention
    if device_name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{device_name}' was asked for, but torch sees no GPU here; use model.device=cpu.")
    if device_name == "auto":
        device_name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device_name)
    if attention == "auto":
        attention = "flash_attention_2" if device.type == "cuda" and is_flash_attn_2_available() else "sdpa"
    dtype = section.dtype if section.dtype != "auto" or device.type != "cpu" else "float32"
    try:
        with quiet():
            network, info = loader.from_pretrained(
                section.path,
                config=config,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation=attention,
                device_map=section.device_map,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused afterwards, by name
                **more,
            )
    except torch.OutOfMemoryError as error:
        raise ExhaustedError(f"'{section.path}' does not fit into the memory of {device}: {error}") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights in '{section.path}' cannot be loaded: {error}") from None
    placed = network if section.device_map is not None else network.to(device)
    placed.train(mode=False)
    return placed, info


def refuse_wrong_keys(path: str, info: dict[str, Any], *, tied: bool, unused: str = "(?!)") -> None:
    """Raise `ModelError` if loading left parameters of the model without a value or values without a parameter.

    A value whose name matches the pattern `unused` may be without one.
    """
    wrong = {
        "missing": {key for key in info["missing_keys"] if not (tied and key == "lm_head.weight")},
        "unexpected": {key for key in info["unexpected_keys"] if not re.search(unused, key)},
        "misshapen": {str(key[0]) for key in info["mismatched_keys"]},
    }
    said = [f"{len(keys)} {how}, such as {min(keys)}" for how, keys in wrong.items() if keys]
    if said:
        raise ModelError(f"the weights in '{path}' do not fit its config.json: {'; '.join(said)}.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing bars and tables: what is wrong is said in one line of ours."""
    library: Any = library_logging
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()
