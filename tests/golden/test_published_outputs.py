"""Raw answers that other projects publish with their prompts: every one is read."""

import json
from pathlib import Path

import pytest

from robointervlm.core.answer import Box, Trajectory
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.reading import read_box, read_points, read_text, read_trajectory, read_yes_no

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "robobrain_demo" / "published_text_samples.json"
UNIT = Space(CoordinateFormat.UNIT, ImageSize(1000, 500))
PIXELS = Space.pixels(ImageSize(640, 640))


@pytest.fixture(scope="module")
def samples():
    if not SAMPLES.exists():
        pytest.skip(f"{SAMPLES} is not there: it comes with the shared folder of the project")
    return json.loads(SAMPLES.read_text(encoding="utf-8"))


def outputs(samples, word):
    """The outputs of a kind, by the name of the picture."""
    return [item["output"] for item in samples["robobrain_published_io"]["items"] if word in item["image"]]


def test_published_boxes_are_read(samples):
    first, second, pixels = outputs(samples, "affordance")
    assert read_box(first, UNIT).answer == Box(733, 79, 845, 131.5)
    assert read_box(second, UNIT).answer == Box(600, 63.5, 692, 113.5)
    assert read_box(pixels, PIXELS).answer == Box(577, 224, 638, 310)
    assert [read_box(text, PIXELS).answer for text in outputs(samples, "grounding")] == [Box(0, 193, 226, 640)]


def test_published_points_and_trajectories_are_read(samples):
    points = [read_points(text, PIXELS).answer for text in outputs(samples, "point")]
    assert [len(answer.points) for answer in points] == [10]
    paths = [read_trajectory(text, PIXELS).answer for text in outputs(samples, "trajectory")]
    assert paths[0] == Trajectory(((137, 116), (169, 94), (208, 84), (228, 80)))
    assert [len(path.points) for path in paths] == [4, 4, 4]


def test_published_yes_no_and_planning_answers_are_read(samples):
    answers = {kind: answer for kind, _, answer in samples["robovqa_sample_1"]["items"]}
    assert read_yes_no(answers["<task:success:discrete:False>"]).answer.yes is False
    assert read_yes_no(answers["<task:affordance:discriminative:discrete:True>"]).answer.yes is True
    plan = answers["<task:remaining5_planning_with_context20:freeform>"]
    assert read_text(plan).answer.text == plan
