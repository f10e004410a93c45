import numpy as np
import pytest
from sim_stages import cube, stage_with

from robointervlm.core.errors import DataError
from robointervlm.episodes.sim.arm import OutOfReachError, pointing_down
from robointervlm.episodes.sim.stage import Pose

POSES = [
    (x, y, z, yaw)
    for x, y in ((0.38, 0.0), (0.5, 0.25), (0.5, -0.25), (0.65, 0.1))
    for z in (0.02, 0.25)
    for yaw in (-1.5, 0.0, 1.5)
]


def posed(x, y, z, yaw, opening=0.03):
    stage = stage_with(cube("red", (0.9, 0.5, 0.1)))
    stage.pose(Pose(np.array([x, y, z]), yaw, opening, {}))
    return stage


@pytest.mark.parametrize("pose", POSES)
def test_the_fingers_reach_every_place_of_the_table_from_above(pose):
    stage = posed(*pose)
    site = stage.data.site("tcp")
    assert site.xpos == pytest.approx(pose[:3], abs=1e-4)
    assert site.xmat.reshape(3, 3) == pytest.approx(pointing_down(pose[3]), abs=2e-3)


def test_joints_stay_inside_their_limits():
    stage = posed(0.5, 0.25, 0.02, 1.5)
    low, high = stage.model.jnt_range[:7].T
    assert np.all(low <= stage.data.qpos[:7])
    assert np.all(stage.data.qpos[:7] <= high)


def test_a_place_out_of_reach_is_an_error_that_names_it():
    with pytest.raises(OutOfReachError, match=r"1\.2.*0\.3 to 0\.7 m"):
        posed(1.2, 0.0, 0.1, 0.0)
    assert issubclass(OutOfReachError, DataError)


def test_the_fingertips_faces_are_twice_the_opening_apart():
    stage = posed(0.5, 0.0, 0.1, 0.0, opening=0.03)
    # Fingertips are 1.3 cm thick, so their middles are 2 * (0.03 + 0.0065) m apart.
    gap = stage.data.geom("left_tip").xpos - stage.data.geom("right_tip").xpos
    assert np.linalg.norm(gap) == pytest.approx(0.073, abs=1e-6)


def test_the_hand_opens_along_the_direction_its_turn_says():
    stage = posed(0.5, 0.0, 0.1, np.pi / 2)
    gap = stage.data.geom("left_tip").xpos - stage.data.geom("right_tip").xpos
    assert np.abs(gap) == pytest.approx([0.073, 0, 0], abs=1e-3)
