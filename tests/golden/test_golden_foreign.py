"""The published scorer's records as a prediction file: strict scores are its numbers wherever those are right."""

import json

import pytest

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.evaluate.interop.answer_files import Declared, import_predictions
from robointervlm.evaluate.score import score

FORMATS = {"qwen": "resized", "llava": "unit", "intern": "per_mille"}
METRICS = {"box": "IoU", "traj": "DTW"}


@pytest.mark.parametrize(
    "kind, source, count, swapped",
    [
        ("box", "qwen", 34, 1),
        ("box", "llava", 67, 13),
        ("box", "intern", 35, 2),
        ("traj", "qwen", 24, 0),
        ("traj", "llava", 18, 0),
        ("traj", "intern", 24, 0),
    ],
)
def test_scored_as_a_file_the_golden_rows_give_the_published_numbers(
    golden_rows, tmp_path, kind, source, count, swapped
):
    rows = [
        row
        for row in golden_rows("generation_eval.jsonl")
        if (row["args"]["task_type"], row["args"]["source"]) == (kind, source) and "reference_bug" not in row
    ]
    file = tmp_path / "eval_details.json"
    file.write_text(json.dumps([row["args"]["s"] for row in rows]))
    declared = Declared(
        kind, CoordinateFormat(FORMATS[source]), image_size="published", resize_limits=(3136, 1_003_520)
    )
    import_predictions(file, tmp_path / "run", declared)
    score(tmp_path / "run")
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    equal = 0
    for sample, row in zip(samples, rows, strict=True):
        if "corners swapped" in sample["notes"]:
            continue  # the published scorer takes such a box for an empty one
        # 0 is what the published scorer gives for an answer without a reading.
        assert sample["strict"].get(METRICS[kind], 0.0) == pytest.approx(row["result"], rel=1e-9, abs=1e-12), row[
            "note"
        ]
        equal += 1
    assert (len(samples), len(samples) - equal) == (count, swapped)


def test_not_one_golden_row_is_dropped_and_none_stops_the_others(golden_rows, tmp_path):
    # The published scorer raises for 11 of them, and prints nothing for a file that holds one.
    counted = {}
    for kind in ("box", "traj", "decide"):
        rows = [row for row in golden_rows("generation_eval.jsonl") if row["args"]["task_type"] == kind]
        file = tmp_path / f"{kind}.json"
        file.write_text(json.dumps([row["args"]["s"] for row in rows]))
        import_predictions(file, tmp_path / kind, Declared(kind, CoordinateFormat.PIXEL, image_size="published"))
        statuses = score(tmp_path / kind)["statuses"]
        assert sum(statuses.values()) == len(rows)
        counted[kind] = {status: count for status, count in statuses.items() if count}
    assert counted == {
        "box": {"ok": 237, "unparsable": 38, "model_error": 1, "input_error": 5},
        "traj": {"ok": 142, "unparsable": 38, "model_error": 2, "input_error": 3},
        "decide": {"ok": 96, "unparsable": 29},
    }
