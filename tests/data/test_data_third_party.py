"""Records of other projects' benchmarks, as the catalog entries declare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robointervlm.core.answer import Box, Region, Text
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import RecipeError, RefusedError
from robointervlm.core.sample import Sample
from robointervlm.data.annotations import RecordError
from robointervlm.data.records import Annotations
from robointervlm.data.spec import Catalog, DatasetSpec


def samples(name: str, records: list[dict[str, Any]], root: Path, **changes: Any) -> list[Sample]:
    spec = Catalog()[name].model_copy(update=changes)
    file = root / spec.annotations[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return list(Annotations(spec, root))


REFCOCO = {
    "image": "data/coco/train2014/COCO_train2014_000000000001.jpg",
    "sent": "the cup",
    "bbox": [10, 20, 30, 40],
    "height": 100,
    "width": 200,
}


def test_a_refcoco_line_is_a_question_with_a_box_in_pixels(tmp_path: Path) -> None:
    [sample] = samples("refcoco_val", [REFCOCO], tmp_path)
    assert sample.task == "refcoco"
    assert sample.question == ("<image>\nthe cup",)
    assert sample.answer == Box(10, 20, 30, 40)
    assert sample.size == ImageSize(200, 100)
    assert sample.images[0].path == "COCO_train2014_000000000001.jpg"


def test_a_box_means_what_the_entry_declares(tmp_path: Path) -> None:
    [sample] = samples("refcoco_plus_val", [REFCOCO], tmp_path, box="xywh")
    assert sample.answer == Box(10, 20, 40, 60)


def test_the_first_alternative_that_a_record_has_is_read(tmp_path: Path) -> None:
    question = {key: value for key, value in REFCOCO.items() if key != "sent"} | {"question": "the plate"}
    [sample] = samples("refcocog_val", [question], tmp_path)
    assert sample.question == ("<image>\nthe plate",)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"bbox": [1, 2, 3]}, "four numbers are a box"),
        ({"bbox": [1, 2, 3, None]}, "four numbers are a box"),
        ({"bbox": None}, "'bbox': is missing; the catalog entry reads it as the box"),
        ({"sent": None}, "'sent or question': is missing"),
        ({"image": "elsewhere/1.jpg"}, "strip_prefix"),
    ],
)
def test_a_record_without_what_was_declared_is_an_error(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=reason):
        samples("refcoco_val", [REFCOCO | change], tmp_path)


def test_a_roborefit_record_has_its_own_names_and_windows_paths(tmp_path: Path) -> None:
    record = {
        "num": 7,
        "text": "the left cup",
        "bbox": [1, 2, 3, 4],
        "rgb_path": "final_dataset\\testA\\image\\0000000.png",
        "width": 640,
        "height": 480,
    }
    [sample] = samples("roborefit_test", [record], tmp_path)
    assert (sample.id, sample.answer) == ("7", Box(1, 2, 3, 4))
    assert sample.images[0].path == "final_dataset/testA/image/0000000.png"


def place(root: Path, mask: np.ndarray, name: str = "00.png") -> dict[str, Any]:
    folder = root / "third_party/where2place"
    for kind, picture in (("images", np.zeros((4, 8, 3), np.uint8)), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / kind / name)
    return {"question_id": 0, "image": name, "text": "Point into the free space.", "category": "seen"}


def test_the_reference_of_where2place_is_the_white_part_of_a_mask(tmp_path: Path) -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[1:3, 4:] = 255
    mask[0, 0] = 100  # the grey of a JPEG's edge
    [sample] = samples("where2place", [place(tmp_path, mask)], tmp_path)
    assert isinstance(sample.answer, Region)
    assert sample.answer.mask.tolist() == (mask == 255).tolist()
    assert (sample.id, sample.raw_answer) == ("0", "masks/00.png")


def test_a_mask_may_be_polygons_or_run_lengths(tmp_path: Path) -> None:
    record = place(tmp_path, np.zeros((4, 8), np.uint8))
    polygon = record | {"mask": [[4, 0, 7, 0, 7, 3, 4, 3]]}
    # COCO counts down the columns: 4 columns of 4 outside, then 4 inside.
    runs = record | {"mask": {"size": [4, 8], "counts": [16, 16]}}
    found = samples("where2place", [polygon, runs], tmp_path)
    assert [sample.answer for sample in found] == [Region.of_mask(np.arange(8)[None].repeat(4, 0) >= 4)] * 2


@pytest.mark.parametrize(
    "mask, reason",
    [
        (np.zeros((4, 8), np.uint8), "nothing in it"),
        (np.full((5, 8), 255, np.uint8), "8x5, but its picture is 8x4"),
        ("masks/none.png", "cannot be opened"),
        ([[1, 2, 3]], "three points"),
        ({"size": [4, 8], "counts": "abc"}, "compressed"),
        ({"size": [4, 8], "counts": [1, 2]}, "do not add up"),
    ],
)
def test_a_mask_that_holds_no_region_of_the_picture_is_an_error(mask: Any, reason: str, tmp_path: Path) -> None:
    record = place(tmp_path, mask if isinstance(mask, np.ndarray) else np.zeros((4, 8), np.uint8))
    with pytest.raises(RecordError, match=reason):
        samples("where2place", [record if isinstance(mask, np.ndarray) else record | {"mask": mask}], tmp_path)


def test_a_mask_outside_of_its_folder_is_refused(tmp_path: Path) -> None:
    record = place(tmp_path, np.full((4, 8), 255, np.uint8)) | {"mask": "../../secret.png"}
    with pytest.raises(RefusedError, match="leads outside"):
        samples("where2place", [record], tmp_path)


def test_a_robovqa_record_has_several_pictures_and_a_text(tmp_path: Path) -> None:
    record = {
        "id": "a",
        "question": "Q: immediate next step?",
        "answer": "put the cup down",
        "images": ["1.jpg", "2.jpg"],
        "width": 20,
        "height": 10,
    }
    spec = {"fields": {**Catalog()["robovqa"].fields, "width": "width", "height": "height"}}
    [sample] = samples("robovqa", [record], tmp_path, **spec)
    assert sample.answer == Text("put the cup down")
    assert sample.question == ("<image>\n<image>\nQ: immediate next step?",)
    assert len(sample.images) == 2


@pytest.mark.parametrize(
    "entry, reason",
    [
        ({"fields": {"boxx": "bbox"}}, "boxx is not one of"),
        ({"fields": {"box": "bbox"}}, "go together"),
        ({"box": "xywh"}, "go together"),
        ({"box": "cxcywh", "fields": {"box": "bbox"}}, "xywh"),
    ],
)
def test_a_catalog_entry_that_declares_half_a_thing_is_refused(
    entry: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps({"mine": {"task": "refcoco", "annotations": "a.json", **entry}}))
    with pytest.raises(RecipeError, match=reason):
        Catalog(tmp_path)


def test_every_third_party_entry_is_of_its_task() -> None:
    catalog = Catalog()
    names = ("refcoco_val", "refcoco_plus_val", "refcocog_val", "roborefit_test", "where2place", "robovqa")
    specs: list[DatasetSpec] = [catalog[name] for name in names]
    assert [spec.task for spec in specs] == [
        "refcoco",
        "refcoco_plus",
        "refcocog",
        "roborefit",
        "where2place",
        "robovqa",
    ]
