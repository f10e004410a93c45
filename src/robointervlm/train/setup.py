"""What a recipe trains, put together once: for the loop, which runs it, and for the plan, which prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robointervlm.core.errors import RecipeError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.liger import is_wanted, use_liger
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.train.data.dataset import Load, Plan, Planned, TrainingDataset
from robointervlm.train.data.image_cache import PixelCache
from robointervlm.train.optimizer import PartSummary, let_learn, summary
from robointervlm.train.packing.lengths import Measured
from robointervlm.train.packing.sequences import packing
from robointervlm.train.recipe import TrainRecipe


@dataclass
class Setup:
    """A recipe, its model with what learns in it, and which samples make each step on so many processes.

    Attributes:
        feed: the samples of the mixture, loaded, varied and encoded one by one.
        parts: how many parameters there are and learn, counted while every process holds all of them.
        load, plan: how micro-batches are made, and of which samples; there after `planned`.
    """

    recipe: TrainRecipe
    model: Qwen25VL
    mixture: Mixture
    processes: int
    pixels: PixelCache | None = None

    def __post_init__(self) -> None:
        recipe = self.recipe
        let_learn(self.model.network, recipe.model, seed=recipe.run.seed)
        self.parts: list[PartSummary] = summary(self.model.network, recipe.optim)
        limit = recipe.batch.max_tokens
        self.feed = TrainingDataset(
            self.mixture, self.model.encoder, recipe.augment, recipe.run.seed, limit, self.pixels
        )
        self.load: Load
        self.plan: Planned

    def planned(self, measured: Measured | None = None) -> Planned:
        """Decide which samples make each step. What packing has to know of them is measured here if it is not given."""
        recipe = self.recipe
        if recipe.batch.pack == "none":
            self.load = self.feed
            self.plan = Plan(self.mixture, recipe, self.processes, self.feed.usual_lengths())
        else:
            self.load, self.plan = packing(self.feed, recipe, self.processes, measured)
        return self.plan

    def compute_as_trained(self) -> None:
        """Have the network compute as it does in training: packed attention, activations kept or computed again."""
        network: Any = self.model.network
        if self.recipe.run.gradient_checkpointing:
            network.activation_checkpointing_enable({"use_reentrant": False})
        if self.recipe.batch.pack != "none":
            use_packed_attention(network)


def mixture_of(recipe: TrainRecipe) -> Mixture:
    """The samples that a recipe names: one at least, as no dataset may be empty and no part of one is."""
    catalog, data = Catalog(*recipe.data.catalog), recipe.data
    return Mixture(
        recipe.mixture, seed=recipe.run.seed, root=data.root, catalog=catalog, follow_links=data.follow_links
    )


def precision_of(recipe: TrainRecipe, *, on_cpu: bool) -> str:
    """What the steps compute in: no (float32), bf16 or fp16. Raises `RecipeError` for fp16 without a GPU."""
    precision: str = recipe.run.precision
    if precision == "auto":
        return "no" if on_cpu else "bf16"
    if on_cpu and precision == "fp16":
        raise RecipeError("run.precision=fp16 needs a GPU, and this run has none; use bf16 or no (float32).")
    return precision


def model_section(recipe: TrainRecipe, *, on_cpu: bool) -> Section:
    """How the model is loaded to be trained."""
    section = Section(**recipe.model.model_dump(exclude={"tune", "lora", "liger"}))
    # Under a strategy that shares it out, too: no GPU has to hold the whole model.
    changes: dict[str, object] = {"device": "cpu"} if on_cpu or recipe.run.strategy != "ddp" else {}
    if section.dtype == "auto":
        # The weights that learn are kept in float32, whatever `run.precision` computes in: next to a weight of 0.02 a
        # step of 5e-6 is lost in bfloat16, and the model would not learn at all.
        changes["dtype"] = "float32"
    return section.model_copy(update=changes)


def loaded(recipe: TrainRecipe, section: Section, *, on_gpu: bool) -> Qwen25VL:
    """The model with its weights, with Liger's kernels in it where they are wanted."""
    fused = is_wanted(recipe.model.liger, on_gpu=on_gpu)
    model = Qwen25VL.load(section)
    if fused:
        use_liger(model.network)
    return model
