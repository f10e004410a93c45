"""Boxes out of texts. The picture is 200x100, so that width and height cannot be confused unnoticed."""

import pytest

from robointervlm.core.answer import Box, Unparsed
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError
from robointervlm.core.reading import read_box

PIXELS = Space.pixels(ImageSize(200, 100))
BOX = Box(10, 20, 30, 40)


@pytest.mark.parametrize(
    "text",
    [
        '{"current_bbox": [[10, 20], [30, 40]]}',
        '{"current_bbox":[[10,20],[30,40]]}',
        '{"current_bbox": [[10, 20],\n  [30, 40]]}',
        "{'current_bbox': [[10, 20], [30, 40]]}",
        '{"current_bbox": [10, 20, 30, 40]}',
        '{"current_bbox": [["10", "20"], ["30", "40"]]}',
        "[10, 20, 30, 40]",
        "[10.0, 20.00, 3e1, 4.0E+1]",
        "[010, 20, 30, 40]",
        "[[10, 20], [30, 40]]",
        "[[[10, 20], [30, 40]]]",
        "[[10, 20, 30, 40]]",
        "(10, 20, 30, 40)",
        "(10, 20), (30, 40)",
        "[10, 20], [30, 40]]",
        "[(10, 20), (30, 40)]",
        "{10, 20, 30, 40} no: [10px, 20px, 30px, 40px]",
        '{"x1": 10, "y1": 20, "x2": 30, "y2": 40}',
        '{"x2": 30, "y2": 40, "x1": 10, "y1": 20}',
        '{"xmin": 10, "xmax": 30, "ymin": 20, "ymax": 40}',
        '{"left": 10, "top": 20, "right": 30, "bottom": 40}',
        '{"top_left": [10, 20], "bottom_right": [30, 40]}',
        '{"box": [{"x": 10, "y": 20}, {"x": 30, "y": 40}]}',
        "[x1: 10, y1: 20, x2: 30, y2: 40]",
        "bbox = [10, 20, 30, 40]",
        "The object is located at [[10, 20], [30, 40]].",
        "I see no brackets here { or here [ but the box is [10, 20, 30, 40]",
    ],
)
def test_lists_tuples_and_dictionaries_of_a_box_are_read(text):
    assert read_box(text, PIXELS).answer == BOX


@pytest.mark.parametrize(
    "text, tier",
    [
        ('{"current_bbox": [[10, 20], [30, 40]]}', "json"),
        ("[10, 20, 30, 40]", "json"),
        ("[(10, 20), (30, 40)]", "json"),
        ('```json\n{"current_bbox": [[10, 20], [30, 40]]}\n```', "fenced"),
        ("In the picture (1, 2):\n```\n[10, 20, 30, 40]\n```\nas asked.", "fenced"),
        ('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "cup 2"}]\n```', "fenced"),
        ("<|box_start|>(10,20),(30,40)<|box_end|>", "tags"),
        ("<ref>cup 2</ref><box>[[10, 20, 30, 40]]</box>", "tags"),
        ("<box>(10, 20), (30, 40)</box>", "tags"),
        ("<bbox>10 20 30 40</bbox>", "tags"),
        ("The box is (10, 20, 30, 40).", "brackets"),
        ("top-left corner: (10, 20), bottom-right corner: (30, 40)", "brackets"),
        ("x1: 10, y1: 20, x2: 30, y2: 40", "labels"),
        ("x1=10 y1=20 x2=30 y2=40", "labels"),
        ("left: 10, top: 20, right: 30, bottom: 40", "labels"),
        ("x: 10, y: 20 and x: 30, y: 40", "labels"),
        ("10, 20, 30, 40", "bare"),
        ("10 20 30 40", "bare"),
        ("The answer is 10, 20, 30, 40.", "bare"),
    ],
)
def test_the_form_a_box_was_found_in_is_told(text, tier):
    reading = read_box(text, PIXELS)
    assert (reading.answer, reading.tier) == (BOX, tier)


