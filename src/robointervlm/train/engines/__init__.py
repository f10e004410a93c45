"""The strategies, one file each."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.train.engines.ddp import DdpEngine
from robointervlm.train.engines.engine import Engine
from robointervlm.train.engines.fsdp import FsdpEngine
from robointervlm.train.engines.zero import ZeroEngine
from robointervlm.train.recipe import TrainRecipe


def engine_for(recipe: TrainRecipe, network: Qwen2_5_VLForConditionalGeneration, accelerator: Accelerator) -> Engine:
    """The network wrapped as the recipe's `run.strategy` says; what learns has to be set on it before."""
    kinds: dict[str, Any] = {"ddp": DdpEngine, "fsdp": FsdpEngine, "deepspeed": ZeroEngine}
    engine: Engine = kinds[recipe.run.strategy](network, recipe, accelerator)
    return engine
