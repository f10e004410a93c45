"""Our own side: `robointervlm.train`'s loop as a recipe runs it, packed or one sample at a time."""

from __future__ import annotations

import json
from typing import Any

import torch
from accelerate import Accelerator
from turns import CLIP, LEARNING_RATE, Turns, arguments

from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.runs.settings import load_recipe
from robointervlm.runs.signals import StopFlag
from robointervlm.train.loop import METRICS, Training
from robointervlm.train.recipe import TrainRecipe

# The samples of a step in one row: more than any of the workloads has tokens.
ROW = 16384


class InTurn(StopFlag):
    """The loop looks at this after every step: the moment to tell how long it took and to wait for the next turn."""

    def __init__(self, turns: Turns, steps: int) -> None:
        self.turns = turns
        self.left = steps

    @property
    def requested(self) -> bool:  # type: ignore[override]
        self.turns.end()
        self.left -= 1
        if self.left:
            self.turns.begin()
        return False


def recipe(chosen: Any) -> TrainRecipe:
    """The documented recipe - the language model learns, vision tower and merger are frozen - on this data."""
    accumulate = 1 if chosen.pack == "shared" else chosen.samples
    return load_recipe(
        TrainRecipe,
        None,
        [
            f"model.path={json.dumps(str(chosen.model))}",
            f"model.device={chosen.device}",
            "model.tune=[language]",
            "mixture=[questions]",
            f"data.catalog=[{json.dumps(str(chosen.data / 'catalog.yaml'))}]",
            "data.workers=0",
            f"optim.language_lr={LEARNING_RATE}",
            "optim.schedule=constant",
            "optim.warmup_ratio=0",
            f"optim.clip={CLIP}",
            f"batch.pack={chosen.pack}",
            "batch.per_device=1",
            f"batch.accumulate={accumulate}",
            f"batch.max_tokens={ROW}",
            f"batch.max_questions_per_image={chosen.samples}",
            f"run.dir={json.dumps(str(chosen.work))}",
            f"run.max_steps={chosen.steps}",
            "run.save_every=1000000",
        ],
    )


def summed_loss(training: Training) -> dict[str, float]:
    """The summed loss of the samples of a step."""
    total, supervised = 0.0, 0
    with torch.no_grad():
        for number in range(training.plan.accumulate):
            micro = training.load(training.plan.micro_batch(0, number))
            total += float(SupervisedLoss(training.model.network)(micro.batch.to(training.accelerator.device)))
            supervised += micro.batch.supervised
    return {"loss": total, "supervised": supervised, "taught": supervised}


def main() -> None:
    chosen = arguments(__doc__, pack=["none", "shared"])
    turns = Turns(chosen.device)
    wanted = recipe(chosen)
    accelerator = Accelerator(cpu=chosen.device == "cpu", mixed_precision="bf16" if chosen.bf16 else "no")
    model = Qwen25VL.load(Section(path=str(chosen.model), device=chosen.device, dtype="float32"))
    mixture = Mixture(wanted.mixture, seed=wanted.run.seed, catalog=Catalog(*wanted.data.catalog))
    chosen.work.mkdir(parents=True, exist_ok=True)
    (chosen.work / METRICS).unlink(missing_ok=True)
    training = Training(wanted, model, mixture, accelerator)
    if training.plan.step_size != chosen.samples:
        raise SystemExit(f"a step has {training.plan.step_size} samples, {chosen.samples} are wanted")
    training.model.network.train()
    turns.say(ready=True, **summed_loss(training))
    turns.begin()
    training.run(InTurn(turns, chosen.steps))
    steps = [json.loads(line)["loss"] for line in (chosen.work / METRICS).read_text().splitlines()]
    turns.say(done=True, steps=steps, **summed_loss(training))


if __name__ == "__main__":
    main()
