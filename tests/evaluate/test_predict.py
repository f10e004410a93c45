from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from robointervlm.core.answer import Text
from robointervlm.core.coordinates import CoordinateFormat, ImageSize, Space
from robointervlm.core.errors import DataError, RecipeError, RefusedError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.core.sample import Sample, Turn
from robointervlm.evaluate.predict import Outcome, predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.models.scripted import question_of
from robointervlm.runs.journal import read_journal
from robointervlm.runs.settings import load_recipe
from robointervlm.tasks import task_named
from scripted_benchmark import make_benchmark


def recipe_of(benchmark, out: Path, *overrides: str) -> EvaluationRecipe:
    return load_recipe(EvaluationRecipe, None, [*benchmark.overrides(out), *overrides])


def text_sample(number: int) -> Sample:
    return Sample(f"q{number}", "chat", "talk", (), (Turn((f"Question {number}",), Text("yes")),), None)


def asked(out: Path, model: object, count: int = 8, batch_size: int = 8) -> Outcome:
    recipe = load_recipe(
        EvaluationRecipe,
        None,
        ["model.family=fake", "data.mixture=[unused]", f"run.dir={out}", f"batch_size={batch_size}"],
    )
    return predict(recipe, model=model, samples=[text_sample(number) for number in range(count)])  # type: ignore[arg-type]


class Fake:
    """A model whose batches fail as a test wants them to."""

    name = "fake"
    coordinates = CoordinateFormat.PIXEL
    fingerprint = "fake"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def processed_size(self, image: ImageSize) -> ImageSize:
        return image

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        self.batches.append(len(prompts))
        return [self.one(question_of(prompt)) for prompt in prompts]

    def one(self, question: str) -> Reply | Exception:
        return Reply("yes", 0.1, 3, 1)


def test_every_question_gets_a_record_that_stands_alone(tmp_path):
    benchmark = make_benchmark(tmp_path, count=10)
    outcome = predict(recipe_of(benchmark, tmp_path / "run"))
    assert outcome.counts == {"ok": 9, "unparsable": 1}
    record = read_journal(tmp_path / "run" / "records.jsonl").entries[1]
    assert record["prompt"] == "<image>\nWhere is object 1?"
    assert record["answer"] == {"box": [45.0, 33.0, 76.0, 56.0]}
    assert (record["format"], record["image_size"], record["episode"]) == ("pixel", [196, 112], "episode-0")
    assert (record["status"], record["finish_reason"], record["output_tokens"]) == ("ok", "stop", 5)


@pytest.mark.parametrize("coordinates", ["pixel", "unit", "per_mille", "resized"])
@pytest.mark.parametrize("task", ["current_box", "traj_wo_init_pos", "contact_point"])
def test_the_truth_in_the_models_own_coordinates_is_a_perfect_score(tmp_path, coordinates, task):
    benchmark = make_benchmark(tmp_path, task=task, count=6, coordinates=coordinates)
    space = Space(CoordinateFormat(coordinates), ImageSize(196, 112), ImageSize(196, 112))
    records = json.loads(benchmark.file.read_text())
    pixels = Space.pixels(ImageSize(196, 112))
    known = task_named(task)
    answers = {}
    for record in records:
        truth = known.read(record["ground_truth"], pixels)
        answers[record["question"].replace("<image>\n", "")] = known.write(truth, space)  # type: ignore[arg-type]
    (benchmark.model / "answers.json").write_text(json.dumps(answers))

    predict(recipe_of(benchmark, tmp_path / "run"))
    report = score(tmp_path / "run")

    [group] = report["tasks"]  # type: ignore[misc]
    metric = {each["name"]: each["mean"] for each in group["metrics"]}
    # Two decimals of a 196-pixel-wide picture are steps of 1.96 pixels.
    if task == "current_box":
        assert metric["IoU"] > (0.9 if coordinates == "unit" else 0.97)
    else:
        assert next(iter(metric.values())) < {"unit": 10.0, "per_mille": 1.0}.get(coordinates, 1e-9)


def test_the_place_in_a_question_is_written_in_the_models_coordinates(tmp_path):
    benchmark = make_benchmark(tmp_path, task="traj_wo_init_pos", count=1, coordinates="per_mille")
    [record] = json.loads(benchmark.file.read_text())
    record["question"] = "<image>\nThe gripper is at [98, 56]. Where will it go?"
    benchmark.file.write_text(json.dumps([record]))
    recipe = recipe_of(benchmark, tmp_path / "run", "data.task=traj", "max_error_rate=1")
    predict(recipe)
    [entry] = read_journal(tmp_path / "run" / "records.jsonl").entries
    assert entry["prompt"] == "<image>\nThe gripper is at [500, 500]. Where will it go?"


