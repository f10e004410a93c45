"""A packed row gives every conversation what it would have alone: hidden states, loss and gradients.

The windows of the vision tower, all of one size in one call, give what transformers' loop over them gives.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from robointervlm.core.errors import ModelError
from robointervlm.core.prompt import Decoding, Message, Prompt
from robointervlm.models.qwen2_5_vl.attention import (
    WINDOWS,
    Segment,
    Segments,
    _by_varlen_kernel,
    _windows_by_varlen_kernel,
    packed_attention,
    use_packed_attention,
    use_window_attention,
    window_attention,
)
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.models.qwen2_5_vl.packed import packed, shareable, shared_prefix
from tiny_models import fresh_model, noise, shared_model

QUESTIONS = [
    ("Where is the cup?", "[[10, 20], [30, 40]]"),
    ("Where is the gripper? Look well, it is open.", "[[1, 2], [3, 4]]"),
    ("Where will it end?", "[[5, 5], [50, 45]]"),
    ("Is it open?", "Yes"),
    ("Is it open or is it not open?", "No"),
    ("Where?", "[[0, 0], [9, 9], [20, 30]]"),
]


@pytest.fixture(scope="module")
def model() -> Qwen25VL:
    """The shared weights, taking packed rows."""
    mine = fresh_model()
    use_packed_attention(mine.network)
    return mine


def asked(model: Qwen25VL, question: str, answer: str, *pictures: np.ndarray) -> Encoded:
    text = "<image>" * len(pictures) + question
    return model.encoder.encode([Message("user", text), Message("assistant", answer)], pictures)


def about(model: Qwen25VL, count: int, *pictures: np.ndarray) -> list[Encoded]:
    return [asked(model, *each, *pictures) for each in QUESTIONS[:count]]


ROWS = {
    "six questions on one picture": lambda model: [about(model, 6, noise(84, 56, 1))],
    "two pictures for each question": lambda model: [about(model, 3, noise(84, 56, 1), noise(56, 140, 2))],
    "text alone": lambda model: [about(model, 1), about(model, 1)],
    "questions that share text and no picture": lambda model: [about(model, 4)],
    "several groups": lambda model: [
        about(model, 3, noise(84, 56, 1)),
        about(model, 1),
        about(model, 2, noise(140, 84, 3)),
        about(model, 1, noise(56, 56, 4)),
    ],
}


@pytest.fixture(params=ROWS.values(), ids=ROWS.keys())
def groups(request, model) -> list[list[Encoded]]:
    return request.param(model)


def logits(model: Qwen25VL, batch: Batch) -> torch.Tensor:
    """The logits of every token of a row, shape (L, V)."""
    named = {} if batch.segments is None else {"segments": batch.segments}
    with torch.no_grad():
        return model.network(
            input_ids=batch.ids_BL,
            position_ids=batch.positions_3BL,
            pixel_values=batch.patches_PC,
            image_grid_thw=batch.grids_N3,
            use_cache=False,
            **named,
        ).logits[0]


def pieces(batch: Batch, values: torch.Tensor) -> list[torch.Tensor]:
    """For each conversation of a packed row its own values, shape (L, ...), the shared prefix before its branch."""
    parts = batch.segments.parts
    prefixes = {(part.prefix_start, part.prefix_end) for part in parts if part.prefix}
    branches = [part for part in parts if (part.start, part.end) not in prefixes]
    return [
        torch.cat([values[part.prefix_start : part.prefix_end], values[part.start : part.end]]) for part in branches
    ]


def test_the_logits_of_a_packed_row_are_those_of_its_conversations_alone(model, groups):
    batch = packed(model.encoder, groups)
    ours = pieces(batch, logits(model, batch))
    alone = [each for group in groups for each in group]
    assert len(ours) == len(alone)
    for found, each in zip(ours, alone, strict=True):
        torch.testing.assert_close(found, logits(shared_model(), model.encoder.batch([each])), rtol=0, atol=1e-5)


def test_the_positions_are_those_of_the_conversations_alone(model, groups):
    batch = packed(model.encoder, groups)
    ours = pieces(batch, batch.positions_3BL[:, 0].T)
    for found, each in zip(ours, (each for group in groups for each in group), strict=True):
        assert torch.equal(found.T, model.encoder.positions(each.ids, each.grids))


def gradients(model: Qwen25VL, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    model.network.zero_grad()
    loss = sum(SupervisedLoss(model.network)(batch) for batch in batches)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in model.network.named_parameters()}


def test_the_loss_and_every_gradient_are_the_sums_of_the_separate_ones(model, groups):
    separate_model = fresh_model()
    alone = [model.encoder.batch([each]) for group in groups for each in group]
    theirs, separate = gradients(separate_model, alone)
    batch = packed(model.encoder, groups)
    ours, together = gradients(model, [batch])
    assert batch.supervised == sum(each.supervised for each in alone)
    assert ours == pytest.approx(theirs, rel=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in separate.values())
    assert largest > 0
    for name, gradient in together.items():
        # Relative to the parameter's own gradient; where that is all but zero, to the whole model's.
        scale = max(float(separate[name].abs().max()), 1e-2 * largest)
        assert float((gradient - separate[name]).abs().max()) <= 1e-5 * scale, name


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.permutations(range(len(QUESTIONS))), st.integers(1, 4)), min_size=1, max_size=3
    )
)
@settings(max_examples=15, deadline=None)
def test_any_grouping_has_the_loss_of_its_conversations_alone(model, drawn):
    # Each group: how many pictures, which questions, how many of them.
    groups = [
        [
            asked(model, *QUESTIONS[index], *[noise(84, 56 + 28 * each, each) for each in range(pictures)])
            for index in order[:count]
        ]
        for pictures, order, count in drawn
    ]
    with torch.no_grad():
        together = float(SupervisedLoss(model.network)(packed(model.encoder, groups)))
        alone = [
            float(SupervisedLoss(shared_model().network)(model.encoder.batch([each])))
            for group in groups
            for each in group
        ]
    assert together == pytest.approx(sum(alone), rel=1e-5)


def test_in_bfloat16_the_loss_is_that_of_the_conversations_alone_within_its_rounding():
    # Eight bits of mantissa: one part in 256 for a single number.
    mine, plain = fresh_model(), fresh_model()
    use_packed_attention(mine.network)
    for each in (mine, plain):
        each.network.to(torch.bfloat16)
    group = about(mine, 6, noise(84, 56, 1))
    with torch.no_grad():
        together = float(SupervisedLoss(mine.network)(packed(mine.encoder, [group])))
        alone = sum(float(SupervisedLoss(plain.network)(plain.encoder.batch([each]))) for each in group)
    assert together == pytest.approx(alone, rel=1 / 256)


def test_the_words_of_one_branch_change_nothing_in_another(model):
    group = about(model, 4, noise(84, 56, 1))
    batch = packed(model.encoder, [group, about(model, 2, noise(56, 56, 2))])
    before = pieces(batch, logits(model, batch))
    changed = copy.deepcopy(batch)
    second = batch.segments.parts[2]
    changed.ids_BL[0, second.start : second.end] = 70
    after = pieces(changed, logits(model, changed))
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        assert torch.equal(old, new) == (index != 1), index


def test_a_shared_picture_is_read_once_and_its_tokens_stand_once(model):
    group = about(model, 6, noise(84, 56, 1))
    batch = packed(model.encoder, [group])
    assert batch.grids_N3.tolist() == [[1, 4, 6]]
    assert int((batch.ids_BL == model.encoder.chat.image_token_id).sum()) == 6
    shared = shared_prefix(group)
    assert batch.tokens == sum(len(each.ids) for each in group) - 5 * shared


def test_without_packed_attention_the_branches_would_leak(model):
    # That the oracle can fail: the same row as one plain sequence gives other logits.
    batch = packed(model.encoder, [about(model, 3, noise(84, 56, 1))])
    right = logits(model, batch)
    batch.segments = None
    assert float((right - logits(model, batch)).abs().max()) > 1e-3


def test_a_branch_keeps_the_token_before_its_first_label():
    # Two conversations that differ in their answers only.
    ids = np.arange(6)
    labels = np.array([-100, -100, -100, -100, 4, 5])
    one = Encoded(ids, labels, [], [])
    other = Encoded(np.array([0, 1, 2, 3, 8, 9]), np.array([-100, -100, -100, -100, 8, 9]), [], [])
    assert shared_prefix([one, other]) == 3
    assert shared_prefix([one]) == 0


def test_a_conversation_is_shareable_up_to_the_end_of_its_last_picture():
    labels = np.array([-100, -100, -100, -100, 4, 5])
    assert shareable(Encoded(np.array([1, 7, 7, 2, 4, 5]), labels, [], []), 7) == 3
    assert shareable(Encoded(np.array([1, 2, 2, 2, 4, 5]), labels, [], []), 7) == 0
    # A second picture after the first answer cannot be shared.
    assert shareable(Encoded(np.array([1, 7, 2, 3, 4, 7]), labels, [], []), 7) == 0


def test_conversations_that_part_before_their_picture_are_no_group(model):
    first, second = (
        model.encoder.encode([Message("user", text), Message("assistant", "Yes")], [noise(56, 56)])
        for text in ("<image>Is it?", "Is it?<image>")
    )
    with pytest.raises(ValueError, match="before its pictures end"):
        packed(model.encoder, [[first, second]])


def test_segments_that_are_not_the_row_are_refused(model):
    batch = packed(model.encoder, [about(model, 2)])
    batch.segments = Segments((Segment(0, 3),))
    with pytest.raises(ValueError, match="segments end at 3"):
        logits(model, batch)


def test_the_kernel_of_variable_lengths_gets_the_prefix_before_each_branch():
    # A prefix of two tokens with branches of one and three, then a conversation of two that stands alone.
    segments = Segments((Segment(0, 2), Segment(2, 3, 0, 2), Segment(3, 6, 0, 2), Segment(6, 8)))
    places, queries, keys, most_queries, most_keys = segments.varlen(torch.device("cpu"))
    assert places.tolist() == [0, 1, 0, 1, 2, 0, 1, 3, 4, 5, 6, 7]
    assert queries.tolist() == [0, 2, 3, 6, 8]
    assert keys.tolist() == [0, 2, 5, 10, 12]
    assert (most_queries, most_keys) == (3, 5)


def plain_varlen(query, key, value, query_starts, key_starts, *most, scale, window_size, enable_gqa):
    """What the documentation of torch's kernel says, one query after the other in plain arithmetic."""
    assert window_size == (-1, 0)
    repeats = query.shape[1] // key.shape[1]
    assert enable_gqa == (repeats > 1)
    output = torch.empty_like(query)
    queries, keys = query_starts.tolist(), key_starts.tolist()
    for (first, last), (start, end) in zip(pairwise(queries), pairwise(keys), strict=True):
        assert (last - first <= most[0], end - start <= most[1]) == (True, True)
        for place in range(first, last):
            seen = end - (last - 1 - place)
            for head in range(query.shape[1]):
                weights = torch.softmax(key[start:seen, head // repeats] @ query[place, head] * scale, dim=0)
                output[place, head] = weights @ value[start:seen, head // repeats]
    return output


def test_the_kernel_of_variable_lengths_is_asked_for_what_the_segments_give(monkeypatch):
    # The kernel itself runs on a GPU only; what it is given and what is made of its answer is the same anywhere.
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", plain_varlen)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((1, heads, 12, 8), generator=generator) for heads in (4, 2, 2))
    parts = (Segment(0, 3), Segment(3, 4, 0, 3), Segment(4, 8, 0, 3), Segment(8, 10), Segment(10, 12, 8, 10))
    by_segments, _ = packed_attention(torch.nn.Module(), query, key, value, None, segments=Segments(parts), scaling=0.3)
    by_kernel = _by_varlen_kernel(query, key, value, Segments(parts), 0.3)
    torch.testing.assert_close(by_kernel, by_segments, rtol=0, atol=1e-6)


def test_a_model_with_a_sliding_window_takes_no_packed_rows():
    sliding = fresh_model()
    sliding.network.config.text_config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(ModelError, match=r"layers of sliding_attention; train it with batch\.pack=none"):
        use_packed_attention(sliding.network)


def test_a_model_that_takes_packed_rows_answers_as_before(model):
    prompt = Prompt((Message("user", "<image>Where is the cup?"),), (noise(84, 56, 1),))
    ours, theirs = (each.answer([prompt], Decoding(max_new_tokens=8))[0] for each in (model, shared_model()))
    assert ours.text == theirs.text


def test_a_model_that_takes_packed_rows_is_saved_as_before(model, tmp_path):
    model.save(tmp_path / "packed")
    shared_model().save(tmp_path / "plain")
    assert (tmp_path / "packed" / "config.json").read_text() == (tmp_path / "plain" / "config.json").read_text()


@pytest.mark.parametrize("frozen, runs", [(False, 1), (True, 0)])
def test_a_row_of_text_runs_the_vision_tower_only_where_others_may_wait_for_it(frozen, runs):
    mine = fresh_model()
    use_packed_attention(mine.network)
    mine.network.model.visual.requires_grad_(not frozen)
    seen = []
    mine.network.model.visual.register_forward_hook(lambda *_: seen.append(1))
    SupervisedLoss(mine.network)(packed(mine.encoder, [about(mine, 2)])).backward()
    assert len(seen) == runs


def test_a_frozen_vision_tower_keeps_no_activations(model):
    frozen = fresh_model()
    use_packed_attention(frozen.network)
    frozen.network.model.visual.requires_grad_(False)
    seen = []
    frozen.network.model.visual.register_forward_hook(lambda _module, _inputs, out: seen.append(out.pooler_output))
    loss = SupervisedLoss(frozen.network)(packed(frozen.encoder, [about(frozen, 3, noise(84, 56, 1))]))
    loss.backward()
    assert [features.requires_grad for features in seen] == [False]


def test_activation_checkpointing_keeps_the_branches_apart():
    plain, saved = fresh_model(), fresh_model()
    for each in (plain, saved):
        use_packed_attention(each.network)
        each.network.train()
    saved.network.activation_checkpointing_enable({"use_reentrant": False})
    batch = packed(plain.encoder, [about(plain, 3, noise(84, 56, 1))])
    (first, ours), (second, theirs) = gradients(plain, [batch]), gradients(saved, [batch])
    assert first == second
    for name, gradient in theirs.items():
        torch.testing.assert_close(gradient, ours[name])


# Windows of 112 pixels do not divide 252x140: it has full ones and three smaller kinds.
WINDOWED = [noise(252, 140, 1), noise(112, 112, 2), noise(252, 140, 3), noise(56, 84, 4)]


def test_features_and_gradients_of_the_tower_are_bit_for_bit_those_of_the_loop():
    model = fresh_model()
    visual = model.network.model.visual
    visual.fullatt_block_indexes = [1]
    text = "<image>" * len(WINDOWED)
    batch = model.encoder.batch([model.encoder.encode([Message("user", text), Message("assistant", "Yes")], WINDOWED)])

    def made() -> list[torch.Tensor]:
        visual.zero_grad()
        features = visual(batch.patches_PC, grid_thw=batch.grids_N3).pooler_output
        features.square().sum().backward()
        return [features.detach(), *(parameter.grad.clone() for parameter in visual.parameters())]

    theirs = made()
    use_window_attention(model.network)
    assert visual.config._attn_implementation == WINDOWS
    for ours, expected in zip(made(), theirs, strict=True):
        assert torch.equal(ours, expected)


def test_a_tower_that_attends_by_eager_is_left_alone():
    model = fresh_model()
    model.network.set_attn_implementation("eager")
    use_window_attention(model.network)
    assert model.network.model.visual.config._attn_implementation == "eager"


def plain_varlen_of_windows(query, key, value, query_starts, key_starts, *most, scale, window_size):
    """What the documentation of torch's kernel says, window by window."""
    assert (window_size, most) == ((-1, -1), (3, 3))
    assert query_starts is key_starts
    sizes = query_starts.diff().tolist()
    pieces = zip(*(tensor.transpose(0, 1).split(sizes, dim=1) for tensor in (query, key, value)), strict=True)
    found = [F.softmax(q @ k.transpose(1, 2) * scale, dim=-1) @ v for q, k, v in pieces]
    return torch.cat(found, dim=1).transpose(0, 1)


def test_the_kernel_is_asked_for_the_same_windows(monkeypatch: pytest.MonkeyPatch):
    # The kernel itself runs on a GPU only.
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", plain_varlen_of_windows)
    generator = torch.Generator().manual_seed(0)
    heads = tuple(torch.randn((1, 2, 6, 8), generator=generator) for _ in range(3))
    starts = torch.tensor([0, 3, 4, 6], dtype=torch.int32)
    looped, _ = window_attention(torch.nn.Module(), *heads, cu_seq_lens_q=starts, max_length_q=3, scaling=0.3)
    torch.testing.assert_close(_windows_by_varlen_kernel(heads, starts, 3, 0.3), looped, rtol=0, atol=1e-6)
