"""The documented evaluation commands, run as the README writes them, with the scripted model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from robointervlm.compat.scripts import evaluate, infer, manipulation_task, script
from robointervlm.core.errors import RecipeError
from scripted_benchmark import ROOT, make_benchmark, make_model

EVAL = ROOT / "eval/benchmark/eval_manip"


def run(command: list[str], cwd: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ROBOINTER_PYTHON": sys.executable,
            **{name: str(value) for name, value in environment.items()},
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("boxes and spaces"), task="current_box", count=10)


@pytest.mark.slow
def test_eval_sh_reads_linked_pictures_where_that_is_declared(boxes, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for image in boxes.images.iterdir():
        (linked / image.name).symlink_to(image)
    given = {"MODEL_PATHS": boxes.model, "JSON_PATHS": boxes.file, "IMAGE_DIRS": linked, "TYPES": "current_box"}
    given |= {"OUTPUT_DIR": tmp_path / "results", "LOG_DIR": tmp_path / "logs"}
    refused = run(["bash", "eval.sh"], cwd=EVAL / "scripts", **given)
    assert refused.returncode == 3
    assert "--follow-links" in refused.stderr
    done = run(["bash", "eval.sh"], cwd=EVAL / "scripts", FOLLOW_LINKS=1, **given)
    assert done.returncode == 0, done.stderr


def test_a_script_takes_the_flag_that_the_refusal_of_a_link_names(boxes, tmp_path):
    linked = tmp_path / "linked"
    linked.symlink_to(boxes.images)
    records = [
        record | {"image_path": f"linked/{record['image_path']}"} for record in json.loads(boxes.file.read_text())
    ]
    file = tmp_path / "q.json"
    file.write_text(json.dumps(records))
    flags = ["--model_path", str(boxes.model), "--json_path", str(file), "--type", "current_box"]
    flags += ["--results_dir", str(tmp_path / "results"), "--log_dir", str(tmp_path / "logs")]
    assert evaluate(flags, EVAL, language=False) == 3
    for flag in ("--follow-links", "--follow_links"):
        assert evaluate([*flags, flag], EVAL, language=True) == 0
    assert len(list((tmp_path / "results").glob("*/*/report.json"))) == 1


def test_evaluation_intermediate_with_the_documented_flags(boxes, tmp_path):
    done = run(
        [
            *(sys.executable, "evaluation_intermediate.py", "--model_path", str(boxes.model)),
            *("--json_path", str(boxes.file), "--image_dir", str(boxes.images), "--type", "current_box"),
            *("--question_type", "default", "--batch_size", "16", "--max_new_tokens", "512"),
            *("--output_dir", str(tmp_path / "out"), "--log_dir", str(tmp_path / "logs")),
        ],
        cwd=EVAL,
    )
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "logs" / "model-current_box_current_box.log").read_text()
    assert log.count('"prediction"') == 10  # inference results for each sample
    assert "ACC@IoU>0.1" in log  # aggregate metrics
    assert "samples_per_second" in log  # performance statistics
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["tasks"][0]["n"], report["tasks"][0]["unparsed"]) == (10, 1)
    assert sorted(path.name for path in boxes.model.iterdir()) == ["answers.json", "config.json"]


@pytest.mark.slow
@pytest.mark.parametrize("style", ["qwen_grounding", "refindoor", "w2p"])
def test_question_types_change_what_is_asked(boxes, tmp_path, style):
    flags = ["--model_path", str(boxes.model), "--json_path", str(boxes.file), "--image_dir", str(boxes.images)]
    out = ["--output_dir", str(tmp_path / "out"), "--log_dir", str(tmp_path / "logs"), "--max_error_rate", "1"]
    script = [sys.executable, str(EVAL / "evaluation_intermediate.py")]
    done = run([*script, *flags, *out, "--type", "current_box", "--question_type", style], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = json.loads((tmp_path / "out" / "samples.jsonl").read_text().splitlines()[0])["prompt"]
    expected = {
        "qwen_grounding": "<image>\nPlease provide the bounding box coordinate of the region this sentence describes: "
        "<ref>Where is object 0?</ref>",
        "refindoor": "<image>\nGive the box coordinates according to the instruction, Instruction: Where is object 0?, "
        "output the bbox coordinates.",
        "w2p": "<image>\nWhere is object 0?",
    }
    assert asked == expected[style]


def test_a_question_type_that_is_not_known_is_an_error(boxes, tmp_path, capsys):
    flags = ["--model_path", str(boxes.model), "--json_path", str(boxes.file), "--type", "current_box"]
    wrong = ["--question_type", "qwen_groundin", "--output_dir", str(tmp_path / "out")]
    assert evaluate([*flags, *wrong], EVAL, language=False) == 2
    error = capsys.readouterr().err
    assert "qwen_grounding" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_eval_sh_runs_from_its_folder_and_writes_the_documented_log(boxes, tmp_path):
    done = run(
        ["bash", "eval.sh"],
        cwd=EVAL / "scripts",
        GPUS=0,
        MODEL_PATHS=boxes.model,
        MODEL_NAMES="mine",
        JSON_PATHS=boxes.file,
        TYPES="current_box",
        IMAGE_DIRS=boxes.images,
        OUTPUT_DIR=tmp_path / "out",
        LOG_DIR=tmp_path / "logs",
    )
    assert done.returncode == 0, done.stderr
    own, documented = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert documented == "mine_current_box.log"
    assert own.startswith("mine_current_box-")


@pytest.mark.slow
def test_eval_sh_passes_the_exit_code_of_a_failed_file_on_and_does_the_others(boxes, tmp_path):
    done = run(
        ["bash", str(EVAL / "scripts/eval.sh")],
        cwd=tmp_path,
        MODEL_PATHS=boxes.model,
        JSON_PATHS=f"{tmp_path}/none.json,{boxes.file}",
        TYPES="current_box",
        IMAGE_DIRS=boxes.images,
        OUTPUT_DIR=tmp_path / "out",
        LOG_DIR=tmp_path / "logs",
    )
    assert done.returncode == 2
    assert "none.json does not exist" in done.stderr
    own, documented = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert documented == "model-current_box_current_box.log"
    assert own.startswith("model-current_box_current_box-")


@pytest.mark.parametrize("script", ["eval.sh", "eval_lang.sh"])
def test_a_script_whose_lists_were_not_edited_says_so(tmp_path, script):
    done = run(["bash", str(EVAL / "scripts" / script)], cwd=tmp_path)
    assert done.returncode == 2
    assert "still the example" in done.stderr


@pytest.mark.slow
def test_eval_lang_sh_runs_from_its_folder(tmp_path):
    records = [
        {"id": f"q-{number}", "question": f"Is step {number} done?", "ground_truth": "Yes"} for number in range(4)
    ]
    (tmp_path / "contact_decide.json").write_text(json.dumps(records))
    answers: dict[str, object] = {record["question"]: "Yes, it is." for record in records}
    model = make_model(tmp_path / "talker", answers)
    done = run(
        ["bash", "eval_lang.sh"],
        cwd=EVAL / "scripts",
        MODEL_PATHS=model,
        JSON_PATHS=tmp_path / "contact_decide.json",
        IMAGE_DIRS=tmp_path,
        OUTPUT_DIR=tmp_path / "out",
        LOG_DIR=tmp_path / "logs",
    )
    assert done.returncode == 0, done.stderr
    assert "Accuracy ↑  1.000" in (tmp_path / "logs" / "talker_qa.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, task", [("bbox", "grounding"), ("traj", "traj"), ("point", "contact_point"), ("qa", "chat")]
)
def test_every_type_of_the_language_script_is_scored(tmp_path, kind, task):
    source = {"bbox": "current_box", "traj": "traj_wo_init_pos", "point": "contact_point", "qa": "current_box"}[kind]
    benchmark = make_benchmark(tmp_path, task=source, count=3)
    done = run(
        [
            *(sys.executable, str(EVAL / "evaluation_intermediate_lang.py"), "--model_path", str(benchmark.model)),
            *("--json_path", str(benchmark.file.rename(tmp_path / "eval_data.json"))),
            *("--image_dir", str(benchmark.images), "--type", kind, "--batch_size", "16", "--max_new_tokens", "512"),
            *("--output_dir", str(tmp_path / "out"), "--log_dir", str(tmp_path / "logs")),
        ],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(group["task"], group["n"], group["unparsed"]) for group in report["tasks"]] == [(task, 3, 0)]


def test_infer_answers_one_question(boxes, tmp_path):
    done = run(
        [
            *(sys.executable, str(ROOT / "qwen-vl-finetune/infer.py"), "--model_type", "qwen"),
            *("--model_path", str(boxes.model), "--prompt", "Where is object 0?"),
            *("--images", str(boxes.images / "0000.png"), "--max_new_tokens", "64"),
        ],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == '{"current_bbox": [[8, 10], [38, 32]]}\n'


def test_infer_loads_llava_in_the_layout_it_is_published_in(boxes, tmp_path, capfd):
    from tiny_families import make_checkpoint  # noqa: PLC0415 - torch takes seconds to import

    folder = make_checkpoint("llava_next", tmp_path / "model")
    pictures = [str(boxes.images / f"000{number}.png") for number in range(2)]
    asked = ["--model_type", "llava", "--model_path", str(folder), "--prompt", "Which one is open?", "--device", "cpu"]
    assert infer([*asked, "--images", *pictures, "--max_new_tokens", "4"]) == 0
    assert infer([*asked, "--images", pictures[0], "--max_new_tokens", "4"]) == 0
    several, one = capfd.readouterr().out.splitlines()
    assert several != one


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--typ", "current_box"], "nearest: --type"),
        (["--batch_size", "many"], "invalid int value"),
        ([], "--model_path"),
    ],
)
def test_a_wrong_flag_is_named_with_the_nearest(flags, said):
    needed = ["--model_path", "m", "--json_path", "j"] if flags else []
    with pytest.raises(RecipeError, match=said):
        evaluate([*needed, *flags], EVAL, language=False)


def test_a_script_turns_an_error_into_a_line_and_an_exit_code(capsys):
    with pytest.raises(SystemExit) as stop:
        script(evaluate, ["--typ", "traj"], EVAL, language=True)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: evaluation_intermediate_lang.py: ")


@pytest.mark.parametrize(
    "kind, task", [("bbox", "grounding"), ("point", "contact_point"), ("traj", "traj"), ("contact_box", "contact_box")]
)
def test_the_box_script_takes_the_short_types_too(kind, task):
    assert manipulation_task(kind, "eval_data.json") == task
