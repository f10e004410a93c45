"""Kept pixels are those that would be made; whatever happens to them costs time and nothing else."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.sample import ImageRef
from robointervlm.data import images
from robointervlm.data.episode_frames import EpisodeFrame
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl.images import PixelLimits, patches
from robointervlm.train.data import image_cache as pixel_cache
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.data.image_cache import PixelCache, PixelCounts
from robointervlm.train.dry_run.plan import forecast
from robointervlm.train.packing.plan import Group
from robointervlm.train.packing.sequences import packing
from robointervlm.train.run import train
from tiny_models import losses, noise, shared_model, train_recipe

LIMITS = PixelLimits(3136, 100_000)
# A picture of 84x56 is cut into 24 patches of 588 bytes, behind a header of 28.
ENTRY = 24 * 588 + 28


@pytest.fixture(autouse=True)
def _room_on_the_disk(monkeypatch):
    monkeypatch.setattr(pixel_cache, "RESERVE_BYTES", 0)


def save(folder: Path, name: str, width: int = 84, height: int = 56, seed: int = 0) -> ImageRef:
    folder.mkdir(exist_ok=True)
    Image.fromarray(noise(width, height, seed)).save(folder / name)
    return ImageRef(folder, name)


def cache_in(tmp_path: Path, limit_gb: float = 1.0) -> PixelCache:
    return PixelCache.opened(tmp_path / "kept", limit_gb)


def entries(cache: PixelCache) -> list[Path]:
    return sorted(cache.folder.rglob("*.pixels"))


@pytest.mark.parametrize("width, height, suffix", [(84, 56, "png"), (101, 67, "jpg"), (640, 480, "webp")])
def test_kept_patches_are_those_that_would_be_made(tmp_path, width, height, suffix):
    ref = save(tmp_path / "pictures", f"a.{suffix}", width, height)
    made, grid = patches(images.load(ref), LIMITS)
    for cache in (cache_in(tmp_path), cache_in(tmp_path)):
        found = cache.cut(ref, LIMITS)
        assert np.array_equal(found.patches, made)
        assert (found.grid, found.size) == (grid, (width, height))
    assert cache.counts() == PixelCounts(found=1)
    assert cache.counts() == PixelCounts()


def test_the_same_picture_in_another_place_or_in_an_archive_is_kept_once(tmp_path):
    ref = save(tmp_path / "pictures", "a.png")
    content = (tmp_path / "pictures" / "a.png").read_bytes()
    (tmp_path / "pictures" / "b.png").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "pictures" / "all.zip", "w") as archive:
        archive.writestr("deep/c.png", content)
    cache = cache_in(tmp_path)
    for path in ("a.png", "b.png", "all.zip/deep/c.png"):
        cache.cut(ImageRef(ref.root, path), LIMITS)
    assert cache.counts() == PixelCounts(found=2, kept=1)


def test_a_frame_of_an_episode_is_kept_and_one_with_exchanged_colours_beside_it(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    save(tmp_path / "pictures", "a.png")
    folder = tmp_path / "pictures" / "e"
    folder.mkdir()
    with lmdb.open(str(folder / "lmdb"), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"0", pickle.dumps((tmp_path / "pictures" / "a.png").read_bytes()))
    (folder / "meta_info.pkl").write_bytes(pickle.dumps({"keys": {"primary": ["0"]}}))
    cache, frame = cache_in(tmp_path), EpisodeFrame("e", "primary", 0)
    for each in (frame, frame._replace(swapped=True)):
        ref = ImageRef(tmp_path / "pictures", str(each))
        made = patches(images.load(ref), LIMITS)[0]
        assert np.array_equal(cache.cut(ref, LIMITS).patches, made)
        assert np.array_equal(cache.cut(ref, LIMITS).patches, made)
    assert cache.counts() == PixelCounts(found=2, kept=2)


def test_a_changed_picture_and_other_limits_are_kept_beside_the_first(tmp_path):
    ref, cache = save(tmp_path / "pictures", "a.png"), cache_in(tmp_path)
    first = cache.cut(ref, LIMITS)
    status = (tmp_path / "pictures" / "a.png").stat()
    save(tmp_path / "pictures", "a.png", seed=1)
    os.utime(tmp_path / "pictures" / "a.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not np.array_equal(cache.cut(ref, LIMITS).patches, first.patches)
    assert cache.cut(ref, PixelLimits(3136, 4000)).patches.shape == (8, 588)  # 56x28
    assert cache.counts() == PixelCounts(kept=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, ENTRY - 1), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_noticed_and_made_again(tmp_path, place, bit, cut):
    ref, cache = save(tmp_path / "pictures", "a.png"), cache_in(tmp_path)
    whole = cache.cut(ref, LIMITS).patches
    cache.counts()
    [entry] = entries(cache)
    content = bytearray(entry.read_bytes())
    content[place] ^= 1 << bit
    entry.write_bytes(content[:place] if cut else content)
    assert np.array_equal(cache.cut(ref, LIMITS).patches, whole)
    assert np.array_equal(cache.cut(ref, LIMITS).patches, whole)
    assert cache.counts() == PixelCounts(found=1, kept=1, damaged=1)


def test_the_file_of_another_picture_is_not_taken(tmp_path):
    cache = cache_in(tmp_path)
    refs = [save(tmp_path / "pictures", f"{seed}.png", seed=seed) for seed in range(2)]
    whole = [cache.cut(ref, LIMITS).patches for ref in refs]
    first, second = entries(cache)
    first.write_bytes(second.read_bytes())
    assert all(np.array_equal(cache.cut(ref, LIMITS).patches, each) for ref, each in zip(refs, whole, strict=True))
    assert cache.counts() == PixelCounts(found=1, kept=3, damaged=1)


def test_a_missing_picture_is_an_error_though_its_pixels_are_kept(tmp_path):
    ref, cache = save(tmp_path / "pictures", "a.png"), cache_in(tmp_path)
    cache.cut(ref, LIMITS)
    (tmp_path / "pictures" / "a.png").unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        cache.cut(ref, LIMITS)


def test_a_full_cache_keeps_what_it_has_and_says_so_once(tmp_path, caplog):
    cache = cache_in(tmp_path, limit_gb=(3 * ENTRY + 1) / 1e9)
    refs = [save(tmp_path / "pictures", f"{seed}.png", seed=seed) for seed in range(6)]
    for _ in range(2):
        for ref in refs:
            cache.cut(ref, LIMITS)
    assert cache.counts() == PixelCounts(found=3, kept=3, left_out=6)
    assert len(entries(cache)) == 3
    assert [record.message for record in caplog.records if "no more pixels" in record.message] == [
        f"no more pixels are kept in {cache.folder}: it holds data.pixel_cache_gb={cache.limit_bytes / 1e9:g}; "
        "this process makes the others each time it needs them"
    ]


def test_the_last_gigabytes_of_a_disk_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_cache, "RESERVE_BYTES", 1 << 62)
    ref, cache = save(tmp_path / "pictures", "a.png"), cache_in(tmp_path)
    cache.cut(ref, LIMITS)
    assert (cache.counts(), entries(cache)) == (PixelCounts(left_out=1), [])


def test_a_folder_that_cannot_be_written_to_any_more_stops_nothing(tmp_path, caplog):
    ref, cache = save(tmp_path / "pictures", "a.png"), cache_in(tmp_path)
    (cache.folder / f"{pixel_cache.version()}-3136-100000").touch()
    assert cache.cut(ref, LIMITS).patches.shape[1] == 588
    assert cache.counts().left_out == 1
    assert "Not a directory" in caplog.text


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_is_done(tmp_path):
    (tmp_path / "kept").touch()
    with pytest.raises(RecipeError, match=r"data\.pixel_cache=.*kept"):
        cache_in(tmp_path)


def _fill(cache: PixelCache, root: Path, seeds: range) -> None:
    for seed in seeds:
        cache.cut(ImageRef(root, f"{seed}.png"), LIMITS)


def test_several_processes_together_keep_within_the_limit(tmp_path):
    refs = [save(tmp_path / "pictures", f"{seed}.png", seed=seed) for seed in range(24)]
    cache = cache_in(tmp_path, limit_gb=10 * ENTRY / 1e9)
    processes = [
        multiprocessing.get_context("fork").Process(
            target=_fill, args=(cache, refs[0].root, range(8 * part, 8 * part + 8))
        )
        for part in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(entries(cache)) == 10


def _killed_before_the_rename(cache: PixelCache, ref: ImageRef) -> None:
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, return-value]
    cache.cut(ref, LIMITS)


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_used_and_no_room_taken(tmp_path):
    ref = save(tmp_path / "pictures", "a.png")
    cache = cache_in(tmp_path, limit_gb=ENTRY / 1e9)
    process = multiprocessing.get_context("fork").Process(target=_killed_before_the_rename, args=(cache, ref))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [left] = cache.folder.rglob("*.tmp")
    hours_ago = time.time() - 7200
    os.utime(left, (hours_ago, hours_ago))
    (cache.folder / "size").write_text(f"{ENTRY:24d} {int(hours_ago):24d}\n")  # as if it had been that long ago
    assert np.array_equal(cache.cut(ref, LIMITS).patches, patches(images.load(ref), LIMITS)[0])
    assert (cache.counts(), len(entries(cache)), left.exists()) == (PixelCounts(kept=1), 1, False)


def run(tiny_folder, catalog, folder: Path, *more: str) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """The losses of a run of three steps, and what it learned."""
    train(train_recipe(tiny_folder, catalog, folder, *more))
    return losses(folder), load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("pack", ["none", "shared"])
def test_training_from_kept_pixels_is_the_same_to_the_last_bit(tiny_folder, catalog, tmp_path, pack, caplog):
    caplog.set_level(logging.INFO)
    how = (f"batch.pack={pack}", "data.workers=2")
    plain, weights = run(tiny_folder, catalog, tmp_path / "plain", *how)
    for name in ("cold", "warm"):
        kept = f"data.pixel_cache={json.dumps(str(tmp_path / 'kept'))}"
        found, learned = run(tiny_folder, catalog, tmp_path / name, *how, kept)
        assert max(abs(found[step] - plain[step]) for step in plain) == 0.0
        assert all(torch.equal(learned[key], weights[key]) for key in weights)
    told = [
        record.message.split(": ", 1)[1] for record in caplog.records if record.message.startswith("kept pixels in")
    ]
    assert len(list((tmp_path / "kept").rglob("*.pixels"))) == 12 if pack == "none" else 4
    assert told[-1].endswith(" pictures found, 0 made and kept, 0 made and not kept; 0 found were damaged")


def test_questions_on_one_picture_take_it_once(tmp_path):
    save(tmp_path / "data", "a.png")
    turns = [{"from": "human", "value": "<image>\nOpen?"}, {"from": "gpt", "value": "Yes"}]
    records = [{"id": f"q{index}", "conversations": turns, "images": "a.png"} for index in range(6)]
    (tmp_path / "data" / "a.json").write_text(json.dumps(records))
    (tmp_path / "data" / "catalog.yaml").write_text("root: .\nboxes: {task: chat, annotations: a.json}\n")
    recipe = train_recipe(tmp_path, tmp_path / "data" / "catalog.yaml", tmp_path / "run", "batch.pack=shared")
    mixture = Mixture(recipe.mixture, catalog=Catalog(*recipe.data.catalog))
    feed = TrainingDataset(mixture, shared_model().encoder, recipe.augment, 0, 8192, cache_in(tmp_path))
    micro = packing(feed, recipe, 1)[0]((Group(0, (0, 1, 2, 3, 4, 5)),))
    assert (len(micro.ids), micro.pixels) == (6, PixelCounts(kept=1))


def test_pictures_that_vary_are_not_kept(catalog, tmp_path):
    recipe = train_recipe(tmp_path, catalog, tmp_path / "run", "augment.brightness=0.2")
    mixture = Mixture(recipe.mixture, catalog=Catalog(catalog))
    feed = TrainingDataset(mixture, shared_model().encoder, recipe.augment, 0, 8192, cache_in(tmp_path))
    assert feed([(0, 0)]).pixels == PixelCounts()
    assert feed.same_in_each_epoch() == set()


def test_a_plan_says_how_large_the_cache_would_become_and_does_not_make_it(tiny_folder, catalog, tmp_path):
    kept = tmp_path / "kept"
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", f"data.pixel_cache={json.dumps(str(kept))}")
    record = forecast(recipe, processes=1, tflops=None, measure=False)
    assert record["pixel_cache"] == {"pictures": 12, "bytes": 12 * ENTRY, "limit": 100_000_000_000}
    assert not kept.exists()
