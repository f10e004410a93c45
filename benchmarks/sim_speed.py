"""How many simulated episodes a second `robointer data build` makes here: python benchmarks/sim_speed.py [workers].

Builds 60 episodes of 6 frames at 196x112 into a temporary folder, pictures and records included, after one that warms
the file cache. The target is 4 episodes/s on two idle cores.
"""

import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from robointervlm.episodes.build import BuildConfig, build

EPISODES = 60


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    console = Console(quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        build(BuildConfig(train_episodes=1), Path(folder) / "warm", workers=1, console=console)
        report = build(BuildConfig(train_episodes=EPISODES), Path(folder) / "timed", workers=workers, console=console)
    load = os.getloadavg()[0]
    print(
        f"{EPISODES / report.seconds:.1f} episodes/s with {workers} workers "
        f"({report.seconds:.1f} s, start of the processes included; load average {load:.1f})"
    )


if __name__ == "__main__":
    main()
