"""The rows that the published scorer gets wrong, scored strictly: what a reader of the answer would accept.

docs/scoring.md shows the same in two tables; their first columns are computed here. (How each form is read is in
test_golden_readings.py, the metrics alone in test_golden_metrics.py.)
"""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from strict_results import Strict, scored, strict_generation, strict_planning

from robointervlm.core.answer import Unparsed
from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.evaluate.paper import QUIRKS, paper_score
from robointervlm.evaluate.paper.answers import box_overlap
from robointervlm.metrics.curves import discrete_frechet, rmse
from robointervlm.metrics.overlap import iou
from robointervlm.metrics.points import contact_distance
from robointervlm.metrics.text import sacre_bleu, strict_bleu
from robointervlm.tasks import task_named
from robointervlm.tasks.planning import planning_kind

DOCUMENT = Path(__file__).parents[2] / "docs" / "scoring.md"
PIXELS = Space.pixels(ImageSize(640, 640))


@pytest.fixture
def marked(golden_rows):
    """The rows of a file that have a bug, by its number."""

    def rows(name):
        found = defaultdict(list)
        for row in golden_rows(name):
            if row.get("reference_bug"):
                found[int(row["reference_bug"])].append(row)
        return found

    return rows


@pytest.fixture
def generation(marked):
    return marked("generation_eval.jsonl")


@pytest.fixture
def plans(marked):
    return marked("planning_eval.jsonl")


@pytest.fixture
def helpers(marked):
    return marked("metric_utils.jsonl")


# --- the documented tables -----------------------------------------------------------------------------------------


def average(values):
    numbers = [value for value in values if value is not None]
    return f"{sum(numbers) / len(numbers):.3f}" if numbers else "none"


def documented(traps, kind_of, published, strict):
    """The first columns of each line: trap, kind, rows, mean of the paper column, of the strict one, its failures."""
    for trap, rows in sorted(traps.items()):
        for kind in sorted({kind_of(row) for row in rows}):
            ours = [row for row in rows if kind_of(row) == kind]
            results = [strict(row) for row in ours]
            failed = Counter(result.status for result in results if result.status != "ok")
            counts = ", ".join(f"{count} {status}" for status, count in sorted(failed.items())) or "-"
            paper, own = average(map(published, ours)), average(result.value for result in results)
            yield f"| {trap} | {kind} | {len(ours)} | {paper} | {own} | {counts} |"


def test_the_documented_rows_of_answers_are_those_of_the_golden_files(generation, plans):
    lines = [
        *documented(generation, lambda row: row["args"]["task_type"], lambda row: row["result"], strict_generation),
        *documented(plans, lambda row: row["task_type"] or "unknown", lambda row: row["score"], strict_planning),
    ]
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [line for line in lines if f"\n{line}" not in text] == []
    assert len(lines) == 19


def test_the_documented_rows_of_the_helpers_are_those_of_the_golden_file(helpers):
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = [
        f"| {trap} | {', '.join(f'`{name}`' for name in sorted({row['fn'] for row in rows}))} | {len(rows)} |"
        for trap, rows in sorted(helpers.items())
    ]
    assert [line for line in lines if f"\n{line}" not in text] == []
    assert len(lines) == 13


def test_every_quirk_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, quirk in QUIRKS.items():
        traps = ", ".join(map(str, quirk.traps)) or "-"
        assert f"\n| {name} | {traps} | {quirk.explanation} |" in text


# --- quirks are named where they changed a result, and nowhere else ------------------------------------------------


def quirks_of(row):
    if "args" in row:
        task = {"box": "current_box", "traj": "traj"}.get(row["args"]["task_type"])
        if task is None:
            task = "contact_decide" if row["args"]["s"]["gt"] in ("Yes", "No") else "traj_choice"
        return paper_score(task, row["args"]["s"], row["args"]["source"]).quirks
    return paper_score("planning", row, "qwen").quirks


