"""A dense checkpoint whose config.json has fields of experts, as the official ones have; and experts without fields."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models.model import load_model
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, skeleton
from robointervlm.models.qwen2_5_vl_moe.experts import RoboInterQwen25VLMoe
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from robointervlm.train.run import train
from tiny_models import box_dataset, fresh_model, noise, shared_model, train_recipe

# As they stand in the config.json of a published checkpoint.
LEFT_OVER: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "adaptive_gate": True,
    "moe_intermediate_size": 256,
    "norm_topk_prob": 0.01,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
}
PROMPT = Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56),))


def flat(config: dict[str, Any], fields: dict[str, Any]) -> None:
    config.update(fields)


def nested(config: dict[str, Any], fields: dict[str, Any]) -> None:
    config["text_config"].update(fields)


def twice(config: dict[str, Any], fields: dict[str, Any]) -> None:
    flat(config, fields)
    nested(config, fields)


PLACES = [flat, nested, twice]


def said(folder: Path, place: Callable[..., None], fields: dict[str, Any]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    place(config, fields)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def sharded(folder: Path) -> Path:
    """The same model in several files with an index."""
    model = fresh_model()
    model.network.save_pretrained(folder, max_shard_size="100KB", save_original_format=True)
    (folder / "model.safetensors").unlink()
    assert (folder / "model.safetensors.index.json").exists()
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    fresh_model().save(tmp_path / "official")
    return tmp_path / "official"


@pytest.fixture
def with_experts(tmp_path) -> Path:
    """A model with experts that calls itself dense, as the published code writes it."""
    shape = Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
    upcycled(shared_model(), shape, seed=0).save(tmp_path / "experts")
    config = json.loads((tmp_path / "experts" / "config.json").read_text())
    config["model_type"], config["text_config"]["model_type"] = "qwen2_5_vl", "qwen2_5_vl_text"
    (tmp_path / "experts" / "config.json").write_text(json.dumps(config))
    return tmp_path / "experts"


def load(folder: Path | str) -> Qwen25VL:
    model = load_model({"path": str(folder), "device": "cpu"})
    assert isinstance(model, Qwen25VL)
    return model


def no_experts(folder: Path) -> bool:
    """Whether an exported folder says nothing of experts, in any of its settings."""
    return not any(key in (folder / "config.json").read_text() for key in [*LEFT_OVER, "expert", "moe", "router"])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("files", [lambda folder: folder, sharded])
def test_a_checkpoint_without_expert_tensors_is_dense_whatever_its_config_says(folder, caplog, place, files):
    said(files(folder), place, LEFT_OVER)
    with caplog.at_level(logging.WARNING):
        model = load(folder)
    assert type(model.network) is Qwen2_5_VLForConditionalGeneration
    assert model.fingerprint == shared_model().fingerprint
    warnings = [record.message for record in caplog.records if "fields of experts" in record.message]
    assert len(warnings) == 1
    assert "num_experts" in warnings[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"num_experts": 0, "router_aux_loss_coef": 0.001, "output_router_logits": False},
        {"norm_topk_prob": 0.01},
        {"num_experts": 128, "num_experts_per_tok": 999, "moe_intermediate_size": -1},
        {"num_experts": "many", "mlp_only_layers": None, "shared_expert_intermediate_size": 8},
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_left_over_fields_may_be_anything(folder, place, fields):
    model = load(said(folder, place, fields))
    assert type(model.network) is Qwen2_5_VLForConditionalGeneration


@pytest.mark.parametrize("place", PLACES)
def test_the_fields_are_not_carried_into_an_export(folder, tmp_path, place):
    said(folder, place, {**LEFT_OVER, "router_aux_loss_coef": 0.001, "output_router_logits": False})
    load(folder).save(tmp_path / "saved")
    Qwen25VL.stored(str(folder)).save(tmp_path / "stored")
    assert no_experts(tmp_path / "saved")
    assert no_experts(tmp_path / "stored")


def test_the_warning_is_said_once_however_often_the_settings_are_read(folder, caplog):
    said(folder, flat, LEFT_OVER)
    with caplog.at_level(logging.WARNING):
        skeleton(Section(path=str(folder)))
        Qwen25VL.stored(str(folder))
    assert caplog.text.count("fields of experts") == 1


def test_a_training_of_it_exports_a_dense_model(folder, tmp_path):
    said(folder, twice, LEFT_OVER)
    run = tmp_path / "run"
    train(train_recipe(folder, box_dataset(tmp_path / "data"), run, "run.max_steps=1", "run.save_every=1"))
    exported = sorted(path.parent for path in run.rglob("config.json"))
    assert run / "model" in exported
    assert all(no_experts(each) for each in exported)
    assert type(load(run / "model").network) is Qwen2_5_VLForConditionalGeneration


def test_a_plan_of_it_is_the_plan_of_a_dense_model(folder):
    said(folder, nested, LEFT_OVER)
    planned = skeleton(Section(path=str(folder))).network
    shapes = {name: parameter.shape for name, parameter in planned.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in shared_model().network.named_parameters()}


def test_experts_can_be_put_into_it_and_are_those_asked_for(folder, tmp_path):
    said(folder, twice, {**LEFT_OVER, "output_router_logits": False})
    shape = Shape(num_experts=3, num_experts_per_tok=1, moe_intermediate_size=8, mlp_only_layers=(0,))
    upcycled(Qwen25VL.stored(str(folder)), shape, seed=0).save(tmp_path / "moe")
    config = json.loads((tmp_path / "moe" / "config.json").read_text())
    assert not set(config) & {*LEFT_OVER, "output_router_logits"}
    text = config["text_config"]
    assert (text["num_experts"], text["num_experts_per_tok"], text["moe_intermediate_size"]) == (3, 1, 8)
    assert text["mlp_only_layers"] == [0]
    assert "output_router_logits" not in text
    assert isinstance(load(tmp_path / "moe").network, RoboInterQwen25VLMoe)


@pytest.mark.parametrize("files", [lambda folder: folder, sharded])
def test_a_hub_name_is_read_like_a_folder(folder, tmp_path, monkeypatch, files):
    said(files(folder), flat, LEFT_OVER)
    repository = tmp_path / "hub" / "models--org--official-3B"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abcd")
    shutil.copytree(folder, repository / "snapshots" / "0123abcd")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = Qwen25VL.load(Section(path="org/official-3B", device="cpu"))
    assert type(model.network) is Qwen2_5_VLForConditionalGeneration
    assert model.answer([PROMPT], Decoding(max_new_tokens=2))[0].output_tokens <= 2


def test_without_any_weights_the_fields_alone_make_no_experts(folder):
    # Every checkpoint that was ever published with these fields is dense.
    said(folder, flat, LEFT_OVER)
    (folder / "model.safetensors").unlink()
    assert type(skeleton(Section(path=str(folder))).network) is Qwen2_5_VLForConditionalGeneration


def test_without_any_weights_an_architecture_with_experts_is_believed(with_experts):
    (with_experts / "model.safetensors").unlink()
    assert isinstance(skeleton(Section(path=str(with_experts))).network, RoboInterQwen25VLMoe)


def without(folder: Path, *keys: str, **changed: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    for key in keys:
        del config["text_config"][key]
    config["text_config"].update(changed)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_experts_that_call_themselves_dense_are_loaded(with_experts):
    assert isinstance(load(with_experts).network, RoboInterQwen25VLMoe)


ALL = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob", "adaptive_gate")


@pytest.mark.parametrize(
    "lacking, named",
    [
        ([*ALL, "decoder_sparse_step", "mlp_only_layers", "router_aux_loss_coef"], ", ".join(ALL[:4])),
        (["num_experts"], "num_experts"),
        (["num_experts_per_tok"], "num_experts_per_tok"),
        (["moe_intermediate_size", "norm_topk_prob"], "moe_intermediate_size, norm_topk_prob"),
    ],
)
@pytest.mark.parametrize("opened", [load, lambda folder: skeleton(Section(path=str(folder)))])
def test_experts_that_the_config_does_not_describe_are_refused_by_the_missing_fields(
    with_experts, lacking, named, opened
):
    without(with_experts, *lacking)
    # 2 layers of a scaler, a router and two stacks of experts.
    said = rf"hold experts \(8 tensors, such as .*experts_scaler\), but its config\.json does not say {named};"
    with pytest.raises(ModelError, match=said):
        opened(with_experts)


def test_no_experts_in_the_config_and_some_in_the_weights_is_refused(with_experts):
    without(with_experts, num_experts=0)
    with pytest.raises(ModelError, match="does not say num_experts;"):
        load(with_experts)


def test_our_own_config_has_to_describe_its_experts_too(tmp_path):
    # The class has defaults; with another number of experts per token the answers would be others.
    shape = Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
    upcycled(shared_model(), shape, seed=0).save(tmp_path / "moe")
    with pytest.raises(ModelError, match="does not say num_experts_per_tok;"):
        load(without(tmp_path / "moe", "num_experts_per_tok"))


def test_what_we_write_describes_its_experts_even_where_they_are_the_defaults(tmp_path):
    upcycled(shared_model(), Shape(mlp_only_layers=(0,)), seed=0).save(tmp_path / "moe")
    text = json.loads((tmp_path / "moe" / "config.json").read_text())["text_config"]
    assert [text[key] for key in ALL] == [16, 4, 2048, True, True]
    assert isinstance(load(tmp_path / "moe").network, RoboInterQwen25VLMoe)


def test_our_own_config_over_weights_without_experts_is_refused(tmp_path):
    shape = Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
    upcycled(shared_model(), shape, seed=0).save(tmp_path / "moe")
    fresh_model().save(tmp_path / "dense")
    shutil.copy(tmp_path / "dense" / "model.safetensors", tmp_path / "moe" / "model.safetensors")
    assert not any("moe" in name for name in load_file(tmp_path / "moe" / "model.safetensors"))
    with pytest.raises(ModelError, match="8 missing, such as"):
        load(tmp_path / "moe")


def test_expert_tensors_that_come_with_the_weights_of_a_hub_name_are_refused_all_the_same(with_experts, monkeypatch):
    # Nothing is fetched to read the settings of a model without these fields; loading it then finds the experts.
    without(with_experts, *ALL)
    monkeypatch.setattr("robointervlm.models.qwen2_5_vl.folder.tensor_names", lambda *_args, **_more: frozenset())
    with pytest.raises(ModelError, match="hold experts"):
        load(with_experts)


def test_a_dense_checkpoint_without_the_fields_is_not_warned_of(folder, caplog):
    with caplog.at_level(logging.WARNING):
        model = load(folder)
    assert torch.equal(model.network.lm_head.weight, shared_model().network.lm_head.weight)
    assert "experts" not in caplog.text
