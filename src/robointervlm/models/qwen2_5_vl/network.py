"""The network: transformers' Qwen2.5-VL, asked for answers or for a loss.

Shape suffixes: B batch, L tokens, S supervised tokens, V vocabulary, H hidden; P, C, T, H, W of a patch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoTokenizer, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.utils.hub import cached_file
from transformers.utils.import_utils import is_flash_attn_2_available

from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat, ImageSize
from robointervlm.core.errors import ExhaustedError, ModelError, RoboInterError
from robointervlm.core.prompt import Decoding, Prompt, Reply
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.chat import IGNORED, Chat
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded, Encoder
from robointervlm.models.qwen2_5_vl.pictures import MEAN, MERGE, PATCH, STD, TEMPORAL, PixelLimits

logger = logging.getLogger(__name__)

Part = Literal["language", "merger", "vision"]
DECLARATION = "robointer.json"
"""The file of a checkpoint that says what it writes: coordinate format, pixel limits, answer style."""


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
        hidden_BLH = self.network.model(
            input_ids=batch.ids_BL,
            position_ids=batch.positions_3BL,
            pixel_values=batch.patches_PC,
            image_grid_thw=batch.grids_N3,
            use_cache=False,
        )[0]
        targets_BL = batch.labels_BL[:, 1:]
        wanted_BL = targets_BL != IGNORED
        # The output layer only where there is a label: with 152k words it is most of the activation memory.
        logits_SV = self.network.lm_head(hidden_BLH[:, :-1][wanted_BL])
        loss = F.cross_entropy(logits_SV.float(), targets_BL[wanted_BL], reduction="sum")
        return loss + self._vision_anchor() if batch.patches_PC is None else loss

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
        config = _config(section.path)
        declared = _declaration(section.path)
        limits = PixelLimits(
            section.min_pixels or declared["min_pixels"],
            section.max_pixels or declared["max_pixels"],
        )
        chat = _chat(section.path)
        network = _network(section, config)
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
        self.network.save_pretrained(folder, save_original_format=False)
        self.encoder.chat.tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(
            json.dumps(_preprocessor(self.encoder.limits), indent=2) + "\n"
        )
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
    """Which part of the model a parameter of this name belongs to."""
    if ".merger." in parameter and "visual." in parameter:
        return "merger"
    return "vision" if "visual." in parameter else "language"


def refuse_wrong_keys(path: str, info: dict[str, Any], *, tied: bool) -> None:
    """Raise `ModelError` if loading left parameters of the model without a value or values without a parameter."""
    missing = {key for key in info["missing_keys"] if not (tied and key == "lm_head.weight")}
    if missing or info["unexpected_keys"] or info.get("mismatched_keys"):
        raise ModelError(
            f"the checkpoint '{path}' does not fit its own config: missing {sorted(missing)[:3]}, "
            f"unexpected {sorted(info['unexpected_keys'])[:3]}, misshapen {list(info.get('mismatched_keys', ()))[:3]}."
        )


def _config(path: str) -> Qwen2_5_VLConfig:
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path}' is not a model folder, nor a hub name that can be reached: {error}") from None
    if not isinstance(config, Qwen2_5_VLConfig):
        raise ModelError(f"'{path}' holds a '{config.model_type}' model; this family is for 'qwen2_5_vl'.")
    return config


def _chat(path: str) -> Chat:
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"'{path}' has no tokenizer that can be read: {error}") from None
    return Chat(tokenizer)


def _network(section: Section, config: Qwen2_5_VLConfig) -> Qwen2_5_VLForConditionalGeneration:
    device = _device(section.device)
    dtype = section.dtype if section.dtype != "auto" or device.type != "cpu" else "float32"
    loader: Any = Qwen2_5_VLForConditionalGeneration
    try:
        network, info = loader.from_pretrained(
            section.path,
            config=config,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            attn_implementation=_attention(section.attention, device),
            device_map=section.device_map,
            use_safetensors=True,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError as error:
        raise ExhaustedError(f"'{section.path}' does not fit into the memory of {device}: {error}") from None
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights in '{section.path}' cannot be loaded: {error}") from None
    refuse_wrong_keys(section.path, info, tied=bool(config.tie_word_embeddings))
    placed: Qwen2_5_VLForConditionalGeneration = network if section.device_map is not None else network.to(device)
    placed.train(mode=False)
    return placed


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device '{name}' was asked for, but torch sees no GPU here; use model.device=cpu.")
    return torch.device(name)


def _attention(name: str, device: torch.device) -> str:
    if name != "auto":
        return name
    if device.type == "cuda":
        return "flash_attention_2" if is_flash_attn_2_available() else "sdpa"
    return "sdpa"


def _declaration(path: str) -> dict[str, Any]:
    """What the checkpoint says of itself: our file, else its preprocessor's limits and Qwen2.5-VL's own format."""
    settings = _settings(path, "preprocessor_config.json")
    size = settings.get("size") or {}
    declared = {
        "coordinates": "resized",
        "min_pixels": settings.get("min_pixels") or size.get("shortest_edge") or MIN_PIXELS,
        "max_pixels": settings.get("max_pixels") or size.get("longest_edge") or MAX_PIXELS,
    }
    return declared | _settings(path, DECLARATION)


def _settings(path: str, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint, in a folder or on the hub; empty where there is none."""
    file = cached_file(
        path, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    if file is None:
        return {}
    try:
        settings: dict[str, Any] = {**json.loads(Path(file).read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file} holds no settings: {error}") from None
    return settings


def _preprocessor(limits: PixelLimits) -> dict[str, Any]:
    """The settings of an image processor that does what `pictures.patches` does."""
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": [round(float(value), 8) for value in MEAN],
        "image_std": [round(float(value), 8) for value in STD],
        "min_pixels": limits.min_pixels,
        "max_pixels": limits.max_pixels,
        "size": {"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels},
        "patch_size": PATCH,
        "temporal_patch_size": TEMPORAL,
        "merge_size": MERGE,
    }
