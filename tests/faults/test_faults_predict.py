"""Scenarios 1 to 7 of the reliability page: a prediction run is killed, stopped, damaged and run twice at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from robointervlm.cli.main import run
from robointervlm.core.errors import RecipeError
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.runs.journal import read_journal
from robointervlm.runs.run import locked
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import COMMAND, Benchmark, make_benchmark, robointer

SEED = int(os.environ.get("FAULT_SEED", "0"))
RESULTS = ("report.json", "samples.jsonl", "report.md", "report.html")


def started(benchmark: Benchmark, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "predict", *benchmark.options(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"{path} did not reach {count} lines")


def keys(out: Path) -> Counter[str]:
    return Counter(str(entry["key"]) for entry in read_journal(out / "records.jsonl").entries)


def assert_same_results(out: Path, undisturbed: Path) -> None:
    for name in RESULTS:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.slow
def test_ten_kills_lose_nothing_and_the_report_is_the_undisturbed_one(tmp_path):
    benchmark = make_benchmark(tmp_path, count=200, delay_seconds=0.005, calls_file=str(tmp_path / "calls"))
    assert robointer("predict", *benchmark.options(tmp_path / "whole")).returncode == 0
    (tmp_path / "calls").unlink()

    out, moments, kills = tmp_path / "killed", random.Random(SEED), 0
    while kills < 10:
        process = started(benchmark, out)
        try:
            process.communicate(timeout=moments.uniform(0.2, 1.6))
            (out / "records.jsonl").unlink()  # it was done before the moment came: once more from the start
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert robointer("predict", *benchmark.options(out)).returncode == 0

    assert len(keys(out)) == 200  # lost: 0
    assert set(keys(out).values()) == {1}  # duplicated: 0
    assert_same_results(out, tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_run_goes_on_and_asks_no_finished_question_again(tmp_path):
    benchmark = make_benchmark(tmp_path, count=60, delay_seconds=0.01, calls_file=str(tmp_path / "calls"))
    out = tmp_path / "run"
    process = started(benchmark, out)
    wait_for_lines(out / "records.jsonl", 20)
    process.kill()
    process.communicate()
    kept = len(keys(out))

    again = robointer("predict", *benchmark.options(out))

    assert again.returncode == 0
    assert f"{kept} of 60 questions were answered by an earlier run" in again.stderr.replace("\n", " ").replace(
        "  ", ""
    )
    assert set(keys(out).values()) == {1}
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(set(calls)) == 60
    assert len(calls) <= 60 + 16  # at most the batch in flight was asked twice


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_says_how_to_go_on(tmp_path, number, code):
    benchmark = make_benchmark(tmp_path, count=60, delay_seconds=0.05)
    process = started(benchmark, tmp_path / "run")
    wait_for_lines(tmp_path / "run" / "records.jsonl", 16)
    asked_at = time.monotonic()
    process.send_signal(number)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert time.monotonic() - asked_at < 5
    assert "rerun the same command" in said
    assert f"{len(keys(tmp_path / 'run'))} of 60 done" in said
    assert "Traceback" not in said


def test_a_second_run_in_the_same_folder_is_locked_out(tmp_path, capsys):
    benchmark = make_benchmark(tmp_path, count=2)
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"):
        assert run(["predict", *benchmark.options(tmp_path / "run")]) == 2
    assert f"locked by pid {os.getpid()}" in capsys.readouterr().err
    assert not (tmp_path / "run" / "records.jsonl").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    benchmark = make_benchmark(folder, count=6)
    predict_in_process(benchmark, folder / "run")
    score(folder / "run")
    return benchmark, folder / "run"


def predict_in_process(benchmark: Benchmark, out: Path) -> int:
    return predict(load_recipe(EvaluationRecipe, None, benchmark.overrides(out))).reused


def test_a_tail_torn_at_any_byte_costs_at_most_its_sample(finished, tmp_path):
    benchmark, whole = finished
    data = (whole / "records.jsonl").read_bytes()
    out = tmp_path / "run"
    out.mkdir()
    lines = data.splitlines(keepends=True)
    start = sum(map(len, lines[:-2]))
    wrong = []
    # Every byte is tried with the reader, some with a whole run.
    for cut in range(start, len(data)):
        (out / "records.jsonl").write_bytes(data[:cut])
        whole_lines = data[:cut].count(b"\n")
        if len(read_journal(out / "records.jsonl").entries) != whole_lines:
            wrong.append(cut)
        if (cut - start) % 997 == 0:
            predict_in_process(benchmark, out)
            if len(keys(out)) != 6 or set(keys(out).values()) != {1}:
                wrong.append(cut)
    assert wrong == []


@pytest.mark.parametrize("tail", [b"\0" * 512, '{"key": "é'.encode()[:-1], b"{", b'{"key": 1}'])
def test_rubbish_at_the_end_is_cut_with_one_warning(finished, tmp_path, tail, caplog):
    benchmark, whole = finished
    out = tmp_path / "run"
    out.mkdir()
    data = (whole / "records.jsonl").read_bytes()
    (out / "records.jsonl").write_bytes(data + tail)
    assert predict_in_process(benchmark, out) == 6
    assert (out / "records.jsonl").read_bytes() == data


@pytest.mark.parametrize("place", [5, 120, 400])
def test_a_flipped_bit_in_the_middle_is_quarantined_and_the_sample_done_again(finished, tmp_path, place):
    benchmark, whole = finished
    out = tmp_path / "run"
    out.mkdir()
    lines = (whole / "records.jsonl").read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[2])
    damaged[place] ^= 1
    (out / "records.jsonl").write_bytes(b"".join([*lines[:2], bytes(damaged), *lines[3:]]))

    assert predict_in_process(benchmark, out) == 5

    assert (out / "records.bad.jsonl").read_bytes() == bytes(damaged)
    assert set(keys(out).values()) == {1}
    assert len(keys(out)) == 6
    score(out)
    assert (out / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()


def test_another_picture_under_the_same_name_is_asked_again(tmp_path):
    benchmark = make_benchmark(tmp_path, count=6)
    predict_in_process(benchmark, tmp_path / "run")
    (benchmark.images / "0001.png").write_bytes((benchmark.images / "0002.png").read_bytes())
    assert predict_in_process(benchmark, tmp_path / "run") == 5


def test_a_model_whose_answers_changed_is_another_model_and_refused(tmp_path):
    benchmark = make_benchmark(tmp_path, count=3)
    predict_in_process(benchmark, tmp_path / "run")
    (benchmark.model / "answers.json").write_text(json.dumps({"Where is object 0?": "[1, 2, 3, 4]"}))
    with pytest.raises(RecipeError, match="'scripted' with other weights or settings"):
        predict_in_process(benchmark, tmp_path / "run")


@pytest.mark.slow
def test_a_full_disk_exits_6_and_what_was_there_stays_readable(finished, tmp_path):
    benchmark, _ = finished
    out = tmp_path / "run"
    arguments = [*COMMAND, "predict", *benchmark.options(out)]
    # No file may grow over 1 KB: the list of questions alone is longer.
    limited = subprocess.run(
        ["prlimit", "--fsize=1024", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert limited.returncode == 6, limited.stderr
    assert "free some space" in limited.stderr
    assert not list(out.glob(".*.tmp"))
    assert robointer("predict", *benchmark.options(out)).returncode == 0
