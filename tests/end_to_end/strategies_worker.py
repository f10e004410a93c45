"""One of the processes of `test_train_strategies`: trains under each strategy and writes down what it sees.

Several strategies in one process, because importing the libraries takes longer than training a tiny model.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import Accelerator
from transformers import AutoModelForImageTextToText

from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.runs.signals import StopFlag
from robointervlm.train import run as runs
from robointervlm.train.loop import Training
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.setup import model_section
from tiny_models import noise, train_recipe


class StopAfter(StopFlag):
    """A signal that comes during a step: the flag is looked at once after each."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def training_of(recipe: TrainRecipe) -> Training:
    accelerator = runs._accelerator(recipe)
    mixture = Mixture(recipe.mixture, seed=recipe.run.seed, catalog=Catalog(*recipe.data.catalog))
    recipe.run.dir.mkdir(parents=True, exist_ok=True)
    return Training(recipe, Qwen25VL.load(model_section(recipe, on_cpu=True)), mixture, accelerator)


def stopped_and_resumed(recipe: TrainRecipe, at: int) -> None:
    first = training_of(recipe)
    first.resume()
    first.run(StopAfter(at))
    assert runs.train(recipe)


def observed(recipe: TrainRecipe, folder: Path) -> dict[str, Any]:
    """Train to the end, export, and compare the exported folder with what is in memory."""
    training = training_of(recipe)
    training.resume()
    training.run(StopFlag())
    rank = training.accelerator.process_index
    weights = training.engine.weights()
    batches = [training.load(training.plan.micro_batch(rank, number)).batch for number in range(4)]
    pictures = [int(batch.patches_PC is not None) for batch in batches]
    # A share of zero: the loss is asked for, and no gradient.
    in_memory = [
        float(training.engine.accumulate(batch, 0.0, last=number == 3)) for number, batch in enumerate(batches)
    ]
    found: dict[str, Any] = {"pictures": pictures, "gradient": refused_gradient(training, batches[0])}
    after = training.engine.weights()
    if rank == 0:
        runs._export(training, weights, folder)
        loaded = Qwen25VL.load(Section(path=str(folder), device="cpu"))
        _, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
        loss = SupervisedLoss(loaded.network).train()  # as in memory: with experts there is their balance, too
        with torch.no_grad():
            found["loaded"] = [float(loss(batch)) for batch in batches]
        loaded.network.eval()
        prompt = Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56),))
        found |= {
            "in_memory": in_memory,
            "wrong_keys": [*map(str, info["missing_keys"]), *map(str, info["unexpected_keys"])],
            "unchanged": all(torch.equal(weights[name], after[name]) for name in weights),
            "answer": loaded.answer([prompt], Decoding(max_new_tokens=8))[0].text,
        }
    return found


def refused_gradient(training: Training, batch: Any) -> float:
    """The norm the engine gives back of a gradient that is not finite."""
    training.engine.accumulate(batch, math.inf, last=True)
    return training.engine.step(1.0)


def main() -> None:
    Accelerator.end_training = lambda _: None  # it ends the group of processes, and more runs follow
    task = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    found, started = {}, time.perf_counter()
    for name, more in task["strategies"].items():
        places = Path(task["model"]), Path(task["catalog"])
        whole = train_recipe(*places, Path(task["out"], name), *task["common"], *more)
        found[name] = observed(whole, Path(task["out"], f"{name}-model"))
        if task["only_whole"]:
            continue
        parts = train_recipe(*places, Path(task["out"], f"{name}-parts"), *task["common"], *more)
        stopped_and_resumed(parts, 3)
        packed = train_recipe(*places, Path(task["out"], f"{name}-packed"), *task["common"], *task["packed"], *more)
        assert runs.train(packed)
        sys.stderr.write(f"{name} is done after {time.perf_counter() - started:.0f} s\n")
    Path(task["out"], f"found-{torch.distributed.get_rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
