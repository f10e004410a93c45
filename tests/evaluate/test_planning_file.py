"""One published file of planning questions, asked and scored as the three tasks it holds."""

import json

import pytest

from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import make_model

QUESTIONS = [
    ("1_Planning_Task_1", "What is the plan?", "pick up the cup", "Let me see.\npick up the cup\n"),
    ("1_Future_Prediction_Task_2", "What comes next?", "place the cup", ""),
    ("1_Scene_Understanding_3", "Which scene is it?", "D", "C. grab a bad cold drawer"),
    ("1_Temporal_Understanding_4", "Which came first?", "open the drawer", "B. Open the drawer."),
    ("1_Success_(Negative)_Task_5", "Was it done?", "No", "No, that was yesterday"),
]


def test_a_mixed_file_is_scored_as_three_tasks(tmp_path):
    records = [{"id": name, "question": asked, "ground_truth": answer} for name, asked, answer, _ in QUESTIONS]
    file = tmp_path / "task_planning.json"
    file.write_text(json.dumps(records))
    model = make_model(tmp_path / "model", {asked: said for _, asked, _, said in QUESTIONS})
    settings = [f"model.path={model}", f"data.file={file}", "data.task=planning", f"run.dir={tmp_path / 'run'}"]
    predict(load_recipe(EvaluationRecipe, None, settings))
    groups = {group["task"]: group for group in score(tmp_path / "run")["tasks"]}
    assert {name: (group["n"], group["unparsed"]) for name, group in groups.items()} == {
        "planning": (2, 1),
        "planning_choice": (2, 0),
        "planning_decide": (1, 0),
    }
    means = {name: group["metrics"][0]["mean"] for name, group in groups.items()}
    # The plan is right and the empty answer is a failure; the letter is wrong and the option's words are right.
    assert means == pytest.approx({"planning": 0.5, "planning_choice": 0.5, "planning_decide": 1})
