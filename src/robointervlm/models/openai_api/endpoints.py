"""The replicas of one model: the least busy one gets the next request, one that just failed is left alone for a while.

Until an endpoint has answered a question, it gets one request at a time: a refused key, a wrong address and a field
that it does not take cost one request each, not as many as may be in flight.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio

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
            self._notify()

    def note_answer(self, endpoint: Endpoint) -> None:
        endpoint.answered = True
        endpoint.forbidden = 0
        endpoint.rests_until = 0.0

    def note_failure(self, endpoint: Endpoint, *, passing: bool, timeout: bool) -> None:
        """Notes a failure; a passing one is the endpoint's own, and it is left alone for a while."""
        endpoint.waited_for = endpoint.waited_for or timeout
        endpoint.rests_until = time.monotonic() + _REST_SECONDS if passing else 0.0

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
