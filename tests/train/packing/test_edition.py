"""Kept token lengths belong to an edition of the code that made them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from documented_mixture import SIZE, documented_names, make_mixture
from robointervlm.core.coordinates import ImageSize
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models._shared.section import PixelSection
from robointervlm.models.qwen2_5_vl.encoder import read_encoder
from robointervlm.models.qwen2_5_vl.folder import read_config
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.packing import lengths
from robointervlm.train.packing.lengths import EDITION, Measurer
from robointervlm.train.recipe import AugmentSection
from scripted_benchmark import ROOT

MADE = {1: "62fb0653f0c14d260c9b56fbd5f73f16"}
BASE = ROOT / "src" / "robointervlm" / "assets" / "tiny-grounding"


def feed_of(mixture: Mixture, augment: AugmentSection) -> TrainingDataset:
    section = PixelSection(path=str(BASE))
    return TrainingDataset(mixture, read_encoder(section, read_config(section.path)), augment, seed=0, max_tokens=8192)


def test_what_is_made_of_a_record_changes_only_with_the_edition(tmp_path):
    """Where this fails, lengths that users have kept would be believed although they are wrong.

    Raise EDITION in train/packing/lengths.py, and add the digest that is found here under the new number.
    """
    names = [name for name, spec in Catalog().items() if spec.split == "train" and not name.startswith("sim_")]
    assert set(documented_names()) <= set(names)
    make_mixture(tmp_path, names, count=6)
    digest = hashlib.sha256()
    for crop in (1.0, 0.6):
        feed = feed_of(Mixture(names, root=tmp_path), AugmentSection(crop_min=crop))
        for dataset in feed.mixture.datasets:
            measurer = Measurer(feed, dataset)
            for sample in (dataset[index] for index in range(len(dataset))):
                tokens, shared, _ = measurer._measured(sample)
                assert 0 < shared < tokens
                grids = [feed.encoder.limits.grid(ImageSize(*SIZE)) for _ in sample.images]
                written = feed.encoder.chat.supervised(feed.messages(sample, sample.turns, ImageSize(*SIZE)), grids)
                digest.update(np.int64([tokens, shared]).tobytes())
                digest.update(written.ids.astype(np.int64).tobytes() + written.labels.astype(np.int64).tobytes())
    assert digest.hexdigest()[:32] == MADE[EDITION]


def test_a_task_of_a_plugin_is_known_by_the_source_of_the_plugin(tmp_path, monkeypatch):
    file = tmp_path / "deep_lab.py"
    file.write_text(
        "from robointervlm.tasks.numbers import number_task\n"
        "TASKS = (number_task('depth_of_deep_lab', unit='mm', penalty=9.0),)\n"
    )
    assert lengths._own_source("current_box") == ""
    monkeypatch.setenv("ROBOINTER_PLUGINS", str(file))
    assert lengths._own_source("current_box") == ""
    assert lengths._own_source("depth_of_deep_lab") == file.read_text()


@pytest.mark.parametrize("edition", [2, 3])
def test_another_edition_is_another_place(edition, tmp_path, monkeypatch):
    make_mixture(tmp_path, ["rh20t_vla_current_box_train"], count=2)
    mixture = Mixture(["rh20t_vla_current_box_train"], root=tmp_path)
    feed = feed_of(mixture, AugmentSection())
    before = lengths._key(feed, mixture.datasets[0])
    monkeypatch.setattr(lengths, "EDITION", edition)
    assert lengths._key(feed, mixture.datasets[0]) != before
