"""The network: transformers' Qwen2.5-VL, asked for answers or for a loss.

Shape suffixes: B batch, L tokens, S supervised tokens, V vocabulary, H hidden; P, C, T, H, W of a patch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.prompt import Decoding, Message, Prompt, Reply
from robointervlm.models._shared.checkpoint import DECLARATION, quiet
from robointervlm.models._shared.generation import Fingerprint, answered, generated, reply_of
from robointervlm.models._shared.section import PixelSection
from robointervlm.models.locate import model_folder, model_name
from robointervlm.models.qwen2_5_vl.chat import IGNORED
from robointervlm.models.qwen2_5_vl.embedding_loss import share_gradient, summed_loss, vectors
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded, Encoder, read_encoder
from robointervlm.models.qwen2_5_vl.folder import preprocessor, read_config, read_network
from robointervlm.models.qwen2_5_vl.images import MERGE, PATCH, TEMPORAL
from robointervlm.models.qwen2_5_vl.lora import ADAPTER, is_adapted, merged_state, write_adapter
from robointervlm.models.qwen2_5_vl_moe.config import MoeConfig
from robointervlm.models.qwen2_5_vl_moe.experts import RoboInterQwen25VLMoe, Routing


class PatchProjection(nn.Module):
    """The patch embedding as one matrix product.

    A patch is exactly one kernel of the Conv3d this replaces: the same parameter under the same name and the same sum,
    but a convolution without overlap is several times slower than the product on a CPU.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight

    def forward(self, patches_PCTHW: Tensor) -> Tensor:
        return F.linear(patches_PCTHW.flatten(1).to(self.weight.dtype), self.weight.flatten(1))


