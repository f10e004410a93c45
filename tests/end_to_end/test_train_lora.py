"""Training low-rank updates by the commands a user types: stop, resume, export, ask, merge by hand."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from robointervlm.cli.main import run
from robointervlm.compat.training import train as documented_train
from robointervlm.models.qwen2_5_vl.parts import part_of
from tiny_models import losses, train_arguments

LORA = ("model.tune=[lora,merger]", "model.lora.rank=4", "optim.lora_lr=1e-2", "optim.merger_lr=1e-3")


@pytest.fixture
def arguments(tiny_folder, catalog, tmp_path):
    def made(name: str, *more: str) -> list[str]:
        return ["train", *train_arguments(tiny_folder, catalog, tmp_path / name, *LORA, *more)]

    return made


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_run_gives_a_model_that_answers_by_itself_and_an_adapter(arguments, tiny_folder, catalog, tmp_path, capsys):
    assert run(arguments("run")) == 0
    said = capsys.readouterr()
    table = [line for line in (said.out + said.err).splitlines() if line.startswith("│ lora")]
    assert "1.0e-02" in table[0]
    model = tmp_path / "run" / "model"
    before, after = weights(tiny_folder), weights(model)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {part_of(name) for name in changed} == {"language", "merger"}
    assert all(".merger." in name or name.endswith("proj.weight") for name in changed)
    picture = ("--prompt", "Where is the cup?", "--images", str(catalog.parent / "0.png"), "--max-new-tokens", "4")
    assert run(["infer", "--model", str(model), *picture]) == 0
    assert run(["convert", "merge", str(tiny_folder), str(model / "adapter"), str(tmp_path / "merged")]) == 0
    merged = weights(tmp_path / "merged")
    assert max(float((merged[name] - after[name]).abs().max()) for name in after) < 1e-6


@pytest.mark.parametrize(
    "more", [(), ("batch.pack=shared", "run.gradient_checkpointing=true", "model.lora.vision=true")]
)
def test_a_run_that_was_stopped_goes_on_with_the_same_losses(arguments, tmp_path, more):
    more = (*more, "run.save_every=1")
    assert run(arguments("one", *more)) == 0
    assert run(arguments("two", *more)) == 0
    # As if it had been killed after its second step.
    (tmp_path / "two" / "result.json").unlink()
    (tmp_path / "two" / "checkpoints" / "step-00000003").rename(tmp_path / "aside")
    assert run(arguments("two", *more)) == 0
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    ours, theirs = weights(tmp_path / "one" / "model"), weights(tmp_path / "two" / "model")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_holds_a_small_state_and_a_whole_model(arguments, tiny_folder, tmp_path):
    assert run(arguments("run", "run.max_steps=1", "run.save_every=1")) == 0
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    saved = torch.load(checkpoint / "engine-00000.pt", weights_only=True)["network"]["parameters"]
    assert {part_of(name) for name in saved} == {"lora", "merger"}
    assert weights(checkpoint / "model").keys() == weights(tiny_folder).keys()
    config = json.loads((checkpoint / "model" / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["modules_to_save"]) == (4, ["merger"])


def test_another_rank_in_the_same_folder_is_refused(arguments, tmp_path, capsys):
    assert run(arguments("run", "run.max_steps=1", "run.save_every=1")) == 0
    capsys.readouterr()
    assert run(arguments("run", "run.max_steps=1", "run.save_every=1", "model.lora.rank=8")) == 2
    assert "model.lora.rank was 4, is 8" in capsys.readouterr().err


def test_the_documented_flags_train_low_rank_updates(tiny_folder, catalog, tmp_path):
    flags = {
        "model_name_or_path": str(tiny_folder),
        **{"lora_enable": "True", "lora_r": "4", "lora_alpha": "8", "tune_mm_llm": "True", "tune_mm_mlp": "False"},
        **{"dataset_use": "boxes", "catalog": str(catalog), "output_dir": str(tmp_path / "run"), "use_cpu": "True"},
        **{"max_steps": "1", "per_device_train_batch_size": "2", "learning_rate": "1e-2", "warmup_ratio": "0"},
    }
    assert documented_train([part for name, text in flags.items() for part in (f"--{name}", text)]) == 0
    assert (tmp_path / "run" / "model" / "adapter" / "adapter_config.json").is_file()


def test_liger_on_a_cpu_is_one_clear_error(arguments, capsys):
    assert run(arguments("run", "model.liger=on")) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(said) == 1
    assert "run on a GPU only" in said[0]
