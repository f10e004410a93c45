"""InternVL3 in transformers' own layout (`-hf`), evaluated only: coordinates from 0 to 1000 of the picture.

This file is light: torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from robointervlm.models._shared.section import CheckpointSection

if TYPE_CHECKING:
    from robointervlm.models._shared.chat_model import ChatModel


class Section(CheckpointSection):
    """An InternVL checkpoint."""

    max_tiles: int | None = Field(
        default=None,
        ge=1,
        description="tiles a picture is cut into at most, without the overview; the file's own or 12",
    )


def load(section: Section) -> ChatModel:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete InternVL."""
    from robointervlm.models.internvl.tiles import load_internvl

    return load_internvl(section, section.max_tiles)
