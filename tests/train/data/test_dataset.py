"""Which samples make each step, and what becomes of those that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest

from robointervlm.core.errors import DataError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.train.data.dataset import Plan, TrainingDataset, loader
from robointervlm.train.recipe import AugmentSection
from tiny_models import box_dataset, shared_model, train_recipe


def mixture_of(catalog, *entries, seed=0) -> Mixture:
    return Mixture(entries or ["boxes"], seed=seed, catalog=Catalog(catalog))


def plan_of(catalog, tmp_path, *more, processes=1, lengths=(1.0,), mixture=None) -> Plan:
    recipe = train_recipe(tmp_path, catalog, tmp_path / "run", *more)
    return Plan(mixture or mixture_of(catalog), recipe, processes, lengths)


def feed_of(mixture, max_tokens=8192, seed=0, **augment) -> TrainingDataset:
    return TrainingDataset(mixture, shared_model().encoder, AugmentSection(**augment), seed, max_tokens)


def taken(plan: Plan, steps: int) -> list[tuple[int, int]]:
    """Every sample that any rank takes in the first steps."""
    return [
        sample
        for rank in range(plan.processes)
        for number in range(steps * plan.accumulate)
        for sample in plan.micro_batch(rank, number)
    ]


@pytest.mark.parametrize(
    "per_device, accumulate, processes", [(2, 2, 1), (1, 4, 1), (4, 1, 1), (1, 2, 2), (1, 1, 4), (2, 1, 2)]
)
def test_an_epoch_holds_every_sample_once_however_it_is_split(catalog, tmp_path, per_device, accumulate, processes):
    plan = plan_of(
        *(catalog, tmp_path, "run.max_steps=null", f"batch.per_device={per_device}"),
        *(f"batch.accumulate={accumulate}", "run.epochs=1"),
        processes=processes,
    )
    assert plan.steps == 3
    assert sorted(taken(plan, 3)) == [(0, index) for index in range(12)]


def test_the_samples_of_a_step_are_the_same_for_any_number_of_processes(catalog, tmp_path):
    one = plan_of(catalog, tmp_path, "batch.per_device=1", "batch.accumulate=4")
    four = plan_of(catalog, tmp_path, "batch.per_device=1", "batch.accumulate=1", processes=4)
    for step in range(7):
        assert one.step_samples(step) == four.step_samples(step)


def test_epochs_differ_and_follow_each_other_inside_a_step(catalog, tmp_path):
    plan = plan_of(catalog, tmp_path, "batch.per_device=5", "batch.accumulate=1", "run.max_steps=12")
    samples = taken(plan, 12)
    for epoch in range(5):
        assert sorted(index for e, index in samples if e == epoch) == list(range(12))
    assert [i for e, i in samples if e == 0] != [i for e, i in samples if e == 1]


def test_the_order_follows_the_seed_alone(catalog, tmp_path):
    first, again = plan_of(catalog, tmp_path), plan_of(catalog, tmp_path)
    other = plan_of(catalog, tmp_path, mixture=mixture_of(catalog, seed=1))
    # Asked out of order, as several loading processes do.
    assert [again.micro_batch(0, n) for n in (5, 0, 3)] == [first.micro_batch(0, n) for n in (5, 0, 3)]
    assert taken(first, 3) != taken(other, 3)


def test_a_step_sorts_its_samples_by_the_usual_length_of_their_dataset(tmp_path):
    catalog = box_dataset(tmp_path / "data")
    catalog.write_text(
        catalog.read_text() + "long: {task: current_box, annotations: boxes.json}\n",
    )
    mixture = mixture_of(catalog, "boxes", "long")
    plan = plan_of(catalog, tmp_path, mixture=mixture, lengths=[9.0, 5.0])
    for step in range(4):
        datasets = [mixture.locate(index)[0] for _, index in plan.step_samples(step)]
        assert datasets == sorted(datasets, reverse=True)


def test_an_epoch_that_fills_no_step_still_makes_one(catalog, tmp_path):
    plan = plan_of(catalog, tmp_path, "run.max_steps=null", "batch.per_device=50", "run.epochs=1")
    assert plan.steps == 1
    assert len(taken(plan, 1)) == 100


def test_epochs_may_be_a_fraction(catalog, tmp_path):
    # 1.5 times 12 samples in steps of four: four full steps.
    assert plan_of(catalog, tmp_path, "run.max_steps=null", "run.epochs=1.5").steps == 4


def test_a_bad_sample_is_named_and_never_replaced(tmp_path):
    mixture = mixture_of(box_dataset(tmp_path / "data", bad=[3]))
    micro = feed_of(mixture)([(0, 2), (0, 3), (0, 4)])
    assert micro.ids == ["s2", "s4"]
    assert micro.batch.ids_BL.shape[0] == 2
    assert [bad.id for bad in micro.bad] == ["s3"]
    assert "3.png" in micro.bad[0].reason


def test_a_micro_batch_of_bad_samples_only_has_nothing_to_learn(tmp_path):
    mixture = mixture_of(box_dataset(tmp_path / "data", bad=[3]))
    micro = feed_of(mixture)([(0, 3)])
    assert micro.ids == []
    assert micro.batch.supervised == 0


def test_a_sample_that_is_too_long_is_held_apart_and_never_cut(tmp_path):
    mixture = mixture_of(box_dataset(tmp_path / "data", wordy=1))
    feed = feed_of(mixture)
    short, long = (len(feed.example(index)[2].ids) for index in (1, 0))
    assert short < long
    micro = feed_of(mixture, max_tokens=long - 1)([(0, 0), (0, 1)])
    assert (micro.ids, micro.bad) == (["s1"], [])
    assert micro.too_long[0].id == "s0"
    assert f"{long} tokens, batch.max_tokens is {long - 1}" in micro.too_long[0].reason
    assert micro.batch.ids_BL.shape == (1, short)


def test_a_picture_of_another_size_than_annotated_is_bad(tmp_path):
    catalog = box_dataset(tmp_path / "data")
    records = (tmp_path / "data" / "boxes.json").read_text().replace('"w": 84', '"w": 85')
    (tmp_path / "data" / "boxes.json").write_text(records)
    micro = feed_of(mixture_of(catalog))([(0, 0)])
    assert "85" in micro.bad[0].reason


def test_variations_follow_seed_epoch_and_sample_alone(catalog):
    def patches(feed, *wanted):
        return feed(wanted).batch.patches_PC.numpy()

    mixture = mixture_of(catalog)
    feed = feed_of(mixture, brightness=0.3)
    alone = patches(feed, (1, 5))
    together = patches(feed, (1, 4), (1, 5))
    assert np.array_equal(together[len(alone) :], alone)
    assert not np.array_equal(patches(feed, (2, 5)), alone)
    assert not np.array_equal(patches(feed_of(mixture, seed=1, brightness=0.3), (1, 5)), alone)


def test_without_augmentation_epochs_are_the_same(catalog):
    feed = feed_of(mixture_of(catalog))
    first, second = feed([(0, 5)]), feed([(7, 5)])
    assert np.array_equal(first.batch.patches_PC, second.batch.patches_PC)
    assert np.array_equal(first.batch.ids_BL, second.batch.ids_BL)


def test_the_answer_is_written_in_the_models_pixels(catalog):
    # 84x56 is a multiple of 28: with the default limits it is enlarged to none, so the numbers stay.
    encoder = shared_model().encoder
    assert encoder.limits.processed((84, 56)) == (84, 56)
    _, _, encoded = feed_of(mixture_of(catalog)).example(3)
    assert "[[12, 9], [42, 29]]" in encoder.chat.decoded(encoded.ids)


def test_usual_lengths_are_the_mean_tokens_of_the_first_samples(tmp_path):
    mixture = mixture_of(box_dataset(tmp_path / "data", count=2, wordy=1))
    feed = feed_of(mixture)
    lengths = [len(feed.example(index)[2].ids) for index in (0, 1)]
    assert feed.usual_lengths() == [sum(lengths) / 2]


def test_a_dataset_of_bad_samples_has_no_usual_length(tmp_path):
    mixture = mixture_of(box_dataset(tmp_path / "data", count=2, bad=[0, 1]))
    assert feed_of(mixture).usual_lengths() == [0.0]


def test_loading_processes_give_what_one_process_gives(catalog, tmp_path):
    mixture = mixture_of(catalog)
    plan = plan_of(catalog, tmp_path, mixture=mixture)
    feed = feed_of(mixture, brightness=0.2)
    alone = list(loader(feed, plan, rank=0, first_step=1, workers=0))
    shared = list(loader(feed, plan, rank=0, first_step=1, workers=2))
    assert len(alone) == 2 * 2
    assert [micro.ids for micro in shared] == [micro.ids for micro in alone]
    for ours, theirs in zip(alone, shared, strict=True):
        assert np.array_equal(ours.batch.patches_PC, theirs.batch.patches_PC)


def test_a_mixture_without_a_record_is_an_error(tmp_path):
    catalog = box_dataset(tmp_path / "data", count=0)
    with pytest.raises(DataError, match="no records"):
        mixture_of(catalog)
