"""Which columns of a recording mean what: a YAML file, nothing of which is guessed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from robointervlm.core.coordinates import ImageSize
from robointervlm.settings.explained import checked
from robointervlm.settings.yaml_files import read_yaml

ROBOINTER = Path(__file__).parent / "mappings" / "robointer.yaml"


def _pattern(text: str) -> str:
    try:
        names = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if "target" not in names:
        raise ValueError("has no group (?P<target>…)")
    return text


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Section):
    """A column, how its cells are stored, and the column with what annotators thought of it."""

    column: str
    stored: Literal["plain", "json", "pickle"] = "plain"
    quality: str | None = None


class Places(Column):
    """A column of coordinates.

    ``size`` is the size (width, height) that pictures had when they were written, by default that of the video.
    ``inclusive``: the second corner of a box is the last pixel, not the edge behind it. ``use`` are the numbers of the
    points to take of each cell, where not all are meant; a box then encloses them.
    """

    coordinates: Literal["pixel", "unit", "per_mille"]
    size: ImageSize | None = None
    corners: Literal["xyxy", "xywh"] = "xyxy"
    inclusive: bool = False
    use: tuple[int, ...] | None = None


class Detections(Places):
    """A column with a table of boxes in each cell (an array of records, or a list of objects), and how to find one.

    ``box`` are the four fields of a row, ``label`` the field that is looked up in the column ``names``, whose cells are
    {label: {name_field: name}}; the row whose name is the cell of ``wanted`` is the one. ``occluded`` is the field with
    the share that something else hides; below 0 it is unknown.
    """

    box: tuple[str, str, str, str]
    label: str
    names: Column
    name_field: str
    wanted: Column
    occluded: str | None = None


class Touching(Column):
    """A column that tells whether the fingers touch something: they do where its first number is ``above``."""

    above: float


class Phase(_Section):
    """What is done in one phase, and whether the fingers touch the object in it; undecided if not said."""

    subtask: str
    primitive: str
    touching: bool | None = None


class Phases(_Section):
    """Where the episode's metadata says when each phase begins ({name: first frame}), and what its phases are."""

    begins: str
    steps: dict[str, Phase] = Field(min_length=1)


class Mapping(_Section):
    """What of a recording means what; whatever is left out is not known, and not asked about.

    ``channels``: `bgr` for LMDB episodes whose pictures were encoded with red and blue exchanged.
    """

    source: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    licence: str | None = None
    camera: str | None = None
    moving_camera: bool = False
    channels: Literal["rgb", "bgr"] = "rgb"
    success: bool | Column | None = None
    accepted_quality: tuple[str, ...] = ("Primary",)
    instruction: Column | None = None
    names: Annotated[str, AfterValidator(_pattern)] | None = None
    object_name: str | None = None
    object_box: Places | Detections | None = None
    place_box: Places | Detections | None = None
    final_box: Places | None = None
    gripper_box: Places | Detections | None = None
    contact_frame: Column | None = None
    contact_box: Places | None = None
    contact_points: Places | None = None
    trace: Places | None = None
    tool_point: Places | None = None
    touching: Touching | None = None
    subtask: Column | None = None
    primitive: Column | None = None
    phases: Phases | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        found: list[str] = []
        for name in type(self).model_fields:
            found += _columns(getattr(self, name))
        return tuple(dict.fromkeys(found))


def _columns(value: Any) -> list[str]:
    if not isinstance(value, Column):
        return []
    inner = [value.names, value.wanted] if isinstance(value, Detections) else []
    named = [value.column, *([value.quality] if value.quality else [])]
    return named + [name for column in inner for name in _columns(column)]


def read_mapping(file: Path) -> Mapping:
    """The mapping in a YAML file; a `RecipeError` says what is wrong with it."""
    return checked(Mapping, read_yaml(file, "mapping"), source=f"mapping {file}")
