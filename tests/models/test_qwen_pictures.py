"""Pictures are cut exactly as transformers' own processor cuts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.models.qwen2_5_vl.encoder import normalised
from robointervlm.models.qwen2_5_vl.pictures import Grid, PixelLimits, patches
from tiny_models import noise


@pytest.mark.parametrize("width, height", [(84, 56), (100, 80), (320, 180), (640, 480), (61, 333), (20, 20), (5, 90)])
@pytest.mark.parametrize("limits", [PixelLimits(), PixelLimits(max_pixels=50176), PixelLimits(100 * 784, 200 * 784)])
def test_patches_are_bit_identical_to_the_processor_of_transformers(width, height, limits):
    picture = noise(width, height)
    theirs = Qwen2VLImageProcessorPil(
        size={"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels},
        patch_size=14,
        temporal_patch_size=2,
        merge_size=2,
    )(picture, return_tensors="np", input_data_format="channels_last")
    pixels, grid = patches(picture, limits)
    assert (pixels.dtype, pixels.shape[1]) == (np.uint8, 588)
    ours = normalised(torch.from_numpy(pixels)).numpy()
    assert ours.dtype == np.float32
    assert tuple(grid) == tuple(theirs["image_grid_thw"][0])
    assert ours.tobytes() == theirs["pixel_values"].tobytes()


def test_every_byte_of_every_channel_is_normalised_as_transformers_does():
    # The processor's own order: a float64 product, rounded, then two float32 operations.
    mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
    values = np.arange(256, dtype=np.uint8)
    expected = ((values.astype(np.float64) * (1 / 255)).astype(np.float32)[:, None] - mean) / std
    pixels = np.repeat(np.repeat(values[:, None], 3, axis=1), 196, axis=1)
    ours = normalised(torch.from_numpy(pixels)).numpy().reshape(256, 3, 2, 196)
    assert ours[:, :, 0, 0].tobytes() == expected.tobytes()


# README_DATA: 180x320 is published as 168x308, 480x640 as 476x644; a token is 28x28 pixels.
@pytest.mark.parametrize(
    "image, grid, tokens",
    [
        (ImageSize(320, 180), Grid(1, 12, 22), 66),
        (ImageSize(640, 480), Grid(1, 34, 46), 391),
        (ImageSize(28, 28), Grid(1, 4, 4), 4),
    ],
)
def test_the_grid_and_its_tokens_are_those_of_the_published_sizes(image, grid, tokens):
    assert PixelLimits().grid(image) == grid
    assert PixelLimits().grid(image).tokens == tokens


def test_an_upper_limit_shrinks_the_grid():
    assert PixelLimits(max_pixels=28 * 28 * 16).grid(ImageSize(640, 480)).tokens <= 16


def test_a_picture_far_too_narrow_is_an_input_error():
    with pytest.raises(DataError):
        patches(noise(3, 700), PixelLimits())


def test_a_still_picture_fills_both_frames_of_a_patch():
    pixels, _ = patches(noise(28, 28), PixelLimits(min_pixels=784))
    ours = normalised(torch.from_numpy(pixels)).numpy()
    by_frame = ours.reshape(4, 3, 2, 14, 14)
    assert np.array_equal(by_frame[:, :, 0], by_frame[:, :, 1])
