"""Every item is in one share, the same on every machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.jobs.share import Share


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/", "a/b", "-1/2", "1/0", "1/2/3", "1 2"])
def test_what_is_no_share_is_told_with_one_that_is(text):
    with pytest.raises(ValueError, match=f"'{text}' is no shard; 1/4 is the first of four"):
        Share.named(text)


def test_a_share_is_written_as_it_is_read():
    assert [str(share) for share in Share.all(3)] == ["1/3", "2/3", "3/3"]
    assert Share.named("3/8") == Share(3, 8)


def test_a_key_keeps_its_share():
    # Shares of machines with different versions must not overlap. By sha256sum of `["current_box", "q0"]` and so on.
    found = [[str(share) for share in Share.all(4) if share.takes_key("current_box", f"q{n}")] for n in range(4)]
    assert found == [["4/4"], ["2/4"], ["2/4"], ["4/4"]]


@given(st.text(), st.text(), st.integers(1, 9))
def test_every_key_is_in_exactly_one_share(task, question, of):
    assert sum(share.takes_key(task, question) for share in Share.all(of)) == 1


@given(st.integers(0, 40), st.integers(1, 9))
def test_every_place_is_in_exactly_one_share_and_shares_are_equal(items, of):
    parts = [[place for place in range(items) if share.takes(place)] for share in Share.all(of)]
    assert sorted(place for part in parts for place in part) == list(range(items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
