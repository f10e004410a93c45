import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.metrics.points import contact_distance, points_inside, share_inside

MASK = np.array([[0, 1, 1], [1, 0, 0]], dtype=bool)
numbers = st.floats(-10, 10)


def test_the_order_of_the_fingers_does_not_count():
    assert contact_distance([[10, 0], [0, 0]], [[0, 0], [10, 0]]) == 0


def test_a_contact_is_as_far_off_as_its_fingers_on_average():
    assert contact_distance([[3, 4], [100, 12]], [[0, 0], [100, 0]]) == 8.5  # (5 + 12) / 2
    assert contact_distance([[100, 12], [3, 4]], [[0, 0], [100, 0]]) == 8.5


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2, 3], [4, 5, 6]], [[1, 2], [3, 4], [5, 6]]])
def test_a_malformed_contact_is_an_error_and_never_a_perfect_one(points):
    # The published metric gave 0, the best value.
    with pytest.raises(ValueError, match="two points"):
        contact_distance(points, [[0, 0], [10, 0]])


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
