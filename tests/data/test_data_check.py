from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import box_record
from PIL import Image

from robointervlm.data.annotations import RecordProblem
from robointervlm.data.prepare.check import Checked, check_dataset, check_splits
from robointervlm.data.records import Annotations

Read = Callable[..., Annotations]
SWAPPED = '{"current_bbox": [[192, 179], [72, 102]]}'


def checked(read: Read, root: Path, *records: Any, quick: bool = False, **options: Any) -> Checked:
    return check_dataset(read(*records, **options).spec, root, quick=quick)


def found(result: Checked) -> list[tuple[int, str, str]]:
    return [(problem.record, problem.severity, problem.field) for problem in result.problems]


def test_a_good_dataset_has_no_problems(read: Read, root: Path) -> None:
    result = checked(read, root, box_record(), box_record(id="2"))
    assert (result.records, result.pictures, result.problems) == (2, 1, ())


def test_every_problem_is_listed_with_its_record(read: Read, root: Path) -> None:
    result = checked(
        read,
        root,
        box_record(id="0"),
        box_record(id="1", images="pictures/none.png"),
        box_record(id="2", h="180"),
        box_record('{"current_bbox": [[400, 10], [500, 20]]}', id="3"),
        box_record(SWAPPED, id="4"),
        box_record("no idea", id="5"),
        box_record(id="0"),
        7,
    )
    assert found(result) == [
        (1, "error", "images"),
        (2, "error", "h"),
        (3, "error", "answer"),
        (4, "error", "answer"),
        (5, "error", "answer"),
        (6, "error", "id"),
        (7, "error", ""),
    ]
    assert result.errors == 7


def test_a_box_partly_outside_is_a_warning_and_one_wholly_outside_an_error(read: Read, root: Path) -> None:
    partly = box_record('{"current_bbox": [[300, 10], [340, 20]]}', id="1")
    wholly = box_record('{"current_bbox": [[10, -50], [40, -20]]}', id="2")
    result = checked(read, root, partly, wholly)
    assert found(result) == [(0, "warning", "answer"), (1, "error", "answer")]
    assert (result.errors, result.warnings) == (1, 1)


def test_a_box_that_touches_the_edge_is_inside(read: Read, root: Path) -> None:
    assert checked(read, root, box_record('{"current_bbox": [[0, 0], [320, 180]]}')).problems == ()


def test_a_box_without_an_area_is_an_error(read: Read, root: Path) -> None:
    result = checked(read, root, box_record('{"current_bbox": [[10, 10], [10, 20]]}'))
    assert "has no area" in result.problems[0].reason


def test_points_outside_the_picture_are_a_warning(read: Read, root: Path) -> None:
    text = '{"future_traj": [[10, 10], [330, 20]]}'
    record = box_record(conversations=[{"from": "human", "value": "From [1, 999] on?"}, {"from": "gpt", "value": text}])
    result = checked(read, root, record, task="traj")
    assert found(result) == [(0, "warning", "answer"), (0, "warning", "question")]
    assert "1 of 2 points" in result.problems[0].reason


def test_a_truncated_picture_is_found_but_not_by_a_quick_check(read: Read, root: Path) -> None:
    content = (root / "pictures" / "a.png").read_bytes()
    (root / "pictures" / "a.png").write_bytes(content[:-40])
    assert found(checked(read, root, box_record())) == [(0, "error", "images")]
    assert checked(read, root, box_record(), quick=True).problems == ()


def test_a_picture_of_another_size_than_the_record_says_is_an_error(read: Read, root: Path) -> None:
    Image.new("RGB", (640, 480)).save(root / "pictures" / "a.png")
    result = checked(read, root, box_record())
    assert found(result) == [(0, "error", "w")]
    assert "says 320x180, but the picture pictures/a.png is 640x480" in result.problems[0].reason


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(28, 60), st.integers(28, 60))
def test_width_and_height_swapped_are_found_on_every_picture_that_is_not_square(
    read: Read, root: Path, width: int, height: int
) -> None:
    Image.new("RGB", (width, height)).save(root / "pictures" / "a.png")
    answer = '{"current_bbox": [[2, 3], [20, 25]]}'
    result = checked(read, root, box_record(answer, w=height, h=width))
    assert (result.problems == ()) == (width == height)
    assert all("width and height are swapped" in problem.reason for problem in result.problems)


