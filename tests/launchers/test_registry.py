"""The registry in the form of Qwen's fine-tuning code and of the release: dicts, percentages, `all`."""

from __future__ import annotations

import importlib.util

import pytest

from robointervlm.core.errors import RecipeError
from scripted_benchmark import ROOT

CURRENT_BOX = "Generation/meta/train/rh20t/origin_format/full_single_multi_contact_obj_current_box_qa.json"


@pytest.fixture
def registry(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBOINTER_DATA", str(tmp_path))
    path = ROOT / "qwen-vl-finetune/qwenvl/data/__init__.py"
    spec = importlib.util.spec_from_file_location("qwenvl_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_documented_name_with_a_percentage_is_paths_and_a_rate(registry, tmp_path):
    [dataset] = registry.data_list(["rh20t_vla_current_box_train%65"])
    assert sorted(dataset) == ["annotation_path", "data_path", "sampling_rate"]
    assert dataset["annotation_path"] == str(tmp_path / CURRENT_BOX)
    assert dataset["data_path"].startswith(str(tmp_path))
    assert dataset["sampling_rate"] == 0.65


def test_a_name_without_a_percentage_is_all_of_it_and_the_order_is_kept(registry):
    found = registry.data_list(["manipvqa_train", "droid_vla_final_box_train%20"])
    assert [each["sampling_rate"] for each in found] == [1.0, 0.2]
    assert "manipvqa" in found[0]["annotation_path"]
    assert "droid" in found[1]["annotation_path"]


def test_all_is_every_training_dataset_of_the_catalog(registry):
    found = registry.data_list(["all"])
    assert len(found) >= 29  # the names of the release
    assert not [each for each in found if "/val/" in each["annotation_path"]]
    assert {each["sampling_rate"] for each in registry.data_list(["all%10"])} == {0.1}


def test_datasets_of_ones_own_are_found_and_files_that_exist_come_first(registry, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine: {task: current_box, annotations: [a.json, second.json], images: i}\n")
    (tmp_path / "second.json").write_text("[]")
    assert registry.data_list(["mine%250"], tmp_path / "mine.yaml") == [
        {
            "annotation_path": str(tmp_path / "second.json"),
            "data_path": str(tmp_path / "i"),
            "sampling_rate": 2.5,
        }
    ]


def test_an_unknown_name_is_an_error(registry):
    with pytest.raises(RecipeError, match="nearest"):
        registry.data_list(["rh20t_vla_current_bx_train"])
