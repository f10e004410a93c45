"""A Qwen2.5-VL folder: what is read from it, and what is written beside the weights.

Everything here also takes a hub name. What is not whole is a `ModelError` of one line.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS
from robointervlm.core.errors import ModelError
from robointervlm.models._shared.checkpoint import DECLARATION, config_in, network_in, refuse_wrong_keys, tokenizer_in
from robointervlm.models._shared.section import PixelSection
from robointervlm.models._shared.weights import expert_names, tensor_names
from robointervlm.models.locate import settings_of
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.images import MEAN, MERGE, PATCH, STD, TEMPORAL, PixelLimits
from robointervlm.models.qwen2_5_vl_moe.config import (
    NEEDED_FIELDS,
    MoeConfig,
    drop_expert_fields,
    published_fields,
    with_experts,
)
from robointervlm.models.qwen2_5_vl_moe.experts import UNUSED_PUBLISHED, RoboInterQwen25VLMoe

logger = logging.getLogger(__name__)


def read_config(path: str) -> Qwen2_5_VLConfig:
    """The config.json of a folder or of a hub name; whether there are experts, the weights decide.

    The published code calls its model with experts 'qwen2_5_vl' as well, and leaves their fields in the config.json of
    a dense one. Those are dropped, with a warning. Raises `ModelError` for experts that the fields do not describe.
    """
    config = config_in(path)
    if not isinstance(config, Qwen2_5_VLConfig):
        raise ModelError(f"'{path}' holds a '{config.model_type}' model; this family is for 'qwen2_5_vl'.")
    fields = published_fields(settings_of(path, "config.json"))
    ours = isinstance(config, MoeConfig)
    names = tensor_names(path, fetch=bool(fields) and not ours)
    if found := expert_names(names or ()):
        _refuse_undescribed(path, found, fields)
    if ours:
        return config
    # Where there are no weights to look at, its architecture is believed.
    calls_itself_moe = any("moe" in name.lower() for name in config.architectures or ())
    if not found and (names is not None or not calls_itself_moe):
        drop_expert_fields(config)
        if fields:
            _say_left_over(path, ", ".join(fields))
        return config
    try:
        return with_experts(config, fields)
    except ValueError as error:
        raise ModelError(f"the experts in the config.json of '{path}' do not make a model: {error}") from None


def _refuse_undescribed(path: str, experts: Sequence[str], fields: Mapping[str, Any]) -> None:
    lacking = [key for key in NEEDED_FIELDS if key not in fields or (key == "num_experts" and not fields[key])]
    if lacking:
        raise ModelError(
            f"the weights in '{path}' hold experts ({len(experts)} tensors, such as {experts[0]}), but its config.json "
            f"does not say {', '.join(lacking)}; add what the training that wrote them had."
        )


@functools.cache  # once for each checkpoint: its settings are read at every step of the way
def _say_left_over(path: str, fields: str) -> None:
    logger.warning(
        "'%s': its config.json has fields of experts (%s), but there are no weights of experts: it is a dense model, "
        "and what is written of it will not have these fields",
        path,
        fields,
    )


def read_chat(path: str) -> Chat:
    """The tokenizer with its chat template."""
    return Chat(tokenizer_in(path))


def read_network(section: PixelSection, config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    """The weights, each of them where it belongs, on the device and in the precision asked for."""
    experts = isinstance(config, MoeConfig)
    network, info = network_in(section, config, RoboInterQwen25VLMoe if experts else Qwen2_5_VLForConditionalGeneration)
    if experts:
        # The published gate that nothing ever used.
        if unused := {key for key in info["unexpected_keys"] if key.endswith(UNUSED_PUBLISHED)}:
            info["unexpected_keys"] = set(info["unexpected_keys"]) - unused
            logger.warning(
                "'%s': left out %d mlp_gate tensors, such as %s; no answer depends on them",
                section.path,
                len(unused),
                min(unused),
            )
    elif found := expert_names(info["unexpected_keys"]):
        # Of a hub name whose weights were not there yet when its settings were read.
        _refuse_undescribed(section.path, found, {})
    refuse_wrong_keys(section.path, info, tied=bool(config.tie_word_embeddings))
    placed: Qwen2_5_VLForConditionalGeneration = network
    return placed


def read_declaration(path: str) -> dict[str, Any]:
    """What the checkpoint says of itself: our file, else its preprocessor's limits and Qwen2.5-VL's own format."""
    settings = settings_of(path, "preprocessor_config.json")
    size = settings.get("size") or {}
    declared = {
        "coordinates": "resized",
        "min_pixels": settings.get("min_pixels") or size.get("shortest_edge") or MIN_PIXELS,
        "max_pixels": settings.get("max_pixels") or size.get("longest_edge") or MAX_PIXELS,
    }
    return declared | settings_of(path, DECLARATION)


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
