"""The paper's tables with measured rows beside the published ones."""

from __future__ import annotations

import csv
import io
import json

import pytest

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.report.benchmark import NamedRun, benchmark_tables
from robointervlm.report.benchmark_formats import written
from robointervlm.report.scored import ScoredRun
from robointervlm.runs.protocol import AskedQuestion, protocol_of
from robointervlm.runs.settings import load_recipe
from robointervlm.tasks import all_tasks, task_named
from scripted_benchmark import make_benchmark


def share(mean, n=200, **fields):
    return {"name": "Accuracy", "better": "higher", "bounded": True, "mean": mean, "n": n, "charged": None, **fields}


def distance(mean, charged, n=200, **fields):
    head = {"name": "DTW", "better": "lower", "bounded": False, "mean": mean, "n": n}
    return {**head, "charged": {"mean": charged, "n": n}, **fields}


def group(task, metric, *, n=200, unparsed=0, dataset=None):
    return {
        "task": task,
        "dataset": dataset or f"robointer_{task}_val",
        "n": n,
        "unparsed": unparsed,
        "metrics": [metric],
    }


def measured(name, *groups, style="default"):
    asked = [AskedQuestion(each["task"], str(number), None, None) for each in groups for number in range(each["n"])]
    metrics = {each["task"]: [each["metrics"][0]["name"]] for each in groups}
    protocol = protocol_of(asked, metrics, style=style, decoding={})
    tasks = [{**each, "dataset": None} for each in groups]
    report = {"model": {"name": name}, "protocol": protocol, "tasks": tasks, "datasets": list(groups)}
    return NamedRun(name, ScoredRun(report, (), {}))


def row_of(table, kind="measured, strict"):
    [line] = [line for line in table.lines if line.kind == kind]
    return {column.name: cell for column, cell in zip(table.columns, line.cells, strict=True)}


def test_the_published_rows_are_those_of_the_paper():
    [table] = benchmark_tables([], "manipulation")
    figures = {line.model: [cell.shown for cell in line.cells] for line in table.lines}
    # Table 3 of the paper: object, …, trace, …, planning true or false.
    assert len(figures) == 5
    assert figures["RoboInter-Qwen-3B"] == (
        ["76.1", "34.9", "52.7", "61.6", "74.0", "73.4", "75.2", "332", "61.2", "78.8", "82.2", "88.7"]
    )
    assert {line.kind for line in table.lines} == {"published"}


@pytest.mark.parametrize(
    "task, column",
    [
        ("current_box", "Object"),
        ("contact_box", "Grasp"),
        ("final_box", "Place"),
        ("gripper_det", "Gripper"),
        ("grasppose_choice", "Grasp pose"),
        ("grounding_choice", "Grounding choice"),
        ("contact_decide", "Contact"),
        ("traj", "Trace"),
        ("trajlang_sub_choice", "Visual trace"),
        ("traj_wo_init_pos", ""),
        ("contact_point", ""),
    ],
)
def test_a_task_feeds_the_column_of_the_paper(task, column):
    assert task_named(task).column == column


def test_every_column_that_a_task_names_is_in_a_table():
    columns = {each.name for name in ("manipulation", "third-party") for each in benchmark_tables([], name)[0].columns}
    assert {task.column for task in all_tasks().values()} - {""} <= columns


def test_a_table_says_what_is_measured_in_its_columns():
    text = written(benchmark_tables([], "manipulation"), "md")
    assert "Object G.D., Grasp A.F., Place A.F., Gripper G.D.: ACC@IoU>0.1" in text
    assert "Trace: DTW" in text


def test_a_measured_cell_has_its_n_and_its_unparsed():
    [table] = benchmark_tables([measured("ours", group("contact_decide", share(0.625), unparsed=7))], "paper")
    cell = row_of(table)["Contact"]
    assert (cell.shown, cell.n, cell.unparsed, cell.notes) == ("62.5", 200, 7, ())
    assert "| ours | measured, strict | – | – | – | – | – | – | 62.5 (200, 7) | – |" in written([table], "md")


def test_a_task_that_was_not_asked_is_a_dash():
    [table] = benchmark_tables([measured("ours", group("current_box", share(0.5)))], "paper")
    assert [name for name, cell in row_of(table).items() if cell.value is not None] == ["Object"]
    assert row_of(table)["Trace"].shown == "–"


def test_a_distance_is_shown_with_failures_charged_and_says_so():
    [table] = benchmark_tables([measured("ours", group("traj", distance(210.0, 260.4, n=190), unparsed=10))], "paper")
    assert row_of(table)["Trace"].shown == "260"
    assert table.notes == ("Failures charged; over the 190 readable answers of traj alone 210.0.",)


def test_few_questions_and_other_data_have_a_footnote():
    ours = measured("ours", group("current_box", share(0.5, n=99), n=99, dataset="sim_current_box_val"))
    [table] = benchmark_tables([ours], "paper")
    assert [table.notes[number - 1] for number in row_of(table)["Object"].notes] == [
        "Fewer than 100 questions.",
        "Measured on sim_current_box_val, by name not the published validation sets: "
        "not to be compared with published rows.",
    ]


