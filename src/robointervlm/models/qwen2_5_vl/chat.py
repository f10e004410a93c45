"""Conversations as tokens: the checkpoint's own chat template, the image tokens counted, the answers marked.

Only what the assistant says, up to and including its end-of-turn token, is supervised. Text that contains a special
token of the tokenizer is refused: it would end a turn or open a picture that is not there.
"""

from __future__ import annotations

import re
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
# Texts that a template which trims, escapes or looks into texts would not write as they are: see `Chat._outline`.
PROBES = (
    "\ue000{}\ue001",
    " \n\t{} \n ",
    "<tool_call>{{ {} }}</tool_call> {% if %} {# #}",
    "<think>{}</think>\r\n&amp; \"quoted\" 'it' \\ \u00e9\u4e2d\U0001f600",
    "SYSTEM {} user assistant",
    "{}",
)

# Of so many stretches of text the tokens are kept: what the template writes, and texts that many samples have.
KEPT_STRETCHES = 4096

# What a conversation's outline depends on: for each message its role and, of a user's with pictures, what its parts
# are; then whether it ends where the assistant is to begin.
_Shape = tuple[tuple[tuple[str, tuple[str, ...] | None], ...], bool]


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
    _between: re.Pattern[str] | None = field(init=False, repr=False, compare=False)
    _encoded: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False, hash=False)
    _outlines: dict[_Shape, tuple[str, ...] | None] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        identifier = self.tokenizer.convert_tokens_to_ids(self.image_token)
        if not self.tokenizer.chat_template or identifier is None:
            raise ModelError(
                f"the tokenizer in '{self.tokenizer.name_or_path}' has no chat template or no {self.image_token} "
                "token; a checkpoint's folder holds tokenizer.json and chat_template.jinja (or chat_template.json)."
            )
        # As transformers does before it encodes: what tokenizer.json may ask for is not wanted here.
        backend: Any = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        object.__setattr__(self, "image_token_id", identifier)
        object.__setattr__(self, "turn_end_id", self.tokenizer.convert_tokens_to_ids(TURN_END))
        special = tuple(token for token in self.tokenizer.get_added_vocab() if token.startswith("<|"))
        object.__setattr__(self, "special_tokens", special)
        object.__setattr__(self, "_between", _between(backend))

    def rendered(self, messages: Sequence[Message], *, open_answer: bool) -> str:
        """The conversation as the template writes it; `open_answer` ends it where the assistant is to begin."""
        contents = [_content(message) for message in messages]
        texts = [text for content in contents for text in _texts(content)]
        outline = self._outline(messages, contents, open_answer=open_answer) if all(texts) else None
        if outline is None:
            return self._written(messages, contents, open_answer=open_answer)
        # What stands between the texts, and the texts, in turn.
        return outline[0] + "".join([text + after for text, after in zip(texts, outline[1:], strict=True)])

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

    def _outline(
        self, messages: Sequence[Message], contents: Sequence[_Content], *, open_answer: bool
    ) -> tuple[str, ...] | None:
        """What the template writes around the texts of such a conversation, or None if it does more than place them.

        Rendering takes a millisecond, joining takes microseconds. Whether joining is right is found out once for each
        shape of conversation, by rendering texts that are easily changed.
        """
        shape = tuple(
            (message.role, None if isinstance(content, str) else tuple(part["type"] for part in content))
            for message, content in zip(messages, contents, strict=True)
        )
        key = (shape, open_answer)
        if key not in self._outlines:
            self._outlines[key] = self._probed(messages, contents, open_answer=open_answer)
        return self._outlines[key]

    def _probed(
        self, messages: Sequence[Message], contents: Sequence[_Content], *, open_answer: bool
    ) -> tuple[str, ...] | None:
        outline: tuple[str, ...] = ()
        texts = sum(len(_texts(content)) for content in contents)
        for probe in PROBES:
            marks = [probe.replace("{}", f"{number}\ue002") for number in range(texts)]
            rendered = self._written(messages, _filled(contents, marks), open_answer=open_answer)
            around: list[str] = []
            rest = rendered
            for mark in marks:
                before, found, rest = rest.partition(mark)
                if not found:
                    return None
                around.append(before)
            if outline and outline != (*around, rest):
                return None
            outline = (*around, rest)
        return outline

    def _written(self, messages: Sequence[Message], contents: Sequence[_Content], *, open_answer: bool) -> str:
        """The conversation, rendered by the template."""
        content: list[dict[str, Any]] = [
            {"role": message.role, "content": each} for message, each in zip(messages, contents, strict=True)
        ]
        return str(self.tokenizer.apply_chat_template(content, tokenize=False, add_generation_prompt=open_answer))

    def _ids(self, text: str) -> NDArray[np.int64]:
        ids: list[int] = []
        for stretch in self._between.split(text) if self._between else (text,):
            if stretch not in self._encoded:
                if len(self._encoded) >= KEPT_STRETCHES:
                    self._encoded.clear()
                # Not `tokenizer.encode`, which takes half as long again to come to this.
                backend: Any = self.tokenizer.backend_tokenizer
                self._encoded[stretch] = backend.encode(stretch, add_special_tokens=False).ids
            ids += self._encoded[stretch]
        return np.array(ids, dtype=np.int64)

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


def _between(backend: Any) -> re.Pattern[str] | None:
    """What divides a text into stretches whose tokens do not depend on one another: tokens looked for before others.

    None if such a token takes something of its surroundings with it, or if the probe says that a stretch matters to
    the next one, as a blank that stands in front of the first one only does.
    """
    added = [token for token in backend.get_added_tokens_decoder().values() if not token.normalized]
    if not added or any(token.lstrip or token.rstrip or token.single_word for token in added):
        return None
    longest_first = sorted((token.content for token in added), key=len, reverse=True)
    pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
    probe = f"a two{longest_first[0]}a three\n four {longest_first[-1]}\u0301 5 "
    whole, parts = (
        [identifier for text in texts for identifier in backend.encode(text, add_special_tokens=False).ids]
        for texts in ([probe], pattern.split(probe))
    )
    return pattern if whole == parts else None


_Content = str | list[dict[str, str]]


def _content(message: Message) -> _Content:
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


def _texts(content: _Content) -> list[str]:
    """The texts of a message, in order."""
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def _filled(contents: Sequence[_Content], texts: Sequence[str]) -> list[_Content]:
    """The same contents with these texts in the places of theirs."""
    left = iter(texts)
    return [
        next(left)
        if isinstance(content, str)
        else [{"type": "text", "text": next(left)} if part["type"] == "text" else part for part in content]
        for content in contents
    ]
