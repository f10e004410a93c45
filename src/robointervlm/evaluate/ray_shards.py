"""One prediction by the machines of a Ray cluster, each with a model of its own and a shard of the questions.

They see the run folder, the data and the checkpoint under the same paths. An answer goes from the process that has it
into its shard's journal on the disk, not through Ray: with a machine is lost what it was just being asked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robointervlm.core import errors
from robointervlm.core.errors import LostProcessError, RecipeError, RoboInterError
from robointervlm.evaluate.predict import Outcome, predict
from robointervlm.evaluate.processes import in_shards, overrides_of, recipe_of_shards, watched
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.shards import Shard
from robointervlm.models.model import device_of
from robointervlm.runs.settings import load_recipe

# How often a shard whose process or machine is lost is begun again; it goes on where it stopped.
_RETRIES = 3


def predict_on_ray(recipe: EvaluationRecipe, count: int, ray: Any) -> Outcome:
    """Answers every question of the recipe in so many shards on a cluster that `ray` is connected to; merges them.

    Where the cluster has GPUs and the model may use one, a shard has one for itself, else a processor. Raises what a
    shard failed with, and `LostProcessError` for one whose process is lost again and again.
    """

    def answer(shards: Sequence[Shard]) -> None:
        # A process for each shard: what it holds of a GPU goes with it.
        asking = ray.remote(max_calls=1)(_answered).options(max_retries=_RETRIES, **_share(recipe, ray))
        # Paths in a recipe are relative to where we are.
        here, written = str(Path.cwd()), str(recipe_of_shards(recipe.run.dir))
        waiting = {asking.remote(here, written, str(shard)): shard for shard in shards}
        try:
            for _ in watched(recipe.run.dir, f"answering in {count} shards on Ray"):
                done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
                for each in done:
                    _refuse_failure(ray, each, waiting.pop(each))
                if not waiting:
                    return
        finally:
            for each in waiting:
                ray.cancel(each, force=True)

    return in_shards(recipe, count, answer)


def _share(recipe: EvaluationRecipe, ray: Any) -> dict[str, int]:
    """What a shard needs of the cluster."""
    on_gpu = device_of(recipe.model) not in (None, "cpu") and ray.cluster_resources().get("GPU", 0) >= 1
    return {"num_gpus": 1} if on_gpu else {"num_cpus": 1}


def _refuse_failure(ray: Any, each: Any, shard: Shard) -> None:
    try:
        kind, said = ray.get(each)
    except ray.exceptions.RayTaskError:
        raise  # a bug of ours, and to be seen as one
    except ray.exceptions.RayError as error:
        raise LostProcessError(
            f"Ray lost shard {shard} {_RETRIES + 1} times: {' '.join(str(error).split())[:300]}. "
            "Run the same command again, it goes on where it stopped."
        ) from error
    if kind:
        raise getattr(errors, kind)(f"shard {shard}: {said}")


def _answered(here: str, recipe: str, shard: str) -> tuple[str, str]:
    """Answers one shard, on whichever machine; what goes wrong comes back as words."""
    try:
        os.chdir(here)
    except OSError as error:
        return RecipeError.__name__, f"{here} has to be the same folder on every machine: {error.strerror}."
    try:
        predict(load_recipe(EvaluationRecipe, Path(recipe), overrides_of(Shard.named(shard))))
    except RoboInterError as error:
        return type(error).__name__, str(error)
    return "", ""
