"""A sample as the conversation that is taught, and as it is shown before step 0."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from robointervlm.core.answer import Box, Points, Text, Trajectory, YesNo
from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.prompt import Message
from robointervlm.core.sample import Place, Turn
from robointervlm.train.callbacks.preview import drawn, marked
from robointervlm.train.data.labels import model_space, sample_texts, taught
from tiny_models import noise, shared_model

IMAGE = ImageSize(320, 180)
TURNS = (Turn(("<image>\nFrom ", Place(((160.0, 90.0),), "[{}, {}]"), "?"), Box(80, 45, 160, 90)),)


@pytest.mark.parametrize(
    "format_, question, numbers",
    [
        (CoordinateFormat.PIXEL, "[160, 90]", "[[80, 45], [160, 90]]"),
        (CoordinateFormat.UNIT, "[0.5, 0.5]", "[[0.25, 0.25], [0.5, 0.5]]"),
        # README_DATA: 320x180 is seen as 308x168; 80*308/320 = 77, 45*168/180 = 42, 160*308/320 = 154, 90*168/180 = 84.
        (CoordinateFormat.RESIZED, "[154, 84]", "[[77, 42], [154, 84]]"),
    ],
)
def test_question_and_answer_are_written_in_the_models_format(format_, question, numbers):
    space = model_space(format_, IMAGE, ImageSize(308, 168))
    asked, answered = taught("current_box", TURNS, space)
    assert asked == Message("user", f"<image>\nFrom {question}?")
    assert answered.role == "assistant"
    assert numbers in answered.text


def test_a_sample_without_a_picture_has_no_space():
    assert model_space(CoordinateFormat.RESIZED, None, None) is None
    assert taught("chat", (Turn(("Who?",), Text("A man.")),), None)[1] == Message("assistant", "A man.")


def test_the_texts_for_a_small_tokenizer_hold_the_words_of_the_template():
    assert "system\nYou are a helpful assistant.\nuser\nassistant\n" in list(sample_texts(None))


def test_what_is_learned_is_marked_and_pictures_are_counted():
    encoder = shared_model().encoder
    encoded = encoder.encode([Message("user", "<image>Who?"), Message("assistant", "A man.")], [noise(84, 56)])
    assert marked(encoded, encoder.chat) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>[6 image tokens]"
        "<|vision_end|>Who?<|im_end|>\n<|im_start|>assistant\n«A man.<|im_end|>»"
    )


@pytest.mark.parametrize(
    "answer, place", [(Box(20, 10, 60, 40), (20, 20)), (Trajectory(((10, 20), (70, 20))), (40, 20))]
)
def test_the_answer_is_drawn_where_it_is(tmp_path, answer, place):
    drawn([np.zeros((60, 80, 3), dtype=np.uint8)], [answer], tmp_path / "a.png")
    shown = np.asarray(Image.open(tmp_path / "a.png"))
    assert shown.shape == (480, 640, 3)
    assert tuple(shown[place[1] * 8, place[0] * 8]) == (22, 163, 74)


@pytest.mark.parametrize("answer", [YesNo(yes=True), Points(((1000.0, -5.0),))])
def test_what_cannot_be_drawn_leaves_the_picture(tmp_path, answer):
    drawn([np.zeros((60, 80, 3), dtype=np.uint8)], [answer], tmp_path / "a.png")
    assert not np.asarray(Image.open(tmp_path / "a.png")).any()
