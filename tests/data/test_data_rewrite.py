from __future__ import annotations

import contextlib
import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import box_record

from robointervlm.core.answer import Box, Trajectory
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import RecipeError
from robointervlm.data.prepare import ranges, rewrite
from robointervlm.data.prepare.rewrite import Rewriting, Shape, rewrite_to, rewritten
from robointervlm.data.records import Annotations, RecordError

Read = Callable[..., Annotations]


def one(annotations: Annotations, to: str, shape: Shape = "published", decimals: int | None = None) -> dict[str, Any]:
    return next(rewritten(annotations, Rewriting(CoordinateFormat.named(to), shape, decimals)))


@pytest.mark.parametrize(
    "to,corners",
    [
        # The published triplet of one record.
        ("origin_format", "[[72, 102], [192, 179]]"),
        ("llava_format", "[[0.22, 0.57], [0.6, 0.99]]"),
        ("smart_resize_format", "[[69, 95], [184, 167]]"),
    ],
)
def test_the_published_triplet_is_reproduced(read: Read, to: str, corners: str) -> None:
    record = one(read(box_record()), to)
    assert json.loads(record["conversations"][1]["value"]) == {"current_bbox": json.loads(corners)}
    assert record["gt"] == record["conversations"][1]["value"]


def test_texts_stay_as_they_are_in_the_format_they_are_in(read: Read) -> None:
    written = '{"current_bbox":  [[72.25, 102], [192, 179]]}'
    assert one(read(box_record(written)), "pixel")["conversations"][1]["value"] == written


def test_numbers_inside_a_question_are_converted(read: Read) -> None:
    turns = [
        {"from": "human", "value": "<image>\nThe gripper is at [160, 90]. Where will it go?"},
        {"from": "gpt", "value": '{"future_traj": [[160, 90], [320, 180]]}'},
    ]
    record = one(read(box_record(conversations=turns), task="traj"), "unit")
    assert record["conversations"][0]["value"] == "<image>\nThe gripper is at [0.5, 0.5]. Where will it go?"
    assert json.loads(record["gt"]) == {"future_traj": [[0.5, 0.5], [1, 1]]}


def test_records_take_other_shapes(read: Read) -> None:
    annotations = read(box_record())
    question, answer = "<image>\nWhere is the cup?", '{"current_bbox": [[72, 102], [192, 179]]}'
    assert one(annotations, "pixel", "sharegpt") == {
        "id": "RH20T_1#3",
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "images": ["pictures/a.png"],
    }
    evaluation = one(annotations, "pixel", "evaluation")
    assert (evaluation["question"], evaluation["ground_truth"]) == (question, answer)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 318), st.integers(0, 178))
def test_the_way_back_is_exact_up_to_a_step_of_the_format(read: Read, x: int, y: int) -> None:
    answer = f'{{"current_bbox": [[{x}, {y}], [320, 180]]}}'
    # Half of 0.01 of 320 and 180; one resized pixel, truncated, is 320/308 and 180/168 pixels.
    for to, across, down in (("pixel", 0.0, 0.0), ("unit", 1.6, 0.9), ("resized", 1.04, 1.08)):
        record = one(read(box_record(answer)), to)
        box: Any = read(record, coordinates=to)[0].turns[0].answer
        assert abs(box.x1 - x) <= across + 1e-6
        assert abs(box.y1 - y) <= down + 1e-6


# Width, height, format, decimals: the formats in which half a step is at most half a pixel of such a picture.
FINE_ENOUGH = [
    (width, height, to, decimals)
    for width, height in ((320, 180), (640, 480), (427, 239), (1001, 563))
    for to, decimals in (("unit", 4), ("unit", 3), ("per_mille", None), ("resized", 1), ("pixel", None))
    if (to, decimals) not in {("unit", 3), ("per_mille", None)} or width <= 1000
]


@pytest.mark.parametrize("width, height, to, decimals", FINE_ENOUGH)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_way_there_and_back_ends_within_half_a_pixel(
    read: Read, width: int, height: int, to: str, decimals: int | None, data: st.DataObject
) -> None:
    corners = data.draw(st.tuples(*(st.integers(0, side) for side in (width, height, width, height))))
    x1, y1, x2, y2 = corners
    path = f'{{"future_traj": [[{x1}, {y1}], [{x2}, {y2}]]}}'
    record = box_record(path, w=width, h=height, new_w=..., new_h=...)
    there = one(read(record, task="traj"), to, decimals=decimals)
    limits = {"resize_limits": (3136, 12845056)} if to == "resized" else {}
    answer = read(there, task="traj", coordinates=to, **limits)[0].answer
    assert isinstance(answer, Trajectory)
    for (x, y), (x0, y0) in zip(answer.points, ((x1, y1), (x2, y2)), strict=True):
        assert abs(x - x0) <= 0.5 + 1e-9
        assert abs(y - y0) <= 0.5 + 1e-9
    back = one(read(there, task="traj", coordinates=to, **limits), "pixel")
    assert json.loads(back["gt"]) == {"future_traj": [[x1, y1], [x2, y2]]}


