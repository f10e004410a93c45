"""How Qwen2-VL and Qwen3-VL look at pictures, and what else the two have in common.

Shape suffixes: P patches of all pictures, C values of a patch, N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import Qwen2VLImageProcessorPil

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, smart_resize
from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Picture
from robointervlm.models._shared.chat_model import Cells, ChatModel, ImageInputs
from robointervlm.models._shared.checkpoint import config_in, processor_of, tokenizer_in
from robointervlm.models._shared.section import PixelSection
from robointervlm.models.qwen2_5_vl.chat import Chat


class QwenImageEncoder:
    """Pictures resized to whole merged patches within the pixel limits, by transformers' own processor."""

    token_types = True
    # What would open a picture or a film that is not there.
    silent: tuple[str, ...] = ("<|video_pad|>", "<|vision_start|>", "<|vision_end|>")

    def __init__(self, processor: Qwen2VLImageProcessorPil) -> None:
        self._processor: Any = processor

    def look(self, pictures: Sequence[Picture]) -> ImageInputs:
        for picture in pictures:
            self.processed(ImageSize(picture.shape[1], picture.shape[0]))  # refuses what cannot be resized
        seen = self._processor(images=list(pictures), input_data_format="channels_last", return_tensors="pt")
        grids_N3, merged = seen["image_grid_thw"], self._processor.merge_size**2
        counts = tuple(Cells(int(grid.prod()) // merged) for grid in grids_N3)
        return ImageInputs({"pixel_values": seen["pixel_values"], "image_grid_thw": grids_N3}, counts)

    def processed(self, image: ImageSize) -> ImageSize:
        size = self._processor.size
        return smart_resize(
            image,
            min_pixels=size["shortest_edge"],
            max_pixels=size["longest_edge"],
            factor=self._processor.patch_size * self._processor.merge_size,
        )

    def settings(self) -> object:
        return sorted(self._processor.to_dict().items(), key=str)


# What the processor's own file says; everything else in it is about other things.
_KEYS = (
    "image_mean",
    "image_std",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "size",
    "min_pixels",
    "max_pixels",
)


def load_qwen(section: PixelSection, kind: str, loader: Any) -> ChatModel:
    """A checkpoint whose config.json says the model type `kind`, loaded by `loader`.

    Both families write from 0 to 1000. Raises `ModelError` where the folder is not complete or another model.
    """
    config: Any = config_in(section.path)
    if config.model_type != kind:
        raise ModelError(f"'{section.path}' holds a '{config.model_type}' model; this family is for '{kind}'.")
    own = processor_of(section.path)
    settings = {key: own[key] for key in _KEYS if own.get(key) is not None}
    limits = {"min_pixels": section.min_pixels, "max_pixels": section.max_pixels}
    settings |= {key: value for key, value in limits.items() if value is not None}
    processor: Any = Qwen2VLImageProcessorPil
    eyes = QwenImageEncoder(processor(**settings))
    chat = Chat(tokenizer_in(section.path))
    return ChatModel.load(section, config, loader, chat=chat, eyes=eyes, coordinates=CoordinateFormat.PER_MILLE)
