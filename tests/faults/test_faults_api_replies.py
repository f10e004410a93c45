"""An endpoint's reply to one question: what is read of it, what it costs, and that it ends no run."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from api_runs import KEY, answers_of, only, predict_options, records
from api_server import ApiServer, Fault, as_fault, completion

from robointervlm.cli.main import run
from scripted_benchmark import Benchmark, make_benchmark

pytest.importorskip("httpx2")

BOX = '{"current_bbox": [[80, 90], [160, 162]]}'
TEXT = {"type": "text", "text": BOX}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Perhaps [[1, 2], [3, 4]]."}], "closed": True}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Benchmark:
    return make_benchmark(tmp_path_factory.mktemp("small"), count=6)


def responses(*output: object, **more: object) -> dict[str, object]:
    """A body as OpenAI's `/responses` writes it."""
    return {"output": list(output), "usage": {"input_tokens": 100, "output_tokens": 5}, **more}


def message(*parts: object) -> dict[str, object]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


READ = {
    "one text part": completion([TEXT]),
    "two text parts": completion([{"type": "text", "text": BOX[:20]}, {"type": "text", "text": BOX[20:]}]),
    "a thought before it": completion([THOUGHT, TEXT]),
    "reasoning of another name": completion([{"type": "reasoning", "text": "Perhaps [[1, 2], [3, 4]]."}, TEXT]),
    "a thought by its flag": completion([{"type": "text", "text": "Hm.", "thought": True}, TEXT]),
    "an unknown part": completion([TEXT, {"type": "citations", "text": "[[1, 2], [3, 4]]"}, None, 7]),
    "bare strings": completion([BOX[:9], BOX[9:]]),
    "a part without a list": completion(TEXT),
    "a part without a type": completion([{"text": BOX}]),
    "a value inside": completion([{"type": "text", "text": {"value": BOX, "annotations": []}}]),
    "output_text parts": completion([{"type": "output_text", "text": BOX}]),
    "reasoning_content": completion(BOX, reasoning_content="Perhaps [[1, 2], [3, 4]].", reasoning="Perhaps."),
    "an empty refusal": completion(BOX, refusal="", tool_calls=[]),
    "a finish_reason of a wrong type": completion(BOX, finish=7),
    "no finish_reason": completion(BOX, finish=None),
    "an error that is null": {**completion(BOX), "error": None},
    "two choices": {"choices": completion(BOX)["choices"] + completion("[[1, 2], [3, 4]]")["choices"]},
    "a choice before it that is none": {"choices": [None, *completion(BOX)["choices"]]},
    "responses": responses({"type": "reasoning", "summary": []}, message({"type": "output_text", "text": BOX})),
    "output_text": {"output_text": BOX, "usage": {"input_tokens": 100, "output_tokens": 5}},
}  # fmt: skip
REFUSED = {
    "a refusal for an answer": completion(None, refusal="I cannot help with that."),
    "a refusal part": completion([{"type": "refusal", "refusal": "I cannot help with that."}]),
    "a refusal of responses": responses(message({"type": "refusal", "refusal": "I cannot help with that."})),
    "another provider's filter": completion("", finish="SAFETY"),
}
CUT = {
    "cut while it thought": completion([THOUGHT], finish="length"),
    "cut while it thought, in responses": responses(incomplete_details={"reason": "max_output_tokens"}),
    "another provider's cut": completion("The box", finish="MAX_TOKENS"),
}


def one_each(bodies: dict[str, object]) -> dict[str, str]:
    """Which question meets which body: by number, from the second on; the first one finds an endpoint that answers."""
    return {f"Where is object {number}?": name for number, name in enumerate(bodies, start=1)}


def asked_for_each(tmp_path, bodies: dict[str, object], code: int) -> dict[str, dict[str, object]]:
    """The record of each body; every question was asked, and paid for, once."""
    met, benchmark = one_each(bodies), make_benchmark(tmp_path, count=len(bodies) + 1)
    server = ApiServer(answers_of(benchmark), lambda asked, nth: as_fault(bodies[met[asked]]) if asked in met else None)
    with server.serving() as url:
        assert run(predict_options(benchmark, url, tmp_path / "run")) == code
    assert server.requests == dict.fromkeys(answers_of(benchmark), 1)
    seen = {str(record["prompt"]).removeprefix("<image>\n"): record for record in records(tmp_path / "run")}
    return {name: seen[asked] for asked, name in met.items()}


def test_a_whole_reply_is_read_and_paid_for_once(tmp_path):
    seen = asked_for_each(tmp_path, READ, code=0)
    assert {name: (record["reply"], record["status"]) for name, record in seen.items()} == dict.fromkeys(
        READ, (BOX, "ok")
    )


def test_a_reply_that_declines_or_was_cut_is_paid_for_once(tmp_path):
    seen = asked_for_each(tmp_path, REFUSED | CUT, code=4)
    assert {name: (record["status"], record["finish_reason"]) for name, record in seen.items()} == (
        dict.fromkeys(REFUSED, ("refused", "refused")) | dict.fromkeys(CUT, ("unparsable", "length"))
    )


