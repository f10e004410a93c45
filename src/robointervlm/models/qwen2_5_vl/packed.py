"""Several conversations as one row without padding; those of one group read what they have in common once.

A group is a shared prefix - system turn, pictures, the question up to where the conversations part - and one branch
for each of its conversations. Every branch has the positions it would have alone, and sees the prefix and itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from robointervlm.models.qwen2_5_vl.attention import Segment, Segments
from robointervlm.models.qwen2_5_vl.chat import IGNORED
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded, Encoder, vision

Group = Sequence[Encoded]
"""Conversations about the same pictures; of one alone nothing is shared."""


def shareable(encoded: Encoded, image_token_id: int) -> int:
    """Up to where another conversation about the same pictures may share this one: to the end of its last picture.

    0 if there is no picture, or if something is learned before the last one.
    """
    places = np.flatnonzero(encoded.ids == image_token_id)
    end = int(places[-1]) + 1 if len(places) else 0
    return end if end < _first_learned(encoded) else 0


def shared_prefix(group: Group) -> int:
    """How many tokens the conversations of a group have in common, at most up to the one before the first label.

    The token before a label predicts it, so each branch has to keep that one to itself.
    """
    first = group[0].ids
    if len(group) == 1:
        return 0
    end = min(_first_learned(each) - 1 for each in group)
    for other in group[1:]:
        end = min(end, len(other.ids))
        differing = np.flatnonzero(first[:end] != other.ids[:end])
        end = int(differing[0]) if len(differing) else end
    return max(end, 0)


def _first_learned(encoded: Encoded) -> int:
    learned = np.flatnonzero(encoded.labels != IGNORED)
    return int(learned[0]) if len(learned) else len(encoded.ids)


def packed(encoder: Encoder, groups: Sequence[Group]) -> Batch:
    """One row of the groups, one after the other. The pictures of a group are those of its first conversation.

    Raises `ValueError` for a group whose conversations part before the end of its pictures: these cannot be shared.
    """
    pieces: list[tuple[np.ndarray, np.ndarray, torch.Tensor]] = []
    segments: list[Segment] = []
    start = 0
    for group in groups:
        shared = shared_prefix(group)
        pictured = int((group[0].ids[:shared] == encoder.config.image_token_id).sum())
        if len(group) > 1 and pictured != sum(grid.tokens for grid in group[0].grids):
            raise ValueError(f"the conversations of a group part after {shared} tokens, before its pictures end")
        all_positions = [encoder.positions(each.ids, each.grids) for each in group]
        if shared:
            pieces.append((group[0].ids[:shared], group[0].labels[:shared], all_positions[0][:, :shared]))
            segments.append(Segment(start, start + shared))
        prefix_start, start = start, start + shared
        for each, positions in zip(group, all_positions, strict=True):
            pieces.append((each.ids[shared:], each.labels[shared:], positions[:, shared:]))
            end = start + len(each.ids) - shared
            segments.append(Segment(start, end, prefix_start, prefix_start + shared))
            start = end
    ids, labels, positions_3L = zip(*pieces, strict=True)
    return Batch(
        torch.from_numpy(np.concatenate(ids))[None],
        torch.from_numpy(np.concatenate(labels))[None],
        torch.cat(positions_3L, dim=1)[:, None],
        *vision([group[0] for group in groups]),
        Segments(tuple(segments)),
    )
