"""bfloat16 is float32 within its rounding; gradient checkpointing computes again what it did not keep, and no other."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from robointervlm.core.errors import RecipeError
from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.network import SupervisedLoss
from robointervlm.models.qwen2_5_vl.packed import packed
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from robointervlm.train.optimizer import let_learn
from robointervlm.train.recipe import ModelSection
from robointervlm.train.run import train
from tiny_models import fresh_model, noise, train_recipe

QUESTIONS = [("Where is the cup?", "[[10, 20], [30, 40]]"), ("Is the gripper open?", "Yes"), ("Where?", "[[1, 2]]")]


def samples(model):
    return [
        model.encoder.encode([Message("user", f"<image>{asked}"), Message("assistant", answer)], [noise(84, 56, 1)])
        for asked, answer in QUESTIONS
    ]


def batch_of(model, kind: str):
    """Three questions on one picture: side by side with padding, or in one row that holds the picture once."""
    if kind == "padded":
        return model.encoder.batch(samples(model))
    use_packed_attention(model.network)
    return packed(model.encoder, [samples(model)])


def gradients(tune: tuple[str, ...], kind: str, *, checkpointing: bool, experts: bool = False):
    """The loss of a training step and the gradients of what learns, after a step's worth of change."""
    model = fresh_model()
    if experts:
        model = upcycled(model, Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8), seed=0)
    let_learn(model.network, ModelSection(path="-", tune=tune), seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    if checkpointing:
        model.network.activation_checkpointing_enable({"use_reentrant": False})
    module = SupervisedLoss(model.network).train()
    loss = module(batch_of(model, kind))
    loss.backward()
    return float(loss.detach()), {n: p.grad for n, p in model.network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["padded", "packed"])
@pytest.mark.parametrize("tune", [("language", "merger", "vision"), ("lora",), ("lora", "merger"), ("merger",)])
def test_gradient_checkpointing_gives_the_same_gradients(tune, kind):
    loss, plain = gradients(tune, kind, checkpointing=False)
    again, recomputed = gradients(tune, kind, checkpointing=True)
    assert again == loss
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


def test_gradient_checkpointing_gives_the_same_gradients_with_experts():
    loss, plain = gradients(("lora", "experts"), "packed", checkpointing=False, experts=True)
    again, recomputed = gradients(("lora", "experts"), "packed", checkpointing=True, experts=True)
    assert again == loss
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("tune", [("language",), ("lora",)])
def test_low_rank_or_not_a_packed_row_has_the_gradients_of_its_samples(tune):
    loss, ours = gradients(tune, "packed", checkpointing=False)
    other, theirs = gradients(tune, "padded", checkpointing=False)
    assert loss == pytest.approx(other, rel=1e-5)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()), msg=name)


@pytest.mark.parametrize("kind", ["padded", "packed"])
@pytest.mark.parametrize("tune", [("language",), ("lora",)])
def test_the_loss_in_bfloat16_is_that_of_float32_within_rounding(tune, kind):
    model = fresh_model()
    let_learn(model.network, ModelSection(path="-", tune=tune), seed=0)
    module = SupervisedLoss(model.network)
    batch = batch_of(model, kind)
    exact = float(module(batch).detach())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = module(batch)
    # bfloat16 keeps 8 bits: 2^-8 is 0.4 %, and errors of single values average out.
    assert float(rounded.detach()) == pytest.approx(exact, rel=2**-8)
    assert float(rounded.detach()) != exact
    rounded.backward()
    assert {p.grad.dtype for p in model.network.parameters() if p.requires_grad} == {torch.float32}


def test_half_precision_on_a_cpu_is_one_error_before_anything_is_loaded(tiny_folder, catalog, tmp_path):
    with pytest.raises(RecipeError, match=r"run\.precision=fp16 needs a GPU"):
        train(train_recipe(tiny_folder, catalog, tmp_path / "run", "run.precision=fp16"))


@pytest.fixture
def forgotten_accelerator():
    """accelerate keeps its settings for the process; other tests' are put back."""
    kept = dict(AcceleratorState._shared_state), dict(PartialState._shared_state)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    AcceleratorState._shared_state.update(kept[0])
    PartialState._shared_state.update(kept[1])


@pytest.mark.usefixtures("forgotten_accelerator")
def test_accelerate_trains_in_the_precision_of_the_recipe():
    model = fresh_model()
    module = Accelerator(cpu=True, mixed_precision="bf16").prepare(SupervisedLoss(model.network))
    exact = float(SupervisedLoss(fresh_model().network)(batch_of(model, "padded")).detach())
    loss = float(module(batch_of(model, "padded")).detach())
    assert loss == pytest.approx(exact, rel=2**-8)
    assert loss != exact


def test_no_is_taken_as_it_is_written(tmp_path):
    # YAML reads it as false.
    assert train_recipe(tmp_path, tmp_path, tmp_path, "run.precision=no").run.precision == "no"
    with pytest.raises(RecipeError, match="run.precision"):
        train_recipe(tmp_path, tmp_path, tmp_path, "run.precision=yes")
