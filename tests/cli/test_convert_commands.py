"""`robointer convert …` as a user types it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForImageTextToText

from robointervlm.cli.main import run
from robointervlm.models.qwen2_5_vl import Lora, Section
from robointervlm.models.qwen2_5_vl.lora import add_lora
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from tiny_models import saved_model, shared_model

SMALL = ("--experts", "4", "--per-token", "2", "--width", "16")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("dense"))


def test_the_folder_is_complete_and_answers_the_same_bits(dense, tmp_path, capsys):
    target = tmp_path / "new" / "moe"
    assert run(["convert", "upcycle", str(dense), str(target), *SMALL]) == 0
    # Two layers, each with 3 x 4 x 16 x 64 values in experts, 4 x 64 in the router and the scaler.
    assert "25,090 parameters of experts" in capsys.readouterr().out
    assert {path.name for path in target.iterdir()} == {path.name for path in dense.iterdir()}
    assert (target / "robointer.json").read_text() == (dense / "robointer.json").read_text()
    assert (target / "tokenizer.json").read_bytes() == (dense / "tokenizer.json").read_bytes()
    ids = torch.tensor([[20, 30, 40, 50, 60]])
    with torch.no_grad():
        network = Qwen25VL.load(Section(path=str(target), device="cpu")).network
        assert torch.equal(network(input_ids=ids).logits, shared_model().network(input_ids=ids).logits)


def test_options_become_the_config(dense, tmp_path):
    options = ("--dense-layer", "0", "--no-normalise", "--balance", "0.02")
    assert run(["convert", "upcycle", str(dense), str(tmp_path / "moe"), *SMALL, *options]) == 0
    text = json.loads((tmp_path / "moe" / "config.json").read_text())["text_config"]
    assert text["model_type"] == "robointer_qwen2_5_vl_moe_text"
    assert (text["num_experts"], text["num_experts_per_tok"], text["moe_intermediate_size"]) == (4, 2, 16)
    assert (text["mlp_only_layers"], text["norm_topk_prob"], text["adaptive_gate"]) == ([0], False, True)
    assert (text["decoder_sparse_step"], text["router_aux_loss_coef"]) == (1, 0.02)


def test_the_precision_of_the_checkpoint_stays(dense, tmp_path):
    network = AutoModelForImageTextToText.from_pretrained(dense, dtype=torch.bfloat16)
    half = tmp_path / "half"
    Qwen25VL(network, shared_model().encoder, name="half").save(half)
    assert run(["convert", "upcycle", str(half), str(tmp_path / "moe"), *SMALL]) == 0
    made = AutoModelForImageTextToText.from_pretrained(tmp_path / "moe", dtype="auto")
    assert {parameter.dtype for parameter in made.parameters()} == {torch.bfloat16}
    ids = torch.tensor([[20, 30, 40, 50, 60]])
    with torch.no_grad():
        assert torch.equal(made(input_ids=ids).logits, network(input_ids=ids).logits)


def error_of(capsys, *arguments: str) -> tuple[int, str]:
    code = run(["convert", "upcycle", *arguments])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return code, said


def test_an_existing_folder_is_left_alone(dense, tmp_path, capsys):
    (tmp_path / "moe").mkdir()
    code, said = error_of(capsys, str(dense), str(tmp_path / "moe"))
    assert code == 2
    assert "exists already" in said
    assert not list((tmp_path / "moe").iterdir())


def test_a_model_with_experts_is_refused(dense, tmp_path, capsys):
    assert run(["convert", "upcycle", str(dense), str(tmp_path / "moe"), *SMALL]) == 0
    capsys.readouterr()
    code, said = error_of(capsys, str(tmp_path / "moe"), str(tmp_path / "again"))
    assert code == 3
    assert "has experts already" in said


def test_more_experts_per_token_than_experts_are_refused(dense, tmp_path, capsys):
    code, said = error_of(capsys, str(dense), str(tmp_path / "moe"), "--experts", "2", "--per-token", "3")
    assert code == 2
    assert "3 experts per token, but there are only 2" in said
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_model_is_named(tmp_path, capsys):
    code, said = error_of(capsys, str(tmp_path / "nothing"), str(tmp_path / "moe"))
    assert code == 3
    assert "nothing" in said


@pytest.fixture(scope="module")
def adapter(dense, tmp_path_factory):
    """An adapter of the dense model, and the logits of the model with it."""
    model = Qwen25VL.load(Section(path=str(dense), device="cpu"))
    add_lora(model.network, Lora(rank=4), seed=0)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
        folder = tmp_path_factory.mktemp("trained") / "model"
        model.save(folder)
        logits = model.network(input_ids=torch.tensor([[20, 30, 40, 50, 60]])).logits
    return folder / "adapter", logits


def test_a_merged_adapter_is_a_folder_that_answers_by_itself(dense, adapter, tmp_path, capsys):
    folder, logits = adapter
    assert run(["convert", "merge", str(dense), str(folder), str(tmp_path / "merged")]) == 0
    assert f"with the updates of {folder}" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {path.name for path in dense.iterdir()}
    network = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    with torch.no_grad():
        assert (network(input_ids=torch.tensor([[20, 30, 40, 50, 60]])).logits - logits).abs().max() < 1e-5


def test_merging_what_is_no_adapter_is_one_line(dense, tmp_path, capsys):
    assert run(["convert", "merge", str(dense), str(dense), str(tmp_path / "merged")]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is no adapter: it has no adapter_config.json" in said
    assert not (tmp_path / "merged").exists()


def test_merging_into_an_existing_folder_is_refused(dense, adapter, tmp_path, capsys):
    assert run(["convert", "merge", str(dense), str(adapter[0]), str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
