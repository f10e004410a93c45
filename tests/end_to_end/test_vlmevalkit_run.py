"""VLMEvalKit through the documented script, on two small datasets in its own format.

Opt-in: VLMEVALKIT_PYTHON names the Python of an environment made of eval/environments/vlmevalkit.txt.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VLMEVALKIT_PYTHON" not in os.environ, reason="VLMEVALKIT_PYTHON names no environment"),
]


def write_dataset(file: Path, answers: list[str], **columns: str) -> None:
    """Questions about plain pictures, in VLMEvalKit's TSV."""
    with file.open("w", newline="") as out:
        rows = csv.writer(out, delimiter="\t")
        rows.writerow(["index", "image", "question", "answer", *columns])
        for number, answer in enumerate(answers):
            picture = io.BytesIO()
            Image.new("RGB", (196, 112), (60 * number, 30, 30)).save(picture, "PNG")
            encoded = base64.b64encode(picture.getvalue()).decode()
            rows.writerow([number, encoded, "Where is the red cube?", answer, *columns.values()])


def test_eval_all_sh_serves_a_checkpoint_and_collects_the_numbers(tmp_path):
    data = tmp_path / "LMUData"
    data.mkdir()
    write_dataset(data / "tiny_POPE.tsv", ["Yes", "No", "Yes", "No"], category="random")
    # The demo's base model answers every question with a bbox_2d: three of the four readings are in its answer.
    readings = ["['bbox']", "['bbox']", "['bbox']", "['nothing of it']"]
    write_dataset(data / "tiny_OCRBench.tsv", readings, category="Regular Text Recognition")
    settings = {
        "LMUData": data,
        "MODEL_PATHS": ROOT / "src/robointervlm/assets/tiny-grounding",
        "MODEL_NAMES": "tiny",
        "DATASETS": "tiny_POPE=ImageYORNDataset,tiny_OCRBench=OCRBench",
        "OUTPUT_DIR": tmp_path / "out",
        "ROBOINTER_PYTHON": sys.executable,
        "HF_HUB_OFFLINE": 1,
        "DEVICE": "cpu",
        "DTYPE": "float32",
        "MAX_NEW_TOKENS": 32,
    }
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    subprocess.run(
        ["bash", "eval_all.sh"],
        cwd=ROOT / "eval/benchmark/eval_vlmevalkit",
        env={**environment, **{name: str(value) for name, value in settings.items()}},
        check=True,
        timeout=300,
    )
    found = json.loads((tmp_path / "out/leaderboards.json").read_text())
    main = {each["dataset"]: each["value"] for each in found if each["primary"]}
    assert main == {"tiny_POPE": 0, "tiny_OCRBench": 3}
    assert {each["status"] for each in found} == {"done"}