def test_a_record_that_is_wrong_twice_is_listed_twice(read: Read, root: Path) -> None:
    result = checked(read, root, box_record("no idea", images="pictures/none.png"))
    assert found(result) == [(0, "error", "answer"), (0, "error", "images")]


def test_a_picture_outside_the_root_is_an_error(read: Read, root: Path) -> None:
    result = checked(read, root, box_record(images="../../etc/passwd"), box_record(images="/etc/passwd", w=..., h=...))
    assert found(result) == [(0, "error", "images"), (1, "error", "images")]


@pytest.mark.parametrize("text", ["", "[1, 2", "hello"])
def test_a_file_that_cannot_be_read_is_one_problem(read: Read, root: Path, text: str) -> None:
    (root / "records.json").write_text("[]")
    spec = read().spec
    (root / "records.json").write_text(text)
    result = check_dataset(spec, root)
    assert found(result) == [(-1, "error", "")]
    assert result.problems[0].place == "the file"


def test_a_file_without_records_is_an_error(read: Read, root: Path) -> None:
    assert found(checked(read, root)) == [(-1, "error", "")]


def test_the_result_can_be_written_as_json(read: Read, root: Path) -> None:
    written = checked(read, root, box_record(SWAPPED)).as_json()
    assert written["problems"][0]["reason"].startswith("the corners in")
    assert (written["records"], written["errors"], written["warnings"]) == (1, 1, 0)


def test_several_processes_find_what_one_finds(read: Read, root: Path) -> None:
    # Three ranges; the double name is found across two of them.
    records = [box_record(id=str(index % 8999), images="pictures/a.png") for index in range(9000)]
    records[5000]["images"] = "pictures/none.png"
    spec = read(*records).spec
    one, two = (check_dataset(spec, root, quick=True, workers=workers) for workers in (1, 2))
    assert one == two
    assert found(two) == [(5000, "error", "images"), (8999, "error", "id")]
    assert two.pictures == 2


def test_an_episode_in_training_and_validation_is_an_error_of_validation(read: Read, root: Path) -> None:
    spec = read(box_record(id="1", episode="RH20T_1"), box_record(id="2", episode="RH20T_2")).spec
    results = [
        check_dataset(spec, root),
        check_dataset(spec.model_copy(update={"name": "held_out", "split": "val"}), root),
    ]
    train, held_out = check_splits(results)
    assert train.errors == 0
    assert found(held_out) == [(0, "error", "episode"), (1, "error", "episode")]
    assert "'RH20T_1' is in the training set ours" in held_out.problems[0].reason


def test_an_episode_is_read_from_a_picture_key(read: Read, root: Path) -> None:
    result = check_dataset(read(box_record(images="folder/RH20T_cfg3#17")).spec, root)
    assert dict(result.episodes) == {"RH20T_cfg3": 0}


@pytest.mark.parametrize("yes, warnings", [(150, 1), (110, 0)])
def test_answers_out_of_balance_are_a_warning(read: Read, root: Path, yes: int, warnings: int) -> None:
    records = [box_record("Yes" if index < yes else "No", id=str(index)) for index in range(200)]
    result = checked(read, root, *records, task="contact_decide")
    assert dict(result.answers) == {"contact_decide": {"yes": yes, "no": 200 - yes}}
    assert (result.errors, result.warnings) == (0, warnings)


def test_every_problem_is_listed_when_it_is_found(read: Read, root: Path) -> None:
    listed: list[RecordProblem] = []
    result = check_dataset(read(box_record("?"), box_record(), box_record()).spec, root, listed=listed.append)
    assert [problem.field for problem in listed] == ["answer", "id"]
    assert dict(result.kinds) == {("error", "answer"): 1, ("error", "id"): 1}
