"""The strategies, one file each."""

from __future__ import annotations

from accelerate import Accelerator
from transformers import PreTrainedModel

from robointervlm.train.engine import Engine
from robointervlm.train.recipe import TrainRecipe


def engine_for(recipe: TrainRecipe, network: PreTrainedModel, accelerator: Accelerator) -> Engine:
    """The network wrapped as the recipe's `run.strategy` says; what learns has to be set on it before."""
    match recipe.run.strategy:
        case "fsdp":
            from robointervlm.train.engines.fsdp import FsdpEngine

            return FsdpEngine(network, recipe, accelerator)
        case "deepspeed":
            from robointervlm.train.engines.zero import ZeroEngine  # needs an extra

            return ZeroEngine(network, recipe, accelerator)
        case _:
            from robointervlm.train.engines.ddp import DdpEngine

            return DdpEngine(network, recipe, accelerator)
