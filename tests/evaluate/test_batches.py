"""What is asked at once: never more tokens than allowed, the longest first, questions on one picture together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import DataError, ModelError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.core.sample import ImageRef
from robointervlm.evaluate.batches import Batches
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.questions import Asked, Problem
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.records import Requested
from robointervlm.runs.journal import read_journal
from robointervlm.runs.settings import load_recipe
from robointervlm.tasks import task_named
from scripted_benchmark import make_benchmark
from tiny_models import box_dataset, saved_model


class Counting:
    """A model for which a prompt has as many tokens as its text has letters, and a picture ten."""

    name = "counting"
    coordinates = CoordinateFormat.PIXEL
    fingerprint = "counting"

    def processed_size(self, image: ImageSize) -> ImageSize:
        return image

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        raise NotImplementedError

    def prompt_tokens(self, messages: Sequence[Message], sizes: Sequence[ImageSize]) -> int:
        if messages[-1].text == "bad":
            raise DataError("cannot be asked")
        return len(messages[-1].text) + 10 * len(sizes)


def question(number: int, text: str, *, picture: str = "", new: int = 5, problem: Problem | None = None) -> Asked:
    requested = Requested(f"k{number}", f"q{number}", "d", "chat", "", (), None, None, "")
    references = (ImageRef(Path("/"), picture),) if picture else ()
    sizes = tuple(ImageSize(8, 8) for _ in references)
    messages = (Message("user", text),)
    return Asked(requested, task_named("chat"), references, messages, None, Decoding(new), problem, sizes)


def taken(waiting: Sequence[Asked], **how: int) -> list[list[str]]:
    batches = Batches(waiting, Counting(), **{"size": 16, **how})
    found = []
    while batches:
        found.append([each.requested.id for each in batches.take()])
    return found


def test_without_a_budget_batches_are_so_many_in_the_order_of_the_list():
    assert taken([question(number, "x" * number) for number in range(5)], size=2) == [
        ["q0", "q1"],
        ["q2", "q3"],
        ["q4"],
    ]


def test_a_batch_takes_what_its_rows_have_room_for_and_the_longest_come_first():
    # With 5 tokens of answer: 2 rows of 30 + 5 are 70, 3 would be 105; 4 rows of 10 + 5 are 60, all that are left.
    waiting = [question(number, "x" * length) for number, length in enumerate([10, 30, 10, 30, 10, 20, 10])]
    assert taken(waiting, tokens=75) == [["q1", "q3"], ["q5", "q0", "q2"], ["q4", "q6"]]


def test_a_question_that_is_longer_than_the_budget_is_asked_alone():
    assert taken([question(0, "x" * 99), question(1, "x" * 98), question(2, "x")], tokens=20) == [
        ["q0"],
        ["q1"],
        ["q2"],
    ]


def test_questions_on_one_picture_are_together():
    texts = [("xxxx", "a"), ("xxx", "b"), ("x", "a"), ("xx", "b"), ("xxxxx", "")]
    waiting = [question(number, text, picture=picture) for number, (text, picture) in enumerate(texts)]
    assert taken(waiting, tokens=1000) == [["q0", "q2", "q1", "q3", "q4"]]


def test_one_batch_has_one_kind_of_decoding():
    waiting = [question(number, "x", new=5 + number % 2) for number in range(4)]
    assert taken(waiting, tokens=1000) == [["q0", "q2"], ["q1", "q3"]]


def test_what_cannot_be_asked_has_no_length():
    waiting = [question(0, "bad"), question(1, "xx", problem=Problem("input_error", "no picture")), question(2, "x")]
    assert taken(waiting, tokens=1000) == [["q2", "q0", "q1"]]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["", "a", "b"]), st.sampled_from([5, 9]))),
    st.integers(1, 200),
)
def test_every_question_is_taken_once_and_no_batch_is_too_large(questions, tokens):
    waiting = [
        question(number, "x" * length, picture=picture, new=new)
        for number, (length, picture, new) in enumerate(questions)
    ]
    found = taken(waiting, tokens=tokens)
    assert Counter(sum(found, [])) == Counter(each.requested.id for each in waiting)
    known = {each.requested.id: each for each in waiting}
    for batch in found:
        rows = [len(known[name].messages[0].text) + 10 * len(known[name].sizes) for name in batch]
        assert len(batch) == 1 or len(batch) * (max(rows) + known[batch[0]].decoding.max_new_tokens) <= tokens


@pytest.mark.parametrize("tokens, smaller", [(None, 2), (60, 30)])
def test_a_batch_that_does_not_fit_comes_back_smaller(tokens, smaller):
    waiting = [question(number, "x" * 10) for number in range(4)]
    batches = Batches(waiting, Counting(), size=4, tokens=tokens)
    batch = batches.take()
    assert len(batch) == 4
    assert batches.retry_smaller(batch) == smaller
    assert batches.take() == batch[:2]
    assert batches.take() == batch[2:]


def test_a_model_that_cannot_measure_says_what_to_use(tmp_path):
    benchmark = make_benchmark(tmp_path, count=2)
    recipe = load_recipe(EvaluationRecipe, None, [*benchmark.overrides(tmp_path / "run"), "batch_tokens=100"])
    with pytest.raises(ModelError, match="use batch_size, not batch_tokens"):
        predict(recipe)


def test_a_real_model_answers_in_batches_of_tokens_as_one_by_one(tmp_path):
    catalog = box_dataset(tmp_path / "data", 6, wordy=2, bad=[3])
    replies = []
    for number, batching in enumerate(["batch_size=1", "batch_tokens=400"]):
        settings = [
            f"model.path={saved_model(tmp_path)}",
            "model.device=cpu",
            "data.mixture=[boxes]",
            f"data.catalog=[{catalog}]",
            "decoding.max_new_tokens=6",
            f"run.dir={tmp_path / str(number)}",
            batching,
        ]
        predict(load_recipe(EvaluationRecipe, None, settings))
        entries = read_journal(tmp_path / str(number) / "records.jsonl").entries
        replies.append({entry["id"]: (entry["reply"], entry["status"], entry["output_tokens"]) for entry in entries})
    assert replies[0] == replies[1]
    assert len(replies[0]) == 6
