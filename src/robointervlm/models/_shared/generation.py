"""Answers out of any network that transformers can generate with: the same treatment for every family.

Shape suffixes: B batch, L tokens.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import torch

from robointervlm.core.errors import RoboInterError
from robointervlm.core.prompt import Decoding, Prompt, Reply

logger = logging.getLogger(__name__)


class Waiting(Protocol):
    """A prompt as tokens, waiting for its answer."""

    @property
    def ids(self) -> Any:
        """The token ids, shape (L,)."""


Encoded = TypeVar("Encoded", bound=Waiting)


def answered(
    prompts: Sequence[Prompt],
    *,
    encode: Callable[[Prompt], Encoded],
    generate: Callable[[list[Encoded]], list[list[int]]],
    reply: Callable[[list[int], int, float], Reply],
) -> list[Reply | Exception]:
    """One entry per prompt, in order: a prompt that is wrong concerns none of the others.

    `generate` gives the new tokens of each; `reply` makes of them, of the number of tokens of the prompt and of its
    share of the batch's seconds what is answered.
    """
    started = time.perf_counter()
    encoded: list[Encoded | RoboInterError] = []
    for prompt in prompts:
        try:
            encoded.append(encode(prompt))
        except RoboInterError as error:
            encoded.append(error)
    sound = [each for each in encoded if not isinstance(each, RoboInterError)]
    rows = iter(generate(sound) if sound else [])
    seconds = (time.perf_counter() - started) / max(1, len(prompts))
    return [each if isinstance(each, RoboInterError) else reply(next(rows), len(each.ids), seconds) for each in encoded]


def generated(
    network: Any,
    inputs: Mapping[str, Any],
    decoding: Decoding,
    *,
    stops: Sequence[int],
    suppressed: Iterable[int],
) -> list[list[int]]:
    """The tokens generated for each row of `inputs`, which are padded on the left, up to the longest of the batch.

    `stops` are the tokens that end an answer; the last of them fills up the shorter ones. Greedy, or by temperature
    alone: what else a checkpoint's generation_config.json says of sampling is left out. What runs the prefill and the
    steps of decoding is transformers' own `generate`.
    """
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if decoding.temperature > 0:
        # The hub's generation_config.json has top_k 1, with which a temperature would change nothing.
        sampling = {"do_sample": True, "temperature": decoding.temperature, "top_p": 1.0, "top_k": 0}
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(decoding.seed)
        output_BL = network.generate(
            **inputs,
            max_new_tokens=decoding.max_new_tokens,
            suppress_tokens=sorted(set(suppressed)),
            repetition_penalty=1.0,
            num_beams=1,
            eos_token_id=list(stops),
            pad_token_id=stops[-1],
            **sampling,
        )
    answers: list[list[int]] = output_BL[:, inputs["input_ids"].shape[1] :].tolist()
    return answers


def reply_of(
    generated: Sequence[int],
    input_tokens: int,
    seconds: float,
    *,
    stops: Sequence[int],
    decoded: Callable[[Sequence[int]], str],
) -> Reply:
    """What was generated, up to the first token that ends a turn, as text."""
    end = next((index for index, token in enumerate(generated) if token in stops), None)
    kept = generated[:end]
    reason: Literal["stop", "length"] = "length" if end is None else "stop"
    return Reply(decoded(kept), seconds, input_tokens, len(kept), reason)


def say_if_it_would_sample(network: Any, name: str) -> None:
    """Warn where a checkpoint's own generation_config.json draws its answers at random."""
    own = network.generation_config
    if own is not None and own.do_sample:
        logger.warning(
            "%s would draw its answers (temperature %s, top_k %s, top_p %s in its generation_config.json); here they "
            "are greedy unless decoding.temperature says otherwise.",
            name,
            own.temperature,
            own.top_k,
            own.top_p,
        )


class Fingerprint:
    """A hash of a network's weights and of the settings its answers depend on."""

    def __init__(self) -> None:
        self._known: tuple[object, str] | None = None

    def of(self, network: Any, *settings: object) -> str:
        """The hash. Every question asks for it, and a 7B model takes a minute: done again only after a change."""
        weights: list[tuple[str, Any]] = sorted(network.state_dict().items())
        state = (settings, [(name, tensor.data_ptr(), tensor._version) for name, tensor in weights])
        if self._known is None or self._known[0] != state:
            digest = hashlib.sha256(repr(settings).encode())
            for name, tensor in weights:
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
            self._known = (state, digest.hexdigest())
        return self._known[1]
