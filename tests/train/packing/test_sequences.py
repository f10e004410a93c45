"""Packed rows: what shares a row, that nothing is lost or cut, and that a run learns the same from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.runs.signals import StopFlag
from robointervlm.train.data.dataset import TrainingDataset, loader
from robointervlm.train.loop import Training
from robointervlm.train.packing.sequences import Group, Lengths, PackedDataset, PackedPlan, packing
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.run import train
from tiny_models import fresh_model, losses, noise, shared_model, train_recipe

PICTURES = 4
NAMES = ["cup", "gripper of the robot", "spoon"]


def shared_dataset(folder: Path, *, missing: str | None = None) -> Path:
    """Four pictures of 84x56 with three questions each, every question's picture in a file of its own; two of text.

    Sample `p1q2` is the third question on the second picture, `t0` and `t1` have no picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for picture in range(PICTURES):
        pixels = noise(84, 56, picture)
        for question, name in enumerate(NAMES):
            identifier = f"p{picture}q{question}"
            if identifier != missing:
                Image.fromarray(pixels).save(folder / f"{identifier}.png")
            answer = json.dumps({"current_bbox": [[question, picture], [30 + picture, 40]]})
            records.append(
                {
                    "id": identifier,
                    "conversations": [
                        {"from": "human", "value": f"<image>\nWhere is the {name}?"},
                        {"from": "gpt", "value": answer},
                    ],
                    "images": f"{identifier}.png",
                    "h": 56,
                    "w": 84,
                }
            )
    texts = [
        {
            "id": f"t{index}",
            "conversations": [{"from": "human", "value": "Is it open?"}, {"from": "gpt", "value": answer}],
        }
        for index, answer in enumerate(("Yes", "No"))
    ]
    (folder / "boxes.json").write_text(json.dumps(records))
    (folder / "texts.json").write_text(json.dumps(texts))
    (folder / "catalog.yaml").write_text(
        "root: .\nboxes: {task: current_box, annotations: boxes.json}\ntexts: {task: chat, annotations: texts.json}\n"
    )
    return folder / "catalog.yaml"


@pytest.fixture
def catalog(tmp_path):
    return shared_dataset(tmp_path / "data")


SHARED = ["batch.pack=shared", "mixture=[boxes,texts]", "batch.accumulate=1"]


def made(catalog, tmp_path, *more: str, processes: int = 1) -> tuple[PackedDataset, PackedPlan, TrainRecipe]:
    recipe = train_recipe(tmp_path, catalog, tmp_path / "run", *SHARED, *more)
    mixture = Mixture(recipe.mixture, seed=recipe.run.seed, catalog=Catalog(catalog))
    feed = TrainingDataset(mixture, shared_model().encoder, recipe.augment, recipe.run.seed, recipe.batch.max_tokens)
    return *packing(feed, recipe, processes), recipe


def ids_of(plan: PackedPlan, group: Group) -> list[str]:
    return sorted(plan.mixture[index].id for index in group.samples)


def test_samples_share_a_group_by_what_their_picture_files_hold(catalog, tmp_path):
    _, plan, _ = made(catalog, tmp_path)
    groups = sorted(ids_of(plan, group) for row in plan.rows(0) for group in row)
    assert groups == [
        ["p0q0", "p0q1", "p0q2"],
        ["p1q0", "p1q1", "p1q2"],
        ["p2q0", "p2q1", "p2q2"],
        ["p3q0", "p3q1", "p3q2"],
        ["t0"],
        ["t1"],
    ]


def test_without_sharing_every_sample_is_a_group_of_its_own(catalog, tmp_path):
    _, plan, _ = made(catalog, tmp_path, "batch.pack=samples")
    assert [len(group.samples) for row in plan.rows(0) for group in row] == [1] * 14
    assert len(plan.rows(0)) == 1


def test_no_row_holds_more_questions_on_one_picture_than_asked_for(catalog, tmp_path):
    _, plan, _ = made(catalog, tmp_path, "batch.max_questions_per_image=2")
    for row in plan.rows(0):
        pictures = [plan.mixture[index].id[:2] for group in row for index in group.samples]
        assert max(pictures.count(name) for name in ("p0", "p1", "p2", "p3")) <= 2
    assert len(plan.rows(0)) == 2


