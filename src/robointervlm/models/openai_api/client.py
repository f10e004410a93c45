"""One question to an endpoint: attempts under a total deadline, waits between them, and what the end of it is."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import anyio
import httpx2

from robointervlm.core.errors import ModelError, RecipeError, StoppedError
from robointervlm.core.prompt import Reply
from robointervlm.models.openai_api.endpoints import Endpoint, Endpoints
from robointervlm.models.openai_api.failures import ContentRefused, Failure, failure_of, wait_before
from robointervlm.models.openai_api.key import Key, shown
from robointervlm.models.openai_api.response import MAX_BODY_BYTES, completion, parsed, too_large, unpacked, used

if TYPE_CHECKING:
    from robointervlm.models.openai_api import Section
    from robointervlm.models.openai_api.spending import Spending


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
        self._endpoints = Endpoints(section.base_url)
        self._stopping = anyio.Event()
        self._draw = random.Random()
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **(key.header() if key is not None else {}),
        }

    async def ask(self, body: bytes) -> Reply:
        """The reply to a request.

        Raises `ModelError` if this question failed for good, and `RecipeError` or `StoppedError` if every other one
        would, too: then nothing more is sent.
        """
        try:
            return await self._asked(body)
        except (RecipeError, StoppedError):
            self._stopping.set()
            raise

    async def _asked(self, body: bytes) -> Reply:
        endpoint: Endpoint | None = None
        attempt = 0
        while True:
            endpoint = await self._endpoints.next_one(avoid=endpoint)
            attempt += 1
            try:
                self._check()
                return await self._attempt(endpoint, body)
            except ContentRefused:
                return Reply("", 0.0, 0, 0, "refused")
            except Failure as failure:
                self._spending.failures[failure.kind] += 1
                if not failure.again or attempt >= self._section.attempts:
                    tried = f" (attempt {attempt} of {self._section.attempts})" if failure.again else ""
                    raise ModelError(f"{failure}{tried}") from None
                await self._pause(attempt, failure)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise StoppedError("the run is stopping")
        self._spending.check()

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

    async def _attempt(self, endpoint: Endpoint, body: bytes) -> Reply:
        started = time.perf_counter()
        self._spending.requests += 1
        with self._endpoints.asking(endpoint):
            try:
                status, headers, text = await self._exchange(endpoint, body)
                if status != 200:
                    place = self._key.place if self._key is not None else None
                    raise failure_of(status, headers, text, host=endpoint.host, key_place=place)
                said = self._read(text, seconds=time.perf_counter() - started)
            except Failure as failure:
                self._endpoints.answered(endpoint, failed=failure.again)
                raise
            self._endpoints.answered(endpoint, failed=False)
        self._spending.answers += 1
        return said

    async def _exchange(self, endpoint: Endpoint, body: bytes) -> tuple[int, httpx2.Headers, str]:
        """Status, headers and body, without the key. Raises `Failure`."""
        deadline = self._section.deadline_seconds
        try:
            with anyio.fail_after(deadline):
                request = self._http.stream("POST", endpoint.url, content=body, headers=self._headers)
                async with request as response:
                    raw = await _limited(response)
        except TimeoutError:
            raise Failure("timeout", f"{endpoint.host} did not answer within {deadline:g} s", again=True) from None
        except httpx2.HTTPError as error:
            said = self._masked(f"{type(error).__name__}: {error}")
            raise Failure("connection", f"{endpoint.host}: {shown(said, 200)}", again=True) from None
        data = unpacked(raw, response.headers.get("content-encoding", "").strip().lower())
        return response.status_code, response.headers, self._masked(data.decode("utf-8", "backslashreplace"))

    def _read(self, text: str, *, seconds: float) -> Reply:
        body = parsed(text)
        tokens = used(body)
        self._spending.note_used(tokens)
        said = completion(body, text)
        into, out = tokens if tokens is not None else (0, 0)
        # Once more: a key may have been escaped in the JSON.
        return Reply(self._masked(said.text), seconds, into, out, said.finish_reason)

    def _masked(self, text: str) -> str:
        return self._key.masked(text) if self._key is not None else text


async def _limited(response: httpx2.Response) -> bytes:
    """The body as it was sent; a `Failure` as soon as it is too large."""
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise too_large()
    return bytes(data)
