import numpy as np
import pytest

from robointervlm.episodes.sim.plans import PUSH, draw_failure, draw_plan
from robointervlm.episodes.sim.scene import Scene, draw_camera, draw_look, draw_things
from robointervlm.episodes.sim.skills import LIFT, perform


def motions(skill, failure=None, count=6, seed=3):
    """Scenes with performed plans of one kind."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        camera = draw_camera(rng, (196, 112))
        things = draw_things(rng, camera, objects=3, containers=1)
        if things is None:
            continue
        scene = Scene(things, camera, draw_look(rng, camera))
        plan = draw_plan(rng, scene, skill, failure)
        motion = perform(rng, scene, plan) if plan else None
        if motion:
            found.append((scene, motion))
    return found


@pytest.fixture(scope="module")
def places():
    return motions("place")


@pytest.fixture(scope="module")
def pushes():
    return motions("push")


def ends(motion):
    return np.array(motion.plan.handled.position), motion.steps[-1].thing


def test_things_in_a_scene_have_different_colours_and_keep_apart(places):
    for scene, _ in places:
        assert len({thing.colour for thing in scene.things}) == len(scene.things) == 4
        for one in scene.things:
            for other in scene.things:
                apart = np.hypot(*np.subtract(one.position, other.position)[:2])
                assert one is other or apart >= one.radius + other.radius + 0.025


def test_a_placed_thing_stands_in_the_middle_of_its_goal(places):
    for _, motion in places:
        _, end = ends(motion)
        goal = motion.plan.goal
        assert end[:2] == pytest.approx(goal.position[:2])
        assert end[2] == pytest.approx(goal.floor + motion.plan.handled.size[2])


def test_a_held_thing_moves_with_the_gripper(places):
    for _, motion in places:
        held = [step for step in motion.steps if step.touching]
        grips = np.array([step.thing - step.tcp for step in held])
        assert np.ptp(grips, axis=0).max() < 1e-12


def test_fingers_close_to_the_width_of_what_they_hold(places):
    for _, motion in places:
        assert motion.steps[motion.contact].opening == pytest.approx(motion.plan.handled.size[0])
        assert motion.steps[motion.contact - 1].opening > motion.plan.handled.size[0]


def test_a_picked_thing_ends_in_the_fingers_at_a_fixed_height():
    for _, motion in motions("pick"):
        start, end = ends(motion)
        assert end - start == pytest.approx([0, 0, LIFT])
        assert motion.release == len(motion.steps)


def test_a_push_goes_the_way_the_instruction_says_as_seen_in_the_picture(pushes):
    for scene, motion in pushes:
        before, after = scene.camera.project(np.array(ends(motion)))[:, 0]
        assert (after > before) == (motion.plan.side == "right")
        assert motion.plan.instruction.endswith(f"to the {'right' if after > before else 'left'}")


def test_a_pushed_thing_slides_a_fixed_way(pushes):
    for _, motion in pushes:
        start, end = ends(motion)
        assert np.linalg.norm(end - start) == pytest.approx(PUSH)
        assert end[2] == start[2]


def test_a_thing_does_not_move_before_contact(places, pushes):
    for _, motion in places + pushes:
        for step in motion.steps[: motion.contact]:
            assert step.thing == pytest.approx(motion.plan.handled.position)


@pytest.mark.parametrize(
    "skill, failure", [("place", "missed_grasp"), ("pick", "missed_grasp"), ("push", "missed_push")]
)
def test_what_is_missed_is_never_touched_and_stays(skill, failure):
    for _, motion in motions(skill, failure, count=3):
        start, end = ends(motion)
        assert motion.contact is None
        assert end == pytest.approx(start)


def test_what_is_released_early_lies_on_the_table_and_not_in_the_goal():
    for _, motion in motions("place", "early_release", count=3):
        _, end = ends(motion)
        goal = motion.plan.goal
        assert end[2] == pytest.approx(motion.plan.handled.size[2])
        assert np.hypot(*(end[:2] - goal.position[:2])) > goal.radius


def test_a_lifted_thing_released_early_is_back_where_it_was():
    for _, motion in motions("pick", "early_release", count=3):
        start, end = ends(motion)
        assert end == pytest.approx(start)
        assert motion.contact < motion.release < len(motion.steps)


def test_a_wrong_object_is_another_one_than_the_instruction_names():
    for _, motion in motions("pick", "wrong_object", count=3):
        assert motion.plan.handled.name != motion.plan.target.name
        assert motion.plan.instruction == f"Pick up the {motion.plan.target.name}"


def test_failures_of_a_skill_are_equally_frequent():
    rng = np.random.default_rng(0)
    kinds = [draw_failure(rng, "place") for _ in range(900)]
    for kind in ("missed_grasp", "early_release", "wrong_object"):
        assert 250 < kinds.count(kind) < 350
