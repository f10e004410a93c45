from __future__ import annotations

import base64
import io
import json
import logging
import random
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import RecipeError, StoppedError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models.model import StreamingModel, check_section, load_model
from robointervlm.models.openai_api import Section
from robointervlm.models.openai_api.failures import Failure, Status, failure_of, retry_after, wait_before
from robointervlm.models.openai_api.key import Key, RedactingFilter, shown
from robointervlm.models.openai_api.request import request_body, sent_size
from robointervlm.models.openai_api.response import completion, parsed, status_in_body, used

pytest.importorskip("httpx2")


def section(**settings: object) -> Section:
    return Section.model_validate(
        {"base_url": "https://api.example/v1", "model": "m", "coordinates": "resized", **settings}
    )


def sent(prompt: Prompt, decoding: Decoding | None = None, **settings: object) -> dict[str, object]:
    return json.loads(request_body(section(**settings), prompt, decoding or Decoding()))


def picture_of(part: dict[str, dict[str, str]]) -> Image.Image:
    kind, data = part["image_url"]["url"].split(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


PICTURE = np.arange(180 * 320 * 3, dtype=np.uint32).reshape(180, 320, 3).astype(np.uint8)


def test_pictures_stand_where_their_markers_are():
    question = Message("user", "<image>\nbefore <image> and after?")
    body = sent(Prompt((Message("system", "Be brief."), question), (PICTURE, PICTURE[:, ::-1])), resize="none")
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["image_url", "text", "image_url", "text"]
    assert [part["text"] for part in user["content"][1::2]] == ["\nbefore ", " and after?"]
    assert np.array_equal(np.asarray(picture_of(user["content"][0])), PICTURE)
    assert np.array_equal(np.asarray(picture_of(user["content"][2])), PICTURE[:, ::-1])


def test_earlier_turns_keep_their_pictures():
    turns = (Message("user", "<image>first"), Message("assistant", "yes"), Message("user", "second"))
    first, answer, second = sent(Prompt(turns, (PICTURE,)))["messages"]
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    assert answer == {"role": "assistant", "content": "yes"}
    assert second == {"role": "user", "content": "second"}


def test_decoding_is_sent_under_the_names_the_endpoint_knows():
    prompt = Prompt((Message("user", "hi"),))
    assert sent(prompt, Decoding(32, 0.5, 7)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 32,
        "temperature": 0.5,
        "seed": 7,
    }
    newer = sent(
        prompt,
        Decoding(32),
        token_limit_key="max_completion_tokens",
        omit=["temperature", "seed"],
        extra={"reasoning_effort": "low"},
    )
    assert newer.keys() == {"model", "messages", "max_completion_tokens", "reasoning_effort"}


@pytest.mark.parametrize(
    "settings, size",
    [
        ({}, (308, 168)),  # Qwen2.5-VL's own resize of 320x180
        ({"max_pixels": 28 * 28 * 20}, (140, 84)),
        ({"resize": "max_side", "max_side": 160}, (160, 90)),
        ({"resize": "max_side", "max_side": 1024}, (320, 180)),
        ({"resize": "none"}, (320, 180)),
    ],
)
@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_the_size_that_coordinates_refer_to_is_the_size_that_is_sent(settings, size, image_format):
    prompt = Prompt((Message("user", "<image>where?"),), (PICTURE,))
    part = sent(prompt, **settings, image_format=image_format)["messages"][0]["content"][0]
    assert picture_of(part).size == size
    assert sent_size(section(**settings), ImageSize(320, 180)) == size


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"base_url": "http://api.example/v1"}, "plain http"),
        ({"base_url": "http://127.0.0.1.evil.example/v1"}, "plain http"),
        ({"base_url": "http://localhost.evil.example/v1"}, "plain http"),
        ({"base_url": "https://user:hunter2@api.example/v1"}, "keys come from"),
        ({"base_url": "https://api.example/v1?key=hunter2"}, "keys come from"),
        ({"base_url": "ftp://api.example/v1"}, "https://"),
        ({"base_url": "api.example"}, "https://"),
        ({"base_url": []}, "base_url"),
        ({"coordinates": "pixel"}, "resize=none"),
        ({"max_usd": 1}, "usd_per_million_input"),
        ({"key_env": "A", "key_file": "b"}, "not both"),
        ({"extra": {"n": 4}}, "extra sets n"),
        ({"api_key": "hunter2"}, "'api_key' is not known"),
        ({"attempts": 7}, "attempts"),
        ({"retry_after_seconds": 600}, "retry_after_seconds"),
    ],
)
def test_a_section_that_means_nothing_is_refused_without_repeating_secrets(settings, said):
    values = {"base_url": "https://api.example/v1", "model": "m", "coordinates": "resized", **settings}
    with pytest.raises(RecipeError, match=said) as error:
        check_section({"family": "openai_api", **values})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://[::1]:80/v1", "http://localhost:8000/v1"])
def test_plain_http_to_this_machine_is_allowed(url):
    assert section(base_url=url).base_url == (url,)


