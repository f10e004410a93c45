"""Questions on one picture share what the vision tower makes of it, and answer as if each had looked for itself."""

from __future__ import annotations

import contextlib

import pytest
import torch

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models.model import MeasuringModel, load_model
from robointervlm.models.qwen2_5_vl.encoder import normalised, vision
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from tiny_families import FAMILIES, make_checkpoint, section_of
from tiny_models import SIZE, fresh_model, noise, shared_model

SMALL, TALL, WIDE = noise(84, 56, 1), noise(60, 333, 2), noise(517, 140, 3)
PROMPTS = [
    Prompt((Message("user", "<image>\nWhere is the cup?"),), (SMALL,)),
    Prompt((Message("user", "<image>\nIs the gripper open, and where will it be after the next step?"),), (SMALL,)),
    Prompt((Message("user", "<image>a<image> What is new in the second one?"),), (TALL, SMALL)),
    Prompt((Message("user", "Is it open?"),)),
    Prompt((Message("user", "<image><image><image> In which order?"),), (WIDE, TALL, WIDE)),
    Prompt((Message("user", "Look <image> well."),), (TALL.copy(),)),
]


def dense() -> Qwen25VL:
    # With larger weights than usual, so that the random model does not only repeat the last token.
    return fresh_model(size=SIZE.model_copy(update={"initializer_range": 0.4}))


def with_experts() -> Qwen25VL:
    return upcycled(dense(), Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24), seed=0)


@contextlib.contextmanager
def looks(model: Qwen25VL):
    """The grids that the vision tower is given within the block, one list a call."""
    found: list[list[list[int]]] = []
    hook = model.network.model.visual.register_forward_hook(
        lambda _tower, given, named, _out: found.append(named.get("grid_thw", given[-1]).tolist()), with_kwargs=True
    )
    yield found
    hook.remove()


def plainly(model: Qwen25VL, prompt: Prompt, count: int) -> list[int]:
    """What transformers generates for one prompt alone, from its pixels."""
    encoded = model.encoder.encode_prompt(prompt)
    pixels_PC, grids_N3 = vision([encoded])
    ids_BL = torch.from_numpy(encoded.ids)[None]
    config = model.network.config
    seen = {} if pixels_PC is None else {"pixel_values": normalised(pixels_PC), "image_grid_thw": grids_N3}
    output_BL = model.network.generate(
        input_ids=ids_BL,
        attention_mask=torch.ones_like(ids_BL),
        mm_token_type_ids=(ids_BL == config.image_token_id).int(),
        max_new_tokens=count,
        do_sample=False,
        suppress_tokens=[config.image_token_id, config.video_token_id, config.vision_start_token_id],
        eos_token_id=model._stops,
        pad_token_id=model._stops[-1],
        **seen,
    )
    return output_BL[0, ids_BL.shape[1] :].tolist()


@pytest.mark.parametrize("make", [dense, with_experts])
def test_shared_features_give_the_tokens_of_each_prompt_alone(make):
    model = make()
    known: dict = {}
    together = model._generated([model.encoder.encode_prompt(each, known) for each in PROMPTS], Decoding(12))
    alone = [plainly(model, each, 12) for each in PROMPTS]
    # A row that ends before the longest is filled up.
    assert [row[: len(own)] for row, own in zip(together, alone, strict=True)] == alone
    assert len({tuple(own) for own in alone}) > 1


def test_every_picture_of_a_batch_is_looked_at_once():
    model = shared_model()
    with looks(model) as found:
        replies = model.answer(PROMPTS, Decoding(2))
    assert all(isinstance(reply, Reply) for reply in replies)
    # Patches of 14 pixels: 84x56, 60x333 and 517x140 in multiples of 28, and the equal picture that is another array.
    assert found == [[[1, 4, 6], [1, 24, 4], [1, 10, 36], [1, 24, 4]]]


def test_a_batch_without_pictures_is_not_looked_at():
    model = shared_model()
    with looks(model) as found:
        model.answer([PROMPTS[3]], Decoding(2))
    assert found == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_tells_the_tokens_of_a_prompt_beforehand(tmp_path, family):
    model = load_model(section_of(family, make_checkpoint(family, tmp_path / "model")))
    assert isinstance(model, MeasuringModel)
    check_lengths(model)


def test_the_model_we_train_tells_the_tokens_of_a_prompt_beforehand():
    check_lengths(shared_model())


def check_lengths(model) -> None:
    said = [
        model.prompt_tokens(each.messages, [ImageSize(array.shape[1], array.shape[0]) for array in each.pictures])
        for each in PROMPTS
    ]
    assert said == [reply.input_tokens for reply in model.answer(PROMPTS, Decoding(1))]


def test_a_prompt_that_cannot_be_asked_has_no_length():
    with pytest.raises(DataError):
        shared_model().prompt_tokens([Message("user", "<image> where?")], [])
