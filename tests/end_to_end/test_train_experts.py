"""Training the experts of an up-cycled model by the commands a user types."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from robointervlm.cli.main import run
from robointervlm.compat.training import train as documented_train
from robointervlm.models.qwen2_5_vl.parts import part_of
from tiny_models import losses, train_arguments


@pytest.fixture(scope="module")
def moe_folder(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("moe") / "moe"
    small = ("--experts", "4", "--per-token", "2", "--width", "16")
    assert run(["convert", "upcycle", str(tiny_folder), str(folder), *small]) == 0
    return folder


def changed_parts(before, after) -> set[str]:
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert old.keys() == new.keys()
    return {part_of(name) for name in old if not torch.equal(old[name], new[name])}


def test_two_steps_change_the_experts_alone_and_the_model_loads(moe_folder, catalog, tmp_path):
    more = ("model.tune=[experts]", "run.max_steps=2", "optim.experts_lr=1e-2", "run.save_every=1")
    assert run(["train", *train_arguments(moe_folder, catalog, tmp_path / "run", *more)]) == 0
    assert losses(tmp_path / "run").keys() == {1, 2}
    assert changed_parts(moe_folder, tmp_path / "run" / "model") == {"experts"}
    picture = str(catalog.parent / "0.png")
    asked = ("--prompt", "Where is the cup?", "--images", picture, "--max-new-tokens", "4")
    assert run(["infer", "--model", str(tmp_path / "run" / "model"), *asked]) == 0


def test_a_killed_training_of_experts_goes_on_with_the_same_losses(moe_folder, catalog, tmp_path):
    more = ("model.tune=[experts]", "run.save_every=1", "optim.experts_lr=1e-2")
    assert run(["train", *train_arguments(moe_folder, catalog, tmp_path / "one", *more)]) == 0
    arguments = train_arguments(moe_folder, catalog, tmp_path / "two", *more)
    assert run(["train", *arguments]) == 0
    (tmp_path / "two" / "result.json").unlink()
    newest = max((tmp_path / "two" / "checkpoints").iterdir())
    newest.rename(tmp_path / "set_aside")
    assert run(["train", *arguments]) == 0
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


def test_the_documented_flag_trains_the_experts(moe_folder, catalog, tmp_path):
    flags = {
        "model_name_or_path": str(moe_folder),
        **{"tune_mm_llm": "False", "tune_mm_mlp": "False", "tune_mm_vision": "False", "tune_moe": "True"},
        **{"dataset_use": "boxes", "catalog": str(catalog), "output_dir": str(tmp_path / "run")},
        **{"max_steps": "1", "per_device_train_batch_size": "2", "learning_rate": "1e-2", "use_cpu": "True"},
        **{"warmup_ratio": "0"},
    }
    assert documented_train([part for name, text in flags.items() for part in (f"--{name}", text)]) == 0
    assert changed_parts(moe_folder, tmp_path / "run" / "model") == {"experts"}


def test_experts_of_a_dense_model_are_one_clear_error(tiny_folder, catalog, tmp_path, capsys):
    code = run(["train", *train_arguments(tiny_folder, catalog, tmp_path / "run", "model.tune=[experts]")])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert code == 2
    assert len(said) == 1
    assert "this model is dense" in said[0]
    assert "robointer convert upcycle" in said[0]