def test_the_summary_counts_rows_and_what_sharing_saves(tmp_path):
    class InOrder:
        def __len__(self) -> int:
            return 3

        def order(self, epoch: int) -> np.ndarray:
            return np.arange(3)

    # Two of 40 and 50 tokens share 30: 60 in all. With one of 45 that is 105, more than a row of 100 holds.
    lengths = Lengths(np.array([40, 50, 45]), np.array([30, 30, 0]), np.array([0, 0, 1]))
    recipe = train_recipe(Path("m"), Path("c"), Path("r"), "batch.pack=shared", "batch.max_tokens=100")
    assert PackedPlan(InOrder(), recipe, 1, lengths).summary() == (
        "3 samples in 2 rows an epoch, up to 60 tokens in a row; 105 tokens in all, 135 if nothing were shared"
    )


def test_the_two_longest_rows_lead_the_first_two_steps(tmp_path):
    class InOrder:
        def __len__(self) -> int:
            return 7

        def order(self, epoch: int) -> np.ndarray:
            return np.arange(7)

    # One sample a row, two rows a step.
    lengths = Lengths(np.array([70, 51, 52, 99, 53, 98, 54]), np.zeros(7, dtype=int), np.arange(7))
    recipe = train_recipe(Path("m"), Path("c"), Path("r"), "batch.pack=shared", "batch.max_tokens=100")
    plan = PackedPlan(InOrder(), recipe, 1, lengths)
    assert plan.accumulate == 2
    rows = [[group.samples[0] for group in row] for row in plan.rows(0)]
    assert sorted(rows) == [[0], [1], [2], [3], [4], [5], [6]]
    assert (rows[0], rows[2]) == ([5], [3])
    # Later epochs are as they come.
    assert plan.rows(1).rooms(lengths)[0] < 98


def test_the_numbers_of_a_plan_tell_what_is_left_out_and_unused():
    class InOrder:
        def __len__(self) -> int:
            return 3

        def order(self, epoch: int) -> np.ndarray:
            return np.arange(3)

    # Two of 40 and 50 share 30, one is too long: a row of 60, of which 40 stay unused.
    lengths = Lengths(np.array([40, 50, 0]), np.array([30, 30, 0]), np.array([0, 0, 1]))
    recipe = train_recipe(Path("m"), Path("c"), Path("r"), "batch.pack=shared", "batch.max_tokens=100")
    numbers = PackedPlan(InOrder(), recipe, 1, lengths).numbers()
    assert numbers == (3, 1, 1, 60, 90, 60, 40)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("pack", ["samples", "shared"])
@pytest.mark.parametrize("max_tokens", [80, 150, 400])
def test_an_epoch_holds_every_sample_once_and_no_row_is_too_long(catalog, tmp_path, pack, max_tokens, processes):
    load, plan, _ = made(
        *(catalog, tmp_path, f"batch.pack={pack}", f"batch.max_tokens={max_tokens}"), processes=processes
    )
    for epoch in range(2):
        rows = plan.rows(epoch)
        assert sorted(index for row in rows for group in row for index in group.samples) == list(range(14))
        assert {group.epoch for row in rows for group in row} == {epoch}
        for row in rows:
            micro = load(row)
            assert micro.batch.tokens <= max_tokens
            assert (micro.bad, micro.too_long) == ([], [])
            assert len(micro.ids) == sum(len(group.samples) for group in row)


