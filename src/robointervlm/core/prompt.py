"""What is said to a model and what comes back. A model knows prompts, not benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""An RGB image, shape (height, width, 3), values 0-255."""

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "error", "refused"]


@dataclass(frozen=True)
class Message:
    """One message; `<image>` in a user's text is the place of the next picture."""

    role: Role
    text: str


@dataclass(frozen=True)
class Prompt:
    """Messages with as many pictures as the user texts have `<image>` markers."""

    messages: tuple[Message, ...]
    pictures: tuple[Picture, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Decoding:
    """How an answer is generated; temperature 0 is greedy."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """A model's answer to one prompt: only what it generated, never the prompt."""

    text: str
    seconds: float
    input_tokens: int
    output_tokens: int
    finish_reason: FinishReason = "stop"
