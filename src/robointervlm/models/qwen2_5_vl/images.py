"""Pictures as Qwen2.5-VL takes them: resized to multiples of 28, cut into patches, still bytes.

The resized bytes are those of transformers' default image processor for this model, which is torchvision's: both call
the same function of torch (a test holds them against each other), and torchvision itself is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, ImageSize, smart_resize
from robointervlm.core.prompt import Picture

PATCH = 14
MERGE = 2
TEMPORAL = 2
# The statistics of OpenAI's CLIP, as in the hub's preprocessor_config.json.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


class Grid(NamedTuple):
    """The patches of one picture: frames, rows, columns (`image_grid_thw`)."""

    frames: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """How many tokens of the language model the picture takes."""
        return self.frames * self.rows * self.columns // (MERGE * MERGE)


@dataclass(frozen=True)
class PixelLimits:
    """The smallest and largest area a picture is resized to, in pixels."""

    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS

    def processed(self, image: ImageSize) -> ImageSize:
        return smart_resize(image, min_pixels=self.min_pixels, max_pixels=self.max_pixels)

    def grid(self, image: ImageSize) -> Grid:
        size = self.processed(image)
        return Grid(1, size.height // PATCH, size.width // PATCH)


def patches(picture: Picture, limits: PixelLimits) -> tuple[NDArray[np.uint8], Grid]:
    """The picture's patches, shape (rows * columns, 588), in the order of the merged 2x2 blocks, and their grid.

    A patch holds channel, row and column, in this order, as the bytes of the resized picture: an eighth of what the
    network takes, which `encoder.normalised` makes of it where the network is.
    """
    size = limits.processed(ImageSize(picture.shape[1], picture.shape[0]))
    if size == (picture.shape[1], picture.shape[0]):
        planes = np.ascontiguousarray(picture.transpose(2, 0, 1))
    else:
        # torch warns of arrays that cannot be written to. Channels stay last in memory: torch's faster way, same bytes.
        pixels = torch.from_numpy(np.require(picture, requirements=["C", "W"])).permute(2, 0, 1)[None]
        height, width = size.height, size.width
        resized = torch.nn.functional.interpolate(pixels, size=(height, width), mode="bicubic", antialias=True)
        planes = np.ascontiguousarray(resized[0].numpy())
    rows, columns = size.height // PATCH, size.width // PATCH
    # A patch's row of one channel is moved as one value of 14 bytes, which is faster than byte by byte.
    runs = planes.view(f"V{PATCH}").reshape(3, rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE)
    ordered = np.ascontiguousarray(runs.transpose(1, 4, 2, 5, 0, 3))
    return ordered.view(np.uint8).reshape(rows * columns, -1), Grid(1, rows, columns)
