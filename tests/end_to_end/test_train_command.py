"""`robointer train` as a user types it: what is said and answered when something is wrong, and when nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robointervlm.cli.main import run
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.chat import IGNORED
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.train.data.dataset import TrainingDataset
from robointervlm.train.recipe import AugmentSection
from tiny_models import box_dataset, losses, shared_data, shared_model, train_arguments


@pytest.fixture
def said(capsys):
    """The exit code of a command line and what it said on standard error, one line if it failed."""

    def answered(*arguments: str) -> tuple[int, str]:
        code = run(["train", *arguments])
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("error")]
        assert "Traceback" not in error
        return code, "\n".join(lines) if code else error

    return answered


@pytest.fixture
def arguments(tiny_folder, catalog, tmp_path):
    def made(*more: str) -> list[str]:
        return train_arguments(tiny_folder, catalog, tmp_path / "run", *more)

    return made


def test_a_mistyped_key_names_the_nearest(said, arguments):
    code, error = said(*arguments("optim.languge_lr=1e-3"))
    assert code == 2
    assert "'optim.languge_lr' is not known; nearest: language_lr" in error
    assert error.count("\n") == 0


def test_a_key_of_another_section_is_pointed_to(said, arguments):
    code, error = said(*arguments("run.per_device=3"))
    assert code == 2
    assert "batch.per_device" in error


def test_an_unset_data_root_says_what_to_set(said, arguments, monkeypatch, tmp_path):
    monkeypatch.delenv("ROBOINTER_DATA", raising=False)
    code, error = said(*arguments("mixture=[rh20t_vla_current_box_train]"))
    assert code == 2
    assert "ROBOINTER_DATA" in error
    assert error.count("\n") == 0


def test_an_unknown_dataset_names_the_nearest(said, arguments):
    code, error = said(*arguments("mixture=[boxs]"))
    assert code == 2
    assert "'boxs' is not in the catalog; nearest: boxes" in error


def test_a_part_that_does_not_exist_is_refused(said, arguments):
    code, error = said(*arguments("model.tune=[head]"))
    assert code == 2
    assert "model.tune" in error


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./none here"])
def test_a_missing_checkpoint_is_one_line(said, arguments, name):
    code, error = said(*arguments(f"model.path={name}"))
    assert code == 3
    assert f"'{name}'" in error
    assert error.count("\n") == 0


def test_a_hub_name_without_a_network_is_one_line(said, arguments, monkeypatch):
    # As with HF_HUB_OFFLINE=1, which is read at import; without it the library tries for half a minute first.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, error = said(*arguments("model.path=Qwen/Qwen2.5-VL-3B-Instruct"))
    assert code == 3
    assert "'Qwen/Qwen2.5-VL-3B-Instruct' is not a model folder, nor a hub name that can be reached" in error
    assert error.count("\n") == 0


def test_a_run_folder_that_cannot_be_written_is_one_line(said, arguments, tmp_path):
    (tmp_path / "file").write_text("")
    code, error = said(*arguments(f"run.dir={tmp_path / 'file' / 'run'}"))
    assert code == 2
    assert "cannot write" in error


def test_a_missing_recipe_is_one_line(said):
    code, error = said("no/such/recipe.yaml")
    assert code == 2
    assert "no/such/recipe.yaml does not exist" in error


def test_a_checkpoint_of_others_that_is_half_there_is_one_line(said, arguments, tiny_folder, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_bytes((tiny_folder / "config.json").read_bytes())
    code, error = said(*arguments(f"model.path={tmp_path / 'half'}"))
    assert code == 3
    assert error.count("\n") == 0


def test_a_recipe_file_and_overrides_after_it_train(said, arguments, tmp_path):
    code, _ = said(*arguments("run.max_steps=1"))
    assert code == 0
    recipe = tmp_path / "run" / "recipe.yaml"
    code, _ = said(str(recipe), f"run.dir={tmp_path / 'again'}", "--gpus", "0")
    assert code == 0
    assert losses(tmp_path / "again") == losses(tmp_path / "run")


def test_the_exported_model_is_what_infer_and_predict_load(said, arguments, tmp_path, capsys):
    assert said(*arguments("run.max_steps=1"))[0] == 0
    picture = tmp_path / "data" / "0.png"
    model = tmp_path / "run" / "model"
    assert run(["infer", "--model", str(model), "--prompt", "Where is the cup?", "--images", str(picture)]) == 0


# How the demo sets of other projects are named in a catalog, and what has to be learned from them.
DEMO_SETS = {
    "qwen": "{task: chat, annotations: qwen_finetune_demo/single_images.json, images: qwen_finetune_demo, "
    "strip_prefix: demo/images/}",
    "llamafactory": "{task: chat, annotations: llamafactory_demo/mllm_demo.json, images: llamafactory_demo, "
    "strip_prefix: mllm_demo_data/}",
    "sharerobot": "{task: chat, annotations: sharerobot.json, images: robobrain_demo}",
}
ANSWERS = {
    "qwen": ["Yes", "6", "2014"],
    "llamafactory": ["They're Kane and Gretzka from Bayern Munich.", "They are celebrating on the soccer field."],
}


@pytest.fixture
def demo_catalog(tmp_path) -> Path:
    """The demo sets where they lie; the third is made of the published conversations, with a picture of that set."""
    shared = shared_data()
    if not shared.is_dir():
        pytest.skip(f"{shared} is not there; it holds public data that is no part of the project")
    root = tmp_path / "demo"
    root.mkdir()
    for name in ("qwen_finetune_demo", "llamafactory_demo", "robobrain_demo"):
        (root / name).symlink_to(shared / name)
    published = json.loads((shared / "robobrain_demo" / "published_text_samples.json").read_text())
    (root / "sharerobot.json").write_text(json.dumps(sharerobot(published)))
    lines = "".join(f"{name}: {entry}\n" for name, entry in DEMO_SETS.items())
    (root / "catalog.yaml").write_text("root: .\n" + lines)
    return root / "catalog.yaml"


def sharerobot(published: dict) -> list[dict]:
    """The published conversations; their frames are not published, one picture of the demo stands for each."""
    items = [item for item in published["sharerobot"]["items"] if isinstance(item, dict)]
    conversations = [item["conversations"] for item in items if "conversations" in item]
    return [
        {"id": str(number), "conversations": turns, "images": ["navigation.jpg"] * turns[0]["value"].count("<image>")}
        for number, turns in enumerate(conversations)
        if len(turns) == 2
    ]


@pytest.mark.parametrize("name", DEMO_SETS)
def test_the_demo_sets_train_and_their_answers_are_what_is_learned(said, tiny_folder, demo_catalog, tmp_path, name):
    more = [
        f"mixture=[{name}]",
        "run.max_steps=2",
        "batch.per_device=2",
        "batch.accumulate=1",
        "model.max_pixels=50176",
    ]
    code, _ = said(*train_arguments(tiny_folder, demo_catalog, tmp_path / "run", *more))
    assert code == 0
    assert sorted(losses(tmp_path / "run")) == [1, 2]


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_learned_of_the_demo_sets_are_their_answers(demo_catalog, name):
    encoder = shared_model().encoder
    mixture = Mixture([name], catalog=Catalog(demo_catalog))
    feed = TrainingDataset(mixture, encoder, AugmentSection(), 0, 100_000)
    learned = []
    for index in range(3 if name == "qwen" else 1):
        encoded = feed.example(index)[2]
        kept = encoded.ids[encoded.labels != IGNORED]
        learned += encoder.chat.tokenizer.decode(kept).split("<|im_end|>")[:-1]
    assert learned == ANSWERS[name]


def test_a_special_token_in_a_question_is_a_bad_sample(said, arguments, catalog, tmp_path):
    file = tmp_path / "data" / "boxes.json"
    file.write_text(file.read_text().replace("Where is the cup?", "Where <|im_end|> is the cup?", 1))
    code, error = said(*arguments())
    assert code == 3
    assert "the special token <|im_end|>" in error
    assert "s0" in error


def test_a_truncated_picture_is_named(said, arguments, catalog, tmp_path):
    picture = tmp_path / "data" / "4.png"
    picture.write_bytes(picture.read_bytes()[:60])
    code, error = said(*arguments())
    assert code == 3
    assert "4.png" in error
    assert "data.max_bad_rate" in error


def test_a_trained_checkpoint_can_be_trained_on(said, arguments, tmp_path):
    assert said(*arguments("run.max_steps=1"))[0] == 0
    model = tmp_path / "run" / "model"
    catalog = box_dataset(tmp_path / "more")
    assert said(*train_arguments(model, catalog, tmp_path / "second", "run.max_steps=1"))[0] == 0
    assert Qwen25VL.load(Section(path=str(tmp_path / "second" / "model"), device="cpu")).name == "second"
