import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.metrics.overlap import acc_at, iou, iou_many


@pytest.mark.parametrize(
    "first, second, expected",
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([10, 10, 20, 20], [12, 12, 18, 18], 0.36),
        ([-5, -5, 5, 5], [0, 0, 5, 5], 0.25),
        ([0, 0, 10, 10], [10, 10, 20, 20], 0),
        ([0, 0, 10, 10], [20, 0, 30, 10], 0),
        ([5, 5, 5, 5], [5, 5, 5, 5], 0),
        ([20, 10, 10, 20], [10, 10, 20, 20], 0),
    ],
)
def test_overlaps_worked_out_by_hand(first, second, expected):
    assert iou(first, second) == pytest.approx(expected)


def test_a_small_normalised_box_overlaps_itself_completely():
    # The published helper added 1e-6 to the union and gave 0.5.
    assert iou([0.5, 0.5, 0.501, 0.501], [0.5, 0.5, 0.501, 0.501]) == 1


def test_boxes_may_be_given_as_corners():
    assert iou([[0, 0], [10, 10]], ((0, 0), (10, 10))) == 1


def test_anything_but_four_numbers_is_an_error():
    with pytest.raises(ValueError, match="reshape"):
        iou([0, 0, 10], [0, 0, 10, 10])


coordinate = st.floats(-1e4, 1e4)
box = st.tuples(coordinate, coordinate, coordinate, coordinate)


@given(box, box)
def test_an_overlap_is_between_nothing_and_all_and_symmetric(first, second):
    assert 0 <= iou(first, second) <= 1 + 1e-12
    assert iou(first, second) == iou(second, first)


@given(st.tuples(coordinate, coordinate), st.floats(1e-3, 1e4), st.floats(1e-3, 1e4))
def test_nothing_is_better_than_the_box_itself(corner, width, height):
    own = [*corner, corner[0] + width, corner[1] + height]
    assert iou(own, own) == pytest.approx(1)


def test_exactly_the_threshold_is_not_over_it():
    assert acc_at(0.5, 0.5) == 0
    assert acc_at(0.5000001, 0.5) == 1
    assert acc_at(0.1, 0.1) == 0


@given(st.lists(st.tuples(box, box), max_size=9))
def test_many_boxes_at_once_have_the_overlap_of_each(pairs):
    first, second = (np.array([pair[side] for pair in pairs]).reshape(-1, 4) for side in (0, 1))
    assert iou_many(first, second) == pytest.approx([iou(*pair) for pair in pairs])
    assert iou_many(first.reshape(-1, 2, 2), second.reshape(-1, 2, 2)).tolist() == iou_many(first, second).tolist()


def test_many_boxes_are_four_numbers_each_and_as_many_as_their_others():
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        iou_many([[1, 2, 3]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="1 boxes are compared with 2"):
        iou_many([[0, 0, 1, 1]], [[0, 0, 1, 1]] * 2)
