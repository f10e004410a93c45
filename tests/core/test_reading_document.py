"""Every example of docs/reading.md reads as the document says. The image is 640 x 480, the coordinates pixels."""

import re
from pathlib import Path

import pytest

from robointervlm.core.answer import Box, Choice, Points, Trajectory, Unparsed, YesNo
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.reading import read_box, read_choice, read_points, read_trajectory, read_yes_no

DOCUMENT = Path(__file__).parents[2] / "docs" / "reading.md"
PIXELS = Space.pixels(ImageSize(640, 480))
READERS = {
    "box": lambda text: read_box(text, PIXELS, "current_bbox"),
    "points": lambda text: read_points(text, PIXELS),
    "trajectory": lambda text: read_trajectory(text, PIXELS, "future_traj"),
    "choice": read_choice,
    "yes_no": read_yes_no,
}


def examples():
    blocks = re.findall(
        rf"^```({'|'.join(READERS)})\n(.*?)\n```$", DOCUMENT.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    for kind, block in blocks:
        for line in block.splitlines():
            text, said = line.rsplit(" => ", 1)
            yield kind, text.replace("\\n", "\n"), said


EXAMPLES = list(examples())


def said_of(reading):
    match reading.answer:
        case Unparsed(reason=reason):
            return reason
        case Box() as box:
            answer = " ".join(f"({x:g}, {y:g})" for x, y in box.corners)
        case Points(points) | Trajectory(points):
            answer = " ".join(f"({x:g}, {y:g})" for x, y in points)
        case Choice(letter):
            answer = letter
        case YesNo(yes):
            answer = "yes" if yes else "no"
    return ", ".join([answer, reading.tier, *reading.notes])


def test_the_document_has_examples_of_every_kind():
    counts = {kind: sum(1 for each, _, _ in EXAMPLES if each == kind) for kind in READERS}
    assert counts == {"box": 48, "points": 16, "trajectory": 13, "choice": 14, "yes_no": 18}


@pytest.mark.parametrize("kind, text, said", EXAMPLES)
def test_an_example_reads_as_the_document_says(kind, text, said):
    reading = READERS[kind](text)
    if isinstance(reading.answer, Unparsed):
        assert said in reading.answer.reason
    else:
        assert said_of(reading) == said
