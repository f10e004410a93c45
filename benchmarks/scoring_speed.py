"""How long many short pairs of paths take at once, beside a loop over them in plain Python; and one long pair.

python benchmarks/scoring_speed.py [--pairs 20000] [--points 10] [--long 5000]

Both sides get the same paths, as lists of points like answers hold them and as one array, and the results are compared.
The slow side runs once, the others three times, and the best counts.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Sequence

import numpy as np

from robointervlm.metrics.curves import (
    discrete_frechet,
    discrete_frechet_many,
    dtw,
    dtw_many,
    hausdorff,
    hausdorff_many,
    rmse,
    rmse_many,
)
from robointervlm.metrics.overlap import iou, iou_many

Points = Sequence[Sequence[float]]


def python_dtw(first: Points, second: Points) -> float:
    """DTW of one pair by a double loop over its cells, with Python's floats."""
    before = [0.0] + [math.inf] * len(second)
    for x, y in first:
        now = [math.inf]
        for j, (u, v) in enumerate(second):
            now.append(math.hypot(x - u, y - v) + min(before[j], before[j + 1], now[j]))
        before = now
    return before[-1]


def python_cells(first: Points, second: Points) -> float:
    """DTW of one pair by a double loop over a numpy matrix, a norm for each cell, as scorers are often written."""
    a, b = np.array(first), np.array(second)
    cost = np.full((len(a) + 1, len(b) + 1), math.inf)
    cost[0, 0] = 0
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            distance = np.linalg.norm(a[i - 1] - b[j - 1])
            cost[i, j] = distance + min(cost[i - 1, j], cost[i, j - 1], cost[i - 1, j - 1])
    return float(cost[-1, -1])


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """The best processor time of so many runs."""
    best = math.inf
    for _ in range(times):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def show_dtw(firsts: np.ndarray, seconds_of: np.ndarray) -> None:
    pairs = list(zip(firsts.tolist(), seconds_of.tolist(), strict=True))
    few = pairs[: max(1, len(pairs) // 10)]
    plain = seconds(lambda: [python_dtw(*pair) for pair in pairs], times=1)
    cells = seconds(lambda: [python_cells(*pair) for pair in few], times=1) * len(pairs) / len(few)
    lists = seconds(lambda: dtw_many([first for first, _ in pairs], [second for _, second in pairs]))
    arrays = seconds(lambda: dtw_many(list(firsts), list(seconds_of)))
    batch = seconds(lambda: dtw_many(firsts, seconds_of))
    single = seconds(lambda: [dtw(*pair) for pair in few], times=1) * len(pairs) / len(few)
    assert np.allclose(dtw_many(firsts, seconds_of)[:200], [python_dtw(*pair) for pair in pairs[:200]], rtol=1e-12)
    print(f"DTW of {len(pairs):,} pairs of {firsts.shape[1]} points, in seconds (and how many times faster):")
    print(f"  a double loop over a numpy matrix, for each pair (from a tenth of the pairs)  {cells:8.3f}")
    print(f"  a double loop over Python floats, for each pair                               {plain:8.3f}")
    for name, value in (
        ("dtw, one pair after the other (from a tenth)", single),
        ("dtw_many, from lists of lists of points", lists),
        ("dtw_many, from lists of arrays", arrays),
        ("dtw_many, from two arrays", batch),
    ):
        print(f"  {name:<78}{value:8.3f}  {cells / value:.0f}x, {plain / value:.0f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--long", type=int, default=5_000)
    flags = parser.parse_args()
    generator = np.random.default_rng(0)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, processor time, one core")
    firsts, others = generator.random((2, flags.pairs, flags.points, 2)) * 600
    show_dtw(firsts, others)
    for single, many in ((discrete_frechet, discrete_frechet_many), (hausdorff, hausdorff_many), (rmse, rmse_many)):
        assert np.array_equal(many(firsts[:50], others[:50]), list(map(single, firsts[:50], others[:50])))
        print(f"{many.__name__}: {seconds(lambda many=many: many(firsts, others)):.3f} s")
    boxes = generator.random((2, flags.pairs, 4)) * 600
    one_by_one = seconds(lambda: [iou(*pair) for pair in zip(*boxes, strict=True)], times=1)
    print(f"iou_many: {seconds(lambda: iou_many(*boxes)):.4f} s; iou, one after the other: {one_by_one:.3f} s")
    first, second = generator.random((2, flags.long, 2)) * 600
    print(f"one pair of {flags.long:,} points:")
    for distance in (dtw, discrete_frechet, hausdorff, rmse):
        print(f"  {distance.__name__}: {seconds(lambda d=distance: d(first, second), times=1):.3f} s")


if __name__ == "__main__":
    main()
