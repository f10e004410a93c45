from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import box_record
from PIL import Image

from robointervlm.core.answer import Box, Choice, Points, Text, Trajectory, YesNo
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.sample import Place, Sample, written_question
from robointervlm.data.records import Annotations, RecordError

Read = Callable[..., Annotations]

# The published example, in the three published formats: 320x180 pixels, resized to 308x168.
PUBLISHED = {
    "origin_format": "[[72, 102], [192, 179]]",
    "llava_format": "[[0.22, 0.57], [0.60, 0.99]]",
    "smart_resize_format": "[[69, 95], [184, 167]]",
}


def conversation(*texts: str) -> list[dict[str, str]]:
    roles = ("human", "gpt")
    return [{"from": roles[number % 2], "value": text} for number, text in enumerate(texts)]


def corners(answer: object) -> list[float]:
    assert isinstance(answer, Box)
    return [answer.x1, answer.y1, answer.x2, answer.y2]


def asked(sample: Sample) -> list[str]:
    assert sample.size is not None
    return [written_question(turn.question, Space.pixels(sample.size)) for turn in sample.turns]


# --- formats -------------------------------------------------------------------------------------------------------


def test_a_published_record_is_read_in_pixels(read: Read) -> None:
    sample = read(box_record(), coordinates="origin_format")[0]
    assert (sample.id, sample.task, sample.dataset) == ("RH20T_1#3", "current_box", "ours")
    assert sample.answer == Box(72, 102, 192, 179)
    assert sample.question == ("<image>\nWhere is the cup?",)
    assert sample.size == ImageSize(320, 180)
    assert sample.images[0].path == "pictures/a.png"
    assert sample.raw_answer == '{"current_bbox": [[72, 102], [192, 179]]}'


@pytest.mark.parametrize("coordinates", PUBLISHED)
def test_the_three_published_formats_of_one_record_are_the_same_pixels(read: Read, coordinates: str) -> None:
    record = box_record(f'{{"current_bbox": {PUBLISHED[coordinates]}}}')
    sample = read(record, coordinates=coordinates)[0]
    # Two decimals of 320 are 3.2 pixels apart, and the resized ones were cut to whole pixels of a smaller picture.
    assert corners(sample.answer) == pytest.approx([72, 102, 192, 179], abs=1.7)


def test_resized_numbers_are_read_by_the_size_the_record_gives(read: Read) -> None:
    record = box_record('{"current_bbox": [[77, 84], [154, 168]]}')
    assert read(record, coordinates="resized")[0].answer == Box(80, 90, 160, 180)


def test_resized_numbers_without_the_resized_size_are_an_error_that_names_the_field(read: Read) -> None:
    annotations = read(box_record(new_w=..., new_h=...), coordinates="resized")
    with pytest.raises(RecordError, match="field 'new_w'"):
        annotations[0]


def test_resized_numbers_are_read_by_the_pixel_limits_a_dataset_declares(read: Read) -> None:
    record = box_record('{"current_bbox": [[77, 84], [154, 168]]}', new_w=..., new_h=...)
    annotations = read(record, coordinates="resized", resize_limits=(3136, 1003520))
    assert annotations[0].answer == Box(80, 90, 160, 180)


def test_numbers_inside_a_question_are_converted_with_the_answer(read: Read) -> None:
    record = box_record(
        '{"future_traj": [[77, 84], [154, 168]]}',
        conversations=conversation("<image>\nFrom [77, 42] on?", '{"future_traj": [[77, 84], [154, 168]]}'),
    )
    sample = read(record, task="traj", coordinates="resized")[0]
    assert sample.question[1] == Place(((80.0, 45.0),), "[{}, {}]")
    assert sample.answer == Trajectory(((80.0, 90.0), (160.0, 180.0)))


