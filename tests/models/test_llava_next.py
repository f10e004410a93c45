"""LLaVA-OneVision: both layouts are the same model, and it looks at pictures as the original code does."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlavaOnevisionForConditionalGeneration

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models._shared.chat_model import ChatModel
from robointervlm.models.llava_onevision.llava_next import KEYS, read_llava_next
from robointervlm.models.model import load_model
from tiny_families import make_checkpoint
from tiny_models import noise

TILE, SIDE = 56, 4
# What the config.json of RoboInter-VLM_llavaov_7B and of lmms-lab's own LLaVA-OneVision 7B says, written by hand after
# the fields of the LLaVA-NeXT code and the shapes of Qwen2-7B.
PUBLISHED = {
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava_qwen",
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[384 * x, 384 * y] for x in range(1, 7) for y in range(1, 7)],
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "mm_hidden_size": 1152,
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 152064,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_checkpoint("llava_next", tmp_path_factory.mktemp("llava") / "original")


@pytest.fixture(scope="module")
def original(folder) -> ChatModel:
    model = load_model({"path": str(folder), "device": "cpu"})
    assert isinstance(model, ChatModel)
    return model


def linked(folder: Path, copy: Path, *without: str) -> Path:
    """A folder with the same files, but for those of these names."""
    for file in folder.iterdir():
        if file.is_file() and file.name not in without:
            (copy / file.name).symlink_to(file)
    return copy


def as_original(network: Any, picture: np.ndarray) -> torch.Tensor:
    """What the LLaVA-NeXT code makes of one picture, followed step by step: tokens x width.

    `process_anyres_image` and `prepare_inputs_labels_for_multimodal` of llava/mm_utils.py and llava/model/llava_arch.py
    for anyres_max_9 and spatial_unpad, in plain numpy, PIL and torch.
    """
    height, width = picture.shape[:2]
    fits = []
    for across in range(1, 7):
        for down in range(1, 7):
            scale = min(TILE * across / width, TILE * down / height)
            used = min(int(width * scale) * int(height * scale), width * height)
            fits.append((-used, TILE * TILE * across * down - used, across, down))
    _, _, across, down = min(fits)
    across_scale, down_scale = TILE * across / width, TILE * down / height
    if across_scale < down_scale:
        size = (TILE * across, min(math.ceil(height * across_scale), TILE * down))
    else:
        size = (min(math.ceil(width * down_scale), TILE * across), TILE * down)
    canvas = Image.new("RGB", (TILE * across, TILE * down), (0, 0, 0))
    canvas.paste(Image.fromarray(picture).resize(size), ((TILE * across - size[0]) // 2, (TILE * down - size[1]) // 2))
    tiles = [Image.fromarray(picture).resize((TILE, TILE))]
    tiles += [
        canvas.crop((TILE * x, TILE * y, TILE * (x + 1), TILE * (y + 1))) for y in range(down) for x in range(across)
    ]
    pixels = np.stack([np.asarray(tile, dtype=np.float32) / 255 for tile in tiles])
    pixels = torch.from_numpy((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)
    with torch.no_grad():
        seen = network.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        first, second = network.model.multi_modal_projector.linear_1, network.model.multi_modal_projector.linear_2
        features = second(torch.nn.functional.gelu(first(seen)))
    grid = (
        features[1:].view(down, across, SIDE, SIDE, -1).permute(4, 0, 2, 1, 3).reshape(-1, SIDE * down, SIDE * across)
    )
    if width / height > across / down:
        spare = (SIDE * down - int(height * (SIDE * across / width))) // 2
        grid = grid[:, spare : SIDE * down - spare]
    else:
        spare = (SIDE * across - int(width * (SIDE * down / height))) // 2
        grid = grid[:, :, spare : SIDE * across - spare]
    ratio = math.sqrt(grid.shape[1] * grid.shape[2] / (9 * SIDE**2))
    if ratio > 1.1:
        fewer = [int(grid.shape[1] // ratio), int(grid.shape[2] // ratio)]
        grid = torch.nn.functional.interpolate(grid[None], fewer, mode="bilinear")[0]
    ends = network.model.image_newline[:, None, None].expand(-1, grid.shape[1], 1)
    rows = torch.cat([grid, ends], dim=-1).flatten(1).T
    return torch.cat([features[0], rows])


def features(model: ChatModel, *pictures: np.ndarray) -> list[torch.Tensor]:
    with torch.no_grad():
        seen = model.network.model.get_image_features(**model.eyes.look(pictures).tensors, return_dict=True)
    return list(seen.pooler_output)


@pytest.mark.parametrize("size", [(56, 56), (80, 45), (160, 120), (83, 129), (333, 250), (500, 40), (30, 400)])
def test_one_picture_is_seen_as_the_original_code_sees_it(original, size):
    picture = noise(*size, 1)
    [seen] = features(original, picture)
    expected = as_original(original.network, picture)
    assert seen.shape == expected.shape
    assert torch.allclose(seen, expected, atol=2e-4), (seen - expected).abs().max()


def test_several_pictures_are_padded_to_squares_of_one_tile_each(original):
    # 100x50 becomes 100x100 with 25 rows of grey, 127 of 255, above and below.
    wide, high = noise(100, 50, 1), noise(30, 90, 2)
    grey = np.full((100, 100, 3), 127, dtype=np.uint8)
    grey[25:75] = wide
    tile = np.asarray(Image.fromarray(grey).resize((TILE, TILE)), dtype=np.float32) / 255
    look = original.eyes.look([wide, high])
    assert look.tensors["pixel_values"].shape == (2, 3, TILE, TILE)
    # transformers pads before it resizes, in float; PIL rounds to bytes.
    assert np.abs(look.tensors["pixel_values"][0].numpy().transpose(1, 2, 0) - (tile - 0.5) / 0.5).max() < 0.05
    assert [count.tokens for count in look.counts] == [SIDE**2 + 1] * 2
    assert [len(each) for each in features(original, wide, high)] == [SIDE**2 + 1] * 2


@settings(max_examples=150)
@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
@example(width=1, height=3000)
@example(width=3000, height=1)
@example(width=333, height=517)
def test_the_tokens_of_a_picture_are_as_many_as_its_features(original, width, height):
    size = ImageSize(width, height)
    tiles = original.eyes._best(size)
    cells = torch.zeros(1 + tiles[0] * tiles[1] // TILE**2, SIDE**2, 32)
    newline = torch.zeros(32)
    packed, _ = original.network.model.pack_image_features([cells], [[height, width]], newline)
    assert original.eyes.tokens(size, alone=True) == len(packed[0])


def test_both_layouts_answer_alike(original, tmp_path):
    # The same weights as transformers writes them.
    original.network.save_pretrained(tmp_path, save_original_format=False)
    tokenizer = original.chat.tokenizer
    tokenizer.save_pretrained(tmp_path)
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": TILE, "width": TILE}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    converted = load_model({"path": str(tmp_path), "device": "cpu"})
    prompts = [
        Prompt((Message("user", "<image>\nWhere?"),), (noise(160, 120),)),
        Prompt((Message("user", "a<image>b<image>c"),), (noise(80, 45), noise(45, 80))),
    ]
    decoding = Decoding(max_new_tokens=10)
    answers = [[reply.text for reply in model.answer(prompts, decoding)] for model in (original, converted)]
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == 2


def test_the_conversation_is_written_as_the_original_code_writes_it(original):
    # conv_templates["qwen_1_5"] with the picture in the middle of the text.
    messages = (
        Message("user", "Look at <image> well."),
        Message("assistant", "Yes."),
        Message("user", "<image>\nWhere?"),
    )
    assert original.chat.rendered(messages, open_answer=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nLook at <image> well.<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
        "<|im_start|>user\n<image>\nWhere?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_layers_that_are_not_looked_at_may_be_in_the_checkpoint(folder, original, tmp_path):
    state = load_file(folder / "model.safetensors")
    tower = "model.vision_tower.vision_tower.vision_model"
    last = {name.replace("layers.1.", "layers.2."): value for name, value in state.items() if "layers.1." in name}
    more = {name: value.clone() for name, value in last.items() if name.startswith(f"{tower}.encoder.")}
    assert len(more) == 16
    more[f"{tower}.head.probe"] = torch.zeros(1, 1, 32)
    copy = linked(folder, tmp_path, "model.safetensors")
    save_file({**state, **more}, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_model({"path": str(copy), "device": "cpu"}).fingerprint == original.fingerprint
    save_file({**state, "model.other.weight": torch.zeros(1)}, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 unexpected, such as model\.other\.weight"):
        load_model({"path": str(copy), "device": "cpu"})


def test_an_output_layer_of_its_own_is_loaded_as_in_the_7b_model(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    own = torch.full_like(state["model.embed_tokens.weight"], 0.25)
    copy = linked(folder, tmp_path, "model.safetensors", "config.json")
    config = json.loads((folder / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    save_file({**state, "lm_head.weight": own}, copy / "model.safetensors", metadata={"format": "pt"})
    model = load_model({"path": str(copy), "device": "cpu"})
    assert isinstance(model, ChatModel)
    assert torch.equal(model.network.lm_head.weight, own)
    embedding = model.network.get_input_embeddings().weight
    assert torch.equal(embedding, state["model.embed_tokens.weight"])
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 missing, such as lm_head\.weight"):
        load_model({"path": str(copy), "device": "cpu"})


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("image_aspect_ratio", "pad", "looks at a picture as 'pad'"),
        ("image_aspect_ratio", "anyres", "looks at a picture as 'anyres'"),
        ("mm_patch_merge_type", "flat", "mm_patch_merge_type is 'flat'"),
        ("mm_vision_tower", "openai/clip-vit-large-patch14", "mm_vision_tower is 'openai/clip-vit-large-patch14'"),
        ("image_grid_pinpoints", None, "image_grid_pinpoints is None"),
    ],
)
def test_what_is_done_otherwise_is_refused_by_name(folder, tmp_path, key, value, said):
    config = json.loads((folder / "config.json").read_text())
    (linked(folder, tmp_path, "config.json") / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ModelError, match=said):
        load_model({"path": str(tmp_path), "device": "cpu"})


@pytest.mark.parametrize("name", ["google/siglip-so400m-patch14-384", "/data/of/others/siglip-so400m-patch14-384"])
def test_the_vision_tower_is_known_by_its_name_wherever_it_was_trained_from(name):
    vision = read_llava_next("x", {**PUBLISHED, "mm_vision_tower": name}).vision_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.image_size, vision.vision_use_head) == (
        1152,
        26,  # of 27
        384,
        False,
    )


def test_canvases_are_listed_with_the_height_first():
    config = {**PUBLISHED, "image_grid_pinpoints": [[384, 768]]}
    assert read_llava_next("x", config).image_grid_pinpoints == [[768, 384]]
    config = {**PUBLISHED, "image_grid_pinpoints": "(1x1),...,(2x1)"}
    assert read_llava_next("x", config).image_grid_pinpoints == [[384, 384], [384, 768]]


def test_the_released_configuration_has_the_parameters_of_the_released_weights():
    # Of Qwen2-7B: 28 layers of 12 tensors, a norm, an embedding, an output layer. Of SigLIP: 26 layers of 16 tensors, a
    # patch embedding of 2, positions, a norm of 2. Two layers between them, and the end of a row.
    with torch.device("meta"):
        network = LlavaOnevisionForConditionalGeneration(read_llava_next("x", PUBLISHED))
    names = [name for name, _ in network.named_parameters()]
    assert len(names) == (28 * 12 + 3) + (26 * 16 + 5) + 4 + 1
    # 7,615,616,512 of Qwen2-7B; a SigLIP layer has 4 * 1152 * 1153 + 1152 * 4304 * 2 + 4304 + 1152 + 4 * 1152.
    layer = 4 * 1152 * 1153 + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152
    tower = 26 * layer + (3 * 14 * 14 + 1) * 1152 + 27 * 27 * 1152 + 2 * 1152
    projector = 1152 * 3584 + 3584 + 3584 * 3584 + 3584
    assert sum(p.numel() for p in network.parameters()) == 7_615_616_512 + tower + projector + 3584


_ATTENTION = ("k_proj", "v_proj", "q_proj", "out_proj")


def original_names() -> list[str]:
    """The names in a checkpoint of the LLaVA-NeXT code, written out by hand."""
    attention = [f"self_attn.{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias")]
    layer = [*attention, "self_attn.o_proj.weight", "input_layernorm.weight", "post_attention_layernorm.weight"]
    layer += [f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    pairs = ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *(f"self_attn.{part}" for part in _ATTENTION)]
    block = [f"{part}.{kind}" for part in pairs for kind in ("weight", "bias")]
    tower = "model.vision_tower.vision_tower.vision_model"
    return [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.norm.weight",
        *(f"model.layers.{number}.{name}" for number in range(28) for name in layer),
        "model.image_newline",
        *(f"model.mm_projector.{number}.{kind}" for number in (0, 2) for kind in ("weight", "bias")),
        f"{tower}.embeddings.patch_embedding.weight",
        f"{tower}.embeddings.patch_embedding.bias",
        f"{tower}.embeddings.position_embedding.weight",
        *(f"{tower}.encoder.layers.{number}.{name}" for number in range(26) for name in block),
        f"{tower}.post_layernorm.weight",
        f"{tower}.post_layernorm.bias",
    ]


def test_the_names_of_the_released_weights_are_those_of_the_parameters():
    with torch.device("meta"):
        network = LlavaOnevisionForConditionalGeneration(read_llava_next("x", PUBLISHED))
    renamed = []
    for name in original_names():
        [new] = {re.sub(pattern, here, name) for pattern, here in KEYS.items() if re.search(pattern, name)} or {name}
        renamed.append(new)
    assert sorted(renamed) == sorted(name for name, _ in network.named_parameters())