def test_every_row_of_the_run_is_taken_by_one_rank(catalog, tmp_path):
    _, plan, _ = made(catalog, tmp_path, "batch.max_tokens=80", processes=2)
    rows = [*plan.rows(0), *plan.rows(1)]
    taken = [plan.micro_batch(rank, number) for number in range(len(rows) // 2) for rank in range(2)]
    assert taken == rows[: len(taken)]


def test_epochs_decide_the_steps(catalog, tmp_path):
    _, plan, _ = made(catalog, tmp_path, "batch.max_tokens=80", "run.max_steps=null", "run.epochs=1.5")
    assert plan.steps == len(plan.rows(0)) + len(plan.rows(1)) // 2


def test_the_plan_follows_the_seed_alone(catalog, tmp_path):
    _, first, _ = made(catalog, tmp_path, "batch.max_tokens=150")
    _, again, _ = made(catalog, tmp_path, "batch.max_tokens=150")
    _, other, _ = made(catalog, tmp_path, "batch.max_tokens=150", "run.seed=1")
    # Asked out of order, as several loading processes do.
    assert [again.micro_batch(0, n) for n in (9, 0, 3)] == [first.micro_batch(0, n) for n in (9, 0, 3)]
    assert first.rows(0) != first.rows(1)
    assert first.rows(0) != other.rows(0)


@given(
    tokens=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    kinds=st.lists(st.integers(0, 4), min_size=30, max_size=30),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_any_lengths_are_covered_once_within_the_budget(tmp_path_factory, tokens, kinds, seed):
    class Shuffled:
        def __len__(self) -> int:
            return len(tokens)

        def order(self, epoch: int) -> np.ndarray:
            return np.random.default_rng([seed, epoch]).permutation(len(tokens))

    recipe = train_recipe(Path("m"), Path("c"), Path("r"), "batch.pack=shared", "batch.max_tokens=59")
    group = np.array(kinds[: len(tokens)])
    shared = np.array([min([t for t, g in zip(tokens, group, strict=True) if g == kind]) // 2 for kind in group])
    plan = PackedPlan(Shuffled(), recipe, 1, Lengths(np.array(tokens), shared, group))
    rows = plan.rows(0)
    assert sorted(index for row in rows for part in row for index in part.samples) == list(range(len(tokens)))
    for row in rows:
        assert sum(plan.lengths.room(part.samples) for part in row) <= 60
        assert all(len({int(group[index]) for index in part.samples}) == 1 for part in row)


def test_a_sample_that_is_too_long_is_known_before_the_first_step(catalog, tmp_path):
    with pytest.raises(DataError, match=r"4 of 14 samples are longer than .*=59: p0q1 \(60 tokens\), p1q1 "):
        made(catalog, tmp_path, "batch.max_tokens=59")


def test_a_sample_that_is_too_long_may_be_dropped_and_is_counted(catalog, tmp_path):
    load, plan, _ = made(catalog, tmp_path, "batch.max_tokens=59", "batch.too_long=drop")
    micros = [load(row) for row in plan.rows(0)]
    assert sorted(bad.id for micro in micros for bad in micro.too_long) == ["p0q1", "p1q1", "p2q1", "p3q1"]
    assert sum(len(micro.ids) for micro in micros) == 10


def test_a_bad_sample_is_named_and_the_others_stay(tmp_path):
    load, plan, _ = made(shared_dataset(tmp_path / "data", missing="p1q1"), tmp_path)
    micros = [load(row) for row in plan.rows(0)]
    assert [bad.id for micro in micros for bad in micro.bad] == ["p1q1"]
    assert sum(len(micro.ids) for micro in micros) == 13


def test_a_row_of_bad_samples_only_teaches_nothing(tmp_path):
    load, plan, _ = made(shared_dataset(tmp_path / "data", missing="p1q1"), tmp_path)
    index = next(index for index in range(12) if plan.mixture[index].id == "p1q1")
    micro = load((Group(0, (index,)),))
    assert (micro.ids, micro.batch.supervised) == ([], 0)


def test_a_row_has_the_summed_loss_of_its_samples(catalog, tmp_path):
    load, plan, _ = made(catalog, tmp_path)
    model = fresh_model()
    use_packed_attention(model.network)
    feed = load.feed
    with torch.no_grad():
        together = sum(float(SupervisedLoss(model.network)(load(row).batch)) for row in plan.rows(0))
        alone = [float(SupervisedLoss(shared_model().network)(feed([(0, index)]).batch)) for index in range(14)]
    assert together == pytest.approx(sum(alone), rel=1e-5)


AUGMENTED = ["augment.crop_min=0.6", "augment.brightness=0.2"]


def test_a_variation_is_one_for_the_group_and_follows_the_epoch(catalog, tmp_path):
    load, plan, _ = made(catalog, tmp_path, *AUGMENTED)
    group = next(group for row in plan.rows(0) for group in row if len(group.samples) == 3)
    first, again, later = (load((Group(epoch, group.samples),)).batch for epoch in (0, 0, 1))
    assert first.grids_N3.shape == (1, 3)
    assert torch.equal(first.patches_PC, again.patches_PC)
    assert not torch.equal(first.patches_PC, later.patches_PC)


def test_a_group_of_one_is_varied_as_without_packing(catalog, tmp_path):
    load, _, _ = made(catalog, tmp_path, *AUGMENTED)
    packed, plain = load((Group(3, (5,)),)).batch, load.feed([(3, 5)]).batch
    assert torch.equal(packed.patches_PC, plain.patches_PC)
    assert torch.equal(packed.ids_BL, plain.ids_BL)


def test_rows_of_random_crops_stay_within_the_budget(catalog, tmp_path):
    load, plan, _ = made(catalog, tmp_path, *AUGMENTED, "batch.max_tokens=150")
    for epoch in range(6):
        for row in plan.rows(epoch):
            micro = load(row)
            assert micro.batch.tokens <= 150
            assert len(micro.ids) == sum(len(group.samples) for group in row)


def test_loading_processes_give_what_one_process_gives(catalog, tmp_path):
    load, plan, _ = made(catalog, tmp_path, *AUGMENTED, "batch.max_tokens=150")
    alone = list(loader(load, plan, rank=0, first_step=1, workers=0))
    shared = list(loader(load, plan, rank=0, first_step=1, workers=2))
    assert [micro.ids for micro in shared] == [micro.ids for micro in alone]
    assert len(alone) == 2
    for ours, theirs in zip(alone, shared, strict=True):
        assert torch.equal(ours.batch.ids_BL, theirs.batch.ids_BL)


def test_a_packed_step_is_the_step_of_the_same_samples_alone(catalog, tiny_folder, tmp_path):
    def first_step(name: str, *more: str) -> dict:
        recipe = train_recipe(
            *(tiny_folder, catalog, tmp_path / name, "mixture=[boxes,texts]", "run.max_steps=2", *more)
        )
        train(recipe)
        return [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    plain = first_step("plain", "batch.per_device=7", "batch.accumulate=2")
    for pack in ("samples", "shared"):
        ours = first_step(pack, f"batch.pack={pack}", "batch.accumulate=1")
        # The second step too: the first one changed the weights in the same way.
        for index, rel in ((0, 1e-5), (1, 1e-4)):
            assert ours[index]["loss"] == pytest.approx(plain[index]["loss"], rel=rel)
            assert ours[index]["grad_norm"] == pytest.approx(plain[index]["grad_norm"], rel=1e-3)
            assert ours[index]["supervised"] == plain[index]["supervised"]
            assert ours[index]["samples"] == plain[index]["samples"] == 14 * (index + 1)
        assert ours[0]["tokens"] < plain[0]["tokens"]


class StopAfter(StopFlag):
    """A signal that comes during a step: the flag is looked at once after each."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left <= 0


def run_for(recipe: TrainRecipe, steps: int) -> None:
    """The run, resumed if there is something to resume, stopped by a signal after some steps."""
    recipe.run.dir.mkdir(parents=True, exist_ok=True)
    mixture = Mixture(recipe.mixture, seed=recipe.run.seed, catalog=Catalog(*recipe.data.catalog))
    model = Qwen25VL.load(Section(path=recipe.model.path, device="cpu"))
    training = Training(recipe, model, mixture, Accelerator(cpu=True))
    training.resume()
    training.run(StopAfter(steps))


FOUR = [*SHARED, *AUGMENTED, "batch.max_tokens=150", "run.max_steps=4"]


@pytest.mark.parametrize("stop", [1, 3])
def test_a_packed_run_that_is_stopped_and_resumed_has_the_losses_of_an_undisturbed_one(
    catalog, tiny_folder, tmp_path, stop
):
    train(train_recipe(tiny_folder, catalog, tmp_path / "whole", *FOUR))
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "stopped", *FOUR)
    run_for(recipe, stop)
    assert max(losses(tmp_path / "stopped")) == stop
    train(recipe)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


@pytest.mark.parametrize("change", ["batch.pack=none", "batch.max_tokens=151", "batch.max_questions_per_image=2"])
def test_a_run_is_not_resumed_with_another_packing(catalog, tiny_folder, tmp_path, change):
    run_for(train_recipe(tiny_folder, catalog, tmp_path / "run", *FOUR), 1)
    with pytest.raises(RecipeError, match=f"{change.partition('=')[0]} was"):
        run_for(train_recipe(tiny_folder, catalog, tmp_path / "run", *FOUR, change), 1)
