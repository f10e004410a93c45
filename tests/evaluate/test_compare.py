"""Two runs side by side: joining, charging, testing, and what is said of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.compare import Side, Wanted, compare, verdict
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.report.comparison import comparison_markdown, comparison_summary, p_value
from robointervlm.runs.protocol import AskedQuestion, protocol_of
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import make_benchmark, make_model

# Right, wrong, unreadable.
ANSWERS = st.sampled_from([1, 0, None])
PATH = {"trajectory": [[0.0, 0.0], [3.0, 4.0]]}


def decide(number, right, *, episode=""):
    """A question answered by yes; `right` is 1, 0, or None for an answer that cannot be read."""
    status, strict = ("unparsable", {}) if right is None else ("ok", {"Accuracy": float(right)})
    return sample("contact_decide", number, {"yes_no": True}, status=status, strict=strict, episode=episode)


def traj(number, dtw):
    status, strict = ("unparsable", {}) if dtw is None else ("ok", {"DTW": dtw})
    return sample("traj", number, PATH, status=status, strict=strict)


def sample(task, number, answer, **fields):
    entry = {"key": f"k{number}", "id": f"q{number}", "task": task, "episode": "", "answer": answer}
    return {**entry, "image_size": [30, 40], **fields}


def side(name, samples, **protocol):
    asked = [AskedQuestion(each["task"], each["id"], each["answer"], each["image_size"]) for each in samples]
    settings = {"style": "default", "decoding": {"temperature": 0.0}} | protocol
    metrics = {"contact_decide": ["Accuracy"], "traj": ["DTW"]}
    return Side(name, {"protocol": protocol_of(asked, metrics, **settings)}, samples)


def accuracies(first, second, *, episodes=None):
    episodes = episodes or [""] * len(first)
    sides = [
        side(name, [decide(n, right, episode=episodes[n]) for n, right in enumerate(rights)])
        for name, rights in (("one", first), ("two", second))
    ]
    [row] = compare(*sides)["rows"]
    return row


def test_accuracies_of_single_questions_are_tested_by_mcnemar():
    # Six discordant questions, all for the first run: 2 / 2**6.
    row = accuracies([1] * 8 + [0] * 2, [1] * 2 + [0] * 8)
    assert (row["wins"], row["ties"], row["losses"]) == (6, 4, 0)
    assert (row["test"], row["p"]) == ("McNemar, exact", 0.03125)
    assert (row["first"]["mean"], row["second"]["mean"]) == (0.8, 0.2)
    assert row["difference"]["mean"] == pytest.approx(0.6)
    assert row["verdict"] == "one is better by 60.0 points."


def test_questions_of_one_episode_are_tested_by_episode():
    # The same six questions, but of two episodes: the signs of two sums are an accident in two of four patterns.
    row = accuracies([1] * 6, [0] * 6, episodes=["a"] * 3 + ["b"] * 3)
    assert (row["test"], row["p"], row["mcnemar_p"]) == ("permutation by episode, exact", 0.5, 0.03125)
    assert row["verdict"].startswith("Cannot be told apart with these 6 questions")


def test_an_unreadable_answer_is_a_wrong_one():
    row = accuracies([1, 1, 1], [1, None, None])
    assert (row["n"], row["first_unparsed"], row["second_unparsed"]) == (3, 0, 2)
    assert row["second"]["mean"] == pytest.approx(1 / 3)


def test_the_number_of_questions_that_would_show_a_difference():
    # Discordance 0.25, difference 0.1: 194 by Connor's formula (see tests/metrics/test_paired.py).
    first = [1] * 7 + [0] * 3 + [1] * 10 + [0] * 20
    second = [0] * 7 + [1] * 3 + [1] * 10 + [0] * 20
    row = accuracies(first, second)
    assert row["needed"] == {"difference": pytest.approx(0.1), "questions": 194, "design_effect": 1.0}
    assert (
        row["verdict"] == "Cannot be told apart with these 40 questions; about 200 would be needed to see 10.0 points."
    )


def test_a_given_difference_is_planned_for():
    sides = [side(name, [decide(n, (n + shift) % 2) for n in range(4)]) for name, shift in (("one", 0), ("two", 1))]
    [row] = compare(*sides, Wanted(see=0.5))["rows"]
    # Discordance 1, difference 0.5: (1.95996 + 0.84162 * sqrt(0.75))^2 / 0.25 = 28.98.
    assert (row["needed"], row["needed_to_see"]["questions"]) == (None, 29)
    assert "about 29 would be needed to see 50.0 points" in row["verdict"]


@given(st.lists(st.tuples(ANSWERS, ANSWERS), min_size=1, max_size=30))
def test_the_other_way_round_is_the_same_comparison(answers):
    first, second = map(list, zip(*answers, strict=True))
    one, other = accuracies(first, second), accuracies(second, first)
    assert (one["p"], one["wins"], one["losses"]) == (other["p"], other["losses"], other["wins"])
    assert one["difference"]["mean"] == pytest.approx(-other["difference"]["mean"])


@given(st.lists(ANSWERS, min_size=1, max_size=20), st.data())
def test_an_answer_that_is_dropped_never_helps(answers, data):
    place = data.draw(st.integers(0, len(answers) - 1))
    dropped = [None if number == place else answer for number, answer in enumerate(answers)]
    row = accuracies(dropped, answers)
    assert row["difference"]["mean"] <= 0
    assert row["wins"] == 0


def test_a_failure_costs_a_distance_its_charge():
    # Two waypoints times the diagonal of a 30 x 40 picture: 100 px.
    first, second = side("one", [traj(0, 20.0), traj(1, 10.0)]), side("two", [traj(0, None), traj(1, 30.0)])
    [row] = compare(first, second, Wanted(metrics=("DTW",)))["rows"]
    assert (row["first"]["mean"], row["second"]["mean"]) == (15.0, 65.0)
    assert (row["wins"], row["losses"]) == (2, 0)


def test_a_question_that_one_run_lacks_is_a_failure_of_that_run():
    first, second = side("one", [decide(n, 1) for n in range(4)]), side("two", [decide(n, 1) for n in range(3)])
    with pytest.raises(RecipeError, match="contact_decide: 4 questions / 3 questions"):
        compare(first, second)
    found = compare(first, second, force=True)
    assert found["joined"][0]["only_first"] == 1
    assert (found["rows"][0]["n"], found["rows"][0]["second"]["mean"]) == (4, 0.75)
    assert "asked of the first run only: failures of the second" in comparison_summary(found)
    assert "NOT THE SAME PROTOCOL" in comparison_markdown(found)


def test_questions_of_one_id_are_joined_in_order():
    twice = [decide(0, 1), decide(0, 0)]
    [row] = compare(side("one", twice), side("two", twice))["rows"]
    assert (row["n"], row["ties"], row["verdict"]) == (2, 2, "No difference in any of these 2 questions.")


def test_another_reference_is_another_protocol():
    other = [{**decide(0, 1), "answer": {"yes_no": False}}]
    with pytest.raises(RecipeError, match="1 other questions, references or picture sizes"):
        compare(side("one", [decide(0, 1)]), side("two", other))
    found = compare(side("one", [decide(0, 1)]), side("two", other), force=True)
    assert found["joined"][0]["other_reference"] == 1


def test_p_values_are_adjusted_for_all_rows():
    def both(name, decided, distance):
        return side(
            name, [*(decide(n, right) for n, right in enumerate(decided)), *(traj(n, distance) for n in range(6))]
        )

    rows = compare(both("one", [1] * 6, 10.0), both("two", [0] * 6, 20.0))["rows"]
    # Accuracy: 2 / 2**6. Each of the four distances is the same: DTW 2 / 2**6, the other three are charged alike: 1.
    assert [row["p"] for row in rows] == [0.03125, 0.03125, 1.0, 1.0, 1.0]
    assert [row["p_holm"] for row in rows] == [0.15625, 0.15625, 1.0, 1.0, 1.0]
    assert not any("better" in row["verdict"] for row in rows)


def test_a_question_without_a_reference_cannot_be_charged_a_distance():
    unread = {**traj(0, None), "answer": None, "status": "input_error"}
    rows = compare(side("one", [unread]), side("two", [unread]))["rows"]
    assert [(row["n"], row["not_charged"]) for row in rows] == [(0, 1)] * 4
    assert rows[0]["verdict"] == "Nothing to compare: no question can be charged."
    assert "–" in comparison_markdown({**compare(side("one", [unread]), side("two", [unread]))})


def test_a_run_scored_before_there_were_protocols_says_what_to_do():
    with pytest.raises(DataError, match="robointer score it again"):
        compare(Side("old", {}, [decide(0, 1)]), side("new", [decide(0, 1)]))


def test_what_is_not_there_names_the_nearest():
    sides = side("one", [decide(0, 1)]), side("two", [decide(0, 1)])
    with pytest.raises(RecipeError, match="nearest: Accuracy"):
        compare(*sides, Wanted(metrics=("Acuracy",)))
    with pytest.raises(RecipeError, match="nearest: contact_decide"):
        compare(*sides, Wanted(tasks=("contact_decid",)))


def test_enough_questions_without_significance_are_said_to_be_enough():
    row = {"n": 500, "better": "higher", "bounded": True, "ties": 3, "p_holm": 0.06, "needed_to_see": None}
    row |= {"difference": {"mean": 0.03}, "needed": {"difference": 0.03, "questions": 450}}
    assert verdict(row, "a", "b") == (
        "Cannot be told apart with these 500 questions; they would do to see 3.0 points four times of five if this "
        "were the only comparison."
    )


def test_no_p_value_is_shown_as_zero():
    assert p_value(0.00001) == "< 0.001"


@pytest.fixture
def runs(tmp_path):
    benchmark = make_benchmark(tmp_path, count=12)
    predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(tmp_path / "a")))
    make_model(benchmark.model, {f"Where is object {n}?": "no idea" for n in range(12)}, name="mute")
    predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(tmp_path / "b")))
    for name in "ab":
        score(tmp_path / name)
    return tmp_path


def test_the_command_writes_both_files_and_a_sentence_a_row(runs, capsys):
    assert run(["compare", str(runs / "a"), str(runs / "b"), "--metric", "IoU", "--out", str(runs / "out")]) == 0
    said = capsys.readouterr().out
    # Four episodes of three questions, all for the first: 2 of 16 patterns.
    assert "permutation by episode, exact" in said
    found = json.loads((runs / "out" / "compare.json").read_text())
    assert [(row["metric"], row["p"], row["second"]["mean"]) for row in found["rows"]] == [("IoU", 0.125, 0.0)]
    assert "| current_box | IoU ↑ | 12 | 1 / 12 |" in (runs / "out" / "compare.md").read_text()


@pytest.mark.parametrize(
    "change, said",
    [
        (["style=qwen_grounding"], "prompt style: default / qwen_grounding"),
        (["decoding.temperature=0.7"], "decoding: "),
        (["limit=6"], "current_box: 12 questions / 6 questions"),
    ],
)
def test_what_was_not_asked_alike_is_not_compared(runs, capsys, change, said):
    overrides = [f"model.path={runs}/model-current_box", f"data.file={runs}/current_box.json"]
    overrides += ["data.task=current_box", f"data.image_dir={runs}/images", f"run.dir={runs}/c", *change]
    predict(load_recipe(EvaluationRecipe, None, overrides))
    score(runs / "c")
    capsys.readouterr()
    assert run(["compare", str(runs / "a"), str(runs / "c")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert run(["compare", str(runs / "a"), str(runs / "c"), "--force"]) == 0


def test_the_coordinates_of_a_model_do_not_keep_it_from_being_compared(runs):
    config = {"model_type": "scripted", "name": "thousand", "coordinates": "per_mille"}
    (runs / "model-current_box" / "config.json").write_text(json.dumps(config))
    overrides = [f"model.path={runs}/model-current_box", f"data.file={runs}/current_box.json"]
    overrides += ["data.task=current_box", f"data.image_dir={runs}/images", f"run.dir={runs}/c"]
    predict(load_recipe(EvaluationRecipe, None, overrides))
    assert score(runs / "c")["model"]["coordinates"] == "per_mille"
    assert run(["compare", str(runs / "a"), str(runs / "c")]) == 0


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["a", "nowhere"], 3, "robointer score"),
        (["a", "b", "--out", "x.pdf"], 2, "ends in .md or .json"),
        (["a", "b", "--metric", "IoUs"], 2, "nearest: IoU"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(runs, capsys, monkeypatch, arguments, code, said):
    monkeypatch.chdir(runs)
    assert run(["compare", *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
