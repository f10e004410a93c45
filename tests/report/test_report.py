from __future__ import annotations

import json
import re

import pytest

from robointervlm.core.answer import Box, Choice, Trajectory
from robointervlm.core.errors import DataError
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.report.overlay import svg_shapes
from robointervlm.report.page import page
from robointervlm.report.scored import ScoredRun
from robointervlm.report.tables import markdown
from robointervlm.report.write import write_report
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import make_benchmark, make_model


def reported(folder, benchmark, *overrides):
    out = folder / "run"
    predict(load_recipe(EvaluationRecipe, None, [*benchmark.overrides(out), *overrides]))
    score(out)
    write_report(out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return reported(folder, make_benchmark(folder, count=20))


def test_every_table_shows_n_and_unparsed(run):
    for table in re.findall(r"<thead>.*?</thead>", (run / "report.html").read_text(), re.DOTALL):
        assert "<th>n</th><th>unparsed</th>" in table
    header = next(line for line in (run / "report.md").read_text().splitlines() if line.startswith("| task"))
    assert "| n | unparsed |" in header
    assert "| current_box | all | 20 | 2 (10.0%) | ACC@IoU>0.1 ↑ |" in (run / "report.md").read_text()


def test_the_page_stands_alone(run):
    page = (run / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert page.count("data:image/jpeg;base64,") == 18  # six worst, six best, six of the others
    assert page.count('<g class="predicted">') >= 16
    assert page.count('<g class="true">') == 18


def test_what_a_model_says_is_text_and_never_markup(tmp_path):
    benchmark = make_benchmark(tmp_path, count=1)
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m | pipe"
    make_model(benchmark.model, {"Where is object 0?": evil}, name="<b>model|name</b>")
    out = reported(tmp_path, benchmark)
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in (out / "report.md").read_text()
    [log] = (out / "logs").iterdir()
    assert "/" not in log.name.replace(log.suffix, "")
    assert "\x1b" not in log.read_text()


def test_a_picture_that_is_gone_leaves_a_note_in_its_place(tmp_path):
    benchmark = make_benchmark(tmp_path, count=2)
    (benchmark.images / "0001.png").unlink()
    page = (reported(tmp_path, benchmark) / "report.html").read_text()
    assert '<figure class="none">' in page or "No such file" in page
    assert "input_error" in page


def test_the_documented_log_has_samples_aggregate_and_performance(run):
    log = (run / "logs" / "scripted_current_box.log").read_text()
    results = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert len(results) == 20
    assert results[0]["IoU"] == 1.0
    assert "ACC@IoU>0.1" in log
    assert "seconds_median" in log


def test_a_single_cluster_has_a_mean_and_no_interval(tmp_path):
    out = reported(tmp_path, make_benchmark(tmp_path, count=3))
    assert "| 1.000 | – |" in (out / "report.md").read_text()


def test_questions_without_pictures_are_shown_as_text(tmp_path):
    questions = [{"id": "a", "question": "Is it done?", "ground_truth": "Yes"}]
    (tmp_path / "decide.json").write_text(json.dumps(questions))
    model = make_model(tmp_path / "model", {"Is it done?": "Yes."})
    out = tmp_path / "run"
    settings = [f"model.path={model}", f"data.file={tmp_path}/decide.json", "data.task=contact_decide"]
    predict(load_recipe(EvaluationRecipe, None, [*settings, f"run.dir={out}"]))
    score(out)
    write_report(out)
    page = (out / "report.html").read_text()
    assert 'show-predicted"' not in page
    assert "Is it done?" in page


def test_a_run_that_was_not_scored_says_how(tmp_path):
    with pytest.raises(DataError, match="robointer score"):
        write_report(tmp_path)


def test_a_box_is_drawn_where_it_is():
    assert '<rect x="1.00" y="2.00" width="3.00" height="4.00"/>' in svg_shapes(Box(1, 2, 4, 6), "predicted")


def test_a_trajectory_has_its_start_marked_and_a_letter_is_not_drawn():
    drawn = svg_shapes(Trajectory(((0, 0), (5, 5))), "true")
    assert drawn.count('class="start"') == 2  # the line and its halo
    assert svg_shapes(Choice("A"), "true") == ""


def metric(**fields):
    described = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 8, "over": "requested", "charged": None}
    return {"name": "Accuracy", "better": "higher", "bounded": True, **described, **fields}


def hand_made(*metrics, **fields):
    group = {"task": "contact_decide", "dataset": None, "n": 8, "unparsed": 2, "unparsed_share": 0.25}
    group |= {"statuses": {"ok": 6, "unparsable": 2}, "metrics": list(metrics), **fields}
    return {
        "model": {"name": "hand-made", "coordinates": "pixel", "fingerprint": "0"},
        "style": "default",
        "decoding": {"temperature": 0.0},
        "requested": 8,
        "complete": True,
        "statuses": group["statuses"],
        "tasks": [group],
        "datasets": [{**group, "dataset": "mine"}],
    }


def shown(report):
    return markdown(report), page(ScoredRun(report, (), {}), examples=0)


def test_the_published_arithmetic_stands_beside_ours_where_it_is_known():
    text, html = shown(hand_made(metric(paper={"mean": 0.75, "n": 6}), metric(name="Other", paper=None)))
    assert "| failures charged | paper |" in text
    assert "| included | 0.750 (6) |" in text
    assert "| included | – |" in text
    assert ">paper</th>" in html
    assert "<td>0.750 (6)</td>" in html


def test_without_published_arithmetic_there_is_no_column_for_it():
    text, html = shown(hand_made(metric()))
    assert "paper" not in text
    assert ">paper</th>" not in html
    assert "Quirks" not in text + html


def test_quirks_are_listed_by_name_where_they_changed_a_record():
    report = hand_made(metric(paper={"mean": 0.75, "n": 6}), quirks={"zeros left out": 2, "prompt read": 0, "a<b": 1})
    text, html = shown(report)
    assert "* contact_decide: zeros left out (2 answers)" in text
    assert "<li>contact_decide: a&lt;b (1 answer)</li>" in html
    assert "prompt read" not in text + html


def test_slices_have_their_own_tables_with_n_and_unparsed():
    report = hand_made(metric())
    report["slices"] = [{"by": "skill", "value": "pick", **report["tasks"][0]}]
    text, html = shown(report)
    assert "## By skill" in text
    assert "| task | skill | n | unparsed |" in text
    assert "| contact_decide | pick | 8 | 2 (25.0%) |" in text
    assert "<summary>By skill</summary>" in html


def test_box_sizes_say_what_they_mean(run):
    text = (run / "report.md").read_text()
    assert "| current_box | medium | 20 | 2 (10.0%) | ACC@IoU>0.1 ↑ |" in text
    assert "small is under 1 % of the picture" in text
