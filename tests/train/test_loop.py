"""A run: its record, its stops and resumptions, its refusals. Losses are compared to the last bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from robointervlm.core.errors import DataError, NonFiniteLossError, RecipeError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.runs.run import locked
from robointervlm.runs.settings import write_recipe
from robointervlm.runs.signals import StopFlag
from robointervlm.train.loop import Training
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.run import train
from tiny_models import box_dataset, losses, train_recipe


class StopAfter(StopFlag):
    """A signal that comes during a step: the flag is looked at once after each."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def training_of(recipe: TrainRecipe) -> Training:
    mixture = Mixture(recipe.mixture, seed=recipe.run.seed, catalog=Catalog(*recipe.data.catalog))
    model = Qwen25VL.load(Section(path=recipe.model.path, device="cpu"))
    return Training(recipe, model, mixture, Accelerator(cpu=True))


def run_for(recipe: TrainRecipe, steps: int) -> Training:
    """The run, resumed if there is something to resume, stopped by a signal after some steps."""
    recipe.run.dir.mkdir(parents=True, exist_ok=True)
    training = training_of(recipe)
    training.resume()
    training.run(StopAfter(steps))
    return training


FIVE = ["run.max_steps=5", "augment.crop_min=0.6", "augment.brightness=0.2"]


@pytest.fixture(scope="module")
def undisturbed(tiny_folder, tmp_path_factory):
    """Five steps in one go, and its recipe's parts."""
    folder = tmp_path_factory.mktemp("undisturbed")
    catalog = box_dataset(folder / "data")
    train(train_recipe(tiny_folder, catalog, folder / "run", *FIVE))
    return folder / "run", catalog


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_leaves_its_recipe_its_numbers_its_first_samples_and_a_model_that_loads(undisturbed):
    run, _ = undisturbed
    assert sorted(losses(run)) == [1, 2, 3, 4, 5]
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["samples"], result["bad"], result["too_long"]) == (5, 20, 0, 0)
    assert (run / "recipe.yaml").is_file()
    shown = (run / "first_samples" / "samples.txt").read_text()
    assert "[6 image tokens]" in shown
    assert '«{"current_bbox"' in shown
    assert shown.count("<|im_end|>»") == 2
    assert (run / "first_samples" / "2.png").is_file()
    assert Qwen25VL.load(Section(path=str(run / "model"), device="cpu")).encoder.limits.max_pixels == 12845056
    assert not list(run.glob(".tmp*"))


def test_learning_lowers_the_loss(undisturbed):
    found = losses(undisturbed[0])
    assert found[5] < found[1]


@pytest.mark.parametrize("stops", [(1,), (3,), (2, 2)])
def test_a_run_that_is_stopped_and_resumed_has_the_losses_of_an_undisturbed_one(
    undisturbed, tiny_folder, tmp_path, stops
):
    run, catalog = undisturbed
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE)
    for steps in stops:
        run_for(recipe, steps)
    assert max(losses(tmp_path / "run")) == sum(stops)
    train(recipe)
    assert losses(tmp_path / "run") == losses(run)
    assert same_weights(tmp_path / "run", run)
    first, second = (json.loads((each / "result.json").read_text()) for each in (run, tmp_path / "run"))
    assert first == second


def test_steps_after_the_last_checkpoint_are_made_again_and_recorded_once(undisturbed, tiny_folder, tmp_path):
    run, catalog = undisturbed
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE, "run.save_every=2")
    run_for(recipe, 3)
    # As after a kill at step 3: the checkpoint of the stop is not there, and the last line is torn.
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000003")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    train(recipe)
    assert losses(tmp_path / "run") == losses(run)
    assert same_weights(tmp_path / "run", run)


def test_a_run_killed_before_its_first_checkpoint_begins_again_and_is_recorded_once(undisturbed, tiny_folder, tmp_path):
    run, catalog = undisturbed
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE)
    run_for(recipe, 2)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train(recipe)
    assert losses(tmp_path / "run") == losses(run)


def test_a_damaged_checkpoint_costs_steps_but_not_the_result(undisturbed, tiny_folder, tmp_path):
    run, catalog = undisturbed
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE, "run.save_every=1")
    run_for(recipe, 3)
    state = tmp_path / "run" / "checkpoints" / "step-00000003" / "state.pt"
    state.write_bytes(state.read_bytes()[:-10])
    training = training_of(recipe)
    training.resume()
    assert training.step == 2
    train(recipe)
    assert losses(tmp_path / "run") == losses(run)
    assert same_weights(tmp_path / "run", run)


