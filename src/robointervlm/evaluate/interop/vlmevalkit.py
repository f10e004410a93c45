"""VLMEvalKit, run as it is: the configuration with which it asks a served checkpoint, and its results collected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.runs.files import write_atomically

# Which of VLMEvalKit's classes holds a dataset. Its configuration has to name it; any other dataset is NAME=CLASS.
CLASSES = {
    "MMVet": "MMVet",
    "COCO_VAL": "ImageCaptionDataset",
    "TextVQA_VAL": "ImageVQADataset",
    "OCRBench": "OCRBench",
    "POPE": "ImageYORNDataset",
    "MME": "ImageYORNDataset",
    "HallusionBench": "ImageYORNDataset",
    "ChartQA_TEST": "ImageVQADataset",
    "DocVQA_VAL": "ImageVQADataset",
}
_STATUS = "status.json"


class Result(NamedTuple):
    """One number of one dataset, or why there is none: then `metric` is empty and `value` None."""

    model: str
    dataset: str
    judge: str
    metric: str
    value: float | None
    primary: bool
    status: str


def configuration(
    name: str, served: str, base_url: str, datasets: Sequence[str], *, max_tokens: int = 512
) -> dict[str, Any]:
    """What `python -m vlmeval --config` reads: one model behind an OpenAI-compatible address, greedy, and its datasets.

    `served` is the model's name at the endpoint, `name` what results are called by. Raises `RecipeError` for a dataset
    whose class is not known and not given as NAME=CLASS.
    """
    model = {
        "class": "GPT4V",
        "model": served,
        "api_base": f"{base_url.rstrip('/')}/chat/completions",
        # Else it would send, and log, the key that is in the environment for the judge.
        "key": "none",
        "temperature": 0,
        "max_tokens": max_tokens,
        "img_detail": "high",
    }
    data = {}
    for text in datasets:
        dataset, equals, kind = text.partition("=")
        if not equals and dataset not in CLASSES:
            raise RecipeError(
                f"dataset '{dataset}': give its class in VLMEvalKit, {dataset}=CLASS; known: {', '.join(CLASSES)}."
            )
        data[dataset] = {"class": kind or CLASSES[dataset], "dataset": dataset}
    return {"model": {name: model}, "data": data}


def refuse_another_model(file: Path, name: str, served: str, max_tokens: int) -> None:
    """Raise `RecipeError` if VLMEvalKit would take over results of another model, or of one asked otherwise."""
    try:
        before = json.loads(file.read_text(encoding="utf-8"))["model"][name]
        model, tokens = before["model"], before["max_tokens"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    remedy = "Give another name (MODEL_NAMES), or another folder (OUTPUT_DIR)."
    if model != served:
        raise RecipeError(f"{file}: the results of '{name}' are those of {model}, and this is {served}. {remedy}")
    if tokens != max_tokens:
        raise RecipeError(
            f"{file}: the results of '{name}' are answers of up to {tokens} tokens, now it is {max_tokens}. {remedy}"
        )


def collect(folder: Path) -> list[Result]:
    """What VLMEvalKit noted in its work folder: every number of every dataset, and the datasets without one.

    Of several runs of a model, the newest that has the dataset counts. Raises `DataError` where there is none.
    """
    files = sorted(folder.rglob(_STATUS))
    newest: dict[tuple[str, str], tuple[str, list[Result]]] = {}
    for file in files:
        for updated, results in _results(file):
            key = (results[0].model, results[0].dataset)
            if key not in newest or newest[key][0] <= updated:
                newest[key] = (updated, results)
    if not newest:
        raise DataError(f"{folder} holds no results of VLMEvalKit: no {_STATUS} that names a dataset.")
    return [result for _, results in newest.values() for result in results]


def _results(file: Path) -> list[tuple[str, list[Result]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        model, datasets = str(content["model_name"]), content["datasets"].items()
        return [(str(entry.get("updated_at", "")), _entry(model, name, entry)) for name, entry in datasets]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is not a {_STATUS} of VLMEvalKit: {error!r}.") from None


def _entry(model: str, dataset: str, entry: Mapping[str, Any]) -> list[Result]:
    status, judge = str(entry.get("status", "")), str(entry.get("judge_model") or "")
    metrics: Mapping[str, Any] = entry.get("metrics") or {}
    primary = entry.get("primary_metric")
    found = [
        Result(model, dataset, judge, metric, float(value), metric == primary, status)
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    ]
    return found or [Result(model, dataset, judge, metric="", value=None, primary=False, status=status)]


def write_collected(results: Sequence[Result], folder: Path) -> None:
    """Writes `leaderboards.json` with every number and `leaderboards.md` as a table of them, the main ones marked."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([result._asdict() for result in results], indent=1)
    write_atomically(folder / "leaderboards.json", text + "\n")
    lines = ["| model | dataset | metric | value | judge | status |", "| --- | --- | --- | --- | --- | --- |"]
    for each in results:
        value = "–" if each.value is None else f"{each.value:.4g}"
        metric = f"**{each.metric}**" if each.primary else each.metric or "–"
        cells = (each.model, each.dataset, metric, value, each.judge or "–", each.status)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    write_atomically(folder / "leaderboards.md", "\n".join(lines) + "\n")