def test_numbers_in_the_question_of_a_task_without_places_are_left_alone(read: Read) -> None:
    record = box_record(conversations=conversation("<image>\nIn row [3, 4]?", '{"current_bbox": [[1, 2], [3, 4]]}'))
    assert read(record, coordinates="unit")[0].question == ("<image>\nIn row [3, 4]?",)


def test_the_training_format_of_the_readme_is_read(read: Read) -> None:
    record = {
        "id": "sample_id",
        "image": "pictures/a.png",
        "conversations": conversation("<image>\nQuestion about the image", "Answer or prediction"),
    }
    sample = read(record, task="chat")[0]
    assert (sample.id, sample.answer) == ("sample_id", Text("Answer or prediction"))


def test_the_evaluation_format_of_the_readme_is_read(read: Read) -> None:
    record = {
        "id": "sample_id",
        "image_path": "pictures/a.png",
        "question": "Where?",
        "ground_truth": '{"current_bbox": [[1, 2], [3, 4]]}',
    }
    sample = read(record)[0]
    assert sample.question == ("<image>\nWhere?",)
    assert sample.answer == Box(1, 2, 3, 4)


@pytest.mark.parametrize("truth", [[[1, 2], [3, 4]], [1, 2, 3, 4], {"current_bbox": [[1, 2], [3, 4]]}])
def test_a_ground_truth_may_be_json_instead_of_text(read: Read, truth: object) -> None:
    record = {"id": "a", "image_path": "pictures/a.png", "question": "Where?", "ground_truth": truth}
    assert read(record)[0].answer == Box(1, 2, 3, 4)


@pytest.mark.parametrize("images", ["pictures/a.png", ["pictures/a.png"]])
@pytest.mark.parametrize("role", ["human", "huamn", "user"])
@pytest.mark.parametrize("gt", ["Yes", ["Yes"]])
def test_published_validation_records_vary_in_three_fields(read: Read, images: object, role: str, gt: object) -> None:
    record = box_record(
        task="contact_decide",
        conversations=[{"from": role, "value": "<image>\nReached?"}, {"from": "gpt", "value": "Yes"}],
        images=images,
        gt=gt,
    )
    assert read(record, task="contact_decide")[0].answer == YesNo(yes=True)


def test_a_question_without_an_answer_has_it_in_gt(read: Read) -> None:
    record = box_record(conversations=conversation("<image>\nWhere?"), gt=[[1, 2], [3, 4]])
    assert read(record)[0].answer == Box(1, 2, 3, 4)


def test_sharegpt_messages_are_read(read: Read) -> None:
    record = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "<image>Who?"},
            {"role": "assistant", "content": "Kane."},
            {"role": "user", "content": "And here?<image>"},
            {"role": "assistant", "content": "Müller."},
        ],
        "images": ["pictures/a.png", "pictures/a.png"],
    }
    sample = read(record, task="chat")[0]
    assert [turn.answer for turn in sample.turns] == [Text("Kane."), Text("Müller.")]
    assert asked(sample) == ["<image>Who?", "And here?<image>"]
    assert len(sample.images) == 2
    assert sample.extra["system"] == "Be brief."


def test_points_and_choices_are_read_by_their_task(read: Read) -> None:
    points = box_record(conversations=conversation("<image>\nWhere?", '{"contact_point": [[5, 6], [7, 8]]}'))
    assert read(points, task="contact_point")[0].answer == Points(((5.0, 6.0), (7.0, 8.0)))
    choice = box_record(conversations=conversation("<image>\nWhich?", "B"))
    assert read(choice, task="grounding_choice")[0].answer == Choice("B")


def test_a_sample_without_pictures_has_no_size(read: Read) -> None:
    sample = read({"question": "Which?", "ground_truth": "B"}, task="grounding_choice")[0]
    assert (sample.images, sample.size) == ((), None)


# --- pictures ------------------------------------------------------------------------------------------------------


