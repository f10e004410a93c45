"""K of N: which items belong to a share, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple, Self


class Share(NamedTuple):
    """The `number`-th of `of` shares, counted from 1."""

    number: int
    of: int

    @classmethod
    def named(cls, text: str) -> Self:
        """The share that `K/N` names; a `ValueError` where it is none."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError(f"'{text}' is no shard; 1/4 is the first of four")
        return cls(int(number), int(of))

    @classmethod
    def all(cls, of: int) -> list[Self]:
        """So many shares, in order."""
        return [cls(number, of) for number in range(1, of + 1)]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def takes(self, place: int) -> bool:
        """Whether the item at this place of a list, counted from 0, is of this share; shares differ by one at most."""
        return place % self.of == self.number - 1

    def takes_key(self, *key: str) -> bool:
        """Whether the item of this key is of this share, by a hash: whatever the order, and whatever else there is."""
        digest = hashlib.sha256(json.dumps(key).encode("ascii")).digest()
        return self.takes(int.from_bytes(digest[:8], "big"))