def test_a_checkpoint_is_a_model_that_loads_by_itself(undisturbed, tiny_folder, tmp_path):
    recipe = train_recipe(tiny_folder, undisturbed[1], tmp_path / "run", *FIVE)
    trained = run_for(recipe, 1)
    loaded = Qwen25VL.load(Section(path=str(tmp_path / "run/checkpoints/step-00000001/model"), device="cpu"))
    assert loaded.fingerprint == trained.model.fingerprint


def test_muon_resumes_exactly_too(catalog, tiny_folder, tmp_path):
    more = ["run.max_steps=3", "optim.name=muon", "run.save_every=1"]
    train(train_recipe(tiny_folder, catalog, tmp_path / "whole", *more))
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "parts", *more)
    run_for(recipe, 1)
    train(recipe)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(
    "change", ["run.seed=1", "optim.language_lr=2e-3", "batch.accumulate=1", "augment.crop_min=0.7", "run.max_steps=9"]
)
def test_another_recipe_in_the_same_folder_is_refused(undisturbed, tiny_folder, tmp_path, change):
    catalog = undisturbed[1]
    run_for(train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE), 1)
    other = train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE, change)
    with pytest.raises(RecipeError, match="belongs to another recipe"):
        run_for(other, 1)


def test_a_refused_recipe_leaves_the_folder_as_it_was(undisturbed, tiny_folder, tmp_path):
    recipe = train_recipe(tiny_folder, undisturbed[1], tmp_path / "run", *FIVE)
    run_for(recipe, 1)
    write_recipe(recipe, tmp_path / "run" / "recipe.yaml")
    before = (tmp_path / "run" / "recipe.yaml").read_bytes()
    with pytest.raises(RecipeError, match=r"optim.vision_lr was 0.001, is 0.5"):
        train(train_recipe(tiny_folder, undisturbed[1], tmp_path / "run", *FIVE, "optim.vision_lr=0.5"))
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == before


def test_what_does_not_change_the_samples_may_change_between_two_parts(undisturbed, tiny_folder, tmp_path):
    run, catalog = undisturbed
    run_for(train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE), 2)
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE, "run.save_every=1", "data.workers=1"))
    assert losses(tmp_path / "run") == losses(run)


def test_the_split_into_micro_batches_changes_neither_loss_nor_gradient(undisturbed, tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data", wordy=5)
    found = []
    for per_device, accumulate in ((1, 4), (4, 1), (2, 2)):
        run = tmp_path / f"run{per_device}"
        more = [f"batch.per_device={per_device}", f"batch.accumulate={accumulate}", "run.max_steps=2"]
        train(train_recipe(tiny_folder, catalog, run, *more))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found.append([value for line in lines for value in (line["loss"], line["grad_norm"])])
        assert [line["samples"] for line in lines] == [4, 8]
    assert found[1] == pytest.approx(found[0], rel=2e-5)
    assert found[2] == pytest.approx(found[0], rel=2e-5)


def test_only_the_named_part_changes(catalog, tiny_folder, tmp_path):
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", "model.tune=[merger]", "run.max_steps=1"))
    before, after = load_file(tiny_folder / "model.safetensors"), weights(tmp_path / "run")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        *("model.visual.merger.ln_q.weight", "model.visual.merger.mlp.0.weight", "model.visual.merger.mlp.0.bias"),
        *("model.visual.merger.mlp.2.weight", "model.visual.merger.mlp.2.bias"),
    }


@pytest.mark.parametrize("part", ["vision", "merger"])
def test_checkpointed_activations_train_a_part_behind_frozen_ones(catalog, tiny_folder, tmp_path, part):
    found = []
    for checkpointing in ("false", "true"):
        more = [f"model.tune=[{part}]", f"run.gradient_checkpointing={checkpointing}", "run.max_steps=2"]
        train(train_recipe(tiny_folder, catalog, tmp_path / checkpointing, *more))
        found.append(list(losses(tmp_path / checkpointing).values()))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[0][0] != found[0][1]


def test_checkpointed_activations_train_the_same(undisturbed, tiny_folder, tmp_path):
    run, catalog = undisturbed
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", *FIVE, "run.gradient_checkpointing=true"))
    assert list(losses(tmp_path / "run").values()) == pytest.approx(list(losses(run).values()), rel=1e-5)