def test_an_address_may_be_given_down_to_the_endpoint():
    given_ = ["https://a/v1/", "https://b/v1/chat/completions"]
    assert section(base_url=given_).base_url == ("https://a/v1", "https://b/v1")


def loaded(**settings: object) -> StreamingModel:
    values = {"base_url": "https://api.openai.com/v1", "model": "m", "coordinates": "resized", **settings}
    model = load_model({"family": "openai_api", **values})
    assert isinstance(model, StreamingModel)
    return model


def test_the_key_comes_from_the_environment_or_a_file(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(RecipeError, match="OPENAI_API_KEY"):
        loaded()
    with pytest.raises(RecipeError, match="OTHER_KEY"):
        loaded(key_env="OTHER_KEY")
    with pytest.raises(RecipeError, match="no such file|No such file"):
        loaded(key_file=str(tmp_path / "absent"))
    (tmp_path / "key").write_text("sk-from-file\n")
    assert loaded(key_file=str(tmp_path / "key"))._key.header() == {"Authorization": "Bearer sk-from-file"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-default")
    assert loaded()._key.header() == {"Authorization": "Bearer sk-default"}


@pytest.mark.parametrize(
    "url, variable",
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://API.OpenAI.com/v1", "OPENAI_API_KEY"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
        ("http://127.0.0.1:8000/v1", "OPENAI_API_KEY"),
        ("http://localhost:8000/v1", "OPENAI_API_KEY"),
        ("https://[::1]:8000/v1", "OPENAI_API_KEY"),
        ('["http://127.0.0.1:8000/v1", "https://api.openai.com/v1"]', "OPENAI_API_KEY"),
    ],
)
def test_a_key_that_nobody_named_goes_to_its_maker_and_to_this_machine(monkeypatch, caplog, url, variable):
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, f"sk-of-{name}")
    with caplog.at_level("INFO", logger="robointervlm"):
        model = loaded(base_url=json.loads(url) if url.startswith("[") else url)
    assert model._key.header() == {"Authorization": f"Bearer sk-of-{variable}"}
    assert f"the key in the environment variable {variable} is sent to" in caplog.text
    assert "sk-of" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/v1",
        "https://api.openai.com.evil.example/v1",
        "https://evilapi.openai.com.example/v1",
        "https://openrouter.ai/api/v1",
        ["https://api.openai.com/v1", "https://api.example/v1"],
        ["https://api.openai.com/v1", "https://generativelanguage.googleapis.com/v1beta/openai"],
    ],
)
def test_a_key_that_nobody_named_for_another_address_is_not_sent_there(monkeypatch, url):
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "sk-canary")
    with pytest.raises(RecipeError, match=r"model\.key_env") as error:
        loaded(base_url=url)
    assert "sk-canary" not in str(error.value)
    assert loaded(base_url=url, key_env="OPENAI_API_KEY")._key is not None
    assert loaded(base_url=url, key_env="none")._key is None


@pytest.mark.parametrize("url", ["http://10.0.0.7:8000/v1", "http://api.openai.com/v1"])
def test_a_key_that_nobody_named_is_not_sent_in_the_clear(monkeypatch, url):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-default")
    assert loaded(base_url=url, allow_http=True)._key is None
    assert loaded(base_url=["http://127.0.0.1:1/v1", url], allow_http=True)._key is None


@pytest.mark.parametrize("text", [None, "", " "])
def test_a_server_on_this_machine_needs_no_key(monkeypatch, text):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if text is not None:
        monkeypatch.setenv("OPENAI_API_KEY", text)
    assert loaded(base_url="http://127.0.0.1:1/v1")._key is None


