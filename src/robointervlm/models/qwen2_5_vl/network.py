"""The network: transformers' Qwen2.5-VL, asked for answers or for a loss.

Shape suffixes: B batch, L tokens, S supervised tokens, V vocabulary, H hidden; P, C, T, H, W of a patch.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.core.errors import RoboInterError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.chat import IGNORED
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded, Encoder
from robointervlm.models.qwen2_5_vl.folder import (
    DECLARATION,
    preprocessor,
    quiet,
    read_chat,
    read_config,
    read_declaration,
    read_network,
)
from robointervlm.models.qwen2_5_vl.pictures import MERGE, PATCH, TEMPORAL, PixelLimits
from robointervlm.models.qwen2_5_vl.words import is_whole, share_gradient, summed_loss, vectors
from robointervlm.models.qwen2_5_vl_moe.network import Routing

Part = Literal["language", "merger", "vision", "experts"]


class PatchProjection(nn.Module):
    """The patch embedding as one matrix product.

    A patch is exactly one kernel of the Conv3d this replaces: the same parameter under the same name and the same sum,
    but a convolution without overlap is several times slower than the product on a CPU.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight

    def forward(self, patches_PCTHW: Tensor) -> Tensor:
        return F.linear(patches_PCTHW.flatten(1), self.weight.flatten(1))


class SupervisedLoss(nn.Module):
    """The network as a function of a batch: the summed cross-entropy over its supervised tokens.

    Its own module, so that DistributedDataParallel and DeepSpeed can wrap the whole of it. Dividing by the number of
    supervised tokens is left to the loop, which knows how many there are in all ranks and accumulation steps.
    """

    def __init__(self, network: Qwen2_5_VLForConditionalGeneration) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> Tensor:
        packed = {} if batch.segments is None else {"segments": batch.segments}
        words, output = self.network.model.language_model.embed_tokens, self.network.lm_head
        shared = share_gradient(words, output)
        embedded_BLH = vectors(words, batch.ids_BL, shared)
        if batch.grids_N3 is None and self._vision_is_awaited:
            embedded_BLH = embedded_BLH + self._vision_anchor().to(embedded_BLH.dtype)
        with Routing(self.network) as routing:
            hidden_BLH = self.network.model(
                input_ids=batch.ids_BL,
                inputs_embeds=embedded_BLH,
                position_ids=batch.positions_3BL,
                pixel_values=batch.patches_PC,
                image_grid_thw=batch.grids_N3,
                use_cache=False,
                **packed,
            )[0]
        targets_BL = batch.labels_BL[:, 1:]
        wanted_BL = targets_BL != IGNORED
        targets_S = targets_BL[wanted_BL]
        # The output layer only where there is a label: with 152k words it is most of the activation memory.
        loss = summed_loss(output, hidden_BLH[:, :-1][wanted_BL], targets_S, shared)
        if routing.logits and self.network.training:
            # Once per supervised token, as the loop divides by their number: over a step, a mean of its batches.
            # Padding stands at position 0, and so does a row's first token, which is the same one in every row.
            loss = loss + len(targets_S) * routing.loss(batch.positions_3BL.any(dim=0))
        return loss

    @property
    def _vision_is_awaited(self) -> bool:
        """Whether other processes wait for this one's vision tower: for its gradients, or for its share of weights."""
        return any(each.requires_grad or not is_whole(each) for each in self.network.model.visual.parameters())

    def _vision_anchor(self) -> Tensor:
        """Zero, computed through the vision tower, so that a batch without pictures leaves no other rank waiting."""
        visual = self.network.model.visual
        weight = visual.patch_embed.proj.weight
        grid = torch.tensor([[1, MERGE, MERGE]], device=weight.device)
        blank = torch.zeros(MERGE * MERGE, 3 * TEMPORAL * PATCH * PATCH, device=weight.device, dtype=weight.dtype)
        features: Tensor = visual(blank, grid_thw=grid).pooler_output
        return features.sum() * 0.0


