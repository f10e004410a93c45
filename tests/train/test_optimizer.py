"""What learns and how fast."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from rich.console import Console
from torch import nn

from robointervlm.core.errors import RecipeError
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from robointervlm.train.optimizer import freeze, learning_rate, let_learn, optimizers, parts_table, schedule, summary
from robointervlm.train.recipe import ModelSection, OptimSection
from tiny_models import fresh_model

ALL = ("language", "merger", "vision")
RATES = OptimSection(language_lr=1e-3, merger_lr=2e-3, vision_lr=3e-3, weight_decay=0.1)


def learning(network) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def untied():
    network = fresh_model().network
    network.config.tie_word_embeddings = False
    network.lm_head.weight = nn.Parameter(network.lm_head.weight.detach().clone())
    return network


@pytest.mark.parametrize(
    "part, marker, count",
    # Two layers of 12 tensors, embedding and last norm; two blocks of 12 and the patch embedding; the merger's 5.
    [("language", "language_model", 26), ("vision", "visual", 25), ("merger", "merger", 5)],
)
def test_exactly_the_parameters_of_the_named_part_learn(part, marker, count):
    network = fresh_model().network
    freeze(network, [part])
    names = learning(network)
    assert len(names) == count
    assert all(marker in name for name in names)
    assert part == "merger" or not any("merger" in name for name in names)


def test_parts_add_up():
    network = fresh_model().network
    freeze(network, ["language", "vision"])
    assert len(learning(network)) == 26 + 25
    freeze(network, ALL)
    assert len(learning(network)) == 56


def test_a_tied_output_layer_is_the_embedding_and_learns_with_the_language():
    network = fresh_model().network
    assert network.lm_head.weight is network.model.language_model.embed_tokens.weight
    freeze(network, ["merger"])
    assert not network.lm_head.weight.requires_grad


@pytest.mark.parametrize("tune, learns", [(("language",), True), (("vision", "merger"), False)])
def test_an_untied_output_layer_belongs_to_the_language(tune, learns):
    network = untied()
    freeze(network, tune)
    assert network.lm_head.weight.requires_grad is learns
    assert network.model.language_model.embed_tokens.weight.requires_grad is learns
    assert [row.parameters - row.trainable for row in summary(network, RATES) if row.part == "language"] == [
        0 if learns else sum(p.numel() for n, p in network.named_parameters() if "visual" not in n)
    ]


def test_a_model_with_nothing_to_learn_is_an_error():
    network = nn.Module()
    network.lm_head = nn.Linear(2, 2)
    with pytest.raises(RecipeError, match="no trainable parameters"):
        freeze(network, ["vision"])


def groups(network, settings) -> list[tuple[set[str], float, float]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [
        ({names[id(p)] for p in group["params"]}, group["peak_lr"], group["weight_decay"])
        for optimizer in optimizers(network, settings)
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("tune", [("language",), ("merger",), ("vision",), ("merger", "vision"), ALL])
def test_every_learning_parameter_is_in_one_group_with_its_parts_rate(name, tune):
    network = fresh_model().network
    freeze(network, tune)
    found = groups(network, RATES.model_copy(update={"name": name}))
    everything = [each for names, _, _ in found for each in names]
    assert sorted(everything) == sorted(learning(network))
    for names, rate, decay in found:
        for each in names:
            expected = 2e-3 if ".merger." in each else 3e-3 if ".visual." in each else 1e-3
            assert rate == expected, each
            vector = each.endswith("bias") or "norm" in each or "ln_q" in each
            assert decay == (0.0 if vector else 0.1), each


def test_muon_takes_the_matrices_between_hidden_states_only():
    network = fresh_model().network
    freeze(network, ALL)
    muon, adamw = optimizers(network, RATES.model_copy(update={"name": "muon"}))
    assert isinstance(muon, torch.optim.Muon)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    inner = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    # Seven matrices in each of two layers, five in each of two vision blocks, two of the merger.
    assert len(inner) == 2 * 7 + 2 * 5 + 2
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert {"model.language_model.embed_tokens.weight", "model.visual.patch_embed.proj.weight"} <= rest


def test_the_mergers_rate_is_the_languages_unless_it_is_given():
    assert learning_rate("merger", OptimSection(language_lr=7e-6)) == 7e-6
    assert learning_rate("merger", RATES) == 2e-3
    # The documented defaults: 5e-6, the same for the projector, 1e-6 for the vision tower.
    assert [learning_rate(part, OptimSection()) for part in ALL] == [5e-6, 5e-6, 1e-6]


def test_the_schedule_warms_up_and_falls_as_half_a_cosine():
    settings = OptimSection(warmup_ratio=0.2)  # 2 of 10 steps
    values = [schedule(step, 10, settings) for step in range(10)]
    # 0.5 (1 + cos(pi k / 8)) for k = 0 … 7
    assert values == pytest.approx(
        [0.5, 1.0, 1.0, 0.96194, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.03806], abs=1e-5
    )


def test_a_constant_schedule_stays():
    settings = OptimSection(schedule="constant", warmup_ratio=0.03)
    # 3 % of 100 steps: a third, two thirds, and then all of it.
    assert [schedule(step, 100, settings) for step in (0, 1, 2, 3, 99)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])


def test_a_schedule_without_warm_up_begins_at_its_peak():
    assert schedule(0, 1, OptimSection(warmup_ratio=0)) == 1.0
    assert schedule(0, 100, OptimSection(warmup_ratio=0)) == 1.0


def test_the_last_step_still_learns():
    assert 0 < schedule(99, 100, OptimSection()) < 1e-3
    assert math.isfinite(schedule(0, 1, OptimSection(warmup_ratio=0.99)))


def test_the_summary_counts_parameters_by_part():
    network = fresh_model().network
    freeze(network, ["merger"])
    rows = {row.part: row for row in summary(network, RATES)}
    # The merger: a norm of 48, 192 x 192 and its bias, 192 x 64 and its bias.
    assert rows["merger"].parameters == rows["merger"].trainable == 48 + 192 * 192 + 192 + 192 * 64 + 64
    assert (rows["merger"].lr, rows["language"].lr, rows["vision"].lr) == (2e-3, None, None)
    assert rows["language"].trainable == rows["vision"].trainable == 0
    assert sum(row.parameters for row in rows.values()) == sum(p.numel() for p in network.parameters())


def with_experts():
    return upcycled(fresh_model(), Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8), seed=0).network


def test_experts_are_a_part_of_their_own():
    network = with_experts()
    freeze(network, ["experts"])
    # Two layers, each with the scaler, the router and the two stacks; the dense MLP beside them is language.
    assert {name.partition(".mlp.")[2] for name in learning(network)} == {
        "experts_scaler",
        "moe_block.gate.weight",
        "moe_block.experts.gate_up_proj",
        "moe_block.experts.down_proj",
    }
    assert len(learning(network)) == 8
    freeze(network, ["language"])
    assert len(learning(network)) == 26


def test_experts_of_a_dense_model_cannot_be_tuned():
    with pytest.raises(RecipeError, match="dense and has none; tune language"):
        freeze(fresh_model().network, ["language", "experts"])


def test_experts_learn_as_fast_as_language_unless_told_otherwise():
    assert learning_rate("experts", OptimSection(language_lr=3e-4)) == 3e-4
    assert learning_rate("experts", OptimSection(language_lr=3e-4, experts_lr=1e-2)) == 1e-2


def test_the_scaler_of_the_experts_never_decays():
    network = with_experts()
    freeze(network, ["experts"])
    (optimizer,) = optimizers(network, OptimSection(weight_decay=0.1, experts_lr=1e-2))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name.partition(".mlp.")[2]: decay[id(p)] for name, p in network.named_parameters() if p.requires_grad}
    assert by_name == {
        "experts_scaler": 0.0,
        "moe_block.gate.weight": 0.1,
        "moe_block.experts.gate_up_proj": 0.1,
        "moe_block.experts.down_proj": 0.1,
    }
    assert {group["peak_lr"] for group in optimizer.param_groups} == {1e-2}


def test_muon_leaves_stacks_and_routers_to_adamw():
    network = with_experts()
    freeze(network, ["experts"])
    (only,) = optimizers(network, OptimSection(name="muon"))
    assert type(only) is torch.optim.AdamW
    assert sum(len(group["params"]) for group in only.param_groups) == 8


def test_fused_adamw_takes_the_steps_of_the_plain_one():
    """Three steps over the same made-up gradients; torch's own plain loop is the reference."""
    networks = [fresh_model().network for _ in range(2)]
    freeze(networks[0], ALL)
    freeze(networks[1], ALL)
    (fused,), (plain,) = (optimizers(network, RATES) for network in networks)
    for group in plain.param_groups:
        group["fused"] = False
    assert [group["fused"] for group in fused.param_groups] == [True] * len(fused.param_groups)
    for step in range(3):
        for network, optimizer in zip(networks, (fused, plain), strict=True):
            generator = torch.Generator().manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
    before = fresh_model().network
    pairs = zip(networks[0].parameters(), networks[1].parameters(), before.parameters(), strict=True)
    for one, other, first in pairs:
        assert not torch.equal(one, first)
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-7)


