import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.metrics.masks import points_inside, share_inside

MASK = np.array([[0, 1, 1], [1, 0, 0]], dtype=bool)
numbers = st.floats(-10, 10)


def test_the_share_of_points_inside():
    # Inside, outside, on the edge to the next pixel (inside), outside of the picture.
    points = [(1.5, 0.5), (0.5, 0.5), (1.0, 0.0), (3.0, 0.0)]
    assert points_inside(points, MASK).tolist() == [True, False, True, False]
    assert share_inside(points, MASK) == 0.5


def test_the_share_of_no_points_is_not_defined():
    with pytest.raises(ValueError, match="no points"):
        share_inside([], MASK)


@given(st.lists(st.tuples(numbers, numbers), min_size=1))
def test_a_share_lies_between_none_and_all(points):
    assert 0 <= share_inside(points, MASK) <= 1
    assert share_inside(points, np.zeros((2, 3))) == 0
