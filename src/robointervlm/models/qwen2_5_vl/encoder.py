"""Conversations and pictures as the tensors the network takes. No weights, so that a data-loading process can hold it.

Shape suffixes: B batch, L tokens, P patches of all pictures, C values of a patch (bytes or floats), N pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Message, Picture, Prompt
from robointervlm.models._shared.section import PixelSection
from robointervlm.models.qwen2_5_vl.attention import Segments
from robointervlm.models.qwen2_5_vl.chat import IGNORED, Chat
from robointervlm.models.qwen2_5_vl.folder import read_chat, read_declaration
from robointervlm.models.qwen2_5_vl.images import MEAN, MERGE, PATCH, STD, TEMPORAL, Grid, PixelLimits, patches


class Encoded(NamedTuple):
    """One sample on its way into a batch: ids and labels of shape (L,), the patches and grid of each picture."""

    ids: np.ndarray
    labels: np.ndarray
    patches: list[np.ndarray]
    grids: list[Grid]


class Distinct(NamedTuple):
    """Different pictures as the vision tower takes them, and for every picture of a batch which of them it is."""

    patches_PC: Tensor
    grids_N3: Tensor
    places: list[int]


@dataclass
class Batch:
    """Right-padded samples, or one packed row if there are `segments`.

    No attention mask: under a causal mask, padding on the right changes nothing before it.
    """

    ids_BL: Tensor
    labels_BL: Tensor
    positions_3BL: Tensor
    pixels_PC: Tensor | None
    grids_N3: Tensor | None
    segments: Segments | None = None

    @property
    def patches_PC(self) -> Tensor | None:  # noqa: N802 - a tensor, with the suffix of its shape
        """The patches as the network takes them, made where the bytes are."""
        return None if self.pixels_PC is None else normalised(self.pixels_PC)

    @property
    def supervised(self) -> int:
        """How many tokens have a label that the token before them predicts."""
        return int((self.labels_BL[:, 1:] != IGNORED).sum())

    @property
    def tokens(self) -> int:
        """How many tokens are computed, padding included."""
        return self.ids_BL.numel()

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.ids_BL.to(device),
            self.labels_BL.to(device),
            self.positions_3BL.to(device),
            None if self.pixels_PC is None else self.pixels_PC.to(device),
            None if self.grids_N3 is None else self.grids_N3.to(device),
            self.segments,
        )


class Encoder:
    """The tokenizer, the pixel limits and the coordinate format of a checkpoint."""

    def __init__(
        self, config: Qwen2_5_VLConfig, chat: Chat, limits: PixelLimits, coordinates: CoordinateFormat
    ) -> None:
        self.config = config
        self.chat = chat
        self.limits = limits
        self.coordinates = coordinates
        self.pad_id = int(chat.tokenizer.pad_token_id)
        text_config: Any = config.text_config
        if chat.image_token_id != config.image_token_id or len(chat.tokenizer) > text_config.vocab_size:
            raise ModelError(
                f"the tokenizer does not belong to this model: its image token is {chat.image_token_id} and it has "
                f"{len(chat.tokenizer)} tokens; config.json says {config.image_token_id} and "
                f"{text_config.vocab_size}."
            )

    def encode(self, messages: Sequence[Message], pictures: Iterable[Picture]) -> Encoded:
        """A conversation with answers, ready for a batch."""
        pixels, grids = self.pixels(pictures)
        tokens = self.chat.supervised(messages, grids)
        return Encoded(tokens.ids, tokens.labels, pixels, grids)

    def encode_prompt(self, prompt: Prompt, seen: dict[int, tuple[np.ndarray, Grid]] | None = None) -> Encoded:
        """A conversation that waits for an answer; nothing in it is labelled.

        `seen` keeps what was made of the pictures by their `id`, so that prompts with one array share its patches.
        """
        known = {} if seen is None else seen
        for picture in prompt.pictures:
            if id(picture) not in known:
                known[id(picture)] = patches(picture, self.limits)
        pairs = [known[id(picture)] for picture in prompt.pictures]
        grids = [grid for _, grid in pairs]
        ids = self.chat.prompt(prompt.messages, grids)
        return Encoded(ids, np.full_like(ids, IGNORED), [array for array, _ in pairs], grids)

    def prompt_tokens(self, messages: Sequence[Message], sizes: Iterable[ImageSize]) -> int:
        """How many tokens a conversation that waits for an answer takes, without looking at its pictures."""
        return len(self.chat.prompt(messages, [self.limits.grid(size) for size in sizes]))

    def length(self, messages: Sequence[Message], sizes: Iterable[ImageSize]) -> int:
        """How many tokens a conversation takes, without looking at its pictures."""
        return len(self.chat.supervised(messages, [self.limits.grid(size) for size in sizes]).ids)

    def batch(self, samples: Sequence[Encoded]) -> Batch:
        """The collate function: samples with answers as one batch, padded on the right."""
        length = max(len(sample.ids) for sample in samples)
        ids_BL = torch.full((len(samples), length), self.pad_id, dtype=torch.long)
        labels_BL = torch.full((len(samples), length), IGNORED, dtype=torch.long)
        positions_3BL = torch.zeros((3, len(samples), length), dtype=torch.long)
        for row, sample in enumerate(samples):
            end = len(sample.ids)
            ids_BL[row, :end] = torch.from_numpy(sample.ids)
            labels_BL[row, :end] = torch.from_numpy(sample.labels)
            positions_3BL[:, row, :end] = self.positions(sample.ids, sample.grids)
        return Batch(ids_BL, labels_BL, positions_3BL, *vision(samples))

    def blank(self) -> Batch:
        """A batch of padding without a label: takes part in everything and teaches nothing."""
        ids = np.full(2, self.pad_id, dtype=np.int64)
        return self.batch([Encoded(ids, np.full_like(ids, IGNORED), [], [])])

    def prompt_batch(self, prompts: Sequence[Encoded], device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Prompts as the keyword arguments of `generate`, padded on the left, without what their pictures show."""
        width = max(len(prompt.ids) for prompt in prompts)
        ids_BL = torch.full((len(prompts), width), self.pad_id, dtype=torch.long)
        mask_BL = torch.zeros((len(prompts), width), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids_BL[row, width - len(prompt.ids) :] = torch.from_numpy(prompt.ids)
            mask_BL[row, width - len(prompt.ids) :] = 1
        inputs = {
            "input_ids": ids_BL,
            "attention_mask": mask_BL,
            # Without it the positions silently fall back to one dimension.
            "mm_token_type_ids": (ids_BL == self.chat.image_token_id).to(torch.int),
        }
        grids = [grid for prompt in prompts for grid in prompt.grids]
        if grids:
            inputs["image_grid_thw"] = torch.tensor(grids, dtype=torch.long)
        return {name: tensor.to(device) for name, tensor in inputs.items()}

    def distinct_pictures(self, prompts: Sequence[Encoded], device: torch.device | str = "cpu") -> Distinct | None:
        """The pictures of all prompts, those that are one array once; None where there is none."""
        first: dict[int, int] = {}
        arrays: list[np.ndarray] = []
        grids: list[Grid] = []
        places: list[int] = []
        for prompt in prompts:
            for array, grid in zip(prompt.patches, prompt.grids, strict=True):
                if id(array) not in first:
                    first[id(array)] = len(arrays)
                    arrays.append(array)
                    grids.append(grid)
                places.append(first[id(array)])
        if not places:
            return None
        pixels_PC = torch.from_numpy(np.concatenate(arrays)).to(device)
        return Distinct(normalised(pixels_PC), torch.tensor(grids, dtype=torch.long, device=device), places)

    def positions(self, ids: np.ndarray, grids: Sequence[Grid]) -> Tensor:
        """The 3-D mrope positions of one unpadded sample, shape (3, L): time, row, column.

        Text counts on; a picture begins where the text before it ended, and the text after it at the largest position
        in it and one. Equal to the model's own `get_rope_index`, which a test holds it against.
        """
        places = np.flatnonzero(ids == self.config.image_token_id)
        positions_3L = np.empty((3, len(ids)), dtype=np.int64)
        done = used = following = 0
        for grid in grids:
            begin = int(places[used])
            positions_3L[:, done:begin] = np.arange(following, following + begin - done)
            following += begin - done
            done = begin + grid.tokens
            positions_3L[:, begin:done] = _inside(grid) + following
            following += max(grid.rows, grid.columns) // MERGE
            used += grid.tokens
        positions_3L[:, done:] = np.arange(following, following + len(ids) - done)
        return torch.from_numpy(positions_3L)

    def pixels(self, pictures: Iterable[Picture]) -> tuple[list[np.ndarray], list[Grid]]:
        """The patches, each of shape (P, C), and the grid of each picture."""
        pairs = [patches(picture, self.limits) for picture in pictures]
        return [array for array, _ in pairs], [grid for _, grid in pairs]


@functools.lru_cache(maxsize=256)
def _inside(grid: Grid) -> np.ndarray:
    """The positions of a picture's tokens from its first one on, shape (3, tokens)."""
    return np.indices((grid.frames, grid.rows // MERGE, grid.columns // MERGE)).reshape(3, -1)


def read_encoder(section: PixelSection, config: Qwen2_5_VLConfig) -> Encoder:
    """The encoder of a checkpoint, without its weights. Raises `ModelError` where its files are not whole."""
    declared = read_declaration(section.path)
    limits = PixelLimits(section.min_pixels or declared["min_pixels"], section.max_pixels or declared["max_pixels"])
    coordinates = CoordinateFormat.named(section.coordinates or declared["coordinates"])
    return Encoder(config, read_chat(section.path), limits, coordinates)


def vision(samples: Sequence[Encoded]) -> tuple[Tensor | None, Tensor | None]:
    """The patches, as bytes, and grids of all pictures, in order; None where there is no picture at all."""
    all_patches = [array for sample in samples for array in sample.patches]
    if not all_patches:
        return None, None
    grids = [grid for sample in samples for grid in sample.grids]
    pixels_PC = all_patches[0] if len(all_patches) == 1 else np.concatenate(all_patches)
    return torch.from_numpy(pixels_PC), torch.tensor(grids, dtype=torch.long)


def normalised(pixels_PC: Tensor) -> Tensor:  # noqa: N803 - a tensor, with the suffix of its shape
    """Patches of bytes, shape (P, 588), as the network takes them: float32, shape (P, 1176), the still picture twice.

    Three float32 operations, which give the last bit of the float64 product that the image processor begins with.
    """
    area = PATCH * PATCH
    mean_C, std_C = (torch.from_numpy(values).to(pixels_PC.device).repeat_interleave(area) for values in (MEAN, STD))
    values_PC = pixels_PC.float().div_(255).sub_(mean_C).div_(std_C)
    return values_PC.view(-1, 3, 1, area).expand(-1, 3, TEMPORAL, area).reshape(len(values_PC), -1)