def test_a_record_without_markers_gets_them_in_front_of_its_first_question(read: Read) -> None:
    record = box_record(conversations=conversation("Which?", "A", "Sure?", "A"), images=["pictures/a.png"] * 2)
    assert asked(read(record, task="grounding_choice")[0]) == ["<image>\n<image>\nWhich?", "Sure?"]


def test_a_marker_may_stand_anywhere(read: Read) -> None:
    record = box_record(conversations=conversation("Is <image> it?\n<image>", "A"), images=["pictures/a.png"] * 2)
    assert asked(read(record, task="grounding_choice")[0]) == ["Is <image> it?\n<image>"]


def test_the_size_is_taken_from_the_picture_if_the_record_does_not_say(read: Read, root: Path) -> None:
    sample = read(box_record(h=..., w=...))[0]
    assert (sample.size, sample.images[0].size) == (ImageSize(320, 180), None)


def test_a_dataset_may_declare_the_size_of_all_its_pictures(read: Read) -> None:
    record = box_record('{"current_bbox": [[0, 0], [0.5, 0.5]]}', h=..., w=..., images="missing.png")
    assert read(record, coordinates="unit", image_size=(640, 480))[0].answer == Box(0, 0, 320, 240)


def test_a_leading_part_of_the_paths_that_is_not_on_disk_is_taken_off(read: Read) -> None:
    annotations = read(box_record(images="demo/images/a.png"), strip_prefix="demo/images/", images="pictures")
    assert annotations[0].images[0].path == "a.png"


def test_a_path_without_that_leading_part_is_an_error(read: Read) -> None:
    with pytest.raises(RecordError, match="does not start with 'demo/'"):
        read(box_record(), strip_prefix="demo/")[0]


def test_a_missing_picture_of_a_record_without_a_size_is_named(read: Read) -> None:
    with pytest.raises(RecordError, match=r"record 0 \(id RH20T_1#3\).*none\.png cannot be opened"):
        read(box_record(h=..., w=..., images="none.png"))[0]


def test_a_record_that_names_a_file_outside_its_folder_is_refused(read: Read) -> None:
    with pytest.raises(RefusedError, match=r"record 0 \(id RH20T_1#3\)"):
        read(box_record(h=..., w=..., images="../../etc/passwd"))[0]


# --- ids and extras ------------------------------------------------------------------------------------------------


def test_a_record_without_an_id_gets_the_same_one_at_every_reading(read: Read) -> None:
    record = box_record(id=...)
    first = [sample.id for sample in read(record, record)]
    assert first == [sample.id for sample in read(record, record)]
    assert len(set(first)) == 2


def test_an_id_may_be_a_number(read: Read) -> None:
    assert read(box_record(id=17))[0].id == "17"


def test_what_is_not_read_is_kept(read: Read) -> None:
    sample = read(box_record(episode="RH20T_1", is_local=True))[0]
    assert sample.episode == "RH20T_1"
    assert sample.extra == {"task": "current_box", "is_local": True}


