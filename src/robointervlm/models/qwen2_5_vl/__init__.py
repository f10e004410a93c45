"""Qwen2.5-VL, any size, dense or with experts, for training and inference, through transformers' own classes.

This file is light: settings only. torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL


class Section(BaseModel):
    """Which checkpoint, and how it is held in memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["qwen2_5_vl", "qwen2_5_vl_moe"] = "qwen2_5_vl"
    path: str = Field(
        description="a folder in the Hugging Face layout, or a hub name such as Qwen/Qwen2.5-VL-3B-Instruct"
    )
    name: str | None = Field(default=None, description="what reports call it; the folder's name by default")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: the checkpoint's own on a GPU, float32 on a CPU"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 …")
    device_map: str | None = Field(default=None, description="as transformers takes it, such as auto, for large models")
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    min_pixels: int | None = Field(default=None, ge=28 * 28, description="overrides the checkpoint's own limit")
    max_pixels: int | None = Field(default=None, ge=28 * 28, description="overrides the checkpoint's own limit")
    coordinates: Literal["pixel", "unit", "per_mille", "resized"] | None = Field(
        default=None, description="overrides what the checkpoint declares; Qwen2.5-VL itself writes 'resized'"
    )


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
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL  # torch takes seconds to import

    return Qwen25VL.load(section)
