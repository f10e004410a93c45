from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import box_record

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.data.prepare.rewrite import Shape, rewritten
from robointervlm.data.records import Annotations

Read = Callable[..., Annotations]


def one(annotations: Annotations, to: str, shape: Shape = "published") -> dict[str, Any]:
    return next(rewritten(annotations, CoordinateFormat.named(to), shape))


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
