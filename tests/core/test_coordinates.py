"""Formats, spaces, and the size a Qwen2.5-VL processor makes of a picture."""

import importlib.util
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space, floored, pairs, smart_resize
from robointervlm.core.errors import DataError, RecipeError

SIZE = ImageSize(320, 180)
PROCESSED = ImageSize(308, 168)


@pytest.mark.parametrize(
    "name, written",
    [
        ("pixel", (72, 102)),
        ("origin_format", (72, 102)),
        ("unit", (0.225, 102 / 180)),
        ("llava_format", (0.225, 102 / 180)),
        ("per_mille", (225, 566 + 2 / 3)),
        ("resized", (69.3, 95.2)),
        ("smart_resize_format", (69.3, 95.2)),
    ],
)
def test_a_place_is_written_by_the_size_the_image_is_taken_to_have(name, written):
    space = Space(CoordinateFormat.named(name), SIZE, PROCESSED)
    assert space.from_pixels([(72, 102)])[0] == pytest.approx(written)
    assert space.to_pixels([written])[0] == pytest.approx((72, 102))


@given(
    st.sampled_from(CoordinateFormat),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.tuples(st.integers(28, 5000), st.integers(28, 5000)),
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
)
def test_there_and_back_is_the_same_place(coordinates, image, processed, place):
    space = Space(coordinates, ImageSize(*image), ImageSize(*processed))
    assert space.to_pixels(space.from_pixels([place]))[0] == pytest.approx(place, abs=1e-6)


@given(st.sampled_from(CoordinateFormat), st.integers(0, 320), st.integers(0, 180))
def test_a_rounded_place_is_within_half_a_step(coordinates, x, y):
    space = Space(coordinates, SIZE, PROCESSED)
    written = [tuple(float(space.number(value)) for value in space.from_pixels([(x, y)])[0])]
    back = space.to_pixels(written)[0]
    half = 0.5 * 10**-coordinates.decimals
    assert abs(back[0] - x) <= half * 320 / space.extent[0] + 1e-9
    assert abs(back[1] - y) <= half * 180 / space.extent[1] + 1e-9


def test_width_and_height_are_not_swapped():
    space = Space(CoordinateFormat.UNIT, SIZE)
    assert space.to_pixels([(1, 1)]) == ((320, 180),)
    assert smart_resize(ImageSize(640, 480)) == ImageSize(width=644, height=476)


@given(st.sampled_from(CoordinateFormat), st.integers(28, 4000), st.integers(28, 4000))
def test_width_and_height_swapped_move_the_corner_of_every_picture_that_is_not_square(coordinates, width, height):
    right = Space(coordinates, ImageSize(width, height), ImageSize(width * 2, height * 2))
    swapped = Space(coordinates, ImageSize(height, width), ImageSize(height * 2, width * 2))
    [corner] = right.to_pixels([right.extent])
    assert corner == pytest.approx((width, height))
    assert (swapped.to_pixels([swapped.extent]) == (corner,)) == (width == height)


@pytest.mark.parametrize(
    "value, text", [(0.225, "0.22"), (0.235, "0.24"), (0.6, "0.6"), (1.0, "1"), (-0.001, "0"), (-0.5, "-0.5")]
)
def test_unit_numbers_have_two_decimals_half_to_even_as_published(value, text):
    assert Space(CoordinateFormat.UNIT, SIZE).number(value) == text


@pytest.mark.parametrize("value, text", [(69.3, "69"), (184.8, "185"), (0.5, "0"), (1.5, "2"), (-0.4, "0")])
def test_other_numbers_are_whole(value, text):
    for coordinates in ("pixel", "per_mille", "resized"):
        assert Space(CoordinateFormat.named(coordinates), SIZE, PROCESSED).number(value) == text


def test_published_resized_numbers_are_truncated():
    assert floored(192 * 308 / 320) == 184
    assert floored(185 - 1e-9) == 185


def test_resized_coordinates_without_a_processed_size_are_an_error():
    with pytest.raises(DataError, match="new_w and new_h"):
        Space(CoordinateFormat.RESIZED, SIZE)


