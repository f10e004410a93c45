"""The settings of an evaluation: which model answers which questions, and how it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from robointervlm.core.prompt import Decoding
from robointervlm.data.spec import Coordinates
from robointervlm.jobs.share import Share
from robointervlm.runs.settings import PluginSettings, Settings
from robointervlm.tasks.styles import Style
from robointervlm.tasks.task import Task


class Data(Settings):
    """The questions: a mixture of catalogued datasets, or one annotation file with its task.

    Attributes:
        mixture: dataset names, each with an optional `%N`, the percentage to take. `all` is every validation set at
            hand, a pattern such as `sim_*` every validation and test set that it matches; one that ends in `_train`
            takes training sets.
        root: the folder that catalogued paths are relative to; `ROBOINTER_DATA` if not given.
        catalog: folders of YAML files (or single ones) with datasets of your own.
        seed: what decides which N percent.
        follow_links: whether symbolic links may lead out of the folder of the pictures.
        file: an annotation file, JSON or JSONL.
        task: what the questions of `file` ask for.
        image_dir: the folder that the picture paths of `file` are relative to; its own folder if not given.
        coordinates: the format of the numbers in `file`.
        resize_limits: min_pixels and max_pixels of the processor that the `resized` numbers of `file` were made for;
            needed only where its records lack new_w and new_h.
    """

    mixture: tuple[str, ...] = ()
    root: Path | None = None
    catalog: tuple[Path, ...] = ()
    seed: int = 0
    follow_links: bool = False
    file: Path | None = None
    task: str | None = None
    image_dir: Path | None = None
    coordinates: Coordinates = "pixel"
    resize_limits: tuple[int, int] | None = None

    @field_validator("mixture", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.mixture) == (self.file is not None):
            raise ValueError("give either mixture (catalogued dataset names) or file (an annotation file), not both")
        if self.file is not None and self.task is None:
            raise ValueError("file needs a task, such as task=current_box")
        return self


class DecodingSettings(Settings):
    """How answers are generated; temperature 0 is greedy. `max_new_tokens` is the task's own where it is not given."""

    max_new_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0.0)
    seed: int = 0

    def decoding(self, task: Task) -> Decoding:
        """The decoding of this task's answers."""
        return Decoding(self.max_new_tokens or task.max_new_tokens, self.temperature, self.seed)


class RunSettings(Settings):
    dir: Path


class EvaluationRecipe(PluginSettings):
    """Everything `robointer predict` needs to know.

    Attributes:
        model: `family` (the name of a file in models/; found from the checkpoint's config.json if absent) and its keys.
        style: how a question is put to the model.
        limit: ask only the first so many questions; None asks all.
        max_error_rate: the share of questions without an answer above which the process ends with exit code 4.
        batch_tokens: instead of `batch_size`, as many questions at once as make so many tokens: their number times the
            longest of them with the longest answer. The longest come first, questions on one picture together.
        shard: K/N asks only the K-th of N shares of the questions, into a folder of its own in the run's.
    """

    model: dict[str, object]
    data: Data
    run: RunSettings
    decoding: DecodingSettings = DecodingSettings()
    style: Style = "default"
    batch_size: int = Field(default=16, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    max_error_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    shard: str | None = None

    @field_validator("shard")
    @classmethod
    def _one_of_several(cls, value: str | None) -> str | None:
        return None if value is None else str(Share.named(value))