def test_a_dense_model_has_no_row_for_experts():
    assert [row.part for row in summary(fresh_model().network, RATES)] == ["language", "merger", "vision"]
    assert [row.part for row in summary(with_experts(), RATES)] == ["language", "merger", "vision", "experts"]


# Every choice of parts that means something: language in full and low-rank exclude each other.
PARTS = ("language", "merger", "vision", "experts", "lora")
CHOICES = [
    chosen
    for size in range(1, len(PARTS) + 1)
    for chosen in itertools.combinations(PARTS, size)
    if not {"language", "lora"} <= set(chosen)
]
OWN_RATES = OptimSection(
    language_lr=1e-3, merger_lr=2e-3, vision_lr=3e-3, experts_lr=4e-3, lora_lr=5e-3, weight_decay=0.1
)


def expected_part(name: str) -> str:
    """The part, worked out from the names as they are documented."""
    if "lora_" in name:
        return "lora"
    if "visual" in name:
        return "merger" if "visual.merger" in name else "vision"
    return "experts" if "moe_block" in name or "experts_scaler" in name else "language"


def tuned(network, chosen):
    let_learn(network, ModelSection(path="-", tune=chosen), seed=0)
    return network


def test_there_are_twenty_three_choices_of_parts():
    # 31 of five parts, less the 8 with both language and lora.
    assert len(CHOICES) == 23


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("chosen", CHOICES, ids="+".join)
def test_in_every_choice_each_learning_parameter_is_in_one_group_with_its_own_rate(name, chosen):
    network = tuned(with_experts(), chosen)
    rates = dict(zip(PARTS, (1e-3, 2e-3, 3e-3, 4e-3, 5e-3), strict=True))
    assert {expected_part(each) for each in learning(network)} == set(chosen)
    found = groups(network, OWN_RATES.model_copy(update={"name": name}))
    assert sorted(each for names, _, _ in found for each in names) == sorted(learning(network))
    for names, rate, decay in found:
        for each in names:
            assert rate == rates[expected_part(each)], each
            vector = each.endswith(("bias", "experts_scaler")) or "norm" in each or "ln_q" in each
            assert decay == (0.0 if vector else 0.1), each


