from __future__ import annotations

import numpy as np
import pytest

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models.model import Model, device_of, load_model
from robointervlm.models.scripted import ScriptedModel, Section, key_of, load


def prompt(text: str, shade: int | None = None) -> Prompt:
    pictures = () if shade is None else (np.full((4, 6, 3), shade, np.uint8),)
    return Prompt((Message("user", text),), pictures)


def test_answers_are_found_by_question_and_by_picture():
    dark, light = prompt("<image>\nWhere?", 10), prompt("<image>\nWhere?", 200)
    model = ScriptedModel(Section(), {"Where?": "somewhere", key_of(light): "here"})
    assert isinstance(model, Model)
    replies = model.answer([dark, light], Decoding())
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == ["somewhere", "here"]


def test_what_the_script_does_not_know_is_that_prompts_error():
    found, missing = ScriptedModel(Section(), {"a": "1"}).answer([prompt("a"), prompt("b")], Decoding())
    assert isinstance(found, Reply)
    assert isinstance(missing, ModelError)


def test_a_long_answer_is_cut_as_a_model_would():
    [reply] = ScriptedModel(Section(), {"a": "one two three"}).answer([prompt("a")], Decoding(max_new_tokens=2))
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason) == ("one two", "length")


def test_another_script_is_another_fingerprint():
    assert load(Section(constant="a")).fingerprint != load(Section(constant="b")).fingerprint


def test_a_resized_format_reports_the_size_it_was_resized_to():
    model = load(Section(constant="", coordinates=CoordinateFormat.RESIZED))
    assert model.processed_size(ImageSize(320, 180)) == (308, 168)


def test_a_folder_with_a_script_is_a_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "scripted", "coordinates": "unit", "constant": "x"}')
    model = load_model({"path": str(tmp_path)})
    assert model.coordinates is CoordinateFormat.UNIT


@pytest.mark.parametrize(
    "section, device",
    [
        ({"family": "qwen2_5_vl", "path": "x"}, "auto"),
        ({"family": "internvl", "path": "x", "device": "cpu"}, "cpu"),
        ({"family": "openai_api", "base_url": "http://127.0.0.1:1/v1"}, None),
        ({"family": "scripted", "constant": "x"}, None),
    ],
)
def test_only_a_checkpoint_of_this_machine_has_a_device(section, device):
    assert device_of(section) == device


@pytest.mark.parametrize(
    "section, said",
    [
        ({"family": "scriptd"}, "nearest: scripted"),
        ({"family": "scripted", "anwers": "a"}, "key 'anwers' is not known; nearest: answers"),
        ({"family": "scripted"}, "model.answers"),
        ({}, "neither a family nor a path"),
        ({"path": "/nowhere/qwen-moe-llava"}, "does not exist"),
    ],
)
def test_a_wrong_section_is_one_clear_line(section, said):
    with pytest.raises(RecipeError) as caught:
        load_model(section)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_family_comes_from_the_config_and_never_from_the_path(tmp_path):
    folder = tmp_path / "qwen2_5_vl-moe-llava"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "scripted", "constant": "x", "name": "s"}')
    assert load_model({"path": str(folder)}).name == "s"
    (folder / "config.json").write_text('{"model_type": "mystery"}')
    with pytest.raises(ModelError, match="mystery"):
        load_model({"path": str(folder)})
