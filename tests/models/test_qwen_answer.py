"""Answers: a batch equals its single prompts, only the answer comes back, what is wrong concerns one prompt."""

from __future__ import annotations

import pytest
import torch

from robointervlm.core.errors import DataError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models.qwen2_5_vl.images import PixelLimits
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from tiny_models import SIZE, fresh_model, noise, shared_model

PROMPTS = [
    Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56, 1),)),
    Prompt(
        (Message("user", "<image>a<image> What is new in the second one?"),), (noise(60, 120, 2), noise(140, 70, 3))
    ),
    Prompt((Message("user", "Is it open?"),)),
]


def answers(model: Qwen25VL, prompts, **decoding) -> list[Reply]:
    replies = model.answer(prompts, Decoding(**{"max_new_tokens": 8, **decoding}))
    assert all(isinstance(reply, Reply) for reply in replies)
    return replies


def forced(token: int) -> Qwen25VL:
    """A model whose next token is always this one, if it is allowed: it scores ten times as high as the others."""
    model = fresh_model()
    with torch.no_grad():
        embedding = model.network.model.language_model.embed_tokens.weight
        embedding.zero_()
        embedding[:, 0] = 1.0
        embedding[token, 0] = 10.0
        for layer in model.network.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def test_a_mixed_batch_answers_as_each_prompt_alone():
    # With larger weights than usual, so that the random model does not only repeat the last token.
    model = fresh_model(size=SIZE.model_copy(update={"initializer_range": 0.4}))
    together = answers(model, PROMPTS)
    alone = [answers(model, [prompt])[0] for prompt in PROMPTS]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert [reply.output_tokens for reply in together] == [reply.output_tokens for reply in alone]
    assert [reply.input_tokens for reply in together] == [reply.input_tokens for reply in alone]
    assert len({reply.text for reply in together}) > 1


def test_an_answer_never_exceeds_the_tokens_allowed():
    for allowed in (1, 5):
        for reply in answers(shared_model(), PROMPTS, max_new_tokens=allowed):
            assert reply.output_tokens <= allowed
            assert reply.finish_reason == ("length" if reply.output_tokens == allowed else "stop")


def test_an_end_of_turn_stops_the_answer_and_is_not_part_of_it():
    model = shared_model()
    stop = forced(model.encoder.chat.turn_end_id)
    reply = answers(stop, PROMPTS[2:])[0]
    assert (reply.text, reply.output_tokens, reply.finish_reason) == ("", 0, "stop")


def test_an_image_token_is_never_generated():
    model = forced(shared_model().encoder.chat.image_token_id)
    generated = model._generated([model.encoder.encode_prompt(PROMPTS[2])], Decoding(max_new_tokens=4))
    assert model.encoder.chat.image_token_id not in generated[0]
    assert len(generated[0]) >= 1


def test_the_number_of_input_tokens_counts_the_picture():
    # 84x56 is 3 x 2 tokens of 28 pixels.
    model = shared_model()
    text = Prompt((Message("user", "\nWhere is the cup?"),))
    with_picture, without = answers(model, [PROMPTS[0], text])
    vision_start_and_end = 2
    assert with_picture.input_tokens - without.input_tokens == 6 + vision_start_and_end


def test_one_wrong_prompt_does_not_cost_the_others_their_answers():
    model = shared_model()
    wrong = Prompt((Message("user", "<image>\nWhere?"),))
    special = Prompt((Message("user", "Stop here <|im_end|> now"),))
    replies = model.answer([PROMPTS[0], wrong, special, PROMPTS[2]], Decoding(max_new_tokens=4))
    assert isinstance(replies[1], DataError)
    assert isinstance(replies[2], DataError)
    expected = answers(model, [PROMPTS[0], PROMPTS[2]], max_new_tokens=4)
    assert [replies[0].text, replies[3].text] == [reply.text for reply in expected]


def test_only_wrong_prompts_are_only_errors():
    replies = shared_model().answer([Prompt((Message("user", "<image>"),))], Decoding())
    assert [type(reply) for reply in replies] == [DataError]


def test_sampling_follows_its_seed_and_leaves_the_global_generator_alone():
    model = shared_model()
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first, again, other = (
        [reply.text for reply in answers(model, PROMPTS, temperature=2.0, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_generation_config_of_a_checkpoint_does_not_cut_the_sampling():
    # The hub's has top_k 1 and top_p 0.001, with which every temperature is greedy.
    model = fresh_model()
    model.network.generation_config.top_k = 1
    model.network.generation_config.top_p = 0.001
    model.network.generation_config.repetition_penalty = 1.05
    assert [reply.text for reply in answers(model, PROMPTS, temperature=2.0)] == [
        reply.text for reply in answers(shared_model(), PROMPTS, temperature=2.0)
    ]
    assert [reply.text for reply in answers(model, PROMPTS)] == [
        reply.text for reply in answers(shared_model(), PROMPTS)
    ]


def test_the_fingerprint_follows_a_single_weight():
    model = fresh_model()
    before = model.fingerprint
    assert before == model.fingerprint == fresh_model().fingerprint
    with torch.no_grad():
        model.network.model.visual.patch_embed.proj.weight[0, 0, 0, 0, 0] += 1e-3
    assert model.fingerprint != before


def test_the_fingerprint_follows_the_pixel_limits_and_the_precision():
    model = fresh_model()
    before = model.fingerprint
    model.encoder.limits = PixelLimits(max_pixels=50176)
    limited = model.fingerprint
    assert limited != before
    model.network.to(torch.bfloat16)
    assert model.fingerprint not in (before, limited)


def test_the_size_a_picture_is_seen_in_is_that_of_its_patches():
    # 180x320 is published as 168x308.
    assert shared_model().processed_size((320, 180)) == (308, 168)


@pytest.mark.parametrize("count", [0])
def test_no_prompts_have_no_answers(count):
    assert shared_model().answer([], Decoding()) == []
