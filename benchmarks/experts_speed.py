"""How long a layer's experts take, forward and backward: only the chosen ones, beside all of them on every token.

python benchmarks/experts_speed.py [--tokens 2048 --hidden 256 --experts 16 --per-token 4 --width 512 --device cpu]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robointervlm.models.qwen2_5_vl_moe.config import MoeTextConfig
from robointervlm.models.qwen2_5_vl_moe.experts import MixtureBlock

REPETITIONS = 5


def all_experts(block: MixtureBlock, x: Tensor) -> Tensor:
    """Every expert on every token, weighted by 0 where it was not chosen, as the public release computes it."""
    shares = block.gate(x).softmax(-1, dtype=torch.float32)
    chosen = shares.topk(block.chosen, dim=-1)
    weights = torch.zeros_like(shares).scatter(-1, chosen.indices, chosen.values)
    weights = weights / weights.sum(-1, keepdim=True)
    answers = []
    for gate_up, down in zip(block.experts.gate_up_proj.unbind(), block.experts.down_proj.unbind(), strict=True):
        gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
        answers.append(F.linear(F.silu(gate) * up, down))
    return torch.einsum("se,seh->sh", weights, torch.stack(answers, dim=1))


def milliseconds(compute: Callable[[Tensor], Tensor], block: MixtureBlock, x: Tensor) -> list[float]:
    """Forward and backward, each repetition."""
    times = []
    for _ in range(REPETITIONS + 1):
        block.zero_grad()
        _finished(x.device)
        start = time.perf_counter()
        compute(x).square().mean().backward()
        _finished(x.device)
        times.append(1000 * (time.perf_counter() - start))
    return times[1:]


def _finished(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("tokens", 2048), ("hidden", 256), ("experts", 16), ("per-token", 4), ("width", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    config = MoeTextConfig(
        hidden_size=given.hidden,
        num_experts=given.experts,
        num_experts_per_tok=given.per_token,
        moe_intermediate_size=given.width,
    )
    block = MixtureBlock(config).to(given.device)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0.0, 0.05)
    x = torch.randn(given.tokens, given.hidden, device=given.device)
    difference = float((block(x) - all_experts(block, x)).detach().abs().max())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, {vars(given)}")
    print(f"largest difference of the outputs: {difference:.1e}")
    found = {
        "chosen experts": milliseconds(block, block, x),
        "all experts": milliseconds(lambda x: all_experts(block, x), block, x),
    }
    for name, times in found.items():
        print(f"{name:>15}: {statistics.median(times):8.1f} ms ({min(times):.1f} to {max(times):.1f})")
    ratio = statistics.median(found["all experts"]) / statistics.median(found["chosen experts"])
    print(f"{'ratio':>15}: {ratio:8.2f}, {given.experts / given.per_token:.2f} by the number of experts")


if __name__ == "__main__":
    main()
