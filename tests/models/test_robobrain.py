"""RoboBrain 2.0: a Qwen2.5-VL that begins with its answer or with a thought, and whose tags do not reach the reader."""

from __future__ import annotations

import pytest

from robointervlm.core.answer import Box, Unparsed
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.core.reading import read_box
from robointervlm.models.model import load_model
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from tiny_families import make_checkpoint
from tiny_models import noise

PROMPTS = [
    Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56, 1),)),
    Prompt((Message("user", "Is it open?"),)),
]
SPACE = Space(CoordinateFormat.RESIZED, ImageSize(28, 28), ImageSize(28, 28))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoint("robobrain", tmp_path_factory.mktemp("robobrain") / "model")


def loaded(folder, **more) -> Qwen25VL:
    model = load_model({"path": str(folder), "device": "cpu", "family": "robobrain", **more})
    assert isinstance(model, Qwen25VL)
    return model


def said(monkeypatch, model: Qwen25VL, text: str) -> str:
    """The reply of a model that generates this text."""
    reply = Reply(text, 0.0, 1, 1)
    monkeypatch.setattr(Qwen25VL, "answer", lambda *_: [reply, ValueError("x")])
    kept, error = model.answer(PROMPTS, Decoding())
    assert isinstance(error, ValueError)
    return kept.text


@pytest.mark.parametrize("thinking, opening", [(False, "<think></think><answer>"), (True, "<think>")])
def test_an_answer_is_opened_as_the_published_code_opens_it(folder, thinking, opening):
    model = loaded(folder, thinking=thinking)
    ids = model.encoder.encode_prompt(PROMPTS[1]).ids
    assert model.encoder.chat.tokenizer.decode(ids).endswith(f"<|im_end|>\n<|im_start|>assistant\n{opening}")


def test_its_config_alone_makes_it_a_qwen2_5_vl(folder):
    plain = load_model({"path": str(folder), "device": "cpu"})
    assert type(plain) is Qwen25VL
    assert plain.fingerprint != loaded(folder).fingerprint != loaded(folder, thinking=True).fingerprint


def test_the_tags_of_an_answer_are_taken_off(folder, monkeypatch):
    assert said(monkeypatch, loaded(folder), "[1, 2, 13, 14]</answer>") == "[1, 2, 13, 14]"
    assert said(monkeypatch, loaded(folder), " B </answer>") == "B"


def test_an_answer_after_a_thought_is_read_without_it(folder, monkeypatch):
    model = loaded(folder, thinking=True)
    whole = said(monkeypatch, model, "It is at [5, 6, 7, 8].</think><answer>[1, 2, 13, 14]</answer>")
    assert read_box(whole, SPACE, key="bbox").answer == Box(1, 2, 13, 14)


def test_a_thought_that_was_cut_off_is_no_answer(folder, monkeypatch):
    cut = said(monkeypatch, loaded(folder, thinking=True), "It is at [5, 6, 7, 8], or")
    assert isinstance(read_box(cut, SPACE, key="bbox").answer, Unparsed)
