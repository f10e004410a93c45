"""One question to the replicas of a model: attempts under a total deadline, waits between them, and how it ends.

The least busy endpoint gets the next request, one that just failed is left alone for a while. Until an endpoint has
answered a question, it gets one request at a time: a refused key, a wrong address and a field that it does not take
cost one request each, not as many as may be in flight.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2

from robointervlm.core.errors import ModelError, RecipeError, StoppedError
from robointervlm.core.prompt import Reply
from robointervlm.models.openai_api.failures import ContentRefused, Failure, Status, failure_of, wait_before
from robointervlm.models.openai_api.key import Key, shown
from robointervlm.models.openai_api.request import Fields, first_fields, refused_fields, sent_fields
from robointervlm.models.openai_api.response import (
    MAX_BODY_BYTES,
    USELESS,
    completion,
    parsed,
    status_in_body,
    too_large,
    unpacked,
    used,
)

if TYPE_CHECKING:
    from robointervlm.models.openai_api.endpoint import Section
    from robointervlm.models.openai_api.spending import Spending

# How long an endpoint that failed is avoided where another one is there.
_REST_SECONDS = 10.0


@dataclass(eq=False)
class Endpoint:
    """One address; `host` is what messages call it.

    `answered`: a question was answered, in this call or an earlier one of the run. `waited_for`: it was given a
    question and did not come back in time, which another question in flight may. `forbidden`: how many questions in a
    row it answered with 403.
    """

    url: str
    in_flight: int = 0
    requests: int = 0
    answered: bool = False
    waited_for: bool = False
    forbidden: int = 0
    rests_until: float = 0.0

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def free(self) -> bool:
        return self.answered or self.waited_for or not self.in_flight


class Endpoints:
    """The endpoints of a run, used within one event loop."""

    def __init__(self, base_urls: Sequence[str], *, answered: bool) -> None:
        self._all = [Endpoint(f"{url}/chat/completions", answered=answered) for url in base_urls]
        self._changed = anyio.Event()

    @property
    def one_has_answered(self) -> bool:
        return any(each.answered for each in self._all)

    async def next_one(self, avoid: Endpoint | None) -> Endpoint:
        """The best endpoint to ask; waits while none is free. `avoid` is the one that just failed this question."""
        while not (free := [each for each in self._all if each.free]):
            await self._changed.wait()
        now = time.monotonic()
        return min(free, key=lambda each: (each.rests_until > now, each is avoid, each.in_flight, each.requests))

    @contextlib.contextmanager
    def asking(self, endpoint: Endpoint) -> Iterator[None]:
        """Counts a request as in flight within the block. To be entered without waiting after `next_one`."""
        endpoint.in_flight += 1
        endpoint.requests += 1
        try:
            yield
        finally:
            endpoint.in_flight -= 1
            self._changed.set()
            self._changed = anyio.Event()

    def note_answer(self, endpoint: Endpoint) -> None:
        endpoint.answered = True
        endpoint.forbidden = 0
        endpoint.rests_until = 0.0

    def note_failure(self, endpoint: Endpoint, *, passing: bool, timeout: bool) -> None:
        """Notes a failure; a passing one is the endpoint's own, and it is left alone for a while."""
        endpoint.waited_for = endpoint.waited_for or timeout
        endpoint.rests_until = time.monotonic() + _REST_SECONDS if passing else 0.0


class _FieldsRefused(Exception):  # noqa: N818 - overcome: the question is asked in another form
    """The endpoint does not take a field, and the next request is written without it."""


def http_client(section: Section) -> httpx2.AsyncClient:
    """A client that follows no redirect, tries nothing again by itself, and keeps to the settings' own deadline."""
    # Proxies of the environment are for https only: through one, plain http would leave this machine with the key.
    encrypted = all(url.startswith("https://") for url in section.base_url)
    return httpx2.AsyncClient(
        follow_redirects=False,
        timeout=None,  # the whole attempt has a deadline
        trust_env=encrypted,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=section.concurrency),
    )


