"""Conversations as tokens: the checkpoint's own chat template, the image tokens counted, the answers marked.

Only what the assistant says, up to and including its end-of-turn token, is supervised. Text that contains a special
token of the tokenizer is refused: it would end a turn or open a picture that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robointervlm.core.errors import DataError, ModelError
from robointervlm.core.prompt import Message
from robointervlm.core.sample import IMAGE_MARKER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
IMAGE_PAD = "<|image_pad|>"
TURN_END = "<|im_end|>"


class Counted(Protocol):
    """A picture of which it is known how many tokens it takes."""

    @property
    def tokens(self) -> int:
        """At least 1."""
        ...


@dataclass(frozen=True)
class Tokens:
    """One conversation. `ids` and `labels` have shape (L,); a label is -100 where nothing is to be learned."""

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Chat:
    """A tokenizer with its chat template, which writes one `image_token` for a picture."""

    tokenizer: PreTrainedTokenizerBase
    image_token: str = IMAGE_PAD
    image_token_id: int = field(init=False)
    turn_end_id: int = field(init=False)
    special_tokens: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        identifier = self.tokenizer.convert_tokens_to_ids(self.image_token)
        if not self.tokenizer.chat_template or identifier is None:
            raise ModelError(
                f"the tokenizer in '{self.tokenizer.name_or_path}' has no chat template or no {self.image_token} "
                "token; a checkpoint's folder holds tokenizer.json and chat_template.jinja (or chat_template.json)."
            )
        object.__setattr__(self, "image_token_id", identifier)
        object.__setattr__(self, "turn_end_id", self.tokenizer.convert_tokens_to_ids(TURN_END))
        special = tuple(token for token in self.tokenizer.get_added_vocab() if token.startswith("<|"))
        object.__setattr__(self, "special_tokens", special)

    def rendered(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        """The conversation as the template writes it; `open_answer` ends it where the assistant is to begin."""
        content: list[dict[str, Any]] = [{"role": message.role, "content": _content(message)} for message in messages]
        return str(self.tokenizer.apply_chat_template(content, tokenize=False, add_generation_prompt=open_answer))

    def prompt(self, messages: Sequence[Message], grids: Sequence[Counted]) -> NDArray[np.int64]:
        """The tokens of a conversation that waits for an answer, image tokens expanded; shape (L,)."""
        self._refuse_special_tokens(messages)
        ids = self._ids(self.rendered(messages, open_answer=True))
        return self._expanded(Tokens(ids, ids), grids).ids

    def supervised(self, messages: Sequence[Message], grids: Sequence[Counted]) -> Tokens:
        """The tokens of a whole conversation with the assistant's turns as labels, image tokens expanded."""
        self._refuse_special_tokens(messages)
        pieces: list[tuple[NDArray[np.int64], bool]] = []
        done = ""
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            opened = self.rendered(messages[:index], open_answer=True)
            closed = self.rendered(messages[: index + 1], open_answer=False)
            if not (opened.startswith(done) and closed.startswith(opened)):
                raise ModelError("the chat template rewrites earlier turns when one is added; it cannot be trained on.")
            end = closed.rindex(TURN_END) + len(TURN_END)
            pieces.append((self._ids(opened[len(done) :]), False))
            pieces.append((self._ids(closed[len(opened) : end]), True))
            done = closed[:end]
        if not pieces:
            raise DataError("a conversation without an answer cannot be trained on.")
        ids = np.concatenate([piece for piece, _ in pieces])
        labels = np.concatenate([piece if learned else np.full_like(piece, IGNORED) for piece, learned in pieces])
        return self._expanded(Tokens(ids, labels), grids)

    def decoded(self, ids: Sequence[int] | NDArray[np.int64]) -> str:
        """The text of generated tokens, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _ids(self, text: str) -> NDArray[np.int64]:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)

    def _expanded(self, tokens: Tokens, grids: Sequence[Counted]) -> Tokens:
        is_image = tokens.ids == self.image_token_id
        if int(is_image.sum()) != len(grids):
            raise DataError(f"{int(is_image.sum())} <image> markers in the text, but {len(grids)} pictures.")
        repeats = np.ones(len(tokens.ids), dtype=np.int64)
        repeats[is_image] = [grid.tokens for grid in grids]
        return Tokens(np.repeat(tokens.ids, repeats), np.repeat(tokens.labels, repeats))

    def _refuse_special_tokens(self, messages: Sequence[Message]) -> None:
        for message in messages:
            for token in self.special_tokens:
                if token in message.text:
                    raise DataError(f"the text {message.text[:80]!r} contains the special token {token}; remove it.")


def _content(message: Message) -> str | list[dict[str, str]]:
    """The message's content as the templates take it: pictures stand where the `<image>` markers stood."""
    if message.role != "user" or IMAGE_MARKER not in message.text:
        return message.text
    parts: list[dict[str, str]] = []
    for index, text in enumerate(message.text.split(IMAGE_MARKER)):
        if index:
            parts.append({"type": "image"})
        if text:
            parts.append({"type": "text", "text": text})
    return parts
