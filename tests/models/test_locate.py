"""The folder and the name of a model, from everything that a training writes and people give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.models.locate import hub_folder, is_hub_name, model_folder, model_name
from robointervlm.models.model import check_section, load_model


def make(folder: Path, *, answers: str = "yes") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "scripted", "constant": answers}))
    return folder


def make_adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.fixture
def run(tmp_path):
    """A finished training, as `sft.sh` leaves it."""
    run = tmp_path / "results" / "my_experiment"
    make(run / "model")
    make_adapter(run / "model" / "adapter")
    make(run / "checkpoints" / "step-00000040" / "model")
    return run


@pytest.mark.parametrize(
    "given, folder, name",
    [
        ("model", "model", "my_experiment"),
        ("", "model", "my_experiment"),
        ("model/", "model/", "my_experiment"),
        ("checkpoints/step-00000040", "checkpoints/step-00000040/model", "my_experiment-step-40"),
        ("checkpoints/step-00000040/model", "checkpoints/step-00000040/model", "my_experiment-step-40"),
    ],
)
def test_every_folder_of_a_training_is_found_and_named_by_the_run(run, given, folder, name):
    assert Path(model_folder(f"{run}/{given}")) == run / folder
    assert model_name(model_folder(f"{run}/{given}")) == name
    assert model_name(f"{run}/{given}") == name


def test_a_name_does_not_depend_on_where_one_stands(run, monkeypatch):
    monkeypatch.chdir(run / "model")
    assert model_name(".") == "my_experiment"
    monkeypatch.chdir(run)
    assert model_name("model") == "my_experiment"


def test_a_folder_that_no_training_wrote_has_its_own_name(tmp_path):
    assert model_name(str(make(tmp_path / "Qwen2.5-VL-3B-Instruct"))) == "Qwen2.5-VL-3B-Instruct"
    assert model_name("Qwen/Qwen2.5-VL-3B-Instruct") == "Qwen2.5-VL-3B-Instruct"
    assert model_name("gpt-4o-mini") == "gpt-4o-mini"


def test_an_adapter_names_the_model_it_is_merged_into(run):
    with pytest.raises(ModelError, match=f"with the adapter merged into it is {run}/model"):
        model_folder(f"{run}/model/adapter")


def test_an_adapter_from_elsewhere_names_the_command_that_merges_it(tmp_path):
    adapter = make_adapter(tmp_path / "peft")
    with pytest.raises(ModelError, match=f"robointer convert merge BASE {adapter} OUT"):
        model_folder(str(adapter))


@pytest.mark.parametrize("given", ["", "checkpoints"])
def test_an_unfinished_training_names_its_newest_checkpoint(tmp_path, given):
    for step in (40, 80):
        make(tmp_path / "run" / "checkpoints" / f"step-{step:08d}" / "model")
    with pytest.raises(ModelError, match=r"2 checkpoint\(s\).*newest is .*step-00000080"):
        model_folder(f"{tmp_path}/run/{given}")


def test_the_checkpoints_of_transformers_trainer_are_named_too(tmp_path):
    for step in (500, 1000):
        make(tmp_path / "out" / f"checkpoint-{step}")
    with pytest.raises(ModelError, match=r"2 checkpoint\(s\).*newest is .*checkpoint-1000"):
        model_folder(f"{tmp_path}/out")


def test_a_training_that_has_saved_nothing_says_so(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: {}")
    with pytest.raises(ModelError, match="has saved no model yet"):
        model_folder(str(tmp_path))


def test_the_config_of_a_model_means_its_folder(run):
    assert Path(model_folder(f"{run}/model/config.json")) == run / "model"


def test_a_model_is_asked_by_the_folder_of_its_run(run):
    assert load_model({"path": str(run)}).name == "scripted"
    with pytest.raises(ModelError, match="adapter"):
        check_section({"path": f"{run}/model/adapter"})


@pytest.mark.parametrize(
    "name, expected", [("a/b", True), ("b", True), ("./b", False), ("/b", False), ("a/b/c", False)]
)
def test_what_has_the_form_of_a_hub_name(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) is expected


def test_a_folder_is_never_taken_for_a_hub_name(tmp_path, monkeypatch):
    make(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    assert not is_hub_name("a/b")


def test_a_path_that_leads_nowhere_says_so(tmp_path):
    with pytest.raises(RecipeError, match="does not exist"):
        check_section({"path": str(tmp_path / "none")})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub with one model, acme/tiny."""
    import huggingface_hub.constants  # noqa: PLC0415
    import transformers.utils.hub  # noqa: PLC0415

    folder = tmp_path / "hub" / "models--acme--tiny"
    make(folder / "snapshots" / "abc", answers="from the hub")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(transformers.utils.hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder / "snapshots" / "abc"


def test_the_family_of_a_hub_name_is_told_by_its_config(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_section({"path": "acme/tiny"})  # scripted, with no family given
    assert Path(hub_folder("acme/tiny")) == hub


def test_a_hub_name_that_is_not_in_the_cache_says_that_only_that_was_looked_at(hub):
    for look in (lambda: check_section({"path": "acme/other"}), lambda: hub_folder("acme/other")):
        with pytest.raises(ModelError, match=r"neither a folder here nor a model .*HF_HUB_OFFLINE is set"):
            look()