class Client:
    """Asks one question at a time, as often as needed; any number of questions at once within one event loop."""

    def __init__(self, section: Section, key: Key | None, http: httpx2.AsyncClient, spending: Spending) -> None:
        self._section = section
        self._key = key
        self._http = http
        self._spending = spending
        self._endpoints = Endpoints(section.base_url, answered=spending.earlier_answers > 0)
        self._fields = first_fields(section)
        self._first_bodies = anyio.Lock()
        self._taken: set[str] = set()  # fields of a request that was answered
        self._stopping = anyio.Event()
        self._draw = random.Random()
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **(key.header() if key is not None else {}),
        }

    async def ask(self, build: Callable[[Fields], bytes]) -> Reply:
        """The reply to the request that `build` writes, with the fields that the endpoint takes.

        Raises `ModelError` if this question failed for good, and `RecipeError` or `StoppedError` if every other one
        would, too: then nothing more is sent.
        """
        try:
            return await self._asked(build)
        except (RecipeError, StoppedError):
            self._stopping.set()
            raise

    async def _asked(self, build: Callable[[Fields], bytes]) -> Reply:
        failed: Endpoint | None = None
        # Until something was answered, in the order of the questions: the first one given is the first one asked.
        async with contextlib.nullcontext() if self._endpoints.one_has_answered else self._first_bodies:
            fields, body = self._fields, await anyio.to_thread.run_sync(build, self._fields)
        attempt = 0
        while True:
            endpoint = await self._endpoints.next_one(avoid=failed)
            if fields != self._fields:  # a field was refused meanwhile
                fields, body = self._fields, await anyio.to_thread.run_sync(build, self._fields)
                continue
            attempt += 1
            try:
                if self._stopping.is_set():
                    raise StoppedError("the run is stopping")
                self._spending.check()
                return await self._attempt(endpoint, body, fields)
            except ContentRefused:
                return Reply("", 0.0, 0, 0, "refused")
            except _FieldsRefused:
                attempt -= 1
            except Failure as failure:
                self._spending.failures[failure.kind] += 1
                if not failure.again or attempt >= self._section.attempts:
                    tried = f" (attempt {attempt} of {self._section.attempts})" if failure.again else ""
                    raise ModelError(f"{failure}{tried}") from None
                failed = endpoint
                await self._pause(attempt, failure)

    async def _pause(self, attempt: int, failure: Failure) -> None:
        """Waits before the next attempt; not to the end if the run stops."""
        self._spending.note_retry()
        seconds = wait_before(
            attempt,
            base=self._section.backoff_seconds,
            asked=failure.retry_after,
            longest_asked=self._section.retry_after_seconds,
            draw=self._draw,
        )
        with anyio.move_on_after(seconds):
            await self._stopping.wait()

    async def _attempt(self, endpoint: Endpoint, body: bytes, fields: Fields) -> Reply:
        started = time.perf_counter()
        self._spending.requests += 1
        with self._endpoints.asking(endpoint):
            try:
                reply = self._read(await self._exchange(endpoint, body), endpoint, fields, started)
            except ContentRefused:
                self._endpoints.note_answer(endpoint)
                raise
            except Failure as failure:
                if failure.kind == USELESS:
                    self._endpoints.note_answer(endpoint)
                else:
                    timeout = failure.kind == "timeout"
                    self._endpoints.note_failure(endpoint, passing=failure.again, timeout=timeout)
                raise
            self._endpoints.note_answer(endpoint)
        self._taken.update(sent_fields(self._section, fields))
        self._spending.answers += 1
        return reply

    async def _exchange(self, endpoint: Endpoint, body: bytes) -> Status:
        """The response, without the key. Raises `Failure`."""
        deadline = self._section.deadline_seconds
        try:
            with anyio.fail_after(deadline):
                request = self._http.stream("POST", endpoint.url, content=body, headers=self._headers)
                async with request as response:
                    raw = bytearray()
                    async for chunk in response.aiter_raw():
                        raw += chunk
                        if len(raw) > MAX_BODY_BYTES:
                            raise too_large()
        except TimeoutError:
            raise Failure("timeout", f"{endpoint.host} did not answer within {deadline:g} s", again=True) from None
        except httpx2.HTTPError as error:
            said = self._masked(f"{type(error).__name__}: {error}")
            raise Failure("connection", f"{endpoint.host}: {shown(said, 200)}", again=True) from None
        data = unpacked(bytes(raw), response.headers.get("content-encoding", "").strip().lower())
        # A byte order mark, or a letter in another encoding, makes a whole answer no less whole: it was paid for.
        return Status(response.status_code, response.headers, self._masked(data.decode("utf-8-sig", "replace")))

    def _read(self, response: Status, endpoint: Endpoint, fields: Fields, started: float) -> Reply:
        """The answer in a response. Raises what the response is instead."""
        status, _, text = response
        body = parsed(text) if 200 <= status < 300 else {}
        status = status_in_body(body) or status
        if not 200 <= status < 300:
            self._learn_fields(refused_fields(status, text, sent_fields(self._section, fields)), endpoint, fields)
            place = self._key.place if self._key is not None else None
            response = response._replace(status=status)
            endpoint.forbidden += status == 403
            raise failure_of(
                response,
                host=endpoint.host,
                key_place=place,
                answered=endpoint.answered,
                forbidden=endpoint.forbidden,
            )
        tokens = used(body)
        if tokens is not None:
            self._spending.note_used(tokens)
        answer = completion(body, text)
        if tokens is None:
            self._spending.note_used(None)
        into, out = tokens if tokens is not None else (0, 0)
        # Once more: a key may have been escaped in the JSON.
        seconds = time.perf_counter() - started
        return Reply(self._masked(answer.text), seconds, into, out, answer.finish_reason)

    def _learn_fields(self, refused: list[str], endpoint: Endpoint, fields: Fields) -> None:
        """Leaves the refused fields out of all requests to come. Raises `_FieldsRefused` if another form is left.

        A field that was taken before is not doubted for one question's sake.
        """
        if not (refused := [name for name in refused if name not in self._taken or name == "detail"]):
            return
        if (extra := self._section.extra.keys() & set(refused)) and not endpoint.answered:
            raise RecipeError(f"{endpoint.host} does not take {sorted(extra)}, which model.extra sends: take it out.")
        if fields == self._fields:
            for name in refused:
                if (changed := self._fields.without(name)) is not None:
                    self._fields = changed
                    self._spending.note_refused_field(endpoint.host, name)
        if fields != self._fields:
            raise _FieldsRefused

    def _masked(self, text: str) -> str:
        return self._key.masked(text) if self._key is not None else text