def test_an_empty_image_is_an_error():
    with pytest.raises(DataError, match="at least 1 pixel"):
        Space(CoordinateFormat.PIXEL, ImageSize(0, 10))


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(RecipeError, match="per_mille"):
        CoordinateFormat.named("normalised")


def test_pairs_of_a_flat_sequence():
    assert pairs([1, 2, 3, 4]) == ((1, 2), (3, 4))


@pytest.mark.parametrize(
    "size, resized",
    [
        # By hand: 320/28 = 11.43 -> 11, 180/28 = 6.43 -> 6; 640/28 = 22.86 -> 23, 480/28 = 17.14 -> 17.
        ((320, 180), (308, 168)),
        ((640, 480), (644, 476)),
        # 196/28 = 7 and 112/28 = 4 exactly; 42/28 = 1.5 and 70/28 = 2.5 both round to the even 2.
        ((196, 112), (196, 112)),
        ((42, 70), (56, 56)),
        # Too small: 28 x 28 = 784 < 3136, enlarged by 2 in both directions.
        ((28, 28), (56, 56)),
        # Under half a factor: sqrt(3136/100) = 5.6, ceil(10 * 5.6 / 28) = 2.
        ((10, 10), (56, 56)),
        # Too large: sqrt(6000*4000/12845056) = 1.3669, 6000/1.3669/28 = 156.8, 4000/1.3669/28 = 104.5.
        ((6000, 4000), (4368, 2912)),
    ],
)
def test_the_size_the_processor_makes_of_a_picture(size, resized):
    assert smart_resize(ImageSize(*size)) == ImageSize(*resized)


def test_the_pixel_limits_are_those_that_are_given():
    # The published scorer has 1,003,520; training has 12,845,056: for a picture of 4000x3000 they differ.
    assert smart_resize(ImageSize(4000, 3000), max_pixels=1_003_520) == ImageSize(1148, 840)
    assert smart_resize(ImageSize(4000, 3000)) == ImageSize(4004, 2996)


@pytest.mark.parametrize("size", [(201, 1), (1, 201), (6000, 28), (0, 5)])
def test_a_picture_over_the_aspect_limit_cannot_be_resized(size):
    with pytest.raises(DataError, match="200x"):
        smart_resize(ImageSize(*size))


@given(st.integers(28, 4000), st.integers(28, 4000))
def test_a_resized_picture_has_whole_patches_within_the_limits(width, height):
    resized = smart_resize(ImageSize(width, height), max_pixels=1_003_520)
    assert resized.width % 28 == resized.height % 28 == 0
    assert 3136 <= resized.width * resized.height <= 1_003_520


def library_functions():
    """The two libraries' own `smart_resize`, taken out of their installed files (see the benchmark)."""
    file = Path(__file__).parents[2] / "benchmarks" / "smart_resize_exhaustive.py"
    spec = importlib.util.spec_from_file_location("smart_resize_exhaustive", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [module.library_function(*source) for source in module.SOURCES.values()]


def sizes_around(limit):
    """For every width the heights where the area of the rounded size crosses the limit, and sixty around it."""
    for width in range(28, 4001):
        middle = round(limit / (max(1, round(width / 28)) * 28))
        for height in range(max(28, middle - 30), min(4000, middle + 30) + 1):
            yield width, height


@pytest.mark.slow
@pytest.mark.parametrize("high", [12_845_056, 1_003_520])
def test_sizes_are_those_of_transformers_and_qwen_vl_utils(high):
    for package in ("transformers", "qwen_vl_utils"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    functions = library_functions()
    assert len(functions) == 2
    generator = random.Random(20251)
    sizes = [(generator.randint(28, 4000), generator.randint(28, 4000)) for _ in range(200_000)]
    sizes += [*sizes_around(3136), *sizes_around(high)]
    for width, height in sizes:
        ours = smart_resize(ImageSize(width, height), max_pixels=high)
        for function in functions:
            assert (ours.height, ours.width) == function(height, width, 28, 3136, high), (width, height)
