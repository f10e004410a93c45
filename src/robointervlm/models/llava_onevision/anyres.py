"""How LLaVA-OneVision looks at pictures, and how its conversations are written, in either of its two layouts.

Shape suffixes: T tiles of all pictures, C channels, H, W of a tile, N pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessorPil
from transformers.image_processing_utils import select_best_resolution

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Picture
from robointervlm.models._shared.chat_model import Cells, ChatModel, ImageInputs
from robointervlm.models._shared.checkpoint import config_in, processor_of, tokenizer_in
from robointervlm.models._shared.section import CheckpointSection
from robointervlm.models.llava_onevision.llava_next import KEYS, UNUSED, is_llava_next, read_llava_next
from robointervlm.models.locate import settings_of
from robointervlm.models.qwen2_5_vl.chat import Chat

_IMAGE, _VIDEO = "<image>", "<video>"

# `qwen_1_5` of the LLaVA-NeXT code, with which the models were trained: a picture stands where it is in the text. The
# template in transformers' checkpoints moves all pictures to the front and has no system message.
QWEN_1_5 = """\
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{{- '<image>' if part.type == 'image' else part.text -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


class LlavaImageEncoder:
    """One picture: an overview and tiles of the resolution that fits best. Several: each one padded to a square."""

    token_types = False
    silent: tuple[str, ...] = (_VIDEO,)

    def __init__(self, processor: LlavaOnevisionImageProcessorPil, config: LlavaOnevisionConfig) -> None:
        self._processor: Any = processor
        vision: Any = config.vision_config
        self._tile: int = vision.image_size
        self._side: int = vision.image_size // vision.patch_size
        self._pinpoints: list[list[int]] = list(config.image_grid_pinpoints or ())
        self._most_tiles = _most_tiles(config.vision_aspect_ratio)

    def look(self, pictures: Sequence[Picture]) -> ImageInputs:
        sizes = [ImageSize(picture.shape[1], picture.shape[0]) for picture in pictures]
        seen = self._processor(
            images=[list(pictures)], input_data_format="channels_last", do_pad=False, return_tensors=None
        )
        alone = len(sizes) == 1
        tensors = {
            "pixel_values": torch.cat([torch.as_tensor(tiles) for tiles in seen["pixel_values"]]),  # TCHW
            "image_sizes": torch.tensor([size[::-1] for size in sizes]),
            "batch_num_images": torch.tensor([len(sizes)]),
        }
        return ImageInputs(tensors, tuple(Cells(self.tokens(size, alone=alone)) for size in sizes))

    def tokens(self, image: ImageSize, *, alone: bool) -> int:
        """How many tokens a picture is, alone in its prompt or among others: its cells, and one more to end each row.

        The cells of the tiles without what only pads them, made fewer where they would be more than the most tiles
        hold; before them those of the overview. Source: `prepare_inputs_labels_for_multimodal` of LLaVA-NeXT.
        """
        overview = self._side**2
        if not alone:
            return overview + 1
        height, width = (edge // self._tile * self._side for edge in self._best(image))
        if image.width / image.height > width / height:
            height -= (height - int(round(image.height * (width / image.width), 7))) // 2 * 2
        else:
            width -= (width - int(round(image.width * (height / image.height), 7))) // 2 * 2
        ratio = math.sqrt(height * width / (self._most_tiles * overview))
        if ratio > 1.1:
            height, width = int(height // ratio), int(width // ratio)
        return overview + height * (width + 1)

    def processed(self, image: ImageSize) -> ImageSize:
        height, width = self._best(image)
        scale_width, scale_height = width / image.width, height / image.height
        if scale_width < scale_height:
            return ImageSize(width, min(math.ceil(image.height * scale_width), height))
        return ImageSize(min(math.ceil(image.width * scale_height), width), height)

    def settings(self) -> object:
        return sorted(self._processor.to_dict().items(), key=str), self._pinpoints, self._most_tiles

    def _best(self, image: ImageSize) -> tuple[int, int]:
        """The height and width of the canvas of tiles."""
        best: tuple[int, int] = select_best_resolution((image.height, image.width), self._pinpoints)
        return best


def load_llava(section: CheckpointSection) -> ChatModel:
    """The model, ready to answer. Raises `ModelError` where the folder is not complete or does something else."""
    said = settings_of(section.path, "config.json")
    loader: Any = LlavaOnevisionForConditionalGeneration
    more: dict[str, Any] = {}
    if is_llava_next(said):
        config = read_llava_next(section.path, said)
        tokenizer = tokenizer_in(section.path, config)
        tokenizer.add_tokens([_IMAGE], special_tokens=True)  # no row of the embedding is ever looked up for it
        config.image_token_index = int(tokenizer.convert_tokens_to_ids(_IMAGE))  # type: ignore[arg-type]
        processor = _processor({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}, config)
        more = {"key_mapping": KEYS, "unused": UNUSED}
    else:
        config = _config(section.path)
        tokenizer = tokenizer_in(section.path)
        processor = _processor(processor_of(section.path), config)
    eyes = LlavaImageEncoder(processor, config)
    tokenizer.chat_template = QWEN_1_5
    chat, coordinates = Chat(tokenizer, _IMAGE), CoordinateFormat.UNIT
    return ChatModel.load(section, config, loader, chat=chat, eyes=eyes, coordinates=coordinates, **more)


def _config(path: str) -> LlavaOnevisionConfig:
    config: Any = config_in(path)
    if not isinstance(config, LlavaOnevisionConfig):
        raise ModelError(
            f"'{path}' holds a '{config.model_type}' model; this family is for 'llava_onevision' and 'llava_qwen'."
        )
    return config


def _processor(own: dict[str, Any], config: LlavaOnevisionConfig) -> LlavaOnevisionImageProcessorPil:
    vision: Any = config.vision_config
    processor: Any = LlavaOnevisionImageProcessorPil
    made: LlavaOnevisionImageProcessorPil = processor(
        size={"height": vision.image_size, "width": vision.image_size},
        image_grid_pinpoints=config.image_grid_pinpoints,
        **{key: own[key] for key in ("image_mean", "image_std") if key in own},
    )
    return made


def _most_tiles(aspect_ratio: str) -> int:
    """The N of anyres_max_N, the only way of looking at a picture that is offered here."""
    number = aspect_ratio.removeprefix("anyres_max_")
    if number == aspect_ratio or not number.isdecimal():
        raise ModelError(f"the checkpoint looks at a picture as '{aspect_ratio}'; only anyres_max_N is supported.")
    return int(number)
