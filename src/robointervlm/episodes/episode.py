"""Episodes: what was seen over time, and every intermediate representation of each frame.

All coordinates are pixels of the stored image, continuous: x to the right, y down, the image covers [0, width] x
[0, height]. A box around the pixels of columns 3 to 5 therefore has x1 = 3 and x2 = 6.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.coordinates import ImageSize, Point

Skill = Literal["place", "pick", "push"]


@dataclass(frozen=True)
class ThingView:
    """One thing, or the gripper, as one frame shows it.

    ``box`` encloses the pixels that show it and is None if none does. ``amodal_box`` encloses all of it, as if nothing
    stood in front, cut at the image's edges; None if it is wholly outside. ``visible_share`` is the share of its
    pixels, those beyond the image's edges included, that show it; ``inside_share`` the share that lies inside them.
    """

    box: Box | None
    amodal_box: Box | None
    visible_share: float
    inside_share: float


@dataclass(frozen=True)
class Frame:
    """One moment of an episode.

    ``index`` counts the episode's time steps; frames are a selection of them. ``picture`` is uint8 (height, width, 3)
    or the path of an image file. ``trace`` is where the gripper's tool centre point will go: ten points evenly spaced
    along its remaining way in the image, the first one where it is now, the last one where the episode ends.
    ``touching`` tells whether the fingers are in contact with a thing at this moment.

    What a recording does not say is None (no ``things``: an empty dict), and then nothing is asked about it.
    """

    index: int
    picture: NDArray[np.uint8] | Path
    things: dict[str, ThingView]
    gripper: ThingView | None
    tool_point: Point | None
    trace: Trajectory | None
    touching: bool | None
    subtask: str | None
    primitive: str | None


@dataclass(frozen=True)
class Segment:
    """The time steps ``first`` to ``last``, both included, in which one subtask is done by one primitive.

    ``trace`` is the gripper's way during it: ten points evenly spaced, as `Frame.trace`; None if unknown.
    """

    first: int
    last: int
    subtask: str
    primitive: str
    trace: Trajectory | None = None


@dataclass(frozen=True)
class Episode:
    """A manipulation with its labels.

    ``target`` is the thing the instruction is about. ``failure`` names what went wrong and is None for a success.

    Contact and end are facts of the whole episode and hold for all of its frames, since the camera does not move.
    ``contact_index`` is the first time step in which the fingers touch a thing, ``release_index`` the first one after
    the last touch (the number of steps if the thing is still held at the end). ``contact_points`` are the pixels where
    the two fingers touch at ``contact_index``, the left one first; ``contact_box`` encloses the gripper at that moment,
    as the published data defines it, hidden parts included. ``final_box`` encloses the whole target at the end, hidden
    parts included. The ``inside_share`` of each is the share of its area that lies inside the picture.
    They are None if they do not happen, happen to another thing than the target, or, for the end, in a failure.
    ``palm_point`` is the pixel of the middle of the hand at ``contact_index``, from which the fingers reach.

    ``segments`` are the subtasks in order, which together are all time steps. ``movable`` names the things in sight
    that the instruction might as well have been about, the target among them; ``absent`` such as are not there.
    ``quality`` is what annotators said of a kind of label (`gripper_box`: `Primary`); labels of lower quality are not
    asked about. A recording that does not know one of all these says None, or leaves it empty.
    """

    id: str
    source: str
    seed: int
    number: int
    image_size: ImageSize
    instruction: str
    skill: Skill | None
    target: str | None
    success: bool | None
    failure: str | None
    contact_index: int | None
    contact_points: Points | None
    contact_box: Box | None
    contact_inside_share: float
    release_index: int | None
    final_box: Box | None
    final_inside_share: float
    steps: int
    frames: tuple[Frame, ...]
    palm_point: Point | None = None
    segments: tuple[Segment, ...] = ()
    movable: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    quality: dict[str, str] = field(default_factory=dict)


def as_json(episode: Episode, pictures: list[str]) -> dict[str, Any]:
    """The episode as plain JSON values; pictures by path, coordinates with two decimals."""
    fields = asdict(episode)
    for frame, path in zip(fields["frames"], pictures, strict=True):
        frame["picture"] = path
    plain: dict[str, Any] = _plain(fields)
    return plain


def _plain(value: Any) -> Any:
    match value:
        case dict():
            if value.keys() == {"x1", "y1", "x2", "y2"}:
                return [_plain(value["x1"]), _plain(value["y1"]), _plain(value["x2"]), _plain(value["y2"])]
            if value.keys() == {"points"}:
                return _plain(value["points"])
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return round(value, 2)
        case _:
            return value
