"""What `predict` does with a model that has many questions in flight."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError, RecipeError, RoboInterError, StoppedError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.runs.journal import read_journal
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import make_benchmark


class Streaming:
    """Answers three at a time, the last one first, and notes how many records there were at each answer."""

    name = "streaming"
    coordinates = CoordinateFormat.PIXEL
    fingerprint = "streaming"

    def __init__(self, folder: Path, *, fails: RoboInterError | None = None, fails_after: int = 0) -> None:
        self.kept: list[int] = []
        self.earlier = (0, 0)
        self.closed = False
        self._journal = folder / "records.jsonl"
        self._fails = fails
        self._fails_after = fails_after

    def processed_size(self, image: ImageSize) -> ImageSize:
        return image

    def answer(self, prompts: object, decoding: object) -> list[Reply | Exception]:
        raise NotImplementedError

    def answer_each(self, questions: Iterable[tuple[Prompt, Decoding]]) -> Generator[tuple[int, Reply | Exception]]:
        try:
            waiting = list(enumerate(questions))
            for start in range(0, len(waiting), 3):
                for index, _ in reversed(waiting[start : start + 3]):
                    self.kept.append(len(read_journal(self._journal).entries))
                    if self._fails is not None and len(self.kept) > self._fails_after:
                        raise self._fails
                    yield index, ModelError("lost") if index == 4 else Reply(f"[{index}, 1, 90, 90]", 0.1, 10, 2)
        finally:
            self.closed = True

    def count_earlier(self, input_tokens: int, output_tokens: int, answers: int) -> None:
        self.earlier = (input_tokens, output_tokens)

    def usage(self) -> dict[str, object]:
        return {"requests": len(self.kept)}


def recipe_of(tmp_path: Path) -> EvaluationRecipe:
    return load_recipe(EvaluationRecipe, None, make_benchmark(tmp_path, count=6).overrides(tmp_path / "run"))


def test_each_answer_is_kept_before_the_next_one_is_taken(tmp_path):
    model = Streaming(tmp_path / "run")
    outcome = predict(recipe_of(tmp_path), model=model)
    assert model.kept == [0, 1, 2, 3, 4, 5]
    assert outcome.counts == {"ok": 5, "model_error": 1}
    entries = read_journal(tmp_path / "run" / "records.jsonl").entries
    assert [entry["id"][-1] for entry in entries] == ["2", "1", "0", "5", "4", "3"]
    assert [entry["reply"] for entry in entries if entry["id"][-1] == "5"] == ["[5, 1, 90, 90]"]
    assert json.loads((tmp_path / "run" / "usage.json").read_text()) == {"requests": 6}


def test_only_what_has_no_answer_is_asked_again_and_what_was_used_is_told(tmp_path):
    predict(recipe_of(tmp_path), model=Streaming(tmp_path / "run"))
    again = Streaming(tmp_path / "run")
    predict(recipe_of(tmp_path), model=again)
    assert again.kept == [6]
    assert again.earlier == (50, 10)


@pytest.mark.parametrize("error", [RecipeError("the key is refused"), StoppedError("the quota is spent")])
def test_an_error_of_the_whole_run_ends_it_and_keeps_what_came(tmp_path, error):
    model = Streaming(tmp_path / "run", fails=error, fails_after=2)
    with pytest.raises(type(error), match=str(error)):
        predict(recipe_of(tmp_path), model=model)
    assert model.closed
    assert len(read_journal(tmp_path / "run" / "records.jsonl").entries) == 2
    assert (tmp_path / "run" / "usage.json").exists()


def test_a_picture_that_is_damaged_costs_no_request(tmp_path):
    recipe = recipe_of(tmp_path)
    (tmp_path / "images" / "0001.png").write_bytes(b"no picture")
    outcome = predict(recipe, model=Streaming(tmp_path / "run"))
    assert outcome.counts["input_error"] == 1
    assert sum(outcome.counts.values()) == 6
