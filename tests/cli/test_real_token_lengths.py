"""`check --model` and `stats --model` with the published tokenizer, where its file is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig

from robointervlm.cli.main import run
from tiny_models import shared_data

REAL = shared_data() / "qwen2_5_vl_processor"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real tokenizer is not here")

ANSWER = '{"current_bbox": [[72, 102], [192, 179]]}'
# A picture of 320x180 is resized to 308x168, which is 22 by 12 patches of 14 and a quarter as many tokens: 66. Its
# numbers are those of the resized picture, rounded: 72 * 308 / 320 = 69.3, 102 * 168 / 180 = 95.2, 184.8, 167.07.
CONVERSATION = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * 66}<|vision_end|>\nWhere is the cup?<|im_end|>\n"
    '<|im_start|>assistant\n{"current_bbox": [[69, 95], [185, 167]]}<|im_end|>'
)
LENGTH = 117  # by transformers, of the text above


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A file of one record, and a checkpoint without weights: its configuration and the real tokenizer."""
    monkeypatch.setenv("ROBOINTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (320, 180)).save(tmp_path / "a.png")
    record = {"id": "only", "image_path": "a.png", "question": "<image>\nWhere is the cup?", "ground_truth": ANSWER}
    (tmp_path / "boxes.json").write_text(json.dumps([record]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(REAL / "tokenizer.json"),
        chat_template=(REAL / "chat_template.jinja").read_text(),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    assert len(tokenizer.encode(CONVERSATION, add_special_tokens=False)) == LENGTH
    tokenizer.save_pretrained(tmp_path / "model")
    Qwen2_5_VLConfig(image_token_id=151655, text_config={"vocab_size": 151936}).save_pretrained(tmp_path / "model")
    return ["boxes.json", "--task", "current_box", "--model", "model"]


def test_stats_counts_real_tokens(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "stats", *arguments, "--out", "stats.html"]) == 0
    [dataset] = json.loads(Path("stats.json").read_text())
    assert dataset["tokens"] == {str(LENGTH): 1}


@pytest.mark.parametrize("limit, warnings", [(LENGTH, 0), (LENGTH - 1, 1)])
def test_check_finds_a_sample_that_is_a_token_too_long(
    arguments: list[str], limit: int, warnings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "check", *arguments, "--max-tokens", str(limit), "--json", "found.json"]) == 0
    [result] = json.loads(Path("found.json").read_text())
    assert result["warnings"] == warnings
    assert [problem["reason"] for problem in result["problems"]] == [
        f"is {LENGTH} tokens long, over {limit} (--max-tokens)"
    ] * warnings


def test_check_writes_the_same_figures_as_stats(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    without_model = arguments[:3]
    assert run(["data", "stats", *without_model, "--out", "one.html"]) == 0
    assert run(["data", "check", *without_model, "--stats", "two.html"]) == 0
    assert Path("one.json").read_text() == Path("two.json").read_text()
    assert Path("one.html").read_text() == Path("two.html").read_text()
