"""Named datasets in given proportions: one fixed, reproducible sequence of samples.

`["rh20t_vla_current_box_train%65", "manipvqa_train"]` takes 65 % of the first and all of the second. Which records
those 65 % are depends on the seed, the dataset's name and its number of records alone: not on the process, the rank,
the other datasets or the moment. A smaller percentage takes a part of what a larger one takes.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.sample import Sample
from robointervlm.data.records import Annotations
from robointervlm.data.spec import ROOT_VARIABLE, Catalog, DatasetSpec, Split, data_root

logger = logging.getLogger(__name__)

ALL = "all"


class Entry(NamedTuple):
    """One item of a mixture: a dataset's name and the percentage of its records to take."""

    name: str
    percent: float


class Row(NamedTuple):
    """What a mixture takes from one dataset; `taken` exceeds `records` where the percentage is over 100."""

    name: str
    task: str
    percent: float
    records: int
    taken: int


def parse_entries(written: str | Sequence[str]) -> tuple[Entry, ...]:
    """The entries of a mixture, written as a list or as one text with commas, each `name` or `name%percent`.

    Percentages may have decimals and may exceed 100 (250 takes everything twice and half of it once more). A zero,
    negative or unreadable one is a `RecipeError`, and so is a name that stands there twice.
    """
    items = written.split(",") if isinstance(written, str) else [part for text in written for part in text.split(",")]
    entries = tuple(_entry(item.strip()) for item in items if item.strip())
    if not entries:
        raise RecipeError("the mixture is empty; name at least one dataset, such as sim_current_box_train.")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(
                f"dataset '{name}' stands in the mixture twice; write one entry with the summed percentage."
            )
    if ALL in names and len(names) > 1:
        raise RecipeError(
            f"'{ALL}' stands for every dataset and has no neighbours in a mixture; got {', '.join(names)}."
        )
    return entries


def _entry(item: str) -> Entry:
    name, sign, number = item.partition("%")
    if not sign:
        return Entry(name, 100.0)
    try:
        percent = float(number)
    except ValueError:
        percent = math.nan
    if not name or not math.isfinite(percent) or percent <= 0:
        raise RecipeError(f"'{item}' in the mixture: after % stands the percentage to take, a number over 0.")
    return Entry(name.strip(), percent)


def subset(name: str, records: int, percent: float, seed: int) -> NDArray[np.int64]:
    """The positions that `percent` of a dataset's records are, ascending, each as often as it is taken.

    Rounded to the nearest whole number of records, half down, and never to none.
    """
    if records == 0:
        return np.empty(0, dtype=np.int64)
    wanted = max(1, math.ceil(records * percent / 100 - 0.5 - 1e-9))
    whole, rest = divmod(wanted, records)
    everything = np.repeat(np.arange(records, dtype=np.int64), whole)
    if not rest:
        return everything
    part = _shuffled(records, "subset", seed, name, records)[:rest]
    return np.sort(np.concatenate([everything, part]), kind="stable")


def _shuffled(count: int, *key: object) -> NDArray[np.int64]:
    """0 … count-1 in an order fixed by the key.

    Sorted by Philox's raw output, a stream that numpy promises never to change; its shuffling methods may change.
    """
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    philox = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    return np.argsort(philox.random_raw(count), kind="stable").astype(np.int64)


@dataclass(frozen=True)
class _Part:
    annotations: Annotations
    percent: float
    positions: NDArray[np.int64]