class Qwen25VL:
    """A Qwen2.5-VL checkpoint with its tokenizer, pixel limits and declared coordinate format."""

    def __init__(
        self,
        network: Qwen2_5_VLForConditionalGeneration,
        encoder: Encoder,
        *,
        name: str,
        source: Path | None = None,
    ) -> None:
        self.network = network
        self.encoder = encoder
        self.coordinates = encoder.coordinates
        self.name = name
        self.source = source
        self._fingerprint: tuple[object, str] | None = None
        projection = network.model.visual.patch_embed.proj
        if isinstance(projection, nn.Conv3d) and projection.weight.device.type == "cpu":
            network.model.visual.patch_embed.proj = PatchProjection(projection)

    @classmethod
    def load(cls, section: Section) -> Qwen25VL:
        """The checkpoint in memory. Raises `ModelError` where it is not whole or not a Qwen2.5-VL."""
        config = read_config(section.path)
        declared = read_declaration(section.path)
        limits = PixelLimits(
            section.min_pixels or declared["min_pixels"],
            section.max_pixels or declared["max_pixels"],
        )
        chat = read_chat(section.path)
        network = read_network(section, config)
        coordinates = CoordinateFormat.named(section.coordinates or declared["coordinates"])
        return cls(
            network,
            Encoder(config, chat, limits, coordinates),
            name=section.name or Path(section.path).name,
            source=Path(section.path) if Path(section.path).is_dir() else None,
        )

    @property
    def fingerprint(self) -> str:
        """A hash of all that answers depend on: the weights' bytes, precision, attention, pixel limits, template."""
        weights = sorted(self.network.state_dict().items())
        settings = (
            str(self.network.dtype),
            self.network.config._attn_implementation,
            self.encoder.limits,
            self.coordinates.value,
            self.encoder.chat.tokenizer.chat_template,
        )
        # Every question asks for it, and hashing a 7B model takes a minute: done again only where something changed.
        state = (settings, [(name, tensor.data_ptr(), tensor._version) for name, tensor in weights])
        if self._fingerprint is None or self._fingerprint[0] != state:
            digest = hashlib.sha256(repr(settings).encode())
            for name, tensor in weights:
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
            self._fingerprint = (state, digest.hexdigest())
        return self._fingerprint[1]

    def processed_size(self, image: ImageSize) -> ImageSize:
        return self.encoder.limits.processed(image)

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        """Greedy or sampled answers to a batch of prompts; only the answer is decoded."""
        started = time.perf_counter()
        encoded = [self._encoded(prompt) for prompt in prompts]
        sound = [prompt for prompt in encoded if isinstance(prompt, Encoded)]
        rows = iter(self._generated(sound, decoding) if sound else [])
        seconds = (time.perf_counter() - started) / max(1, len(prompts))
        return [
            self._reply(next(rows), len(prompt.ids), seconds) if isinstance(prompt, Encoded) else prompt
            for prompt in encoded
        ]

    def _encoded(self, prompt: Prompt) -> Encoded | RoboInterError:
        """The prompt as tokens, or what is wrong with it: the others of its batch are answered all the same."""
        try:
            return self.encoder.encode_prompt(prompt)
        except RoboInterError as error:
            return error

    def _generated(self, prompts: Sequence[Encoded], decoding: Decoding) -> list[list[int]]:
        """The tokens generated for each prompt, up to the longest of the batch."""
        inputs = {name: tensor.to(self.network.device) for name, tensor in self.encoder.prompt_batch(prompts).items()}
        config = self.network.config
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if decoding.temperature > 0:
            # The hub's generation_config.json has top_k 1, with which a temperature would change nothing.
            sampling = {"do_sample": True, "temperature": decoding.temperature, "top_p": 1.0, "top_k": 0}
        network: Any = self.network
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(decoding.seed)
            output_BL = network.generate(
                **inputs,
                max_new_tokens=decoding.max_new_tokens,
                suppress_tokens=[config.image_token_id, config.video_token_id, config.vision_start_token_id],
                repetition_penalty=1.0,
                eos_token_id=self._stops,
                pad_token_id=self.encoder.pad_id,
                **sampling,
            )
        answers: list[list[int]] = output_BL[:, inputs["input_ids"].shape[1] :].tolist()
        return answers

    @property
    def _stops(self) -> list[int]:
        return [self.encoder.chat.turn_end_id, self.encoder.pad_id]

    def save(self, folder: Path) -> None:
        """Write a folder that loads by itself, here and with `from_pretrained`, with what it declares."""
        with quiet():
            self.network.save_pretrained(folder, save_original_format=False)
        for weights in folder.glob("*.safetensors"):
            # They are written for the owner alone; whoever may read the config may read them.
            weights.chmod((folder / "config.json").stat().st_mode)
        self.encoder.chat.tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(self.encoder.limits), indent=2) + "\n")
        declaration = {
            "coordinates": self.coordinates.value,
            "min_pixels": self.encoder.limits.min_pixels,
            "max_pixels": self.encoder.limits.max_pixels,
            "answer_style": "json",
        }
        (folder / DECLARATION).write_text(json.dumps(declaration, indent=2) + "\n")

    def _reply(self, generated: list[int], input_tokens: int, seconds: float) -> Reply:
        end = next((index for index, token in enumerate(generated) if token in self._stops), None)
        kept = generated[:end]
        reason: Literal["stop", "length"] = "length" if end is None else "stop"
        return Reply(self.encoder.chat.decoded(kept), seconds, input_tokens, len(kept), reason)


def part_of(parameter: str) -> Part:
    """Which part of the model a parameter of this name belongs to; the dense MLP beside experts is language."""
    if ".moe_block." in parameter or parameter.endswith("experts_scaler"):
        return "experts"
    if ".merger." in parameter and "visual." in parameter:
        return "merger"
    return "vision" if "visual." in parameter else "language"
