"""What a training reads beside its recipe, known by content: `inputs.json`, compared at every later start.

The recipe names datasets and a model by path, and a path says nothing of what lies there today. Recorded when a run
begins, and in each of its checkpoints: the annotation files, the entries of the catalog, the model's files, and what a
few samples of each dataset are to the model, token for token. A folder that was moved has the same content.

An annotation file is read for its hash once. Afterwards its stamp (size, inode, times of change) tells that it is the
same; a file with another stamp is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils.hub import cached_file

from robointervlm.core.errors import DataError, RecipeError, RoboInterError
from robointervlm.data import images
from robointervlm.data.mixture import Mixture
from robointervlm.models.qwen2_5_vl.encoder import Encoder
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.recipe import TrainRecipe

INPUTS = "inputs.json"
Inputs = dict[str, Any]

# The files that say what is made of a text and a picture. Weights are known by pieces of each file.
MODEL_FILES = (
    *("config.json", "preprocessor_config.json", "robointer.json"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json"),
    *("special_tokens_map.json", "chat_template.jinja", "chat_template.json"),
)
_PIECES, _PIECE = 64, 4096
# How many samples of each dataset are looked at, spread over what is taken of it.
LOOKED_AT = 8
# Where a dataset's files lie, and what is said about them.
_NOT_COMPARED = {"name", "annotations", "images", "root", "notes", "licence", "source"}
# A stamp that is as young as this may be that of a file which is still written: no clock tells its changes apart.
_YOUNG_SECONDS = 2.0
_HASHING = 4


def inputs_of(
    recipe: TrainRecipe, mixture: Mixture, encoder: Encoder, precision: str, known: Inputs | None = None
) -> Inputs:
    """What this training reads. `known` is what was recorded, for the hashes of files that did not change since."""
    feed = TrainingDataset(mixture, encoder, recipe.augment, recipe.run.seed, recipe.batch.max_tokens)
    starts = np.cumsum([0, *(row.taken for row in mixture.table())]).tolist()
    hashed = {each["path"]: each for each in (known or {}).get("datasets", [])}
    with ThreadPoolExecutor(max_workers=_HASHING) as pool:
        files = list(pool.map(lambda each: _annotation_file(each.file.path, hashed), mixture.datasets))
    return {
        "precision": precision,
        "deepspeed": None if recipe.run.deepspeed is None else _digest(recipe.run.deepspeed),
        "model": _model(recipe.model.path, encoder),
        "datasets": [
            {
                "name": annotations.spec.name,
                "entry": annotations.spec.model_dump(mode="json", exclude=_NOT_COMPARED),
                **file,
                "taken": row.taken,
                "samples": _samples(feed, start, row.taken),
            }
            for annotations, file, start, row in zip(mixture.datasets, files, starts, mixture.table(), strict=False)
        ],
    }


def read_inputs(folder: Path) -> Inputs | None:
    """What is recorded in a run's folder; None if nothing is."""
    path = folder / INPUTS
    try:
        return {**json.loads(path.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore it, or move the run's folder away.") from None


def refuse_other_inputs(before: Inputs, now: Inputs, place: Path) -> None:
    """Raise `RecipeError` if what is read now is not what `place`, a run or its checkpoint, was made from."""
    if found := list(_differences(before, now)):
        raise RecipeError(
            f"{place} was begun with other inputs: {'; '.join(found)}. Put back what was there, or choose another "
            "run.dir to train on what is there now."
        )


def _differences(before: Inputs, now: Inputs) -> Iterator[str]:
    if before["precision"] != now["precision"]:
        yield f"it computed in precision {before['precision']}, and would in {now['precision']} here (run.precision)"
    if before["deepspeed"] != now["deepspeed"]:
        yield "the file of run.deepspeed has another content"
    yield from _model_differences(before["model"], now["model"])
    names = [[each["name"] for each in inputs["datasets"]] for inputs in (before, now)]
    if names[0] != names[1]:
        yield f"the datasets were {', '.join(names[0])}, and are {', '.join(names[1])}"
        return
    for old, new in zip(before["datasets"], now["datasets"], strict=True):
        yield from _dataset_differences(old, new)


def _model_differences(old: Inputs, new: Inputs) -> Iterator[str]:
    for name in sorted(old["files"].keys() | new["files"].keys()):
        was, found = old["files"].get(name), new["files"].get(name)
        if was != found:
            how = "is new" if was is None else "is gone" if found is None else "has another content"
            yield f"{name} of model.path={new['path']} {how}"
    if old["weights"] != new["weights"]:
        yield f"the weights of model.path={new['path']} are others"
    for name, value in old["reads"].items():
        if new["reads"].get(name, value) != value:
            yield f"the model's {name} was {value}, and is {new['reads'][name]}"


def _dataset_differences(old: Inputs, new: Inputs) -> Iterator[str]:
    name = new["name"]
    for field, value in old["entry"].items():
        if new["entry"].get(field, value) != value:
            yield f"{field} of dataset '{name}' was {value}, and is {new['entry'][field]} in the catalog"
    if old["sha256"] != new["sha256"]:
        yield f"annotation file {new['path']} of dataset '{name}' has another content"
        return
    if old["taken"] != new["taken"]:
        yield f"of dataset '{name}' {old['taken']} records were taken, and {new['taken']} are"
        return
    for was, found in zip(old["samples"], new["samples"], strict=False):
        # A picture that could not be read, or cannot now, is the loop's to count.
        if was is None or found is None:
            continue
        if was["pictures"] != found["pictures"]:
            yield f"the pictures of sample {found['id']} of dataset '{name}' have another content"
            return
        if was["tokens"] != found["tokens"]:
            yield (
                f"sample {found['id']} of dataset '{name}' is other tokens than when the run began, though its record "
                "is the same: another version of robointervlm, or of a library (environment.json has those of then)"
            )
            return


def _annotation_file(path: Path, hashed: Mapping[str, Inputs]) -> Inputs:
    real = os.path.realpath(path)
    stamp = _stamp(path)
    known = hashed.get(real)
    if known is not None and stamp is not None and known["stamp"] == stamp:
        return {"path": real, "sha256": known["sha256"], "stamp": stamp}
    digest = _digest(path)
    # Read before and after: a file that was changed in between has no stamp that could be relied on.
    return {"path": real, "sha256": digest, "stamp": stamp if stamp == _stamp(path) else None}


def _stamp(path: Path) -> list[int] | None:
    """What changes whenever the file does, the time of its last change of any kind (ctime) above all."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if time.time() - status.st_ctime < _YOUNG_SECONDS:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _model(path: str, encoder: Encoder) -> Inputs:
    files = {name: _digest(Path(found)) for name in MODEL_FILES if (found := _file_of(path, name))}
    config = _file_of(path, "config.json")
    weights = hashlib.sha256()
    for file in sorted(Path(config).parent.glob("*.safetensors")) if config else ():
        weights.update(f"{file.name} ".encode() + _pieces(file))
    return {
        "path": path,
        "files": files,
        "weights": weights.hexdigest(),
        "reads": {
            "coordinates": encoder.coordinates.value,
            "min_pixels": encoder.limits.min_pixels,
            "max_pixels": encoder.limits.max_pixels,
        },
    }


def _file_of(path: str, name: str) -> str | None:
    """A file of a model's folder, or of the copy that is kept of a hub's."""
    found: str | None = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return found


def _pieces(file: Path) -> bytes:
    """A hash of a file's size and of pieces of it: enough to tell two sets of weights apart, in no time."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            digest.update(str(size).encode())
            for piece in range(_PIECES):
                opened.seek(max(0, size - _PIECE) * piece // (_PIECES - 1))
                digest.update(opened.read(_PIECE))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from None
    return digest.digest()


def _samples(feed: TrainingDataset, start: int, taken: int) -> list[Inputs | None]:
    places = np.unique(np.linspace(0, taken - 1, min(LOOKED_AT, taken)).astype(np.int64)).tolist()
    return [_sample(feed, start + place) for place in places]


def _sample(feed: TrainingDataset, index: int) -> Inputs | None:
    """What a sample is to the model, without its random variations; None of one that cannot be read."""
    try:
        sample = feed.mixture[index]
        facts = [images.content_and_size(reference) for reference in sample.images]
        grids = [feed.encoder.limits.grid(size) for _, size in facts]
        messages = feed.messages(sample, sample.turns, facts[0][1] if facts else None)
        tokens = feed.encoder.chat.supervised(messages, grids)
    except RoboInterError:
        return None
    return {
        "id": sample.id,
        "tokens": _short([tokens.ids.tobytes(), tokens.labels.tobytes()]),
        "pictures": _short([content.encode() for content, _ in facts]),
    }


def _short(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
