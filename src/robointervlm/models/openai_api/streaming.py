"""The `Model` of an endpoint. Its requests run in an event loop on a thread of its own."""

from __future__ import annotations

import functools
import hashlib
import json
import queue
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import RecipeError, StoppedError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.models.openai_api.client import Client, http_client
from robointervlm.models.openai_api.key import Key, redact_logs
from robointervlm.models.openai_api.request import request_body, sent_size
from robointervlm.models.openai_api.spending import Spending

if TYPE_CHECKING:
    from robointervlm.models.openai_api.endpoint import Section

Arrival = tuple[int, Reply | Exception]

# What decides an answer. Not the address: replicas come and go, and what was paid for is not asked again for that.
_DECISIVE = ("model", "revision", "resize", "image_format", "detail", "extra", "omit")


class OpenAIModel:
    """A `StreamingModel` behind HTTP."""

    def __init__(self, section: Section, key: Key | None) -> None:
        self.name = section.name or section.model
        self.coordinates = section.coordinates
        self._section = section
        self._key = key
        self._spending = Spending(section)
        limits = {
            "smart_resize": [section.min_pixels, section.max_pixels],
            "max_side": [section.max_side],
            "none": [],
        }[section.resize]
        quality = section.jpeg_quality if section.image_format == "jpeg" else None
        decisive = [section.model_dump(mode="json", include=set(_DECISIVE)), limits, quality]
        text = json.dumps(decisive, sort_keys=True)
        self.fingerprint = f"openai_api-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if key is not None:
            redact_logs(key)

    def processed_size(self, image: ImageSize) -> ImageSize:
        return sent_size(self._section, image)

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        arrived = dict(self.answer_each((prompt, decoding) for prompt in prompts))
        return [arrived[index] for index in range(len(prompts))]

    def answer_each(self, questions: Iterable[tuple[Prompt, Decoding]]) -> Generator[Arrival]:
        arrived: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        waiting = enumerate(questions)
        in_flight, stop = 0, None
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(http_client(self._section)) as http,
        ):
            client = portal.call(Client, self._section, self._key, http, self._spending)
            while True:
                # What has arrived comes before the next question, so that it is kept at once.
                while stop is None and in_flight < self._section.concurrency and arrived.empty():
                    question = next(waiting, None)
                    if question is None:
                        break
                    portal.start_task_soon(self._deliver, client, question, arrived)
                    in_flight += 1
                if not in_flight:
                    break
                index, result = arrived.get()
                in_flight -= 1
                if isinstance(result, RecipeError):
                    raise result  # cancels what is in flight
                if isinstance(result, StoppedError):
                    stop = stop or result  # what is in flight is paid for, and waited for
                else:
                    yield index, result
        if stop is not None:
            raise stop

    def count_earlier(self, input_tokens: int, output_tokens: int, answers: int) -> None:
        self._spending.earlier_input_tokens = input_tokens
        self._spending.earlier_output_tokens = output_tokens
        self._spending.earlier_answers = answers

    def usage(self) -> dict[str, object]:
        return self._spending.summary()

    async def _deliver(
        self, client: Client, question: tuple[int, tuple[Prompt, Decoding]], arrived: queue.SimpleQueue[Arrival]
    ) -> None:
        index, (prompt, decoding) = question
        result: Reply | Exception
        try:
            result = await client.ask(functools.partial(request_body, self._section, prompt, decoding))
        except Exception as error:  # noqa: BLE001 - the boundary to an endpoint: the failure becomes a counted value
            result = error
        arrived.put((index, result))
