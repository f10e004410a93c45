"""How long the two ends of the language model take, beside torch's own embedding, output layer and cross-entropy.

    python benchmarks/words_speed.py [--width 768] [--tokens 569] [--supervised 234] [--threads 1] [--rounds 7]

Forward and backward of a tied weight of 151,936 words in float32 on the CPU, nothing between the two ends; the gradient
is dropped after each, as an optimizer does. The two ways take turns; medians, smallest and largest of
the processor time are printed, which other work on the machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robointervlm.models.qwen2_5_vl.embedding_loss import share_gradient, summed_loss, vectors

VOCABULARY = 151936


def plainly(words: nn.Embedding, output: nn.Linear, ids: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(output(words(ids)[0, : len(targets)]).float(), targets, reduction="sum")


def ours(words: nn.Embedding, output: nn.Linear, ids: Tensor, targets: Tensor) -> Tensor:
    shared = share_gradient(words, output)
    return summed_loss(output, vectors(words, ids, shared)[0, : len(targets)], targets, shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 768), ("tokens", 569), ("supervised", 234), ("threads", 1), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    words, output = nn.Embedding(VOCABULARY, chosen.width), nn.Linear(chosen.width, VOCABULARY, bias=False)
    output.weight = words.weight
    ids = torch.randint(VOCABULARY, (1, chosen.tokens))
    targets = torch.randint(VOCABULARY, (chosen.supervised,))
    seconds: dict[str, list[float]] = {"torch": [], "ours": []}
    gradients = {}
    for turn in range(chosen.rounds + 1):
        for name, way in (("torch", plainly), ("ours", ours)):
            started = time.process_time()
            (way(words, output, ids, targets) * 0.01).backward()
            if turn:
                seconds[name].append(time.process_time() - started)
            else:  # it also warms up
                gradients[name] = words.weight.grad
            words.weight.grad = None
    difference = (gradients["ours"] - gradients["torch"]).abs().max() / gradients["torch"].abs().max()
    print(f"torch {torch.__version__}, {platform.machine()}, {chosen.threads} thread(s), width {chosen.width}")
    for name, each in seconds.items():
        print(f"  {name:<6} {statistics.median(each):6.3f} s ({min(each):.3f}-{max(each):.3f})")
    ratio = statistics.median(seconds["torch"]) / statistics.median(seconds["ours"])
    print(f"  ratio {ratio:.2f}; largest relative difference of the gradient {float(difference):.1e}")


if __name__ == "__main__":
    main()
