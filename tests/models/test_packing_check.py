"""A packed row of everything against transformers' own eager and sdpa, one conversation at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl.encoder import Encoded
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl.packed import packed
from robointervlm.models.qwen2_5_vl.packing_check import (
    Difference,
    Passed,
    agreement,
    apart,
    grouped,
    relative,
    together,
)
from robointervlm.models.qwen2_5_vl_moe.experts import MlpWithExperts
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from tiny_models import fresh_model, noise

FRAMES = [noise(56, 56, seed) for seed in range(8)]
TURNS = [
    ["Where is the cup?", "[[10, 20], [30, 40]]"],
    ["Is it open?", "No", "And where is the gripper?", "[[1, 2], [3, 4]]"],
    ["Where will it end? Look well.", "[[5, 5], [50, 45]]"],
    ["Is it open or is it not open?", "Yes"],
]


def windowed(model: Qwen25VL) -> Qwen25VL:
    """Its first vision layer attends in windows, as most layers of the real one do; the tiny one has none of these."""
    model.network.model.visual.fullatt_block_indexes = [1]
    return model


def with_experts() -> Qwen25VL:
    """A mixture of experts that counts."""
    moe = upcycled(fresh_model(), Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16), seed=1)
    for module in moe.network.modules():
        if isinstance(module, MlpWithExperts):
            torch.nn.init.constant_(module.experts_scaler, 0.5)
    return windowed(moe)


def untied() -> Qwen25VL:
    """The 7B model's output layer has a weight of its own."""
    model = windowed(fresh_model())
    model.network.lm_head.weight = torch.nn.Parameter(model.network.lm_head.weight.detach().clone())
    return model


MODELS = {"dense": lambda: windowed(fresh_model()), "experts": with_experts, "untied": untied}


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS.keys())
def model(request) -> Qwen25VL:
    return request.param()


def asked(model: Qwen25VL, turns: list[str], *pictures) -> Encoded:
    roles = ("user", "assistant") * len(turns)
    texts = ["<image>" * len(pictures) + turns[0], *turns[1:]]
    return model.encoder.encode([Message(*each) for each in zip(roles, texts, strict=False)], pictures)


def row_of_everything(model: Qwen25VL) -> list[list[Encoded]]:
    """One picture, eight pictures, text alone, and two groups that share; some conversations of two turns."""
    return [
        [asked(model, TURNS[0], noise(140, 84, 9))],
        [asked(model, turns, *FRAMES) for turns in TURNS[:3]],
        [asked(model, TURNS[1])],
        [asked(model, turns, noise(168, 140, 10)) for turns in TURNS],
        [asked(model, TURNS[2], *FRAMES)],
    ]


def assert_same(model: Qwen25VL, groups: list[list[Encoded]], reference: str) -> None:
    theirs = apart(model, groups, reference)
    model.network.set_attn_implementation("sdpa")
    ours = together(model, packed(model.encoder, groups))
    assert theirs.gradients.keys() <= ours.gradients.keys()
    for what, found in relative(ours, theirs).items():
        assert found <= 1e-5, what


@pytest.mark.parametrize("reference", ["eager", "sdpa"])
def test_a_row_of_everything_has_the_loss_and_every_gradient_of_its_conversations(model, reference):
    assert_same(model, row_of_everything(model), reference)


@pytest.mark.parametrize("frozen", [["visual"], ["visual", "language_model"], ["language_model", "lm_head"]])
def test_what_is_frozen_changes_no_other_gradient(frozen):
    model = windowed(fresh_model())
    learning = {n for n, _ in model.network.named_parameters() if not any(part in n for part in frozen)}
    if frozen == ["visual", "language_model"]:  # only the merger learns
        learning = {n for n, _ in model.network.named_parameters() if "merger" in n}
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(name in learning)
    groups = row_of_everything(model)
    assert apart(model, groups, "sdpa").gradients.keys() == learning
    assert_same(model, groups, "sdpa")


kinds = st.tuples(
    st.sampled_from([(), (noise(84, 56, 1),), (noise(140, 112, 2),), (noise(56, 56, 3), noise(112, 84, 4)), FRAMES]),
    st.permutations(range(len(TURNS))),
    st.integers(1, 3),
)


@given(st.lists(kinds, min_size=1, max_size=4), st.sampled_from(["eager", "sdpa"]))
@settings(max_examples=10, deadline=None)
def test_any_grouping_has_the_loss_and_every_gradient_of_its_conversations(drawn, reference):
    model = any_model()
    groups = [[asked(model, TURNS[index], *pictures) for index in order[:count]] for pictures, order, count in drawn]
    assert_same(model, groups, reference)


def any_model(kept: list[Qwen25VL] = []) -> Qwen25VL:  # noqa: B006 - made once for all examples
    if not kept:
        kept.append(windowed(fresh_model()))
    return kept[0]


def test_in_bfloat16_autocast_the_row_differs_as_rounding_does():
    # Weights in float32, products in bfloat16, as a run with precision bf16 has it. A single product is rounded by up
    # to 2^-9 of itself; over the layers of this model, transformers' own eager and sdpa differ by as much as allowed.
    model = windowed(fresh_model())
    groups = row_of_everything(model)
    with torch.autocast("cpu", torch.bfloat16):
        theirs, eager = apart(model, groups, "sdpa"), apart(model, groups, "eager")
        model.network.set_attn_implementation("sdpa")
        found = relative(together(model, packed(model.encoder, groups)), theirs)
    assert found["loss"] <= 2**-8
    noise_of = relative(eager, theirs)
    for what, size in found.items():
        assert size <= max(2**-8, 4 * noise_of[what]), what


def test_agreement_names_what_it_compared(model):
    found = agreement(model, row_of_everything(model)[2:4])
    assert found.holds
    assert found.left_out == ()
    parts = {"language", "merger", "vision"} | ({"experts"} if model.name.endswith("moe") else set())
    wanted = {"loss", "logits"} | {f"gradient of {part}" for part in parts}
    assert {(each.what, each.reference) for each in found.differences} == {
        (what, reference) for what in wanted for reference in ("sdpa", "eager")
    }


def test_what_is_not_a_number_does_not_agree():
    assert not Difference("loss", "sdpa", float("nan"), 1e-5).is_rounding
    one = Passed(1.0, torch.ones(1, 2), {"lm_head.weight": torch.ones(2), "model.norm.weight": torch.ones(2)})
    other = Passed(1.0, torch.ones(1, 2), {**one.gradients, "lm_head.weight": torch.tensor([1.0, float("nan")])})
    assert relative(other, one)["gradient of language"] != relative(other, one)["gradient of language"]


def test_one_wrong_value_of_a_gradient_is_found():
    one = Passed(2.0, torch.ones(1, 2), {"lm_head.weight": torch.tensor([1.0, 4.0])})
    other = Passed(2.0, torch.ones(1, 2), {"lm_head.weight": torch.tensor([1.5, 4.0])})
    assert relative(other, one) == {"loss": 0.0, "logits": 0.0, "gradient of language": 0.125}


def test_conversations_are_grouped_by_what_their_pictures_hold():
    model = any_model()
    picture, other = noise(84, 56, 1), noise(84, 56, 2)
    made = [
        ("a", asked(model, TURNS[0], picture)),
        ("b", asked(model, TURNS[0], other)),
        ("a", asked(model, TURNS[1], picture)),
        ("", asked(model, TURNS[0])),
        ("", asked(model, TURNS[0])),
    ]
    assert [len(group) for group in grouped(model, made)] == [2, 1, 1, 1]
