"""What is known of every sample before the first step: measured once, the same whoever measured it, never stale."""

from __future__ import annotations

import json
import logging
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robointervlm.core.errors import DataError
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.packing import lengths as measures
from robointervlm.train.packing.lengths import Measurer, Work, measures_of
from robointervlm.train.packing.sequences import packing
from robointervlm.train.recipe import AugmentSection
from tiny_models import box_dataset, noise, shared_model, train_recipe

COUNT = 12


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve samples, the first two wordy, the picture of the fourth missing; a cache that keeps even so few."""
    monkeypatch.setenv("ROBOINTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measures, "STORE_FROM_SAMPLES", 1)
    monkeypatch.setattr(measures, "BLOCK", 5)
    return box_dataset(tmp_path / "data", COUNT, wordy=2, bad=[3])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the samples that were measured in this process."""
    found = []
    original = Measurer._measured

    def noted(self, sample):
        found.append(sample.id)
        return original(self, sample)

    monkeypatch.setattr(Measurer, "_measured", noted)
    return found


def feed_of(catalog: Path, **augment: float) -> TrainingDataset:
    mixture = Mixture(["boxes"], catalog=Catalog(catalog))
    return TrainingDataset(mixture, shared_model().encoder, AugmentSection(**augment), seed=0, max_tokens=200)


def rows_of(catalog: Path, work: Work = Work(), **augment: float) -> list[tuple]:  # noqa: B008 - frozen
    feed = feed_of(catalog, **augment)
    rows = measures_of(feed, feed.mixture.datasets[0], work)
    return [(tokens, shared, tuple(key.tolist()), stamp) for tokens, shared, key, stamp in rows.tolist()]


def touch_later(path: Path) -> None:
    later = time.time() + 5
    os.utime(path, (later, later))


def test_tokens_are_those_of_the_encoded_sample(catalog):
    feed = feed_of(catalog)
    tokens = [row[0] for row in rows_of(catalog)]
    assert tokens[3] == 0
    assert tokens[:3] == [len(feed.example(index)[2].ids) for index in range(3)]
    assert tokens[0] > tokens[2]


@pytest.mark.usefixtures("catalog")
def test_what_is_kept_is_what_is_measured_in_memory(catalog, monkeypatch):
    kept = [rows_of(catalog), rows_of(catalog)]
    monkeypatch.setattr(measures, "STORE_FROM_SAMPLES", 1000)
    assert kept == [rows_of(catalog)] * 2


def test_several_processes_measure_the_same(catalog, measured):
    by_two = rows_of(catalog, Work(processes=2))
    assert measured == []
    for file in (catalog.parents[1] / "cache").rglob("*.npy"):
        file.unlink()
    assert rows_of(catalog) == by_two


def test_every_sample_is_measured_once_and_one_that_cannot_be_read_is_tried_again(catalog, measured):
    rows_of(catalog)
    assert measured == [f"s{index}" for index in range(COUNT)]
    measured.clear()
    rows_of(catalog)
    assert measured == ["s3"]