def test_a_marked_row_has_a_quirk_of_its_trap_where_the_trap_changed_the_result(generation, plans):
    unchanged = Counter()
    for traps in (generation, plans):
        for trap, rows in traps.items():
            for row in rows:
                named = quirks_of(row)
                if named:
                    assert any(trap in QUIRKS[name].traps for name in named), (trap, named, row["note"])
                else:
                    unchanged[trap, row["note"].split(" / ")[1]] += 1
    # These answers overlap nothing, read rightly or wrongly.
    assert unchanged == {(2, "thousands"): 3, (2, "scientific notation"): 1, (2, "xywh dict"): 1, (2, "x1y1 keys"): 1}


def test_an_unmarked_row_has_no_quirk_but_two_that_the_list_leaves_out(golden_rows):
    named = Counter()
    for name in ("generation_eval.jsonl", "planning_eval.jsonl"):
        for row in golden_rows(name):
            if "reference_bug" not in row:
                named.update(quirks_of(row))
    assert named == {"swapped corners overlap nothing": 16, "a perfect path is left out": 10}


# --- what a reader accepts -----------------------------------------------------------------------------------------


def test_a_letter_or_a_yes_is_correct_exactly_when_a_reader_understands_it_so(golden_rows):
    rows = [row for row in golden_rows("generation_eval.jsonl") if "semantic answer" in row["note"]]
    assert len(rows) == 125
    for row in rows:
        understood = row["note"].partition("semantic answer ")[2]
        assert strict_generation(row).value == (understood == row["args"]["s"]["gt"]), row["note"]


def test_whole_numbers_score_as_the_published_scorer_would_without_cutting_them_off(generation):
    for row in generation[1]:
        uncut = box_overlap(row["args"]["s"], row["args"]["source"], cut_off=False)
        assert strict_generation(row).value == pytest.approx(uncut, rel=1e-9)


def test_a_record_that_stops_the_published_scorer_is_one_failure_or_none(generation):
    assert Counter(
        (row["note"].split(" / ")[1].split(" (")[0], strict_generation(row).status) for row in generation[5]
    ) == {
        ("pred is None", "model_error"): 1,
        ("pred None", "model_error"): 2,
        ("gt without numbers", "input_error"): 3,
        ("gt with 2 numbers", "input_error"): 2,
        ("id is None", "ok"): 1,
        ("image smaller than factor 28", "ok"): 1,
        ("image smaller than factor", "ok"): 1,
    }


def test_no_failure_of_a_path_scores_zero(generation):
    for row in [*generation[9], *generation[10]]:
        result = strict_generation(row)
        assert (result.status, result.value) in {("unparsable", None), ("input_error", None)}


READERS = {
    # The note of a planning row, and whether its reader accepts the answer ("same" if it says what the reference says).
    "choice / wrong option whose words contain the gt letter": False,
    "choice / empty": False,
    "choice / pred is one word of a free-text gt": False,
    "choice / trailing newline after a wrong letter": False,
    "decide / answer then newline": True,
    'decide / negated: "not sure"': False,
    "decide / unknown -> contains no": False,
    "decide / non yes-no gt needs exact equality": True,
    "decide / true/false": True,
    "planning / trailing newline": True,
}


def test_a_marked_planning_row_is_correct_exactly_when_a_reader_accepts_it(plans):
    rows = [*plans[17], *plans[18], *plans[19]]
    assert len(rows) == 37
    for row in rows:
        if row["note"] == 'decide / "no ... yesterday" contains yes':
            accepted = row["gt"].lower() == "no"
        else:
            accepted = READERS[row["note"]]
        assert strict_planning(row).value == accepted, row["note"]


def test_planning_rows_without_a_bug_score_what_they_are_published_to_score(golden_rows):
    rows = [row for row in golden_rows("planning_eval.jsonl") if "reference_bug" not in row]
    assert len(rows) == 67
    for row in rows:
        assert strict_planning(row).value == pytest.approx(row["score"], rel=1e-6), row["note"]


def test_an_id_in_lower_case_is_known_and_an_unknown_one_is_one_record_lost(plans):
    assert {row["id"]: strict_planning(row).status for row in plans[20]} == {
        "Unknown_Task_1": "input_error",
        "success_positive_task_1": "ok",
        "Planning_Task_1": "model_error",
    }


# --- the helpers ---------------------------------------------------------------------------------------------------


