"""`robointer doctor packing` as a user types it; it has to be able to fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from transformers import AttentionInterface

sys.path.insert(0, str(Path(__file__).parents[1]))

from robointervlm.cli.main import run
from robointervlm.models.qwen2_5_vl import attention
from tiny_models import noise, saved_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model, and `boxes.json`: two questions on each of two pictures and one of text."""
    place = tmp_path_factory.mktemp("doctor")
    saved_model(place)
    records = [
        {
            "id": f"{picture}{name}",
            "conversations": [
                {"from": "human", "value": f"<image>\nWhere is the {name}?"},
                {"from": "gpt", "value": answer},
            ],
            "images": f"{picture}.png",
        }
        for picture in range(2)
        for name, answer in (("cup", "Left"), ("gripper of the robot", "It is right"))
    ]
    for picture in range(2):
        Image.fromarray(noise(84, 56, picture)).save(place / f"{picture}.png")
    text = {"from": "human", "value": "Is it open?"}, {"from": "gpt", "value": "Yes"}
    (place / "boxes.json").write_text(json.dumps([*records, {"id": "t", "conversations": text}]))
    return place


def packing(folder: Path, *more: str) -> int:
    arguments = ["doctor", "packing", str(folder / "tiny"), "--data", str(folder / "boxes.json"), "--device", "cpu"]
    return run([*arguments, *more])


def test_a_sound_model_is_told_so_against_both_references(folder, capsys):
    assert packing(folder) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("5 samples of")
    assert "in 3 groups, float32" in printed
    for what in ("loss", "logits", "gradient of language", "gradient of merger", "gradient of vision"):
        assert sum(line.startswith(what) for line in printed.splitlines()) == 2
    assert "NOT ROUNDING" not in printed
    assert printed.endswith("Packed rows give what the samples give alone, up to rounding.\n")


def test_in_bfloat16_rounding_is_allowed_for(folder):
    assert packing(folder, "--dtype", "bfloat16", "--samples", "4") == 0


def test_an_attention_that_leaks_is_found(folder, capsys, monkeypatch):
    def leaking(module, query, key, value, mask, *, segments=None, **settings):
        """Every branch sees all that stands before it in the row."""
        return attention.packed_attention(module, query, key, value, mask, **settings)

    monkeypatch.setattr(AttentionInterface, "_global_mapping", dict(AttentionInterface._global_mapping))
    monkeypatch.setattr(attention.AttentionInterface, "register", lambda name, function: None)
    AttentionInterface._global_mapping[attention.NAME] = leaking
    assert packing(folder) == 3
    said = capsys.readouterr()
    assert "NOT ROUNDING" in said.out
    assert "are not the same" in said.err
    assert "batch.pack=none" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "more, code, said",
    [
        (["--data", "no_such_dataset"], 2, "no_such_dataset"),
        (["--dtype", "int8"], 2, "dtype"),
        (["--samples", "1"], 2, "samples"),
    ],
)
def test_what_means_nothing_is_one_line(folder, capsys, more, code, said):
    assert packing(folder, *more) == code
    assert said in capsys.readouterr().err
