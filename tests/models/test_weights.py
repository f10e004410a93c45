"""The names of a checkpoint's tensors: from a file's header or an index, without the tensors."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from robointervlm.core.errors import ModelError
from robointervlm.models._shared.weights import expert_names, tensor_names


def test_a_single_file_says_its_names(tmp_path):
    save_file({"a.weight": torch.zeros(2), "b": torch.ones(1)}, tmp_path / "model.safetensors", metadata={"x": "y"})
    assert tensor_names(tmp_path) == {"a.weight", "b"}


def test_an_index_says_the_names_of_all_shards(tmp_path):
    index = {"metadata": {"total_size": 12}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert tensor_names(str(tmp_path)) == {"a", "b"}


def test_a_single_file_goes_before_an_index_as_it_is_the_one_that_is_loaded(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"old": "model-1.safetensors"}}')
    save_file({"new": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert tensor_names(tmp_path) == {"new"}


def test_a_folder_without_weights_has_no_names_rather_than_none_of_them(tmp_path):
    assert tensor_names(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\x08", b"version https://git-lfs.github.com/spec/v1\n", b"\x02\0\0\0\0\0\0\0[]", b"\x09\0\0\0\0\0\0\0{}"],
)
def test_a_file_that_is_not_in_the_format_is_named(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read .*is the file whole\?"):
        tensor_names(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a"'])
def test_an_index_that_is_none_is_named(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json is no index of weights"):
        tensor_names(tmp_path)


def test_experts_are_known_by_their_names_in_either_layout():
    published = ["model.layers.0.experts_scaler", "model.layers.0.moe_block.gate.weight"]
    ours = ["model.language_model.layers.1.mlp.moe_block.experts.down_proj"]
    dense = ["model.layers.0.mlp.gate_proj.weight", "visual.merger.ln_q.weight", "lm_head.weight"]
    assert expert_names([*dense, *published, *ours]) == [*ours, *published]
