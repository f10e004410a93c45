"""Our metrics against the published ones, where those are right. Every count is written out: none can become 0."""

import pytest

from robointervlm.core.coordinates import ImageSize, smart_resize
from robointervlm.metrics.curves import discrete_frechet, dtw, hausdorff, rmse
from robointervlm.metrics.overlap import iou
from robointervlm.metrics.points import contact_distance

DISTANCES = {
    "dtw": (dtw, 30),
    "discrete_frechet_distance": (discrete_frechet, 34),
    "hausdorff_distance": (hausdorff, 34),
}


def rows_of(rows, function):
    return [row for row in rows if row["fn"] == function]


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_between_paths_are_the_published_ones(golden_rows, name):
    distance, count = DISTANCES[name]
    rows = [row for row in rows_of(golden_rows("metric_utils.jsonl"), name) if row["result"] is not None]
    rows = [row for row in rows if row["args"]["P"] or row["args"]["Q"]]
    assert len(rows) == count
    for row in rows:
        assert distance(row["args"]["P"], row["args"]["Q"]) == pytest.approx(row["result"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", DISTANCES)
def test_paths_without_points_have_no_distance(golden_rows, name):
    # The published functions give infinity, 0 (two empty paths) or different exceptions here.
    rows = [row for row in rows_of(golden_rows("metric_utils.jsonl"), name) if "empty input" in row["note"]]
    assert len(rows) == {"dtw": 2}.get(name, 1)
    for row in rows:
        with pytest.raises(ValueError, match=r"\(N, 2\)"):
            DISTANCES[name][0](row["args"]["P"], row["args"]["Q"])


def test_a_long_path_has_a_frechet_distance_where_the_published_one_fails(golden_rows):
    rows = [row for row in golden_rows("metric_utils.jsonl") if row.get("reference_bug") == "35"]
    failed = [row for row in golden_rows("metric_utils.jsonl") if (row["error"] or "").startswith("RecursionError")]
    assert len(failed) == 1
    assert rows in ([], failed)
    assert discrete_frechet(failed[0]["args"]["P"], failed[0]["args"]["Q"]) >= 0


def test_the_distances_of_whole_answers_are_the_published_ones(golden_rows):
    compared = 0
    for row in rows_of(golden_rows("metric_utils.jsonl"), "compute_trajectory_metric"):
        if not row["note"].startswith(("list pred", "dict pred")):
            continue
        predicted = row["args"]["pred"]
        predicted = predicted["future_traj"] if isinstance(predicted, dict) else predicted
        for name, distance in (("dfd", discrete_frechet), ("hd", hausdorff), ("dtw", dtw)):
            assert distance(predicted, row["args"]["gt"]) == pytest.approx(row["result"][name], rel=1e-9, abs=1e-12)
            compared += 1
    assert compared == 33


def test_rmse_is_the_usual_one_and_never_best_for_another_length(golden_rows):
    # The published one is a mean of roots by axis (so only identical paths agree), and an error for other lengths.
    identical = other_length = 0
    for row in rows_of(golden_rows("metric_utils.jsonl"), "root_mean_square_error"):
        predicted, reference = row["args"]["pred"], row["args"]["gt"]
        if row["note"] == "identical":
            assert rmse(predicted, reference) == row["result"] == 0
            identical += 1
        if len(predicted) != len(reference):
            assert rmse(predicted, reference, missing=100) > 0
            other_length += 1
    assert (identical, other_length) == (7, 6)


def test_overlaps_are_the_published_ones(golden_rows):
    rows = rows_of(golden_rows("metric_utils.jsonl"), "compute_iou")
    assert len(rows) == 36
    for row in rows:
        assert iou(row["args"]["b1"], row["args"]["b2"]) == pytest.approx(row["result"], rel=1e-9)


def test_overlaps_of_pixel_boxes_agree_with_the_batched_function_up_to_its_constant(golden_rows):
    # It adds 1e-6 to the union: visible in normalised boxes (marked rows), at the ninth digit in pixels.
    rows = rows_of(golden_rows("metric_utils.jsonl"), "compute_iou_batch")
    marked = [row for row in rows if row.get("reference_bug") == "29"]
    right = [row for row in rows if "reference_bug" not in row]
    assert (len(marked), len(right)) == (5, 30)
    for row in right:
        assert iou(row["args"]["b1"], row["args"]["b2"]) == pytest.approx(row["result"], rel=1e-6)
    for row in marked:
        assert iou(row["args"]["b1"], row["args"]["b2"]) == 1
        assert row["result"] < 1


def test_swapped_fingers_touch_the_same_points(golden_rows):
    rows = [row for row in golden_rows("metric_utils.jsonl") if row["note"] == "list / fingers swapped"]
    assert len(rows) == 3
    for row in rows:
        assert contact_distance(row["args"]["pred"], row["args"]["gt"]) < row["result"]["point"] / 2


def test_sizes_are_the_published_ones(golden_rows):
    rows = rows_of(golden_rows("metric_utils.jsonl"), "generation.smart_resize")
    assert len(rows) == 7
    for row in rows:
        size = ImageSize(row["args"]["width"], row["args"]["height"])
        resized = smart_resize(size, max_pixels=1_003_520)
        assert [resized.height, resized.width] == row["result"]
