"""Experiment trackers, through accelerate's: only those the recipe names, and never the reason that a run stops."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate.tracking import (
    GeneralTracker,
    MLflowTracker,
    SwanLabTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)

from robointervlm.core.errors import RecipeError
from robointervlm.runs.files import write_atomically
from robointervlm.runs.run import is_installed
from robointervlm.train.recipe import Tracker, TrainRecipe

logger = logging.getLogger(__name__)

IDENTITY = "tracking.json"


def refuse_missing(names: tuple[Tracker, ...]) -> None:
    """Raise `RecipeError` for the first named tracker whose package is not installed; each is named as its package."""
    for name in names:
        if not is_installed(name):
            raise RecipeError(f"watch.to names {name}, which is not installed; pip install {name}, or leave it out.")


class Trackers:
    """The trackers of a run. One that fails is warned of, once until it works again, and the run goes on."""

    def __init__(self, recipe: TrainRecipe, *, first_step: int) -> None:
        self._failing: set[str] = set()
        self._open: dict[str, GeneralTracker] = {}
        for name in recipe.watch.to:
            try:
                tracker = _made(name, recipe, first_step)
                tracker.start()
                _keep_recipe(tracker, recipe)
                self._open[name] = tracker
            except Exception as error:  # noqa: BLE001 - the boundary to a tracker: the run is worth more than its graph
                logger.warning("%s cannot be used (%s); the numbers are in metrics.jsonl", name, _line(error))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """These numbers of a step, to each tracker."""
        for name, tracker in self._open.items():
            try:
                tracker.log(dict(values), step=step)
                self._failing.discard(name)
            except Exception as error:  # noqa: BLE001 - as above
                if name not in self._failing:
                    logger.warning(
                        "%s did not take the numbers of step %d (%s); they are in metrics.jsonl, and it is tried again",
                        *(name, step, _line(error)),
                    )
                self._failing.add(name)

    def close(self) -> None:
        for name, tracker in self._open.items():
            try:
                tracker.finish()
            except Exception as error:  # noqa: BLE001 - as above
                logger.warning("%s did not close in order: %s", name, _line(error))
        self._open = {}


def _made(name: Tracker, recipe: TrainRecipe, first_step: int) -> GeneralTracker:
    """The tracker, told to go on with the run it had before an interruption."""
    folder, project = recipe.run.dir, recipe.watch.project
    shown = recipe.watch.name or folder.resolve().name
    match name:
        case "tensorboard":
            # What was recorded after the checkpoint is made again.
            return TensorBoardTracker("tensorboard", folder, purge_step=first_step + 1)
        case "wandb":
            return WandBTracker(project, name=shown, id=_identity(folder), resume="allow", dir=str(folder))
        case "trackio":
            return TrackioTracker(project, name=shown, resume="allow")
        case "swanlab":
            return SwanLabTracker(
                project, experiment_name=shown, id=_identity(folder), resume="allow", logdir=str(folder / "swanlab")
            )
        case "mlflow":
            return MLflowTracker(experiment_name=project, run_name=shown)


def _identity(folder: Path) -> str:
    """The name under which a tracker knows this run, the same when it is resumed."""
    path = folder / IDENTITY
    if not path.is_file():
        write_atomically(path, json.dumps({"id": uuid.uuid4().hex[:21]}) + "\n")
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])


def _keep_recipe(tracker: GeneralTracker, recipe: TrainRecipe) -> None:
    if isinstance(tracker, TensorBoardTracker):  # as its hyper-parameters it would be a second run beside the first
        tracker.log({"recipe": f"```json\n{recipe.model_dump_json(indent=2)}\n```"}, step=0)
    else:
        tracker.store_init_configuration(_settings(recipe))


def _settings(recipe: TrainRecipe) -> dict[str, Any]:
    """The recipe by dotted keys; what is no plain value is written as JSON, which every tracker takes."""
    found: dict[str, Any] = {}

    def add(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            found[prefix] = value if isinstance(value, str | int | float) else json.dumps(value)

    add("", recipe.model_dump(mode="json"))
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