@pytest.mark.parametrize("chosen", CHOICES, ids="+".join)
def test_in_every_choice_what_is_tuned_changes_and_what_is_frozen_does_not(chosen):
    network = tuned(with_experts(), chosen)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    made = optimizers(network, OWN_RATES)
    patches = torch.linspace(-1, 1, 16 * 1176).view(16, 1176)
    image = network.config.image_token_id
    ids = torch.tensor([[20, 30, image, image, image, image, 40, 50, 60]])
    # In the first step the gate of the experts is shut and B is zero; then everything has a gradient.
    for _ in range(2):
        inputs = {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, 4, 4]])}
        network(input_ids=ids, mm_token_type_ids=(ids == image).int(), **inputs).logits.square().mean().backward()
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad()
    changed = {name for name, each in network.named_parameters() if not torch.equal(each, before[name])}
    # The bias of a key moves all scores of a query alike: it has no gradient but rounding.
    sure = {name for name in learning(network) if "k_proj.bias" not in name}
    assert sure <= changed <= learning(network)


def test_low_rank_updates_learn_at_a_rate_of_their_own():
    assert learning_rate("lora", OptimSection(language_lr=5e-6)) == 1e-4
    assert learning_rate("lora", OptimSection(lora_lr=3e-4)) == 3e-4


