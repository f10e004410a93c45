"""Regions: which points lie in a mask, and the way they go into records and back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robointervlm.core.answer import Region
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.errors import DataError
from robointervlm.core.reading import answer_from_json
from robointervlm.core.writing import answer_to_json, write_answer

# Row by row: . # # / # . .
SMALL = Region(ImageSize(3, 2), (1, 3, 2))
masks = arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def test_runs_go_along_the_rows_and_begin_outside():
    assert SMALL.mask.tolist() == [[False, True, True], [True, False, False]]
    assert SMALL.area == 3


def test_a_point_belongs_to_the_pixel_it_lies_in():
    inside = [(1.0, 0.0), (2.99, 0.99), (0.5, 1.0)]
    outside = [(0.99, 0.5), (1.0, 1.0), (-0.1, 1.5), (3.0, 0.5), (0.5, 2.0), (1e9, 1e9)]
    assert all(SMALL.contains(point) for point in inside)
    assert not any(SMALL.contains(point) for point in outside)


@given(masks)
def test_a_mask_is_given_back(mask):
    region = Region.of_mask(mask)
    assert region.size == (mask.shape[1], mask.shape[0])
    assert (region.mask == mask).all()


@given(masks)
def test_a_record_gives_a_region_back(mask):
    region = Region.of_mask(mask)
    assert answer_from_json(json.loads(json.dumps(answer_to_json(region)))) == region


@given(masks.filter(np.any))
def test_the_inner_point_lies_inside(mask):
    region = Region.of_mask(mask)
    assert region.contains(region.inner_point)


def test_a_region_is_written_as_a_point_inside_it():
    # Nearest to the centre (1, 0.33) of the pixels 1, 0 and 2, 0 and 0, 1 is the first.
    assert write_answer(SMALL, Space.pixels(ImageSize(3, 2)), "point") == '{"point": [[1, 0]]}'


@pytest.mark.parametrize("runs", [(), (5,), (1, 2, 2), (7, -1), (1, 3, 3)])
def test_runs_that_are_not_all_pixels_are_refused(runs):
    with pytest.raises(DataError, match="add up to"):
        Region(ImageSize(3, 2), runs)


@pytest.mark.parametrize(
    "record",
    [
        {"region": {"size": [3, 2], "runs": [6.0]}},
        {"region": {"size": [3], "runs": [6]}},
        {"region": {"size": [3, 2], "runs": [True, 5]}},
        {"region": {"size": [3, 2], "runs": [6], "more": 1}},
    ],
)
def test_a_record_that_holds_no_region_is_an_error(record):
    with pytest.raises(DataError):
        answer_from_json(record)
