"""The settings of a training run, one section per component; the defaults are the documented hyper-parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from robointervlm.models.qwen2_5_vl import Lora
from robointervlm.models.qwen2_5_vl import Section as Qwen25VLSection
from robointervlm.runs.settings import PluginSettings

AFTER_SAVE_PLACES = ("{checkpoint}", "{step}", "{run}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Qwen25VLSection):
    """The checkpoint to start from and the parts of it that learn."""

    tune: tuple[Literal["language", "merger", "vision", "experts", "lora"], ...] = Field(
        default=("language",),
        min_length=1,
        description="the parts that learn; the others are frozen. lora: low-rank updates of frozen layers",
    )
    lora: Lora = Lora()
    liger: Literal["auto", "on", "off"] = Field(
        default="auto", description="Liger's fused kernels; auto: on a GPU where the package is installed"
    )

    @field_validator("liger", mode="before")
    @classmethod
    def _on_and_off(cls, value: object) -> object:
        """`on` and `off` are true and false in YAML."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _what_learns_is_clear(self) -> Self:
        if "lora" not in self.tune:
            if self.lora != Lora():
                raise ValueError("lora is set, but tune does not name it; give tune=[lora], or leave lora out")
            return self
        if "language" in self.tune:
            raise ValueError("tune names language and lora: either the language model learns in full or low-rank")
        if "vision" in self.tune and self.lora.vision:
            raise ValueError("tune names vision and lora.vision is true: either it learns in full or low-rank")
        return self


class DataSection(_Section):
    """Where the named datasets lie. Defaults: the ROBOINTER_DATA folder and the built-in catalog."""

    root: Path | None = Field(default=None, description="the folder that dataset paths are relative to")
    catalog: tuple[Path, ...] = Field(default=(), description="more folders or files of dataset entries")
    follow_links: bool = Field(default=False, description="read pictures behind links that lead out of their folder")
    workers: int | None = Field(default=None, ge=0, description="loading processes per rank; 0 on a CPU, 4 on a GPU")
    timeout_seconds: float = Field(default=60, gt=0, description="how long the loading processes may give nothing")
    pixel_cache: Path | None = Field(
        default=None, description="a folder to keep decoded and cut pictures in; off if none"
    )
    pixel_cache_gb: float = Field(default=100, gt=0, description="most that this folder may hold")
    max_bad_rate: float = Field(default=0.01, ge=0, le=1, description="stop when more samples than this fail to load")


class OptimSection(_Section):
    """The optimizer. Learning rates by part of the model; a part that is frozen ignores its own."""

    name: Literal["adamw", "muon"] = Field(default="adamw", description="muon: matrices by Muon, the rest by AdamW")
    language_lr: float = Field(default=5e-6, gt=0)
    merger_lr: float | None = Field(default=None, gt=0, description="as language_lr if not given")
    vision_lr: float = Field(default=1e-6, gt=0)
    experts_lr: float | None = Field(default=None, gt=0, description="as language_lr if not given")
    # QLoRA (Dettmers et al. 2023, appendix B) took 2e-4 for 7B and 13B models, 1e-4 for larger ones.
    lora_lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, description="never on norms and biases")
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")


class BatchSection(_Section):
    """How many samples make a step: per_device x accumulate x processes; packed, accumulate x processes rows."""

    per_device: int = Field(default=4, ge=1)
    accumulate: int = Field(default=2, ge=1)
    max_tokens: int = Field(default=8192, ge=1, description="a longer sample is never cut")
    too_long: Literal["error", "drop"] = Field(default="error", description="what to do with a longer sample")
    pack: Literal["none", "samples", "shared"] = Field(
        default="none",
        description="fill rows up to max_tokens instead of taking per_device samples; shared: each picture once",
    )
    max_questions_per_image: int = Field(default=8, ge=1, description="most questions on one picture in one row")


class AugmentSection(_Section):
    """Random changes of the picture, coordinates moved along; drawn from (seed, epoch, sample)."""

    crop_min: float = Field(default=1.0, gt=0, le=1, description="smallest share of width and height kept; 1 is off")
    brightness: float = Field(default=0.0, ge=0, lt=1, description="brightness and contrast vary by up to this share")


# What may be changed in the middle of a run by somebody who wants to: how fast it learns from now on, and what changes
# losses by no more than the order in which numbers are added.
Changeable = Literal[
    "optim.language_lr",
    "optim.merger_lr",
    "optim.vision_lr",
    "optim.experts_lr",
    "optim.lora_lr",
    "optim.clip",
    "batch.per_device",
    "batch.accumulate",
    "model.attention",
    "model.liger",
    "run.gradient_checkpointing",
]


