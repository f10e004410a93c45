"""The worked example of docs/statistics.md, from its answers to its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from robointervlm.evaluate.compare import Side, Wanted, compare
from robointervlm.report.comparison import comparison_markdown
from robointervlm.runs.protocol import AskedQuestion, protocol_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"

# 120 yes/no questions of as many episodes: both right, only the first, only the second, neither.
RIGHT = [(1, 1)] * 69 + [(1, 0)] * 15 + [(0, 1)] * 9 + [(0, 0)] * 27
# Six trajectories of three episodes: the DTW of both runs in pixels; one answer of the second cannot be read.
DTW = [("a", 20.0, 30.0), ("a", 20.0, None), ("b", 40.0, 55.0), ("b", 40.0, 43.0), ("c", 50.0, 44.0), ("c", 30.0, 30.0)]


def sample(number, task, answer, **fields):
    return {"key": str(number), "id": str(number), "task": task, "answer": answer, "image_size": [30, 40], **fields}


def samples(place):
    decided = [
        sample(n, "contact_decide", {"yes_no": True}, episode="", status="ok", strict={"Accuracy": float(right[place])})
        for n, right in enumerate(RIGHT)
    ]
    # One waypoint in a 30 x 40 picture: a failure is charged its diagonal, 50 px.
    path = {"trajectory": [[0.0, 0.0]]}
    for n, (episode, *values) in enumerate(DTW):
        value = values[place]
        found = {"status": "unparsable", "strict": {}} if value is None else {"status": "ok", "strict": {"DTW": value}}
        decided.append(sample(n, "traj", path, episode=episode, **found))
    return decided


@pytest.fixture(scope="module")
def comparison():
    sides = []
    for place, name in enumerate(("first", "second")):
        asked = [AskedQuestion(each["task"], each["id"], each["answer"], each["image_size"]) for each in samples(place)]
        protocol = protocol_of(asked, {"contact_decide": ["Accuracy"], "traj": ["DTW"]}, style="default", decoding={})
        sides.append(Side(name, {"protocol": protocol}, samples(place)))
    return compare(*sides, Wanted(metrics=("Accuracy", "DTW")))


def test_the_numbers_are_those_worked_out_by_hand(comparison):
    accuracy, dtw = comparison["rows"]
    # 2 * (1 + 24 + 276 + … + 1,307,504) of 2**24 patterns; Connor: (0.87652 + 0.37402)^2 / 0.05^2 = 625.5.
    assert accuracy["p"] == 5158260 / 16777216
    assert accuracy["needed"]["questions"] == 626
    # Second minus first, a failure and the 55 px being charged 50: 40 in episode a, 13 in b, -6 in c. Their sum, 47, is
    # reached by 4 of 8 patterns of signs: 40 + 13 + 6, 40 + 13 - 6, and their mirror images.
    assert (dtw["first"]["mean"], dtw["second"]["mean"] * 6) == (200 / 6, 247.0)
    assert dtw["p"] == 0.5
    assert (dtw["wins"], dtw["ties"], dtw["losses"]) == (4, 1, 1)
    # The variance of the six differences is 155.4: (1.95996 + 0.84162)^2 * 155.4 / 7.833^2 = 19.9, times 44.5 / 25.9.
    assert dtw["needed"]["questions"] == 35
    assert dtw["needed"]["design_effect"] == pytest.approx(1.72, abs=0.005)
    # The smaller p twice; the larger one is not below it.
    assert [row["p_holm"] for row in comparison["rows"]] == [2 * 5158260 / 16777216] * 2


def test_the_document_shows_what_the_program_says(comparison):
    document = DOCUMENT.read_text(encoding="utf-8")
    text = comparison_markdown(comparison)
    shown = [
        line for line in text.splitlines() if line.startswith(("| contact_decide", "| traj", "* contact", "* traj"))
    ]
    assert len(shown) == 4
    for line in shown:
        assert line in document
