"""Whether a folder holds another evaluation, which is then refused instead of being overwritten."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.recipe import Data, EvaluationRecipe
from robointervlm.evaluate.records import RECORDS, RequestedList, read_requested
from robointervlm.inference.judging import ANSWERED
from robointervlm.runs.journal import read_journal
from robointervlm.runs.settings import load_recipe

logger = logging.getLogger(__name__)


def warn_of_another_address(folder: Path, model: Mapping[str, object]) -> None:
    """Say that the answers in the folder came from another endpoint than the `model` section names now.

    They are kept, as replicas come and go, but nothing tells whether the same model is served there.
    """
    try:
        before = load_recipe(EvaluationRecipe, folder / "recipe.yaml").model.get("base_url")
    except RecipeError:
        return
    now = model.get("base_url")
    if before is None or now is None or set(_addresses(before)) & set(_addresses(now)):
        return
    if not _holds_answers(folder):
        return
    logger.warning(
        "the answers in %s came from %s, and this is %s: they are kept as those of the same model. If another one is "
        "served here by the same name, choose another run.dir (--out; OUTPUT_DIR).",
        folder,
        ", ".join(_addresses(before)),
        ", ".join(_addresses(now)),
    )


def _addresses(given: object) -> Sequence[str]:
    """`base_url` of a section: one address, several separated by commas, or a list."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else ()
    return [str(part).strip().rstrip("/") for part in parts]


def refuse_another_run(folder: Path, requested: RequestedList, data: Data) -> None:
    """Raise `RecipeError` if answers of another model, to other questions or asked otherwise lie in the folder.

    More questions of the same data, fewer of them (`limit`), and questions of which some were corrected in the same
    file are the same evaluation: it goes on, and says what the report loses. `data` is where the questions of
    `requested` come from.
    """
    try:
        before = read_requested(folder)
    except DataError:
        return  # nothing was asked, or the list is damaged and is going to be written anew
    if not _holds_answers(folder):
        return  # nothing to lose
    found = _different_model(before, requested) or _different_settings(before, requested)
    found = found or _different_questions(folder, before, requested, data)
    if found:
        raise RecipeError(
            f"{folder} holds another evaluation: {found}. Nothing was changed; choose another run.dir (--out), or "
            "remove the folder if its answers are not wanted."
        )


def _holds_answers(folder: Path) -> bool:
    return any(entry.get("status") in ANSWERED for entry in read_journal(folder / RECORDS).entries)


def _different_model(before: RequestedList, now: RequestedList) -> str:
    old, new = before.model, now.model
    if old.get("fingerprint") != new.get("fingerprint"):
        which = (
            f"of '{old.get('name')}' with other weights or settings than it has now"
            if old.get("name") == new.get("name")
            else f"of the model '{old.get('name')}', and this is '{new.get('name')}'"
        )
        return f"the answers are {which}"
    if old.get("coordinates") != new.get("coordinates"):
        return f"'{old.get('name')}' answered in {old.get('coordinates')} coordinates, now in {new.get('coordinates')}"
    return ""


def _different_settings(before: RequestedList, now: RequestedList) -> str:
    if before.style != now.style:
        return f"its style was {before.style}, now {now.style}"
    names = sorted({*before.decoding, *now.decoding})
    return "; ".join(
        f"decoding.{name} was {before.decoding.get(name)}, now {now.decoding.get(name)}"
        for name in names
        if before.decoding.get(name) != now.decoding.get(name)
    )


def _different_questions(folder: Path, before: RequestedList, now: RequestedList, data: Data) -> str:
    try:
        old_data: Data | None = load_recipe(EvaluationRecipe, folder / "recipe.yaml").data
    except RecipeError:
        old_data = None
    # Each question with all that decides its answer, and the reference that it is scored by.
    old, new = (
        {(question.key, json.dumps(question.answer, sort_keys=True)) for question in each.questions}
        for each in (before, now)
    )
    if old <= new:
        return ""
    if new <= old or (old_data is not None and _source(old_data) == _source(data)):
        if old.isdisjoint(new):
            count = len(before.questions)
            return f"the file or its pictures have changed since: none of its {count} questions is asked now"
        logger.warning(
            "%d of %d questions of the earlier call are not asked now or have another reference; the report is written "
            "anew without them, their answers stay in %s.",
            len(old - new),
            len(old),
            RECORDS,
        )
        return ""
    were = "other data" if old_data is None else _described(old_data)
    return f"its {len(before.questions)} questions were {were}, now {len(now.questions)} of {_described(data)}"


def _source(data: Data) -> dict[str, Any]:
    """What says which questions these are, wherever their folder lies."""
    file = None if data.file is None else str(data.file.resolve())
    return {**data.model_dump(mode="json", exclude={"root", "image_dir", "catalog"}), "file": file}


def _described(data: Data) -> str:
    where = ", ".join(data.mixture) if data.file is None else str(data.file)
    return where if data.file is None else f"{where} (task {data.task}, {data.coordinates})"
