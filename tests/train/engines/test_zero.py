"""DeepSpeed's files, with each `auto` as the recipe has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robointervlm.core.errors import RecipeError
from robointervlm.runs.settings import load_recipe
from robointervlm.train.engines.zero import read_config, resolved
from robointervlm.train.recipe import TrainRecipe

SCRIPTS = Path(__file__).parents[3] / "qwen-vl-finetune" / "scripts"


def recipe(*more: str) -> TrainRecipe:
    return load_recipe(TrainRecipe, None, ["model.path=m", "mixture=[a]", "run.dir=r", *more])


def written(folder: Path, **config: object) -> Path:
    path = folder / "zero.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}, **config}))
    return path


@pytest.mark.parametrize("name, stage", [("zero2", 2), ("zero3", 3), ("zero3_offload", 3)])
def test_the_documented_files_take_the_values_of_the_recipe(name, stage):
    ours = recipe("batch.per_device=4", "batch.accumulate=2", "optim.clip=0.5")
    config = resolved(read_config(SCRIPTS / f"{name}.json"), ours, precision="bf16", processes=8, width=2048)
    assert "auto" not in json.dumps(config)
    assert config["train_micro_batch_size_per_gpu"] == 4
    assert config["gradient_accumulation_steps"] == 2
    assert config["train_batch_size"] == 64
    assert config["gradient_clipping"] == 0.5
    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (True, False)
    assert config["zero_optimization"]["stage"] == stage
    assert config["zero_optimization"]["reduce_bucket_size"] == 4_194_304
    if stage == 3:
        assert config["zero_optimization"]["stage3_prefetch_bucket_size"] == 3_774_873
        assert config["zero_optimization"]["stage3_param_persistence_threshold"] == 20_480


def test_the_settings_read_are_not_changed():
    read = read_config(SCRIPTS / "zero3.json")
    resolved(read, recipe(), precision="no", processes=1, width=64)
    assert read == json.loads((SCRIPTS / "zero3.json").read_text())


def test_a_packed_row_is_a_batch_of_one(tmp_path):
    packed = recipe("batch.pack=shared", "batch.per_device=4", "batch.accumulate=3")
    config = resolved(read_config(written(tmp_path)), packed, precision="no", processes=2, width=64)
    assert (config["train_micro_batch_size_per_gpu"], config["train_batch_size"]) == (1, 6)


@pytest.mark.parametrize(
    "setting, said",
    [
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5 in the file, but optim.clip makes it 1.0"),
        ({"train_batch_size": 3}, "train_batch_size is 3"),
        ({"bf16": {"enabled": True}}, "bf16.enabled is true in the file, but run.precision makes it false"),
        ({"steps_per_print": "auto"}, "'auto' of steps_per_print cannot be resolved"),
        ({"zero_optimization": {"stage": 3, "sub_group_size": "auto"}}, "'auto' of zero_optimization.sub_group_size"),
    ],
)
def test_what_contradicts_the_recipe_or_means_nothing_is_refused(tmp_path, setting, said):
    with pytest.raises(RecipeError, match=said):
        resolved(read_config(written(tmp_path, **setting)), recipe(), precision="no", processes=2, width=64)


@pytest.mark.parametrize(
    "setting, said",
    [
        ({"optimizer": {"type": "AdamW"}}, r"section 'optimizer', which optim\.\* decides here"),
        ({"scheduler": {"type": "WarmupLR"}}, "section 'scheduler'"),
        ({"zero_optimization": {"stage": 0}}, "stage 0; use 1, 2 or 3"),
        ({"zero_optimization": True}, "no section zero_optimization"),
    ],
)
def test_a_file_that_would_decide_what_the_recipe_decides_is_refused(tmp_path, setting, said):
    with pytest.raises(RecipeError, match=said):
        read_config(written(tmp_path, **setting))


def test_a_file_that_is_not_there_or_no_json_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none.json does not exist"):
        read_config(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(RecipeError, match=r"bad.json is not a JSON file"):
        read_config(tmp_path / "bad.json")


def test_a_file_means_deepspeed_and_a_written_recipe_reads_back():
    made = recipe("run.deepspeed=zero3.json")
    assert made.run.strategy == "deepspeed"
    assert TrainRecipe.model_validate(made.model_dump(mode="json")) == made


def test_without_a_file_the_strategy_is_ddp():
    assert recipe().run.strategy == "ddp"


@pytest.mark.parametrize(
    "settings, said",
    [
        (["run.strategy=deepspeed"], "needs a file"),
        (["run.strategy=ddp", "run.deepspeed=zero3.json"], "means strategy deepspeed, not ddp"),
        (["run.strategy=fsdp", "run.precision=fp16"], "no loss scaling"),
        (["run.strategy=fsdp", "optim.name=muon"], "muon needs run.strategy ddp"),
        (["run.deepspeed=zero3.json", "optim.name=muon"], "muon needs run.strategy ddp"),
        (["run.strategy=zero"], "run.strategy"),
    ],
)
def test_strategies_that_contradict_other_settings_are_refused(settings, said):
    with pytest.raises(RecipeError, match=said):
        recipe(*settings)
