"""Small models and small datasets for the tests of `models/`, `train/` and the whole way through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.tiny import TinySize, tiny_model
from robointervlm.runs.settings import load_recipe
from robointervlm.train.recipe import TrainRecipe

SIZE = TinySize(
    language_width=64,
    language_layers=2,
    heads=2,
    key_value_heads=1,
    vision_width=48,
    vision_layers=2,
    vision_heads=3,
)
TEXTS = [
    "system\nYou are a helpful assistant.\nuser\nassistant\n",
    'Where is the cup? {"current_bbox": [[0, 1], [23, 45]]} The gripper is open: Yes or No.',
] * 20


def fresh_model(seed: int = 0, size: TinySize = SIZE) -> Qwen25VL:
    """A model that a test may change."""
    return tiny_model(TEXTS, size, seed=seed)


@cache
def shared_model() -> Qwen25VL:
    """A model that no test may change."""
    return fresh_model()


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shared_data() -> Path:
    """Real inputs that stand beside the project; not there on most machines."""
    return Path(__file__).parents[1].parent / "shared" / "data"


def box_dataset(folder: Path, count: int = 12, *, wordy: int = 0, bad: Sequence[int] = ()) -> Path:
    """`count` pictures of 84x56 with one red rectangle each, asked for its box; a catalog that names them `boxes`.

    The first `wordy` questions are longer than the others; the pictures of the samples in `bad` are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for index in range(count):
        x, y = 4 * (index % 10), 3 * (index % 8)
        picture = np.full((56, 84, 3), 40, dtype=np.uint8)
        picture[y : y + 20, x : x + 30] = (200, 30, 30)
        if index not in bad:
            Image.fromarray(picture).save(folder / f"{index}.png")
        question = "Where is the cup?" + " Look well." * (10 if index < wordy else 0)
        answer = json.dumps({"current_bbox": [[x, y], [x + 30, y + 20]]})
        records.append(
            {
                "id": f"s{index}",
                "conversations": [
                    {"from": "human", "value": f"<image>\n{question}"},
                    {"from": "gpt", "value": answer},
                ],
                "images": f"{index}.png",
                "h": 56,
                "w": 84,
            }
        )
    (folder / "boxes.json").write_text(json.dumps(records))
    (folder / "catalog.yaml").write_text("root: .\nboxes: {task: current_box, annotations: boxes.json}\n")
    return folder / "catalog.yaml"


@cache
def _saved(parent: Path) -> Path:
    shared_model().save(parent / "tiny")
    return parent / "tiny"


def saved_model(parent: Path) -> Path:
    """A folder with the shared model, written once per parent."""
    return _saved(parent)


def train_recipe(model: Path, catalog: Path, run: Path, *more: str) -> TrainRecipe:
    """A short run on the CPU: three steps of four samples, all parts learning."""
    return load_recipe(TrainRecipe, None, train_arguments(model, catalog, run, *more))


def train_arguments(model: Path, catalog: Path, run: Path, *more: str) -> list[str]:
    return [
        f"model.path={json.dumps(str(model))}",
        "model.device=cpu",
        "model.tune=[language,merger,vision]",
        "mixture=[boxes]",
        f"data.catalog=[{json.dumps(str(catalog))}]",
        f"run.dir={json.dumps(str(run))}",
        "run.max_steps=3",
        "batch.per_device=2",
        "batch.accumulate=2",
        "optim.language_lr=1e-3",
        "optim.vision_lr=1e-3",
        *more,
    ]


def losses(run: Path) -> dict[int, float]:
    """The loss of each step, from the run's metrics."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len({line["step"] for line in lines}) == len(lines), "a step stands there twice"
    return {line["step"]: line["loss"] for line in lines}