def test_several_tasks_of_one_column_count_by_their_questions():
    tasks = ("traj_choice", "trajlang_choice", "trajlang_sub_choice", "traj_direction_choice")
    groups = [group(task, share(0.5, n=100), n=100) for task in tasks]
    last = group("traj_direction_choice_with_traj", share(1.0, n=400), n=400)
    [table] = benchmark_tables([measured("ours", *groups, last)], "paper")
    # 400 questions at 50 % and 400 at 100 %.
    assert row_of(table)["Visual trace"].value == pytest.approx(75.0)
    assert table.notes[0].endswith("together, each question counting once.")


def test_a_column_of_several_tasks_says_which_were_asked():
    [table] = benchmark_tables([measured("ours", group("traj_choice", share(0.5)))], "paper")
    assert table.notes[0].startswith("Of traj_choice only; the column is also for trajlang_choice")


def test_the_published_arithmetic_has_a_row_of_its_own():
    metric = share(0.5, paper={"mean": 0.625, "n": 160})
    [table] = benchmark_tables([measured("ours", group("contact_decide", metric, unparsed=40))], "paper")
    assert row_of(table, "measured, paper")["Contact"].shown == "62.5"
    assert row_of(table)["Contact"].shown == "50.0"
    [number] = row_of(table, "measured, paper")["Contact"].notes
    assert table.notes[number - 1] == "The published arithmetic counts 160 of the 200 answers of contact_decide."


def test_runs_of_different_protocols_do_not_share_a_column():
    one = measured("one", group("current_box", share(0.5)))
    two = measured("two", group("current_box", share(0.6)), style="qwen_grounding")
    with pytest.raises(RecipeError, match="one / two: prompt style: default / qwen_grounding"):
        benchmark_tables([one, two], "paper")
    [table] = benchmark_tables([one, two], "paper", force=True)
    assert table.notes[0] == "Not the same protocol: one / two: prompt style: default / qwen_grounding."


def test_runs_of_different_tasks_stand_beside_each_other():
    one = measured("one", group("current_box", share(0.5)))
    two = measured("two", group("contact_decide", share(0.6)), style="qwen_grounding")
    assert len(benchmark_tables([one, two], "paper")[0].lines) == 7


def test_a_run_without_a_protocol_says_what_to_do():
    old = NamedRun("old", ScoredRun({"model": {"name": "old"}, "tasks": [], "datasets": []}, (), {}))
    with pytest.raises(DataError, match="score it again"):
        benchmark_tables([old], "paper")


def test_a_name_is_text_in_every_format():
    tables = benchmark_tables([measured("=a&b_<i>|c", group("current_box", share(0.5)))], "paper")
    assert "=a&amp;b_&lt;i&gt;|c" in written(tables, "html")
    assert r"=a\&b\_\textless{}i\textgreater{}|c & measured, strict & 50.0" in written(tables, "latex")
    assert r"| =a&b_&lt;i>\|c |" in written(tables, "md")
    assert "'=a&b_<i>|c" in written(tables, "csv")


def test_csv_holds_one_table_of_numbers():
    tables = benchmark_tables(
        [measured("ours", group("current_box", share(0.5, n=9), n=9, unparsed=2))], "manipulation"
    )
    rows = list(csv.DictReader(io.StringIO(written(tables, "csv"))))
    last = rows[-1]
    assert (last["figures"], last["Object G.D."], last["Object G.D. n"], last["Object G.D. unparsed"]) == (
        "measured, strict",
        "50",
        "9",
        "2",
    )
    assert last["Object G.D. notes"] == "Fewer than 100 questions."
    with pytest.raises(RecipeError, match="one table"):
        written([*tables, *tables], "csv")


def test_the_page_stands_alone():
    page = written(benchmark_tables([measured("ours", group("current_box", share(0.5)))], "paper"), "html")
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert '<tr class="measured first">' in page


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    benchmark = make_benchmark(folder, count=20)
    predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(folder / "run")))
    score(folder / "run")
    return folder / "run"


def test_the_command_prints_or_writes_the_table(scored, tmp_path, capsys):
    assert run(["report", str(scored), "--table", "paper"]) == 0
    # Two of twenty are unreadable and two lie outside the picture.
    assert "| scripted | measured, strict | 80.0 (20, 2) [1] [2] |" in capsys.readouterr().out
    assert run(["report", str(scored), "--table", "paper", "--format", "html", "--out", str(tmp_path / "t.html")]) == 0
    assert "80.0" in (tmp_path / "t.html").read_text()
    assert not (scored / "report.html").exists()


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["--table", "tabel"], 2, "'paper'"),
        (["--format", "csv"], 2, "add --table paper"),
        (["--table", "paper", "--format", "pdf"], 2, "'md'"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(scored, arguments, code, said, capsys):
    assert run(["report", str(scored), *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_two_runs_of_one_model_have_their_folders_in_the_name(scored, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("report.json", "samples.jsonl", "performance.json"):
        (other / name).write_text((scored / name).read_text())
    assert json.loads((other / "report.json").read_text())["model"]["name"] == "scripted"
    assert run(["report", str(scored), str(other), "--table", "paper"]) == 0
    assert f"scripted ({other})" in capsys.readouterr().out