class SupervisedLoss(nn.Module):
    """The network as a function of a batch: the summed cross-entropy over its supervised tokens.

    Its own module, so that DistributedDataParallel and DeepSpeed can wrap the whole of it. Dividing by the number of
    supervised tokens is left to the loop, which knows how many there are in all ranks and accumulation steps.

    `holds_all`: False where a process has a part of the weights only, and gathers a module's when it is called: then no
    weight is touched outside its module, which one process would do alone.
    """

    def __init__(self, network: Qwen2_5_VLForConditionalGeneration, *, holds_all: bool = True) -> None:
        super().__init__()
        self.network = network
        self.holds_all = holds_all

    def forward(self, batch: Batch) -> Tensor:
        packed = {} if batch.segments is None else {"segments": batch.segments}
        # The embeddings, the vision tower, the layers, and every module each time: where weights are shared out, the
        # processes gather them in this order, whatever is in the batch of each.
        model: Any = self.network.model
        words, output = model.get_input_embeddings(), self.network.lm_head
        shared = share_gradient(words, output) if self.holds_all else None
        embedded_BLH = vectors(words, batch.ids_BL, shared)
        seen = self._seen(batch) if batch.grids_N3 is not None or self._vision_is_awaited else None
        if batch.grids_N3 is None and seen is not None:
            embedded_BLH = embedded_BLH + torch.cat(seen.pooler_output).sum().to(embedded_BLH.dtype) * 0.0
        with Routing(self.network) as routing:
            hidden_BLH = model(
                input_ids=batch.ids_BL,
                inputs_embeds=embedded_BLH,
                position_ids=batch.positions_3BL,
                mm_encoder_outputs={} if batch.grids_N3 is None else {"image": seen},
                use_cache=False,
                **packed,
            )[0]
        targets_BL = batch.labels_BL[:, 1:]
        wanted_BL = targets_BL != IGNORED
        targets_S = targets_BL[wanted_BL]
        # The output layer only where there is a label: with 152k words it is most of the activation memory.
        hidden_SH = hidden_BLH[:, :-1][wanted_BL]
        if self.holds_all:
            loss = summed_loss(output, hidden_SH, targets_S, shared)
        else:
            loss = F.cross_entropy(output(hidden_SH).float(), targets_S, reduction="sum")
        if routing.logits and self.network.training:
            # Once per supervised token, as the loop divides by their number: over a step, a mean of its batches.
            # Padding stands at position 0, and so does a row's first token, which is the same one in every row.
            loss = loss + len(targets_S) * routing.loss(batch.positions_3BL.any(dim=0))
        return loss

    @property
    def _vision_is_awaited(self) -> bool:
        """Whether other processes wait for this one's vision tower: for its gradients, or for its share of weights."""
        return not self.holds_all or any(each.requires_grad for each in self.network.model.visual.parameters())

    def _seen(self, batch: Batch) -> Any:
        """What the vision tower makes of the pictures; of a blank one where there are none, so that nobody waits."""
        patches_PC, grids_N3 = batch.patches_PC, batch.grids_N3
        if patches_PC is None or grids_N3 is None:
            device = batch.ids_BL.device
            patches_PC = torch.zeros(MERGE * MERGE, 3 * TEMPORAL * PATCH * PATCH, device=device)
            grids_N3 = torch.tensor([[1, MERGE, MERGE]], device=device)
        return self.network.model.get_image_features(patches_PC, grids_N3, return_dict=True)


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
        self._fingerprint = Fingerprint()
        projection = network.model.visual.patch_embed.proj
        if isinstance(projection, nn.Conv3d) and projection.weight.device.type == "cpu":
            network.model.visual.patch_embed.proj = PatchProjection(projection)

    @classmethod
    def load(cls, section: PixelSection) -> Self:
        """The checkpoint in memory. Raises `ModelError` where it is not whole or not a Qwen2.5-VL."""
        config = read_config(section.path)
        encoder = read_encoder(section, config)
        network = read_network(section, config)
        return cls(
            network,
            encoder,
            name=section.name or model_name(section.path),
            source=Path(section.path) if Path(section.path).is_dir() else None,
        )

    @classmethod
    def stored(cls, path: str) -> Self:
        """The checkpoint on the CPU in the precision it is stored in, to be written in another shape."""
        path = model_folder(path)
        stored = str(read_config(path).dtype).removeprefix("torch.")
        dtype = stored if stored in ("bfloat16", "float16") else "float32"
        return cls.load(PixelSection.model_validate({"path": path, "device": "cpu", "dtype": dtype}))

    @property
    def fingerprint(self) -> str:
        """A hash of all that answers depend on: the weights' bytes, precision, attention, pixel limits, template."""
        return self._fingerprint.of(
            self.network,
            str(self.network.dtype),
            self.network.config._attn_implementation,
            self.encoder.limits,
            self.coordinates.value,
            self.encoder.chat.tokenizer.chat_template,
        )

    def processed_size(self, image: ImageSize) -> ImageSize:
        return self.encoder.limits.processed(image)

    def answer(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Reply | Exception]:
        """Greedy or sampled answers to a batch of prompts; only the answer is decoded.

        Prompts that hold the same array as a picture share its features.
        """
        return answered(
            prompts,
            encode=partial(self.encoder.encode_prompt, seen={}),
            generate=lambda encoded: self._generated(encoded, decoding),
            reply=partial(reply_of, stops=self._stops, decoded=self.encoder.chat.decoded),
        )

    def prompt_tokens(self, messages: Sequence[Message], sizes: Sequence[ImageSize]) -> int:
        return self.encoder.prompt_tokens(messages, sizes)

    def _generated(self, prompts: Sequence[Encoded], decoding: Decoding) -> list[list[int]]:
        """The tokens generated for each prompt, up to the longest of the batch."""
        config = self.network.config
        return generated(
            self.network,
            {**self.encoder.prompt_batch(prompts, self.network.device), **self._features(prompts)},
            decoding,
            stops=self._stops,
            suppressed=[config.image_token_id, config.video_token_id, config.vision_start_token_id],
        )

    @torch.inference_mode()
    def _features(self, prompts: Sequence[Encoded]) -> dict[str, Any]:
        """What the vision tower makes of the pictures, each looked at once, as a keyword argument of `generate`."""
        pictures = self.encoder.distinct_pictures(prompts, self.network.device)
        if pictures is None:
            return {}
        seen: Any = self.network.model.get_image_features(pictures.patches_PC, pictures.grids_N3, return_dict=True)
        shared: Any = tuple(seen.pooler_output[place] for place in pictures.places)
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=shared)}}

    @property
    def _stops(self) -> list[int]:
        return [self.encoder.chat.turn_end_id, self.encoder.pad_id]

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write a folder that loads by itself, here and with `from_pretrained`, with what it declares.

        `weights`: all of them by name, where the network itself holds only a part of each. Low-rank updates are merged
        into what is written; beside it, in `adapter/`, they stand in peft's own format.
        """
        state = self.network.state_dict() if weights is None else weights
        if is_adapted(self.network):
            write_adapter(self.network, state, folder / ADAPTER)
            state = merged_state(self.network, state)
        with quiet():
            self.network.save_pretrained(folder, state_dict=state, save_original_format=False)
        for written in folder.glob("*.safetensors"):
            # They are written for the owner alone; whoever may read the config may read them.
            written.chmod((folder / "config.json").stat().st_mode)
        self.encoder.chat.tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(self.encoder.limits), indent=2) + "\n")
        declaration = {
            "coordinates": self.coordinates.value,
            "min_pixels": self.encoder.limits.min_pixels,
            "max_pixels": self.encoder.limits.max_pixels,
            "answer_style": "json",
        }
        (folder / DECLARATION).write_text(json.dumps(declaration, indent=2) + "\n")


def skeleton(section: PixelSection) -> Qwen25VL:
    """The model of a folder's config.json and tokenizer, its parameters of the right shape on the meta device.

    It encodes samples as the model would, and can neither answer nor learn: what a plan needs, in the memory of the
    tokenizer alone.
    """
    config = read_config(section.path)
    encoder = read_encoder(section, config)
    made: Any = RoboInterQwen25VLMoe if isinstance(config, MoeConfig) else Qwen2_5_VLForConditionalGeneration
    with torch.device("meta"):
        network = made(config)
    return Qwen25VL(network, encoder, name=section.path)
