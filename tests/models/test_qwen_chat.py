"""Conversations as tokens: the published prompts, the answers that are learned, what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from robointervlm.core.errors import DataError, ModelError
from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl import chat as chat_module
from robointervlm.models.qwen2_5_vl.chat import IGNORED, Chat
from robointervlm.models.qwen2_5_vl.images import Grid
from robointervlm.models.tiny import CHAT_TEMPLATE
from tiny_models import shared_data, shared_model

TWO = Grid(1, 2, 4)
SIX = Grid(1, 4, 6)


@pytest.fixture(scope="module")
def official() -> Chat:
    folder = shared_data() / "qwen2_5_vl_processor"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; it holds the published tokenizer, which is no part of the project")
    return Chat(
        PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            chat_template=(folder / "chat_template.jinja").read_text(),
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
        )
    )


@pytest.fixture(scope="module")
def chat() -> Chat:
    return shared_model().encoder.chat


def golden(case: int) -> dict:
    folder = shared_data() / "qwen2_5_vl_processor"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; it holds published prompts, which are no part of the project")
    return json.loads((folder / "golden_render_tokenize.json").read_text())["cases"][case]


def published_ids(case: dict) -> list[int]:
    """The run of image tokens is left out of the published list; it says where and how many."""
    ids = list(case["input_ids_with_runs"])
    if case["n_image_pad_tokens"]:
        after = case["image_pad_insert_after_index"] + 1
        ids[after:after] = [151655] * case["n_image_pad_tokens"]
    return ids


def messages_of(case: dict) -> list[Message]:
    made = []
    for message in case["messages"]:
        content = message["content"]
        if not isinstance(content, str):
            content = "".join("<image>" if part["type"] == "image" else part["text"] for part in content)
        made.append(Message(message["role"], content))
    return made


@pytest.mark.parametrize("number", range(4))
def test_the_published_prompts_render_and_tokenize_to_the_published_ids(official, number):
    case = golden(number)
    messages = messages_of(case)
    assert official.rendered(messages, open_answer=True) == case["rendered_prompt"]
    count = case["n_image_pad_tokens"]
    ids = official.prompt(messages, [Grid(1, 2, 2 * count)] if count else []).tolist()
    assert ids == published_ids(case)
    assert len(ids) == case["input_sequence_length"]
    assert hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest() == case["input_ids_sha256"]


def test_special_tokens_have_the_published_ids(official):
    assert (official.image_token_id, official.turn_end_id) == (151655, 151645)


CONVERSATIONS = {
    "one picture": [Message("user", "<image>\nWhere is the cup?")],
    "picture at the end": [Message("user", "Where is the cup?\n<image>")],
    "several pictures": [Message("user", "<image><image>\nWhat changed between <image> and now?")],
    "a system message": [Message("system", "Answer briefly."), Message("user", "<image>Who?")],
    "several turns": [
        Message("user", "<image>\nWho?"),
        Message("assistant", "A man."),
        Message("user", "Where?"),
        Message("assistant", "Here <image>."),
    ],
    "text only": [Message("user", "  What is 2 + 2? \n")],
}


@pytest.mark.parametrize("open_answer", [True, False])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_template_of_the_tiny_model_renders_as_the_published_one(official, chat, name, open_answer):
    messages = CONVERSATIONS[name]
    assert chat.rendered(messages, open_answer=open_answer) == official.rendered(messages, open_answer=open_answer)


def test_the_template_writes_a_conversation_as_qwen_does(chat):
    assert chat.rendered([Message("user", "<image>\nWho?")], open_answer=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>\nWho?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_tiny_template_is_the_one_that_is_saved(chat):
    assert chat.tokenizer.chat_template == CHAT_TEMPLATE


def test_digits_are_single_tokens(chat):
    assert [chat.tokenizer.decode([i]) for i in chat.tokenizer.encode("[314, 15.92]")][1:4] == ["3", "1", "4"]
    for number in ("2026", "0.25", "100000"):
        assert len(chat.tokenizer.encode(number)) == len(number)


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_survives_the_tiny_tokenizer(text):
    chat = shared_model().encoder.chat
    plain = unicodedata.normalize("NFC", text)
    if any(token in plain for token in chat.special_tokens):
        return
    ids = chat.tokenizer.encode(text, add_special_tokens=False)
    assert chat.decoded(ids) == plain


def learned(chat: Chat, messages, grids) -> list[str]:
    """The runs of supervised tokens, as text."""
    tokens = chat.supervised(messages, grids)
    runs: list[list[int]] = []
    for index, (token, label) in enumerate(zip(tokens.ids, tokens.labels, strict=True)):
        if label == IGNORED:
            continue
        assert token == label
        if index == 0 or tokens.labels[index - 1] == IGNORED:
            runs.append([])
        runs[-1].append(int(token))
    return [chat.tokenizer.decode(run) for run in runs]


def test_only_the_answer_and_its_end_are_learned(chat):
    messages = [Message("user", "<image>\nWhere is the cup?"), Message("assistant", "[1, 2]")]
    assert learned(chat, messages, [SIX]) == ["[1, 2]<|im_end|>"]


def test_every_answer_of_several_turns_is_learned(chat):
    messages = [
        Message("system", "Answer briefly."),
        Message("user", "Who are they?<image>"),
        Message("assistant", "Two men."),
        Message("user", "<image>And here?"),
        Message("assistant", "The assistant\n says: user."),
    ]
    assert learned(chat, messages, [TWO, SIX]) == ["Two men.<|im_end|>", "The assistant\n says: user.<|im_end|>"]


def test_a_supervised_conversation_reads_as_the_template_writes_it(chat):
    messages = CONVERSATIONS["several turns"][:3] + [Message("assistant", "Here.")]
    tokens = chat.supervised(messages, [Grid(1, 2, 2)])
    assert chat.tokenizer.decode(tokens.ids) + "\n" == chat.rendered(messages, open_answer=False)


def test_a_prompt_is_the_beginning_of_the_conversation_that_is_learned(chat):
    question = Message("user", "Where is the cup?\n<image>")
    prompt = chat.prompt([question], [TWO])
    whole = chat.supervised([question, Message("assistant", "Here.")], [TWO])
    assert np.array_equal(whole.ids[: len(prompt)], prompt)
    assert (whole.labels[: len(prompt)] == IGNORED).all()
    assert (whole.labels[len(prompt) :] != IGNORED).all()


def test_each_marker_becomes_as_many_tokens_as_its_picture_takes(chat):
    ids = chat.prompt([Message("user", "<image>a<image>b")], [TWO, SIX])
    is_image = (ids == chat.image_token_id).tolist()
    first = is_image.index(True)
    assert is_image[first : first + 2] == [True, True]
    assert not is_image[first + 2]
    assert sum(is_image) == 8


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>"])
def test_special_tokens_in_a_text_are_refused(chat, role, token):
    messages = [Message("user", "<image>Who?"), Message("assistant", "A man.")]
    messages.insert(0, Message("system", "Be brief."))
    messages = [Message(m.role, m.text + token) if m.role == role else m for m in messages]
    with pytest.raises(DataError, match="special token"):
        chat.supervised(messages, [TWO])


def test_more_markers_than_pictures_are_refused(chat):
    with pytest.raises(DataError, match="2 <image> markers in the text, but 1 pictures"):
        chat.prompt([Message("user", "<image><image>Who?")], [TWO])


def test_a_conversation_without_an_answer_is_refused(chat):
    with pytest.raises(DataError, match="without an answer"):
        chat.supervised([Message("user", "Who?")], [])


def test_a_tokenizer_without_a_template_is_refused(chat):
    bare = PreTrainedTokenizerFast(tokenizer_object=chat.tokenizer._tokenizer)
    with pytest.raises(ModelError, match="chat template"):
        Chat(bare)


def test_a_chat_can_be_sent_to_another_process(chat):
    again = pickle.loads(pickle.dumps(chat))
    assert again.rendered([Message("user", "Who?")], open_answer=True) == chat.rendered(
        [Message("user", "Who?")], open_answer=True
    )


def rendered_by_the_template(chat: Chat, messages, *, open_answer: bool) -> str:
    """What transformers writes, each conversation anew."""
    content = []
    for message in messages:
        pieces = message.text.split("<image>")
        if message.role != "user" or len(pieces) == 1:
            content.append({"role": message.role, "content": message.text})
            continue
        parts = [{"type": "text", "text": pieces[0]}]
        for piece in pieces[1:]:
            parts += [{"type": "image"}, {"type": "text", "text": piece}]
        content.append({"role": message.role, "content": [part for part in parts if part.get("text") != ""]})
    return chat.tokenizer.apply_chat_template(content, tokenize=False, add_generation_prompt=open_answer)


TEXTS = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from(["<image>", "{{ x }}", "{% if %}", " \n", "&<>", "\ue0000\ue002"]))
).map("".join)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXTS), min_size=1, max_size=5)


@given(MESSAGES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_conversation_is_written_as_its_template_renders_it(messages, open_answer):
    chat = shared_model().encoder.chat
    expected = rendered_by_the_template(chat, messages, open_answer=open_answer)
    assert chat.rendered(messages, open_answer=open_answer) == expected


@given(MESSAGES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_conversation_is_written_as_the_published_template_renders_it(official, messages, open_answer):
    expected = rendered_by_the_template(official, messages, open_answer=open_answer)
    assert official.rendered(messages, open_answer=open_answer) == expected


@pytest.mark.parametrize(
    "change",
    ["message.content | trim", "message.content | upper", "message.content | e", "message.content + message.content"],
)
def test_a_template_that_changes_texts_is_rendered_each_time(chat, change):
    template = "{% for message in messages %}[{{ " + change + " }}]{% endfor %}"
    other = Chat(PreTrainedTokenizerFast(tokenizer_object=chat.tokenizer._tokenizer, chat_template=template))
    for text in (" a & b \n", "c < d", "e"):
        expected = other.tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
        assert other.rendered([Message("user", text)], open_answer=False) == expected


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_text_has_the_tokens_that_transformers_gives_it(official, text):
    messages = [Message("user", text.replace("<image>", ""))]
    rendered = official.rendered(messages, open_answer=True)
    assert official.prompt(messages, []).tolist() == official.tokenizer.encode(rendered, add_special_tokens=False)


def test_a_tokenizer_that_would_cut_does_not(chat):
    cutting = PreTrainedTokenizerFast(tokenizer_object=chat.tokenizer._tokenizer, chat_template=CHAT_TEMPLATE)
    cutting.backend_tokenizer.enable_truncation(3)
    messages = [Message("user", "Where is the red cup now?")]
    assert Chat(cutting).prompt(messages, []).tolist() == chat.prompt(messages, []).tolist()


@given(MESSAGES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_is_remembered_of_stretches_of_text_has_the_tokens_of_the_whole(official, messages, open_answer):
    rendered = official.rendered(messages, open_answer=open_answer)
    assert official._ids(rendered).tolist() == official.tokenizer.encode(rendered, add_special_tokens=False)


def test_a_tokenizer_to_which_the_beginning_of_a_text_matters_is_given_it_whole(chat):
    # As SentencePiece does it: a blank before the first word, and none after a special token.
    backend = tokenizers.Tokenizer(WordLevel({"\u2581a": 0, "a": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = Metaspace(prepend_scheme="first")
    backend.add_special_tokens(["<|image_pad|>", "<|im_end|>"])
    other = Chat(PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=CHAT_TEMPLATE))
    assert other._ids("a<|im_end|>a").tolist() == [0, 4, 1]
    assert chat._between is not None


def test_no_more_stretches_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(chat_module, "KEPT_STRETCHES", 3)
    chat = Chat(shared_model().encoder.chat.tokenizer)
    for number in range(9):
        assert chat.decoded(chat._ids(f"number {number}")) == f"number {number}"
        assert len(chat._encoded) <= 3
