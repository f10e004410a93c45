"""`robointer serve` with `transformers serve` as the engine answers as `robointer predict` does in process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "src/robointervlm/assets/tiny-grounding"
# Answers of one place, of many, letters, and plans over eight pictures.
DATA = (
    "sim_grounding_val%30,sim_current_box_val,sim_traj_val,sim_contact_decide_val,"
    "sim_grounding_choice_val,sim_planning_val,sim_planning_choice_val"
)


def robointer(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "robointervlm.cli", *map(str, arguments)], check=True, timeout=400)


@pytest.fixture
def served(tmp_path):
    """The settings with which a running server of the model is asked, as `robointer serve` prints them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "robointervlm.cli", "serve", MODEL, "--engine", "transformers", "--port", port]
    log = tmp_path / "serve.log"
    with log.open("w") as sink:
        server = subprocess.Popen(
            [*map(str, command), "--device", "cpu", "--dtype", "float32"],
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        for _ in range(240):
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


def test_two_hundred_answers_over_http_are_those_of_the_process_to_the_token(served, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOINTER_DATA", str(tmp_path / "sim"))
    robointer("data", "build", "--source", "sim", "--episodes", 1, "--val-episodes", 5, "--out", tmp_path / "sim")
    asked = ("--data", DATA, "--max-new-tokens", 32)
    robointer("predict", "--model", MODEL, *asked, "--out", tmp_path / "ours", "model.device=cpu")
    robointer("predict", *served, *asked, "--out", tmp_path / "theirs", "model.concurrency=8")
    ours, theirs = records(tmp_path / "ours"), records(tmp_path / "theirs")
    assert len(ours) >= 200
    assert ours.keys() == theirs.keys()
    assert {len(record["images"]) for record in ours.values()} == {1, 8}
    assert len({record["reply"] for record in ours.values()}) > 50
    # The server strips a text that was cut off, and counts the token that ends an answer.
    told = {key: (r["reply"].strip(), r["output_tokens"], r["input_tokens"], r["status"]) for key, r in theirs.items()}
    assert told == {
        key: (r["reply"].strip(), r["output_tokens"] + (r["finish_reason"] == "stop"), r["input_tokens"], r["status"])
        for key, r in ours.items()
    }
    assert {key: r["finish_reason"] for key, r in theirs.items()} == {
        key: r["finish_reason"] for key, r in ours.items()
    }
    reports = [json.loads((tmp_path / name / "report.json").read_text())["tasks"] for name in ("ours", "theirs")]
    assert reports[0] == reports[1]
