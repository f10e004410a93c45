"""The protocols a model fulfils. The name of a family is the name of its file or folder in this folder."""

from __future__ import annotations

import difflib
import importlib
import json
import pkgutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

import robointervlm.models
from robointervlm.core import plugins
from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models.locate import hub_config, is_hub_name, model_folder
from robointervlm.settings.explained import checked


@runtime_checkable
class Model(Protocol):
    """Something that answers prompts.

    `fingerprint` changes whenever the answers may: it names the weights, the precision and the pixel limits.
    """

    name: str
    coordinates: CoordinateFormat
    fingerprint: str

    def processed_size(self, image: ImageSize) -> ImageSize:
        """The size this model really sees an image of the given size in."""
        ...

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        """One entry per prompt, in order: the reply, or the error that this prompt alone ran into."""
        ...


@runtime_checkable
class MeasuringModel(Model, Protocol):
    """A model that can tell how long a prompt is, without its pictures."""

    def prompt_tokens(self, messages: Sequence[Message], sizes: Sequence[ImageSize]) -> int:
        """The tokens of a prompt with pictures of these sizes. Raises `DataError` for one that cannot be asked."""
        ...


@runtime_checkable
class StreamingModel(Model, Protocol):
    """A model elsewhere, which has many questions in flight and is paid for each of them."""

    def answer_each(self, questions: Iterable[tuple[Prompt, Decoding]]) -> Generator[tuple[int, Reply | Exception]]:
        """A question's index with its reply or its error, the moment it is there, in any order.

        Questions are taken one by one, as many as may be in flight. Closing the iterator drops those that are. Raises
        `RecipeError` or `StoppedError` where no other question would fare better.
        """
        ...

    def count_earlier(self, input_tokens: int, output_tokens: int, answers: int) -> None:
        """Says what earlier calls of the same run have used of a budget, and how many questions were answered."""
        ...

    def usage(self) -> Mapping[str, object]:
        """What was used so far: requests, tokens, cost, failures; for a file."""
        ...


# Modules of this folder that are no family, beside those that begin with an underscore.
_NO_FAMILIES = {"locate", "model", "tiny"}


def families() -> list[str]:
    """The names of the families: the modules that define a `Section` and `load`, in this folder and in plugins.

    One that loads checkpoints whose config.json calls them otherwise than its file says so in `LOADS`, by model_type or
    by the name of an architecture.
    """
    return sorted([*_ours(), *_of_plugins()])


@cache
def _ours() -> tuple[str, ...]:
    names = [info.name for info in pkgutil.iter_modules(robointervlm.models.__path__)]
    return tuple(name for name in names if name not in _NO_FAMILIES and not name.startswith("_"))


def _of_plugins() -> dict[str, Any]:
    """The families of plugins by their names: their modules, or the entry points that name them."""
    found: dict[str, Any] = {}
    for place, name, what in _places():
        if name in found and found[name] is not what or name in _ours():
            raise RecipeError(f"model family '{name}' of {place} exists already; rename it.")
        found[name] = what
    return found


def _places() -> Iterator[tuple[str, str, Any]]:
    """Where, under which name, and which module or entry point. Nothing of an entry point is imported."""
    for plugin in plugins.loaded():
        place = f"the plugin {plugin.name}"
        if hasattr(plugin.module, "Section") and hasattr(plugin.module, "load"):
            yield place, plugin.module.__name__.rpartition(".")[2], plugin.module
        for name, module in getattr(plugin.module, "MODELS", {}).items():
            yield place, name, module
    for point in plugins.of_entry_points("robointervlm.models"):
        yield plugins.in_words(point), point.name, point


def _module_of(family: str) -> Any:
    """The module of a family; `RecipeError` for one of a plugin that is none."""
    named = _of_plugins().get(family)
    if named is None:
        return importlib.import_module(f"robointervlm.models.{family}")
    module = plugins.entry_point_object(named) if isinstance(named, EntryPoint) else named
    if not (hasattr(module, "Section") and hasattr(module, "load")):
        raise RecipeError(f"model family '{family}': {module} has no Section and load; a module with both is expected.")
    return module


def load_model(section: Mapping[str, object]) -> Model:
    """The model a recipe's `model` section describes; the section is checked before any weight is read.

    `family` says which file or folder here loads it; without it the checkpoint's own config.json does, never its path.
    Raises `RecipeError` for a section that means nothing.
    """
    module, checked = _checked(section)
    model: Model = module.load(checked)
    return model


def check_section(section: Mapping[str, object]) -> None:
    """Raises what `load_model` raises for a section that means nothing, without loading anything."""
    _checked(section)


def device_of(section: Mapping[str, object]) -> str | None:
    """The `device` that a section says, "auto" by default; None for a family that computes elsewhere, or nothing."""
    _, module = _family_module(section)
    return str(section.get("device", "auto")) if "device" in module.Section.model_fields else None


def _checked(section: Mapping[str, object]) -> tuple[Any, BaseModel]:
    """The family's module, and the section as it understands it."""
    family, module = _family_module(section)
    kind: type[BaseModel] = module.Section
    values = {key: value for key, value in section.items() if key != "family" or "family" in kind.model_fields}
    known = ", ".join(kind.model_fields)
    source = f"model section of family '{family}'"
    return module, checked(kind, values, source=source, more=f". Keys: {known}.", secret=True)


def _family_module(section: Mapping[str, object]) -> tuple[str, Any]:
    family = section.get("family") or _family_of_checkpoint(section.get("path"))
    if family not in families():
        near = difflib.get_close_matches(str(family), families(), n=1) or families()
        raise RecipeError(f"model family '{family}' is not known; nearest: {', '.join(near)}. Give model.family=….")
    module = _module_of(str(family))
    if not hasattr(module, "load"):
        raise RecipeError(f"models/{family} cannot answer prompts; choose another family with model.family=….")
    return str(family), module


# What stands before the model type of a family of ours, so that it never is one of transformers' own.
_OURS = "robointer_"


def _family_of_checkpoint(path: object) -> str:
    if not isinstance(path, str | Path):
        raise RecipeError(f"the model has neither a family nor a path; families: {', '.join(families())}.")
    folder = model_folder(str(path))
    config = Path(folder) / "config.json"
    try:
        said = hub_config(folder) if is_hub_name(folder) else json.loads(config.read_text(encoding="utf-8"))
        kinds = [*(said.get("architectures") or ()), said["model_type"]]
    except (FileNotFoundError, NotADirectoryError):
        raise RecipeError(
            f"{config} does not exist, so the model's family cannot be told; "
            f"give a checkpoint folder, or model.family=… ({', '.join(families())})."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{config} does not say a model_type ({error}); is the checkpoint complete?") from None
    own = str(kinds[-1]).removeprefix(_OURS)
    if own in families():
        return own
    modules = {name: _module_of(name) for name in families()}
    known = {kind: name for name, module in modules.items() for kind in getattr(module, "LOADS", ())}
    for kind in kinds:
        if str(kind) in known:
            return known[str(kind)]
    raise ModelError(
        f"{config}: model_type '{kinds[-1]}' is not a family here; families: {', '.join(families())}."
        + _ELSEWHERE.get(str(kinds[-1]), "")
    )


# Checkpoints in a layout that runs code of their own, and where the same weights are to be had without it.
_ELSEWHERE = {"internvl_chat": " The same model in transformers' layout has a name that ends in -hf; take that one."}