def test_muon_leaves_the_factors_of_low_rank_updates_to_adamw():
    network = tuned(fresh_model().network, ("lora",))
    (only,) = optimizers(network, OptimSection(name="muon"))
    assert type(only) is torch.optim.AdamW


@pytest.mark.parametrize(
    "values, said",
    [
        ({"tune": ("language", "lora")}, "in full or low-rank"),
        ({"tune": ("vision", "lora"), "lora": {"vision": True}}, "in full or low-rank"),
        ({"tune": ("language",), "lora": {"rank": 8}}, "tune does not name it"),
        ({"tune": ("lora",), "lora": {"rank": 0}}, "greater than or equal to 1"),
        ({"tune": ("lora",), "lora": {"targets": ("lm_head",)}}, "q_proj"),
    ],
)
def test_a_contradiction_is_refused_when_the_recipe_is_read(values, said):
    with pytest.raises(ValueError, match=said):
        ModelSection(path="-", **values)


def printed(network, settings) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as text:
        console.print(parts_table(summary(network, settings), settings))
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.get().splitlines() if "│" in line]


def test_the_table_says_what_learns_how_fast_and_how_much_of_the_model_it_is():
    # A: 16 x 64 (down: 16 x 170), B: width x 16, of q 64, k and v 32, o 64, gate and up 170, down 64, in two layers.
    lora = 2 * 16 * (4 * 64 + 2 * 64 + 170 + 64 + 32 + 32 + 64 + 170 + 170 + 64)
    network = tuned(fresh_model().network, ("lora", "merger"))
    merger = 48 + 192 * 192 + 192 + 192 * 64 + 64
    everything = sum(each.numel() for each in network.parameters())
    language, vision = (
        sum(each.numel() for name, each in network.named_parameters() if expected_part(name) == part)
        for part in ("language", "vision")
    )
    assert printed(network, RATES) == [
        ["language", "26", f"{language:,}", "-", "-", "frozen", ""],
        ["merger", "5", f"{merger:,}", f"{merger:,}", f"{merger / everything:.2%}", "2.0e-03", "0.1, none on 304"],
        ["vision", "25", f"{vision:,}", "-", "-", "frozen", ""],
        ["lora", "28", f"{lora:,}", f"{lora:,}", f"{lora / everything:.2%}", "1.0e-04", "0.1"],
        ["all", "84", f"{everything:,}", f"{lora + merger:,}", f"{(lora + merger) / everything:.2%}", "", ""],
    ]


def test_the_table_counts_tied_embeddings_once():
    rows = printed(tuned(fresh_model().network, ("language",)), OptimSection())
    one = rows[0]
    (two, *_) = printed(untied(), OptimSection())
    # The untied model has an output layer of its own: a tensor of vocabulary times 64.
    vocabulary = fresh_model().network.config.text_config.vocab_size
    assert (int(two[1]), int(two[2].replace(",", ""))) == (
        int(one[1]) + 1,
        int(one[2].replace(",", "")) + 64 * vocabulary,
    )
    assert one[5:] == ["5.0e-06", "none"]
