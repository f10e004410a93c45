"""The page of a run's curves."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from robointervlm.train.callbacks.curves import (
    outline,
    panels,
    picture,
    read_records,
    smoothed,
    validation_panels,
    write_curves,
)

SOURCE = Path(__file__).resolve().parents[3] / "src" / "robointervlm"
BOXES = {
    "ACC@IoU>0.5": {"mean": 0.25, "over": "questions"},
    "IoU": {"mean": 0.5, "over": "questions"},
}
PATHS = {"RMSE": {"mean": 12.5, "over": "readable", "charged": 300.0}}


def validated(step, **tasks):
    entries = [{"task": name, "questions": 8, "readable": 6, "metrics": metrics} for name, metrics in tasks.items()]
    return {"step": step, "questions": 8 * len(entries), "tasks": entries}


def written(folder, metrics, validation=()):
    """The page of a run with these records."""
    for name, records in (("metrics", metrics), ("validation", validation)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_curves(folder)
    return (folder / "curves.html").read_text()


def test_smoothing_is_a_mean_of_the_last_steps():
    # 90 values make a window of three.
    assert smoothed(np.arange(90.0))[[0, 1, 2, 89]].tolist() == [0.0, 0.5, 1.0, 88.0]


def test_a_single_spike_of_a_long_curve_is_drawn():
    values = np.zeros(100_000)
    values[54_321] = 9
    drawn = outline(values)
    assert 54_321 in drawn
    assert len(drawn) <= 2002


def test_curves_leave_out_what_is_torn_or_not_finite(tmp_path):
    lines = [
        *(json.dumps({"step": step, "loss": 2.0 / step, "lr": {"vision": 1e-6}}) for step in (1, 2)),
        '{"step": 3, "loss": NaN}',
        '{"step": 4, "lo',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    loss, rate, norm, _, _ = panels(read_records(tmp_path / "metrics.jsonl"))
    assert loss.curves[0].values.tolist() == [2.0, 1.0]
    assert loss.left_out == 1
    assert [curve.name for curve in rate.curves] == ["vision"]
    assert not len(norm.curves[0].values)
    write_curves(tmp_path)
    assert "1 value is not finite (NaN or infinite) and not drawn" in (tmp_path / "curves.html").read_text()


def test_a_step_that_was_repeated_after_a_kill_is_drawn_once(tmp_path):
    written(tmp_path, [{"step": step, "loss": loss} for step, loss in ((1, 3.0), (2, 2.5), (3, 9.0), (2, 2.0))])
    assert [record["loss"] for record in read_records(tmp_path / "metrics.jsonl")] == [3.0, 2.0, 9.0]


def test_a_run_of_one_step_has_a_page_and_one_without_a_step_has_none(tmp_path):
    write_curves(tmp_path)
    assert not (tmp_path / "curves.html").exists()
    page = written(tmp_path, [{"step": 1, "loss": 2.0}])
    assert "1 step in the log" in page
    # A line of one point is not seen.
    assert page.count('class="dots"') == 1


def test_a_run_whose_losses_are_all_nan_has_a_page(tmp_path):
    page = written(tmp_path, [{"step": step, "loss": float("nan")} for step in (1, 2)])
    assert "2 values are not finite" in page


def test_validation_scores_have_unit_and_direction():
    found = validation_panels([validated(0, current_box=BOXES, traj=PATHS), validated(5, current_box=BOXES)])
    assert [panel.title for panel in found] == ["current_box (share)", "traj (share)", "traj: RMSE ↓ (px)"]
    assert [curve.name for curve in found[0].curves] == ["ACC@IoU>0.5 ↑", "IoU ↑", "readable ↑"]
    assert found[0].curves[1].steps.tolist() == [0.0, 5.0]
    assert found[0].curves[2].values.tolist() == [0.75, 0.75]
    assert [(curve.name, curve.values.tolist()) for curve in found[2].curves] == [
        ("readable answers", [12.5]),
        ("failures charged", [300.0]),
    ]


def test_the_unit_of_a_plugins_metric_is_shown_also_where_the_task_is_no_longer_known():
    angle = {"MAE": {"unit": "deg", "mean": 12.0, "over": "readable", "charged": None}}
    assert validation_panels([validated(0, no_such_task=angle)])[1].title == "no_such_task: MAE (deg)"


def test_the_page_has_a_table_of_the_scores_with_units(tmp_path):
    page = written(tmp_path, [{"step": 1, "loss": 2.0}], [validated(0, traj=PATHS)])
    assert "12.5 px" in page
    assert "6 of 8" in page


def test_a_name_cannot_write_into_the_page(tmp_path):
    bad = '</script><script>alert(1)</script>"><img src=x>'
    page = written(
        tmp_path, [{"step": 1, "loss": 2.0, "lr": {bad: 1e-6}}], [validated(0, **{bad: {bad: BOXES["IoU"]}})]
    )
    assert "alert(1)" in page
    assert "<img" not in page
    assert page.count("<script") == 1


def test_the_page_loads_nothing(tmp_path):
    page = written(tmp_path, [{"step": step, "loss": 2.0 / step} for step in (1, 2)])
    assert "default-src 'none'" in page
    assert re.findall(r"(?:src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page) == []


def test_its_ground_and_letters_are_those_of_the_report():
    # train may not import report; what the two share stands in both.
    pages = [(SOURCE / name).read_text() for name in ("report/page.html.j2", "train/callbacks/curves.html.j2")]
    names = ("ground", "panel", "ink", "soft", "line")
    first, second = ([re.findall(rf"--{name}: (#\w+)", page) for name in names] for page in pages)
    assert first == second


@pytest.mark.parametrize("name, said", [("$x$", r"\$x\$"), ("vision", "vision")])
def test_matplotlib_draws_the_png_where_it_is_installed(monkeypatch, name, said):
    told = []

    class Figure:
        def __init__(self, **_): ...
        def add_subplot(self, *place):
            told.append(place)
            return self

        def set_title(self, *_, **__): ...
        def plot(self, *_, label, **__):
            told.append(label)

        def legend(self): ...
        def savefig(self, file, format):  # noqa: A002 - matplotlib's word
            file.write(format.encode())

    module = types.ModuleType("matplotlib.figure")
    module.Figure = Figure
    monkeypatch.setitem(sys.modules, "matplotlib", types.ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", module)
    assert picture(panels([{"step": 1, "loss": 1.0, "lr": {name: 1e-6}}])) == b"png"
    assert said in told
    assert (3, 2, 5) in told
