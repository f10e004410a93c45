"""The paper column against the published scorer: every row of the golden vectors, errors by their class.

Relative tolerance 1e-9, for BLEU 1e-6. Every count is written out: none can become 0 unseen.
"""

import math
from collections import Counter

import numpy as np

import published_measures as measures
from robointervlm.evaluate.paper import answers, score_planning, score_record
from robointervlm.metrics.overlap import iou
from robointervlm.metrics.text import published_bleu


def paths(function):
    """A function of two paths with the arrays that the vectors were made with."""

    def called(*arguments):
        return function(*(np.array(points, dtype=float).reshape(-1, 2) for points in arguments))

    return called


FUNCTIONS = {
    "discrete_frechet_distance": paths(measures.published_frechet),
    "hausdorff_distance": paths(measures.published_hausdorff),
    "dtw": paths(measures.published_dtw),
    "root_mean_square_error": paths(measures.published_rmse),
    "compute_iou": iou,
    "compute_iou_batch": lambda b1, b2: float(measures.published_overlaps(b1, b2)),
    "compute_seg_metric": measures.seg_metric,
    "compute_trajectory_metric": measures.trajectory_metric,
    "compute_contact_point_metric": measures.contact_point_metric,
    "compute_language_metric": measures.language_metric,
    "get_bleu_score": lambda prediction, target: answers.bleu_values(published_bleu(prediction, target)),
    "decide_task_type": answers.plan_type,
    "parse_output_single": measures.published_single,
    "parse_output_multi": measures.published_multiple,
    "generation.extract_bbox_answer": answers.published_box,
    "generation.extract_number": answers.published_numbers,
    "generation.extract_traj_answer": answers.published_path,
    "generation.smart_resize": lambda height, width: list(answers.published_resize(height, width)),
}
BLEU = ("compute_language_metric", "get_bleu_score")


def outcome(call):
    """What a call returns, or the class of what it raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the class is what is compared
        return type(error).__name__


def expected_of(row, result="result"):
    if row["error"]:
        return row["error"].partition(":")[0]
    if "nonfinite" in row:
        return {"inf": math.inf}[row["nonfinite"]]
    return row[result]


def same(found, expected, relative):
    """Equality, of numbers up to the tolerance, in lists and dictionaries too."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(same(found[key], expected[key], relative) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(same(*pair, relative) for pair in zip(found, expected, strict=True))
        )
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=relative)
    return found == expected


def test_every_record_scores_what_it_is_published_to_score(golden_rows):
    rows = golden_rows("generation_eval.jsonl")
    wrong, errors = [], Counter()
    for row in rows:
        arguments = row["args"]
        found = outcome(lambda a=arguments: score_record(a["s"], a["task_type"], a["source"]))
        if not same(found, expected_of(row), 1e-9):
            wrong.append((row["note"], found, expected_of(row)))
        errors[found if isinstance(found, str) else "none"] += 1
    assert wrong == []
    assert errors == {"none": 582, "TypeError": 4, "IndexError": 5, "ValueError": 2}


def test_every_helper_gives_what_it_is_published_to_give(golden_rows):
    rows = golden_rows("metric_utils.jsonl")
    wrong = []
    for row in rows:
        found = outcome(lambda r=row: FUNCTIONS[r["fn"]](*r["args"].values()))
        if not same(found, expected_of(row), 1e-6 if row["fn"] in BLEU else 1e-9):
            wrong.append((row["fn"], row["note"], found, expected_of(row)))
    assert wrong == []
    assert Counter(row["fn"] for row in rows).keys() == FUNCTIONS.keys()
    assert len(rows) == 377


def test_every_planning_record_scores_what_it_is_published_to_score(golden_rows):
    rows = golden_rows("planning_eval.jsonl")
    wrong = []
    for row in rows:
        found = outcome(lambda r=row: list(score_planning(r)))
        expected = expected_of(row) if row["error"] else [row["task_type"], row["score"], row["bleu"]]
        if not same(found, expected, 1e-6):
            wrong.append((row["id"], row["note"], found, expected))
    assert wrong == []
    assert len(rows) == 107
