"""What scores are shown by, besides task and dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from robointervlm.core.answer import Box
from robointervlm.evaluate.scored import Scored

# Shares of the picture. Of 196 x 112 pixels, 1 % is a square of 15 pixels and 5 % one of 33; of 640 x 480, one of 55
# and one of 124. COCO's limits are pixels, 32 and 96 squared, and mean another thing in a picture of another size.
SMALL, LARGE = 0.01, 0.05


class Slice(NamedTuple):
    """`value_of` says in which slice a question is, empty if in none; `order` is that of the values, else by name."""

    value_of: Callable[[Scored], str]
    order: tuple[str, ...] = ()


def box_size(scored: Scored) -> str:
    """Whether the reference box is small, medium or large: under 1 % of the picture's area, under 5 %, or more."""
    if not isinstance(scored.reference, Box) or scored.image_size is None:
        return ""
    share = scored.reference.area / (scored.image_size.width * scored.image_size.height)
    return "small" if share < SMALL else "medium" if share < LARGE else "large"


def skill(scored: Scored) -> str:
    """What the robot does in the episode, where the record said so."""
    return scored.requested.skill


SLICES: dict[str, Slice] = {
    "box size": Slice(box_size, ("small", "medium", "large")),
    "skill": Slice(skill),
}
