import numpy as np
from markupsafe import Markup

from robointervlm.core.answer import Box, Text
from robointervlm.report.fragments import SampleCard, figure, sample_cards, style_sheet

PICTURE = np.zeros((20, 40, 3), np.uint8)


def test_a_box_is_drawn_in_pixels_of_the_picture():
    piece = figure(PICTURE, Box(1, 2, 11, 7))
    assert 'viewBox="0 0 40 20"' in piece
    assert '<rect x="1.00" y="2.00" width="10.00" height="5.00"/>' in piece


def test_an_answer_in_words_leaves_the_picture_as_it_is():
    assert "<rect" not in figure(PICTURE, Text("left"))


def test_what_a_dataset_says_is_text_and_never_markup():
    piece = sample_cards([SampleCard("<b>1</b>", "chat", (), Markup(""), "<image>\n<script>alert(1)</script>")])
    assert "<script" not in piece
    assert "&lt;script&gt;" in piece
    assert "&lt;b&gt;1&lt;/b&gt;" in piece
    assert "image" not in piece


def test_the_style_sheet_changes_the_pieces_only():
    assert style_sheet().startswith(".pieces {")
    assert style_sheet().count("{") == style_sheet().count("}")
