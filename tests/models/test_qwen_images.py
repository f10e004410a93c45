"""Pictures are cut exactly as transformers' own processor cuts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.models.qwen2_5_vl.encoder import normalised
from robointervlm.models.qwen2_5_vl.images import Grid, PixelLimits, patches
from tiny_models import noise, shared_data

SIZES = [(84, 56), (100, 80), (320, 180), (640, 480), (61, 333), (20, 20), (5, 90)]
LIMITS = [PixelLimits(), PixelLimits(max_pixels=50176), PixelLimits(100 * 784, 200 * 784)]


def processor(kind, limits):
    size = {"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels}
    return kind(size=size, patch_size=14, temporal_patch_size=2, merge_size=2)


def bytes_of(values: np.ndarray) -> np.ndarray:
    """Normalised patches as the bytes they were made of, shape (P, 3, 196)."""
    first = values.reshape(-1, 3, 2, 196)[:, :, 0]
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    return np.rint((first * std[:, None] + mean[:, None]) * 255).astype(np.uint8)


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("limits", LIMITS)
def test_the_bytes_are_those_of_the_default_processor_of_transformers(width, height, limits):
    pytest.importorskip("torchvision")
    picture = noise(width, height)
    theirs = processor(Qwen2VLImageProcessor, limits)(
        torch.from_numpy(picture.copy()).permute(2, 0, 1), return_tensors="pt", input_data_format="channels_first"
    )
    pixels, grid = patches(picture, limits)
    assert tuple(grid) == tuple(theirs["image_grid_thw"][0].tolist())
    assert np.array_equal(pixels.reshape(-1, 3, 196), bytes_of(theirs["pixel_values"].numpy()))
    # It multiplies mean and deviation by 255 instead of dividing the bytes, which rounds the last bit differently.
    assert torch.allclose(normalised(torch.from_numpy(pixels)), theirs["pixel_values"], rtol=0, atol=3e-7)


@pytest.mark.parametrize("width, height, limits", [(84, 56, LIMITS[0]), (196, 112, LIMITS[0]), (644, 476, LIMITS[0])])
def test_a_picture_that_is_not_resized_is_bit_identical_to_the_pil_processor(width, height, limits):
    picture = noise(width, height)
    theirs = processor(Qwen2VLImageProcessorPil, limits)(
        picture, return_tensors="np", input_data_format="channels_last"
    )
    pixels, grid = patches(picture, limits)
    assert (pixels.dtype, pixels.shape[1]) == (np.uint8, 588)
    ours = normalised(torch.from_numpy(pixels)).numpy()
    assert ours.dtype == np.float32
    assert tuple(grid) == tuple(theirs["image_grid_thw"][0])
    assert ours.tobytes() == theirs["pixel_values"].tobytes()


def test_few_values_of_real_pictures_are_far_from_the_pil_processors():
    found = sorted((shared_data() / "robobrain_demo").glob("*.jpg"))
    if not found:
        pytest.skip("the pictures of the published demo are not there; they are no part of the project")
    limits = PixelLimits(max_pixels=400 * 784)
    for file in found:
        picture = np.array(Image.open(file).convert("RGB"))
        theirs = processor(Qwen2VLImageProcessorPil, limits)(
            picture, return_tensors="np", input_data_format="channels_last"
        )
        pixels, _ = patches(picture, limits)
        steps = np.abs(pixels.reshape(-1, 3, 196).astype(int) - bytes_of(theirs["pixel_values"]).astype(int))
        # Measured: a mean of 0.19 of 255 steps at most, 2.5 in 10,000 values more than 2 away, one 16 away: at sharp
        # edges, where either is as far from the float64 result.
        assert steps.mean() < 0.3
        assert (steps > 2).mean() < 1e-3


def test_a_picture_that_cannot_be_written_to_is_cut_without_a_warning(recwarn):
    picture = noise(100, 80)
    expected, _ = patches(picture.copy(), PixelLimits())
    picture.flags.writeable = False
    assert np.array_equal(patches(picture, PixelLimits())[0], expected)
    assert not recwarn.list


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