@pytest.mark.parametrize(
    "text",
    [
        "The 2 boxes: [10, 20, 30, 40]",
        'The 2 boxes: {"bbox": [[10.0, 20.0], [30.0, 40.0]]}',
        "Step 1: among 3 objects, the box is [[10, 20], [30, 40]]",
        "1. [10, 20, 30, 40]",
        "In 2D pixel space x1, y1, x2, y2 are (10, 20, 30, 40)",
        "bbox_2d: [[10.0, 20.0], [30.0, 40.0]]",
        '[{"label": "cup 3", "score": 0.9, "id": 7, "bbox_2d": [10, 20, 30, 40]}]',
        "[10, 20, 30, 40] I am 95% sure.",
        "I am 95% sure (0.95) that it is [10, 20, 30, 40]",
        "(Figure 2, page 3) shows it at [10, 20, 30, 40]",
        "The gripper is turned by (30°, 40°); the cup is at [10, 20, 30, 40]",
        "第2个框：[10, 20, 30, 40]",
        "Coordinates lie in [0, 1000]: [10, 20, 30, 40]",
        "The center is (20, 30); corners (10, 20), (30, 40).",
        "Image size (200, 100). Top left (10, 20), bottom right (30, 40).",
    ],
)
def test_numbers_that_are_not_coordinates_do_not_become_any(text):
    assert read_box(text, PIXELS).answer == BOX


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("I cannot find the object.", "no coordinates"),
        ("I see 0 objects", "two corners"),
        ("I see 2 boxes, 3 cups, 4 plates and 1 spoon", "two corners"),
        ("x1, y1, x2, y2", "no coordinates"),
        ("[10, 20, 30]", "two corners"),
        ("[[10, 20]]", "two corners"),
        ('{"current_bbox": null}', "no coordinates"),
        ('{"current_bbox": []}', "no coordinates"),
        ('{"current_bbox": [[12, 30], [', "two corners"),
        ('{"current_bbox": [[12, 30], [55', "two corners"),
        ("[10%, 20%, 50%, 60%]", "unit"),
        ("[10cm, 20cm, 30cm, 40cm]", "unit"),
        ("[1,000, 2,000, 3,000, 4,000]", "thousands"),
        ("[NaN, 1, 2, 3]", "finite"),
        ("[1, 2, Infinity, 3]", "finite"),
        ("[1e999, 1, 2, 3]", "finite"),
        ("[1e7, 1, 2, 3]", "large"),
        ("[10-30, 20-40]", "coordinate"),
        ("1.2.3 4", "two corners"),
        ('{"future_traj": [[1, 2], [3, 4]]}', "future_traj"),
        ("[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]", "two corners"),
        ("<think>the box is [10, 20, 30, 40]", "thinking"),
        ("<think>the box is [10, 20, 30, 40]</think>", "thinking"),
        ("x: 10, y: 20", "two corners"),
        ("width: 30, height: 40", "no coordinates"),
        ("图中有1、2、3、4个物体", "two corners"),
        ("移动10厘米，20厘米，30厘米，40厘米", "no coordinates"),  # noqa: RUF001
        ("between 2024-10-11 and 2024-12-24", "two corners"),
        ("at 12:30, 13:45, 14:20 and 15:10", "two corners"),
        ("a scale of 0-1000, 3/4 of 16:9", "two corners"),
        ("cups #1, #2, #3, #4", "two corners"),
        ("10 cm, 20 cm, 30 cm, 40 cm", "two corners"),
        ("the 1st, 2nd, 3rd and 4th", "no coordinates"),
    ],
)
def test_a_text_without_a_box_is_unparsed_with_a_reason(text, reason):
    reading = read_box(text, PIXELS)
    assert isinstance(reading.answer, Unparsed)
    assert reading.answer.text == text
    assert reading.tier == ""
    assert reason in reading.answer.reason


def test_minus_signs_are_kept():
    assert read_box("[[-5, 10], [20, 30]]", PIXELS).answer == Box(-5, 10, 20, 30)
    assert read_box("[-5, 10, 20, 30]", PIXELS).answer == Box(-5, 10, 20, 30)
    assert read_box("[−5, 10, 20, 30]", PIXELS).answer == Box(-5, 10, 20, 30)  # noqa: RUF001 - a typographic minus


def test_an_integer_answer_is_not_truncated_by_the_conversion():
    # 101 * 200 / 308 = 65.58…; the published scorer cut it to 65.
    resized = Space(CoordinateFormat.RESIZED, ImageSize(200, 100), ImageSize(308, 84))
    assert read_box("[0, 0, 101, 1]", resized).answer == Box(0, 0, 101 * 200 / 308, 100 / 84)


@pytest.mark.parametrize(
    "format_name, text",
    [("pixel", "[10, 20, 30, 40]"), ("unit", "[.05, 0.2, .15, 0.4]"), ("per_mille", "[50, 200, 150, 400]")],
)
def test_coordinates_come_back_in_pixels(format_name, text):
    space = Space(CoordinateFormat.named(format_name), ImageSize(200, 100))
    box = read_box(text, space).answer
    assert (box.x1, box.y1) == pytest.approx((10, 20))
    assert (box.x2, box.y2) == pytest.approx((30, 40))


def test_full_width_digits_and_signs_are_read():
    assert read_box("［１０，２０，３０，４０］", PIXELS).answer == BOX  # noqa: RUF001
    assert read_box("框的坐标为（10，20）、（30，40）。", PIXELS).answer == BOX  # noqa: RUF001


def test_swapped_corners_are_put_in_order_and_noted():
    reading = read_box("[[30, 40], [10, 20]]", PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("corners swapped",))
    assert read_box("[30, 20, 10, 40]", PIXELS).answer == BOX


def test_of_several_boxes_the_first_is_read_and_their_number_noted():
    reading = read_box("[[10, 20, 30, 40], [50, 60, 70, 80]]", PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("first of 2",))
    reading = read_box('[{"bbox_2d": [10, 20, 30, 40]}, {"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]', PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("first of 3",))
    reading = read_box("<box>(10,20),(30,40)</box>" + "<box>(1,2),(3,4)</box>" * 4, PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("first of 5",))