def test_a_maker_whose_key_is_missing_is_told_by_its_variable(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-default")
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(RecipeError, match="GEMINI_API_KEY"):
        loaded(base_url="https://generativelanguage.googleapis.com/v1beta/openai")


@pytest.mark.parametrize("text", ["EMPTY", "0", "none"])
def test_a_key_that_is_no_secret_is_not_taken_out_of_answers(text):
    assert Key(text, "a test").masked(f"the answer 0 is none {text}") == f"the answer 0 is none {text}"


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak", "schlüssel"])
def test_what_is_no_key_is_refused_and_not_shown(monkeypatch, text):
    monkeypatch.setenv("OPENAI_API_KEY", text)
    with pytest.raises(RecipeError, match="holds no key") as error:
        loaded()
    assert not text or text not in str(error.value)


def test_the_fingerprint_tells_models_apart_but_not_replicas(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    same = {
        loaded().fingerprint,
        loaded(base_url="https://b/v1", key_env="OPENAI_API_KEY").fingerprint,
        loaded(concurrency=2).fingerprint,
    }
    others = [{"model": "n"}, {"revision": "2"}, {"max_pixels": 5000}, {"image_format": "jpeg"}, {"extra": {"a": 1}}]
    assert len(same) == 1
    assert len(same | {loaded(**other).fingerprint for other in others}) == 6


NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("1000000000", 1e9),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 30.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
        ("-1", None),
        ("1e9", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_nothing_or_a_time_to_come(value):
    seconds = retry_after(value)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize("asked, least, most", [(None, 2.0, 4.0), (3.9, 3.9, 4.0), (30.0, 30.0, 30.0), (1e9, 120, 120)])
def test_the_third_wait_is_in_the_upper_half_of_four_seconds_or_what_was_asked(asked, least, most):
    for seed in range(20):
        wait = wait_before(3, base=1.0, asked=asked, longest_asked=120.0, draw=random.Random(seed))
        assert least <= wait <= most


def failure(status: int, text: str = "no", *, answered: bool = False, forbidden: int = 0, **headers: str) -> Exception:
    said = Status(status, headers, text)
    return failure_of(said, host="h", key_place="K", answered=answered, forbidden=forbidden)


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_these_are_tried_again(status, answered):
    found = failure(status, "busy", answered=answered)
    assert isinstance(found, Failure)
    assert found.again


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("status", [400, 413, 415, 422, 451])
def test_these_are_the_questions_own_failures(status, answered):
    found = failure(status, answered=answered)
    assert isinstance(found, Failure)
    assert not found.again


WRONG_ADDRESS = [301, 302, 307, 308, 404, 405, 501]
SAID_KEY = '{"error": {"message": "key sk-abc***xyz"}}'


@pytest.mark.parametrize("status", WRONG_ADDRESS)
def test_an_address_that_never_answered_is_wrong_and_the_body_is_not_shown(status):
    found = failure(status, SAID_KEY)
    assert isinstance(found, RecipeError)
    assert "sk-abc" not in str(found)


@pytest.mark.parametrize("status", WRONG_ADDRESS)
def test_an_address_that_has_answered_is_right_and_the_question_fails_alone(status):
    found = failure(status, answered=True)
    assert isinstance(found, Failure)
    assert not found.again


GEMINIS_REFUSAL = '[{"error": {"code": 400, "message": "Not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}]'


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("status, text", [(401, SAID_KEY), (400, GEMINIS_REFUSAL), (403, GEMINIS_REFUSAL)])
def test_a_refused_key_stops_the_run_at_any_time(status, text, answered):
    found = failure(status, text, answered=answered)
    assert isinstance(found, RecipeError)
    assert "check K" in str(found)
    assert "sk-abc" not in str(found)


@pytest.mark.parametrize(
    "answered, forbidden, stops", [(False, 1, True), (True, 1, False), (True, 2, False), (True, 3, True)]
)
def test_a_403_stops_the_run_at_first_or_three_in_a_row_and_never_shows_a_part_of_the_key(answered, forbidden, stops):
    found = failure(403, SAID_KEY, answered=answered, forbidden=forbidden)
    assert isinstance(found, RecipeError if stops else Failure)
    assert "403" in str(found)
    assert "sk-abc" not in str(found)


def test_a_quota_that_says_when_to_come_back_is_a_rate_limit():
    text = '[{"error": {"message": "You exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}}]'
    assert isinstance(failure(429, text), StoppedError)
    assert isinstance(failure(429, text, **{"retry-after": "20"}), Failure)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "finish_reason", "usage", "refusal", "tool_calls", "x"]
                + ["type", "text", "output", "output_text", "error", "code"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_body_is_an_answer_or_a_failure_that_can_be_printed(value):
    text = json.dumps(value)
    shown_text = ""
    try:
        body = parsed(text)
        used(body)
        status_in_body(body)
        assert isinstance(completion(body, text).text, str)
    except Failure as failure:
        shown_text = str(failure)
    assert shown_text.isprintable()


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": 3}, {"prompt_tokens": "3", "completion_tokens": 1}])
def test_a_usage_that_says_no_numbers_is_none(usage):
    assert used({"usage": usage}) is None


def test_what_a_stranger_says_is_cut_and_escaped():
    assert shown("a\x1b[2Jb\r\nü") == r"a\x1b[2Jb\r\nü"
    assert shown("x" * 1000, 10) == "x" * 10 + "…"


@given(st.text(min_size=8, alphabet=st.characters(codec="ascii", categories=["L", "N", "P"])), st.text())
def test_a_masked_text_does_not_hold_the_key(secret, around):
    key = Key(secret, "a test")
    assert secret not in key.masked(f"{around} {secret} {around}").replace("[key]", "")
    assert secret not in repr(key)


def test_the_log_filter_takes_a_key_out_of_the_message_and_its_arguments():
    record = logging.LogRecord("x", logging.INFO, "f", 1, "sent %s with %s", ("a", "Bearer sk-secret"), None)
    assert RedactingFilter(Key("sk-secret", "a test")).filter(record)
    assert record.getMessage() == "sent a with Bearer [key]"


def test_coordinates_have_to_be_declared():
    with pytest.raises(RecipeError, match="coordinates"):
        check_section({"family": "openai_api", "base_url": "https://a/v1", "model": "m"})
    assert section(coordinates="per_mille").coordinates is CoordinateFormat.PER_MILLE
