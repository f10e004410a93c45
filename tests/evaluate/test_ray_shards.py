"""A prediction on a Ray cluster is the run in one: the same report, the same failures, and it goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from robointervlm.core.errors import RecipeError
from robointervlm.evaluate.in_shards import _answer, predict_in_shards
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.jobs.ray_cluster import cluster
from robointervlm.jobs.share import Share
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import Benchmark, make_benchmark, robointer

pytestmark = pytest.mark.slow


def recipe_of(benchmark: Benchmark, out: Path, *overrides: str) -> EvaluationRecipe:
    return load_recipe(EvaluationRecipe, None, [*benchmark.overrides(out), *overrides])


def bytes_of(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("report.json", "samples.jsonl", "requested.json")}


@pytest.fixture(scope="module")
def ray():
    """One cluster for all; it takes long to start."""
    pytest.importorskip("ray")
    with cluster("local", 2) as connected:
        yield connected


def on_ray(recipe: EvaluationRecipe, count: int, ray):
    return predict_in_shards(recipe, count, ray)


def test_shards_on_ray_give_the_report_of_one_run(tmp_path, monkeypatch, ray):
    benchmark = make_benchmark(tmp_path, count=20)
    predict(recipe_of(benchmark, tmp_path / "whole"))
    score(tmp_path / "whole")
    monkeypatch.chdir(tmp_path)  # not where the cluster was started
    outcome = on_ray(recipe_of(benchmark, Path("run")), 3, ray)
    assert outcome.counts == {"ok": 18, "unparsable": 2}
    score(tmp_path / "run")
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_a_shard_whose_process_is_killed_is_begun_again_and_asks_nothing_twice(tmp_path, ray):
    benchmark = make_benchmark(tmp_path, count=20)
    predict(recipe_of(benchmark, tmp_path / "whole"))
    score(tmp_path / "whole")
    run, calls = tmp_path / "run", tmp_path / "calls"
    slow = ["model.delay_seconds=0.1", f"model.calls_file={calls}", "batch_size=1"]
    killed = []

    def kill_one() -> None:
        end = time.monotonic() + 60
        records = run / "shards" / "1-of-2" / "records.jsonl"
        while time.monotonic() < end and not (records.is_file() and records.read_bytes().count(b"\n") >= 2):
            time.sleep(0.02)
        killed.append(int((run / "shards" / "1-of-2" / ".lock").read_text()))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_one)
    thread.start()
    on_ray(recipe_of(benchmark, run, *slow), 2, ray)
    thread.join()
    assert int((run / "shards" / "1-of-2" / ".lock").read_text()) != killed[0]
    score(run)
    assert bytes_of(run) == bytes_of(tmp_path / "whole")
    # Only what was in flight at the kill may have been asked twice.
    assert 20 <= len(calls.read_text().splitlines()) <= 21


def test_what_a_shard_fails_with_is_raised_and_said_to_be_its(tmp_path, ray):
    benchmark = make_benchmark(tmp_path, count=4)
    recipe = recipe_of(benchmark, tmp_path / "run")
    (benchmark.model / "answers.json").write_text("{")
    with pytest.raises(RecipeError, match=r"shard \d/2: .*cannot be read as JSON"):
        on_ray(recipe, 2, ray)


def test_a_folder_that_another_machine_has_not_is_named_and_a_bug_stays_one(tmp_path, monkeypatch, ray):
    recipe = recipe_of(make_benchmark(tmp_path, count=4), tmp_path / "run")

    def broken(*_: object, **__: object) -> None:
        raise OSError("not of the folder")

    missing = str(tmp_path / "gone")
    with pytest.raises(RecipeError) as raised:
        _answer(missing, tmp_path / "run", Share(1, 2), alone=False)
    assert str(raised.value) == (
        f"shard 1/2: {missing} has to be the same folder on every machine: No such file or directory."
    )
    monkeypatch.setattr("robointervlm.evaluate.in_shards._answer", broken)
    with pytest.raises(OSError, match="not of the folder"):
        on_ray(recipe, 2, ray)


def test_a_cluster_that_is_not_there_is_one_line(tmp_path):
    pytest.importorskip("ray")
    benchmark = make_benchmark(tmp_path, count=4)
    done = robointer("predict", *benchmark.options(tmp_path / "run"), "--ray", "127.0.0.1:9")
    assert done.returncode == RecipeError.exit_code
    assert "no cluster answers" in done.stderr
    assert "Traceback" not in done.stderr
