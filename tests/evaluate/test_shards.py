"""A run in shards is the run in one: nothing is lost, nothing is asked twice, the report is the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from killed_shards import kill_me

from robointervlm.core.errors import DataError, LostProcessError, RecipeError
from robointervlm.evaluate.in_shards import predict_in_shards
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.evaluate.shards import merge_shards
from robointervlm.runs.journal import read_journal
from robointervlm.runs.settings import load_recipe, write_recipe
from scripted_benchmark import COMMAND, Benchmark, make_benchmark, robointer

SCORED = ["report.json", "samples.jsonl", "requested.json"]


def recipe_of(benchmark: Benchmark, out: Path, *overrides: str) -> EvaluationRecipe:
    return load_recipe(EvaluationRecipe, None, [*benchmark.overrides(out), *overrides])


def in_shards(benchmark: Benchmark, out: Path, of: int, *overrides: str) -> Path:
    for number in range(1, of + 1):
        predict(recipe_of(benchmark, out, f"shard={number}/{of}", *overrides))
    return out


def bytes_of(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in SCORED}


@pytest.fixture
def whole(tmp_path) -> tuple[Benchmark, Path]:
    """A benchmark, and its run in one process."""
    benchmark = make_benchmark(tmp_path, count=20)
    predict(recipe_of(benchmark, tmp_path / "whole"))
    score(tmp_path / "whole")
    return benchmark, tmp_path / "whole"


@pytest.mark.parametrize("of", [1, 3, 40])
def test_the_report_of_merged_shards_is_that_of_one_run(tmp_path, whole, of):
    benchmark, undivided = whole
    run = in_shards(benchmark, tmp_path / "run", of)
    assert merge_shards(run) == {"ok": 18, "unparsable": 2}
    score(run)
    assert bytes_of(run) == bytes_of(undivided)


def test_shards_ask_every_question_once(tmp_path):
    benchmark = make_benchmark(tmp_path, count=20)
    run = in_shards(benchmark, tmp_path / "run", 3)
    asked = [
        [entry["id"] for entry in read_journal(folder / "records.jsonl").entries] for folder in run.glob("shards/*")
    ]
    assert all(asked)
    assert Counter(sum(asked, [])) == Counter({f"current_box-{number:04}": 1 for number in range(20)})


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/", "a/b", "-1/2", "1/0", "1/2/3"])
def test_what_is_no_shard_is_refused(tmp_path, text):
    with pytest.raises(RecipeError, match="is no shard; 1/4 is the first of four"):
        recipe_of(make_benchmark(tmp_path, count=1), tmp_path / "run", f"shard='{text}'")


def test_a_merge_names_the_shard_that_is_missing(tmp_path):
    benchmark = make_benchmark(tmp_path, count=6)
    predict(recipe_of(benchmark, tmp_path / "run", "shard=1/3"))
    predict(recipe_of(benchmark, tmp_path / "run", "shard=3/3"))
    with pytest.raises(DataError, match="shard 2/3 is missing"):
        merge_shards(tmp_path / "run")
    assert not (tmp_path / "run" / "requested.json").exists()


def test_a_merge_refuses_a_shard_without_all_its_answers(tmp_path):
    run = in_shards(make_benchmark(tmp_path, count=20), tmp_path / "run", 2)
    records = run / "shards" / "2-of-2" / "records.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(DataError, match=rf"2 of {len(lines)} questions have no record; .* --shard 2/2"):
        merge_shards(run)


def test_a_merge_refuses_a_question_that_is_in_two_shards_or_in_none(tmp_path):
    run = in_shards(make_benchmark(tmp_path, count=20), tmp_path / "run", 2)
    file = run / "shards" / "1-of-2" / "shard.json"
    content = json.loads(file.read_text())
    other = json.loads((run / "shards" / "2-of-2" / "shard.json").read_text())
    content["positions"][0] = other["positions"][0]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 of 20 questions are in two shards and 1 in none"):
        merge_shards(run)


@pytest.mark.parametrize(
    "override, what", [("model.coordinates=unit", "models"), ("decoding.seed=7", "decoding"), ("limit=9", "number")]
)
def test_shards_that_asked_otherwise_do_not_merge(tmp_path, override, what):
    benchmark = make_benchmark(tmp_path, count=20)
    predict(recipe_of(benchmark, tmp_path / "run", "shard=1/2"))
    predict(recipe_of(benchmark, tmp_path / "run", "shard=2/2", override))
    with pytest.raises(DataError, match=f"have different {what}"):
        merge_shards(tmp_path / "run")


def test_a_damaged_shard_file_is_named(tmp_path):
    run = in_shards(make_benchmark(tmp_path, count=4), tmp_path / "run", 1)
    (run / "shards" / "1-of-1" / "shard.json").write_text("{")
    with pytest.raises(DataError, match=r"shard.json is damaged"):
        merge_shards(run)


def test_a_run_in_one_and_a_run_in_shards_do_not_share_a_folder(tmp_path, whole):
    benchmark, undivided = whole
    with pytest.raises(RecipeError, match="holds a run without shards"):
        predict(recipe_of(benchmark, undivided, "shard=1/2"))
    run = in_shards(benchmark, tmp_path / "run", 2)
    with pytest.raises(RecipeError, match="holds a run in 2 shards"):
        predict(recipe_of(benchmark, run))
    with pytest.raises(RecipeError, match="holds shard ./2, which does not go with 1/3"):
        predict(recipe_of(benchmark, run, "shard=1/3"))


def test_a_shard_copied_from_another_machine_counts(tmp_path, whole):
    benchmark, undivided = whole
    here, there = tmp_path / "here", tmp_path / "there"
    predict(recipe_of(benchmark, here, "shard=1/2"))
    predict(recipe_of(benchmark, there, "shard=2/2"))
    shutil.copytree(there / "shards" / "2-of-2", here / "shards" / "2-of-2")
    done = robointer("score", here)
    assert done.returncode == 0, done.stderr
    assert bytes_of(here) == bytes_of(undivided)
    assert "current_box" in done.stdout


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(tmp_path, whole):
    benchmark, undivided = whole
    done = robointer("predict", *benchmark.options(tmp_path / "run"), "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "run") == bytes_of(undivided)


def lines_of(run: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in run.glob("shards/*/records.jsonl"))


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_process_is_reported_and_its_shard_goes_on(tmp_path, whole):
    benchmark, undivided = whole
    run, calls = tmp_path / "run", tmp_path / "calls"
    slow = ["model.delay_seconds=0.1", f"model.calls_file={calls}", "batch_size=1"]
    command = [*COMMAND, "predict", *slow, *benchmark.options(run), "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as parent:
        until(lambda: lines_of(run) >= 4)
        os.kill(int((run / "shards" / "1-of-2" / ".lock").read_text()), signal.SIGKILL)
        _, said = parent.communicate(timeout=300)
    assert parent.returncode == 0, said
    assert "the process of shard 1/2 was killed (SIGKILL); it is started again" in said
    assert bytes_of(run) == bytes_of(undivided)
    # Only what was in flight at the kill may have been asked twice.
    assert 20 <= len(calls.read_text().splitlines()) <= 21


@pytest.mark.slow
def test_a_stopped_run_stops_its_processes_and_goes_on(tmp_path, whole):
    benchmark, undivided = whole
    run = tmp_path / "run"
    slow = ["model.delay_seconds=0.1", "batch_size=1"]
    command = [*COMMAND, "predict", *slow, *benchmark.options(run), "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as parent:
        until(lambda: lines_of(run) >= 4)
        children = [int(file.read_text()) for file in run.glob("shards/*/.lock")]
        parent.send_signal(signal.SIGTERM)
        _, said = parent.communicate(timeout=300)
    assert parent.returncode == 143
    assert "of 20 done" in said
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    predict_in_shards(recipe_of(benchmark, run), 2)
    score(run)
    assert bytes_of(run) == bytes_of(undivided)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_processes_of_a_killed_run_end_and_the_same_command_goes_on(tmp_path, whole):
    benchmark, undivided = whole
    run = tmp_path / "run"
    command = [
        *COMMAND,
        "predict",
        "model.delay_seconds=0.1",
        "batch_size=1",
        *benchmark.options(run),
        "--processes",
        "2",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as parent:
        until(lambda: lines_of(run) >= 4)
        children = [Path("/proc", file.read_text().strip()) for file in run.glob("shards/*/.lock")]
        parent.kill()
    until(lambda: not any(child.exists() for child in children))
    assert lines_of(run) < 20
    predict_in_shards(recipe_of(benchmark, run), 2)
    score(run)
    assert bytes_of(run) == bytes_of(undivided)


@pytest.mark.slow
def test_what_a_process_fails_with_is_said_by_the_command(tmp_path):
    benchmark = make_benchmark(tmp_path, count=4)
    (benchmark.model / "answers.json").write_text("{")
    done = robointer("predict", *benchmark.options(tmp_path / "run"), "--processes", "2")
    assert done.returncode == 2
    assert "error: the process of shard" in done.stderr
    assert "cannot be read as JSON" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_too_many_failures_in_all_processes_are_judged_together(tmp_path):
    benchmark = make_benchmark(tmp_path, count=10)
    answers = json.loads((benchmark.model / "answers.json").read_text())
    answers["Where is object 3?"] = {"error": "broken"}
    (benchmark.model / "answers.json").write_text(json.dumps(answers))
    options = [*benchmark.options(tmp_path / "run"), "--processes", "2"]
    assert robointer("predict", *options, "--max-error-rate", "0.1").returncode == 0
    assert robointer("predict", *options).returncode == 4


def test_a_process_that_is_killed_at_once_again_and_again_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("robointervlm.evaluate.in_shards._answer", kill_me)
    with pytest.raises(LostProcessError, match="was killed 3 times without an answer"):
        predict_in_shards(recipe_of(make_benchmark(tmp_path, count=4), tmp_path / "run"), 2)


def test_a_bug_in_the_process_of_a_shard_is_called_one_and_its_traceback_kept(tmp_path):
    run = tmp_path / "run"
    write_recipe(recipe_of(make_benchmark(tmp_path, count=2), run), run / "shards" / "recipe.yaml")
    code = (
        "import sys; from pathlib import Path; from robointervlm.core.errors import LostProcessError;"
        "from robointervlm.evaluate import in_shards; from robointervlm.jobs.share import Share;"
        "in_shards.predict = lambda recipe: 1 / 0\n"
        "try: in_shards._answer('.', Path(sys.argv[1]), Share(1, 2), alone=True)\n"
        "except LostProcessError as error: Path('said').write_text(str(error))"
    )
    subprocess.run([sys.executable, "-c", code, run], cwd=tmp_path, timeout=60, check=True)
    output = run / "shards" / "1-of-2" / "output.txt"
    assert (tmp_path / "said").read_text() == (
        "the process of shard 1/2 ended with exit code 1: ZeroDivisionError: division by zero. "
        f"This is a bug; the traceback is in {output}."
    )
    assert "Traceback" in output.read_text()
