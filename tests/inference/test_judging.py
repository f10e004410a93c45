"""A reply, or what came in its place, has one status and a reason; the same wherever it is judged."""

from __future__ import annotations

import pytest

from robointervlm.core.answer import Box
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError, RefusedError
from robointervlm.core.prompt import Reply
from robointervlm.inference.judging import Problem, judged, one_line, unasked
from robointervlm.tasks import task_named

TASK = task_named("current_box")
PER_MILLE = Space(CoordinateFormat.PER_MILLE, ImageSize(200, 100), ImageSize(200, 100))


def said(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(text, seconds=0.1, input_tokens=5, output_tokens=3, finish_reason=finish_reason)


def test_a_box_per_mille_is_ok_and_in_stored_pixels():
    found = judged(TASK, said("[100, 200, 500, 800]"), PER_MILLE, "Where?")
    assert found == ("ok", "", "[100, 200, 500, 800]", Box(20.0, 20.0, 100.0, 80.0))


@pytest.mark.parametrize(
    "result, status, reason",
    [
        (said("[1, 2, 3, 4]", "refused"), "refused", "the model declined to answer"),
        (said("[1, 2, 3, 4]", "error"), "model_error", "the model stopped with an error"),
        (RuntimeError("no\nmemory"), "model_error", "no memory"),
        (RefusedError("outside of the folder"), "refused", "outside of the folder"),
        (Problem("input_error", "no such file"), "input_error", "no such file"),
    ],
)
def test_what_is_no_answer_is_counted_with_its_reason(result, status, reason):
    found = judged(TASK, result, PER_MILLE, "Where?")
    assert (found.status, found.reason, found.answer) == (status, reason, None)


def test_a_reply_that_cannot_be_read_keeps_its_text():
    found = judged(TASK, said("somewhere"), PER_MILLE, "Where?")
    assert (found.status, found.text, found.answer) == ("unparsable", "somewhere", None)
    assert found.reason


def test_a_path_outside_is_refused_and_a_broken_image_an_input_error():
    assert unasked(RefusedError("a")) == ("refused", "a")
    assert unasked(DataError("b")) == ("input_error", "b")


def test_a_long_error_ends_with_an_ellipsis_at_500_letters():
    assert one_line(ValueError("x" * 501)) == "x" * 499 + "…"
    assert one_line(ValueError("x" * 500)) == "x" * 500
    assert one_line(ValueError()) == "ValueError"
