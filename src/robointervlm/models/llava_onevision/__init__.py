"""LLaVA-OneVision, evaluated only: coordinates from 0 to 1 of the picture.

Two layouts are loaded: transformers' own (`llava_onevision`), and the one of the LLaVA-NeXT code (`llava_qwen`), in
which RoboInter-VLM_llavaov_7B is published. This file is light: torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robointervlm.models._shared.section import CheckpointSection

if TYPE_CHECKING:
    from robointervlm.models._shared.chat_model import ChatModel

LOADS = ("llava_qwen", "LlavaQwenForCausalLM")


class Section(CheckpointSection):
    """A LLaVA-OneVision checkpoint, in either layout."""


def load(section: Section) -> ChatModel:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete LLaVA-OneVision."""
    from robointervlm.models.llava_onevision.anyres import load_llava

    return load_llava(section)
