"""Which datasets there are and where they lie: data in YAML files, not code.

A catalog file maps names to entries. Its paths are relative to one data root (`ROBOINTER_DATA`, or `data.root=` in a
recipe), or to the folder of the file itself where it says `root: .`. `{format}` inside a path stands for the published
name of the coordinate format, and `name@llava_format` asks for an entry in another format than its own.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.data.episode_frames import DEFAULT_CAMERA
from robointervlm.settings.explained import checked
from robointervlm.settings.yaml_files import read_yaml

ROOT_VARIABLE = "ROBOINTER_DATA"
_BUILT_IN = Path(__file__).parent / "catalog"
_FORMAT = "{format}"

# What a record of another project may be asked for; see `data.third_party`.
FIELDS = ("id", "image", "question", "answer", "box", "mask", "width", "height")

Coordinates = Literal["pixel", "unit", "per_mille", "resized", "origin_format", "llava_format", "smart_resize_format"]
Split = Literal["train", "val", "test"]

# The folder each format is published under; 0-1000 is not published and has none of its own.
_FOLDERS = {
    CoordinateFormat.PIXEL: "origin_format",
    CoordinateFormat.UNIT: "llava_format",
    CoordinateFormat.RESIZED: "smart_resize_format",
    CoordinateFormat.PER_MILLE: "per_mille",
}


class DatasetSpec(BaseModel):
    """Where the samples of one task lie and how the numbers in them are meant.

    Attributes:
        annotations: the annotation file, or several candidates of which the first that exists is read.
        images: the folder, or zip archive, that the picture paths of the records are relative to.
        follow_links: whether symbolic links below `images` may lead out of it, as where a folder of pictures is linked
            from another disk; without it such pictures are refused, because the file's author could name any file.
        strip_prefix: a leading part of the picture paths that is not there on disk, such as `demo/images/`.
        episodes: the folder, below `images`, of LMDB episodes that pictures named `…/episode#index` are frames of;
            records with `is_local` name files all the same.
        camera: which of an episode's cameras the frames are of.
        channels: `bgr` for episodes whose pictures were encoded with red and blue exchanged.
        coordinates: the format of the numbers in questions and answers.
        image_size: width and height of every picture, for records that do not say; without it the pictures are asked.
        resize_limits: min_pixels and max_pixels of the processor that `resized` numbers were made for; needed only
            where records lack new_w and new_h.
        where: takes a part of the file: the records whose field of each name has one of the values given for it.
        root: what relative paths are relative to, if not the data root; set by a catalog file's own `root`.
        fields: for files of other projects, which of their fields is our `id`, `image`, `question`, `answer`, `box`,
            `mask`, `width`, `height`; several are tried in order, and `masks/{image}` is made up of other fields.
        box: how the four numbers of a `box` field are meant: a corner with width and height, or two corners.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    task: str
    annotations: tuple[str, ...] = Field(min_length=1)
    images: str = "."
    follow_links: bool = False
    strip_prefix: str = ""
    episodes: str = ""
    camera: str = DEFAULT_CAMERA
    channels: Literal["rgb", "bgr"] = "rgb"
    coordinates: Coordinates = "pixel"
    image_size: tuple[int, int] | None = None
    resize_limits: tuple[int, int] | None = None
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    split: Split = "train"
    source: str = ""
    licence: str = "not stated"
    notes: str = ""
    root: Path | None = None
    fields: Mapping[str, str | tuple[str, ...]] = Field(default_factory=dict)
    box: Literal["", "xywh", "xyxy"] = ""

    @field_validator("annotations", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _declared_fields(self) -> Self:
        unknown = set(self.fields) - set(FIELDS)
        if unknown:
            raise ValueError(f"fields: {', '.join(sorted(unknown))} is not one of {', '.join(FIELDS)}")
        if ("box" in self.fields) != bool(self.box):
            raise ValueError("a field for the box and the meaning of its numbers (box: xywh or xyxy) go together")
        return self

    @property
    def format(self) -> CoordinateFormat:
        """The coordinate format of the numbers."""
        return CoordinateFormat.named(self.coordinates)

    def candidates(self, root: Path | None) -> tuple[Path, ...]:
        """The annotation files that may hold this dataset, in the order they are tried."""
        return tuple(self._under(root, path.replace(_FORMAT, _FOLDERS[self.format])) for path in self.annotations)

    def annotation_file(self, root: Path | None) -> Path:
        """The annotation file, the first candidate that exists; a `DataError` names all of them."""
        candidates = self.candidates(root)
        for path in candidates:
            if path.is_file():
                return path
        raise DataError(
            f"dataset '{self.name}': no annotation file; looked for {', '.join(map(str, candidates))}. "
            f"Set {ROOT_VARIABLE} (or data.root=) to the folder that holds it."
        )

    def is_there(self, root: Path | None) -> bool:
        """Whether an annotation file of it exists; false also where no data root is known."""
        known = self.root is not None or data_root(root) is not None
        return (known or all(Path(path).is_absolute() for path in self.annotations)) and any(
            path.is_file() for path in self.candidates(root)
        )

    def image_root(self, root: Path | None) -> Path:
        """The folder that picture paths are relative to."""
        return self._under(root, self.images)

    def in_format(self, coordinates: str) -> DatasetSpec:
        """This dataset as published in another coordinate format; its name becomes `name@format`."""
        if not any(_FORMAT in path for path in self.annotations):
            raise RecipeError(
                f"dataset '{self.name}' exists in one coordinate format only ({self.coordinates}), "
                f"so '{self.name}@{coordinates}' does not."
            )
        wanted = CoordinateFormat.named(coordinates)
        return self.model_copy(update={"name": f"{self.name}@{coordinates}", "coordinates": wanted.value})

    def _under(self, root: Path | None, path: str) -> Path:
        if Path(path).is_absolute():
            return Path(path)
        base = self.root or data_root(root)
        if base is None:
            raise RecipeError(
                f"dataset '{self.name}': '{path}' is relative and no data root is known. "
                f"Set {ROOT_VARIABLE} to the folder of your datasets, or pass data.root=FOLDER."
            )
        return base / path


def data_root(explicit: Path | None = None) -> Path | None:
    """The one folder that dataset paths are relative to: the given one, else `ROBOINTER_DATA`, else None."""
    if explicit is not None:
        return explicit
    named = os.environ.get(ROOT_VARIABLE, "")
    return Path(named).expanduser() if named else None


def spec_of_file(  # noqa: PLR0913 - all but the first by name
    file: Path,
    *,
    task: str,
    images: Path | None = None,
    coordinates: Coordinates = "pixel",
    name: str = "",
    follow_links: bool = False,
) -> DatasetSpec:
    """A dataset that is in no catalog: one annotation file, its pictures relative to `images` or to its own folder."""
    file = file.absolute()
    folder = (images or file.parent).absolute()
    return DatasetSpec(
        name=name or file.stem,
        task=task,
        annotations=(str(file),),
        images=str(folder),
        coordinates=coordinates,
        follow_links=follow_links,
    )


class Catalog(Mapping[str, DatasetSpec]):
    """Datasets by name, from the built-in YAML files and any folders (or files) of the user's own."""

    def __init__(self, *extra: Path, built_in: bool = True) -> None:
        self._entries: dict[str, DatasetSpec] = {}
        self._aliases: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        for place in ((_BUILT_IN,) if built_in else ()) + extra:
            if place.is_file():
                self._read(place)
            elif not place.is_dir():
                raise RecipeError(f"catalog '{place}' does not exist; give a folder of YAML files, or one such file.")
            else:
                for file in sorted(path for path in place.iterdir() if path.suffix in {".yaml", ".yml"}):
                    self._read(file)
        for alias, target in self._aliases.items():
            if target not in self._entries:
                raise RecipeError(f"{self._files[alias]}: '{alias}' is an alias of '{target}', which is not there.")

    def __getitem__(self, name: str) -> DatasetSpec:
        """The dataset of this name or alias, or `name@format`; a `RecipeError` names the nearest names otherwise."""
        base, at, coordinates = name.partition("@")
        spec = self._entries.get(self._aliases.get(base, base))
        if spec is None:
            close = difflib.get_close_matches(base, self.names, n=3)
            known = f"nearest: {', '.join(close)}." if close else "`robointer data list` shows the names."
            more = "A name may end in %N, the percentage to take; --catalog FOLDER adds datasets of your own."
            raise RecipeError(f"dataset '{base}' is not in the catalog; {known} {more}")
        return spec.in_format(coordinates) if at else spec

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    @property
    def aliases(self) -> Mapping[str, str]:
        """Second names of datasets: alias to name."""
        return self._aliases

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every name that can be asked for, aliases included."""
        return (*self._entries, *self._aliases)

    def _read(self, file: Path) -> None:
        entries = read_yaml(file, "catalog", holds="dataset names with their entries")
        root = entries.pop("root", None)
        if root is not None and not isinstance(root, str):
            raise RecipeError(f"{file}: 'root' is a folder, relative to this file; got {root!r}.")
        base = (file.parent / root).absolute() if root is not None else None
        for name, entry in entries.items():
            if name in self._files:
                raise RecipeError(f"dataset '{name}' is defined in both {self._files[name]} and {file}; rename one.")
            self._files[name] = file
            if isinstance(entry, dict) and set(entry) == {"alias_of"}:
                self._aliases[name] = str(entry["alias_of"])
                continue
            if not isinstance(entry, dict):
                raise RecipeError(f"{file}: '{name}' has fields such as task and annotations; got {entry!r}.")
            if set("%@, ") & set(name):
                raise RecipeError(
                    f"{file}: the name '{name}' holds one of % @ , or a space, which mixtures give a meaning to."
                )
            fields = {"name": name, "root": base, **entry}
            self._entries[name] = checked(DatasetSpec, fields, source=f"{file}: '{name}'")