def test_a_loss_that_is_no_number_stops_the_run_before_the_step(catalog, tiny_folder, tmp_path):
    training = training_of(train_recipe(tiny_folder, catalog, tmp_path / "run"))
    (tmp_path / "run").mkdir(exist_ok=True)
    with torch.no_grad():
        training.model.network.model.language_model.norm.weight[0] = float("nan")
    before = {name: tensor.clone() for name, tensor in training.model.network.state_dict().items()}
    with pytest.raises(
        NonFiniteLossError, match=r"step 1: the loss is nan; .* not applied.* from: s\d+, s\d+"
    ) as caught:
        training.run(StopFlag())
    assert caught.value.exit_code == 7
    after = training.model.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not before[name].isnan().any())
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_infinite_gradient_stops_the_run_before_the_step(catalog, tiny_folder, tmp_path):
    training = training_of(train_recipe(tiny_folder, catalog, tmp_path / "run"))
    (tmp_path / "run").mkdir(exist_ok=True)
    bias = training.model.network.model.visual.merger.mlp[2].bias
    bias.register_hook(lambda gradient: gradient * float("inf"))
    before = bias.detach().clone()
    with pytest.raises(NonFiniteLossError, match="gradient's norm is"):
        training.run(StopFlag())
    assert torch.equal(bias, before)


def test_bad_samples_are_counted_and_the_run_goes_on(tiny_folder, tmp_path):
    # Two of twelve pictures are missing: a sixth. Three steps of four samples see each once.
    catalog = box_dataset(tmp_path / "data", bad=[3, 8])
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", "data.max_bad_rate=0.2"))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["samples"], result["bad"]) == (10, 2)


def test_more_bad_samples_than_allowed_end_the_run(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data", bad=[3, 8])
    with pytest.raises(DataError, match=r"of the first \d+ samples cannot be loaded, more than data.max_bad_rate=0.1"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run", "data.max_bad_rate=0.1"))


def test_one_bad_sample_at_the_start_of_a_long_run_is_no_reason_to_end_it(tiny_folder, tmp_path):
    # One of 12 is bad and 0.1 are allowed; the first step alone, of two samples, may be half bad.
    catalog = box_dataset(tmp_path / "data", bad=[5])
    more = ["data.max_bad_rate=0.1", "run.max_steps=12", "batch.per_device=1", "batch.accumulate=1"]
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", *more))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["bad"] == 1
    # The step of the bad sample taught nothing, and says no loss.
    assert len(losses(tmp_path / "run")) == 11


@pytest.mark.parametrize("pack", ["none", "samples"])
def test_samples_that_are_too_long_are_counted_and_named_before_step_0(tiny_folder, tmp_path, pack):
    catalog = box_dataset(tmp_path / "data", wordy=7)
    said = r"7 of 12 samples are longer than batch.max_tokens=150: s0 \(\d+ tokens\), s1 .*, s4 \(\d+ tokens\), …\. "
    with pytest.raises(DataError, match=said + r"Nothing was trained.*leave them out with batch.too_long=drop"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run", "batch.max_tokens=150", f"batch.pack={pack}"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_mixture_of_which_nothing_would_be_left_is_refused(tiny_folder, catalog, tmp_path):
    more = ["batch.max_tokens=20", "batch.too_long=drop"]
    with pytest.raises(DataError, match=r"12 of 12 samples .* To go on, raise batch.max_tokens, or lower"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run", *more))


def test_too_long_samples_are_dropped_on_request_and_are_not_bad(tiny_folder, tmp_path):
    catalog = box_dataset(tmp_path / "data", wordy=3)
    more = ["batch.max_tokens=150", "batch.too_long=drop", "data.max_bad_rate=0"]
    train(train_recipe(tiny_folder, catalog, tmp_path / "run", *more))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["samples"], result["bad"], result["too_long"]) == (9, 0, 3)


def test_two_runs_cannot_share_a_folder(catalog, tiny_folder, tmp_path):
    (tmp_path / "run").mkdir(exist_ok=True)
    with locked(tmp_path / "run"), pytest.raises(RecipeError, match="locked by pid"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run"))


def test_weights_are_trained_in_float32_whatever_the_checkpoint_holds(catalog, tiny_folder, tmp_path):
    # In bfloat16 a step of 1e-6 next to a weight of 0.02 is lost.
    model = Qwen25VL.load(Section(path=str(tiny_folder), device="cpu", dtype="bfloat16"))
    model.save(tmp_path / "half")
    train(train_recipe(tmp_path / "half", catalog, tmp_path / "run", "optim.language_lr=1e-6", "run.max_steps=1"))
    before, after = load_file(tmp_path / "half" / "model.safetensors"), weights(tmp_path / "run")
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    assert before[name].dtype == torch.bfloat16
    assert after[name].dtype == torch.float32
    assert (after[name] != before[name].float()).float().mean() > 0.9
