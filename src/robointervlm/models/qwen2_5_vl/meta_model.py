"""A checkpoint without its weights: what a plan needs to know of it, in the memory of its tokenizer alone."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.models.qwen2_5_vl.folder import read_chat, read_config, read_declaration
from robointervlm.models.qwen2_5_vl.images import PixelLimits
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl.section import Section
from robointervlm.models.qwen2_5_vl_moe.config import MoeConfig
from robointervlm.models.qwen2_5_vl_moe.network import RoboInterQwen25VLMoe


def skeleton(section: Section) -> Qwen25VL:
    """The model of a folder's config.json and tokenizer, its parameters of the right shape on the meta device.

    It encodes samples as the model would, and can neither answer nor learn.
    """
    config = read_config(section.path)
    declared = read_declaration(section.path)
    limits = PixelLimits(section.min_pixels or declared["min_pixels"], section.max_pixels or declared["max_pixels"])
    made: Any = RoboInterQwen25VLMoe if isinstance(config, MoeConfig) else Qwen2_5_VLForConditionalGeneration
    with torch.device("meta"):
        network = made(config)
    coordinates = CoordinateFormat.named(section.coordinates or declared["coordinates"])
    return Qwen25VL(network, Encoder(config, read_chat(section.path), limits, coordinates), name=section.path)
