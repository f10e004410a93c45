from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from robointervlm.core.answer import Box, Points, Trajectory
from robointervlm.core.errors import RecipeError
from robointervlm.core.sample import Place
from robointervlm.data.mixture import Mixture
from robointervlm.data.prepare.check import check_dataset
from robointervlm.data.prepare.frames import DEFAULT_MAPPING, FrameMapping, convert_frames, read_mapping
from robointervlm.data.records import Annotations
from robointervlm.data.spec import Catalog

MAPPING = """
source: lab
image: file
width: width
instruction: what
episode: run
frame: step
tasks:
  current_box: {column: object.box, shape: box, question: "Where? {instruction}"}
  contact_point: {column: fingers, shape: points, question: "Fingers?"}
  traj: {column: path, shape: trajectory, start: tip, question: "From {start} on?"}
"""


@pytest.fixture
def mapping(tmp_path: Path) -> FrameMapping:
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return read_mapping(tmp_path / "mapping.yaml")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "in" / "shots").mkdir(parents=True)
    Image.new("RGB", (100, 80)).save(tmp_path / "in" / "shots" / "0.png")
    return tmp_path / "in" / "table.json"


def row(**changes: Any) -> dict[str, Any]:
    full = {
        "file": "shots/0.png",
        "width": 100,
        "what": "Lift the cup.",
        "run": 4,
        "step": 12,
        "object": {"box": [40, 30, 10, 20]},
        "fingers": [[1.4, 2], [103, 4]],
        "path": [[1, 2], [3, 4.6]],
        "tip": [7.2, 8],
    }
    return {**full, **changes}


def test_a_row_becomes_a_record_of_every_task(table: Path, tmp_path: Path, mapping: FrameMapping) -> None:
    table.write_text(json.dumps([row()]))
    converted = convert_frames(table, table.parent, tmp_path / "out", mapping)
    assert (converted.records, converted.problems) == ({"current_box": 1, "contact_point": 1, "traj": 1}, [])
    catalog = Catalog(tmp_path / "out", built_in=False)
    assert list(catalog) == ["lab_current_box_train", "lab_contact_point_train", "lab_traj_train"]
    box, points, path = (Annotations(spec)[0] for spec in catalog.values())
    assert (box.id, box.episode, box.answer) == ("lab_4_12_current_box", "lab_4", Box(10, 20, 40, 30))
    assert box.question == ("<image>\nWhere? Lift the cup",)
    assert points.answer == Points(((1.0, 2.0), (103.0, 4.0)))
    assert path.answer == Trajectory(((1.0, 2.0), (3.0, 5.0)))
    assert path.question == ("<image>\nFrom ", Place(((7.0, 8.0),), "[{}, {}]"), " on?")


def test_the_output_stands_by_itself(table: Path, tmp_path: Path, mapping: FrameMapping) -> None:
    table.write_text(json.dumps([row()]))
    convert_frames(table, table.parent, tmp_path / "out", mapping)
    (table.parent / "shots" / "0.png").unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    result = check_dataset(Catalog(tmp_path / "moved", built_in=False)["lab_current_box_train"])
    assert (result.records, result.problems) == (1, ())


def test_an_empty_cell_is_left_out_and_counted(table: Path, tmp_path: Path, mapping: FrameMapping) -> None:
    table.write_text(json.dumps([row(object=None), row(object={"box": None}), row(tip=None), row()]))
    converted = convert_frames(table, table.parent, tmp_path / "out", mapping)
    assert converted.records == {"current_box": 2, "contact_point": 4, "traj": 3}
    assert converted.empty == {"current_box": 2, "traj": 1}


def test_places_outside_the_picture_are_kept_and_counted(table: Path, tmp_path: Path, mapping: FrameMapping) -> None:
    table.write_text(json.dumps([row()]))
    assert convert_frames(table, table.parent, tmp_path / "out", mapping).outside == {"contact_point": 1}


@pytest.mark.parametrize(
    "changes,field,reason",
    [
        ({"file": "shots/1.png"}, "file", "cannot be opened"),
        ({"file": "../../../etc/passwd"}, "file", "outside its folder"),
        ({"file": None}, "file", "the path of a picture is expected"),
        ({"width": 99}, "width", "the picture is 100x80"),
        ({"object": 3}, "object.box", "'box' is looked for in 3"),
        ({"object": {"box": [1, 2, 3]}}, "object.box", "a box [x1, y1, x2, y2] is expected"),
        ({"fingers": [[1, 2], [3]]}, "fingers", "points [x, y] are expected"),
        ({"fingers": [[1, 2], [3, 4], [5, 6]]}, "fingers", "no answer to 'contact_point'"),
        ({"path": "ahead"}, "path", "points [x, y] are expected"),
        ({"path": [[1, float("inf")]]}, "path", "points [x, y] are expected"),
    ],
)
def test_a_wrong_cell_is_left_out_and_listed(
    table: Path, tmp_path: Path, mapping: FrameMapping, changes: dict[str, Any], field: str, reason: str
) -> None:
    table.write_text(json.dumps([row(step=1), row(**changes)]).replace("Infinity", "1e400"))
    converted = convert_frames(table, table.parent, tmp_path / "out", mapping)
    assert [(problem.record, problem.field) for problem in converted.problems] == [(1, field)]
    assert reason in converted.problems[0].reason
    assert converted.records["current_box"] >= 1


def test_a_second_source_is_added_to_the_catalog(table: Path, tmp_path: Path, mapping: FrameMapping) -> None:
    table.write_text(json.dumps([row()]))
    convert_frames(table, table.parent, tmp_path / "out", mapping)
    convert_frames(table, table.parent, tmp_path / "out", mapping.model_copy(update={"source": "hall"}))
    assert {"lab_traj_train", "hall_traj_train"} <= set(Catalog(tmp_path / "out", built_in=False))


@pytest.mark.parametrize(
    "text,reason",
    [
        ("source: lab\nimage: a\ntasks: {}\n", "tasks"),
        (MAPPING + "extra: 1\n", "extra"),
        (MAPPING.replace("shape: box", "shape: circle"), "shape"),
        (MAPPING.replace("current_box:", "curent_box:"), "nearest: current_box"),
        ("[", "is not YAML"),
    ],
)
def test_a_wrong_mapping_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mapping.yaml").write_text(text)
    with pytest.raises(RecipeError, match=reason):
        read_mapping(tmp_path / "mapping.yaml")


def test_the_22_real_frames_become_108_samples(tmp_path: Path, shared: Path) -> None:
    folder = shared / "internvla_m1_frames"
    converted = convert_frames(folder / "annotations.json", folder, tmp_path, read_mapping(DEFAULT_MAPPING))
    # Counted in annotations.json: the object is out of view in two frames.
    assert converted.records == {
        "current_box": 20,
        "gripper_det": 22,
        "contact_point": 22,
        "traj_wo_init_pos": 22,
        "traj": 22,
    }
    assert (converted.empty, converted.problems) == ({"current_box": 2}, [])
    catalog = Catalog(tmp_path, built_in=False)
    assert [check_dataset(spec).errors for spec in catalog.values()] == [0] * 5
    second = Mixture("frames_current_box_train", catalog=catalog)[0]
    # Frame 40 of episode 0: pick_box [139, 0, 272, 27].
    assert (second.id, second.answer) == ("frames_0_40_current_box", Box(139, 0, 272, 27))
