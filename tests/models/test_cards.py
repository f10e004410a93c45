"""Every family with weights has a protocol card that says its coordinate format."""

from pathlib import Path

import pytest

CARDS = Path(__file__).parents[2] / "docs" / "models"
FORMATS = {
    "qwen2_5_vl": "resized",
    "robobrain": "resized",
    "qwen2_vl": "per_mille",
    "qwen3_vl": "per_mille",
    "internvl": "per_mille",
    "llava_onevision": "unit",
}


@pytest.mark.parametrize("family", FORMATS)
def test_a_card_says_what_the_protocol_is(family):
    text = (CARDS / f"{family}.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in text.replace("\\|", "/").splitlines() if line.startswith("| ")]
    for row in ("prompt", "answer", "coordinates", "decoding"):
        assert row in rows, row
    assert f"| coordinates | `{FORMATS[family]}`" in text
    assert "**Verified:**" in text
    assert "**Not verified:**" in text
    assert f"({family}.md)" in (CARDS / "README.md").read_text(encoding="utf-8")
