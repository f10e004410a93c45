"""An answer type of one's own: a direction, drawn as a line through the middle of the picture."""

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from robointervlm.core.answer import Answer, json_number, keyed
from robointervlm.core.metric import Metric
from robointervlm.core.reading.text import Reading, unread
from robointervlm.core.shapes import Line
from robointervlm.core.writing import write_answer
from robointervlm.tasks import Task


@dataclass(frozen=True)
class Needle(Answer):
    """A direction in degrees; 0 is to the right, 90 up."""

    key: ClassVar[str] = "needle"
    degrees: float

    def to_json(self):
        return self.degrees

    @classmethod
    def from_json(cls, value):
        return cls(json_number(value, "direction"))

    @classmethod
    def read(cls, text, _space=None, *, key=""):
        found = re.search(r"-?\d+", text)
        return unread(text, "there is no number") if found is None else Reading(cls(float(found[0])), "mention")

    def written(self, space, key):
        return keyed(key, f"{self.degrees:g}")

    def shapes(self, image):
        width, height = image
        x, y = math.cos(math.radians(self.degrees)), -math.sin(math.radians(self.degrees))
        reach, middle = height / 4, (width / 2, height / 2)
        return (Line((middle, (middle[0] + reach * x, middle[1] + reach * y))),)

    def counted(self, image):
        yield "quadrants", int(self.degrees % 360 // 90)


def _turn(predicted, reference, _image):
    return abs((predicted.degrees - reference.degrees + 180) % 360 - 180)


Needle.metrics = (Metric("Turn", "lower", _turn, "deg", worst=180.0),)

TASKS = (
    Task(
        name="needle",
        reading=partial(Needle.read, key="needle"),
        write=partial(write_answer, key="needle"),
        metrics=Needle.metrics,
    ),
)
