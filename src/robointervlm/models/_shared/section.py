"""The settings that every checkpoint on this machine has. Light: no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from robointervlm.core.errors import ModelError
from robointervlm.models.locate import model_folder


class CheckpointSection(BaseModel):
    """Which checkpoint, and how it is held in memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        description="a folder in the Hugging Face layout, the run it was trained in, or a hub name such as "
        "Qwen/Qwen2.5-VL-3B-Instruct"
    )
    name: str | None = Field(
        default=None, description="what reports call it; by default the name of the run, else of the folder"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: the checkpoint's own on a GPU, float32 on a CPU"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 …")
    device_map: str | None = Field(default=None, description="as transformers takes it, such as auto, for large models")
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    coordinates: Literal["pixel", "unit", "per_mille", "resized"] | None = Field(
        default=None, description="overrides what the checkpoint declares, and what its family writes"
    )

    @field_validator("path")
    @classmethod
    def _where_the_model_is(cls, value: str) -> str:
        try:
            return model_folder(value)
        except ModelError as error:
            raise ValueError(str(error)) from None


class PixelSection(CheckpointSection):
    """A checkpoint whose processor resizes a picture to an area between two limits."""

    min_pixels: int | None = Field(default=None, ge=28 * 28, description="overrides the checkpoint's own limit")
    max_pixels: int | None = Field(default=None, ge=28 * 28, description="overrides the checkpoint's own limit")
