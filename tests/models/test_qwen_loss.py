"""The loss is that of transformers' own model, however samples are put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl.encoder import Encoded
from robointervlm.models.qwen2_5_vl.network import PatchProjection, Qwen25VL, SupervisedLoss
from tiny_models import fresh_model, noise, shared_model


def sample(model: Qwen25VL, question: str, answer: str, *pictures: np.ndarray) -> Encoded:
    return model.encoder.encode([Message("user", question), Message("assistant", answer)], pictures)


def mixed(model: Qwen25VL) -> list[Encoded]:
    """One picture; two of different sizes and two turns; none."""
    two_turns = [
        Message("user", "Who?<image>"),
        Message("assistant", "A man."),
        Message("user", "<image>And here?"),
        Message("assistant", "No, [3, 4] it is."),
    ]
    return [
        sample(model, "<image>\nWhere is the cup?", "[[10, 20], [30, 40]]", noise(84, 56, 1)),
        model.encoder.encode(two_turns, [noise(60, 120, 2), noise(140, 70, 3)]),
        sample(model, "Is it open?", "Yes"),
    ]


def loss_of(model: Qwen25VL, samples: list[Encoded]) -> torch.Tensor:
    return SupervisedLoss(model.network)(model.encoder.batch(samples))


def test_a_padded_batch_has_the_summed_loss_of_its_samples():
    model = shared_model()
    samples = mixed(model)
    with torch.no_grad():
        together = float(loss_of(model, samples))
        alone = [float(loss_of(model, [each])) for each in samples]
    assert together == pytest.approx(sum(alone), rel=1e-5)
    assert min(alone) > 1


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_loss_is_that_of_transformers_own_forward(index):
    model = shared_model()
    one = mixed(model)[index]
    batch = model.encoder.batch([one])
    with torch.no_grad():
        theirs = model.network(
            input_ids=batch.ids_BL,
            labels=batch.labels_BL,
            mm_token_type_ids=(batch.ids_BL == model.network.config.image_token_id).int(),
            attention_mask=torch.ones_like(batch.ids_BL),
            pixel_values=batch.patches_PC,
            image_grid_thw=batch.grids_N3,
        ).loss
        ours = loss_of(model, [one])
    assert float(ours) / batch.supervised == pytest.approx(float(theirs), rel=1e-5)


def test_positions_are_those_of_the_models_own_function():
    model = shared_model()
    for one in mixed(model):
        ids = torch.from_numpy(one.ids)[None]
        theirs, _ = model.network.model.get_rope_index(
            ids,
            (ids == model.network.config.image_token_id).int(),
            image_grid_thw=torch.tensor(one.grids) if one.grids else None,
        )
        assert torch.equal(model.encoder.positions(one.ids, one.grids), theirs[:, 0])


def test_positions_inside_a_picture_are_its_rows_and_columns():
    # A 56x56 picture is 2x2 tokens: all at one time, two rows, two columns; the text goes on after the largest.
    model = shared_model()
    one = sample(model, "<image>", "Yes", noise(56, 56))
    positions = model.encoder.positions(one.ids, one.grids)
    where = np.flatnonzero(one.ids == model.encoder.chat.image_token_id)
    start = int(where[0])
    assert (positions[:, where] - start).tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]]
    assert positions[:, where[-1] + 1].tolist() == [start + 2] * 3


def test_three_dimensional_positions_matter_to_the_loss():
    # The trap: without mm_token_type_ids or positions transformers falls back to one dimension without a word.
    model = shared_model()
    batch = model.encoder.batch([mixed(model)[1]])
    with torch.no_grad():
        right = float(SupervisedLoss(model.network)(batch))
        batch.positions_3BL = torch.arange(batch.ids_BL.shape[1]).expand(3, 1, -1)
        wrong = float(SupervisedLoss(model.network)(batch))
    assert abs(right - wrong) > 1e-3


def test_a_later_token_changes_nothing_before_it():
    model = shared_model()
    batch = model.encoder.batch(mixed(model))
    network = model.network.model
    with torch.no_grad():
        kwargs = {"position_ids": batch.positions_3BL, "use_cache": False}
        kwargs |= {"pixel_values": batch.patches_PC, "image_grid_thw": batch.grids_N3}
        before = network(input_ids=batch.ids_BL, **kwargs)[0]
        batch.ids_BL[:, -1] = 5
        after = network(input_ids=batch.ids_BL, **kwargs)[0]
    assert torch.equal(before[:, :-1], after[:, :-1])


def test_no_cache_is_made_while_training(monkeypatch):
    model = shared_model()
    seen = []
    original = model.network.model.language_model.forward

    def noted(*arguments, **named):
        output = original(*arguments, **named)
        seen.append((named.get("use_cache"), output.past_key_values))
        return output

    monkeypatch.setattr(model.network.model.language_model, "forward", noted)
    loss_of(model, mixed(model))
    assert seen == [(False, None)]


def gradients(model: Qwen25VL, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}


def test_the_gradient_of_a_batch_is_the_sum_of_the_gradients_of_its_samples():
    model = fresh_model()
    samples = mixed(model)
    together = gradients(model, loss_of(model, samples))
    alone = [gradients(model, loss_of(model, [each])) for each in samples]
    assert set(together) == {name for name, _ in model.network.named_parameters()}
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, sum(each[name] for each in alone), rtol=1e-3, atol=2e-5)


def test_a_batch_without_pictures_keeps_the_vision_tower_in_the_graph_with_a_zero_gradient():
    model = fresh_model()
    found = gradients(model, loss_of(model, mixed(model)[2:]))
    vision = {name: gradient for name, gradient in found.items() if "visual." in name}
    assert len(vision) == 2 * 12 + 1 + 5
    assert all(not gradient.any() for gradient in vision.values())
    assert found["model.language_model.norm.weight"].any()


def test_a_blank_batch_teaches_nothing_and_takes_part_in_everything():
    model = fresh_model()
    blank = model.encoder.blank()
    assert blank.supervised == 0
    found = gradients(model, SupervisedLoss(model.network)(blank))
    assert set(found) == {name for name, _ in model.network.named_parameters()}
    assert all(not gradient.any() for gradient in found.values())


def test_supervised_counts_the_answer_and_its_end():
    # "Yes" is one token of the tiny tokenizer or its three letters; the end of the turn is one more.
    model = shared_model()
    one = sample(model, "Is it open?", "Yes")
    yes = len(model.encoder.chat.tokenizer.encode("Yes", add_special_tokens=False))
    assert model.encoder.batch([one, one]).supervised == 2 * (yes + 1)


def test_the_patch_projection_is_the_convolution():
    generator = torch.Generator().manual_seed(0)
    convolution = nn.Conv3d(3, 48, kernel_size=(2, 14, 14), stride=(2, 14, 14), bias=False)
    patches = torch.randn((10, 3, 2, 14, 14), generator=generator)
    projection = PatchProjection(convolution)
    assert projection.weight is convolution.weight
    # The convolution gives (10, 48, 1, 1, 1).
    torch.testing.assert_close(projection(patches), convolution(patches).flatten(1), rtol=1e-5, atol=1e-5)


def test_the_patch_projection_stands_in_the_model_on_a_cpu():
    assert isinstance(shared_model().network.model.visual.patch_embed.proj, PatchProjection)
    assert "model.visual.patch_embed.proj.weight" in shared_model().network.state_dict()


def test_checkpointed_activations_change_neither_loss_nor_gradient():
    model = fresh_model()
    samples = mixed(model)
    model.network.train()
    plain = loss_of(model, samples)
    plain_gradients = gradients(model, plain)
    model.network.activation_checkpointing_enable({"use_reentrant": False})
    saved = loss_of(model, samples)
    for name, gradient in gradients(model, saved).items():
        torch.testing.assert_close(gradient, plain_gradients[name])
    assert torch.equal(plain, saved)


def test_the_logits_of_all_positions_give_the_same_loss():
    model = shared_model()
    batch = model.encoder.batch(mixed(model))
    with torch.no_grad():
        logits = model.network(
            input_ids=batch.ids_BL,
            position_ids=batch.positions_3BL,
            pixel_values=batch.patches_PC,
            image_grid_thw=batch.grids_N3,
            use_cache=False,
        ).logits
        whole = F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels_BL[:, 1:].flatten(), reduction="sum")
        assert float(SupervisedLoss(model.network)(batch)) == pytest.approx(float(whole), rel=1e-5)
