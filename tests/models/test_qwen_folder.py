"""Checkpoint folders: what is written loads here and with transformers alone; what is not whole is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models.model import load_model
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.chat import Chat
from robointervlm.models.qwen2_5_vl.encoder import Encoder, normalised
from robointervlm.models.qwen2_5_vl.images import PixelLimits, patches
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.tiny import CHAT_TEMPLATE
from tiny_models import fresh_model, noise, shared_data, shared_model

PROMPT = Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = fresh_model()
    model.encoder.limits = PixelLimits(3136, 50176)
    model.save(tmp_path / "tiny")
    return tmp_path / "tiny"


def load(folder: Path, **settings) -> Qwen25VL:
    return Qwen25VL.load(Section(path=str(folder), device="cpu", **settings))


def logits(network) -> torch.Tensor:
    batch = shared_model().encoder.batch(
        [shared_model().encoder.encode([*PROMPT.messages, Message("assistant", "[1, 2]")], PROMPT.pictures)]
    )
    with torch.no_grad():
        return network(
            input_ids=batch.ids_BL,
            position_ids=batch.positions_3BL,
            pixel_values=batch.patches_PC,
            image_grid_thw=batch.grids_N3,
        ).logits


def test_a_saved_model_loads_as_itself(folder):
    loaded = load(folder)
    assert torch.equal(logits(loaded.network), logits(shared_model().network))
    assert loaded.name == "tiny"
    assert loaded.encoder.limits == PixelLimits(3136, 50176)
    assert loaded.coordinates is CoordinateFormat.RESIZED
    assert not loaded.network.training


def test_the_fingerprint_survives_saving_and_loading(folder):
    model = fresh_model()
    model.encoder.limits = PixelLimits(3136, 50176)
    assert load(folder).fingerprint == model.fingerprint


def test_a_saved_model_loads_with_transformers_alone(folder):
    network, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    # The patch embedding is a convolution there.
    torch.testing.assert_close(logits(network), logits(shared_model().network), rtol=1e-4, atol=1e-5)


def test_a_folder_carries_tokenizer_template_processor_and_what_it_declares(folder):
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHAT_TEMPLATE
    assert json.loads((folder / "robointer.json").read_text()) == {
        "coordinates": "resized",
        "min_pixels": 3136,
        "max_pixels": 50176,
        "answer_style": "json",
    }
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (3136, 50176)
    # Resized to one size; of one that is not resized, the same values.
    for picture, same in ((noise(640, 480), False), (noise(196, 112), True)):
        theirs = processor(picture, return_tensors="np", input_data_format="channels_last")["pixel_values"]
        ours = normalised(torch.from_numpy(patches(picture, PixelLimits(3136, 50176))[0])).numpy()
        assert ours.shape == theirs.shape
        assert np.array_equal(ours, theirs) or not same


def test_whoever_may_read_the_config_may_read_the_weights(folder):
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_implementation_changes_no_answer(folder, attention):
    expected = fresh_model().answer([PROMPT], Decoding(max_new_tokens=4))[0]
    reply = load(folder, attention=attention).answer([PROMPT], Decoding(max_new_tokens=4))[0]
    assert reply.text == expected.text


def test_weights_are_written_under_the_names_of_the_classes(folder):
    names = set(load_file(folder / "model.safetensors"))
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in names
    assert "model.visual.patch_embed.proj.weight" in names
    assert load_file(folder / "model.safetensors")["model.visual.patch_embed.proj.weight"].shape == (48, 3, 2, 14, 14)


def _to_old(name: str) -> str:
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def _to_zero3(name: str) -> str:
    return name.replace("model.language_model.", "model.model.")


@pytest.mark.parametrize("renamed", [_to_old, _to_zero3])
def test_other_key_layouts_load_with_identical_logits(folder, renamed):
    # `visual.* model.layers.*`: transformers before 4.52 and the hub. `model.model.*`: written under DeepSpeed ZeRO-3.
    weights = {renamed(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(load(folder).network), logits(shared_model().network))


def test_a_flat_config_as_the_hub_has_it_loads_with_identical_logits(folder):
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    # The real ones have the plain frequencies, which is all that the flat form of them can say.
    rope = text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [6, 5, 5]}
    (folder / "config.json").write_text(json.dumps(config))
    nested = logits(load(folder).network)
    del config["text_config"], text["rope_parameters"]
    flat = {**text, **config, "model_type": "qwen2_5_vl", "rope_theta": rope["rope_theta"]}
    flat["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    vision.pop("rope_parameters")
    vision |= {"in_chans": vision.pop("in_channels"), "spatial_patch_size": 14, "model_type": "qwen2_5_vl"}
    (folder / "config.json").write_text(json.dumps(flat))
    assert torch.equal(logits(load(folder).network), nested)


@pytest.mark.parametrize("name", ["moe", "my qwen llava model", "数据 ünïcode"])
def test_the_folders_path_decides_nothing(folder, tmp_path, name):
    target = tmp_path / name / name
    shutil.copytree(folder, target)
    model = load_model({"path": str(target), "device": "cpu"})
    assert isinstance(model, Qwen25VL)
    assert model.answer([PROMPT], Decoding(max_new_tokens=2))[0].output_tokens <= 2


def changed_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


NORM = "model.language_model.norm.weight"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda weights: weights.pop(NORM), "1 missing, such as model.language_model.norm.weight"),
        (lambda weights: weights.update({"model.language_model.more.weight": torch.zeros(2)}), "1 unexpected, such as"),
        (
            lambda weights: weights.update({NORM: torch.zeros(3)}),
            "1 misshapen, such as model.language_model.norm.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, said):
    changed_weights(folder, change)
    with pytest.raises(ModelError, match=said):
        load(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


WEIGHTS_AND_SETTINGS = ["model.safetensors", "config.json", "tokenizer.json"]


@pytest.mark.parametrize(
    "damaged, name",
    [(Path.unlink, name) for name in WEIGHTS_AND_SETTINGS]
    + [(cut, name) for name in [*WEIGHTS_AND_SETTINGS, "robointer.json", "preprocessor_config.json"]],
)
def test_a_folder_that_is_not_whole_is_one_clear_error(folder, damaged, name):
    damaged(folder / name)
    with pytest.raises(ModelError, match=r".{20}"):
        load(folder)


def test_without_a_declaration_the_processor_says_the_limits(folder):
    (folder / "robointer.json").unlink()
    assert load(folder).encoder.limits == PixelLimits(3136, 50176)


def test_without_both_the_limits_are_those_of_qwen(folder):
    # facts: min_pixels 3136, max_pixels 12845056.
    (folder / "robointer.json").unlink()
    (folder / "preprocessor_config.json").unlink()
    assert load(folder).encoder.limits == PixelLimits(3136, 12845056)
    assert load(folder).coordinates is CoordinateFormat.RESIZED


def test_the_recipe_overrides_what_the_folder_declares(folder):
    model = load(folder, max_pixels=28 * 28 * 20, coordinates="unit", name="other", dtype="bfloat16", attention="eager")
    assert model.encoder.limits == PixelLimits(3136, 15680)
    assert (model.coordinates, model.name) == (CoordinateFormat.UNIT, "other")
    assert model.network.dtype == torch.bfloat16
    assert model.network.config._attn_implementation == "eager"


def test_bfloat16_answers_too(folder):
    reply = load(folder, dtype="bfloat16").answer([PROMPT], Decoding(max_new_tokens=3))[0]
    assert reply.output_tokens <= 3


def test_another_kind_of_model_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": config["eos_token_id"]}))
    with pytest.raises(ModelError, match="holds a 'llama' model"):
        load(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="does not exist"):
        load_model({"path": str(tmp_path / "none")})


def test_a_gpu_that_is_not_there_is_refused(folder):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match="torch sees no GPU"):
        Qwen25VL.load(Section(path=str(folder), device="cuda"))


def test_a_tokenizer_of_another_model_is_refused():
    folder = shared_data() / "qwen2_5_vl_processor"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    other = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), chat_template=CHAT_TEMPLATE, pad_token="<|endoftext|>"
    )
    with pytest.raises(ModelError, match="151655"):
        Encoder(shared_model().network.config, Chat(other), PixelLimits(), CoordinateFormat.RESIZED)


def test_a_model_folder_is_never_written_to(folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    load(folder).answer([PROMPT], Decoding(max_new_tokens=2))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_trained_untied_head_is_saved_and_loaded(tmp_path):
    model = fresh_model()
    model.network.config.tie_word_embeddings = False
    model.network.lm_head.weight = torch.nn.Parameter(model.network.lm_head.weight.detach() * 2)
    model.save(tmp_path / "untied")
    again = load(tmp_path / "untied")
    embedding = again.network.model.language_model.embed_tokens.weight
    assert torch.equal(again.network.lm_head.weight, embedding * 2)
