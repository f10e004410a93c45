"""A window of the picture is taken, and every coordinate goes along."""

from __future__ import annotations

import numpy as np
import pytest

from robointervlm.core.answer import Box, Points, Text, Trajectory
from robointervlm.core.sample import Place, Turn
from robointervlm.train.data.augment import augmented, augmented_together
from robointervlm.train.recipe import AugmentSection

WIDTH, HEIGHT = 320, 180
QUESTION = ("<image>\nWhere is the cup?",)


def picture(box: Box) -> np.ndarray:
    """A grey picture with a red rectangle."""
    made = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    made[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = (255, 0, 0)
    return made


def redness(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 200) & (pixels[..., 1] < 60)


def varied(turns, seed=0, *, crop_min=0.5, brightness=0.0, pixels=None):
    settings = AugmentSection(crop_min=crop_min, brightness=brightness)
    pixels = pixels if pixels is not None else picture(Box(100, 60, 160, 120))
    return augmented(pixels, turns, settings, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(20))
def test_a_rectangle_stays_under_its_box(seed):
    box = Box(100, 60, 160, 120)
    pixels, (turn,) = varied((Turn(QUESTION, box),), seed)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    rows, columns = np.nonzero(redness(pixels))
    moved = turn.answer
    # A pixel or two are lost to the interpolation at the rectangle's edge.
    clipped = (max(moved.x1, 0), max(moved.y1, 0), min(moved.x2, WIDTH), min(moved.y2, HEIGHT))
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found == pytest.approx(clipped, abs=2.5)


def test_windows_differ_and_are_at_least_the_share_asked_for():
    widths = []
    for seed in range(30):
        _, (turn,) = varied((Turn(QUESTION, Box(100, 60, 160, 120)),), seed, crop_min=0.5)
        # A box of 60 pixels is enlarged by 1 / share, at most twice.
        widths.append(turn.answer.x2 - turn.answer.x1)
    assert 60 <= min(widths) < max(widths) <= 120.001
    assert len(set(widths)) > 20


def test_a_window_keeps_the_aspect():
    for seed in range(10):
        _, (turn,) = varied((Turn(QUESTION, Box(100, 60, 160, 120)),), seed)
        box = turn.answer
        assert box.x2 - box.x1 == pytest.approx(box.y2 - box.y1)


def test_points_paths_and_places_in_the_question_move_as_the_box_does():
    places = (Place(((100.0, 60.0),), "[{}, {}]"),)
    turns = (
        Turn(QUESTION, Box(100, 60, 160, 120)),
        Turn(("Two fingertips?",), Points(((100.0, 60.0), (160.0, 120.0)))),
        Turn(("The path from ", *places, "?"), Trajectory(((100.0, 60.0), (160.0, 120.0)))),
    )
    _, (box, points, path) = varied(turns, 3)
    corners = box.answer.corners
    assert points.answer.points == corners
    assert path.answer.points == corners
    assert path.question[1].points[0] == corners[0]
    assert path.question[1].pattern == "[{}, {}]"
    assert corners[0] != (100, 60)


def test_a_question_whose_place_is_cut_off_is_left_out():
    # Opposite corners at half the size never fit into one window.
    near, far = Box(2, 2, 20, 20), Box(300, 165, 318, 178)
    dropped = 0
    for seed in range(30):
        _, kept = varied((Turn(QUESTION, near), Turn(("And the plate?",), far)), seed, crop_min=0.5)
        for turn in kept:
            assert turn.answer.x1 >= -0.02 * WIDTH
            assert turn.answer.x2 <= 1.02 * WIDTH
        dropped += len(kept) == 1
    assert dropped > 0


def test_the_picture_stays_in_front_when_its_question_is_left_out():
    near, far = Box(2, 2, 20, 20), Box(300, 165, 318, 178)
    texts = set()
    for seed in range(60):
        _, kept = varied((Turn(QUESTION, near), Turn(("And the plate?",), far)), seed, crop_min=0.5)
        written = "".join(part for turn in kept for part in turn.question)
        assert written.count("<image>") == 1
        assert written.startswith("<image>")
        texts.add(written)
    assert "<image>\nAnd the plate?" in texts


def test_a_conversation_that_no_window_holds_keeps_the_whole_picture():
    box = Box(1, 1, 319, 179)
    pixels = picture(box)
    for seed in range(5):
        same, (turn,) = augmented(
            pixels, (Turn(QUESTION, box),), AugmentSection(crop_min=0.5), np.random.default_rng(seed)
        )
        if turn.answer == box:
            assert np.array_equal(same, pixels)


def test_without_a_place_the_whole_picture_is_the_evidence():
    turns = (Turn(QUESTION, Text("Yes")),)
    pixels, kept = varied(turns)
    assert np.array_equal(pixels, picture(Box(100, 60, 160, 120)))
    assert kept == turns


def test_the_same_generator_gives_the_same_variation():
    turns = (Turn(QUESTION, Box(100, 60, 160, 120)),)
    first, again, other = (varied(turns, seed, brightness=0.2) for seed in (4, 4, 5))
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert first[1] != other[1]


def test_augmentation_is_off_unless_asked_for():
    turns = (Turn(QUESTION, Box(100, 60, 160, 120)),)
    pixels, kept = augmented(picture(Box(100, 60, 160, 120)), turns, AugmentSection(), np.random.default_rng(0))
    assert np.array_equal(pixels, picture(Box(100, 60, 160, 120)))
    assert kept is turns


def test_brightness_moves_no_box():
    turns = (Turn(QUESTION, Box(100, 60, 160, 120)),)
    pixels, kept = varied(turns, crop_min=1.0, brightness=0.4)
    assert kept == turns
    assert not np.array_equal(pixels, picture(Box(100, 60, 160, 120)))
    # Gain within 1 +- 0.4, shift within +- 0.2 * 255: of 90 at most 177 is left, at least 3.
    assert 3 <= pixels[0, 0, 0] <= 177


def together(*answers, seed=0):
    """One question for each answer, all on one picture, cropped together."""
    conversations = [(Turn(QUESTION, answer),) for answer in answers]
    settings = AugmentSection(crop_min=0.5)
    grey = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    return augmented_together(grey, conversations, settings, np.random.default_rng(seed))


def test_conversations_about_one_picture_move_by_one_window():
    for seed in range(10):
        _, [(first,), (second,)] = together(Box(100, 60, 160, 120), Box(130, 60, 190, 120), seed=seed)
        zoom = (first.answer.x2 - first.answer.x1) / 60
        assert 1 <= zoom <= 2.001
        # Both boxes have the same size, the second stands 30 pixels to the right.
        assert second.answer.x1 - first.answer.x1 == pytest.approx(30 * zoom)
        assert second.answer.y1 == pytest.approx(first.answer.y1)


def test_no_conversation_about_one_picture_loses_its_place():
    for seed in range(30):
        _, kept = together(Box(10, 10, 60, 60), Box(200, 100, 260, 150), seed=seed)
        for (turn,) in kept:
            x1, y1, x2, y2 = (turn.answer.x1, turn.answer.y1, turn.answer.x2, turn.answer.y2)
            # 2 % of the picture is the margin.
            assert min(x1 + 0.02 * WIDTH, y1 + 0.02 * HEIGHT) >= 0
            assert x2 <= 1.02 * WIDTH
            assert y2 <= 1.02 * HEIGHT


def test_places_in_opposite_corners_leave_the_picture_whole():
    _, kept = together(Box(0, 0, 10, 10), Box(310, 170, 320, 180))
    assert [turn.answer for (turn,) in kept] == [Box(0, 0, 10, 10), Box(310, 170, 320, 180)]


def test_a_conversation_that_locates_nothing_keeps_the_picture_whole_for_all():
    for seed in range(10):
        _, kept = together(Box(100, 60, 160, 120), Text("Yes"), seed=seed)
        assert kept[0][0].answer == Box(100, 60, 160, 120)
