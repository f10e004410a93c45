"""An evaluated-only checkpoint as a `Model`: a network, a tokenizer, and the image encoder of its family.

What differs between families is how pictures become tensors (`ImageEncoder`) and how a conversation is written
(`Chat`); all the rest is here and in `generation`. Shape suffixes: B batch, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Decoding, Message, Picture, Prompt, Reply
from robointervlm.models._shared.checkpoint import coordinates_of, network_in, refuse_wrong_keys
from robointervlm.models._shared.generation import Fingerprint, answered, generated, reply_of, say_if_it_would_sample
from robointervlm.models._shared.section import CheckpointSection
from robointervlm.models.locate import model_name
from robointervlm.models.qwen2_5_vl.chat import Chat


class Cells(NamedTuple):
    """How many tokens a picture is."""

    tokens: int


@dataclass(frozen=True)
class ImageInputs:
    """The pictures of one prompt as the network takes them, and the `counts` of their tokens.

    The tensors of the prompts of a batch are joined along their first dimension.
    """

    tensors: dict[str, Tensor]
    counts: tuple[Cells, ...]


class ImageEncoder(Protocol):
    """How a family looks at pictures. `token_types`: whether the network is told which tokens are pictures.

    `silent` are the tokens, beside the picture's own, that no answer may hold.
    """

    token_types: bool
    silent: tuple[str, ...]

    def look(self, pictures: Sequence[Picture]) -> ImageInputs:
        """The pictures of one prompt, at least one. Raises `DataError` for one that cannot be looked at."""
        ...

    def processed(self, image: ImageSize) -> ImageSize:
        """The size that a picture which is alone in its prompt is resized to, padding not counted."""
        ...

    def settings(self) -> object:
        """All that decides what the tensors are, printable."""
        ...


@dataclass(frozen=True)
class Question:
    """A prompt on its way into a batch; `ids` has shape (L,)."""

    ids: NDArray[np.int64]
    look: ImageInputs | None


class ChatModel:
    """A `Model` of any family."""

    def __init__(
        self,
        network: Any,
        chat: Chat,
        eyes: ImageEncoder,
        *,
        name: str,
        coordinates: CoordinateFormat,
    ) -> None:
        self.name = name
        self.coordinates = coordinates
        self.network = network
        self.chat = chat
        self.eyes = eyes
        self._fingerprint = Fingerprint()
        self._counts: dict[tuple[ImageSize, ...], tuple[Cells, ...]] = {}
        self._stops = _stops(network, chat)
        vocabulary = chat.tokenizer.get_vocab()
        self._suppressed = [chat.image_token_id, *(vocabulary[token] for token in eyes.silent if token in vocabulary)]
        rows = network.get_input_embeddings().num_embeddings
        if chat.image_token_id >= rows or chat.image_token_id != network.config.image_token_id:
            raise ModelError(
                f"the tokenizer does not belong to this model: its {chat.image_token} is {chat.image_token_id}, "
                f"config.json says {network.config.image_token_id} of {rows} tokens."
            )
        say_if_it_would_sample(network, name)

    @classmethod
    def load(  # noqa: PLR0913 - what differs between families
        cls,
        section: CheckpointSection,
        config: Any,
        loader: Any,
        *,
        chat: Chat,
        eyes: ImageEncoder,
        coordinates: CoordinateFormat,
        unused: str = "(?!)",
        **more: Any,
    ) -> Self:
        """The checkpoint in memory. `coordinates` are its family's own, `loader` is a class with `from_pretrained`.

        Raises `ModelError` where a weight is missing or has no place, unless its name matches the pattern `unused`.
        """
        network, info = network_in(section, config, loader, **more)
        refuse_wrong_keys(section.path, info, tied=bool(config.tie_word_embeddings), unused=unused)
        name = section.name or model_name(section.path)
        return cls(network, chat, eyes, name=name, coordinates=coordinates_of(section, coordinates))

    @property
    def fingerprint(self) -> str:
        """A hash of all that answers depend on: weights, precision, attention, the eyes, the template, the format."""
        return self._fingerprint.of(
            self.network,
            str(self.network.dtype),
            self.network.config._attn_implementation,
            repr(self.eyes.settings()),
            self.coordinates.value,
            self.chat.tokenizer.chat_template,
        )

    def processed_size(self, image: ImageSize) -> ImageSize:
        return self.eyes.processed(image)

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        """Greedy or sampled answers to a batch of prompts; only the answer is decoded."""
        return answered(
            prompts,
            encode=self.question,
            generate=lambda questions: self.generated(questions, decoding),
            reply=partial(reply_of, stops=self._stops, decoded=self.chat.decoded),
        )

    def question(self, prompt: Prompt) -> Question:
        """The prompt as tokens and tensors, its pictures where its `<image>` markers are."""
        look = self.eyes.look(prompt.pictures) if prompt.pictures else None
        return Question(self.chat.prompt(prompt.messages, () if look is None else look.counts), look)

    def prompt_tokens(self, messages: Sequence[Message], sizes: Sequence[ImageSize]) -> int:
        """How many tokens a conversation takes; pictures of sizes not met before are stood in for by black ones."""
        key = tuple(sizes)
        if key not in self._counts:
            black = [np.zeros((size.height, size.width, 3), dtype=np.uint8) for size in sizes]
            self._counts[key] = self.eyes.look(black).counts if black else ()
        return len(self.chat.prompt(messages, self._counts[key]))

    def generated(self, questions: Sequence[Question], decoding: Decoding) -> list[list[int]]:
        """The tokens generated for each question, up to the longest of the batch."""
        return generated(
            self.network,
            self.inputs(questions),
            decoding,
            stops=self._stops,
            suppressed=self._suppressed,
        )

    def inputs(self, questions: Sequence[Question]) -> dict[str, Tensor]:
        """Questions as the keyword arguments of `generate`, padded on the left."""
        width = max(len(question.ids) for question in questions)
        ids_BL = torch.full((len(questions), width), self._stops[-1], dtype=torch.long)
        mask_BL = torch.zeros((len(questions), width), dtype=torch.long)
        for row, question in enumerate(questions):
            ids_BL[row, width - len(question.ids) :] = torch.from_numpy(question.ids)
            mask_BL[row, width - len(question.ids) :] = 1
        inputs = {"input_ids": ids_BL, "attention_mask": mask_BL}
        if self.eyes.token_types:
            # Without it the positions silently fall back to one dimension.
            inputs["mm_token_type_ids"] = (ids_BL == self.chat.image_token_id).to(torch.int)
        looks = [question.look.tensors for question in questions if question.look is not None]
        if looks:
            inputs |= {name: torch.cat([look[name] for look in looks]) for name in looks[0]}
        return {name: tensor.to(self.network.device) for name, tensor in inputs.items()}


def _stops(network: Any, chat: Chat) -> list[int]:
    """The tokens that end an answer, in the tokenizer or the checkpoint's own settings; the padding is the last."""
    own = network.generation_config.eos_token_id if network.generation_config is not None else None
    ends = [chat.turn_end_id, chat.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    pad = chat.tokenizer.pad_token_id
    found = [end for end in ends if isinstance(end, int) and end != pad]
    return [*dict.fromkeys(found), chat.turn_end_id if pad is None else pad]
