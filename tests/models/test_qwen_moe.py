"""The mixture of experts: what a layer computes, what learns, and that what is written is what is read."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models.model import load_model
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.encoder import Batch
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.models.qwen2_5_vl.parts import part_of
from robointervlm.models.qwen2_5_vl_moe.config import MoeTextConfig, published_fields, with_experts
from robointervlm.models.qwen2_5_vl_moe.experts import (
    MixtureBlock,
    MlpWithExperts,
    RoboInterQwen25VLMoe,
    balancing_loss,
)
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from tiny_models import noise, shared_model

SHAPE = Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)


def moe(seed: int = 0, *, scaler: float = 0.0, **changes: object) -> Qwen25VL:
    """The shared tiny model with experts, which count by tanh of `scaler`."""
    model = upcycled(shared_model(), SHAPE.model_copy(update=changes), seed=seed)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("experts_scaler"):
                parameter.fill_(scaler)
    return model


def batch_of(model: Qwen25VL) -> Batch:
    encode = model.encoder.encode
    with_picture = [Message("user", "<image>\nWhere is the cup?"), Message("assistant", "[[10, 20], [30, 40]]")]
    without = [Message("user", "Is it open?"), Message("assistant", "Yes")]
    return model.encoder.batch([encode(with_picture, [noise(84, 56)]), encode(without, [])])


def logits(model: Qwen25VL) -> Tensor:
    batch = batch_of(model)
    with torch.no_grad():
        hidden = model.network.model(
            input_ids=batch.ids_BL,
            position_ids=batch.positions_3BL,
            pixel_values=batch.patches_PC,
            image_grid_thw=batch.grids_N3,
            use_cache=False,
        )[0]
        return model.network.lm_head(hidden)


def block(*, normalised: bool = True, seed: int = 0) -> MixtureBlock:
    """Six experts, two per token, of width 5 on hidden states of width 8."""
    config = MoeTextConfig(
        hidden_size=8, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=5, norm_topk_prob=normalised
    )
    made = MixtureBlock(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(generator=generator)
    return made


def tokens(seed: int = 1) -> Tensor:
    return torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(seed))


def plainly(mixture: MixtureBlock, x: Tensor, *, normalised: bool) -> Tensor:
    """Every expert on every token, and a sum over those that were chosen."""
    shares = torch.softmax(x @ mixture.gate.weight.T, dim=-1)
    cut = shares.sort(dim=-1, descending=True).values[..., 1:2]
    weights = torch.where(shares >= cut, shares, torch.zeros(()))
    if normalised:
        weights = weights / weights.sum(-1, keepdim=True)
    out = torch.zeros_like(x)
    for expert in range(6):
        gate, up = mixture.experts.gate_up_proj[expert].split(5)
        inner = nn.functional.silu(x @ gate.T) * (x @ up.T)
        out = out + weights[..., expert, None] * (inner @ mixture.experts.down_proj[expert].T)
    return out


@pytest.mark.parametrize("normalised", [True, False])
def test_routing_equals_every_expert_on_every_token(normalised):
    mixture, x = block(normalised=normalised), tokens()
    expected = plainly(mixture, x, normalised=normalised)
    assert float(expected.detach().abs().max()) > 1
    torch.testing.assert_close(mixture(x), expected, atol=2e-6, rtol=1e-6)


def test_gradients_equal_those_of_every_expert_on_every_token():
    mixture, x = block(), tokens()
    ours = torch.autograd.grad(mixture(x).square().sum(), list(mixture.parameters()))
    theirs = torch.autograd.grad(plainly(mixture, x, normalised=True).square().sum(), list(mixture.parameters()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_and_half_precision_stay_near_float32(dtype):
    mixture, x = block(), tokens()
    with torch.no_grad():
        expected = mixture(x)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.float32):
            found = mixture.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    # A bfloat16 has eight bits; a token whose second and third choice are nearly alike may choose otherwise.
    near = (found.float() - expected).norm(dim=-1) < 0.05 * expected.norm(dim=-1)
    assert near.float().mean().item() > 0.8


def test_an_inf_in_an_expert_nobody_chose_is_harmless():
    mixture, x = block(), tokens().abs()
    with torch.no_grad():
        mixture.gate.weight[3] = -100.0
        before = mixture(x)
        mixture.experts.down_proj[3] = torch.inf
        mixture.experts.gate_up_proj[3] = torch.nan
        assert torch.equal(mixture(x), before)


def test_an_expert_nobody_chose_has_a_gradient_of_zero_and_not_none():
    mixture, x = block(), tokens().abs()
    with torch.no_grad():
        mixture.gate.weight[3] = -100.0
    mixture(x).sum().backward()
    gradient = mixture.experts.down_proj.grad
    assert gradient.any()
    assert not gradient[3].any()


def test_only_the_chosen_experts_are_computed():
    mixture, rows = block(), []
    mixture.experts.activation.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    mixture(tokens())
    mixture(tokens()[:1, :1])
    assert rows == [3 * 7 * 2, 2]


def test_the_same_modules_are_called_in_the_same_order_whatever_the_router_says():
    # ZeRO-3 gathers weights ahead in the order of the calls before; processes that differ in it wait forever.
    mixture, called = block(), []
    for name, module in mixture.named_modules():
        module.register_forward_hook(lambda _module, _inputs, _output, name=name: called.append(name))
    orders = []
    for x, experts_reached in [(tokens(), 6), (tokens()[:1, :1], 2)]:
        called.clear()
        mixture(x)
        orders.append(list(called))
        assert len(mixture.gate(x).topk(2).indices.unique()) == experts_reached
    assert orders == [["gate", "experts.activation", "experts", ""]] * 2


def test_upcycled_logits_are_the_same_bits():
    assert torch.equal(logits(moe()), logits(shared_model()))
    assert not torch.equal(logits(moe(scaler=0.5)), logits(shared_model()))


def test_the_experts_depend_on_the_seed_alone():
    one, other = moe(seed=3).network.state_dict(), moe(seed=3).network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    changed = moe(seed=4).network.state_dict()
    assert {part_of(name) for name in one if not torch.equal(one[name], changed[name])} == {"experts"}


def test_experts_are_drawn_as_wide_as_the_config_says():
    # The tiny model's initializer_range is 0.06; each tensor has 4 x 48 x 64 values.
    for module in moe().network.modules():
        if isinstance(module, MlpWithExperts):
            assert module.experts_scaler.tolist() == [0.0]
            assert module.moe_block.experts.gate_up_proj.std().item() == pytest.approx(0.06, rel=0.05)


def test_a_model_with_experts_is_not_upcycled_again():
    with pytest.raises(ModelError, match="has experts already"):
        upcycled(moe(), SHAPE, seed=0)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"num_experts_per_tok": 5}, "there are only 4"),
        ({"mlp_only_layers": (2,)}, "layers 0 to 1"),
        ({"mlp_only_layers": (0, 1)}, "no layer with experts"),
        ({"decoder_sparse_step": 3}, "no layer with experts"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(changes, said):
    with pytest.raises(RecipeError, match=said):
        moe(**changes)


def test_at_first_only_the_scaler_has_a_gradient():
    model = moe()
    SupervisedLoss(model.network)(batch_of(model)).backward()
    learning = {
        name.rpartition("layers.")[2]
        for name, parameter in model.network.named_parameters()
        if part_of(name) == "experts" and parameter.grad.any()
    }
    assert learning == {"0.mlp.experts_scaler", "1.mlp.experts_scaler"}


def test_once_the_scaler_moved_everything_in_the_mixture_has_a_gradient():
    model = moe(scaler=0.1)
    SupervisedLoss(model.network)(batch_of(model)).backward()
    named = [(name, p) for name, p in model.network.named_parameters() if part_of(name) == "experts"]
    assert len(named) == 2 * 4
    assert all(parameter.grad.any() for _, parameter in named)


def test_uniform_routing_has_a_balancing_loss_of_k():
    assert float(balancing_loss(torch.zeros(5, 4), 2)) == pytest.approx(2.0)
    assert float(balancing_loss(torch.zeros(3, 16), 4)) == pytest.approx(4.0)


def test_routing_to_one_expert_has_a_balancing_loss_of_e():
    # One expert takes every token with a share of 1: E x 1 x 1; with k = 2 the second choice has a share of 0.
    certain = torch.tensor([[100.0, 0.0, 0.0, 0.0]]).repeat(6, 1)
    assert float(balancing_loss(certain, 1)) == pytest.approx(4.0)


def test_the_balancing_loss_by_hand():
    # Shares (3/4, 1/4) and (1/2, 1/2): both tokens take expert 0 first (a tie takes the lower index is not relied on).
    rows = torch.tensor([[3.0, 1.0], [5.0, 3.0]]).log()
    # Mean shares (11/16, 5/16), choices (1, 0): 2 x 11/16.
    assert float(balancing_loss(rows, 1)) == pytest.approx(1.375)


def router_gradients(model: Qwen25VL) -> list[Tensor]:
    model.network.zero_grad()
    SupervisedLoss(model.network)(batch_of(model)).backward()
    named = model.network.named_parameters()
    return [parameter.grad.clone() for name, parameter in named if name.endswith("moe_block.gate.weight")]


def test_the_balancing_loss_is_applied_in_training():
    model = moe()
    assert not any(gradient.any() for gradient in router_gradients(model))
    model.network.train()
    assert all(gradient.any() for gradient in router_gradients(model))


def test_without_a_coefficient_the_router_is_not_balanced():
    model = moe(router_aux_loss_coef=0.0)
    model.network.train()
    assert not any(gradient.any() for gradient in router_gradients(model))


def test_the_loss_of_a_batch_has_the_balancing_loss_once_per_supervised_token():
    model = moe(router_aux_loss_coef=0.5)
    batch, function = batch_of(model), SupervisedLoss(model.network)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("moe_block.gate.weight"):
                parameter.zero_()  # all experts alike: the balancing loss is k = 2
        plain = float(function(batch))
        model.network.train()
        assert float(function(batch)) - plain == pytest.approx(0.5 * 2.0 * batch.supervised, rel=1e-4)


def test_padding_does_not_count_in_the_balancing_loss():
    model = moe(router_aux_loss_coef=1.0)
    model.network.train()
    short = [Message("user", "Is it open?"), Message("assistant", "Yes")]
    encoded = model.encoder.encode(short, [])
    batch = model.encoder.batch([encoded])
    padded = Batch(
        torch.nn.functional.pad(batch.ids_BL, (0, 40), value=model.encoder.pad_id),
        torch.nn.functional.pad(batch.labels_BL, (0, 40), value=-100),
        torch.nn.functional.pad(batch.positions_3BL, (0, 40)),
        None,
        None,
    )
    with torch.no_grad():
        function = SupervisedLoss(model.network)
        assert float(function(padded)) == pytest.approx(float(function(batch)), rel=1e-6)


def test_gradient_checkpointing_counts_the_balancing_loss_once():
    def gradients(*, checkpointed: bool) -> dict[str, Tensor]:
        model = moe(scaler=0.3, router_aux_loss_coef=0.1)
        model.network.train()
        if checkpointed:
            model.network.activation_checkpointing_enable({"use_reentrant": False})
        SupervisedLoss(model.network)(batch_of(model)).backward()
        return {name: parameter.grad for name, parameter in model.network.named_parameters()}

    plain, again = gradients(checkpointed=False), gradients(checkpointed=True)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-6)


def test_frozen_routers_are_not_balanced():
    model = moe(router_aux_loss_coef=10.0)
    for name, parameter in model.network.named_parameters():
        parameter.requires_grad_(part_of(name) == "language")
    batch, function = batch_of(model), SupervisedLoss(model.network)
    with torch.no_grad():
        plain = float(function(batch))
        model.network.train()
        assert float(function(batch)) == pytest.approx(plain, rel=1e-6)


def test_transformers_own_loss_has_the_balancing_loss_in_training_only():
    model = moe(router_aux_loss_coef=0.5)
    ids = torch.tensor([[20, 30, 40, 50]])
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("moe_block.gate.weight"):
                parameter.zero_()
        plain = float(model.network(input_ids=ids, labels=ids).loss)
        model.network.train()
        assert float(model.network(input_ids=ids, labels=ids).loss) == pytest.approx(plain + 0.5 * 2.0, rel=1e-5)
        as_tuple = model.network(input_ids=ids, labels=ids, return_dict=False)
        assert float(as_tuple[0]) == pytest.approx(plain + 0.5 * 2.0, rel=1e-5)


@pytest.mark.parametrize(
    "step, dense, sparse",
    [(1, None, [0, 1, 2, 3]), (2, None, [1, 3]), (3, [], [2]), (1, [0, 3], [1, 2]), (2, [1], [3]), (5, None, [])],
)
def test_the_settings_choose_the_layers(step, dense, sparse):
    config = MoeTextConfig(decoder_sparse_step=step, mlp_only_layers=dense)
    assert [layer for layer in range(4) if config.is_sparse(layer)] == sparse


def test_a_layer_that_is_not_sparse_is_transformers_own():
    layers = moe(mlp_only_layers=(0,)).network.model.language_model.layers
    assert [type(layer.mlp).__name__ for layer in layers] == ["Qwen2MLP", "MlpWithExperts"]


@pytest.mark.parametrize("given, meant", [(0.01, True), (0.0, False), (1, True), (True, True), (False, False)])
def test_a_published_number_for_norm_topk_prob_is_yes_or_no(given, meant):
    assert MoeTextConfig(norm_topk_prob=given).norm_topk_prob is meant


@pytest.mark.parametrize("fields", [{"decoder_sparse_step": 0}, {"num_experts": 2, "num_experts_per_tok": 3}])
def test_settings_that_make_no_layer_are_refused(fields):
    with pytest.raises(ValueError, match=next(reversed(fields))):
        MoeTextConfig(**fields)


def test_without_an_adaptive_gate_the_scaler_is_a_constant_one():
    mlp = MlpWithExperts(
        MoeTextConfig(hidden_size=8, intermediate_size=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=4)
    )
    assert "experts_scaler" not in dict(mlp.named_parameters())
    assert mlp.state_dict()["experts_scaler"].tolist() == [1.0]


def test_what_is_saved_is_what_is_loaded(tmp_path):
    model = moe(scaler=0.7)
    model.save(tmp_path / "moe")
    again = load_model({"path": str(tmp_path / "moe"), "device": "cpu"})
    assert isinstance(again, Qwen25VL)
    assert isinstance(again.network, RoboInterQwen25VLMoe)
    assert again.fingerprint == model.fingerprint
    assert torch.equal(logits(again), logits(model))


def test_the_auto_class_of_transformers_loads_it(tmp_path):
    model = moe(scaler=0.7)
    model.save(tmp_path / "moe")
    assert json.loads((tmp_path / "moe" / "config.json").read_text())["model_type"] == "robointer_qwen2_5_vl_moe"
    loaded, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "moe", output_loading_info=True)
    assert (info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"]) == (set(), set(), set())
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.network.state_dict().items())


def published(folder, model: Qwen25VL) -> None:
    """Write the model as the public release would: its names, its config that calls itself dense, its unused gates."""
    model.save(folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"], config["text_config"]["model_type"] = "qwen2_5_vl", "qwen2_5_vl_text"
    config["text_config"] |= {"norm_topk_prob": 0.01, "mlp_only_layers": None}
    (folder / "config.json").write_text(json.dumps(config))
    written = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        short = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        layer, _, rest = short.partition(".mlp.")
        if rest == "moe_block.experts.gate_up_proj":
            for expert, (gate, up) in enumerate(pair.chunk(2) for pair in tensor):
                written[f"{layer}.moe_block.experts.{expert}.gate_proj.weight"] = gate.contiguous()
                written[f"{layer}.moe_block.experts.{expert}.up_proj.weight"] = up.contiguous()
        elif rest == "moe_block.experts.down_proj":
            for expert, down in enumerate(tensor):
                written[f"{layer}.moe_block.experts.{expert}.down_proj.weight"] = down.contiguous()
        elif part_of(name) == "experts":
            written[f"{layer}.{rest}"] = tensor
        else:
            written[short] = tensor
    for layer in range(2):
        written[f"model.layers.{layer}.mlp_gate.weight"] = torch.ones(1, 64)
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})


def test_published_names_load_and_the_unused_gate_is_named(tmp_path, caplog):
    model = moe(scaler=0.7)
    published(tmp_path / "theirs", model)
    with caplog.at_level(logging.WARNING):
        loaded = load_model({"path": str(tmp_path / "theirs"), "device": "cpu"})
    assert torch.equal(logits(loaded), logits(model))
    assert "left out 2 mlp_gate tensors, such as model.language_model.layers.0.mlp_gate.weight" in caplog.text


def test_the_experts_of_a_published_config_are_read_flat_and_nested():
    fields = {"num_experts": 4, "moe_intermediate_size": 8}
    flat = Qwen2_5_VLConfig(hidden_size=64, num_hidden_layers=2, **fields)
    assert published_fields({"model_type": "qwen2_5_vl", **fields}) == fields
    assert published_fields({"num_experts": 3, "text_config": fields}) == fields
    assert published_fields({"num_experts": None, "text_config": None}) == {}
    text = with_experts(flat, fields).text_config
    assert (text.hidden_size, text.num_experts, text.num_experts_per_tok, text.moe_intermediate_size) == (64, 4, 4, 8)


def test_a_published_checkpoint_that_lacks_an_expert_is_refused(tmp_path):
    published(tmp_path / "theirs", moe())
    tensors = load_file(tmp_path / "theirs" / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1.moe_block.experts" not in name}
    save_file(kept, tmp_path / "theirs" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="2 missing, such as model.language_model.layers.1.mlp.moe_block"):
        Qwen25VL.load(Section(path=str(tmp_path / "theirs"), device="cpu"))


def test_it_answers_as_the_dense_model_does_until_the_experts_count():
    prompts = [
        Prompt((Message("user", "<image>\nWhere is the cup?"),), (noise(84, 56),)),
        Prompt((Message("user", "Is it open?"),), ()),
    ]

    def said(model: Qwen25VL) -> list[str]:
        replies = model.answer(prompts, Decoding(max_new_tokens=8))
        return [reply.text for reply in replies if isinstance(reply, Reply)]

    model = moe()
    assert said(model) == said(shared_model())
    with torch.no_grad():
        for module in model.network.modules():
            if isinstance(module, MlpWithExperts):
                module.experts_scaler.fill_(5.0)
                module.moe_block.experts.down_proj.mul_(500.0)
    assert len(said(model)) == 2
    assert said(model) != said(shared_model())


def test_generating_with_a_cache_is_choosing_the_likeliest_token_each_time():
    network = moe(scaler=5.0).network
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, MlpWithExperts):
                module.moe_block.experts.down_proj.mul_(500.0)
    ids = torch.tensor([[20, 30, 40, 50]])
    generated = network.generate(input_ids=ids, max_new_tokens=6, do_sample=False, eos_token_id=-1)
    for _ in range(6):
        with torch.no_grad():
            ids = torch.cat([ids, network(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    assert generated.tolist() == ids.tolist()
    assert len(set(generated[0, 4:].tolist())) > 1