def test_the_published_unit_format_is_coarser_than_a_pixel(read: Read) -> None:
    # 0.01 of 320 pixels is 3.2: 98 becomes 0.31 (0.30625), which is 99.2.
    record = one(read(box_record('{"current_bbox": [[98, 0], [320, 180]]}')), "unit")
    box = read(record, coordinates="unit")[0].answer
    assert isinstance(box, Box)
    assert box.x1 == pytest.approx(99.2)


@pytest.mark.parametrize(
    "to, decimals, numbers",
    [
        ("unit", 4, "[[0.225, 0.5667], [0.6, 0.9944]]"),
        ("unit", 0, "[[0, 1], [1, 1]]"),
        ("pixel", 2, "[[72, 102], [192, 179]]"),
        # 72 * 308 / 320 = 69.3, 102 * 168 / 180 = 95.2, 184.8, 167.066…
        ("resized", 2, "[[69.3, 95.2], [184.8, 167.07]]"),
        ("per_mille", 1, "[[225, 566.7], [600, 994.4]]"),
    ],
)
def test_numbers_have_the_decimals_that_are_asked_for(read: Read, to: str, decimals: int, numbers: str) -> None:
    written = one(read(box_record()), to, decimals=decimals)["gt"]
    assert written == f'{{"current_bbox": {numbers}}}'


# --- ms-swift ------------------------------------------------------------------------------------------------------


def test_a_box_of_ms_swift_is_two_corners_in_pixels(read: Read) -> None:
    assert one(read(box_record()), "pixel", "ms-swift") == {
        "id": "RH20T_1#3",
        "messages": [
            {"role": "user", "content": "<image>\nWhere is the cup?"},
            {"role": "assistant", "content": '{"current_bbox": <bbox>}'},
        ],
        "images": ["pictures/a.png"],
        "objects": {"ref": [], "bbox": [[72, 102, 192, 179]], "bbox_type": "real"},
    }


def trajectory_record() -> dict[str, Any]:
    turns = [
        {"from": "system", "value": "You steer an arm."},
        {"from": "human", "value": "<image>\nThe gripper is at [160, 90]. Where will it go?"},
        {"from": "gpt", "value": '{"future_traj": [[160, 90], [320, 180]]}'},
    ]
    return box_record(conversations=turns)


def test_points_of_ms_swift_are_two_numbers_each_also_in_questions(read: Read) -> None:
    record = one(read(trajectory_record(), task="traj"), "unit", "ms-swift")
    assert [message["content"] for message in record["messages"]] == [
        "You steer an arm.",
        "<image>\nThe gripper is at <bbox>. Where will it go?",
        '{"future_traj": [<bbox>, <bbox>]}',
    ]
    assert record["objects"] == {"ref": [], "bbox": [[0.5, 0.5], [0.5, 0.5], [1, 1]], "bbox_type": "norm1"}


@pytest.mark.parametrize("to, decimals", [("pixel", None), ("unit", 4)])
@pytest.mark.parametrize("shape", ["sharegpt", "ms-swift", "training", "published"])
def test_a_record_comes_back_from_every_shape(read: Read, to: str, decimals: int | None, shape: Shape) -> None:
    original = trajectory_record()
    there = one(read(original, task="traj"), to, shape, decimals)
    back = one(read(there, task="traj", coordinates=to), "pixel")
    assert back["id"] == original["id"]
    pictures = back.get("images", back.get("image"))
    assert pictures in ("pictures/a.png", ["pictures/a.png"])
    assert [turn["value"] for turn in back["conversations"]] == [
        turn["value"] for turn in original["conversations"][1:]
    ]


@pytest.mark.parametrize("to", ["per_mille", "resized"])
def test_ms_swift_converts_to_other_formats_itself(read: Read, to: str) -> None:
    with pytest.raises(RecipeError, match="converts them itself"):
        one(read(box_record()), to, "ms-swift")


def test_a_text_with_a_marker_of_ms_swift_is_not_written_for_it(read: Read) -> None:
    turns = [{"from": "human", "value": "What is <bbox>?"}, {"from": "gpt", "value": "A marker."}]
    with pytest.raises(RecordError, match="holds <bbox>"):
        one(read(box_record(conversations=turns), task="chat"), "pixel", "ms-swift")


def swift_record(content: str = '{"current_bbox": <bbox>}', **objects: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": "<image>\nFind the <ref-object>."},
            {"role": "assistant", "content": content},
        ],
        "images": ["pictures/a.png"],
        "objects": {"ref": ["red cup"], "bbox": [[72, 102, 192, 179.5]], **objects},
    }


def test_names_and_places_of_ms_swift_are_read(read: Read) -> None:
    sample = read(swift_record())[0]
    assert sample.question == ("<image>\nFind the red cup.",)
    assert sample.answer == Box(72, 102, 192, 179.5)