# --- what is wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes,field,reason",
    [
        ({"conversations": ...}, "conversations", "is missing"),
        ({"conversations": []}, "conversations", "is empty"),
        ({"conversations": "Where?"}, "conversations", "is a text"),
        ({"conversations": [3]}, "conversations[0]", "is a number"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "conversations[0].from", "'robot'"),
        ({"conversations": [{"from": "human"}]}, "conversations[0].value", "is missing"),
        ({"conversations": [{"from": "human", "value": 3}]}, "conversations[0].value", "is a number"),
        ({"conversations": conversation("a", "b")[::-1]}, "conversations[0]", "the user's turn is due"),
        ({"conversations": conversation("a")[:1] * 2}, "conversations[1]", "the assistant's turn is due"),
        ({"conversations": conversation("a"), "gt": ...}, "ground_truth", "has no answer"),
        ({"conversations": conversation("a", "<image>")}, "conversations[1].value", "outside a question"),
        ({"conversations": conversation("a<|im_end|>", "b")}, "conversations[0].value", "<|im_end|>"),
        ({"conversations": conversation("a", "b<|image_pad|>")}, "conversations[1].value", "<|image_pad|>"),
        ({"conversations": conversation("a\ud800", "b")}, "conversations[0].value", "surrogate"),
        ({"conversations": conversation("<image><image>a", "b")}, "images", "1 pictures, but the text has 2"),
        ({"images": ["pictures/a.png"] * 2}, "images", "2 pictures, but the text has 1"),
        ({"images": ...}, "images", "0 pictures, but the text has 1"),
        ({"images": 3}, "images", "holds 3"),
        ({"images": [""]}, "images", "holds ''"),
        ({"image": "pictures/a.png"}, "image", "stands beside 'images'"),
        ({"videos": ["a.mp4"]}, "videos", "videos are not read"),
        ({"h": "180"}, "h", "is '180'"),
        ({"h": ...}, "h", "is None"),
        ({"w": 0}, "w", "is 0"),
        ({"w": 1.5}, "w", "is 1.5"),
        ({"w": True}, "w", "is True"),
    ],
)
def test_a_wrong_field_is_an_error_that_names_file_record_field_and_reason(
    read: Read, changes: dict[str, Any], field: str, reason: str
) -> None:
    annotations = read(box_record(id="good"), box_record(**changes))
    assert annotations[0].id == "good"
    with pytest.raises(RecordError) as caught:
        annotations[1]
    problem = caught.value.problem
    assert (problem.file.name, problem.record, problem.id, problem.field) == ("records.json", 1, "RH20T_1#3", field)
    assert reason in problem.reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answer", ["", "I cannot see it.", '{"current_bbox": [[1, 2]]}'])
def test_an_answer_its_task_cannot_read_is_an_error(read: Read, answer: str) -> None:
    with pytest.raises(RecordError, match="field 'answer': .* is not read as current_box"):
        read(box_record(answer))[0]


@pytest.mark.parametrize("record", [None, 3, "text", [1], True])
def test_a_record_that_is_no_object_is_an_error(read: Read, record: object) -> None:
    with pytest.raises(RecordError, match="a record is a JSON object"):
        read(record)[0]


def test_a_jsonl_error_names_the_line(read: Read) -> None:
    text = json.dumps(box_record()) + "\n\n" + json.dumps(box_record(h=0)) + "\n"
    with pytest.raises(RecordError, match=r"records\.json, line 3 \(id RH20T_1#3\): field 'h'"):
        read(text=text)[1]


def test_an_unknown_task_is_an_error_that_names_the_nearest(read: Read) -> None:
    with pytest.raises(DataError.__base__, match="nearest: current_box"):
        read(box_record(), task="curent_box")


# --- the sequence --------------------------------------------------------------------------------------------------


def test_annotations_are_a_sequence(read: Read) -> None:
    annotations = read(*(box_record(id=str(number)) for number in range(4)))
    assert len(annotations) == 4
    assert annotations[-1].id == "3"
    assert [sample.id for sample in annotations[1:3]] == ["1", "2"]
    with pytest.raises(IndexError):
        annotations[4]


