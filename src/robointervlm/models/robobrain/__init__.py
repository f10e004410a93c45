"""RoboBrain 2.0, evaluated only: a Qwen2.5-VL whose answers stand in tags, after thoughts if it is to think.

Its config.json says `qwen2_5_vl`, so this family is chosen with `model.family=robobrain`. Its coordinates are pixels of
the resized picture, as Qwen2.5-VL's are: the network sees no other size. This file is light: torch is imported when a
model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from robointervlm.models._shared.section import PixelSection

if TYPE_CHECKING:
    from robointervlm.models.robobrain.tagged_answers import RoboBrain


class Section(PixelSection):
    """A RoboBrain 2.0 checkpoint."""

    thinking: bool = Field(default=False, description="let it think before it answers; needs more new tokens")


def load(section: Section) -> RoboBrain:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete Qwen2.5-VL."""
    from robointervlm.models._shared.generation import say_if_it_would_sample
    from robointervlm.models.robobrain.tagged_answers import RoboBrain

    model = RoboBrain.load(section)
    model.open_with(thinking=section.thinking)
    say_if_it_would_sample(model.network, model.name)
    return model
