"""An episode laid out by hand, of which every kind of question can be asked; and which questions thinning keeps."""

from dataclasses import replace

import numpy as np

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.coordinates import ImageSize
from robointervlm.episodes.assemble import Thinning
from robointervlm.episodes.episode import Episode, Frame, Segment, ThingView

OBJECTS = ("red cube", "blue ball", "green brick", "yellow cylinder")
# Time steps of each subtask, as the simulated arm does them.
PLACE = (
    ("move to the red cube", "reach", 9),
    ("grasp the red cube", "grasp", 3),
    ("lift the red cube", "lift", 5),
    ("move the red cube to the white plate", "move", 6),
    ("put the red cube on the white plate", "place", 4),
    ("release the red cube", "release", 3),
    ("move away", "retreat", 4),
)


def view(x, y, half=10):
    box = Box(x - half, y - half, x + half, y + half)
    return ThingView(box, box, 1.0, 1.0)


def way(*corners):
    """Ten points along a way in the picture."""
    corners = np.array(corners, dtype=float)
    shares = np.linspace(0, len(corners) - 1, 10)
    x, y = (np.interp(shares, range(len(corners)), corners[:, axis]) for axis in (0, 1))
    return Trajectory(tuple(zip(x.tolist(), y.tolist(), strict=True)))


THINGS = {
    "red cube": view(60, 80), "blue ball": view(20, 95), "green brick": view(100, 90), "yellow cylinder": view(170, 60),
    "white plate": view(140, 90, 15),
}  # fmt: skip


def frame(index, start=(100.0, 40.0), *, touching=False):
    trace = way(start, (60, 76), (60, 50), (140, 50), (140, 80))
    return Frame(
        index, np.full((112, 196, 3), 120, np.uint8), THINGS, view(start[0], start[1] - 20, 14), start, trace,
        touching, "move to the red cube", "reach",
    )  # fmt: skip


def segments(steps):
    made, first = [], 0
    for subtask, primitive, length in steps:
        made.append(Segment(first, first + length - 1, subtask, primitive, way((60, 76), (60, 40), (100, 40))))
        first += length
    return tuple(made)


PLACED = Episode(
    id="sim_s0_0000001", source="sim", seed=0, number=1, image_size=ImageSize(196, 112),
    instruction="Put the red cube on the white plate", skill="place", target="red cube", success=True, failure=None,
    contact_index=11, contact_points=Points(((52.0, 80.0), (68.0, 80.0))), contact_box=Box(46, 40, 74, 84),
    contact_inside_share=1.0, release_index=30, final_box=Box(130, 70, 150, 90), final_inside_share=1.0, steps=34,
    frames=(frame(0), frame(4, (80.0, 50.0)), frame(14, (60.0, 60.0), touching=True)), palm_point=(60.0, 60.0),
    segments=segments(PLACE), movable=OBJECTS, absent=("orange cube", "orange ball", "purple cube", "purple brick"),
)  # fmt: skip


def numbered(number, **changes):
    """The same episode under another number, and so with other random choices."""
    return replace(PLACED, number=number, id=f"sim_s0_{number:07d}", **changes)


def balanced(wanted):
    """Which of these questions a `Thinning` keeps."""
    thinning = Thinning()
    for item in wanted:
        thinning.count(item)
    return [thinning.keeps(item) for item in wanted]
