"""What may differ between the first start of a run and a later one: a run goes on as the one it was begun as.

Every key of the recipe is compared, with four answers: it may change, since nothing that is learned depends on it; the
path may change, since what lies there is compared (`train.inputs`); it may change on purpose, named in `run.change` and
written into `changes.jsonl`; or the start is refused. A key that is not listed here is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from robointervlm.core.errors import RecipeError
from robointervlm.data.mixture import parse_entries
from robointervlm.runs.journal import Journal, read_journal
from robointervlm.settings.explained import checked
from robointervlm.train.recipe import Changeable, TrainRecipe
from robointervlm.train.setting_names import written

CHANGES = "changes.jsonl"

# Nothing that is learned depends on these. Each has its reason.
MAY_CHANGE: Mapping[str, str] = {
    "plugins": "where code of one's own lies; as of ours, what it does is not compared",
    "model.name": "only what reports call the model",
    "model.device": "where it is computed; the precision it is computed in is compared by itself",
    "data.workers": "who prepares the samples: which they are, and how they are varied, follows from the seed",
    "data.timeout_seconds": "when a loading process counts as lost",
    "data.pixel_cache": "kept pixels are those that would be cut again; a damaged one is found by its checksum",
    "data.pixel_cache_gb": "as data.pixel_cache",
    "data.max_bad_rate": "when a run ends, not what its steps learn: a bad sample is left out under any rate",
    # Under `error` no sample was too long so far, or there were no further steps; under `drop` the same ones are left
    # out. So a run that ended at such a sample can go on without it, and is the run that `drop` would have been.
    "batch.too_long": "a sample that is too long is never learned; this says whether it ends the run",
    "run.dir": "a run's folder may be moved or named by another path; its content is what is gone on with",
    "run.save_every": "when checkpoints are written",
    "run.keep": "how many checkpoints stay",
    "run.log_every": "which steps have a line in metrics.jsonl",
    "run.timeout_minutes": "how long a process waits for the others",
    "run.change": "what may change; the changes themselves are recorded",
    "watch.to": "who is told of the numbers",
    "watch.project": "what a tracker calls the run",
    "watch.name": "what a tracker calls the run",
    "watch.validation": "questions beside the training, on which nothing of it depends",
    "watch.after_save": "a command beside the training, which gets a copy of the checkpoint",
}

# The place may be another one; what is found there has to be the same, see `train.inputs`.
COMPARED_BY_CONTENT: Mapping[str, str] = {
    "model.path": "the model's files and a part of its weights are compared",
    "data.root": "the annotation files and some of the pictures are compared",
    "data.catalog": "the entries of the datasets are compared",
    "run.deepspeed": "the file's content is compared",
}

CHANGEABLE: tuple[str, ...] = get_args(Changeable)


class Difference(NamedTuple):
    """A key of the recipe, its value when the run began (or at its checkpoint), and the one given now."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        return f"{self.key} was {_shown(self.old)}, is {_shown(self.new)}"


def begun_with(state: Mapping[str, Any], ours: TrainRecipe, source: str) -> TrainRecipe:
    """The recipe that a checkpoint was written with. Keys that did not exist then have their defaults.

    A checkpoint of an earlier version holds some of it only; the rest counts as unchanged.
    """
    if "recipe" in state:
        return checked(TrainRecipe, state["recipe"], source=source)
    values, plan = ours.model_dump(mode="json"), state["plan"]
    values["run"]["seed"] = plan.get("seed", ours.run.seed)
    if "packing" in plan:  # without packing it was empty
        values["batch"] |= {"pack": "none", **plan["packing"]}
    values |= {key: plan[key] for key in ("mixture", "optim", "augment") if key in plan}
    return checked(TrainRecipe, values, source=source)


def settings_of(recipe: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every setting of a recipe by its dotted key; a section that may be left out is one setting."""
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        optional = type(recipe).model_fields[name].default is None
        if isinstance(value, BaseModel) and not optional:
            yield from settings_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(before: TrainRecipe, now: TrainRecipe) -> list[Difference]:
    """The settings that may not change without a word and did, in the recipe's order."""
    old = dict(settings_of(before))
    return [
        Difference(key, old[key], new)
        for key, new in settings_of(now)
        if key not in MAY_CHANGE
        and key not in COMPARED_BY_CONTENT
        and old[key] != new
        and _meaning(key, old[key], before) != _meaning(key, new, now)
    ]


def _meaning(key: str, value: Any, recipe: TrainRecipe) -> object:
    """A value in the one of its ways of writing that is compared."""
    if key == "model.tune":
        return sorted(value)
    if key in ("optim.merger_lr", "optim.experts_lr"):
        return value or recipe.optim.language_lr
    return parse_entries(value) if key == "mixture" else value


def refuse_other_recipe(
    before: TrainRecipe, now: TrainRecipe, place: Path, known: Sequence[Difference] = ()
) -> list[Difference]:
    """The differences that were asked for, by `run.change` or in `known`; a `RecipeError` names all others.

    `place` is the run's folder or its checkpoint.
    """
    found = differences(before, now)
    accepted = {(each.key, _plain(each.new)) for each in known}
    wanted = [each for each in found if each.key in now.run.change or (each.key, _plain(each.new)) in accepted]
    if others := [each for each in found if each not in wanted]:
        raise RecipeError(
            f"{place} belongs to another recipe: {'; '.join(map(str, others))}. "
            f"Choose another run.dir, or give the settings it was begun with.{_way_on(others)}"
        )
    return wanted


def _way_on(others: Sequence[Difference]) -> str:
    """How to go on all the same, where that is possible."""
    keys = [each.key for each in others]
    if not set(keys) <= set(CHANGEABLE):
        return ""
    return (
        f" To change {'it' if len(keys) == 1 else 'them'} from the newest checkpoint on, add "
        f"{written({'run.change': ','.join(keys)})}; that is recorded in {CHANGES}."
    )


def recorded(folder: Path) -> list[Difference]:
    """The changes that were made on purpose since the run began, oldest first."""
    entries = read_journal(folder / CHANGES).entries
    return [Difference(str(entry["key"]), entry["old"], entry["new"]) for entry in entries]


def record(folder: Path, step: int, changes: Sequence[Difference]) -> list[Difference]:
    """Write down changes that hold from a step on; returns those that did not stand there yet."""
    if not changes:
        return []
    with Journal(folder / CHANGES) as journal:
        there = [{**entry} for entry in journal.entries]
        new = []
        for each in changes:
            entry = {"step": step, "key": each.key, "old": _plain(each.old), "new": _plain(each.new)}
            if entry not in there:
                journal.append(entry)
                new.append(each)
    return new


def _plain(value: object) -> object:
    """The value as JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return "not set" if value is None else str(value)
