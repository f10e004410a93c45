"""A run in shares: every process or machine answers the questions of its own shard, and what they recorded is merged.

A shard is a run folder of its own inside the run, `shards/K-of-N`, with one file more, `shard.json`: the positions of
its questions in the whole list. The merged list is then in the order, and the report in the bytes, of a run in one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.questions import Question
from robointervlm.evaluate.records import RECORDS, REQUESTED, RequestedList, read_requested, write_requested
from robointervlm.jobs.share import Share
from robointervlm.runs.files import write_atomically
from robointervlm.runs.journal import Entry, encoded_line, read_journal

SHARDS = "shards"
SHARD = "shard.json"


def shard_folder(run: Path, shard: Share) -> Path:
    """Where this shard of a run is written."""
    return run / SHARDS / f"{shard.number}-of-{shard.of}"


def positions_of(shard: Share, questions: Iterable[Question]) -> list[int]:
    """Where the questions of this shard are in the list.

    Questions that are asked once because they are the same have the same task and id, so that they share a shard.
    """
    return [place for place, question in enumerate(questions) if shard.takes_key(question.task, question.id)]


def folder_of(run: Path, shard: Share | None) -> Path:
    """Where a run, or this shard of it, is written.

    Raises `RecipeError` where the run was begun in one or in another number of shards: their records would not merge.
    """
    others = sorted(_folders(run))
    if shard is None:
        if others:
            raise RecipeError(
                f"{run} holds a run in {others[0].of} shards: go on with `--shard K/{others[0].of}` or "
                f"`--processes {others[0].of}`, or choose another run.dir."
            )
        return run
    if not others and (run / REQUESTED).exists():
        raise RecipeError(f"{run} holds a run without shards: go on without --shard, or choose another run.dir.")
    if wrong := [each for each in others if each.of != shard.of]:
        raise RecipeError(
            f"{run} holds shard {wrong[0]}, which does not go with {shard}: give a K/{wrong[0].of}, "
            "or choose another run.dir."
        )
    return shard_folder(run, shard)


def write_positions(folder: Path, shard: Share, positions: Sequence[int], total: int) -> None:
    """Writes which of how many questions a shard has."""
    content = {"number": shard.number, "of": shard.of, "total": total, "positions": list(positions)}
    write_atomically(folder / SHARD, json.dumps(content) + "\n")


def is_sharded(run: Path) -> bool:
    """Whether the run is in shards."""
    return bool(_folders(run))


def merge_shards(run: Path) -> Counter[str]:
    """Writes the questions and records of all shards as those of one run; how many ended in which status.

    Raises `DataError`, and writes nothing, where a shard or an answer is missing, where a question is in two shards,
    and where shards asked different models or asked them otherwise.
    """
    folders = _folders(run)
    shards = [_read(shard, folders[shard]) for shard in sorted(folders)]
    _check(run, shards)
    placed = [pair for each in shards for pair in zip(each.positions, each.requested.questions, strict=True)]
    ordered = [question for _, question in sorted(placed, key=lambda pair: pair[0])]
    records = {key: record for each in shards for key, record in each.records.items()}
    keys = dict.fromkeys(question.key for question in ordered)
    first = shards[0].requested
    write_atomically(run / RECORDS, b"".join(encoded_line(records[key]) for key in keys))
    write_requested(run, RequestedList(first.model, first.decoding, first.style, tuple(ordered)))
    return Counter(str(records[question.key]["status"]) for question in ordered)


def answered_so_far(run: Path) -> tuple[int, int]:
    """How many questions have a record, in all shards of a run, and how many there are as far as is known."""
    done, total = 0, 0
    for folder in _folders(run).values():
        done += len({entry["key"] for entry in read_journal(folder / RECORDS).entries})
        if (folder / SHARD).exists():
            total = int(json.loads((folder / SHARD).read_text(encoding="utf-8"))["total"])
    return done, total


@dataclass(frozen=True)
class _Answered:
    """What is in the folder of a shard; `records` are the last ones, by key."""

    shard: Share
    folder: Path
    total: int
    positions: tuple[int, ...]
    requested: RequestedList
    records: Mapping[str, Entry]


def _folders(run: Path) -> dict[Share, Path]:
    found = {}
    for folder in (run / SHARDS).glob("*-of-*"):
        try:
            found[Share.named(folder.name.replace("-of-", "/"))] = folder
        except ValueError:
            continue  # nothing of ours
    return found


def _read(shard: Share, folder: Path) -> _Answered:
    requested = read_requested(folder)
    try:
        said = json.loads((folder / SHARD).read_text(encoding="utf-8"))
        total, positions = int(said["total"]), tuple(map(int, said["positions"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / SHARD} is damaged ({error}); rerun `robointer predict --shard {shard}`.") from None
    if len(positions) != len(requested.questions):
        raise DataError(f"{folder} is not whole: rerun `robointer predict --shard {shard}` with the same settings.")
    records = {str(entry["key"]): entry for entry in read_journal(folder / RECORDS).entries}
    return _Answered(shard, folder, total, positions, requested, records)


def _check(run: Path, shards: Sequence[_Answered]) -> None:
    """Raises `DataError` for what would not be one run."""
    if not shards:
        raise DataError(f"{run} holds no shards; `robointer predict … --shard 1/4` writes one.")
    first = shards[0]
    there = {each.shard for each in shards}
    if absent := [shard for shard in Share.all(first.shard.of) if shard not in there]:
        raise DataError(f"{run}: shard {', '.join(map(str, absent))} is missing; run `robointer predict --shard …`.")
    for each in shards:
        pairs = {
            "numbers of shards": (first.shard.of, each.shard.of),
            "numbers of questions": (first.total, each.total),
            "models": (first.requested.model, each.requested.model),
            "decoding": (first.requested.decoding, each.requested.decoding),
            "styles": (first.requested.style, each.requested.style),
        }
        if different := [(what, *both) for what, both in pairs.items() if both[0] != both[1]]:
            what, mine, theirs = different[0]
            raise DataError(
                f"shard {first.shard} and shard {each.shard} in {first.folder.parent} have different {what} "
                f"({mine} / {theirs}): they are not of one run. Run one of them again as the other, in another run.dir."
            )
        if unanswered := sum(question.key not in each.records for question in each.requested.questions):
            raise DataError(
                f"{each.folder}: {unanswered} of {len(each.positions)} questions have no record; "
                f"rerun `robointer predict --shard {each.shard}` with the same settings."
            )
    times = Counter(position for each in shards for position in each.positions)
    twice = sum(count > 1 for count in times.values())
    lost = len(set(range(first.total)) - times.keys())
    if twice or lost:
        raise DataError(
            f"{run}: {twice} of {first.total} questions are in two shards and {lost} in none, so their data differed; "
            "run the shards again with the same data, in another run.dir."
        )
