from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.runs.journal import Journal, decoded_line, encoded_line, read_journal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "check"), VALUES, min_size=1))
def test_a_line_gives_its_entry_back(entry):
    line = encoded_line(entry)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decoded_line(line[:-1]) == json.loads(json.dumps(entry))


def test_half_a_surrogate_pair_is_kept():
    assert decoded_line(encoded_line({"reply": "\ud83d"})[:-1]) == {"reply": "\ud83d"}


def test_every_flipped_bit_is_noticed():
    line = encoded_line({"key": "a", "reply": "[[10, 20], [30, 40]]"})[:-1]
    for place in range(len(line)):
        for bit in range(8):
            damaged = bytearray(line)
            damaged[place] ^= 1 << bit
            assert decoded_line(bytes(damaged)) is None or b"\n" in damaged


def test_nan_is_refused_instead_of_written():
    with pytest.raises(ValueError, match="JSON"):
        encoded_line({"value": float("nan")})


def test_appended_entries_are_there_when_opened_again(tmp_path):
    with Journal(tmp_path / "records.jsonl") as journal:
        journal.append({"key": "a"})
        journal.append({"key": "b", "text": "ü"})
    with Journal(tmp_path / "records.jsonl") as journal:
        assert journal.entries == [{"key": "a"}, {"key": "b", "text": "ü"}]
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_reading_changes_nothing(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_bytes(encoded_line({"key": "a"}) + b'{"torn')
    before = path.read_bytes()
    content = read_journal(path)
    assert (content.entries, content.torn_tail) == ([{"key": "a"}], b'{"torn')
    assert path.read_bytes() == before
