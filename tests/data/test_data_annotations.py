from __future__ import annotations

import contextlib
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robointervlm.core.errors import DataError
from robointervlm.data.annotations import RecordError, RecordFile, RecordProblem

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
        ("[" * 100_000, "nested too deeply"),
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


@pytest.mark.parametrize(
    "wrong,reason",
    [
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON: Exceeds the limit"),
        (b'{"a": "\xff"}', "is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b'{"a": ' + b"[" * 100_000 + b'"]{"' + b"]" * 100_000 + b"}", "is not JSON: it is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "is not JSON: it is nested too deeply"),
    ],
)
@pytest.mark.parametrize("between", [b"[%s,%s,%s]", b'{"data": [%s, %s, %s]}', b"%s\n%s\n%s\n"])
def test_a_value_that_is_no_json_is_an_error_of_its_record_alone(
    tmp_path: Path, wrong: bytes, reason: str, between: bytes
) -> None:
    file = opened(tmp_path, between % (b'{"id": 1}', wrong, b'{"id": 3}'))
    assert (len(file), file[0], file[2]) == (3, {"id": 1}, {"id": 3})
    with pytest.raises(RecordError, match=re.escape(reason)) as caught:
        file[1]
    assert caught.value.problem.record == 1


@pytest.mark.parametrize("first", ["[1, 2]", "null", '"text"', '{"id": "cut o', "<<<<<<< ours", '{"id": 1}}'])
def test_a_first_line_that_is_no_record_does_not_hide_the_others(tmp_path: Path, first: str) -> None:
    file = opened(tmp_path, f'{first}\n{{"id": 2}}\n{{"id": 3}}\n')
    assert (len(file), file[1], file[2]) == (3, {"id": 2}, {"id": 3})


@pytest.mark.parametrize("text", ['{"data": [\n{"id": 1}\n]}', '[\n{"id": 1}\n]', '[{"id": 1}\n,\n{"id": 2}\n]'])
def test_a_list_over_several_lines_is_no_file_of_lines(tmp_path: Path, text: str) -> None:
    assert opened(tmp_path, text)[0] == {"id": 1}


def test_what_a_problem_quotes_is_shown_by_any_terminal() -> None:
    problem = RecordProblem(Path("a.json"), 3, "id", "holds \x1b[31m\nand \ud83d", "n\u202e1")
    assert str(problem) == r"a.json, record 3 (id n\u202e1): field 'id': holds \x1b[31m\nand \ud83d"


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
