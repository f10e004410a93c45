"""One recording as an `Episode`: as much as its mapping knows, the rest None."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.episodes.episode import Episode, Frame, Segment, ThingView
from robointervlm.episodes.lerobot import cells
from robointervlm.episodes.lerobot.cells import Row, Seen
from robointervlm.episodes.lerobot.dataset import LeRobotDataset, Listed
from robointervlm.episodes.lerobot.mapping import Detections, Mapping, Phases, Places
from robointervlm.episodes.lerobot.video import Picture, Video

Film = Callable[[Sequence[int]], list[Picture]]
"""Gives the pictures of time steps of an episode."""

# The published answers have so many.
TRACE_POINTS = 10


@dataclass(frozen=True)
class Recording:
    """An episode and what is odd about it that did not stop it from being read."""

    episode: Episode
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Named:
    """What an instruction calls the thing to move and where it goes."""

    instruction: str
    target: str | None
    place: str | None

    def fill(self, words: str) -> str:
        return words.replace("{target}", self.target or "object").replace("{place}", self.place or "place")


def read_episode(dataset: LeRobotDataset, listed: Listed, mapping: Mapping, *, camera: str, frames: int) -> Recording:
    """An episode with so many evenly spaced frames, and the one of first contact if it is known.

    Raises `DataError` or `RefusedError` where files are missing or damaged or contradict each other; `warnings` say
    what the metadata is wrong about without consequence.
    """
    rows = dataset.rows(listed, mapping.columns)
    place = dataset.video(listed, camera)
    with Video(place.file) as video:
        warnings = _compare(dataset, camera, video)
        if place.alone and video.frames is not None and video.frames != len(rows):
            raise DataError(f"{place.file} has {video.frames} frames; the episode has {len(rows)} rows.")
        film = partial(video.pictures, fps=dataset.fps, begin_seconds=place.begin_seconds)
        return Recording(labelled(rows, listed, mapping, frames=frames, film=film), warnings)


def labelled(rows: Sequence[Row], listed: Listed, mapping: Mapping, *, frames: int, film: Film) -> Episode:
    """The episode that rows tell of, one for each time step, with so many frames and the one of first contact."""
    steps = _Steps(rows, mapping)
    contact = steps.contact_index
    chosen = {round(step) for step in np.linspace(0, len(rows) - 1, min(frames, len(rows))).tolist()}
    shown = sorted(chosen | ({contact} if contact is not None else set()))
    pictures = film(shown)
    height, width = pictures[0].shape[:2]
    named = _named(steps, listed, mapping)
    segments = _segments(steps, listed, mapping, named)
    made = _Labels(steps, mapping, ImageSize(width, height), named, segments)
    return made.episode(listed, dict(zip(shown, pictures, strict=True)))


def pictures_at(dataset: LeRobotDataset, listed: Listed, steps: Sequence[int], *, camera: str) -> list[Picture]:
    """The pictures of any time steps of an episode, uint8 (height, width, 3) each; errors as of `read_episode`."""
    place = dataset.video(listed, camera)
    with Video(place.file) as video:
        return video.pictures(steps, fps=dataset.fps, begin_seconds=place.begin_seconds)


def _compare(dataset: LeRobotDataset, camera: str, video: Video) -> tuple[str, ...]:
    stated = dataset.stated_size(camera)
    if stated is not None and stated != video.size:
        size, said = (f"{side.width}x{side.height}" for side in (video.size, stated))
        raise DataError(f"{video.file} has frames of {size}; meta/info.json says {said}.")
    codec = dataset.stated_codec(camera)
    if codec is not None and codec != video.codec:
        return (f"{video.file} is coded as {video.codec}; meta/info.json says {codec}.",)
    return ()


class _Steps:
    """The rows of an episode, and what only all of them together tell."""

    def __init__(self, rows: Sequence[Row], mapping: Mapping) -> None:
        self.rows = rows
        self.accepted = mapping.accepted_quality
        self.contact_index: int | None = None
        # Rows tell of the contact that comes next; those before the first one are about that.
        self.before_contact: list[Row] = []
        column = mapping.contact_frame
        if column is None:
            return
        for row in rows:
            told = cells.number(row, column, self.accepted)
            if told is None or told < 0:  # there is none, or it is past
                continue
            if told != int(told) or told >= len(rows):
                raise DataError(f"column '{column.column}': {told:g} is no frame of 0 to {len(rows) - 1}.")
            if self.contact_index in {None, int(told)}:
                self.contact_index = int(told)
                self.before_contact.append(row)


def _named(steps: _Steps, listed: Listed, mapping: Mapping) -> _Named:
    instruction = None
    if mapping.instruction is not None:
        told = (cells.text(row, mapping.instruction, steps.accepted) for row in steps.rows)
        instruction = next((words for words in told if words), None)
    instruction = instruction or next((words for words in listed.tasks if words.strip()), None)
    if instruction is None:
        raise DataError(f"episode {listed.index} has no instruction, neither in its rows nor in the metadata.")
    match = re.search(mapping.names, instruction) if mapping.names else None
    found = match.groupdict() if match else {}
    return _Named(instruction.rstrip(". "), found.get("target") or mapping.object_name, found.get("place"))


def _segments(steps: _Steps, listed: Listed, mapping: Mapping, named: _Named) -> tuple[Segment, ...]:
    """The subtasks in order, without gaps; empty if they are not known for all time steps."""
    told: list[tuple[str, str] | None] = [None] * len(steps.rows)
    if mapping.phases:
        for begin, name in _begins(listed, mapping.phases):
            phase = mapping.phases.steps[name]
            told[begin:] = [(named.fill(phase.subtask), phase.primitive)] * len(told[begin:])
    else:
        for step, row in enumerate(steps.rows):
            subtask = cells.text(row, mapping.subtask, steps.accepted)
            primitive = cells.text(row, mapping.primitive, steps.accepted)
            told[step] = (subtask, primitive) if subtask and primitive else None
    found: list[Segment] = []
    for step, words in enumerate(told):
        if words is None:
            return ()
        if found and (found[-1].subtask, found[-1].primitive) == words:
            found[-1] = Segment(found[-1].first, step, *words)
        else:
            found.append(Segment(step, step, *words))
    return tuple(found)


def _begins(listed: Listed, phases: Phases) -> list[tuple[int, str]]:
    """When each phase begins, in order of time."""
    found: Any = listed.row
    for part in phases.begins.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise DataError(f"episode {listed.index}: its metadata has no '{phases.begins}' with the phases.")
    unknown = [name for name in found if name not in phases.steps]
    if unknown:
        raise DataError(f"episode {listed.index}: the mapping does not know the phase '{str(unknown[0])[:80]}'.")
    wrong = [begin for begin in found.values() if not isinstance(begin, int) or begin < 0]
    if wrong:
        raise DataError(f"episode {listed.index}: a phase begins at {wrong[0]!r}; a frame is expected.")
    return sorted((begin, name) for name, begin in found.items())


class _Labels:
    """What rows say, as the labels of an episode."""

    def __init__(
        self, steps: _Steps, mapping: Mapping, size: ImageSize, named: _Named, segments: tuple[Segment, ...]
    ) -> None:
        self.steps, self.mapping, self.size, self.named, self.segments = steps, mapping, size, named, segments

    def episode(self, listed: Listed, pictures: dict[int, Picture]) -> Episode:
        mapping, contact = self.mapping, self.steps.contact_index
        # Empty without a contact: then there is no box or point of it either.
        before = self.steps.before_contact if not mapping.moving_camera else []
        told = (cells.points(row, mapping.contact_points, self.size, self.steps.accepted) for row in before)
        points = next((points for points in told if points), ())
        contact_box = self._first_box(mapping.contact_box, before)
        success = mapping.success
        if success is not None and not isinstance(success, bool):
            last = cells.number(self.steps.rows[-1], success, self.steps.accepted)
            success = None if last is None else last > 0
        final = None if mapping.moving_camera else self._first_box(mapping.final_box, self.steps.rows)
        return Episode(
            id=f"{mapping.source}_{listed.name or format(listed.index, '06d')}",
            source=mapping.source,
            seed=0,
            number=listed.index,
            image_size=self.size,
            instruction=self.named.instruction,
            skill=None,
            target=self.named.target,
            success=success,
            failure=None,
            contact_index=contact,
            contact_points=Points(points) if points else None,
            contact_box=contact_box,
            contact_inside_share=_inside_share(contact_box, self.size),
            release_index=None,
            final_box=final,
            final_inside_share=_inside_share(final, self.size),
            steps=len(self.steps.rows),
            frames=tuple(self._frame(listed, step, picture) for step, picture in pictures.items()),
            segments=self.segments,
        )

    def _first_box(self, wanted: Places | Detections | None, rows: Sequence[Row]) -> Box | None:
        found = (cells.box(row, wanted, self.size, self.steps.accepted) for row in rows)
        return next((seen.box for seen in found if seen is not None), None)

    def _frame(self, listed: Listed, step: int, picture: Picture) -> Frame:
        row, mapping, accepted = self.steps.rows[step], self.mapping, self.steps.accepted
        things = {
            name: _view(cells.box(row, wanted, self.size, accepted), self.size)
            for name, wanted in ((self.named.target, mapping.object_box), (self.named.place, mapping.place_box))
            if name is not None and wanted is not None
        }
        fixed = not mapping.moving_camera
        trace = cells.points(row, mapping.trace, self.size, accepted) if fixed else ()
        tool = cells.points(row, mapping.tool_point, self.size, accepted)
        segment = next((part for part in self.segments if part.first <= step <= part.last), None)
        return Frame(
            index=step,
            picture=picture,
            things=things,
            gripper=_view(cells.box(row, mapping.gripper_box, self.size, accepted), self.size)
            if mapping.gripper_box
            else None,
            tool_point=tool[0] if tool else None,
            trace=Trajectory(trace) if len(trace) == TRACE_POINTS else None,
            touching=self._touching(listed, step, row),
            subtask=segment.subtask if segment else cells.text(row, mapping.subtask, accepted),
            primitive=segment.primitive if segment else cells.text(row, mapping.primitive, accepted),
        )

    def _touching(self, listed: Listed, step: int, row: Row) -> bool | None:
        """As a column or the phases say; else no before contact and yes at it, and nobody knows after."""
        if self.mapping.touching is not None:
            found = cells.number(row, self.mapping.touching, self.steps.accepted)
            return None if found is None else found > self.mapping.touching.above
        if self.mapping.phases is not None:
            begun = [name for begin, name in _begins(listed, self.mapping.phases) if begin <= step]
            return self.mapping.phases.steps[begun[-1]].touching if begun else None
        contact = self.steps.contact_index
        return None if contact is None or step > contact else step == contact


def _view(seen: Seen | None, size: ImageSize) -> ThingView:
    """What is seen of a thing: the part of its box inside the picture, and how much of it that is."""
    if seen is None:
        return ThingView(None, None, 0.0, 0.0)
    share = _inside_share(seen.box, size)
    box = seen.box
    cut = Box(max(box.x1, 0.0), max(box.y1, 0.0), min(box.x2, size.width), min(box.y2, size.height)) if share else None
    return ThingView(cut, cut, seen.visible_share * share, share)


def _inside_share(box: Box | None, size: ImageSize) -> float:
    if box is None:
        return 0.0
    across = max(0.0, min(box.x2, size.width) - max(box.x1, 0.0))
    down = max(0.0, min(box.y2, size.height) - max(box.y1, 0.0))
    return across * down / box.area