def test_work_that_was_interrupted_goes_on(catalog, measured, monkeypatch):
    def interrupted(done: int, total: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows_of(catalog, Work(progress=interrupted))
    measured.clear()
    rows_of(catalog)
    assert measured == ["s3", *[f"s{index}" for index in range(5, COUNT)]]


def test_a_changed_picture_is_noticed_and_measured_again(catalog, measured, caplog):
    before = rows_of(catalog)
    Image.fromarray(noise(84, 56, 7)).save(catalog.parent / "6.png")
    touch_later(catalog.parent / "6.png")
    measured.clear()
    with caplog.at_level(logging.WARNING):
        after = rows_of(catalog)
    assert "pictures of 'boxes' changed" in caplog.text
    assert "s6" in measured
    assert [index for index in range(COUNT) if before[index] != after[index]] == [6]


def test_a_changed_archive_is_noticed_and_its_pictures_are_measured_again(catalog, measured, caplog):
    def pack() -> None:
        with zipfile.ZipFile(catalog.parent / "all.zip", "w") as archive:
            for file in sorted(catalog.parent.glob("*.png")):
                archive.write(file, file.name)

    pack()
    catalog.write_text(catalog.read_text().replace("boxes.json}", "boxes.json, images: all.zip}"))
    before = rows_of(catalog)
    assert before[0][0] > 0
    Image.fromarray(noise(84, 56, 7)).save(catalog.parent / "6.png")
    pack()
    touch_later(catalog.parent / "all.zip")
    measured.clear()
    with caplog.at_level(logging.WARNING):
        after = rows_of(catalog)
    assert "pictures of 'boxes' changed" in caplog.text
    assert set(measured) == {f"s{index}" for index in range(COUNT)}
    assert [index for index in range(COUNT) if before[index][:3] != after[index][:3]] == [6]


def test_a_full_check_measures_only_what_changed(catalog, measured):
    rows_of(catalog)
    touch_later(catalog.parent / "6.png")
    measured.clear()
    rows_of(catalog, Work(check=True))
    assert measured == ["s3", "s6"]


def test_another_record_file_has_other_measures(catalog, measured):
    rows_of(catalog)
    records = json.loads((catalog.parent / "boxes.json").read_text())
    (catalog.parent / "boxes.json").write_text(json.dumps(records[:5]))
    measured.clear()
    assert len(rows_of(catalog)) == 5
    assert measured == ["s0", "s1", "s2", "s3", "s4"]
    assert len(list((catalog.parents[1] / "cache").glob("measures/*.npy"))) == 1


def test_crops_have_measures_of_their_own(catalog):
    plain, cropped = rows_of(catalog), rows_of(catalog, crop_min=0.5)
    assert all(longest[0] >= row[0] for row, longest in zip(plain, cropped, strict=True))
    assert plain != cropped
    assert rows_of(catalog) == plain


def test_without_a_folder_to_write_samples_are_measured_all_the_same(catalog, tmp_path, monkeypatch, caplog):
    expected = rows_of(catalog)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBOINTER_CACHE", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        assert rows_of(catalog) == expected
    assert "kept in memory only" in caplog.text


def test_the_same_bytes_have_the_same_key_and_others_another(catalog):
    (catalog.parent / "5.png").write_bytes((catalog.parent / "4.png").read_bytes())
    keys = [row[2] for row in rows_of(catalog)]
    assert keys[4] == keys[5]
    assert len({keys[index] for index in (4, 6, 7, 8)}) == 4


def test_a_picture_that_changes_during_a_run_makes_its_sample_bad(catalog, tmp_path):
    recipe = train_recipe(Path("m"), catalog, tmp_path / "run", "batch.pack=shared")
    load, plan = packing(feed_of(catalog), recipe, 1)
    touch_later(catalog.parent / "6.png")
    bad = [each for row in plan.rows(0) for each in load(row).bad]
    assert sorted(each.id for each in bad) == ["s3", "s6"]
    assert "its pictures changed since they were measured" in next(each.reason for each in bad if each.id == "s6")


def test_the_first_sample_that_is_too_long_is_named(catalog, tmp_path):
    feed = feed_of(catalog)
    short = TrainingDataset(feed.mixture, feed.encoder, feed.augment, seed=0, max_tokens=rows_of(catalog)[2][0])
    recipe = train_recipe(Path("m"), catalog, tmp_path / "run", "batch.pack=shared")
    with pytest.raises(DataError, match=r"12 samples are longer than batch.max_tokens=\d+: s0 \("):
        packing(short, recipe, 1)


def test_samples_that_share_nothing_have_groups_of_their_own():
    shared = np.array([4, 0, 4, 0, 4])
    keys = np.array([[1, 2], [0, 0], [1, 2], [0, 0], [1, 3]], dtype=np.uint64)
    groups = measures._groups(shared, keys).tolist()
    assert groups[0] == groups[2]
    assert len(set(groups)) == 4
