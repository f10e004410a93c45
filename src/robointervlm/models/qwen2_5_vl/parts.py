"""The parts of a Qwen2.5-VL that learn or are frozen as a whole."""

from __future__ import annotations

from typing import Literal

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
