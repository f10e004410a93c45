"""What a training reads: recorded when it begins, and compared before it goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from test_same_recipe import STEPS, files, stop_after

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.train import inputs
from robointervlm.train.run import train
from tiny_models import box_dataset, losses, train_recipe


@pytest.fixture(scope="module")
def begun(tiny_folder, tmp_path_factory):
    """A folder with a model, a dataset and a run on them that was stopped at step 1 of 3."""
    folder = tmp_path_factory.mktemp("begun")
    shutil.copytree(tiny_folder, folder / "base")
    catalog = box_dataset(folder / "data")
    stop_after(1, train_recipe(folder / "base", catalog, folder / "run", *STEPS))
    return folder


@pytest.fixture
def there(begun, tmp_path):
    """A copy that a test may change, and a recipe to go on with. Its paths are others: moved folders go on."""
    shutil.copytree(begun, tmp_path / "there")
    folder = tmp_path / "there"
    return folder, train_recipe(folder / "base", folder / "data" / "catalog.yaml", folder / "run", *STEPS)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def another_annotation(folder: Path) -> None:
    edit(folder / "data" / "boxes.json", "[[0, 0], [30, 20]]", "[[0, 0], [31, 20]]")


def another_annotation_of_the_same_size_and_time(folder: Path) -> None:
    file = folder / "data" / "boxes.json"
    before = file.stat()
    edit(file, "Where is the cup?", "Where is the mug?")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_order_of_records(folder: Path) -> None:
    file = folder / "data" / "boxes.json"
    file.write_text(json.dumps(json.loads(file.read_text())[::-1]))


def another_template(folder: Path) -> None:
    edit(folder / "base" / "chat_template.jinja", "You are a helpful assistant.", "You are a robot.")


def another_tokenizer(folder: Path) -> None:
    file = folder / "base" / "tokenizer.json"
    values = json.loads(file.read_text())
    values["model"]["merges"] = values["model"]["merges"][:-1]
    file.write_text(json.dumps(values))


def another_declaration(folder: Path) -> None:
    edit(folder / "base" / "robointer.json", '"resized"', '"unit"')


def other_limits(folder: Path) -> None:
    edit(folder / "base" / "preprocessor_config.json", '"max_pixels": 12845056', '"max_pixels": 50176')


def another_config(folder: Path) -> None:
    edit(folder / "base" / "config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05')


def other_weights(folder: Path) -> None:
    file = folder / "base" / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + data[: len(data) - len(data) // 2])


def another_entry(folder: Path) -> None:
    edit(folder / "data" / "catalog.yaml", "current_box,", "final_box,")


def other_coordinates(folder: Path) -> None:
    edit(folder / "data" / "catalog.yaml", "current_box,", "current_box, coordinates: per_mille,")


def another_picture(folder: Path) -> None:
    shutil.copy(folder / "data" / "1.png", folder / "data" / "0.png")


CHANGES = [
    (another_annotation, "annotation file .*boxes.json of dataset 'boxes' has another content"),
    (another_annotation_of_the_same_size_and_time, "annotation file .*boxes.json of dataset 'boxes' has another"),
    (another_order_of_records, "annotation file .*boxes.json"),
    (another_template, "chat_template.jinja of model.path=.*/base has another content"),
    (another_tokenizer, "tokenizer.json of model.path=.*/base has another content"),
    (another_declaration, "robointer.json of model.path=.*; the model's coordinates was resized, and is unit"),
    (other_limits, "preprocessor_config.json of model.path="),
    (another_config, "config.json of model.path="),
    (other_weights, "the weights of model.path=.*/base are others"),
    (another_entry, "task of dataset 'boxes' was current_box, and is final_box in the catalog"),
    (other_coordinates, "coordinates of dataset 'boxes' was pixel, and is per_mille in the catalog"),
    (another_picture, "the pictures of sample s0 of dataset 'boxes' have another content"),
]


@pytest.mark.parametrize("change, said", CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_another_input_is_refused_by_name_and_changes_nothing(there, change, said):
    folder, recipe = there
    change(folder)
    before = files(folder / "run")
    with pytest.raises(RecipeError, match=f"was begun with other inputs: .*{said}.*Put back what was there"):
        train(recipe)
    assert files(folder / "run") == before


def test_the_checkpoint_knows_its_inputs_too(there):
    folder, recipe = there
    another_annotation(folder)
    (folder / "run" / "inputs.json").unlink()
    before = files(folder / "run")
    with pytest.raises(RecipeError, match=r"step-00000001 was begun with other inputs: annotation file"):
        train(recipe)
    after = files(folder / "run")
    log = after.pop("log.txt"), before.pop("log.txt")
    assert after == before
    assert b"it was begun by an earlier version" in log[0]


def test_a_finished_run_is_not_that_of_another_annotation_file(there):
    folder, recipe = there
    train(recipe)
    another_annotation(folder)
    with pytest.raises(RecipeError, match="boxes.json of dataset 'boxes' has another content"):
        train(recipe)


def test_another_version_that_writes_a_record_otherwise_is_refused(there, monkeypatch):
    folder, recipe = there
    real = inputs.TrainingDataset.messages

    def messages(self, sample, turns, size):
        *before, last = real(self, sample, turns, size)
        return (*before, replace(last, text=last.text + " "))

    monkeypatch.setattr(inputs.TrainingDataset, "messages", messages)
    before = files(folder / "run")
    with pytest.raises(RecipeError, match=r"sample s0 of dataset 'boxes' is other tokens .* another version"):
        train(recipe)
    assert files(folder / "run") == before


def test_a_missing_picture_that_is_put_back_stops_nothing(tiny_folder, tmp_path):
    # The remedy for too many bad samples has to work.
    catalog = box_dataset(tmp_path / "data")
    picture = tmp_path / "data" / "0.png"
    picture.rename(tmp_path / "0.png")
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *STEPS, "data.max_bad_rate=0.5")
    stop_after(1, recipe)
    (tmp_path / "0.png").rename(picture)
    train(recipe)
    assert sorted(losses(tmp_path / "run")) == [1, 2, 3]


def test_an_unchanged_file_is_hashed_once(begun, tmp_path, monkeypatch):
    file = tmp_path / "large.json"
    file.write_text("[]")
    path = os.path.realpath(file)
    # Just written: no clock tells this state from the next one.
    assert inputs._annotation_file(file, {})["stamp"] is None
    now = time.time()
    monkeypatch.setattr(inputs.time, "time", lambda: now + 60)
    known = inputs._annotation_file(file, {})
    assert re.fullmatch("[0-9a-f]{64}", known["sha256"])
    monkeypatch.setattr(inputs, "_digest", lambda _: pytest.fail("the file was read again"))
    assert inputs._annotation_file(file, {path: known}) == known


def test_a_damaged_record_of_the_inputs_is_one_error(there):
    folder, recipe = there
    (folder / "run" / "inputs.json").write_text("{")
    with pytest.raises(DataError, match=r"inputs.json cannot be read"):
        train(recipe)
