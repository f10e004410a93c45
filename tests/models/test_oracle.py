"""Whoever answers rightly in a family's own coordinates is right, and in another family's is not.

The table of docs/models/README.md is computed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.models.model import Model, load_model
from robointervlm.models.scripted import question_of
from robointervlm.tasks import task_named
from tiny_families import make_checkpoint, section_of

SIZES = (ImageSize(320, 180), ImageSize(640, 480), ImageSize(333, 517))
# How the families are called in the document; RoboBrain stands for Qwen2.5-VL too, whose pictures it shares.
FAMILIES = {
    "robobrain": "qwen2_5_vl, robobrain",
    "qwen2_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl",
    "internvl": "internvl",
    "llava_onevision": "llava_onevision",
}
# Corners on twentieths of the picture, which are exact in `unit` and `per_mille`; sides that lose no hundredth of the
# overlap where they are rounded to whole pixels of the resized picture.
TWENTIETHS = ((1, 2, 13, 16), (6, 3, 19, 18), (2, 6, 15, 19), (5, 1, 18, 13))
DOCUMENT = Path(__file__).parents[2] / "docs" / "models" / "README.md"


class Oracle:
    """A model that looks the true box up and writes it as `writer` would; it is read as `reader` is."""

    name = "oracle"

    def __init__(self, reader: Model, writer: Model, truth: dict[str, tuple[Box, ImageSize]]) -> None:
        self.coordinates: CoordinateFormat = reader.coordinates
        self.fingerprint = f"{reader.fingerprint} {writer.fingerprint}"
        self.processed_size = reader.processed_size
        self._writer = writer
        self._truth = truth

    def answer(self, prompts: Sequence[Prompt], _decoding: Decoding) -> list[Reply | Exception]:
        return [Reply(self._written(question_of(prompt)), 0.0, 1, 1) for prompt in prompts]

    def _written(self, question: str) -> str:
        box, size = self._truth[question]
        space = Space(self._writer.coordinates, size, self._writer.processed_size(size))
        return task_named("current_box").write(box, space)


@pytest.fixture(scope="module")
def readers(tmp_path_factory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("families")
    return {name: load_model(section_of(name, make_checkpoint(name, folder / name))) for name in FAMILIES}


@pytest.fixture(scope="module")
def ious(readers, tmp_path_factory) -> dict[tuple[str, str], dict[ImageSize, float]]:
    """The mean IoU of a perfect model by how it is read, how it writes, and the size of the picture."""
    folder = tmp_path_factory.mktemp("oracle")
    truth: dict[str, tuple[Box, ImageSize]] = {}
    records = []
    for size in SIZES:
        Image.new("RGB", size, (90, 90, 90)).save(folder / f"{size.width}.png")
        for left, top, right, bottom in TWENTIETHS:
            across, down = size.width / 20, size.height / 20
            box = Box(left * across, top * down, right * across, bottom * down)
            question = f"Where is thing {len(records)}?"
            truth[question] = (box, size)
            answer = json.dumps({"current_bbox": [list(corner) for corner in box.corners]})
            asked = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
            records.append({"id": f"{len(records)}", "conversations": asked, "images": f"{size.width}.png"})
    (folder / "boxes.json").write_text(json.dumps(records))
    return {
        (reader, writer): _measured(Oracle(readers[reader], readers[writer], truth), folder, f"{reader} {writer}")
        for reader, writer in product(FAMILIES, FAMILIES)
    }


def _measured(oracle: Oracle, folder: Path, run: str) -> dict[ImageSize, float]:
    recipe = EvaluationRecipe.model_validate(
        {
            "model": {"family": "scripted"},
            "data": {"file": folder / "boxes.json", "task": "current_box"},
            "run": {"dir": folder / run},
        }
    )
    assert predict(recipe, model=oracle).counts == {"ok": len(SIZES) * len(TWENTIETHS)}
    score(folder / run)
    found: dict[ImageSize, list[float]] = {size: [] for size in SIZES}
    for line in (folder / run / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        found[ImageSize(*sample["image_size"])].append(sample["strict"]["IoU"])
    return {size: sum(values) / len(TWENTIETHS) for size, values in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_a_perfect_model_is_perfect_in_its_own_coordinates(ious, family, size):
    assert ious[family, family][size] >= 0.99


@pytest.mark.parametrize("size", SIZES)
def test_a_perfect_model_is_wrong_in_the_coordinates_of_another_format(ious, readers, size):
    for reader, writer in product(FAMILIES, FAMILIES):
        same = readers[reader].coordinates is readers[writer].coordinates
        assert (ious[reader, writer][size] >= 0.99) == same, (reader, writer)
        assert same or ious[reader, writer][size] < 0.5, (reader, writer)


def test_the_document_shows_the_table(ious):
    text = DOCUMENT.read_text(encoding="utf-8")
    for line in table(ious):
        assert line in text, "\n".join(table(ious))


def table(ious: dict[tuple[str, str], dict[ImageSize, float]]) -> list[str]:
    """The mean IoU of each size, of a perfect model that is read as the row and writes as the column."""
    lines = [f"| read as \\ written by | {' | '.join(FAMILIES.values())} |", f"|---|{'---|' * len(FAMILIES)}"]
    for reader, shown in FAMILIES.items():
        cells = [" / ".join(f"{ious[reader, writer][size]:.3f}" for size in SIZES) for writer in FAMILIES]
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return lines