class Mixture(Sequence[Sample]):
    """The samples of several datasets, taken in proportion; the same sequence for the same seed, everywhere.

    `entries` may also be datasets that are in no catalog; these come first. `split` is what `all` and patterns such as
    `sim_*` stand for: the training sets, or those to evaluate on. `follow_links` declares that of every dataset.
    Reading a wrong record raises `RecordError`, as `Annotations` does. Can be pickled, for data-loader workers.
    """

    def __init__(  # noqa: PLR0913 - all but the first by name
        self,
        entries: str | Sequence[str | DatasetSpec],
        *,
        seed: int = 0,
        root: Path | None = None,
        catalog: Catalog | None = None,
        split: Literal["train", "val"] = "train",
        follow_links: bool = False,
    ) -> None:
        self.seed = seed
        found = _resolved(entries, catalog, root, split)
        declared = {"follow_links": True} if follow_links else {}
        self._parts: list[_Part] = []
        for spec, percent in found:
            annotations = Annotations(spec.model_copy(update=declared), root)
            count = len(annotations)
            if count == 0:
                raise DataError(f"dataset '{spec.name}' has no records: {annotations.file.path}.")
            self._parts.append(_Part(annotations, percent, subset(spec.name, count, percent, seed)))
        self._ends = list(accumulate(len(part.positions) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """The sample at this position of the fixed, unshuffled sequence."""
        part, position = self.locate(index)
        return self._parts[part].annotations[position]

    def locate(self, index: int) -> tuple[int, int]:
        """Which dataset of the mixture (as in `table`) and which of its records stands at this position."""
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = self._ends[part - 1] if part else 0
        return part, int(self._parts[part].positions[index - start])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Every position once, in the shuffled order of this epoch; fixed by the seed and the epoch."""
        return _shuffled(len(self), "order", self.seed, epoch)

    def table(self) -> tuple[Row, ...]:
        """What is taken from each dataset, in the order of the mixture."""
        return tuple(
            Row(
                name=part.annotations.spec.name,
                task=part.annotations.spec.task,
                percent=part.percent,
                records=len(part.annotations),
                taken=len(part.positions),
            )
            for part in self._parts
        )

    @property
    def positions(self) -> tuple[NDArray[np.int64], ...]:
        """Which records are taken from each dataset, in the order of the mixture."""
        return tuple(part.positions for part in self._parts)

    @property
    def datasets(self) -> tuple[Annotations, ...]:
        """The datasets, in the order of the mixture."""
        return tuple(part.annotations for part in self._parts)


def _resolved(
    entries: str | Sequence[str | DatasetSpec], catalog: Catalog | None, root: Path | None, split: Split
) -> list[tuple[DatasetSpec, float]]:
    if isinstance(entries, str):
        entries = [entries]
    if any(isinstance(entry, DatasetSpec) for entry in entries):
        given = [(entry, 100.0) for entry in entries if isinstance(entry, DatasetSpec)]
        names = [entry for entry in entries if isinstance(entry, str)]
        return given + (_resolved(names, catalog, root, split) if names else [])
    parsed = parse_entries([entry for entry in entries if isinstance(entry, str)])
    catalog = catalog if catalog is not None else Catalog()
    found: dict[str, tuple[DatasetSpec, float]] = {}
    for name, percent in parsed:
        is_pattern = (name == ALL and ALL not in catalog) or any(mark in name for mark in "*?[")
        for spec in _at_hand(name, catalog, root, split) if is_pattern else [catalog[name]]:
            if spec.name in found:
                raise RecipeError(
                    f"the mixture names '{spec.name}' twice, a dataset and its alias or a pattern that takes it, too: "
                    f"{', '.join(entry.name for entry in parsed)}."
                )
            found[spec.name] = spec, percent
    return list(found.values())


def _at_hand(pattern: str, catalog: Catalog, root: Path | None, split: Split) -> list[DatasetSpec]:
    """Every dataset of the catalog that `all` or a pattern stands for and whose annotation file exists."""
    base, at, coordinates = pattern.partition("@")
    # That of the pattern's own ending, else those of what the mixture is for.
    ending = base.rpartition("_")[2]
    splits: tuple[str, ...] = ("val", "test")
    if ending in get_args(Split):
        splits = (ending,)
    elif base == ALL or split == "train":
        splits = (split,)
    kind = (
        "training" if splits == ("train",) else " and ".join({"val": "validation"}.get(each, each) for each in splits)
    )
    named = [spec for spec in catalog.values() if base == ALL or fnmatch.fnmatchcase(spec.name, base)]
    wanted = [spec for spec in named if spec.split in splits]
    if not wanted:
        others = (
            f"; it takes {len(named)} others, such as {named[0].name}: end it in _{named[0].split}" if named else ""
        )
        raise RecipeError(f"the pattern '{pattern}' takes no {kind} dataset of the catalog{others}.")
    wanted = [spec.in_format(coordinates) for spec in wanted] if at else wanted
    found = [spec for spec in wanted if spec.is_there(root)]
    missing = [spec.name for spec in wanted if not spec.is_there(root)]
    place = f"the data root {data_root(root)}" if data_root(root) else f"a data root, and none is set ({ROOT_VARIABLE})"
    if not found:
        raise DataError(
            f"'{pattern}' found no dataset: none of the {len(missing)} {kind} files is under {place}: "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. `robointer data list` shows where each is."
        )
    names = ", ".join(spec.name for spec in found)
    logger.info("'%s' takes the %d of %d %s datasets at hand: %s", pattern, len(found), len(wanted), kind, names)
    if missing:
        logger.info("'%s': not under %s: %s", pattern, place, ", ".join(missing))
    return found
