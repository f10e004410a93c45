"""The tiny model is a Qwen2.5-VL in everything but size, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.models.tiny import SPECIAL_TOKENS, TinySize, tiny_model, tiny_tokenizer
from tiny_models import TEXTS, fresh_model, shared_model


def test_it_is_the_class_of_the_real_one():
    assert type(shared_model().network) is Qwen2_5_VLForConditionalGeneration
    assert shared_model().coordinates.value == "resized"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    assert fresh_model(seed=3).fingerprint == fresh_model(seed=3).fingerprint
    assert fresh_model(seed=3).fingerprint != fresh_model(seed=4).fingerprint


def test_making_one_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    fresh_model(seed=9)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_special_tokens_stand_in_the_order_of_qwen():
    tokenizer = tiny_tokenizer(TEXTS, 320)
    ids = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
    # In the Qwen2.5 tokenizer <|endoftext|> is 151643 and <|video_pad|> 151656, thirteen after it.
    assert ids == list(range(ids[0], ids[0] + 14))
    assert (ids[2] - ids[0], ids[9] - ids[0], ids[12] - ids[0]) == (1 + 1, 9, 12)


def test_a_larger_vocabulary_learns_the_words_it_is_shown():
    small, large = (len(tiny_tokenizer(TEXTS, size).encode("Where is the cup?")) for size in (270, 448))
    # 256 bytes and 14 special tokens: nothing is merged.
    assert small == len("Where is the cup?")
    assert large < 10


@pytest.mark.parametrize("text", ["", "\n\n", "  a  b ", "<|im_end|", "日本語 ünï", "a\tb\r\nc"])
def test_unusual_texts_are_written_and_read_back(text):
    chat = shared_model().encoder.chat
    assert chat.decoded(chat.tokenizer.encode(text)) == text


def test_the_default_size_is_the_one_of_the_demo():
    model = tiny_model(TEXTS, TinySize(), seed=0)
    # "about a million": small enough for one core.
    assert 0.7e6 < sum(parameter.numel() for parameter in model.network.parameters()) < 1.5e6


def test_height_and_width_share_most_rotary_pairs_and_some_stand_still():
    # Five in sixteen pairs each; of the other six two tell the order of a text, four match whatever the distance.
    rotary = shared_model().network.model.language_model.rotary_emb
    assert rotary.mrope_section == [6, 5, 5]
    frequencies = [round(frequency, 3) for frequency in rotary.inv_freq.tolist()]
    cells = [1.0, 0.562, 0.316, 0.178, 0.1]
    assert frequencies == [0.001, 0.001, 0.001, 0.001, 0.3, 1.0, *cells, *cells]
