"""Scenarios 34 to 41 of the reliability page: an endpoint that limits, fails, hangs, lies and echoes its key."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from api_runs import KEY, answers_of, only, predict_options, records
from api_server import FINAL_FAULTS, TRANSIENT_FAULTS, ApiServer, Fault, as_fault, completion

from robointervlm.cli.main import run
from scripted_benchmark import COMMAND, Benchmark, make_benchmark

pytest.importorskip("httpx2")

SEED = int(os.environ.get("FAULT_SEED", "0"))
RESULTS = ("report.json", "samples.jsonl", "report.md", "report.html")


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Benchmark:
    return make_benchmark(tmp_path_factory.mktemp("small"), count=6)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Benchmark:
    """A question for each fault, and two more that nothing happens to."""
    return make_benchmark(tmp_path_factory.mktemp("many"), count=max(len(TRANSIENT_FAULTS), len(FINAL_FAULTS)) + 2)


def one_each(faults: dict[str, Fault]) -> dict[str, str]:
    """Which question meets which fault: by number, from the second on."""
    return {f"Where is object {number}?": name for number, name in enumerate(faults, start=1)}


def test_a_passing_fault_costs_another_attempt_and_nothing_else(many, tmp_path):
    met = one_each(TRANSIENT_FAULTS)
    server = ApiServer(
        answers_of(many), lambda asked, nth: TRANSIENT_FAULTS[met[asked]] if asked in met and nth == 0 else None
    )
    with server.serving() as url:
        assert run(predict_options(many, url, tmp_path / "run")) == 0
    assert server.paid == dict.fromkeys(answers_of(many), 1)
    assert {name: server.requests[question] for question, name in met.items()} == dict.fromkeys(TRANSIENT_FAULTS, 2)
    assert server.total == many.count + len(TRANSIENT_FAULTS)
    kept = records(tmp_path / "run")
    assert len(kept) == many.count
    assert {str(record["reply"]) for record in kept} == set(answers_of(many).values())


@pytest.mark.parametrize("name", ["status 503", "truncated JSON", "retry-after 0"])
def test_a_lasting_fault_is_tried_six_times_and_the_others_go_on(small, tmp_path, name):
    server = ApiServer(answers_of(small), only("Where is object 2?", TRANSIENT_FAULTS[name]))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run")) == 4
    assert server.requests["Where is object 2?"] == 6
    [failed] = [record for record in records(tmp_path / "run") if record["status"] != "ok"]
    assert failed["status"] == "model_error"
    assert "attempt 6 of 6" in str(failed["reason"])


def test_a_lasting_answer_that_is_none_is_not_paid_for_again(many, tmp_path):
    met = one_each(FINAL_FAULTS)
    server = ApiServer(answers_of(many), lambda asked, nth: FINAL_FAULTS[met[asked]] if asked in met else None)
    with server.serving() as url:
        assert run(predict_options(many, url, tmp_path / "run", "deadline_seconds=20")) == 4
    assert server.requests == dict.fromkeys(answers_of(many), 1)
    failed = [record for record in records(tmp_path / "run") if record["status"] not in {"ok", "unparsable"}]
    assert {met[str(record["prompt"]).removeprefix("<image>\n")] for record in failed} == set(FINAL_FAULTS)
    assert {record["status"] for record in failed} == {"model_error"}
    assert all(str(record["reason"]).isprintable() and len(str(record["reason"])) <= 500 for record in failed)


def test_a_failed_question_is_asked_again_by_the_next_call_and_no_other(small, tmp_path):
    server = ApiServer(answers_of(small), only("Where is object 2?", FINAL_FAULTS["null content"], times=1))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run")) == 4
        assert run(predict_options(small, url, tmp_path / "run")) == 0
    assert server.total == 7


@pytest.mark.parametrize(
    "fault, status, finish",
    [
        (as_fault(completion("", finish="content_filter")), "refused", "refused"),
        (as_fault(completion(None, refusal="I cannot help with that.")), "refused", "refused"),
        (as_fault({"error": {"code": "content_filter", "message": "filtered"}}, 400), "refused", "refused"),
        (as_fault(completion('{"current_bbox": [[1, 2], [', finish="length")), "unparsable", "length"),
        (as_fault(completion(None, finish="length")), "unparsable", "length"),
    ],
)
def test_how_an_answer_ended_is_recorded(small, tmp_path, fault, status, finish):
    server = ApiServer(answers_of(small), only("Where is object 2?", fault))
    with server.serving() as url:
        run(predict_options(small, url, tmp_path / "run"))
    [odd] = [record for record in records(tmp_path / "run") if record["status"] != "ok"]
    assert (odd["status"], odd["finish_reason"]) == (status, finish)
    assert server.requests["Where is object 2?"] == 1


@pytest.mark.parametrize("name", ["never answers", "headers, then hangs", "one byte at a time"])
def test_an_attempt_ends_at_its_total_deadline(small, tmp_path, name):
    server = ApiServer(answers_of(small), only("Where is object 0?", TRANSIENT_FAULTS[name]))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "attempts=1", "deadline_seconds=0.5")) == 4
    [failed] = [record for record in records(tmp_path / "run") if record["status"] != "ok"]
    assert "did not answer within 0.5 s" in str(failed["reason"])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_costs_one_request_and_stops_the_run(small, tmp_path, capsys, status):
    body = {"error": {"message": f"Incorrect API key provided: {KEY[:9]}***{KEY[-4:]}, {KEY}"}}
    server = ApiServer(answers_of(small), lambda asked, nth: as_fault(body, status))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run")) == 2
    assert server.total == 1
    said = capsys.readouterr().err
    assert f"answered {status}" in said
    assert KEY[-4:] not in said
    assert records(tmp_path / "run") == []


def test_a_key_refused_later_keeps_what_was_answered(small, tmp_path):
    server = ApiServer(answers_of(small), only("Where is object 4?", as_fault({}, 401)))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "concurrency=1")) == 2
    assert [record["id"] for record in records(tmp_path / "run")] == [f"current_box-000{n}" for n in range(4)]


@pytest.mark.parametrize("setting", ["model.api_key=sk-hunter2", "model.base_url=https://me:sk-hunter2@host/v1"])
def test_a_key_in_the_wrong_place_is_written_nowhere(small, tmp_path, capsys, setting):
    assert run([*predict_options(small, "http://127.0.0.1:9/v1", tmp_path / "run"), setting]) == 2
    assert "sk-hunter2" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fault",
    [
        as_fault({"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}, 429),
        as_fault({"error": {"message": "You exceeded your current quota, please check your plan."}}, 429),
        as_fault({"error": {"message": "Payment required"}}, 402),
    ],
)
def test_a_spent_quota_stops_the_run_for_now(small, tmp_path, capsys, fault):
    server = ApiServer(answers_of(small), only("Where is object 3?", fault, times=1))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "concurrency=1")) == 75
        assert server.total == 4
        assert "3 of 6 done. Rerun the same command" in capsys.readouterr().err
        assert run(predict_options(small, url, tmp_path / "run")) == 0
    assert server.paid == dict.fromkeys(answers_of(small), 1)


def test_an_endpoint_that_only_fails_uses_up_the_credit_and_stops(small, tmp_path, capsys):
    server = ApiServer(answers_of(small), lambda asked, nth: Fault(status=503))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "retry_credit=8", "concurrency=4")) == 75
    assert "fails more than it answers" in capsys.readouterr().err
    assert server.total <= 8 + 4


@pytest.mark.parametrize("setting", ["max_tokens_total=300", "max_usd=0.000325"])
def test_a_budget_stops_the_run_and_a_larger_one_goes_on(small, tmp_path, capsys, setting):
    # An answer is 100 tokens in and 5 out: at 1 and 1 dollar per million, three are 315 tokens, or $0.000315.
    prices = ("usd_per_million_input=1", "usd_per_million_output=2", "concurrency=1")
    server = ApiServer(answers_of(small))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", *prices, setting)) == 75
        assert server.total == 3
        assert "the budget is spent" in capsys.readouterr().err
        assert run(predict_options(small, url, tmp_path / "run", *prices, setting)) == 75
        assert server.total == 3
        assert run(predict_options(small, url, tmp_path / "run", *prices)) == 0
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert (usage["answers"], usage["input_tokens_before"], usage["output_tokens"]) == (3, 300, 15)
    assert usage["usd_of_the_run"] == pytest.approx(0.00066)


def test_a_redirect_is_not_followed_with_the_key(small, tmp_path, capsys):
    elsewhere = ApiServer(answers_of(small))
    with elsewhere.serving() as other:
        moved = Fault(status=302, headers={"Location": f"{other}/chat/completions"})
        server = ApiServer(answers_of(small), lambda asked, nth: moved)
        with server.serving() as url:
            assert run(predict_options(small, url, tmp_path / "run")) == 2
    assert elsewhere.total == 0
    assert server.total == 1
    assert "redirect" in capsys.readouterr().err


def test_a_dead_replica_is_worked_around(small, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        server = ApiServer(answers_of(small))
        with server.serving() as url:
            assert run(predict_options(small, json.dumps([dead, url]), tmp_path / "run")) == 0
    assert server.paid == dict.fromkeys(answers_of(small), 1)


def test_two_replicas_share_the_work(small, tmp_path):
    first, second = ApiServer(answers_of(small)), ApiServer(answers_of(small))
    with first.serving() as one, second.serving() as two:
        assert run(predict_options(small, json.dumps([one, two]), tmp_path / "run", "concurrency=1")) == 0
    assert (first.total, second.total) == (3, 3)


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "https://127.0.0.1:{port}/v1"])
def test_no_name_and_no_tls_are_this_questions_failures(small, tmp_path, url):
    server = ApiServer(answers_of(small))
    with server.serving() as plain:
        address = url.format(port=plain.rsplit(":", 1)[1].removesuffix("/v1"))
        options = predict_options(small, address, tmp_path / "run", "allow_http=true", "attempts=2")
        assert run([*options, "limit=2"]) == 4
    assert Counter(record["status"] for record in records(tmp_path / "run")) == {"model_error": 2}


def test_one_question_about_a_picture(small, tmp_path, capsys):
    server = ApiServer({"Where is object 3?": "on the left"})
    with server.serving() as url:
        section = ("coordinates=resized", "key_env=CANARY_KEY", f"base_url={url}")
        code = run(
            [
                *("infer", "--family", "openai_api", "--model", "gpt-test", "--prompt", "Where is object 3?"),
                *("--images", str(small.images / "0003.png")),
                *(part for setting in section for part in ("--set", setting)),
            ]
        )
    assert (code, capsys.readouterr().out) == (0, "on the left\n")
    assert server.bodies[0]["model"] == "gpt-test"


def test_as_many_requests_as_allowed_are_in_flight(tmp_path):
    benchmark = make_benchmark(tmp_path, count=24)
    server = ApiServer(answers_of(benchmark), delay_seconds=0.1)
    with server.serving() as url:
        assert run(predict_options(benchmark, url, tmp_path / "run", "concurrency=6")) == 0
    assert server.most_in_flight == 6


def storm(seed: int, share: float = 0.2):
    """A fault for a share of the attempts, by their question and number; never six in a row."""
    names = [name for name in TRANSIENT_FAULTS if name not in _SLOW]

    def fault_of(asked: str, nth: int) -> Fault | None:
        draw = random.Random(f"{seed} {asked} {nth}")
        return TRANSIENT_FAULTS[draw.choice(names)] if nth < 5 and draw.random() < share else None

    return fault_of


_SLOW = {"never answers", "headers, then hangs", "one byte at a time"}


def child(options: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CANARY_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_storm_with_kills_gives_the_report_of_a_calm_day(tmp_path):
    count, kills = int(os.environ.get("STORM_COUNT", "150")), int(os.environ.get("STORM_KILLS", "3"))
    benchmark = make_benchmark(tmp_path, count=count)
    calm = ApiServer(answers_of(benchmark))
    with calm.serving() as url:
        assert run(predict_options(benchmark, url, tmp_path / "calm")) == 0

    out, moments, killed = tmp_path / "storm", random.Random(SEED), 0
    server = ApiServer(answers_of(benchmark), storm(SEED), delay_seconds=0.02)
    with server.serving() as url:
        options = predict_options(benchmark, url, out)
        while killed < kills:
            process = child(options)
            _wait_for_more(out / "records.jsonl", process, moments.randint(1, max(2, count // (kills + 1))))
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        process = child(options)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said

    kept = Counter(str(record["key"]) for record in records(out))
    paid_twice = sum(count - 1 for count in server.paid.values())
    line = {
        "scenario": 39,
        "seed": SEED,
        "samples": count,
        "kills": killed,
        "lost": count - len(kept),
        "duplicates": sum(number - 1 for number in kept.values()),
        "requests": server.total,
        "paid_twice_in_flight_at_kills": paid_twice,
    }
    if ledger := os.environ.get("FAULT_LEDGER"):
        with Path(ledger).open("a") as file:
            file.write(json.dumps(line) + "\n")
    assert killed == kills
    assert (line["lost"], line["duplicates"]) == (0, 0)
    assert paid_twice <= kills * 8  # what was in flight
    for name in RESULTS:
        assert (out / name).read_bytes() == (tmp_path / "calm" / name).read_bytes(), name
    assert not any(KEY.encode() in path.read_bytes() for path in out.rglob("*") if path.is_file())


def _wait_for_more(path: Path, process: subprocess.Popen[str], more: int) -> None:
    target = more + (path.read_bytes().count(b"\n") if path.exists() else 0)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= target:
            return
        time.sleep(0.002)


def test_a_stopped_run_keeps_what_came_and_says_how_to_go_on(tmp_path):
    benchmark = make_benchmark(tmp_path, count=30)
    server = ApiServer(answers_of(benchmark), only("Where is object 29?", Fault("hang")), delay_seconds=0.05)
    with server.serving() as url:
        process = child(predict_options(benchmark, url, tmp_path / "run", "concurrency=2", "deadline_seconds=60"))
        _wait_for_more(tmp_path / "run" / "records.jsonl", process, 29)
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "29 of 30 done" in said
    assert "Traceback" not in said


def test_a_key_that_the_server_echoes_is_nowhere(tmp_path, capfd):
    benchmark = make_benchmark(tmp_path, count=len(FINAL_FAULTS) + 6)
    faults = [*FINAL_FAULTS.values(), as_fault(completion("", finish="content_filter", note=KEY))]
    told = {f"Where is object {number}?": fault for number, fault in enumerate(faults)}
    server = ApiServer(
        {question: f"{KEY} {text}" for question, text in answers_of(benchmark).items()},
        lambda asked, nth: told.get(asked) or (TRANSIENT_FAULTS["status 429"] if nth < 2 else None),
        echo_key=True,
    )
    commands = []
    with server.serving() as url:
        process = child(["--debug", *predict_options(benchmark, url, tmp_path / "run")])
        while process.poll() is None:
            commands += [_command_line(pid) for pid in Path("/proc").glob("[0-9]*")]
            time.sleep(0.05)
        out, error = process.communicate(timeout=300)
    assert server.authorizations == {f"Bearer {KEY}"}
    secret = KEY.encode()
    found = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert found == []
    assert KEY not in out + error + capfd.readouterr().err
    assert not any(secret in command for command in commands)
    # It was echoed: in answers, and in bodies that failures show.
    seen = records(tmp_path / "run")
    assert any("[key]" in str(record["reply"]) for record in seen)
    assert any("[key]" in str(record["reason"]) for record in seen)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
