"""How long the distances between two paths take, beside a plain Python loop over the cells.

python benchmarks/curves_speed.py [--points 5000]
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable

import numpy as np

from robointervlm.metrics.curves import Path, discrete_frechet, dtw, hausdorff, rmse


def python_loop(first: Path, second: Path) -> float:
    """DTW cell by cell, as the published scorer computes it."""
    width = len(second)
    before = [0.0] + [math.inf] * width
    for x, y in first.tolist():
        now = [math.inf] * (width + 1)
        for j, (u, v) in enumerate(second.tolist()):
            now[j + 1] = math.hypot(x - u, y - v) + min(before[j], before[j + 1], now[j])
        before = now
    return before[width]


def seconds(distance: Callable[[Path, Path], float], first: Path, second: Path, times: int) -> float:
    """The best of three runs of so many calls, for one call."""
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        for _ in range(times):
            distance(first, second)
        best = min(best, time.process_time() - start)
    return best / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=5000)
    most = parser.parse_args().points
    generator = np.random.default_rng(0)
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}; milliseconds for one pair"
    )
    for points, times in ((10, 200), (500, 3), (most, 1)):
        first, second = generator.random((2, points, 2)) * 600
        found = {distance.__name__: seconds(distance, first, second, times) for distance in DISTANCES}
        if points <= 500:
            found["dtw, python loop"] = seconds(python_loop, first, second, times)
        print(f"{points:>5} points: " + ", ".join(f"{name} {value * 1000:.2f}" for name, value in found.items()))


DISTANCES = (dtw, discrete_frechet, hausdorff, rmse)

if __name__ == "__main__":
    main()
