"""A training and its plan are put together by the same object: what the one prints the other runs."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, skeleton
from robointervlm.train.dry_run.plan import Forecast
from robointervlm.train.loop import Training
from robointervlm.train.setup import Setup, mixture_of, model_section, precision_of
from tiny_models import box_dataset, train_recipe

LORA = ("model.tune=[lora,merger]", "model.lora.vision=true", "optim.lora_lr=1e-2")
PACKED = ("batch.pack=shared", "batch.max_tokens=300")
TOO_LONG = ("batch.max_tokens=70", "batch.too_long=drop", "batch.pack=samples")


@pytest.fixture
def catalog(tmp_path):
    return box_dataset(tmp_path / "data", wordy=4, bad=[7])


def plan_of(recipe, processes):
    return Forecast(recipe, processes, skeleton(model_section(recipe, on_cpu=True)))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("more", [(), PACKED, LORA, TOO_LONG], ids=["plain", "packed", "lora", "too long"])
def test_the_plan_is_made_of_the_samples_and_parts_of_the_run(tiny_folder, catalog, tmp_path, more, processes):
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *more)
    forecast = plan_of(recipe, processes)
    setup = Setup(recipe, Qwen25VL.load(model_section(recipe, on_cpu=True)), mixture_of(recipe), processes)
    plan = setup.planned()
    assert plan.steps == forecast.plan.steps > 0
    assert setup.parts == forecast.setup.parts
    for number in range(plan.steps * plan.accumulate):
        for rank in range(processes):
            assert plan.micro_batch(rank, number) == forecast.plan.micro_batch(rank, number)


def test_the_loop_runs_what_the_plan_says(tiny_folder, catalog, tmp_path):
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *PACKED, "run.gradient_checkpointing=true")
    recipe.run.dir.mkdir()
    model = Qwen25VL.load(model_section(recipe, on_cpu=True))
    training = Training(recipe, model, mixture_of(recipe), Accelerator(cpu=True))
    said = plan_of(recipe, 1).record()
    assert (training.plan.steps, training.plan.step_size) == (said["steps"], said["samples_per_step"])
    assert [vars(part) for part in training.parts] == said["parameters"]
    assert model.network.is_activation_checkpointing
    assert model.network.config.get_text_config()._attn_implementation == "robointer_packed"


@pytest.mark.parametrize(
    "strategy, on_cpu, device", [("ddp", False, "auto"), ("ddp", True, "cpu"), ("fsdp", False, "cpu")]
)
def test_a_model_is_loaded_where_its_strategy_can_share_it_out(
    tiny_folder, catalog, tmp_path, strategy, on_cpu, device
):
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", "model.device=auto", f"run.strategy={strategy}")
    section = model_section(recipe, on_cpu=on_cpu)
    assert (section.device, section.dtype) == (device, "float32")


@pytest.mark.parametrize(
    "given, on_cpu, taken",
    [
        ("auto", True, "no"),
        ("auto", False, "bf16"),
        ("no", False, "no"),
        ("bf16", True, "bf16"),
        ("fp16", False, "fp16"),
    ],
)
def test_the_precision_of_a_step(tiny_folder, catalog, tmp_path, given, on_cpu, taken):
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", f"run.precision={given}")
    assert precision_of(recipe, on_cpu=on_cpu) == taken


def test_half_precision_is_refused_without_a_gpu(tiny_folder, catalog, tmp_path):
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", "run.precision=fp16")
    with pytest.raises(RecipeError, match=r"run\.precision=fp16 needs a GPU"):
        precision_of(recipe, on_cpu=True)


def test_a_step_is_measured_in_the_precision_of_the_recipe(tiny_folder, catalog, tmp_path, monkeypatch):
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", "run.precision=bf16")
    forecast = Forecast(recipe, 1, Qwen25VL.load(model_section(recipe, on_cpu=True)))
    seen = []
    monkeypatch.setattr(
        "robointervlm.train.dry_run.plan.SupervisedLoss.forward",
        lambda self, batch: (
            seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
            or torch.zeros((), requires_grad=True).sum()
        ),
    )
    assert forecast.measured() > 0
    assert set(seen) == {torch.bfloat16}