def test_a_missing_and_a_damaged_picture_cost_their_own_samples_only(tmp_path):
    benchmark = make_benchmark(tmp_path, count=6)
    (benchmark.images / "0001.png").unlink()
    whole = (benchmark.images / "0002.png").read_bytes()
    (benchmark.images / "0002.png").write_bytes(whole[: len(whole) // 2])
    outcome = predict(recipe_of(benchmark, tmp_path / "run"))
    assert outcome.counts == {"ok": 4, "input_error": 2}
    assert outcome.error_rate == pytest.approx(2 / 6)
    reasons = [str(entry["reason"]) for entry in read_journal(tmp_path / "run" / "records.jsonl").entries]
    assert any("No such file" in reason for reason in reasons)
    assert any("damaged" in reason for reason in reasons)


def test_a_repaired_picture_is_asked_when_the_command_is_run_again(tmp_path):
    benchmark = make_benchmark(tmp_path, count=4)
    hidden = (benchmark.images / "0001.png").rename(tmp_path / "away.png")
    predict(recipe_of(benchmark, tmp_path / "run"))
    hidden.rename(benchmark.images / "0001.png")
    outcome = predict(recipe_of(benchmark, tmp_path / "run"))
    assert (outcome.counts, outcome.reused) == ({"ok": 4}, 3)


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path):
    benchmark = make_benchmark(tmp_path, count=3)
    records = json.loads(benchmark.file.read_text())
    records[0]["image_path"] = "../../../etc/passwd"
    records[0] |= {"w": 196, "h": 112}
    benchmark.file.write_text(json.dumps(records))
    outcome = predict(recipe_of(benchmark, tmp_path / "run"))
    assert outcome.counts == {"refused": 1, "ok": 2}


def test_a_picture_of_another_size_than_annotated_is_an_input_error(tmp_path):
    benchmark = make_benchmark(tmp_path, count=2)
    records = json.loads(benchmark.file.read_text())
    records[0] |= {"w": 112, "h": 196}
    benchmark.file.write_text(json.dumps(records))
    assert predict(recipe_of(benchmark, tmp_path / "run")).counts == {"input_error": 1, "ok": 1}


def test_a_record_that_cannot_be_read_is_counted(tmp_path):
    benchmark = make_benchmark(tmp_path, count=3)
    records = json.loads(benchmark.file.read_text())
    records[1]["ground_truth"] = "nowhere"
    benchmark.file.write_text(json.dumps(records))
    assert predict(recipe_of(benchmark, tmp_path / "run")).counts == {"ok": 2, "input_error": 1}
    report = score(tmp_path / "run")
    assert report["requested"] == 3


def test_nothing_but_unreadable_records_is_an_error_before_any_work(tmp_path):
    benchmark = make_benchmark(tmp_path, count=2)
    records = json.loads(benchmark.file.read_text())
    benchmark.file.write_text(json.dumps([record | {"ground_truth": "x"} for record in records]))
    with pytest.raises(DataError, match="none of the 2 records"):
        predict(recipe_of(benchmark, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_batch_that_fails_is_asked_one_by_one(tmp_path):
    class Fails(Fake):
        def one(self, question: str) -> Reply | Exception:
            if question == "Question 3":
                raise ValueError("cannot")
            return super().one(question)

    model = Fails()
    outcome = asked(tmp_path / "run", model)
    assert outcome.counts == {"ok": 7, "model_error": 1}
    assert model.batches == [8, 1, 1, 1, 1, 1, 1, 1, 1]


def test_a_batch_that_does_not_fit_is_halved_until_it_does(tmp_path):
    class Small(Fake):
        def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
            if len(prompts) > 2:
                raise MemoryError
            return super().answer(prompts, decoding)

    model = Small()
    assert asked(tmp_path / "run", model).counts == {"ok": 8}
    assert model.batches == [2, 2, 2, 2]


def test_a_model_that_never_fits_fails_each_question_and_ends(tmp_path):
    class Huge(Fake):
        def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
            raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")

    assert asked(tmp_path / "run", Huge()).counts == {"model_error": 8}


def test_too_few_replies_are_not_given_to_the_wrong_questions(tmp_path):
    class Forgets(Fake):
        def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
            return super().answer(prompts, decoding)[: max(1, len(prompts) - 1)]

    assert asked(tmp_path / "run", Forgets()).counts == {"ok": 8}


def test_a_refusal_by_the_model_is_counted_as_one(tmp_path):
    class Declines(Fake):
        def one(self, question: str) -> Reply | Exception:
            return RefusedError("not that") if question.endswith("1") else Reply("", 0.1, 3, 0, "refused")

    assert asked(tmp_path / "run", Declines(), count=2).counts == {"refused": 2}


def test_an_error_that_concerns_every_question_stops_the_run(tmp_path):
    class BadKey(Fake):
        def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
            self.batches.append(len(prompts))
            raise RecipeError("the key is refused")

    model = BadKey()
    with pytest.raises(RecipeError, match="the key is refused"):
        asked(tmp_path / "run", model)
    assert model.batches == [8]


def test_an_answer_of_any_characters_is_kept(tmp_path):
    class Odd(Fake):
        def one(self, question: str) -> Reply | Exception:
            return Reply("\x1b[31m\r\n\ud83d é \0", 0.1, 3, 1)

    assert asked(tmp_path / "run", Odd(), count=1).counts == {"ok": 1}
    [entry] = read_journal(tmp_path / "run" / "records.jsonl").entries
    assert entry["reply"] == "\x1b[31m\r\n\ud83d é \0"
    score(tmp_path / "run")


def test_a_limit_is_what_is_requested(tmp_path):
    benchmark = make_benchmark(tmp_path, count=6)
    assert predict(recipe_of(benchmark, tmp_path / "run", "limit=2")).requested == 2


def test_a_conversation_is_asked_with_its_earlier_turns(tmp_path):
    turns = (Turn(("What is this?",), Text("A cup.")), Turn(("Which colour?",), Text("Red.")))
    sample = Sample("a", "chat", "talk", (), turns, None, extra={"system": "Be brief."})
    seen: list[Prompt] = []

    class Sees(Fake):
        def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
            seen.extend(prompts)
            return super().answer(prompts, decoding)

    recipe = load_recipe(
        EvaluationRecipe, None, ["model.family=fake", "data.mixture=[unused]", f"run.dir={tmp_path / 'run'}"]
    )
    predict(recipe, model=Sees(), samples=[sample])
    assert [(message.role, message.text) for message in seen[0].messages] == [
        ("system", "Be brief."),
        ("user", "What is this?"),
        ("assistant", "A cup."),
        ("user", "Which colour?"),
    ]
