"""Qwen2.5-VL, any size, dense or with experts, for training and inference, through transformers' own classes.

This file is light: settings only. torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from robointervlm.models._shared.section import PixelSection
from robointervlm.models.qwen2_5_vl.parts import Lora

if TYPE_CHECKING:
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL

__all__ = ["Lora", "Section", "load"]


class Section(PixelSection):
    """A Qwen2.5-VL checkpoint, dense or with experts."""

    family: Literal["qwen2_5_vl", "qwen2_5_vl_moe"] = "qwen2_5_vl"


def load(section: Section) -> Qwen25VL:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete Qwen2.5-VL."""
    # torch takes seconds to import
    from robointervlm.models._shared.generation import say_if_it_would_sample
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL

    model = Qwen25VL.load(section)
    say_if_it_would_sample(model.network, model.name)
    return model
