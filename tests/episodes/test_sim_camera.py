import numpy as np
import pytest

from robointervlm.episodes.sim.camera import look_at

# One metre in front of the arm's base, looking back at it: the picture's right is the world's +y.
FACING = look_at(np.array([1.0, 0.0, 0.0]), np.zeros(3), focal=100.0, size=(200, 100))


@pytest.mark.parametrize(
    "point, pixel",
    [
        ([0.0, 0.0, 0.0], [100, 50]),  # the point looked at is the middle of the picture
        ([0.0, 0.1, 0.0], [110, 50]),  # 0.1 m * 100 px / 1 m to the right
        ([0.0, 0.0, 0.1], [100, 40]),  # up in the world is towards smaller y
        ([0.5, 0.1, 0.0], [120, 50]),  # at half the distance twice as far from the middle
    ],
)
def test_a_point_is_projected_where_similar_triangles_put_it(point, pixel):
    assert FACING.project(np.array([point])) == pytest.approx(np.array([pixel]))


def test_the_middle_ray_of_an_odd_picture_looks_at_the_target():
    camera = look_at(np.array([0.0, -2.0, 0.0]), np.zeros(3), focal=50.0, size=(3, 3))
    assert camera.rays(range(1, 2), range(1, 2))[0, 0] == pytest.approx([0, 1, 0])


def test_rays_pass_through_pixel_centres():
    camera = look_at(np.array([0.3, -0.8, 0.5]), np.zeros(3), focal=120.0, size=(196, 112), roll=0.04)
    ray = camera.rays(range(30, 31), range(17, 18))[0, 0]
    assert camera.project((camera.position + 1.7 * ray)[None]) == pytest.approx(np.array([[30.5, 17.5]]))


def test_roll_turns_the_picture():
    # Rolled by 90 degrees about the viewing direction, right in the picture is down in the world.
    camera = look_at(np.array([1.0, 0.0, 0.0]), np.zeros(3), focal=100.0, size=(200, 100), roll=np.pi / 2)
    assert camera.axes[0] == pytest.approx([0, 0, -1])


def test_right_and_away_on_the_table_are_horizontal_and_square():
    camera = look_at(np.array([1.0, 0.0, 0.7]), np.zeros(3), focal=100.0, size=(200, 100))
    assert camera.right_on_table == pytest.approx([0, 1, 0])
    assert camera.away_on_table == pytest.approx([-1, 0, 0])


def test_a_margin_keeps_pixels_away_from_the_edges():
    inside = np.array([[3.0, 3.0], [197.0, 97.0]])
    assert FACING.contains(inside, margin=3)
    assert not FACING.contains(inside, margin=3.5)
    assert not FACING.contains(np.array([[-0.1, 50.0]]))
