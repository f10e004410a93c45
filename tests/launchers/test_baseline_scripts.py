"""The documented scripts for baseline models: tiny checkpoints of the families, and an endpoint on loopback."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from robointervlm.compat.baselines import evaluate_baseline
from robointervlm.compat.scores import score_generation
from robointervlm.core.errors import RecipeError
from scripted_benchmark import ROOT, make_benchmark

SCRIPTS = ROOT / "eval/benchmark/eval_manip/scripts"
LAYOUTS = {"internvl": "internvl", "llava": "llava_next", "robobrain": "robobrain"}
# What stands before the question in the prompt the model was given, and what is made of it by each question type.
LOCATE = "Please provide the bounding box coordinate of the region this sentence describes: "
INSTRUCTION = "Give the box coordinates according to the instruction, Instruction: Where is object 0?"
ASKED = {
    ("internvl", "default"): "<image>\nWhere is object 0?",
    ("internvl", "refindoor"): f"<image>\n{LOCATE}<ref>Where is object 0?</ref>",
    ("llava", "w2p"): "<image>\nWhere is object 0?",
    ("llava", "refindoor"): f"<image>\n{INSTRUCTION}, output the bbox coordinates.",
    ("robobrain", "default"): f"<image>\n{LOCATE}Where is object 0?.",
    ("robobrain", "qwen_grounding"): "<image>\nLocate the Where is object 0?, output the bbox coordinates.",
    ("robobrain", "refindoor"): (
        f"<image>\n{INSTRUCTION}, output the bbox coordinates in the format of [x1, y1, x2, y2]."
    ),
}


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("boxes and spaces"), task="current_box", count=3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    from tiny_families import make_checkpoint  # noqa: PLC0415 - torch takes seconds to import

    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: make_checkpoint(layout, folder / name) for name, layout in LAYOUTS.items()}


@pytest.fixture
def endpoint(boxes):
    sys.path.insert(0, str(ROOT / "tests/faults"))
    from api_server import ApiServer  # noqa: PLC0415 - the path is set above

    sys.path.pop(0)
    # Answers in pixels of the picture as it is sent, which has the stored one's size: 196x112 are multiples of 28.
    answers = json.loads((boxes.model / "answers.json").read_text())
    server = ApiServer(answers)
    with server.serving() as url:
        server.url = url
        yield server


def flags(boxes, tmp_path: Path, *more: str) -> list[str]:
    return [
        *("--json_path", str(boxes.file), "--image_dir", str(boxes.images), "--type", "current_box"),
        *("--output_dir", str(tmp_path / "out"), "--log_dir", str(tmp_path / "logs"), *more),
    ]


def samples(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name, style", ASKED)
def test_a_checkpoint_answers_in_the_words_of_the_question_type(boxes, checkpoints, tmp_path, name, style):
    asked = ["--model_path", str(checkpoints[name]), "--question_type", style, "--max_new_tokens", "4"]
    code = evaluate_baseline(
        flags(boxes, tmp_path, *asked, "--device", "cpu", "--batch_size", "1"), tmp_path, name=name
    )
    assert code == 0
    assert samples(tmp_path / "out")[0]["prompt"] == ASKED[name, style]
    assert (tmp_path / "logs" / f"{name}_current_box.log").read_text().count('"prediction"') == 3
    details = json.loads((tmp_path / "out" / "eval_details_current_box.json").read_text())
    assert [each["id"] for each in details] == ["current_box-0000", "current_box-0001", "current_box-0002"]
    assert details[0]["gt"] == '{"current_bbox": [[8, 10], [38, 32]]}'
    assert details[0]["image_path"] == ["0000.png"]
    assert details[0]["image_size"] == [196, 112]


def test_a_robobrain_that_thinks_is_asked_for_a_thought(boxes, checkpoints, tmp_path):
    asked = ["--model_path", str(checkpoints["robobrain"]), "--enable_thinking", "--max_new_tokens", "4"]
    assert evaluate_baseline(flags(boxes, tmp_path, *asked, "--device", "cpu"), tmp_path, name="robobrain") == 0
    assert samples(tmp_path / "out")[0]["reply"].startswith("<think>")


def test_an_endpoint_is_asked_by_the_name_of_the_release(boxes, endpoint, tmp_path):
    asked = ["--model", "qwenvl2.5-72B", "--base_url", endpoint.url, "--max_new_tokens", "64", "--batch_size", "2"]
    assert evaluate_baseline(flags(boxes, tmp_path, *asked), tmp_path, name="api") == 0
    assert {body["model"] for body in endpoint.bodies} == {"Qwen/Qwen2.5-VL-72B-Instruct"}
    assert {body["max_tokens"] for body in endpoint.bodies} == {64}
    assert endpoint.total == 3
    [task] = json.loads((tmp_path / "out" / "report.json").read_text())["tasks"]
    iou = {metric["name"]: metric["mean"] for metric in task["metrics"]}["IoU"]
    # Boxes 30x22, 31x23 and 32x24, shifted by (0, 0), (2, 1) and (4, 2): intersection by union.
    assert iou == pytest.approx((1 + 638 / 788 + 616 / 920) / 3, abs=1e-6)


def test_the_answers_of_an_endpoint_can_be_scored_by_the_documented_scorer(boxes, endpoint, tmp_path, capsys):
    asked = ["--model", "any/name", "--base_url", endpoint.url]
    assert evaluate_baseline(flags(boxes, tmp_path, *asked), tmp_path, name="api") == 0
    arguments = ["--root", str(tmp_path), "--model", "out", "--coordinates", "pixel", "--image_size", "196x112"]
    assert score_generation(arguments) == 0
    assert "current_box" in capsys.readouterr().out


def test_a_key_on_the_command_line_is_refused_and_not_repeated(boxes, tmp_path):
    with pytest.raises(RecipeError, match="OPENAI_API_KEY") as refused:
        evaluate_baseline(flags(boxes, tmp_path, "--api_key", "sk-canary"), tmp_path, name="api")
    assert "sk-canary" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["", "#TODO"])
def test_a_model_without_an_address_of_its_own_needs_one(boxes, tmp_path, given):
    with pytest.raises(RecipeError, match="--base_url"):
        evaluate_baseline(flags(boxes, tmp_path, "--model", "qwenvl2.5-72B", "--base_url", given), tmp_path, name="api")


def test_the_key_is_read_from_the_file_that_is_named(boxes, endpoint, tmp_path):
    key = tmp_path / "key"
    key.write_text("sk-canary\n")
    asked = ["--base_url", endpoint.url, "--api_key_file", str(key)]
    assert evaluate_baseline(flags(boxes, tmp_path, *asked), tmp_path, name="api") == 0
    assert endpoint.authorizations == {"Bearer sk-canary"}
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"sk-canary" in path.read_bytes() for path in written)


def test_an_image_root_is_refused_with_what_to_do(boxes, tmp_path):
    with pytest.raises(RecipeError, match=r"docs/unpack\.md"):
        evaluate_baseline(flags(boxes, tmp_path, "--image_root", "/frames"), tmp_path, name="api")


@pytest.mark.parametrize("name", ["api", *LAYOUTS])
def test_a_baseline_script_stands_where_it_is_documented(name):
    script = SCRIPTS / "eval_baseline" / f"eval_{name}.sh"
    lists = ("model_path_list", "model_name_list", "json_path_list", "type_list", "image_dirs", "question_types")
    text = script.read_text()
    assert all(f"\n{each}=(" in text for each in lists)
    assert stat.S_IMODE(script.stat().st_mode) == stat.S_IMODE((SCRIPTS / "eval.sh").stat().st_mode)


def run_script(name: str, boxes, tmp_path: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    values = {
        **{"OMP_NUM_THREADS": "1", "ROBOINTER_PYTHON": sys.executable, "GPUS": 0, "MAX_NEW_TOKENS": 4},
        **{"JSON_PATHS": boxes.file, "IMAGE_DIRS": boxes.images, "TYPES": "current_box", "MODEL_NAMES": "mine"},
        **{"OUTPUT_DIR": tmp_path / "out", "LOG_DIR": tmp_path / "logs", **environment},
    }
    return subprocess.run(
        ["bash", f"eval_{name}.sh"],
        cwd=SCRIPTS / "eval_baseline",
        env={**os.environ, **{key: str(value) for key, value in values.items()}},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_eval_api_sh_asks_an_endpoint(boxes, endpoint, tmp_path):
    done = run_script("api", boxes, tmp_path, MODEL_PATHS="gpt4o", BASE_URL=endpoint.url)
    assert done.returncode == 0, done.stderr
    assert {body["model"] for body in endpoint.bodies} == {"gpt-4o"}
    own, documented = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert documented == "mine_current_box.log"
    assert own.startswith("mine_current_box-")
    assert (tmp_path / "out" / "mine" / "eval_details_current_box.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_baseline_script_asks_a_checkpoint(boxes, checkpoints, tmp_path, name):
    done = run_script(name, boxes, tmp_path, MODEL_PATHS=checkpoints[name], BATCH_SIZE=2)
    assert done.returncode == 0, done.stderr
    own, documented = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert documented == "mine_current_box.log"
    assert own.startswith("mine_current_box-")
    assert (tmp_path / "out" / "mine" / "eval_details_current_box.json").is_file()


def test_eval_api_sh_takes_the_key_where_its_comment_says(boxes, endpoint, tmp_path):
    environment = {"MODEL_PATHS": "gpt4o", "BASE_URL": endpoint.url, "OPENAI_API_KEY": "sk-canary-77"}
    done = run_script("api", boxes, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert endpoint.authorizations == {"Bearer sk-canary-77"}
    said = " ".join((done.stdout + done.stderr).split())
    assert "the key in the environment variable OPENAI_API_KEY is sent to" in said
    assert "sk-canary-77" not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"sk-canary-77" in path.read_bytes() for path in written)


def test_a_makers_address_is_asked_with_the_makers_key(boxes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-77")
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    assert evaluate_baseline(flags(boxes, tmp_path, "--model", "gemini"), tmp_path, name="api") == 2
    assert "GEMINI_API_KEY" in capsys.readouterr().err


def test_another_address_is_not_sent_the_openai_key(boxes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-77")
    asked = ["--base_url", "https://api.example.invalid/v1"]
    assert evaluate_baseline(flags(boxes, tmp_path, *asked), tmp_path, name="api") == 2
    assert "no key is named for api.example.invalid: give model.key_env=NAME" in capsys.readouterr().err
