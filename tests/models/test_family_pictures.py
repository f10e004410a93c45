"""What the evaluated-only families make of a picture, against what is known otherwise of how they look at it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import GotOcr2ImageProcessorPil, LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil
from transformers import Qwen2VLImageProcessorPil as Qwen2VLProcessor

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.core.prompt import Message
from robointervlm.models._shared.qwen import QwenImageEncoder
from robointervlm.models.internvl.tiles import InternChat, InternImageEncoder
from robointervlm.models.llava_onevision.anyres import LlavaImageEncoder
from robointervlm.models.qwen2_5_vl.encoder import normalised
from robointervlm.models.qwen2_5_vl.images import PixelLimits, patches
from robointervlm.models.tiny import tiny_tokenizer
from tiny_families import INTERNVL_TEMPLATE
from tiny_models import TEXTS, noise

QWEN2 = QwenImageEncoder(Qwen2VLProcessor(size={"shortest_edge": 3136, "longest_edge": 12845056}))
QWEN3 = QwenImageEncoder(Qwen2VLProcessor(size={"shortest_edge": 65536, "longest_edge": 16777216}, patch_size=16))
INTERN = InternImageEncoder(GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True), 256)
LLAVA = LlavaImageEncoder(LlavaOnevisionImageProcessorPil(), LlavaOnevisionConfig())
MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])


@pytest.mark.parametrize(
    "eyes, sizes",
    [
        # Of 320x180, of 640x480 and of 333x517.
        (QWEN2, [(308, 168), (644, 476), (336, 504)]),  # whole 28s, as Qwen2.5-VL
        (QWEN3, [(352, 192), (640, 480), (320, 512)]),  # whole 32s; the first is made larger, to 65536 pixels at least
        # Tiles of 448, the canvas of the nearest shape: 320/180 = 1.78 is 7 to 4, but 28 tiles are too many: 2 to 1 is
        # 0.22 away and 5 to 3 too many, 3 to 2 is 0.28 away. 640/480 is 4 to 3 with its 12 tiles. 333/517 = 0.644 is
        # nearest to 2 to 3.
        (INTERN, [(896, 448), (1792, 1344), (896, 1344)]),
        # Tiles of 384: one holds 320x180 and stretches it to its width; 640x480 needs 2 by 2, 333x517 needs 1 by 2.
        (LLAVA, [(384, 216), (768, 576), (384, 597)]),
    ],
)
def test_the_processed_size_is_worked_out_by_hand(eyes, sizes):
    assert [eyes.processed(ImageSize(*size)) for size in [(320, 180), (640, 480), (333, 517)]] == sizes


@settings(max_examples=40)
@given(width=st.integers(28, 700), height=st.integers(28, 700))
def test_the_processed_size_is_that_of_the_patches(width, height):
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for eyes, patch in ((QWEN2, 14), (QWEN3, 16)):
        _, rows, columns = eyes.look([picture]).tensors["image_grid_thw"][0].tolist()
        assert eyes.processed(ImageSize(width, height)) == (columns * patch, rows * patch)


def test_qwen2_vl_sees_a_picture_that_needs_no_resizing_as_qwen2_5_vl_does():
    # A resized one differs by rounding: transformers' processor without torchvision resizes as Pillow does.
    picture = noise(336, 504)
    values, grid = patches(picture, PixelLimits())
    look = QWEN2.look([picture])
    assert look.counts[0].tokens == grid.tokens == 12 * 18
    assert torch.allclose(look.tensors["pixel_values"], normalised(torch.from_numpy(values)), atol=1e-6)


def test_qwen3_vl_takes_patches_of_sixteen_pixels():
    picture = noise(320, 512)
    look = QWEN3.look([picture])
    assert look.tensors["image_grid_thw"].tolist() == [[1, 32, 20]]
    assert look.counts[0].tokens == 16 * 10
    # The first patch: channel, the picture twice, row and column.
    first = (picture[:16, :16].astype(np.float64) / 255 - MEAN) / STD
    expected = np.stack([first, first], axis=0).transpose(3, 0, 1, 2)
    assert np.allclose(look.tensors["pixel_values"][0].numpy(), expected.ravel(), atol=1e-5)


@pytest.mark.parametrize("size, columns, rows", [((320, 180), 2, 1), ((333, 517), 2, 3), ((448, 448), 1, 1)])
def test_internvl_cuts_a_stretched_picture_into_tiles_and_adds_an_overview(size, columns, rows):
    # As `dynamic_preprocess` with `use_thumbnail` of the model's own repository.
    picture = Image.fromarray(noise(*size))
    canvas = np.asarray(picture.resize((448 * columns, 448 * rows), Image.Resampling.BICUBIC))
    tiles = [canvas[448 * y : 448 * (y + 1), 448 * x : 448 * (x + 1)] for y in range(rows) for x in range(columns)]
    if len(tiles) > 1:
        tiles.append(np.asarray(picture.resize((448, 448), Image.Resampling.BICUBIC)))
    look = INTERN.look([np.asarray(picture)])
    expected = (np.stack(tiles).transpose(0, 3, 1, 2) / 255 - MEAN[:, None, None]) / STD[:, None, None]
    assert np.allclose(look.tensors["pixel_values"].numpy(), expected, atol=1e-5)
    assert look.counts[0].tokens == 256 * len(tiles)


@pytest.mark.parametrize(
    "asked, written",
    [
        ("<image>\nWhere?", "<img><IMG_CONTEXT></img>\nWhere?"),
        ("<image>Where?", "<img><IMG_CONTEXT></img>\nWhere?"),
        ("<image>\n<image>\nWhere?", "<img><IMG_CONTEXT></img>\n<img><IMG_CONTEXT></img>\nWhere?"),
        ("<image>\n\nWhere?", "<img><IMG_CONTEXT></img>\n\nWhere?"),
        ("In <image>\n, where?", "In <img><IMG_CONTEXT></img>\n, where?"),
    ],
)
@pytest.mark.parametrize("template", [INTERNVL_TEMPLATE, INTERNVL_TEMPLATE.replace("<IMG_CONTEXT>", "<image>")])
def test_internvl_has_one_line_break_after_a_picture(asked, written, template):
    tokenizer = tiny_tokenizer(TEXTS, 448)
    tokenizer.add_tokens(["<img>", "</img>", "<IMG_CONTEXT>"], special_tokens=True)
    tokenizer.chat_template = template
    chat = InternChat(tokenizer, "<IMG_CONTEXT>")
    assert chat.rendered([Message("user", asked)], open_answer=True) == (
        f"<|im_start|>user\n{written}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("eyes", [QWEN2, QWEN3])
def test_a_picture_that_is_far_too_long_concerns_its_prompt_alone(eyes):
    with pytest.raises(DataError, match="3000x10 cannot be resized"):
        eyes.look([noise(84, 56), noise(3000, 10)])