def read(name, value):
    """A value given to a helper, read by our task from the text that a model would have written."""
    if value is None:
        return Unparsed("", "no reply")
    return task_named(name).read(value if isinstance(value, str) else json.dumps(value), PIXELS)


def test_an_id_of_two_tasks_or_none_is_not_guessed(helpers):
    assert [planning_kind(row["args"]["s"]) for row in helpers[20]] == [None] * 4


def test_spaces_are_no_words(helpers):
    assert [strict_bleu(*row["args"].values()).mean for row in helpers[24]] == [1]


def test_a_missing_order_of_n_grams_does_not_make_a_plan_worthless(helpers):
    for row in helpers[26]:
        assert row["result"]["bleu4"][0] < 1e-70
        predicted, reference = row["args"].values()
        assert strict_bleu(predicted, reference).bleu4 > 1e-3
        assert sacre_bleu(predicted, reference) > 1e-3


def test_of_two_reference_boxes_the_first_counts(helpers):
    predicted, reference = (json.dumps(value) for value in helpers[28][0]["args"].values())
    assert scored(task_named("current_box"), (predicted, reference), (PIXELS, PIXELS), "IoU") == Strict("ok", 1)


def test_a_small_box_overlaps_itself(helpers):
    for row in helpers[29]:
        first, second = row["args"].values()
        assert iou(first, second) == 1


def test_an_empty_box_is_unread_and_a_box_in_a_dictionary_or_in_quotes_is_read(helpers):
    found = {row["note"]: read("current_box", row["args"]["pred"]) for row in helpers[30]}
    assert [note for note, answer in found.items() if isinstance(answer, Unparsed)] == [
        "empty pred raises",
        "None pred",
    ]
    for note in ("dict pred", "string numbers"):
        assert iou(found[note].corners, [1, 2, 3, 4]) == 1


def test_a_path_of_another_length_is_never_perfect(helpers):
    for row in helpers[31]:
        predicted = row["args"]["pred"]
        predicted = predicted["future_traj"] if isinstance(predicted, dict) else predicted
        assert row["result"]["rmse"] == 0
        assert rmse(predicted, row["args"]["gt"], missing=800) > 100
    for row in helpers[33]:
        assert rmse(*row["args"].values(), missing=800) > 100


def test_nothing_is_unread_and_another_key_is_read(helpers):
    found = {}
    for row in helpers[32]:
        name = {"compute_trajectory_metric": "traj", "compute_contact_point_metric": "contact_point"}.get(row["fn"])
        if name:
            found[row["note"]] = type(read(name, row["args"]["pred"])).__name__
    assert found == {"empty dict": "Unparsed", "other key": "Trajectory", "None pred": "Unparsed"}


def test_malformed_contacts_are_unread_and_fingers_are_matched(helpers):
    for row in helpers[34]:
        answer = read("contact_point", row["args"]["pred"])
        if "swapped" in row["note"]:
            assert contact_distance(answer.array, row["args"]["gt"]) < row["result"]["point"] / 2
        else:
            assert row["result"]["point"] == 0
            assert isinstance(answer, Unparsed)


def test_long_paths_have_a_distance(helpers):
    (row,) = helpers[35]
    assert row["args"]["P"] == row["args"]["Q"]
    assert discrete_frechet(*row["args"].values()) == 0


def test_an_answer_without_braces_is_read(helpers):
    answers = {row["note"]: (row["fn"], row["args"]["text"]) for row in helpers[36]}
    assert isinstance(read("current_box", answers.pop("missing key")[1]), Unparsed)
    assert len(answers) == 2
    for function, text in answers.values():
        answer = read("current_box" if function.endswith("single") else "traj", text)
        points = answer.corners if function.endswith("single") else answer.points
        assert points == ((1, 2), (3, 4))


def test_texts_are_read_before_they_are_measured(helpers):
    for row in helpers[38]:
        name = {"compute_seg_metric": "current_box", "compute_contact_point_metric": "contact_point"}[row["fn"]]
        predicted, reference = row["args"].values()
        best = {"current_box": 1, "contact_point": 0}[name]
        assert scored(task_named(name), (predicted, reference), (PIXELS, PIXELS)) == Strict("ok", best)
