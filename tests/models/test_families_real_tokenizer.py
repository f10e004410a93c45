"""The evaluated-only families with the real Qwen2.5 tokenizer, where its file is at hand."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models._shared.chat_model import ChatModel
from robointervlm.models.model import load_model
from tiny_families import make_checkpoint, section_of
from tiny_models import noise, shared_data

REAL = shared_data() / "qwen2_5_vl_processor"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real tokenizer is not here")

# Qwen2.5's own tokens end at 151664; what a family adds is numbered on from there. InternVL's is the number that its
# released config.json has.
IMAGE_TOKENS = {
    "qwen2_vl": 151655,
    "qwen3_vl": 151655,
    "internvl": 151667,
    "llava_onevision": 151665,
    "llava_next": 151665,
}
PROMPTS = [
    Prompt((Message("user", "<image>\nWhere is the cup? Answer with a box."),), (noise(320, 180, 1),)),
    Prompt((Message("user", "Compare <image> with <image>: is it open?"),), (noise(84, 56, 2), noise(60, 120, 3))),
]


@pytest.mark.parametrize("family", IMAGE_TOKENS)
def test_a_family_reads_and_answers_in_real_tokens(family, tmp_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(REAL / "tokenizer.json"),
        chat_template=(REAL / "chat_template.jinja").read_text(),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    assert len(tokenizer) == 151665
    model = load_model(section_of(family, make_checkpoint(family, tmp_path, tokenizer=tokenizer)))
    assert isinstance(model, ChatModel)
    assert model.chat.image_token_id == IMAGE_TOKENS[family]
    tokens = tokenizer.convert_ids_to_tokens(model.question(PROMPTS[0]).ids.tolist())
    assert tokens[-15:-4] == ["Where", "Ġis", "Ġthe", "Ġcup", "?", "ĠAnswer", "Ġwith", "Ġa", "Ġbox", ".", "<|im_end|>"]
    together = model.answer(PROMPTS, Decoding(max_new_tokens=5))
    alone = [model.answer([prompt], Decoding(max_new_tokens=5))[0] for prompt in PROMPTS]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Reply)
        assert isinstance(other, Reply)
        assert (one.text, one.output_tokens) == (other.text, other.output_tokens)
    assert together[0].text != together[1].text
