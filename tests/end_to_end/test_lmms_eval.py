"""lmms-eval's own command line on our exported tasks, asking the demo's base model through `transformers serve`.

Opt-in: LMMS_PYTHON names the Python of an environment made of eval/environments/lmms-eval.txt. Needs the extra `sim`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("LMMS_PYTHON", ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("LMMS_PYTHON" not in os.environ, reason="LMMS_PYTHON names no environment with lmms-eval"),
]
DATA = "sim_grounding_val,sim_current_box_val,sim_traj_val,sim_contact_decide_val,sim_traj_direction_words_val"
MODEL = ROOT / "src/robointervlm/assets/tiny-grounding"


def robointer(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "robointervlm.cli", *map(str, arguments)], check=True, timeout=300)


@pytest.fixture
def served(tmp_path):
    """The base URL of a server of the model, which needs a folder that is not in the package."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [PYTHON.parent / "transformers", "serve", MODEL, "--device", "cpu", "--dtype", "float32"]
    log = (tmp_path / "serve.log").open("w")
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()  # noqa: S310 - loopback
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "serve.log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def replies(folder: Path) -> dict[str, str]:
    """What lmms-eval noted as the replies, by our ids."""
    said = {}
    for file in (folder / "theirs").rglob("*_samples_*.jsonl"):
        docs = lines(folder / "tasks" / f"{file.stem.partition('_samples_')[2]}.jsonl")
        said |= {docs[sample["doc_id"]]["id"]: sample["filtered_resps"].strip() for sample in lines(file)}
    return said


def test_lmms_eval_gives_the_numbers_of_our_report(served, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBOINTER_DATA", str(tmp_path / "sim"))
    robointer("data", "build", "--source", "sim", "--episodes", 1, "--val-episodes", 6, "--out", tmp_path / "sim")
    robointer("export", "lmms-eval", "--data", DATA, "--model-coordinates", "resized", "--out", tmp_path / "tasks")
    robointer("predict", "--model", MODEL, "--data", DATA, "--out", tmp_path / "ours", "model.device=cpu")
    model = f"model_version={MODEL},base_url={served},num_concurrent=4"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    subprocess.run(
        [
            *(PYTHON, "-m", "lmms_eval", "--include_path", tmp_path / "tasks", "--tasks", "robointer"),
            *("--model", "openai", "--model_args", model, "--log_samples", "--output_path", tmp_path / "theirs"),
        ],
        env={**os.environ, **offline, "OPENAI_API_KEY": "none", "PYTHONPATH": str(ROOT / "src")},
        check=True,
        timeout=600,
    )
    [results] = (tmp_path / "theirs").rglob("*_results.json")
    theirs = json.loads(results.read_text())["results"]
    report = json.loads((tmp_path / "ours/report.json").read_text())
    compared = 0
    for group in (group for group in report["tasks"] if group["dataset"] is None):
        their = theirs[f"robointer_{group['task']}"]
        assert their["unparsed,none"] == pytest.approx(group["unparsed_share"])
        for metric in group["metrics"]:
            assert their[f"{metric['name']},none"] == pytest.approx(metric["mean"], rel=1e-12)
            compared += 1
    assert compared == 12
    assert replies(tmp_path) == {
        sample["id"]: sample["reply"].strip() for sample in lines(tmp_path / "ours/samples.jsonl")
    }
