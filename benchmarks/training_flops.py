"""How many floating-point operations a training step takes: counted from the shape of the model and the lengths.

The documented recipe: the language model and its embedding learn (three times the products of a forward pass), vision
tower and merger are frozen (once). Norms, activations, the softmax and the optimizer are left out. A query counts only
the keys it may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models_for_speed import Shape

# A patch of the vision tower: 2 frames of 14x14 pixels of 3 colours; 2x2 of them become a token.
PATCH_VALUES = 3 * 2 * 14 * 14
MERGED = 4
# Windows of 112 pixels.
WINDOW = 8
LEARNING = 3


@dataclass(frozen=True)
class Work:
    """What passes through the model in a step.

    `segments` are (tokens, tokens before them that they see); `grids` are (height, width) in patches, one for each time
    a picture is encoded; `scored` is how many tokens the output layer reads.
    """

    segments: Sequence[tuple[int, int]]
    grids: Sequence[tuple[int, int]]
    scored: int

    @property
    def tokens(self) -> int:
        return sum(own for own, _ in self.segments)


def step_flops(shape: Shape, work: Work) -> float:
    """All operations of a step but the optimizer's."""
    return LEARNING * (layers(shape, work) + head(shape, work)) + vision(shape, work)


def layers(shape: Shape, work: Work) -> float:
    """The layers of the language model, forward."""
    key_values = shape.key_value_heads * shape.head_width
    weights = 2 * shape.width**2 + 2 * shape.width * key_values + 3 * shape.width * shape.inner
    pairs = sum(own * before + own * (own + 1) // 2 for own, before in work.segments)
    return shape.layers * (2 * weights * work.tokens + 4 * shape.width * pairs)


def head(shape: Shape, work: Work) -> float:
    """The output layer, forward."""
    return 2 * shape.width * shape.vocabulary * work.scored


def vision(shape: Shape, work: Work) -> float:
    """The vision tower and the merger, forward."""
    width = shape.vision_width
    weights = shape.vision_layers * (4 * width**2 + 3 * width * shape.vision_inner) + PATCH_VALUES * width
    full = len(shape.full_attention)
    total = 0.0
    for height, breadth in work.grids:
        patches = height * breadth
        pairs = full * patches**2 + (shape.vision_layers - full) * _window_pairs(height, breadth)
        merger = (MERGED * width) ** 2 + MERGED * width * shape.width
        total += 2 * weights * patches + 4 * width * pairs + 2 * merger * patches // MERGED
    return total


def _window_pairs(height: int, breadth: int) -> int:
    def sizes(length: int) -> list[int]:
        return [min(WINDOW, length - start) for start in range(0, length, WINDOW)]

    return sum((rows * columns) ** 2 for rows in sizes(height) for columns in sizes(breadth))
