"""Rows of an epoch: which samples are drawn together, and what each row holds."""

from __future__ import annotations

import numpy as np
import pytest

from robointervlm.train.packing.plan import Group, Lengths, rows_of


def lengths(tokens: list[int], shared: list[int], group: list[int]) -> Lengths:
    return Lengths(np.array(tokens), np.array(shared), np.array(group))


def test_samples_about_one_picture_are_drawn_to_the_first_of_them():
    known = lengths([10] * 5, [6, 0, 6, 0, 6], [0, 1, 0, 2, 0])
    rows = rows_of(np.array([1, 4, 3, 0, 2]), 7, known, most=2, max_tokens=30)
    # 10, then 6 + 4 + 4 = 14, in the first row; 10 for sample 3 opens the second, as 10 + 14 + 10 exceeds 30. The
    # third sample on the picture may not stand in a row with the first two.
    assert rows[:] == [(Group(7, (1,)), Group(7, (4, 0))), (Group(7, (3,)), Group(7, (2,)))]
    assert rows.rooms(known).tolist() == [24, 20]


def test_a_group_ends_where_the_row_would_be_too_long():
    known = lengths([10, 12, 10], [6, 6, 6], [0, 0, 0])
    rows = rows_of(np.arange(3), 0, known, most=8, max_tokens=18)
    assert rows[:] == [(Group(0, (0, 1)),), (Group(0, (2,)),)]


def test_rows_are_counted_from_both_ends():
    rows = rows_of(np.arange(3), 0, lengths([5] * 3, [0] * 3, [0, 1, 2]), most=1, max_tokens=5)
    assert (len(rows), rows[-1], rows[1:]) == (3, (Group(0, (2,)),), [(Group(0, (1,)),), (Group(0, (2,)),)])
    with pytest.raises(IndexError):
        rows[3]


def test_samples_that_take_no_room_are_kept():
    rows = rows_of(np.arange(2), 0, lengths([0, 5], [0, 0], [0, 1]), most=1, max_tokens=5)
    assert rows[:] == [(Group(0, (0,)), Group(0, (1,)))]