def test_annotations_can_be_sent_to_another_process(read: Read) -> None:
    annotations = read(box_record())
    assert pickle.loads(pickle.dumps(annotations))[0] == annotations[0]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    field=st.sampled_from([*box_record(), "image", "messages", "question", "ground_truth", "episode", "video"]),
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["from", "value", "role", "content", "x"]), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)
def test_any_value_in_any_field_gives_a_sample_or_an_error_of_ours(read: Read, field: str, value: object) -> None:
    annotations = read(box_record(**{field: value}))
    try:
        found: object = annotations[0]
    except (RecordError, RefusedError) as error:
        found = str(error)
    assert isinstance(found, Sample) or "records.json, record 0" in str(found)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    box=st.tuples(*[st.integers(0, 2000)] * 4),
    size=st.tuples(st.integers(28, 2000), st.integers(28, 2000)),
    kind=st.sampled_from(list(CoordinateFormat)),
)
def test_a_box_written_in_any_format_is_read_back_within_its_rounding(
    read: Read, box: tuple[int, int, int, int], size: tuple[int, int], kind: CoordinateFormat
) -> None:
    expected = Box.spanning(box[:2], box[2:])
    space = Space(kind, ImageSize(*size), ImageSize(308, 168))
    text = json.dumps([[float(space.number(v)) for v in point] for point in space.from_pixels(expected.corners)])
    record = box_record(text, w=size[0], h=size[1])
    step = [side / extent * 10**-kind.decimals for side, extent in zip(size, space.extent, strict=True)]
    found = read(record, coordinates=kind.value)[0].answer
    for value, wanted, tolerance in zip(corners(found), corners(expected), step * 2, strict=True):
        assert abs(value - wanted) <= tolerance / 2 + 1e-6


def test_a_picture_is_only_opened_when_a_record_does_not_say_its_size(read: Read, root: Path) -> None:
    Image.new("RGB", (10, 10)).save(root / "pictures" / "b.png")
    (root / "pictures" / "a.png").unlink()
    assert read(box_record())[0].size == ImageSize(320, 180)


# --- planning records: one file, three tasks -----------------------------------------------------------------------


def planning_record(identifier: str, answer: str, **fields: Any) -> dict[str, Any]:
    return {"id": identifier, "conversations": conversation("What now?", answer), **fields}


def test_a_planning_record_is_of_the_task_its_id_names(read: Read) -> None:
    samples = list(
        read(
            planning_record("7_Planning_Task_1", "pick up the cup"),
            planning_record("7_Scene_Understanding_1", "D. open the drawer"),
            planning_record("7_Success_(Negative)_Task_1", "No"),
            task="planning",
        )
    )
    assert [sample.task for sample in samples] == ["planning", "planning_choice", "planning_decide"]
    # The texts are kept as they are, for training on them.
    assert [sample.answer for sample in samples] == [Text("pick up the cup"), Text("D. open the drawer"), Text("No")]


def test_a_planning_record_that_names_no_kind_is_of_its_datasets_task(read: Read) -> None:
    samples = list(
        read(
            planning_record("17", "Yes"),
            planning_record("18", "A", task="Temporal_Understanding"),
            planning_record("x_Planning_Task_Scene_Understanding", "No"),
            task="planning_decide",
        )
    )
    assert [sample.task for sample in samples] == ["planning_decide", "planning_choice", "planning_decide"]


def test_other_tasks_do_not_look_at_the_id(read: Read) -> None:
    assert read(planning_record("7_Planning_Task_1", "a"), task="chat")[0].task == "chat"


# --- a part of a file ----------------------------------------------------------------------------------------------


def test_where_takes_the_records_that_have_one_of_the_values(read: Read) -> None:
    records = [
        box_record(id=str(number), skill=skill) for number, skill in enumerate(["push", "pick", "place", "pick"])
    ]
    dataset = read(*records, where={"skill": ["pick", "place"]})
    assert [sample.id for sample in dataset] == ["1", "2", "3"]
    assert [sample.id for sample in pickle.loads(pickle.dumps(dataset))] == ["1", "2", "3"]


def test_a_wrong_record_of_a_part_is_named_by_its_place_in_the_file(read: Read) -> None:
    dataset = read(
        box_record(id="1", skill="push"), box_record("nowhere", id="2", skill="pick"), where={"skill": ["pick"]}
    )
    with pytest.raises(RecordError) as caught:
        dataset[0]
    assert caught.value.problem.record == 1


def test_a_part_that_holds_nothing_is_refused_by_name(read: Read) -> None:
    with pytest.raises(DataError, match="skill = fly"):
        read(box_record(skill="push"), where={"skill": ["fly"]})
