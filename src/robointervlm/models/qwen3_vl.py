"""Qwen3-VL, evaluated only: coordinates from 0 to 1000 of the picture, whatever its size.

This file is light: torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robointervlm.models._shared.section import PixelSection

if TYPE_CHECKING:
    from robointervlm.models._shared.chat_model import ChatModel


class Section(PixelSection):
    """A Qwen3-VL checkpoint."""


def load(section: Section) -> ChatModel:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete Qwen3-VL."""
    from transformers import Qwen3VLForConditionalGeneration

    from robointervlm.models._shared.qwen import load_qwen

    return load_qwen(section, "qwen3_vl", Qwen3VLForConditionalGeneration)
