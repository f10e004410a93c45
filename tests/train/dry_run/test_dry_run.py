"""What is said before a training: exact counts, and estimates held against numbers worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer

from robointervlm.core.answer import Box, Points
from robointervlm.models.qwen2_5_vl.packed import packed
from robointervlm.train.callbacks.preview import drawn, row_structure
from robointervlm.train.dry_run.memory import Sizes, layer_bytes_per_token, memory
from robointervlm.train.dry_run.plan import forecast
from robointervlm.train.recipe import TrainRecipe
from tiny_models import box_dataset, shared_model, train_recipe


@pytest.fixture
def without_weights(tiny_folder, tmp_path):
    """The folder of a model that was never downloaded: its config and tokenizer alone."""
    folder = tmp_path / "empty"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


def planned(recipe: TrainRecipe, processes: int = 1, **more) -> dict:
    return forecast(recipe, processes=processes, **{"tflops": None, "measure": False, **more})


def test_a_plan_needs_no_weights_and_counts_what_is_there(without_weights, tmp_path):
    catalog = box_dataset(tmp_path / "data", count=12, wordy=1, bad=[4])
    record = planned(train_recipe(without_weights, catalog, tmp_path / "run", "data.max_bad_rate=0.1"), processes=2)
    assert (record["samples"], record["unreadable"], record["too_long"]) == (12, 1, 0)
    assert (record["steps"], record["samples_per_step"], record["rows_per_step"]) == (3, 8, 4)
    assert record["longest"][0]["id"] == "s0"
    assert record["longest"][0]["tokens"] == record["datasets"][0]["tokens"]["max"]
    assert 0 < record["padding_share"] < 1
    assert json.loads((tmp_path / "run" / "plan.json").read_text()) == record
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_too_long_samples_are_counted_whether_they_are_dropped_or_an_error(without_weights, tmp_path):
    catalog = box_dataset(tmp_path / "data", count=6, wordy=2)
    for pack in ("none", "shared"):
        record = planned(
            train_recipe(without_weights, catalog, tmp_path / "run", f"batch.pack={pack}", "batch.max_tokens=90")
        )
        assert record["too_long"] == 2
        assert record["longest"][0]["tokens"] > 90


def test_what_sharing_saves_is_the_prefix_of_every_question_but_the_first(without_weights, tmp_path):
    catalog = box_dataset(tmp_path / "data", count=4)
    for index in range(1, 4):  # all four questions are about the same picture
        (tmp_path / "data" / f"{index}.png").write_bytes((tmp_path / "data" / "0.png").read_bytes())
    record = planned(train_recipe(without_weights, catalog, tmp_path / "run", "batch.pack=shared"))
    assert (record["sharing"]["pictures"], record["sharing"]["pictures_alone"]) == (1, 4)
    saved = record["sharing"]["tokens_alone"] - record["sharing"]["tokens"]
    assert saved > 0
    assert saved % 3 == 0


def test_the_whole_copy_that_answers_validation_is_told_only_where_there_is_one(without_weights, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    ask = "watch.validation={mixture: [boxes], every: 2}"
    asked = planned(train_recipe(without_weights, catalog, tmp_path / "asked", ask, "run.precision=no"))["memory"]
    quiet = planned(train_recipe(without_weights, catalog, tmp_path / "quiet"))["memory"]
    # The tiny model: 275 thousand parameters of 4 bytes.
    assert asked["whole_copy_gib"] == pytest.approx(275e3 * 4 / 2**30, abs=0.0006)
    assert quiet["whole_copy_gib"] is None


def test_time_follows_from_the_speed_that_is_given(without_weights, tmp_path):
    catalog = box_dataset(tmp_path / "data")
    record = planned(train_recipe(without_weights, catalog, tmp_path / "run"), tflops=1e-3)["time"]
    assert record["seconds"] == pytest.approx(3 * record["operations_per_step_and_process"] / 1e9)


def test_a_step_can_be_measured(tiny_folder, catalog, tmp_path):
    record = planned(train_recipe(tiny_folder, catalog, tmp_path / "run"), measure=True)["time"]
    assert record["from"] == "a step measured here"
    assert record["seconds"] > 0


def test_memory_of_the_states_is_as_in_the_zero_paper():
    # Rajbhandari et al. 2020, figure 1: 7.5 billion parameters on 64 GPUs: 16.6 GB with stage 2, 1.9 GB with stage 3.
    sizes = Sizes(all=7_500_000_000, learning=7_500_000_000, layer=0)
    assert memory("zero2", sizes, 0, 64, bf16=True).gpu / 1e9 == pytest.approx(16.6, abs=0.05)
    assert memory("zero3", sizes, 0, 64, bf16=True).gpu / 1e9 == pytest.approx(1.9, abs=0.05)


def test_what_a_layer_saves_is_what_a_real_layer_saves():
    config = shared_model().network.config
    text = config.text_config
    sizes = []
    for tokens in (256, 512):
        seen = {}
        layer = Qwen2_5_VLDecoderLayer(text, 0).train()
        own = {parameter.data_ptr() for parameter in layer.parameters()}

        def keep(tensor, seen=seen):
            seen[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        hidden = torch.randn(1, tokens, text.hidden_size, requires_grad=True)
        angles = torch.randn(1, tokens, text.hidden_size // text.num_attention_heads)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            kept = layer(hidden, position_embeddings=(angles, angles), position_ids=None, attention_mask=None)
        assert kept is not None
        sizes.append(sum(each.untyped_storage().nbytes() for place, each in seen.items() if place not in own))
    assert layer_bytes_per_token(config, bf16=False) == pytest.approx((sizes[1] - sizes[0]) / 256, rel=0.02)


def test_a_packed_row_is_shown_segment_by_segment():
    model = shared_model()
    from robointervlm.core.prompt import Message  # noqa: PLC0415

    picture = np.zeros((56, 56, 3), dtype=np.uint8)
    groups = [
        [
            model.encoder.encode(
                [Message("user", f"<image>\nWhere is the {what}?"), Message("assistant", answer)], [picture]
            )
            for what, answer in (("cup", "Yes"), ("gripper", "No"))
        ]
    ]
    lines = row_structure(packed(model.encoder, groups), model.encoder.chat).splitlines()
    assert "3 segments" in lines[0]
    assert ["shared prefix" in line for line in lines[1:]] == [True, False, False]
    assert all("continues 0-" in line and "«" in line for line in lines[2:])


def test_several_pictures_stand_side_by_side_and_every_answer_has_its_colour(tmp_path):
    pictures = [np.full((180, 320, 3), 40, dtype=np.uint8)] * 5
    drawn(pictures, [Box(10, 10, 60, 60), Points(((200.0, 100.0),))], tmp_path / "all.png")
    image = Image.open(tmp_path / "all.png").convert("RGB")
    assert image.size == (4 * 326 - 6, 2 * 186 - 6)
    assert image.getpixel((200, 100)) == (0, 114, 178)
    assert image.getpixel((35, 11)) == (22, 163, 74)