# What a proxy says to a body that is too large for it, or a server to a question that it cannot take.
ONE_RECORDS = {
    **{f"status {status}": Fault(status=status, body=b"<html>no</html>") for status in (400, 404, 405, 413, 422, 501)},
    "a redirect": Fault(status=302, headers={"Location": "/too-large.html"}),
    "404 in JSON": as_fault({"error": {"message": "Not found", "code": 404}}, 404),
    "404 with status 200": as_fault({"error": {"message": "Not found", "code": 404}}),
}


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + json.dumps(completion(BOX)).encode(),
        json.dumps(completion(f"caf\u00e9 {BOX}"), ensure_ascii=False).encode("latin-1"),
        json.dumps(completion(BOX, note="\u00e9"), ensure_ascii=False).encode("cp1252"),
    ],
)
def test_a_whole_answer_in_another_encoding_is_read_and_paid_for_once(small, tmp_path, body):
    server = ApiServer(
        answers_of(small), lambda question, nth: Fault(body=body) if question == "Where is object 3?" else None
    )
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run")) == 0
    assert server.requests["Where is object 3?"] == 1
    found = [record for record in records(tmp_path / "run") if record["id"].endswith("3")]
    assert [record["status"] for record in found] == ["ok"]
    assert found[0]["reply"].endswith(BOX)


@pytest.mark.parametrize("name, concurrency", [*((name, 4) for name in ONE_RECORDS), ("status 404", 1)])
def test_once_an_endpoint_has_answered_no_question_ends_the_run(small, tmp_path, name, concurrency):
    hard = {"Where is object 1?", "Where is object 3?", "Where is object 4?"}
    server = ApiServer(answers_of(small), lambda asked, nth: ONE_RECORDS[name] if asked in hard else None)
    options = predict_options(small, "URL", tmp_path / "run", f"concurrency={concurrency}")
    with server.serving() as url:
        options = [part.replace("URL", url) for part in options]
        assert run(options) == 4
        assert server.requests == dict.fromkeys(answers_of(small), 1)
        assert (tmp_path / "run" / "report.json").is_file()
        assert Counter(each["status"] for each in records(tmp_path / "run"))["model_error"] == 3
        # The same command asks those again, once each, though the first thing it hears is what a wrong address says.
        assert run(options) == 4
    assert server.requests == {asked: 2 if asked in hard else 1 for asked in answers_of(small)}
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["tasks"][0]["n"], report["tasks"][0]["statuses"]["model_error"]) == (6, 3)


@pytest.mark.parametrize("fault", [Fault(status=502, body=b"<html>bad</html>"), Fault(body=b"<html>hello</html>")])
def test_a_gateways_page_in_the_middle_is_tried_six_times_and_ends_no_run(small, tmp_path, fault):
    server = ApiServer(answers_of(small), only("Where is object 3?", fault))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run")) == 4
    assert server.requests == {asked: 6 if asked == "Where is object 3?" else 1 for asked in answers_of(small)}


@pytest.mark.parametrize("status", [302, 404, 405, 501])
def test_an_address_that_never_answered_costs_one_request(small, tmp_path, status):
    server = ApiServer(answers_of(small), lambda asked, nth: Fault(status=status))
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run")) == 2
    assert server.total == 1


@pytest.mark.parametrize("status, asked_in_vain", [(401, 1), (403, 3)])
def test_a_key_that_is_revoked_in_the_middle_ends_the_run_and_keeps_what_came(small, tmp_path, status, asked_in_vain):
    server = ApiServer(answers_of(small), lambda asked, nth: Fault(status=status) if server.total > 3 else None)
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "concurrency=1")) == 2
        assert server.total == 3 + asked_in_vain
        assert [each["status"] for each in records(tmp_path / "run")][:3] == ["ok"] * 3
        server.fault_of = lambda asked, nth: None
        assert run(predict_options(small, url, tmp_path / "run", "concurrency=1")) == 0
    assert server.paid == dict.fromkeys(answers_of(small), 1)


def test_a_403_to_one_question_is_that_questions_alone(small, tmp_path):
    # As the rules of a proxy, or of a service that looks at what is asked, answer.
    hard = "Where is object 3?"
    server = ApiServer(answers_of(small), lambda asked, nth: Fault(status=403) if hard in asked else None)
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "concurrency=1")) == 4
    assert server.total == 6
    assert Counter(each["status"] for each in records(tmp_path / "run")) == {"ok": 5, "model_error": 1}


def test_the_first_question_is_asked_first_and_alone(small, tmp_path):
    # Of eight that are got ready at once: which one proves the address is not left to chance.
    server = ApiServer(answers_of(small), lambda asked, nth: Fault(status=404) if server.total > 1 else None)
    with server.serving() as url:
        assert run(predict_options(small, url, tmp_path / "run", "concurrency=8")) == 4
    assert list(server.requests)[0] == "Where is object 0?"
    assert Counter(each["status"] for each in records(tmp_path / "run")) == {"ok": 1, "model_error": 5}


def test_answers_of_another_address_are_kept_and_named(small, tmp_path, caplog):
    # Two servers may serve two models by one name; a replica that comes back elsewhere is not paid for again.
    first, second = ApiServer(answers_of(small)), ApiServer(answers_of(small))
    with first.serving() as one, second.serving() as two:
        for url in (one, f"{one}/"):
            assert run(predict_options(small, url, tmp_path / "run")) == 0
            assert "came from" not in caplog.text
        assert run(predict_options(small, two, tmp_path / "run")) == 0
    assert f"came from {one}, and this is {two}" in caplog.text
    assert (first.total, second.total) == (6, 0)
