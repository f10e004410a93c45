"""The evaluated-only families: each is told by its config.json and treated as every other."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import DataError, ModelError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models._shared.chat_model import ChatModel
from robointervlm.models.model import Model, families, load_model
from tiny_families import FAMILIES, make_checkpoint, section_of
from tiny_models import noise

CHAT_FAMILIES = [family for family in FAMILIES if family != "robobrain"]
PROMPTS = [
    Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56, 1),)),
    Prompt(
        (Message("user", "<image>a<image> What is new in the second one?"),), (noise(60, 120, 2), noise(333, 517, 3))
    ),
    Prompt((Message("user", "Is it open?"),)),
    Prompt((Message("user", "Look <image> well, then answer."),), (noise(640, 480, 4),)),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    # Names that say another family: the config alone decides.
    return {family: make_checkpoint(family, folder / f"moe-{family[::-1]}-qwen2.5-vl") for family in FAMILIES}


@pytest.fixture(scope="module")
def models(checkpoints) -> dict[str, Model]:
    return {family: load_model(section_of(family, folder)) for family, folder in checkpoints.items()}


def answers(model: Model, prompts, **decoding) -> list[Reply]:
    replies = model.answer(prompts, Decoding(**{"max_new_tokens": 12, **decoding}))
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return replies


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixed_batch_answers_as_each_prompt_alone(models, family):
    together = answers(models[family], PROMPTS)
    alone = [answers(models[family], [prompt])[0] for prompt in PROMPTS]
    assert [(r.text, r.output_tokens, r.input_tokens, r.finish_reason) for r in together] == [
        (r.text, r.output_tokens, r.input_tokens, r.finish_reason) for r in alone
    ]
    assert len({reply.text for reply in together}) > 1


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_mixed_batch_generates_the_tokens_of_each_prompt_alone(models, family):
    model = models[family]
    assert isinstance(model, ChatModel)
    questions = [model.question(prompt) for prompt in PROMPTS]
    decoding = Decoding(max_new_tokens=12)
    for row, question in zip(model.generated(questions, decoding), questions, strict=True):
        [alone] = model.generated([question], decoding)
        assert row[: len(alone)] == alone


@pytest.mark.parametrize(
    "family, coordinates",
    [
        ("qwen2_vl", CoordinateFormat.PER_MILLE),
        ("qwen3_vl", CoordinateFormat.PER_MILLE),
        ("internvl", CoordinateFormat.PER_MILLE),
        ("llava_onevision", CoordinateFormat.UNIT),
        ("llava_next", CoordinateFormat.UNIT),
        ("robobrain", CoordinateFormat.RESIZED),
    ],
)
def test_the_family_says_the_coordinates(models, family, coordinates):
    assert models[family].coordinates is coordinates


def test_no_prompts_have_no_answers(models):
    for model in models.values():
        assert model.answer([], Decoding()) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_one_wrong_prompt_does_not_cost_the_others_their_answers(models, family):
    wrong = Prompt((Message("user", "<image>\nWhere?"),))
    special = Prompt((Message("user", "Stop here <|im_end|> now"),))
    replies = models[family].answer([PROMPTS[0], wrong, special, PROMPTS[2]], Decoding(max_new_tokens=4))
    assert [type(reply) for reply in replies] == [Reply, DataError, DataError, Reply]


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_no_answer_holds_a_token_of_a_picture(checkpoints, family):
    model = load_model(section_of(family, checkpoints[family]))
    assert isinstance(model, ChatModel)
    wanted = model.chat.image_token_id
    head = torch.nn.Linear(model.network.lm_head.in_features, model.network.lm_head.out_features)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[wanted] = 10.0
    model.network.lm_head = head
    [row] = model.generated([model.question(PROMPTS[2])], Decoding(max_new_tokens=3))
    assert wanted not in row


@pytest.mark.parametrize("family", CHAT_FAMILIES)
def test_a_picture_stands_where_the_prompt_has_it(models, family):
    model = models[family]
    assert isinstance(model, ChatModel)
    question = model.question(PROMPTS[1])
    text = model.chat.tokenizer.decode(question.ids[question.ids != model.chat.image_token_id])
    images = [count.tokens for count in question.look.counts]
    assert (question.ids == model.chat.image_token_id).sum() == sum(images)
    # The text between the two pictures is there and nothing else, but for the marks around a picture.
    runs = np.flatnonzero(np.diff(np.concatenate([[0], question.ids == model.chat.image_token_id, [0]])))
    first, last = runs[:2], runs[2:]
    between = model.chat.tokenizer.decode(question.ids[first[1] : last[0]])
    for mark in ("<|vision_end|>", "<|vision_start|>", "</img>", "<img>"):
        between = between.replace(mark, "")
    assert between.strip("\n") == "a"
    assert [int(last[1] - last[0]), int(first[1] - first[0])] == images[::-1]
    assert "What is new in the second one?" in text


def test_a_checkpoint_that_would_sample_is_named_in_a_warning(checkpoints, tmp_path, caplog):
    folder = make_checkpoint("qwen2_vl", tmp_path / "sampling")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.7, "top_k": 1}))
    with caplog.at_level(logging.WARNING):
        model = load_model(section_of("qwen2_vl", folder))
    assert "sampling would draw its answers (temperature 0.7, top_k 1" in caplog.text
    greedy = load_model(section_of("qwen2_vl", checkpoints["qwen2_vl"]))
    assert [r.text for r in answers(model, PROMPTS)] == [r.text for r in answers(greedy, PROMPTS)]


def test_a_model_type_of_no_family_is_refused_with_the_families(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl_chat", "architectures": ["X"]}))
    with pytest.raises(ModelError, match="families: .*internvl, llava_onevision.*ends in -hf"):
        load_model({"path": str(tmp_path)})


def test_the_architecture_tells_where_the_model_type_does_not(checkpoints, tmp_path):
    folder = make_checkpoint("llava_next", tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llava"}))
    assert load_model(section_of("llava_next", folder)).coordinates is CoordinateFormat.UNIT


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_another_familys_checkpoint_is_refused_in_one_line(checkpoints, family):
    with pytest.raises(ModelError, match="this family is for") as error:
        load_model({"path": str(checkpoints["robobrain"]), "family": family})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["qwen2_vl", "internvl", "llava_onevision", "llava_next"])
def test_a_missing_weight_is_refused_by_name(tmp_path, family):
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - this test alone

    folder = make_checkpoint(family, tmp_path / "short")
    state = load_file(folder / "model.safetensors")
    gone = sorted(name for name in state if name.endswith("norm.weight"))[0]
    save_file({name: tensor for name, tensor in state.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="1 missing, such as .*norm.weight"):
        load_model(section_of(family, folder))


def test_the_fingerprint_follows_weights_limits_and_coordinates(checkpoints, models):
    folder = checkpoints["qwen2_vl"]
    known = models["qwen2_vl"].fingerprint
    assert load_model(section_of("qwen2_vl", folder)).fingerprint == known
    assert load_model({**section_of("qwen2_vl", folder), "max_pixels": 50176}).fingerprint != known
    assert load_model({**section_of("qwen2_vl", folder), "coordinates": "pixel"}).fingerprint != known
    assert load_model({**section_of("qwen2_vl", folder), "dtype": "bfloat16"}).fingerprint != known


def test_code_in_a_checkpoint_is_not_run_and_nobody_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    config = {"model_type": "internvl_chat", "auto_map": {"AutoConfig": "run_me.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "run_me.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ModelError, match="custom code"):
        load_model({"path": str(tmp_path), "family": "internvl"})


@pytest.mark.parametrize("family", FAMILIES)
def test_precision_and_attention_are_as_configured(checkpoints, family):
    section = {**section_of(family, checkpoints[family]), "dtype": "bfloat16", "attention": "eager", "name": "half"}
    model = load_model(section)
    assert (model.network.dtype, model.network.config._attn_implementation) == (torch.bfloat16, "eager")
    assert model.name == "half"
    assert all(reply.output_tokens >= 1 for reply in answers(model, PROMPTS[:2]))


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_the_processors_settings_may_stand_in_the_newer_file(models, tmp_path, family):
    folder = make_checkpoint(family, tmp_path / "newer")
    older = folder / "preprocessor_config.json"
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(older.read_text())}))
    older.unlink()
    assert load_model(section_of(family, folder)).fingerprint == models[family].fingerprint
    (folder / "processor_config.json").unlink()
    with pytest.raises(ModelError, match="neither preprocessor_config.json nor processor_config.json"):
        load_model(section_of(family, folder))


def test_helpers_are_no_families():
    assert {"qwen2_vl", "qwen3_vl", "internvl", "llava_onevision", "robobrain"} <= set(families())
    assert not {"model", "tiny"} & set(families())
    assert not [name for name in families() if name.startswith("_")]
