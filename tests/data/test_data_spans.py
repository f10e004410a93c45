"""The places of records are those at which Python's own parser finds them, wherever the window happens to end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robointervlm.core.errors import DataError
from robointervlm.data import spans
from robointervlm.data.spans import line_spans, list_spans, object_spans

NAME = Path("a.json")
texts = st.text(st.sampled_from('ab{}[]",:\\\n\t é€\U0001f600\u0085\u00a0') | st.characters(codec="utf-8"), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
written = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 2]),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (" ,\r\n", "\t: ")]),
    }
)


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CHUNK", 5)


def read(content: bytes, places: Any) -> list[Any]:
    return [json.loads(content[start:end]) for start, end in places]


@pytest.mark.usefixtures("small_window")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(values, max_size=5), written, st.sampled_from(["", " ", "\n\n\t"]))
def test_a_list_is_cut_where_json_loads_would(made: list[Any], how: dict[str, Any], space: str) -> None:
    content = (space + json.dumps(made, **how) + space).encode()
    assert read(content, list_spans(NAME, io.BytesIO(content), len(space))) == made


@pytest.mark.usefixtures("small_window")
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(texts, values, max_size=3), max_size=4), values, written)
def test_the_list_of_an_object_is_cut_where_json_loads_would(made: list[Any], info: Any, how: dict[str, Any]) -> None:
    content = json.dumps({"info": [1, info], "data": made}, **how).encode()
    assert read(content, object_spans(NAME, io.BytesIO(content), 0)) == made


@pytest.mark.usefixtures("small_window")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text('[]{}",: 1aeE.-\\u0nul', max_size=24).map(lambda text: f"[{text}]"))
def test_what_json_loads_refuses_is_refused_and_nothing_else(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=spans.refuse_constant)
    except ValueError:
        expected = None
    content = text.encode()
    try:
        found = read(content, list_spans(NAME, io.BytesIO(content), 0))
    except DataError:
        found = None
    assert found == expected


def test_a_damaged_list_is_named_with_the_byte_and_the_record() -> None:
    content = b'[{"a": "\xc3\xa9"}, {"b": 1}, {"c": x}]'
    with pytest.raises(DataError, match=r"a\.json is not valid JSON: Expecting value \(byte 30, in record 2\)"):
        list_spans(NAME, io.BytesIO(content), 0)


@pytest.mark.usefixtures("small_window")
@pytest.mark.parametrize("content", [b'[{"a": 1} {"b": 2}]', b'[{"a": 1},]', b'[{"a": 1}', b"[1]]", b'[{"a": "x]'])
def test_a_list_that_is_not_whole_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="is not valid JSON"):
        list_spans(NAME, io.BytesIO(content), 0)


@pytest.mark.usefixtures("small_window")
def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    content = b'{"data": [{"x": 1}], "info": 3, "data": [{"x": 2}, {"x": 3}]}'
    assert read(content, object_spans(NAME, io.BytesIO(content), 0)) == [{"x": 2}, {"x": 3}]


def test_lines_have_their_numbers() -> None:
    assert line_spans(io.BytesIO(b'\n{"a": 1}\n \n{"b": 2}'), 1).tolist() == [[1, 10, 2], [12, 20, 4]]


def test_a_long_list_is_walked_with_a_window_and_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "CHUNK", 1000)
    content = json.dumps([{"text": "x" * 90}] * 2000).encode()

    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1) -> bytes:
            Watched.largest = max(Watched.largest, size or 0)
            return super().read(size)

    assert len(list_spans(NAME, Watched(content), 0)) == 2000
    assert Watched.largest == 1000
