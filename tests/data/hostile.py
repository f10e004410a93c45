"""Records that went wrong somewhere, or may: each is to be one line of a list and nothing more."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from made_records import box_record
from PIL import Image

HALF = "\ud83d"
GOOD = {"w": 320, "h": 180}
_HUGE = 10**400


def _asked(question: str, answer: str = '{"current_bbox": [[72, 102], [192, 179]]}') -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def _picture(path: object, **fields: Any) -> dict[str, Any]:
    return box_record(id="bad", images=path, **fields)


def make_pictures(folder: Path) -> None:
    """What the paths of these records name, beside `pictures/a.png`."""
    pictures = folder / "pictures"
    (pictures / "folder.png").mkdir()
    (pictures / "empty.png").write_bytes(b"")
    (pictures / "loop.png").symlink_to("pool.png")
    (pictures / "pool.png").symlink_to("loop.png")
    (pictures / "out.png").symlink_to("/etc/hostname")
    os.mkfifo(pictures / "pipe.png")
    (pictures / "no.zip").write_bytes(b"PK no archive")
    (pictures / "episode" / "meta_info.pkl").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(pictures / "other.png")


# Name: the record, the field that is named (or nothing), and a part of the reason.
RECORDS: dict[str, tuple[object, str, str]] = {
    "a place without a picture": (
        {
            "id": "bad",
            "messages": [
                {"role": "user", "content": "Where is the red cube?"},
                {"role": "assistant", "content": '{"current_bbox": [[80, 90], [160, 162]]}'},
            ],
        },
        "images",
        "is missing",
    ),
    "half a character in a path": (_picture(f"cup {HALF}.png"), "images", "half of a surrogate pair"),
    "half a character in a path, size unknown": (_picture(f"{HALF}.png", w=..., h=...), "images", "surrogate"),
    "half a character in an address": (_picture(f"http://x/{HALF}"), "images", "surrogate"),
    "half a character in an id": (box_record(id=f"a{HALF}b"), "id", "surrogate"),
    "half a character in a question": (
        box_record(id="bad", conversations=_asked(f"<image>\n{HALF}")),
        "conversations[0].value",
        "surrogate",
    ),
    "half a character in an answer": (
        box_record(id="bad", conversations=_asked("<image>", HALF)),
        "conversations[1].value",
        "surrogate",
    ),
    "half a character in an episode": (box_record(id="bad", episode=HALF), "episode", "surrogate"),
    "half a character in a field of theirs": (box_record(id="bad", note={"by": [HALF]}), "note.by[0]", "surrogate"),
    "half a character in a key": (box_record(id="bad", **{f"x{HALF}": 1}), r"x\ud83d", "surrogate"),
    "a NUL in a path": (_picture("a\0b.png"), "images", "NUL"),
    "a name too long for a file": (_picture("a" * 300 + ".png"), "images", "too long"),
    "a name too long for an archive": (_picture("a" * 300 + ".zip/x.png", w=..., h=...), "images", "too long"),
    "a path too long": (_picture("a/" * 3000 + "a.png"), "images", "too long"),
    "an absolute path outside": (_picture("/etc/passwd"), "images", "outside"),
    "a path that climbs": (_picture("../../etc/passwd"), "images", "outside"),
    "a link that leads outside": (_picture("pictures/out.png"), "images", "follow_links"),
    "a loop of links": (_picture("pictures/loop.png"), "images", "levels of symbolic links"),
    "a picture that is a number": (_picture(7), "images", "holds 7"),
    "a picture that is an object": (_picture({"path": "a.png"}), "images", "the path of a picture is expected"),
    "a picture that is a folder": (_picture("pictures/folder.png"), "images", "not a regular file"),
    "a picture that is a folder, size unknown": (_picture("pictures/folder.png", w=..., h=...), "images", "regular"),
    "a picture that is a pipe": (_picture("pictures/pipe.png"), "images", "not a regular file"),
    "a picture that is empty": (_picture("pictures/empty.png"), "images", "is empty"),
    "a picture below a picture": (_picture("pictures/a.png/b.png"), "images", "Not a directory"),
    "a picture in no archive": (_picture("pictures/no.zip/a.png", w=..., h=...), "images", "no.zip"),
    "a frame of no episode": (_picture("lmdb:primary:gone#3"), "images", "cannot be opened"),
    "a frame of a folder": (_picture("lmdb:primary:pictures/episode#3"), "images", "Is a directory"),
    "a list": ([1, 2], "", "a record is a JSON object"),
    "a text": ("text", "", "a record is a JSON object"),
    "nothing": (None, "", "a record is a JSON object"),
    "an empty object": ({}, "conversations", "is missing"),
    "an id that is an object": (box_record(id={"n": 1}), "id", "is an object"),
    "an id that is a list": (box_record(id=[1]), "id", "is a list"),
    "an id that is a truth value": (box_record(id=True), "id", "is a truth value"),
    "a width that no float holds": (box_record(id="bad", w=_HUGE), "w", "a size in pixels is expected"),
    "a width of nothing": (box_record(id="bad", w=0), "w", "a size in pixels is expected"),
    "a coordinate that no float holds": (
        box_record(f'{{"current_bbox": [[{_HUGE}, 102], [192, 179]]}}', id="bad"),
        "answer",
        "",
    ),
    "a coordinate that overflows": (
        box_record('{"current_bbox": [[-1e308, 0], [1e308, 179]]}', id="bad"),
        "answer",
        "too large for any picture",
    ),
    "a coordinate of thousands of digits": (
        box_record(f'{{"current_bbox": [[{"9" * 5000}, 102], [192, 179]]}}', id="bad"),
        "answer",
        "",
    ),
    "a place in a frame without a number": (
        box_record('{"current_bbox": [[NaN, Infinity], [192, 179]]}', id="bad"),
        "answer",
        "",
    ),
    "brackets without end in an answer": (box_record("[" * 5000 + "]" * 5000, id="bad"), "answer", ""),
    "objects that no float holds": (
        box_record(
            id="bad",
            conversations=_asked("<image>\nWhere?", "<bbox>"),
            objects={"ref": [], "bbox": [[1, 2, _HUGE, 4]]},
        ),
        "objects.bbox",
        "two or four numbers",
    ),
    "objects of a picture that is no list": (
        box_record(
            id="bad",
            conversations=_asked("<image>\nWhere?", "<bbox>"),
            objects={"ref": [], "bbox": [[1, 2, 3, 4]], "image_id": 7},
        ),
        "objects.image_id",
        "a list is expected",
    ),
    "a conversation that is a number": (box_record(id="bad", conversations=5), "conversations", "is a number"),
    "a turn of nobody": (box_record(id="bad", conversations=[{"from": [], "value": "x"}]), "conversations[0].from", ""),
}

# What JSON cannot hold, as it stands in the file.
TEXTS: dict[str, tuple[bytes, str, str]] = {
    "NaN": (b'{"id": "bad", "w": NaN}', "", "NaN is not a JSON number"),
    "infinity": (b'{"id": "bad", "w": -Infinity}', "", "-Infinity is not a JSON number"),
    "an integer of thousands of digits": (b'{"id": "bad", "w": ' + b"9" * 6000 + b"}", "", "Exceeds the limit"),
    "nesting without end": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "", "nested too deeply"),
    "bytes that are no UTF-8": (b'{"id": "\xff\xfe"}', "", "can't decode byte"),
}


def text_of(name: str) -> bytes:
    """The record as it stands in a file."""
    return TEXTS[name][0] if name in TEXTS else json.dumps(RECORDS[name][0]).encode()


def expected_of(name: str) -> tuple[str, str]:
    """The field and a part of the reason that its problem names."""
    return TEXTS[name][1:] if name in TEXTS else RECORDS[name][1:]


def write_between(file: Path, record: bytes) -> Path:
    """A file with the record between two good ones: JSON lines if it is named so, else a list."""
    good = [json.dumps(box_record(id=name)).encode() for name in ("first", "last")]
    if file.suffix == ".jsonl":
        file.write_bytes(good[0] + b"\n" + record + b"\n" + good[1] + b"\n")
    else:
        file.write_bytes(b"[" + good[0] + b",\n" + record + b",\n" + good[1] + b"]")
    return file
