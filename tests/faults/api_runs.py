"""`robointer predict` against the server of `api_server`, and what it left."""

from __future__ import annotations

import json
from pathlib import Path

from api_server import Fault

from robointervlm.runs.journal import read_journal
from scripted_benchmark import Benchmark

KEY = "sk-CANARY-4f9d1c77e0"
QUICK = ("backoff_seconds=0.01", "retry_after_seconds=0.2", "deadline_seconds=1.0", "retry_credit=100000")


def answers_of(benchmark: Benchmark) -> dict[str, str]:
    return json.loads((benchmark.model / "answers.json").read_text())


def predict_options(benchmark: Benchmark, url: str, out: Path, *settings: str) -> list[str]:
    section = ["resize=none", "coordinates=pixel", "key_env=CANARY_KEY", f"base_url={url}", *QUICK, *settings]
    return [
        *("predict", "--family", "openai_api", "--model", "gpt-test", "--data", str(benchmark.file)),
        *("--task", benchmark.task, "--image-dir", str(benchmark.images), "--out", str(out)),
        *(f"model.{setting}" for setting in section),
    ]


def records(out: Path) -> list[dict[str, object]]:
    return read_journal(out / "records.jsonl").entries


def only(question: str, fault: Fault, times: int = 1_000):
    return lambda asked, nth: fault if asked == question and nth < times else None
