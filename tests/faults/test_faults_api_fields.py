"""Fields of a request that some providers take and others refuse: one refused request each, over the whole run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from api_runs import KEY, answers_of, only, predict_options, records
from api_server import ApiServer, Fault, as_fault

from robointervlm.cli.main import run
from scripted_benchmark import Benchmark, make_benchmark

pytest.importorskip("httpx2")


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)


@pytest.fixture(scope="module")
def dozen(tmp_path_factory) -> Benchmark:
    return make_benchmark(tmp_path_factory.mktemp("dozen"), count=12)


def openai(message: str, name: str, code: str) -> Fault:
    error = {"message": message, "type": "invalid_request_error", "param": name, "code": code}
    return as_fault({"error": error}, 400)


RENAMED = openai(
    "'max_tokens' is not supported by m. Use 'max_completion_tokens'.", "max_tokens", "unsupported_parameter"
)
COLD = openai("'temperature' does not support 0. Only the default (1) value is.", "temperature", "unsupported_value")
SEED = as_fault([{"error": {"code": 400, "message": 'Invalid payload. Unknown name "seed": Cannot find field.'}}], 400)
FASTAPI = as_fault({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "No.", "input": 0}]}, 422)
DETAIL = as_fault({"error": {"message": "'messages.0.image_url.detail': property 'detail' is unsupported"}}, 400)


def refusing(faults: Mapping[str, Fault]):
    """A server that refuses the first of these fields that a request has."""

    def fault_of(request: Mapping[str, Any]) -> Fault | None:
        held = json.dumps(request)
        return next((fault for name, fault in faults.items() if f'"{name}":' in held), None)

    return fault_of


@pytest.mark.parametrize(
    "faults, settings, asked_with",
    [
        ({"max_tokens": RENAMED}, (), {"max_completion_tokens", "temperature", "seed"}),
        ({"temperature": COLD}, (), {"max_tokens", "seed"}),
        ({"seed": SEED}, (), {"max_tokens", "temperature"}),
        ({"seed": FASTAPI}, (), {"max_tokens", "temperature"}),
        ({"max_tokens": RENAMED, "temperature": COLD, "seed": SEED}, (), {"max_completion_tokens"}),
        ({"detail": DETAIL}, ("detail=high",), {"max_tokens", "temperature", "seed"}),
    ],
)
def test_a_field_that_is_refused_costs_one_request_in_the_whole_run(
    dozen, tmp_path, capsys, faults, settings, asked_with
):
    server = ApiServer(answers_of(dozen), fault_of_body=refusing(faults), delay_seconds=0.02)
    with server.serving() as url:
        assert run(predict_options(dozen, url, tmp_path / "run", "concurrency=6", *settings)) == 0
    assert server.total == 12 + len(faults)
    assert server.paid == dict.fromkeys(answers_of(dozen), 1)
    assert server.bodies[-1].keys() - {"model", "messages"} == asked_with
    assert "detail" not in json.dumps(server.bodies[-1])
    usage = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert (usage["refused_fields"], usage["retries"]) == (list(faults), 0)
    said = " ".join(capsys.readouterr().err.split())
    assert all(said.count(f"does not take '{name}'") == 1 for name in faults)


def test_the_other_name_of_the_limit_is_tried_once(dozen, tmp_path):
    both = openai("Unsupported parameter: 'max_completion_tokens'.", "max_completion_tokens", "unsupported_parameter")
    server = ApiServer(
        answers_of(dozen), fault_of_body=refusing({"max_tokens": RENAMED, "max_completion_tokens": both})
    )
    with server.serving() as url:
        assert run([*predict_options(dozen, url, tmp_path / "run"), "limit=3"]) == 4
    assert server.total == 4
    assert all("max_completion_tokens" in str(each["reason"]) for each in records(tmp_path / "run"))


def test_a_field_of_ones_own_that_is_refused_stops_the_run_at_once(dozen, tmp_path, capsys):
    fault = openai("Unrecognized request argument supplied: reasoning_effort", "reasoning_effort", "unknown_parameter")
    server = ApiServer(answers_of(dozen), fault_of_body=refusing({"reasoning_effort": fault}))
    with server.serving() as url:
        options = predict_options(dozen, url, tmp_path / "run", "extra={reasoning_effort: low}")
        assert run(options) == 2
    assert server.total == 1
    assert "does not take ['reasoning_effort'], which model.extra sends" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "fault",
    [
        openai("max_tokens is too large: 512. This model supports at most 256.", "max_tokens", "invalid_value"),
        openai("'max_tokens' is not supported beyond the maximum context length.", "max_tokens", "invalid_value"),
        openai("Unsupported image type.", "messages", "invalid_image"),
        RENAMED,  # of a field that was taken before
    ],
)
def test_one_questions_own_trouble_changes_no_other_request(dozen, tmp_path, fault):
    server = ApiServer(answers_of(dozen), only("Where is object 3?", fault))
    with server.serving() as url:
        assert run(predict_options(dozen, url, tmp_path / "run")) == 4
    assert server.requests == dict.fromkeys(answers_of(dozen), 1)
    assert all("max_tokens" in body for body in server.bodies)


def test_a_slow_start_probes_a_field_once(dozen, tmp_path):
    # The endpoint is busy at first: the first thing that it says proves nothing about its fields.
    server = ApiServer(
        answers_of(dozen),
        lambda asked, nth: None,
        fault_of_body=lambda request: (
            Fault(status=503) if server.total <= 2 else refusing({"max_tokens": RENAMED})(request)
        ),
        delay_seconds=0.02,
    )
    with server.serving() as url:
        assert run(predict_options(dozen, url, tmp_path / "run", "concurrency=6")) == 0
    assert server.total == 12 + 2 + 1
