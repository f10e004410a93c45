"""What of a Qwen2.5-VL learns: its parts, and the settings of low-rank updates. Light: no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Part = Literal["language", "merger", "vision", "experts", "lora"]


def part_of(parameter: str) -> Part:
    """Which part of the model a parameter of this name belongs to; the dense MLP beside experts is language."""
    if ".lora_A." in parameter or ".lora_B." in parameter:
        return "lora"
    if ".moe_block." in parameter or parameter.endswith("experts_scaler"):
        return "experts"
    if ".merger." in parameter and "visual." in parameter:
        return "merger"
    return "vision" if "visual." in parameter else "language"


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
