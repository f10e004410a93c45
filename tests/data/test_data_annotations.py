from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robointervlm.core.errors import DataError
from robointervlm.data.annotations import RecordError, RecordFile

RECORDS = [{"id": "1", "question": "Ü?"}, {"id": "2", "question": "b"}]
LINES = "\n".join(json.dumps(record) for record in RECORDS)


def opened(folder: Path, content: str | bytes, name: str = "a.json") -> RecordFile:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return RecordFile(folder / name)


def records(file: RecordFile) -> list[Any]:
    return [file[index] for index in range(len(file))]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "coco_ref_where2place.txt"])
@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2, ensure_ascii=False),
        "  \n" + json.dumps(RECORDS),
        "\ufeff" + json.dumps(RECORDS),
        json.dumps({"info": {"version": 1}, "tags": ["a"], "annotations": RECORDS}),
        json.dumps({"info": "x", "data": RECORDS}, indent=1),
        LINES,
        LINES + "\n",
        "\ufeff" + LINES,
        "\n\n" + LINES.replace("\n", "\r\n\n \n") + "\n\n",
    ],
)
def test_the_content_decides_how_a_file_is_read_and_not_its_name(tmp_path: Path, name: str, content: str) -> None:
    assert records(opened(tmp_path, content, name)) == RECORDS


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_of_one_record_has_one(tmp_path: Path, indent: int | None) -> None:
    assert records(opened(tmp_path, json.dumps(RECORDS[0], indent=indent))) == RECORDS[:1]


def test_an_empty_list_has_no_records(tmp_path: Path) -> None:
    assert len(opened(tmp_path, "[]")) == 0


@pytest.mark.parametrize(
    "content,reason",
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("id,question\n", "neither JSON nor JSONL"),
        ('[{"a": 1},', "not valid JSON"),
        ('[{"a": NaN}]', "NaN is not a JSON number"),
        ('[{"a": -Infinity}]', "-Infinity is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"a": ' + "9" * 5000 + "}]", "not valid JSON"),
        (b'[{"a": "\xff"}]', "not valid JSON"),
        (json.dumps(RECORDS).encode("utf-16"), "is UTF-16"),
        (json.dumps({"train": RECORDS, "val": RECORDS}), "has 2 of them"),
        (json.dumps({"images": 3}), "has only images"),
    ],
)
def test_a_file_that_holds_no_records_is_an_error_that_names_it(
    tmp_path: Path, content: str | bytes, reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        len(opened(tmp_path, content))
    assert "a.json" in str(caught.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json cannot be read: No such file"):
        RecordFile(tmp_path / "none.json")


def test_of_a_damaged_line_the_number_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    file = opened(tmp_path, '{"id": 1}\n\n{"id": 2, \n{"id": 3}\n')
    assert len(file) == 3
    assert file[2] == {"id": 3}
    with pytest.raises(RecordError, match=r"a\.json, line 3: .*is not JSON") as caught:
        file[1]
    assert (caught.value.problem.record, caught.value.problem.line) == (1, 3)


def test_a_damaged_first_line_does_not_hide_the_others(tmp_path: Path) -> None:
    file = opened(tmp_path, '{"id": 1,}\n{"id": 2}\n')
    assert file[1] == {"id": 2}
    with pytest.raises(RecordError, match="line 1"):
        file[0]


def test_a_record_error_survives_the_way_to_another_process(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        opened(tmp_path, '{"id": 1,}\n{"id": 2}\n')[0]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("content", [LINES, json.dumps(RECORDS)])
def test_a_file_can_be_sent_to_another_process_without_its_content(tmp_path: Path, content: str) -> None:
    file = opened(tmp_path, content)
    assert len(file) == 2
    sent = pickle.dumps(file)
    assert b"question" not in sent
    assert records(pickle.loads(sent)) == RECORDS


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text('[]{}",:\n 1aeE.-\\u', max_size=60).map(str.encode)))
def test_any_content_gives_records_or_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    with contextlib.suppress(DataError):
        records(opened(tmp_path, content))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4), min_size=1, max_size=4))
def test_the_same_records_are_read_from_a_list_and_from_lines(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    assert records(opened(tmp_path, json.dumps(made))) == made
    # A single line that is an object could be a list in a wrapper; two lines are JSONL.
    doubled = made + made
    assert records(opened(tmp_path, "\n".join(json.dumps(record) for record in doubled))) == doubled
