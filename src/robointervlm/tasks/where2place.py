"""Where2Place: points in the free space that a sentence describes, right where they lie inside a mask.

The headline is the published number (Yuan et al. 2024, RoboPoint): the share of an answer's points that are inside, in
the mean over the questions. A model that names many points is not rewarded for hitting once; "first point inside" asks
of every model the same: one place.
"""

from __future__ import annotations

import re
from dataclasses import replace

from robointervlm.core.answer import Answer, Box, Points, Region
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.reading import Reading, read_box, read_points
from robointervlm.core.reading.numbers import NUMBER
from robointervlm.core.reading.text import answer_part
from robointervlm.core.writing import write_answer
from robointervlm.metrics.points import points_inside, share_inside
from robointervlm.tasks.styles import POINTING
from robointervlm.tasks.task import Metric, Task

# Four numbers in one bracket are a box; two pairs, each in its own, are two points.
_BOX = re.compile(
    rf"<(?:\|box_start\||box|bbox)>|[\[(]\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+,\s*+{NUMBER}\s*+[\])]"
    r"|[\"']?bbox|[\"']box[\"']"
)


def _reading(text: str, space: Space | None) -> Reading:
    """Points; of an answer that is a box, its centre, with the note "centre of a box"."""
    if _BOX.search(answer_part(text).text):
        reading = read_box(text, space)
        if isinstance(reading.answer, Box):
            box = reading.answer
            centre = ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2)
            return replace(reading, answer=Points((centre,)), notes=(*reading.notes, "centre of a box"))
    return read_points(text, space)


def _share(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Points)
    assert isinstance(reference, Region)
    return share_inside(predicted.array, reference.mask)


def _first(predicted: Answer, reference: Answer, _image: ImageSize | None) -> float:
    assert isinstance(predicted, Points)
    assert isinstance(reference, Region)
    return float(points_inside(predicted.array[:1], reference.mask)[0])


TASKS = (
    Task(
        name="where2place",
        reading=_reading,
        write=write_answer,
        metrics=(
            Metric("Inside", "higher", _share, "share", worst=0.0),
            Metric("First inside", "higher", _first, "share", worst=0.0),
        ),
        file_stems=("where2place", "point_questions"),
        max_new_tokens=256,
        column="Where2Place",
        wordings=POINTING,
    ),
)
