"""How InternVL looks at pictures, and how its conversations are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Message, Picture
from robointervlm.core.sample import IMAGE_MARKER
from robointervlm.models._shared.chat_model import Cells, ChatModel, ImageInputs
from robointervlm.models._shared.checkpoint import config_in, processor_of, tokenizer_in
from robointervlm.models.qwen2_5_vl.chat import Chat

if TYPE_CHECKING:
    from robointervlm.models._shared.section import CheckpointSection

_IMAGE, _START, _END = "<IMG_CONTEXT>", "<img>", "</img>"


@dataclass(frozen=True)
class InternChat(Chat):
    r"""The checkpoint's own template, with each picture between `<img>` and `</img>`.

    The template ends a picture's line itself; where the prompt does so as well, as ours do, there is one break and not
    two: so the model was trained (`<image>\nQuestion` in its own chat function).
    """

    def rendered(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        # Earlier conversions of the checkpoint write a picture as the marker of prompts, which is none of theirs here.
        text = super().rendered(messages, open_answer=open_answer).replace(IMAGE_MARKER, _IMAGE)
        return text.replace(f"{_IMAGE}\n\n", f"{_IMAGE}\n").replace(_IMAGE, f"{_START}{_IMAGE}{_END}")


class InternImageEncoder:
    """Pictures stretched over the canvas of square tiles that fits their shape best, and an overview of one tile."""

    token_types = False
    silent: tuple[str, ...] = (_START, _END)

    def __init__(self, processor: GotOcr2ImageProcessorPil, tokens_per_tile: int) -> None:
        self._processor: Any = processor
        self._tokens_per_tile = tokens_per_tile

    def look(self, pictures: Sequence[Picture]) -> ImageInputs:
        seen = self._processor(images=list(pictures), input_data_format="channels_last", return_tensors="pt")
        counts = tuple(Cells(int(tiles) * self._tokens_per_tile) for tiles in seen["num_patches"])
        return ImageInputs({"pixel_values": seen["pixel_values"]}, counts)

    def processed(self, image: ImageSize) -> ImageSize:
        tile = (self._processor.size["height"], self._processor.size["width"])
        limits = (self._processor.min_patches, self._processor.max_patches)
        columns, rows = get_optimal_tiled_canvas((image.height, image.width), tile, *limits)
        return ImageSize(columns * tile[1], rows * tile[0])

    def settings(self) -> object:
        return sorted(self._processor.to_dict().items(), key=str)


def load_internvl(section: CheckpointSection, max_tiles: int | None) -> ChatModel:
    """The model, ready to answer. Raises `ModelError` where the folder is not a complete InternVL."""
    config: Any = config_in(section.path)
    if not isinstance(config, InternVLConfig):
        raise ModelError(f"'{section.path}' holds a '{config.model_type}' model; this family is for 'internvl'.")
    chat = InternChat(tokenizer_in(section.path), _IMAGE)
    own = processor_of(section.path)
    kept = {key: own[key] for key in ("size", "image_mean", "image_std", "min_patches", "max_patches") if key in own}
    if max_tiles is not None:
        kept["max_patches"] = max_tiles
    processor: Any = GotOcr2ImageProcessorPil
    # transformers' processor for this model always cuts, whatever the file says of it.
    eyes = InternImageEncoder(processor(**kept, crop_to_patches=True), config.image_seq_length)
    loader, coordinates = InternVLForConditionalGeneration, CoordinateFormat.PER_MILLE
    return ChatModel.load(section, config, loader, chat=chat, eyes=eyes, coordinates=coordinates)