@pytest.mark.parametrize(
    "objects, reason",
    [
        ({"bbox_type": "norm1"}, "norm1, whose numbers are in 'unit' format; the dataset declares 'pixel'"),
        ({"bbox_type": "norm1000"}, "one of real, norm1"),
        ({"image_id": [1]}, "another picture than the first"),
        ({"bbox": [[1, 2, 3]]}, "two or four numbers"),
        ({"bbox": [["1", 2]]}, "two or four numbers"),
        ({"bbox": 7}, "a list is expected"),
        ({"bbox": []}, "fewer places or names than the text has <bbox> markers"),
        ({"bbox": [[1, 2], [3, 4]]}, "1 more places or names than the text has <bbox> markers"),
        ({"ref": [7]}, "texts are expected"),
        ({"ref": ["cup", "plate"]}, "1 more places or names than the text has <ref-object> markers"),
    ],
)
def test_objects_that_do_not_fit_are_an_error(read: Read, objects: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        read(swift_record(**objects))[0]


def test_objects_without_a_marker_are_something_else(read: Read) -> None:
    objects = {"bbox": [[1, 2, 3, 4]], "categories": [7]}
    assert read(box_record(objects=objects))[0].extra["objects"] == objects


# --- files ---------------------------------------------------------------------------------------------------------


PIXEL = Rewriting(CoordinateFormat.PIXEL)


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
def test_a_file_is_the_same_whoever_writes_it(read: Read, root: Path, tmp_path: Path, name: str) -> None:
    annotations = read(*(box_record(id=str(index)) for index in range(5000)))
    assert rewrite_to(tmp_path / "1" / name, annotations, PIXEL, root=root, workers=1) == 5000
    assert rewrite_to(tmp_path / "2" / name, annotations, PIXEL, root=root, workers=2) == 5000
    content = (tmp_path / "1" / name).read_text()
    assert content == (tmp_path / "2" / name).read_text()
    made = [json.loads(line) for line in content.splitlines()] if name.endswith("l") else json.loads(content)
    assert [record["id"] for record in made] == [str(index) for index in range(5000)]


@pytest.mark.parametrize("name", ["out.json", "out.jsonl"])
@pytest.mark.parametrize("saved", [1, 3])
def test_a_stopped_file_is_gone_on_with(
    read: Read, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, saved: int
) -> None:
    monkeypatch.setattr(ranges, "CHUNK", 10)
    monkeypatch.setattr(rewrite, "_SAVE_EVERY", saved)
    annotations = read(*(box_record(id=str(index)) for index in range(95)))

    def stop(done: int, _: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rewrite_to(tmp_path / name, annotations, PIXEL, root=root, workers=1, progress=stop)
    assert not (tmp_path / name).exists()
    done: list[int] = []
    rewrite_to(tmp_path / name, annotations, PIXEL, root=root, workers=1, progress=lambda at, _: done.append(at))
    assert done[0] == 50 // (10 * saved) * 10 * saved + 10
    rewrite_to(tmp_path / "fresh" / name, annotations, PIXEL, root=root, workers=1)
    assert (tmp_path / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*out*")) == [name]


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.data.prepare import ranges, rewrite
from robointervlm.data.prepare.rewrite import Rewriting, rewrite_to
ranges.CHUNK, rewrite._SAVE_EVERY = 10, 2
annotations, root, out = pickle.loads(sys.stdin.buffer.read())
kill = lambda done, _: done == 50 and os.kill(os.getpid(), signal.SIGKILL)
rewrite_to(out, annotations, Rewriting(CoordinateFormat.PIXEL), root=root, workers=1, progress=kill)
"""


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(
    read: Read, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "CHUNK", 10)
    annotations = read(*(box_record(id=str(index)) for index in range(95)))
    handed = pickle.dumps((annotations, root, tmp_path / "out.json"))
    assert subprocess.run([sys.executable, "-c", KILLED], input=handed, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out.json").exists()
    done: list[int] = []
    rewrite_to(tmp_path / "out.json", annotations, PIXEL, root=root, workers=1, progress=lambda at, _: done.append(at))
    assert done[0] == 50
    assert [record["id"] for record in json.loads((tmp_path / "out.json").read_text())] == [str(n) for n in range(95)]


def test_what_was_begun_otherwise_is_begun_anew(
    read: Read, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "_SAVE_EVERY", 1)
    begun = rewrite.Unfinished(tmp_path / "out.json", "another key")
    with contextlib.suppress(KeyboardInterrupt), begun:
        begun.add(['{"id": "other"}'], 1)
        raise KeyboardInterrupt
    rewrite_to(tmp_path / "out.json", read(box_record()), PIXEL, root=root)
    assert [record["id"] for record in json.loads((tmp_path / "out.json").read_text())] == ["RH20T_1#3"]


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with rewrite.Unfinished(tmp_path / "out.json", "key"), pytest.raises(RecipeError, match="another process"):
        rewrite.Unfinished(tmp_path / "out.json", "key").__enter__()
