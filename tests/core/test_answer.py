import pytest

from robointervlm.core.answer import Box, Points, Trajectory


@pytest.mark.parametrize("corners", [((1, 2), (3, 4)), ((3, 4), (1, 2)), ((1, 4), (3, 2)), ((3, 2), (1, 4))])
def test_a_box_spans_two_opposite_corners_in_any_order(corners):
    assert Box.spanning(*corners) == Box(1, 2, 3, 4)


def test_the_area_of_a_box():
    assert Box(1, 2, 3, 5).area == 6
    assert Box(1, 2, 1, 5).area == 0


def test_points_are_rows_of_x_and_y():
    assert Points(((1, 2), (3, 4))).array.tolist() == [[1, 2], [3, 4]]
    assert Trajectory(()).array.shape == (0, 2)
