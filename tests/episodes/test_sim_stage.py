import numpy as np
import pytest

from robointervlm.episodes.sim.simulate import SimConfig, pose_of, take
from robointervlm.episodes.sim.stage import Stage


def posed(number):
    taken = take(5, number, SimConfig(frames=2))
    stage = Stage(taken.scene)
    stage.pose(pose_of(taken.motion, 0))
    return stage


def test_a_ray_that_meets_a_turned_tray_at_its_edge_does_not_go_through_it():
    # MuJoCo 3.10 to 3.17 let these four rays pass to the table, 3 cm behind the tray's wall, when cast together.
    stage = posed(3)
    camera = stage.scene.camera
    hits = stage.cast(camera.position, camera.rays(range(99, 100), range(66, 70)).reshape(-1, 3))
    assert np.isin(hits.geom, stage.geoms_of("pink tray")).all()
    assert hits.distance == pytest.approx([1.01702, 1.01919, 1.02138, 1.02360], abs=1e-5)


@pytest.mark.parametrize("number", [0, 3, 6])
def test_rays_cast_together_meet_what_each_meets_alone(number):
    stage = posed(number)
    camera = stage.scene.camera
    directions = camera.rays(range(0, camera.width, 2), range(0, camera.height, 2)).reshape(-1, 3)
    together = stage.cast(camera.position, directions)
    meets = np.zeros(1, np.int32)
    for place, direction in enumerate(directions):
        distance = stage.mujoco.mj_ray(stage.model, stage.data, camera.position, direction, None, True, -1, meets)
        assert (meets[0], distance) == (together.geom[place], pytest.approx(together.distance[place], abs=1e-9))