# What `--change_lr True` of the documented script stands for.
RATES = tuple(key for key in get_args(Changeable) if key.endswith("_lr"))


class RunSection(_Section):
    """Where the run lives and how long it lasts."""

    dir: Path
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1, description="overrides epochs")
    save_every: int = Field(default=3000, ge=1)
    keep: int = Field(default=2, ge=1, description="how many checkpoints stay")
    log_every: int = Field(default=1, ge=1)
    seed: int = 0
    precision: Literal["auto", "no", "bf16", "fp16"] = Field(default="auto", description="auto: bf16 on a GPU, else no")
    gradient_checkpointing: bool = False
    strategy: Literal["ddp", "fsdp", "deepspeed"] = Field(
        default="ddp", description="ddp: every process holds the whole model; fsdp, deepspeed: each holds a part"
    )
    deepspeed: Path | None = Field(default=None, description="a DeepSpeed JSON file; its 'auto' are this recipe's")
    timeout_minutes: float = Field(default=30, gt=0, description="how long a process waits for the others")
    change: tuple[Changeable, ...] = Field(
        default=(), description="settings that may differ from those the run was begun with, from its newest checkpoint"
    )

    @field_validator("change", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("precision", mode="before")
    @classmethod
    def _no(cls, value: object) -> object:
        """`no` is false in YAML."""
        return "no" if value is False else value

    @model_validator(mode="before")
    @classmethod
    def _a_file_means_deepspeed(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("deepspeed") is not None:
            return {"strategy": "deepspeed", **values}
        return values

    @model_validator(mode="after")
    def _strategy_fits(self) -> RunSection:
        if self.strategy == "deepspeed" and self.deepspeed is None:
            raise ValueError("strategy deepspeed needs a file: run.deepspeed=qwen-vl-finetune/scripts/zero3.json")
        if self.strategy != "deepspeed" and self.deepspeed is not None:
            raise ValueError(f"deepspeed={self.deepspeed} means strategy deepspeed, not {self.strategy}; drop one")
        if self.strategy == "fsdp" and self.precision == "fp16":
            raise ValueError("strategy fsdp has no loss scaling; use precision bf16, or strategy ddp or deepspeed")
        return self


Tracker = Literal["tensorboard", "wandb", "trackio", "swanlab", "mlflow"]


class ValidationSection(_Section):
    """Questions that the model in training answers now and then; nothing of the training depends on them."""

    mixture: tuple[str, ...] = Field(min_length=1, description="dataset names, as the recipe's own mixture")
    every: int = Field(default=500, ge=1, description="at step 0, each so many steps, and at the end")
    samples: int = Field(default=64, ge=1, description="how many questions, spread evenly over the datasets")
    batch_size: int = Field(default=8, ge=1, description="how many a process answers at once")
    max_new_tokens: int | None = Field(default=None, ge=1, description="the task's own if not given")

    @field_validator("mixture", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class WatchSection(_Section):
    """How a run is looked at while it runs; `metrics.jsonl` and `curves.html` are written in any case."""

    to: tuple[Tracker, ...] = Field(default=(), description="trackers that get the numbers, too; none by default")
    project: str = Field(default="robointervlm", min_length=1, description="the trackers' project or experiment")
    name: str | None = Field(default=None, min_length=1, description="the trackers' name of the run; its folder's name")
    validation: ValidationSection | None = Field(
        default=None, description="questions asked now and then; none by default"
    )
    after_save: tuple[str, ...] = Field(
        default=(), description="a command run after each checkpoint, with {checkpoint}, {step} and {run}; no shell"
    )

    @field_validator("to", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("after_save")
    @classmethod
    def _known_places(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(re.findall(r"\{\w+\}", " ".join(command))) - set(AFTER_SAVE_PLACES):
            raise ValueError(f"{min(unknown)} is not known; {', '.join(AFTER_SAVE_PLACES)} are filled in")
        return command


class TrainRecipe(PluginSettings):
    """A whole training run."""

    model: ModelSection
    mixture: tuple[str, ...] = Field(min_length=1, description="dataset names, each with an optional %N")
    data: DataSection = DataSection()
    optim: OptimSection = OptimSection()
    batch: BatchSection = BatchSection()
    augment: AugmentSection = AugmentSection()
    run: RunSection
    watch: WatchSection = WatchSection()

    @field_validator("mixture", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _optimizer_fits(self) -> TrainRecipe:
        if self.optim.name == "muon" and self.run.strategy != "ddp":
            # It orthogonalises whole matrices, and no process holds one.
            raise ValueError(f"optim.name muon needs run.strategy ddp, not {self.run.strategy}; or use adamw")
        return self
