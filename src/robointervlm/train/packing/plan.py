"""The rows of an epoch: samples that share their pictures drawn together, groups of them put into rows.

Arrays throughout, since an epoch may hold millions of samples; a row becomes objects when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# How many rows are open for the next group at once: enough to leave little of a row unused, few enough to stay mixed.
OPEN_BINS = 16


class Group(NamedTuple):
    """Samples of one epoch that share their pictures, by their place in the mixture."""

    epoch: int
    samples: tuple[int, ...]


Row = tuple[Group, ...]


@dataclass(frozen=True)
class Lengths:
    """What the plan knows of each sample; arrays of shape (samples,).

    `tokens` is the length, 0 for a sample that cannot be read or is too long: it takes no room and is counted when its
    turn comes. Samples of one `group` have the same pictures and the same first `shared` tokens.
    """

    tokens: Integers
    shared: Integers
    group: Integers

    def room(self, samples: Sequence[int]) -> int:
        """How many tokens a group takes at most: what is shared once, the rest of each sample."""
        return int(self.rooms(np.array(samples), np.zeros(1, dtype=np.int64))[0])

    def rooms(self, samples: Integers, starts: Integers) -> Integers:
        """The room of several groups, of which `starts` says where in `samples` each begins."""
        shared = self.shared[samples[starts]]
        sizes = np.diff(starts, append=len(samples))
        return np.add.reduceat(self.tokens[samples], starts) - (sizes - 1) * shared


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Row]):
    """All rows of an epoch, in order: `samples` row by row, where each group ends in it, where each row in those.

    `turns` says which of these rows each turn takes.
    """

    epoch: int
    samples: Integers
    group_ends: Integers
    row_ends: Integers
    turns: Integers

    def __len__(self) -> int:
        return len(self.turns)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = int(self.turns[index])
        first = int(self.row_ends[index - 1]) if index else 0
        ends = self.group_ends[first : self.row_ends[index]].tolist()
        begins = [int(self.group_ends[first - 1]) if first else 0, *ends[:-1]]
        pairs = zip(begins, ends, strict=True)
        return tuple(Group(self.epoch, tuple(self.samples[begin:end].tolist())) for begin, end in pairs)

    def rooms(self, lengths: Lengths) -> Integers:
        """How many tokens each row holds at most."""
        groups = lengths.rooms(self.samples, np.concatenate([[0], self.group_ends[:-1]]))
        rooms: Integers = np.add.reduceat(groups, np.concatenate([[0], self.row_ends[:-1]]))
        return rooms[self.turns]

    def longest_first(self, lengths: Lengths, wanted: Sequence[int]) -> Rows:
        """The longest row at the first wanted turn, the next one at the second; they change places with what is there.

        A turn that there is not is passed over.
        """
        free = [turn for turn in wanted if turn < len(self)]
        longest = self.turns[np.argsort(-self.rooms(lengths), kind="stable")[: len(free)]]
        turns = self.turns.copy()
        for row, turn in zip(longest, free, strict=True):
            before = int(np.flatnonzero(turns == row)[0])
            turns[[turn, before]] = turns[[before, turn]]
        return replace(self, turns=turns)


def rows_of(order: Integers, epoch: int, lengths: Lengths, *, most: int, max_tokens: int) -> Rows:
    """The samples in this order in rows of at most `max_tokens`, no more than `most` on the same pictures in a row."""
    together = np.argsort(lengths.group[order], kind="stable")
    starts, rooms = _groups(lengths, order[together], most, max_tokens)
    # A group stands where its first sample stands in the epoch.
    turns = np.argsort(together[starts], kind="stable")
    kinds = lengths.group[order[together[starts[turns]]]]
    filled = list(_filled(rooms[turns].tolist(), kinds.tolist(), max_tokens))
    groups = turns[np.concatenate([np.array(row, dtype=np.int64) for row in filled])]
    sizes = np.diff(starts, append=len(order))[groups]
    ends = np.cumsum(sizes)
    places = np.repeat(starts[groups] - (ends - sizes), sizes) + np.arange(len(order))
    row_ends = np.cumsum([len(row) for row in filled])
    return Rows(epoch, order[together[places]], ends, row_ends, np.arange(len(filled)))


def _groups(lengths: Lengths, samples: Integers, most: int, max_tokens: int) -> tuple[Integers, Integers]:
    """Where a new group begins among samples sorted by their pictures, and the room of each group."""
    starts: list[int] = []
    rooms: list[int] = []
    columns = (lengths.group, lengths.tokens, lengths.shared)
    last, count, room, first_shared = -1, 0, 0, 0
    for place, (kind, tokens, shared) in enumerate(zip(*(column[samples].tolist() for column in columns), strict=True)):
        if kind == last and count < most and room + tokens - first_shared <= max_tokens:
            count, room = count + 1, room + tokens - first_shared
            rooms[-1] = room
        else:
            last, count, room, first_shared = kind, 1, tokens, shared
            starts.append(place)
            rooms.append(room)
    return np.array(starts, dtype=np.int64), np.array(rooms, dtype=np.int64)


def _filled(rooms: Sequence[int], kinds: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Each group, by number, in the first open row that has room for it and does not hold its pictures yet."""
    free: list[int] = []
    held: list[set[int]] = []
    rows: list[list[int]] = []
    for group, (room, kind) in enumerate(zip(rooms, kinds, strict=True)):
        for place, left in enumerate(free):
            if room <= left and kind not in held[place]:
                break
        else:
            if len(rows) == OPEN_BINS:
                fullest = free.index(min(free))
                yield rows.pop(fullest)
                del free[fullest], held[fullest]
            place = len(rows)
            free.append(max_tokens)
            held.append(set())
            rows.append([])
        rows[place].append(group)
        held[place].add(kind)
        free[place] -= room
    yield from rows
