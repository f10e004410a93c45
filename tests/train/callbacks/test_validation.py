"""Questions in the middle of a training: they change nothing, are scored as `predict` scores, and are asked once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from robointervlm.core.answer import Box
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.runs.settings import load_recipe
from robointervlm.runs.signals import StopFlag
from robointervlm.train.callbacks.validation import Judged, Validation
from robointervlm.train.engines import engine_for
from robointervlm.train.run import train
from tiny_models import box_dataset, losses, train_recipe

ASK = "watch.validation={mixture: [boxes], every: 2, samples: 5, max_new_tokens: 12, batch_size: 2}"


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def asked(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    catalog = box_dataset(folder / "data", bad=[3])
    train(train_recipe(tiny_folder, catalog, folder / "run", ASK, "data.max_bad_rate=1"))
    return folder / "run", catalog


@pytest.mark.parametrize("pack", ["none", "shared"])
def test_a_training_has_the_same_losses_with_and_without_questions(tiny_folder, tmp_path, pack):
    catalog = box_dataset(tmp_path / "data")
    train(train_recipe(tiny_folder, catalog, tmp_path / "quiet", f"batch.pack={pack}", "batch.max_tokens=256"))
    train(train_recipe(tiny_folder, catalog, tmp_path / "asked", f"batch.pack={pack}", "batch.max_tokens=256", ASK))
    assert losses(tmp_path / "asked") == losses(tmp_path / "quiet")
    assert [line["step"] for line in lines(tmp_path / "asked")] == [0, 2, 3]


def test_the_generators_and_the_mode_of_every_part_are_as_before(tiny_folder, catalog, tmp_path):
    model = Qwen25VL.load(Section(path=str(tiny_folder), device="cpu"))
    recipe, accelerator = train_recipe(tiny_folder, catalog, tmp_path, ASK), Accelerator(cpu=True)
    validation = Validation.of(recipe, model, accelerator)
    assert validation is not None
    engine = engine_for(recipe, model.network, accelerator)
    assert model.network.training
    model.network.model.visual.eval()
    before = torch.random.get_rng_state()
    assert len(validation.answers(engine, StopFlag()) or ()) == 5
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.network.training
    assert not model.network.model.visual.training


def test_every_question_counts_also_one_whose_picture_is_missing(asked, tiny_folder, tmp_path):
    recipe = train_recipe(tiny_folder, asked[1], tmp_path, ASK, "watch.validation.samples=100")
    model = Qwen25VL.load(Section(path=str(tiny_folder), device="cpu"))
    accelerator = Accelerator(cpu=True)
    validation = Validation.of(recipe, model, accelerator)
    assert validation is not None
    engine = engine_for(recipe, model.network, accelerator)
    record = validation.record(0, validation.answers(engine, StopFlag()) or [], 1.0)
    (task,) = record["tasks"]
    assert (record["questions"], task["questions"], sum(task["statuses"].values())) == (12, 12, 12)
    assert task["statuses"]["input_error"] == 1


def test_the_numbers_are_those_of_predict_and_score_on_the_finished_model(asked, tiny_folder, tmp_path):
    run, catalog = asked
    ids = {json.loads(line)["id"] for line in (run / "validation" / "step-00000003.jsonl").read_text().splitlines()}
    recipe = load_recipe(
        EvaluationRecipe,
        None,
        [
            *(f"model.path={json.dumps(str(run / 'model'))}", "model.device=cpu", "data.mixture=[boxes]"),
            *(f"data.catalog=[{json.dumps(str(catalog))}]", "decoding.max_new_tokens=12"),
            f"run.dir={json.dumps(str(tmp_path / 'eval'))}",
        ],
    )
    predict(recipe)
    score(recipe.run.dir)
    samples = [json.loads(line) for line in (recipe.run.dir / "samples.jsonl").read_text().splitlines()]
    theirs = {each["id"]: (each["reply"], each["status"]) for each in samples if each["id"] in ids}
    ours = [json.loads(line) for line in (run / "validation" / "step-00000003.jsonl").read_text().splitlines()]
    assert {each["id"]: (each["reply"], each["status"]) for each in ours} == theirs
    iou = [sample["strict"].get("IoU", 0.0) for sample in samples if sample["id"] in ids]
    assert lines(run)[-1]["tasks"][0]["metrics"]["IoU"]["mean"] == pytest.approx(sum(iou) / 5, abs=1e-12)


def test_a_sharded_training_asks_the_whole_model_and_learns_on(asked, tiny_folder, tmp_path):
    run, catalog = asked
    train(train_recipe(tiny_folder, catalog, tmp_path, ASK, "data.max_bad_rate=1", "run.strategy=fsdp"))
    assert [line["tasks"] for line in lines(tmp_path)] == [line["tasks"] for line in lines(run)]
    assert list(losses(tmp_path).values()) == pytest.approx(list(losses(run).values()), rel=1e-5)


def test_an_unreadable_answer_counts_as_the_worst_one(tiny_folder, catalog, tmp_path):
    model = Qwen25VL.load(Section(path=str(tiny_folder), device="cpu"))
    validation = Validation.of(train_recipe(tiny_folder, catalog, tmp_path, ASK), model, Accelerator(cpu=True))
    assert validation is not None
    said = {"task": "current_box", "finish_reason": "stop"}
    # The first box is (0, 0) to (30, 20); the answer covers its left half and nothing else.
    judged = [
        Judged(0, Box(0, 0, 15, 20), said | {"status": "ok"}),
        Judged(1, None, said | {"status": "unparsable"}),
    ]
    (task,) = validation.record(4, judged, 1.0)["tasks"]
    assert task["metrics"]["IoU"] == {"mean": 0.25, "over": "questions"}
    assert (task["readable"], task["statuses"]) == (1, {"ok": 1, "unparsable": 1})


def test_a_resumed_run_has_each_line_once_and_the_same(asked, tiny_folder, tmp_path):
    from test_loop import run_for  # noqa: PLC0415 - a test beside this one

    run, catalog = asked
    recipe = train_recipe(tiny_folder, catalog, tmp_path / "run", ASK, "data.max_bad_rate=1")
    # A stop is heard while questions are asked, too: the flag is looked at before each batch of them and each step.
    for _ in range(3):
        run_for(recipe, 5)
    train(recipe)
    found, whole = lines(tmp_path / "run"), lines(run)
    assert [line["step"] for line in found] == [0, 2, 3]
    assert [line["tasks"] for line in found] == [line["tasks"] for line in whole]
    assert losses(tmp_path / "run") == losses(run)
