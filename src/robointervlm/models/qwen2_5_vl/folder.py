"""A checkpoint folder in the Hugging Face layout: what is read from it, and what is written beside the weights.

Everything here also takes a hub name. What is not whole is a `ModelError` of one line.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging as library_logging
from transformers.utils.hub import cached_file
from transformers.utils.import_utils import is_flash_attn_2_available

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS
from robointervlm.core.errors import ExhaustedError, ModelError
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.pictures import MEAN, MERGE, PATCH, STD, TEMPORAL, PixelLimits
from robointervlm.models.qwen2_5_vl_moe.config import MoeConfig, published_fields, with_experts
from robointervlm.models.qwen2_5_vl_moe.network import UNUSED_PUBLISHED, RoboInterQwen25VLMoe

logger = logging.getLogger(__name__)

DECLARATION = "robointer.json"
"""The file of a checkpoint that says what it writes: coordinate format, pixel limits, answer style."""


def refuse_wrong_keys(path: str, info: dict[str, Any], *, tied: bool) -> None:
    """Raise `ModelError` if loading left parameters of the model without a value or values without a parameter."""
    wrong = {
        "missing": {key for key in info["missing_keys"] if not (tied and key == "lm_head.weight")},
        "unexpected": info["unexpected_keys"],
        "misshapen": {str(key[0]) for key in info["mismatched_keys"]},
    }
    said = [f"{len(keys)} {how}, such as {min(keys)}" for how, keys in wrong.items() if keys]
    if said:
        raise ModelError(f"the weights in '{path}' do not fit its config.json: {'; '.join(said)}.")


def read_config(path: str) -> Qwen2_5_VLConfig:
    """The config.json of a folder or of a hub name."""
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path}' is not a model folder, nor a hub name that can be reached: {error}") from None
    if not isinstance(config, Qwen2_5_VLConfig):
        raise ModelError(f"'{path}' holds a '{config.model_type}' model; this family is for 'qwen2_5_vl'.")
    if isinstance(config, MoeConfig) or not (fields := published_fields(config)):
        return config
    # The published code calls its model with experts 'qwen2_5_vl' as well; its fields tell.
    try:
        return with_experts(config, fields)
    except ValueError as error:
        raise ModelError(f"the experts in the config.json of '{path}' do not make a model: {error}") from None


def read_chat(path: str) -> Chat:
    """The tokenizer with its chat template."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path}' has no tokenizer that can be read: {error}") from None
    return Chat(tokenizer)


def read_network(section: Section, config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    """The weights, each of them where it belongs, on the device and in the precision asked for."""
    device = _device(section.device)
    dtype = section.dtype if section.dtype != "auto" or device.type != "cpu" else "float32"
    loader: Any = RoboInterQwen25VLMoe if isinstance(config, MoeConfig) else Qwen2_5_VLForConditionalGeneration
    try:
        with quiet():
            network, info = loader.from_pretrained(
                section.path,
                config=config,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                attn_implementation=_attention(section.attention, device),
                device_map=section.device_map,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except torch.OutOfMemoryError as error:
        raise ExhaustedError(f"'{section.path}' does not fit into the memory of {device}: {error}") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights in '{section.path}' cannot be loaded: {error}") from None
    if isinstance(config, MoeConfig):
        _drop_unused(section.path, info)
    refuse_wrong_keys(section.path, info, tied=bool(config.tie_word_embeddings))
    placed: Qwen2_5_VLForConditionalGeneration = network if section.device_map is not None else network.to(device)
    placed.train(mode=False)
    return placed


def _drop_unused(path: str, info: dict[str, Any]) -> None:
    """Leave the published gate that nothing ever used out of what is unexpected, and say so."""
    if unused := {key for key in info["unexpected_keys"] if key.endswith(UNUSED_PUBLISHED)}:
        info["unexpected_keys"] = set(info["unexpected_keys"]) - unused
        logger.warning(
            "'%s': left out %d mlp_gate tensors, such as %s; no answer depends on them", path, len(unused), min(unused)
        )


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


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{name}' was asked for, but torch sees no GPU here; use model.device=cpu.")
    return torch.device(name)


def _attention(name: str, device: torch.device) -> str:
    if name != "auto":
        return name
    if device.type == "cuda":
        return "flash_attention_2" if is_flash_attn_2_available() else "sdpa"
    return "sdpa"


def read_declaration(path: str) -> dict[str, Any]:
    """What the checkpoint says of itself: our file, else its preprocessor's limits and Qwen2.5-VL's own format."""
    settings = _settings(path, "preprocessor_config.json")
    size = settings.get("size") or {}
    declared = {
        "coordinates": "resized",
        "min_pixels": settings.get("min_pixels") or size.get("shortest_edge") or MIN_PIXELS,
        "max_pixels": settings.get("max_pixels") or size.get("longest_edge") or MAX_PIXELS,
    }
    return declared | _settings(path, DECLARATION)


def _settings(path: str, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint, in a folder or on the hub; empty where there is none."""
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


def preprocessor(limits: PixelLimits) -> dict[str, Any]:
    """The settings of an image processor that does what `pictures.patches` does."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [round(float(value), 8) for value in MEAN],
        "image_std": [round(float(value), 8) for value in STD],
        "min_pixels": limits.min_pixels,
        "max_pixels": limits.max_pixels,
        "size": {"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels},
        "patch_size": PATCH,
        "temporal_patch_size": TEMPORAL,
        "merge_size": MERGE,
    }
