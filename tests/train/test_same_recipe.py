"""Which settings may differ at a later start: every key of the recipe, one by one, and what the allowed ones change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_loop import StopAfter

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.runs.settings import load_recipe
from robointervlm.train import run as running
from robointervlm.train.loop import Training
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.run import train
from robointervlm.train.same_recipe import (
    CHANGEABLE,
    COMPARED_BY_CONTENT,
    MAY_CHANGE,
    differences,
    settings_of,
)
from tiny_models import box_dataset, losses, train_recipe

# A valid recipe that says something about every section, and for each key another valid value.
BASE = ["mixture=[boxes]", "model.path=m", "run.dir=r", "model.tune=[lora,merger]"]
OTHER: dict[str, str] = {
    "plugins": "[json]",
    "model.path": "n",
    "model.name": "other",
    "model.dtype": "bfloat16",
    "model.device": "cpu",
    "model.device_map": "auto",
    "model.attention": "eager",
    "model.coordinates": "pixel",
    "model.min_pixels": "1568",
    "model.max_pixels": "50176",
    "model.family": "qwen2_5_vl_moe",
    "model.tune": "[lora]",
    "model.lora.rank": "8",
    "model.lora.alpha": "8",
    "model.lora.dropout": "0.1",
    "model.lora.targets": "[q_proj]",
    "model.lora.vision": "true",
    "model.liger": "off",
    "mixture": "[boxes%50]",
    "data.root": "elsewhere",
    "data.catalog": "[more.yaml]",
    "data.follow_links": "true",
    "data.workers": "3",
    "data.timeout_seconds": "7",
    "data.pixel_cache": "pixels",
    "data.pixel_cache_gb": "7",
    "data.max_bad_rate": "0.5",
    "optim.name": "muon",
    "optim.language_lr": "1e-4",
    "optim.merger_lr": "1e-4",
    "optim.vision_lr": "1e-4",
    "optim.experts_lr": "1e-4",
    "optim.lora_lr": "1e-3",
    "optim.weight_decay": "0.1",
    "optim.schedule": "constant",
    "optim.warmup_ratio": "0.1",
    "optim.clip": "2",
    "batch.per_device": "1",
    "batch.accumulate": "1",
    "batch.max_tokens": "4096",
    "batch.too_long": "drop",
    "batch.pack": "samples",
    "batch.max_questions_per_image": "2",
    "augment.crop_min": "0.5",
    "augment.brightness": "0.1",
    "run.dir": "s",
    "run.epochs": "2",
    "run.max_steps": "9",
    "run.save_every": "5",
    "run.keep": "1",
    "run.log_every": "2",
    "run.seed": "1",
    "run.precision": "bf16",
    "run.gradient_checkpointing": "true",
    "run.strategy": "fsdp",
    "run.deepspeed": "zero.json",
    "run.timeout_minutes": "7",
    "run.change": "optim.clip",
    "watch.to": "tensorboard",
    "watch.project": "other",
    "watch.name": "other",
    "watch.validation": "{mixture: boxes}",
    "watch.after_save": "[echo, '{step}']",
}


def recipe(*more: str) -> TrainRecipe:
    return load_recipe(TrainRecipe, None, [*BASE, *more])


def keys() -> list[str]:
    return [key for key, _ in settings_of(recipe())]


def refused(key: str) -> bool:
    return key not in MAY_CHANGE and key not in COMPARED_BY_CONTENT


def test_every_key_of_the_recipe_is_tried_here():
    assert list(OTHER) == keys()
    assert len(keys()) == 63
    assert len([key for key in keys() if refused(key)]) == 39
    assert set(MAY_CHANGE) | set(COMPARED_BY_CONTENT) | set(CHANGEABLE) <= set(keys())
    assert not set(CHANGEABLE) & (set(MAY_CHANGE) | set(COMPARED_BY_CONTENT))
    assert all(MAY_CHANGE.values()), "each has its reason"


@pytest.mark.parametrize("key", OTHER)
def test_a_changed_key_is_refused_by_name_unless_it_is_listed(key):
    changed = recipe(f"{key}={OTHER[key]}")
    assert dict(settings_of(changed))[key] != dict(settings_of(recipe()))[key], "another value"
    found = [each.key for each in differences(recipe(), changed)]
    # A DeepSpeed file means its strategy, too, which is another one.
    expected = [key] if refused(key) else ["run.strategy"] if key == "run.deepspeed" else []
    assert found == expected


@pytest.mark.parametrize(
    "first, second",
    [
        ("model.tune=[merger,lora]", "model.tune=[lora,merger]"),
        ("mixture=[boxes, 'more%50']", "mixture='boxes%100,more%50.0'"),
        ("optim.merger_lr=null", "optim.merger_lr=5e-6"),
        ("optim.experts_lr=5e-6", "optim.experts_lr=null"),
    ],
)
def test_the_same_written_otherwise_is_the_same(first, second):
    assert differences(recipe(first), recipe(second)) == []


def test_the_order_of_the_mixture_is_no_other_way_of_writing():
    assert [str(each) for each in differences(recipe("mixture=[a,b]"), recipe("mixture=[b,a]"))] == [
        "mixture was [a, b], is [b, a]"
    ]


STEPS = ["run.max_steps=3", "run.save_every=50", "augment.crop_min=0.6", "optim.warmup_ratio=0.4"]


@pytest.fixture(scope="module")
def stopped(tiny_folder, tmp_path_factory):
    """A run stopped at step 2 of 3, the losses of the undisturbed one, and what they were made of."""
    folder = tmp_path_factory.mktemp("stopped")
    catalog = box_dataset(folder / "data")
    train(train_recipe(tiny_folder, catalog, folder / "whole", *STEPS))
    stop_after(2, train_recipe(tiny_folder, catalog, folder / "run", *STEPS))
    return folder / "run", catalog, losses(folder / "whole")


def stop_after(steps: int, wanted: TrainRecipe) -> None:
    """Train as the command does, and be told to stop during a step."""
    real = Training.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "run", lambda self, stop: real(self, StopAfter(steps)))
        assert train(wanted) is False


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a run's folder but its lock, which says who holds it."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def resumed(stopped: tuple[Path, Path, Any], tiny_folder: Path, run: Path, *more: str) -> TrainRecipe:
    """A copy of the stopped run, and the recipe to go on with."""
    shutil.copytree(stopped[0], run)
    return train_recipe(tiny_folder, stopped[1], run, *STEPS, *more)


# Not run here: model.device is the CPU in every test, and the trackers have tests of their own (test_watch.py).
ALLOWED = {
    **{key: OTHER[key] for key in MAY_CHANGE if key not in ("model.device", "watch.to", "run.dir")},
    "run.save_every": "1",
    "run.log_every": "1",
    "data.workers": "1",
}


@pytest.mark.parametrize("key", ALLOWED)
def test_an_allowed_key_leaves_the_losses_as_they_are(stopped, tiny_folder, tmp_path, key):
    value = ALLOWED[key].replace("pixels", str(tmp_path / "pixels"))
    train(resumed(stopped, tiny_folder, tmp_path / "run", f"{key}={value}"))
    assert losses(tmp_path / "run") == stopped[2]


def test_a_moved_run_with_moved_model_and_data_goes_on_with_the_same_losses(stopped, tiny_folder, tmp_path):
    # run.dir, model.path and data.catalog: other paths, the same content. data.root is one level above the latter.
    shutil.copytree(stopped[1].parent, tmp_path / "elsewhere")
    shutil.copytree(tiny_folder, tmp_path / "model")
    shutil.copytree(stopped[0], tmp_path / "moved")
    catalog = tmp_path / "elsewhere" / stopped[1].name
    train(train_recipe(tmp_path / "model", catalog, tmp_path / "moved", *STEPS))
    assert losses(tmp_path / "moved") == stopped[2]


@pytest.mark.parametrize(
    "change, said",
    [
        ("model.max_pixels=50176", "model.max_pixels was not set, is 50176"),
        ("model.coordinates=unit", "model.coordinates was not set, is unit"),
        ("batch.pack=samples", "batch.pack was none, is samples"),
        ("run.epochs=2", "run.epochs was 1.0, is 2.0"),
        ("optim.warmup_ratio=0.5", "optim.warmup_ratio was 0.4, is 0.5"),
    ],
)
def test_a_refused_key_is_named_with_both_values_and_changes_nothing(stopped, tiny_folder, tmp_path, change, said):
    wanted = resumed(stopped, tiny_folder, tmp_path / "run", change)
    before = files(tmp_path / "run")
    with pytest.raises(RecipeError, match=said):
        train(wanted)
    assert files(tmp_path / "run") == before


def test_a_recipe_that_was_edited_in_the_folder_does_not_hide_what_the_checkpoint_was_made_with(
    stopped, tiny_folder, tmp_path
):
    wanted = resumed(stopped, tiny_folder, tmp_path / "run", "optim.weight_decay=0.5")
    written = tmp_path / "run" / "recipe.yaml"
    values = yaml.safe_load(written.read_text())
    values["optim"]["weight_decay"] = 0.5
    written.write_text(yaml.safe_dump(values))
    before = files(tmp_path / "run")
    with pytest.raises(RecipeError, match=r"step-00000002 belongs to another recipe: optim.weight_decay was 0.0, is"):
        train(wanted)
    assert files(tmp_path / "run") == before


def test_a_key_that_did_not_exist_then_had_its_default(stopped, tiny_folder, tmp_path):
    wanted = resumed(stopped, tiny_folder, tmp_path / "run", "model.liger=off")
    written = tmp_path / "run" / "recipe.yaml"
    values = yaml.safe_load(written.read_text())
    for section, key in (("model", "liger"), ("run", "change")):
        del values[section][key]
    written.write_text(yaml.safe_dump(values))
    with pytest.raises(RecipeError, match="model.liger was auto, is off"):
        train(wanted)


def test_a_rate_changed_on_purpose_holds_from_the_checkpoint_on_and_is_recorded(stopped, tiny_folder, tmp_path):
    run = tmp_path / "run"
    more = ["optim.language_lr=5e-4", "run.change=optim.language_lr"]
    train(resumed(stopped, tiny_folder, run, *more))
    assert {step: losses(run)[step] for step in (1, 2)} == {step: stopped[2][step] for step in (1, 2)}
    rates = [json.loads(line)["lr"]["language"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    scale = [json.loads(line)["lr_scale"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([1e-3 * scale[0], 1e-3 * scale[1], 5e-4 * scale[2]])
    [entry] = [json.loads(line) for line in (run / "changes.jsonl").read_text().splitlines()]
    del entry["check"]
    assert entry == {"step": 2, "key": "optim.language_lr", "old": 1e-3, "new": 5e-4}
    assert yaml.safe_load((run / "recipe.yaml").read_text())["optim"]["language_lr"] == 5e-4
    [told] = json.loads((run / "result.json").read_text())["changes"]
    assert told == {"key": "optim.language_lr", "old": 1e-3, "new": 5e-4}
    assert "from step 3 on, by run.change: optim.language_lr was 0.001, is 0.0005" in (run / "log.txt").read_text()


def test_a_changed_rate_moves_the_weights_less(stopped, tiny_folder, tmp_path):
    # The optimizer's state holds the old rate: it must not come back with it.
    kept = stopped[0] / "checkpoints" / "step-00000002" / "model" / "model.safetensors"
    moved = []
    for rate in ("1e-3", "1e-9"):
        more = [f"optim.{part}_lr={rate}" for part in ("language", "vision")]
        change = "run.change=optim.language_lr,optim.vision_lr"
        train(resumed(stopped, tiny_folder, tmp_path / rate, *more, change))
        moved.append(largest(kept, tmp_path / rate / "model" / "model.safetensors"))
    assert moved[1] < 1e-7 < 1e-5 < moved[0]


def largest(first: Path, second: Path) -> float:
    from safetensors.torch import load_file  # noqa: PLC0415

    ours, theirs = load_file(first), load_file(second)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_another_split_of_a_step_is_asked_for_and_learns_the_same_but_for_rounding(stopped, tiny_folder, tmp_path):
    split = ["batch.per_device=1", "batch.accumulate=4"]
    with pytest.raises(RecipeError, match=r"per_device was 2, is 1; .*run.change=batch.per_device,batch.accumulate;"):
        train(resumed(stopped, tiny_folder, tmp_path / "run", *split))
    change = "run.change=batch.per_device,batch.accumulate"
    train(train_recipe(tiny_folder, stopped[1], tmp_path / "run", *STEPS, *split, change))
    assert losses(tmp_path / "run")[3] == pytest.approx(stopped[2][3], rel=1e-5)


def test_after_a_change_the_plain_command_goes_on_and_the_old_rate_is_refused(stopped, tiny_folder, tmp_path):
    run = tmp_path / "run"
    slower = ["optim.language_lr=5e-4", "run.change=optim.language_lr"]
    # Stopped before a checkpoint with the new rate was written: the newest one is still of the old.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_trained", lambda _: False)
        train(resumed(stopped, tiny_folder, run, *slower))
    with pytest.raises(RecipeError, match=r"optim.language_lr was 0.0005, is 0.001.*run.change=optim.language_lr"):
        train(train_recipe(tiny_folder, stopped[1], run, *STEPS))
    train(train_recipe(tiny_folder, stopped[1], run, *STEPS, slower[0]))
    assert len((run / "changes.jsonl").read_text().splitlines()) == 1


def test_only_what_can_be_changed_in_the_middle_can_be_named():
    with pytest.raises(RecipeError, match=r"run.change.*optim.language_lr"):
        recipe("run.change=mixture")


def test_a_finished_run_is_believed_only_if_its_model_is_as_it_was_exported(stopped, tiny_folder, tmp_path):
    wanted = resumed(stopped, tiny_folder, tmp_path / "run")
    train(wanted)
    assert train(wanted) is True
    weights = tmp_path / "run" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match=r"model.safetensors differs from the manifest. Move that folder away"):
        train(wanted)
    # The remedy works.
    weights.parent.rename(tmp_path / "aside")
    train(wanted)
    assert losses(tmp_path / "run") == stopped[2]
    (tmp_path / "run" / "model" / "MANIFEST.json").unlink()
    with pytest.raises(DataError, match="No such file"):
        train(wanted)


def test_a_finished_run_is_not_that_of_another_recipe(stopped, tiny_folder, tmp_path):
    train(resumed(stopped, tiny_folder, tmp_path / "run"))
    with pytest.raises(RecipeError, match="run.max_steps was 3, is 4"):
        train(train_recipe(tiny_folder, stopped[1], tmp_path / "run", *STEPS, "run.max_steps=4"))
