"""How long a training step takes packed, beside the same questions separately: same model, same data, same run.

    python benchmarks/packing_speed.py [--questions 6] [--width 256] [--layers 6] [--threads 1] [--rounds 5] [--frozen]

A small random Qwen2.5-VL in float32 on the CPU, forward and backward of all its parts. Three ways: each question alone
(batches of one), all questions in one padded batch, one packed row. Rounds take turns; medians are printed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers

from robointervlm.core.prompt import Message
from robointervlm.models.qwen2_5_vl.attention import use_packed_attention
from robointervlm.models.qwen2_5_vl.encoder import Batch, Encoded
from robointervlm.models.qwen2_5_vl.network import Qwen25VL, SupervisedLoss
from robointervlm.models.qwen2_5_vl.packed import packed
from robointervlm.models.tiny import TinySize, tiny_model

WORDS = "the red cup on the table next to the blue bowl that the robot is about to move to the left of the plate"


def questions(model: Qwen25VL, count: int, width: int, height: int) -> list[Encoded]:
    """Questions of about 180 tokens, beside those of the picture, on one picture of noise."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [
        model.encoder.encode(
            [
                Message("user", f"<image>\nQuestion {index}: where is {WORDS}? Answer with its box, {WORDS}."),
                Message("assistant", f'{{"current_bbox": [[1{index}, 24], [13{index}, 145]]}}'),
            ],
            [picture],
        )
        for index in range(count)
    ]


def step(model: Qwen25VL, batches: list[Batch]) -> tuple[float, float]:
    """Seconds of a forward and backward pass over the batches, and their summed loss."""
    loss_of = SupervisedLoss(model.network)
    model.network.zero_grad()
    started = time.perf_counter()
    total = 0.0
    for batch in batches:
        loss = loss_of(batch)
        loss.backward()
        total += float(loss.detach())
    return time.perf_counter() - started, total


def compare(model: Qwen25VL, samples: list[Encoded], rounds: int) -> None:
    """Print tokens, the median of the seconds with its spread, and the ratio for each of the three ways."""
    ways: dict[str, Callable[[], list[Batch]]] = {
        "separate": lambda: [model.encoder.batch([sample]) for sample in samples],
        "one padded batch": lambda: [model.encoder.batch(samples)],
        "packed": lambda: [packed(model.encoder, [samples])],
    }
    batches = {name: make() for name, make in ways.items()}
    losses = {name: step(model, each)[1] for name, each in batches.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, each in batches.items():
            seconds[name].append(step(model, each)[0])
    base = statistics.median(seconds["separate"])
    for name, each in batches.items():
        median = statistics.median(seconds[name])
        print(
            f"  {name:<17} {sum(batch.tokens for batch in each):>5} tokens  {median:6.3f} s "
            f"({min(seconds[name]):.3f}-{max(seconds[name]):.3f})  {base / median:4.2f}x  loss {losses[name]:.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frozen", action="store_true", help="the vision tower does not learn, as in the recipes")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    heads = chosen.width // 64
    size = TinySize(
        language_width=chosen.width,
        language_layers=chosen.layers,
        heads=heads,
        key_value_heads=max(1, heads // 2),
        vision_width=chosen.width * 3 // 4,
        vision_layers=chosen.layers,
        vision_heads=3,
    )
    model = tiny_model([WORDS] * 20, size, seed=0)
    use_packed_attention(model.network)
    model.network.model.visual.requires_grad_(not chosen.frozen)
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, "
        f"{chosen.threads} thread(s), {parameters / 1e6:.1f} M parameters"
        f"{', vision tower frozen' if chosen.frozen else ''}"
    )
    for width, height in ((320, 180), (640, 480)):
        print(f"{chosen.questions} questions on one picture of {width}x{height}:")
        compare(model, questions(model, chosen.questions, width, height), chosen.rounds)


if __name__ == "__main__":
    main()