def test_the_asked_key_goes_before_the_others():
    text = '{"current_bbox": [[1, 2], [3, 4]], "final_bbox": [[10, 20], [30, 40]], "future_traj": [[5, 6], [7, 8]]}'
    assert read_box(text, PIXELS, key="final_bbox").answer == BOX
    assert read_box(text, PIXELS).answer == Box(1, 2, 3, 4)


def test_a_box_under_another_box_key_is_still_a_box():
    assert read_box('{"bbox": [[10, 20], [30, 40]]}', PIXELS, key="final_bbox").answer == BOX


def test_four_corners_of_an_upright_rectangle_are_one_box():
    reading = read_box("[[10, 20], [30, 20], [30, 40], [10, 40]]", PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("four corners",))
    assert read_box("[10, 20, 30, 20, 30, 40, 10, 40]", PIXELS).answer == BOX


def test_named_corners_are_found_whatever_their_order():
    text = "bottom-right: (30, 40), top-right: (30, 20), centre: (20, 30), top-left: (10, 20)"
    assert read_box(text, PIXELS).answer == BOX
    assert read_box("左上角(10, 20)，右上角(30, 20)，右下角(30, 40)", PIXELS).answer == BOX  # noqa: RUF001


def test_numbers_beyond_a_box_are_noted():
    assert read_box("[10, 20, 30, 40, 0.93]", PIXELS) == read_box("[[10, 20], [30, 40], [10, 20]]", PIXELS)
    assert read_box("[10, 20, 30, 40, 0.93]", PIXELS).notes == ("extra numbers",)


def test_width_and_height_by_name_make_a_box():
    reading = read_box('{"x": 10, "y": 20, "width": 20, "height": 20}', PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("width and height",))
    assert read_box('{"x": 10, "y": 20, "w": 20, "h": 20}', PIXELS).answer == BOX


def test_a_truncated_box_with_four_numbers_is_read_and_noted():
    reading = read_box('{"current_bbox": [[10, 20], [30, 40', PIXELS)
    assert (reading.answer, reading.notes) == (BOX, ("truncated",))
    assert read_box("<|box_start|>(10,20),(30,40", PIXELS).notes == ("truncated",)
    assert read_box('```json\n{"current_bbox": [[10, 20], [30, 40]]', PIXELS).notes == ("truncated",)


def test_the_cells_of_a_table_are_no_box():
    assert isinstance(read_box("| 1 | 10 | 20 | 30 |", PIXELS).answer, Unparsed)


def test_a_box_without_an_area_is_read():
    assert read_box("[[31, 34], [31, 34]]", PIXELS).answer == Box(31, 34, 31, 34)


@pytest.mark.parametrize(
    "text",
    [
        "<think>First [1, 2, 3, 4], no.</think>[10, 20, 30, 40]",
        "<thinking>[1, 2, 3, 4]</thinking>\n\n[10, 20, 30, 40]",
        "so it is [1, 2, 3, 4]</think>[10, 20, 30, 40]",  # the tag was opened by the prompt
        "<think>[1, 2, 3, 4]</think><answer>[10, 20, 30, 40]</answer>",
        "Maybe [1, 2, 3, 4]? <answer>[10, 20, 30, 40]</answer>",
        "[10, 20, 30, 40]<think>was that right? [1, 2, 3, 4]",
    ],
)
def test_thinking_is_not_an_answer(text):
    assert read_box(text, PIXELS).answer == BOX


@pytest.mark.parametrize(
    "text",
    [
        "system\nYou are helpful.\nuser\nFrom (1, 2) to [3, 4, 5, 6]. Answer as [[x1, y1], [x2, y2]].\nassistant\n"
        "[[10, 20], [30, 40]]",
        "<|im_start|>user\nWhere is [1, 2, 3, 4]?<|im_end|>\n<|im_start|>assistant\n[10, 20, 30, 40]<|im_end|>",
        "user\nA [1, 2, 3, 4]?\nassistant\n[5, 6, 7, 8]\nuser\nAnd?\nassistant\n[10, 20, 30, 40]",
    ],
)
def test_prompt_text_is_never_read_as_an_answer(text):
    assert read_box(text, PIXELS).answer == BOX


@pytest.mark.parametrize(
    "text", ["user\nWhere is [1, 2, 3, 4]?\nassistant\n", "system\nHi.\nuser\nIs it [1, 2, 3, 4]?"]
)
def test_a_prompt_without_an_answer_is_unparsed(text):
    assert "only the prompt" in read_box(text, PIXELS).answer.reason


def test_an_echoed_prompt_is_noted():
    assert read_box("user\nWhere?\nassistant\n[10, 20, 30, 40]", PIXELS).notes == ("after an echoed prompt",)


def test_a_box_without_an_image_is_refused_before_reading():
    with pytest.raises(DataError, match="no image"):
        read_box("[1, 2, 3, 4]", None)
