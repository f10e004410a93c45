import numpy as np
import pytest
from sim_stages import cube, stage_with

from robointervlm.core.answer import Box
from robointervlm.episodes.sim import labels
from robointervlm.episodes.sim.render import render

RED = cube("red", (0.5, 0.0, 0.3))


def seen(stage, name):
    return labels.view(stage, stage.geoms_of(name), render(stage).geom)


def test_a_cubes_box_is_its_front_face():
    # The face at x = 0.6 is 1 m away and 0.2 m wide: 20 pixels about the middle (100, 50); the rest hides behind it.
    view = seen(stage_with(RED), "red cube")
    assert view.box == view.amodal_box == Box(90, 40, 110, 60)
    assert view.visible_share == 1.0


def test_a_thing_hidden_by_half_keeps_its_amodal_box():
    # A second cube in front, to the right: its face is 0.5 m away and begins at y = 0, that is at x = 100.
    blocker = cube("blue", (1.0, 0.1, 0.3))
    view = seen(stage_with(RED, blocker), "red cube")
    assert view.box == Box(90, 40, 100, 60)
    assert view.amodal_box == Box(90, 40, 110, 60)
    assert view.visible_share == 0.5


def test_a_thing_cut_by_the_picture_tells_how_much_is_inside():
    # 1 m to the right is pixel 200, the picture's edge: the left half of the face is inside.
    view = seen(stage_with(cube("red", (0.5, 1.0, 0.3))), "red cube")
    assert view.amodal_box is not None
    assert (view.amodal_box.x2, view.amodal_box.y1, view.amodal_box.y2) == (200, 40, 60)
    # Its left side, from 0.9 m at 1 m to 0.9 m at 1.2 m (pixel 175), is seen as well: 25 of 35 columns are inside.
    assert view.inside_share == pytest.approx(25 / 35, abs=0.04)
    assert view.visible_share == pytest.approx(view.inside_share)


def test_a_thing_outside_the_picture_has_no_box():
    view = seen(stage_with(cube("red", (0.5, 1.6, 0.3))), "red cube")
    assert (view.box, view.amodal_box) == (None, None)
    assert (view.visible_share, view.inside_share) == (0.0, 0.0)


def test_a_mask_box_has_exclusive_far_edges():
    mask = np.zeros((6, 9), dtype=bool)
    mask[2, 3:6] = True
    assert labels.mask_box(mask) == Box(3, 2, 6, 3)
    assert labels.mask_box(mask, left=10, top=20) == Box(13, 22, 16, 23)
    assert labels.mask_box(mask & False) is None


def test_a_trace_is_ten_points_evenly_spaced_along_the_way():
    # 3 to the right, then 6 down: 9 pixels, one for each of the nine gaps.
    trace = labels.future_trace(np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 6.0]]))
    assert trace.points == (
        (0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5), (3, 6),
    )  # fmt: skip


def test_a_trace_counts_way_and_not_time():
    slow = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
    assert labels.future_trace(slow).array[:, 0] == pytest.approx(range(10))


def test_a_finished_motion_has_a_trace_that_stays():
    assert set(labels.future_trace(np.array([[4.0, 5.0]])).points) == {(4.0, 5.0)}
