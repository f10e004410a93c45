import json

import numpy as np
import pytest

from robointervlm.core.coordinates import ImageSize
from robointervlm.episodes.episode import as_json
from robointervlm.episodes.sim.simulate import SimConfig, simulate


def width(box):
    return box.x2 - box.x1


def overlap(one, other):
    across = min(one.x2, other.x2) - max(one.x1, other.x1)
    down = min(one.y2, other.y2) - max(one.y1, other.y1)
    return max(0, across) * max(0, down)


def test_the_same_numbers_give_the_same_episode_to_the_pixel():
    one, two = (simulate(3, 5, SimConfig(frames=2)) for _ in range(2))
    assert as_json(one, ["", ""]) == as_json(two, ["", ""])
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(one.frames, two.frames, strict=True))


@pytest.mark.parametrize("seed, number", [(3, 6), (4, 5)])
def test_another_seed_or_number_gives_another_episode(seed, number):
    pictures = [simulate(*key, SimConfig(frames=2)).frames[0].picture for key in ((3, 5), (seed, number))]
    assert not np.array_equal(*pictures)


def test_four_of_six_frames_come_before_contact_and_one_touches(successes):
    for episode in successes:
        indices = [frame.index for frame in episode.frames]
        assert indices == sorted(set(indices))
        assert len(indices) == 6
        assert sum(index < episode.contact_index for index in indices) == 4
        assert any(frame.touching for frame in episode.frames)


def test_touching_frames_are_those_between_contact_and_release(successes):
    for episode in successes:
        for frame in episode.frames:
            assert frame.touching == (episode.contact_index <= frame.index < episode.release_index)


def test_a_trace_starts_where_the_gripper_is_now(successes):
    for episode in successes:
        for frame in episode.frames:
            assert len(frame.trace.points) == 10
            assert frame.trace.points[0] == pytest.approx(frame.tool_point)


def test_all_traces_of_an_episode_end_in_one_place(successes):
    for episode in successes:
        ends = np.array([frame.trace.points[-1] for frame in episode.frames])
        assert np.ptp(ends, axis=0).max() < 1e-9


def test_the_gripper_box_holds_the_tool_point_but_for_a_few_pixels(successes):
    # The tool centre point lies between the fingertips, 12 mm above their ends.
    for frame in (frame for episode in successes for frame in episode.frames):
        box, (x, y) = frame.gripper.amodal_box, frame.tool_point
        assert box.x1 - 1 <= x <= box.x2 + 1
        assert box.y1 - 1 <= y <= box.y2 + 1


def test_the_contact_box_is_the_grippers_at_contact(successes):
    # As published: "the bounding box of the gripper at the moment of contact". A frame of that very moment shows it.
    frames = [(e, f) for e in successes for f in e.frames if f.index == e.contact_index]
    assert frames
    for episode, frame in frames:
        assert episode.contact_box == frame.gripper.amodal_box
        assert episode.contact_inside_share == frame.gripper.inside_share


def test_the_contact_box_holds_both_contact_points_and_meets_the_target(successes):
    for episode in successes:
        box = episode.contact_box
        for x, y in episode.contact_points.points:
            assert box.x1 - 1 <= x <= box.x2 + 1
            assert box.y1 - 1 <= y <= box.y2 + 1
        assert overlap(box, episode.frames[0].things[episode.target].amodal_box) > 0


def test_contact_points_come_left_one_first(successes):
    for episode in successes:
        (first, _), (second, _) = episode.contact_points.points
        assert first <= second


def test_objects_are_large_enough_to_be_recognised(successes):
    for episode in successes:
        for name, thing in episode.frames[0].things.items():
            box = thing.amodal_box
            assert min(width(box), box.y2 - box.y1) >= 12, name


def test_the_gripper_is_seen_in_every_frame(successes):
    for frame in (frame for episode in successes for frame in episode.frames):
        assert frame.gripper.box is not None
        assert frame.gripper.inside_share > 0.4
        assert width(frame.gripper.box) >= 12


def test_a_failure_is_labelled_and_has_no_final_box(failures):
    for episode in failures:
        assert not episode.success
        assert episode.failure in {"missed_grasp", "early_release", "wrong_object", "missed_push"}
        assert episode.final_box is None


def test_contact_labels_of_a_failure_are_those_of_the_target_only(failures):
    kinds = {episode.failure: episode for episode in failures}
    assert kinds["missed_grasp"].contact_index is None
    assert kinds["wrong_object"].contact_index is not None
    assert kinds["wrong_object"].contact_box is None
    assert kinds["early_release"].contact_box is not None


def test_a_failure_share_of_zero_gives_successes_only(successes):
    assert all(episode.success and episode.failure is None for episode in successes)


def test_every_intermediate_representation_is_written_out(successes):
    episode = successes[0]
    row = json.loads(json.dumps(as_json(episode, [f"{frame.index}.png" for frame in episode.frames])))
    assert row["image_size"] == [196, 112]
    assert len(row["contact_points"]) == 2
    assert len(row["final_box"]) == len(row["contact_box"]) == 4
    frame = row["frames"][0]
    assert set(frame) == {
        "index", "picture", "things", "gripper", "tool_point", "trace", "touching", "subtask", "primitive",
    }  # fmt: skip
    assert set(frame["things"][episode.target]) == {"box", "amodal_box", "visible_share", "inside_share"}
    assert len(frame["trace"]) == 10


def test_pictures_have_the_size_asked_for():
    episode = simulate(0, 0, SimConfig(ImageSize(320, 180), frames=2))
    assert episode.frames[0].picture.shape == (180, 320, 3)


def test_objects_take_the_colours_asked_for_and_no_others():
    for number in range(4):
        episode = simulate(11, number, SimConfig(frames=2, colours=("red", "blue")))
        objects = [name for name in episode.frames[0].things if name.split()[1] not in ("plate", "bowl", "tray")]
        assert sorted(name.split()[0] for name in objects) == ["blue", "red"]
