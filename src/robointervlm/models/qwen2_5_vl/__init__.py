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


def load(section: Section) -> Qwen25VL:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete Qwen2.5-VL."""
    from robointervlm.models.qwen2_5_vl.network import Qwen25VL  # torch takes seconds to import

    return Qwen25VL.load(section)
