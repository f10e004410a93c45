"""The samples of datasets and the predictions of runs, a page at a time, as `robointer app` shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from markupsafe import Markup

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.data.records import Annotations, RecordError, RefusedRecordError
from robointervlm.data.spec import Catalog, DatasetSpec
from robointervlm.report.fragments import (
    SampleCard,
    conversation_text,
    prediction_cards,
    sample_card,
    sample_cards,
)
from robointervlm.report.page import badness
from robointervlm.report.scored import ScoredRun, read_scored

Order = Literal["worst first", "best first", "as asked"]
ORDERS: tuple[Order, ...] = get_args(Order)
ALL = "all"
PER_PAGE = 12


class Page(NamedTuple):
    """One page of cards: `number` of `pages`, from 1, and what it is a page of, in words."""

    cards: Markup
    number: int
    pages: int
    summary: str


class Filters(NamedTuple):
    """What a source can be narrowed to; `ALL` comes first."""

    datasets: tuple[str, ...]
    tasks: tuple[str, ...]
    orders: tuple[Order, ...]


class Wanted(NamedTuple):
    """What of a source is looked at."""

    dataset: str = ALL
    task: str = ALL
    order: Order = "worst first"
    page: int = 1


class RunBrowser:
    """What there is to browse: scored runs below one folder, and catalogued datasets that lie below another.

    Both are found when it is made. `sources` are their names, as `run …` and `dataset …`.
    """

    def __init__(self, runs: Path | None = None, root: Path | None = None, catalog: Catalog | None = None) -> None:
        self._runs = {} if runs is None else {f"run {name}": folder for name, folder in _scored_runs(runs).items()}
        specs = {} if root is None else (catalog if catalog is not None else Catalog())
        self._root = root
        self._datasets = {f"dataset {name}": spec for name, spec in specs.items() if spec.is_there(root)}

    @property
    def sources(self) -> tuple[str, ...]:
        return (*self._runs, *self._datasets)

    def filters(self, source: str) -> Filters:
        """What a source can be narrowed to."""
        if source in self._runs:
            report = _run(self._runs[source]).report
            datasets = dict.fromkeys(str(group["dataset"]) for group in report["datasets"])
            tasks = (str(group["task"]) for group in report["tasks"])
            return Filters((ALL, *datasets), (ALL, *tasks), ORDERS)
        spec = self._dataset(source)
        return Filters((spec.name,), (spec.task,), ("as asked",))

    def page(self, source: str, wanted: Wanted) -> Page:
        """A page of a source's cards; a number beyond the last page is the last page."""
        if source in self._runs:
            chosen = chosen_predictions(_run(self._runs[source]), wanted)
            return _page(chosen, wanted.page, "predictions", prediction_cards)
        annotations = Annotations(self._dataset(source), self._root)

        def cards(places: Sequence[int]) -> Markup:
            made = []
            for place in places:
                try:
                    sample = annotations[place]
                    made.append(sample_card(sample, conversation_text(sample)))
                except (RecordError, RefusedRecordError) as error:
                    unreadable = f"unreadable: {error}"
                    made.append(SampleCard(f"record {place}", annotations.spec.task, (), Markup(""), unreadable))
            return sample_cards(made)

        return _page(range(len(annotations)), wanted.page, "samples", cards)

    def _dataset(self, source: str) -> DatasetSpec:
        if source not in self._datasets:
            raise RecipeError(f"'{source}' is not one of the runs and datasets that were found at the start.")
        return self._datasets[source]


def chosen_predictions(run: ScoredRun, wanted: Wanted) -> list[Mapping[str, Any]]:
    """The predictions of a run that are wanted, in the order that is wanted.

    Two tasks have no measure in common: of several, the worst (or best) of each come first, then their second ones.
    """
    samples = [
        sample
        for sample in run.samples
        if wanted.dataset in {ALL, sample["dataset"]} and wanted.task in {ALL, sample["task"]}
    ]
    if wanted.order == "as asked":
        return samples
    ranked: list[tuple[int, int, Mapping[str, Any]]] = []
    for position, group in enumerate(run.report["tasks"]):
        mine = [sample for sample in samples if sample["task"] == group["task"]]
        mine.sort(key=lambda sample: badness(sample, group["metrics"]), reverse=wanted.order == "worst first")  # noqa: B023 - called at once
        ranked += [(rank, position, sample) for rank, sample in enumerate(mine)]
    return [sample for _, _, sample in sorted(ranked, key=lambda entry: entry[:2])]


def _page(found: Sequence[Any], number: int, what: str, cards: Callable[[Sequence[Any]], Markup]) -> Page:
    pages = max(1, math.ceil(len(found) / PER_PAGE))
    number = min(max(1, number), pages)
    begin = PER_PAGE * (number - 1)
    shown = found[begin : begin + PER_PAGE]
    summary = f"{begin + 1}-{begin + len(shown)} of {len(found)} {what}" if shown else f"no {what}"
    return Page(cards(shown), number, pages, summary)


def _scored_runs(folder: Path) -> dict[str, Path]:
    """The scored runs in a folder and below, by their paths relative to it (its own name for itself)."""
    if not folder.is_dir():
        raise DataError(f"--runs: {folder} is no folder; give one that holds scored runs.")
    found = sorted(path.parent for path in folder.rglob("report.json") if (path.parent / "samples.jsonl").is_file())
    return {folder.resolve().name if run == folder else str(run.relative_to(folder)): run for run in found}


def _run(folder: Path) -> ScoredRun:
    return _read_run(folder, (folder / "samples.jsonl").stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read_run(folder: Path, _changed: int) -> ScoredRun:
    """The run; read again when it was scored again."""
    return read_scored(folder)
