"""Qwen2.5-VL, any size, dense or with experts, for training and inference, through transformers' own classes.

This file is light: settings only. torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from robointervlm.models._shared.section import PixelSection

if TYPE_CHECKING:
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL


class Section(PixelSection):
    """A Qwen2.5-VL checkpoint, dense or with experts."""

    family: Literal["qwen2_5_vl", "qwen2_5_vl_moe"] = "qwen2_5_vl"


class Lora(BaseModel):
    """Low-rank updates of linear layers: W + alpha / rank * B A, of which only A and B learn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1, description="the update counts alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the update's input, in training")
    targets: tuple[Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="which linear layers of the language model; experts and router are never among them",
    )
    vision: bool = Field(default=False, description="every linear layer of the vision tower's blocks as well")


def load(section: Section) -> Qwen25VL:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete Qwen2.5-VL."""
    # torch takes seconds to import
    from robointervlm.models._shared.generation import say_if_it_would_sample
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL

    model = Qwen25VL.load(section)
    say_if_it_would_sample(model.network, model.name)
    return model
