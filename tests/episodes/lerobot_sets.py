"""Tiny LeRobot datasets, written from simulated episodes: pictures that carry their number, labels as JSON texts."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.video.reformatter import Colorspace

from robointervlm.core.answer import Box
from robointervlm.episodes.episode import Episode

CAMERA = "observation.images.primary"
FPS = 10
STEPS = 24
CONTACT = 9
BLOCK = 14
BITS = 6

V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def numbered(picture: np.ndarray, number: int) -> np.ndarray:
    """The picture with a number in its upper left corner: six blocks, white for one and black for zero."""
    marked = picture.copy()
    for bit in range(BITS):
        marked[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return marked


def number_of(picture: np.ndarray) -> int:
    """The number that a picture carries."""
    return sum(int(picture[3:10, bit * BLOCK + 3 : bit * BLOCK + 10].mean() > 127) << bit for bit in range(BITS))


def pictures_of(episode: Episode) -> list[np.ndarray]:
    frames = episode.frames
    return [numbered(np.asarray(frames[step % len(frames)].picture), step) for step in range(STEPS)]


def write_video(
    file: Path, pictures: list[np.ndarray], codec: str = "libx264", colours: Colorspace = Colorspace.ITU601
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options={"crf": "12"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = 7
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.colorspace = {Colorspace.ITU709: 1, Colorspace.ITU601: 6}[colours]
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=colours)))
        container.mux(stream.encode())


def rows_of(episode: Episode, index: int, first: int) -> list[dict[str, Any]]:
    """The rows of an episode in RoboInter's columns; `first` is the number of its first row in the whole dataset."""
    return [_row(episode, index, step) | {"index": first + step} for step in range(STEPS)]


def _row(episode: Episode, index: int, step: int) -> dict[str, Any]:
    frame = episode.frames[step % len(episode.frames)]
    before = step <= CONTACT
    cells = {
        "time_clip": json.dumps([[0, 11], [12, 23]]),
        "instruction_add": "put the thing there",
        "substask": "pick it up" if step < 12 else "put it down",
        "primitive_skill": "pick" if step < 12 else "place",
        "segmentation": "",
        "object_box": _box(frame.things[episode.target].box),
        "placement_proposal": json.dumps([[20, 30], [60, 70]]),
        "trace": json.dumps([list(point) for point in frame.trace.points]),
        "gripper_box": _box(frame.gripper.box),
        "contact_frame": json.dumps(CONTACT if before else -1),
        "state_affordance": "",
        "affordance_box": json.dumps([[10, 12], [40, 52]]) if before else "",
        "contact_points": json.dumps([[21, 32], [28, 33]]) if before else "",
    }
    quality = {f"Q_annotation.{name}": "Primary" for name in cells}
    return {
        **{f"annotation.{name}": cell for name, cell in cells.items()},
        **quality,
        "timestamp": step / FPS,
        "frame_index": step,
        "episode_index": index,
        "task_index": index,
    }


def _box(box: Box | None) -> str:
    return "" if box is None else json.dumps([list(corner) for corner in box.corners])


def write_v2(root: Path, episodes: list[Episode]) -> Path:
    """A dataset of v2.1: one parquet file and one video per episode."""
    _write_info(root, episodes, "v2.1", V2_DATA, V2_VIDEO)
    lines = []
    for index, episode in enumerate(episodes):
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_{index:06d}.mp4", pictures_of(episode))
        write_rows(root / f"data/chunk-000/episode_{index:06d}.parquet", rows_of(episode, index, index * STEPS))
        lines.append(json.dumps({"episode_index": index, "tasks": [episode.instruction], "length": STEPS}))
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    return root


def write_v3(root: Path, episodes: list[Episode]) -> Path:
    """A dataset of v3.0: all episodes in one parquet file and one video."""
    _write_info(root, episodes, "v3.0", V3_DATA, V3_VIDEO)
    write_video(
        root / f"videos/{CAMERA}/chunk-000/file-000.mp4", [picture for e in episodes for picture in pictures_of(e)]
    )
    rows = [row for index, episode in enumerate(episodes) for row in rows_of(episode, index, index * STEPS)]
    write_rows(root / "data/chunk-000/file-000.parquet", rows)
    listed = [
        {
            "episode_index": index,
            "tasks": [episode.instruction],
            "length": STEPS,
            "data/chunk_index": 0,
            "data/file_index": 0,
            f"videos/{CAMERA}/chunk_index": 0,
            f"videos/{CAMERA}/file_index": 0,
            f"videos/{CAMERA}/from_timestamp": index * STEPS / FPS,
            f"videos/{CAMERA}/to_timestamp": (index + 1) * STEPS / FPS,
            "stats/action/mean": [0.0],
        }
        for index, episode in enumerate(episodes)
    ]
    write_rows(root / "meta/episodes/chunk-000/file-000.parquet", listed)
    return root


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def _write_info(root: Path, episodes: list[Episode], version: str, data: str, video: str) -> None:
    width, height = episodes[0].image_size
    info = {
        "codebase_version": version,
        "fps": FPS,
        "chunks_size": 1000,
        "data_path": data,
        "video_path": video,
        "features": {
            CAMERA: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {"video.codec": "h264"},
            }
        },
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
