"""`robointer data index`, `check` and `stats` on a generated copy of the size of RoboInter-VQA: minutes and memory.

    python benchmarks/full_size.py FOLDER [--scale 0.1] [--commands index,check,stats] [--processor FOLDER]

Two files: 928,819 planning records of 8 pictures (one JSON of 1.5 GB and more) and boxes up to 2.5 million records. All
pictures are 32 shared files, so what is measured is the records, not the decoding of millions of pictures. Memory is
the largest sum, over the processes of a command, of their proportional set sizes (pages of mapped files included).
Processor minutes are those of all processes together: halved, they are what two free cores take at least.

Commands: `index`, `check`, `stats`; `both` is `check --stats`, which does the work of the last two in one pass; `start`
begins training twice as `benchmarks/input.py --records` does: measuring all samples, and with what is kept (with the
tokenizer in --processor, or a small one).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

PLANNING = 928_819
RECORDS = 2_500_000
PICTURES = 32
SIZE = {"h": 180, "w": 320, "new_h": 168, "new_w": 308}
INSTRUCTION = "pick up the red cup on the left of the plate and put it into the wooden drawer, then close the drawer"


class Cost(NamedTuple):
    """Of a command with all its processes; `peak` is in bytes."""

    seconds: float
    processor_seconds: float
    peak: int
    code: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="A part of the full number of records.")
    parser.add_argument("--commands", default="index,check,stats,both,start")
    parser.add_argument("--processor", type=Path)
    parser.add_argument("--open", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        start(options.folder, options.processor)
        return
    generate(options.folder, options.scale)
    for command in options.commands.split(","):
        for arguments in processes_of(command, options.folder, options.processor):
            cost = measured(arguments, options.folder)
            print(
                f"{command}: {cost.seconds / 60:.2f} minutes, {cost.processor_seconds / 60:.2f} of processors, "
                f"{cost.peak / 1e9:.2f} GB at most, exit code {cost.code}; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


def processes_of(command: str, folder: Path, processor: Path | None) -> list[list[str]]:
    """The arguments of Python for each process of a command."""
    if command == "start":
        chosen = ["--processor", str(processor)] if processor else []
        return [[__file__, str(folder), "--open", *chosen]] * 2
    page = str(folder / "stats.html")
    extra = {"stats": ["--out", page], "both": ["--stats", page]}.get(command, [])
    name = "check" if command == "both" else command
    return [["-m", "robointervlm.cli", "data", name, "planning", "boxes", "--catalog", str(folder), *extra]]


def start(folder: Path, processor: Path | None) -> None:
    """Begin as training does and print what it took."""
    from input import begun  # noqa: PLC0415 - torch

    from robointervlm.data.spec import Catalog  # noqa: PLC0415

    catalog = Catalog(folder, built_in=False)
    print({name: round(value, 2) for name, value in begun([catalog["planning"], catalog["boxes"]], processor).items()})


def generate(folder: Path, scale: float) -> None:
    """Write the pictures, the two annotation files and the catalog that names them."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for number in range(PICTURES):
        colour = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (SIZE["w"], SIZE["h"]), colour).save(folder / "pictures" / f"{number}.jpg")
    _write(folder / "planning.json", round(PLANNING * scale), _planning)
    _write(folder / "boxes.json", round((RECORDS - PLANNING) * scale), _box)
    catalog = "root: .\nplanning: {task: planning, annotations: planning.json, images: pictures}\n"
    catalog += "boxes: {task: current_box, annotations: boxes.json, images: pictures}\n"
    (folder / "catalog.yaml").write_text(catalog)


def _write(file: Path, count: int, record: Callable[[int, random.Random], dict[str, Any]]) -> None:
    rng = random.Random(1)
    with file.open("w") as opened:
        opened.write("[\n")
        for index in range(count):
            opened.write((",\n" if index else "") + json.dumps(record(index, rng)))
        opened.write("\n]\n")
    print(f"{file.name}: {count:,} records, {file.stat().st_size / 1e9:.2f} GB", flush=True)


def _planning(index: int, rng: random.Random) -> dict[str, Any]:
    frames = [f"{rng.randrange(PICTURES)}.jpg" for _ in range(8)]
    steps = " ".join(f"{step}. {INSTRUCTION}." for step in range(1, 10))
    question = "<image>" * 8 + f"\nThe task is to {INSTRUCTION}. These steps were done: {steps} What is next?"
    return _record(f"planning_{index}", index // 4, question, f"{INSTRUCTION}, number {index % 97}", frames)


def _box(index: int, rng: random.Random) -> dict[str, Any]:
    left, top = rng.randrange(200), rng.randrange(100)
    box = [[left, top], [left + rng.randrange(5, 120), top + rng.randrange(5, 80)]]
    answer = json.dumps({"current_bbox": box})
    question = f"<image>\nThe task is to {INSTRUCTION}. Where is the cup?"
    return _record(f"box_{index}", index // 8, question, answer, f"{rng.randrange(PICTURES)}.jpg")


def _record(name: str, episode: int, question: str, answer: str, images: str | list[str]) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": name, "episode": f"episode_{episode}", "conversations": turns, "images": images, "gt": answer, **SIZE}


def measured(arguments: list[str], folder: Path) -> Cost:
    """What a Python process costs that has a cache of its own in the folder."""
    environment = {**os.environ, "ROBOINTER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    started, peak, before = time.perf_counter(), 0, _processor_seconds()
    with subprocess.Popen([sys.executable, *arguments], env=environment) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_memory, _family(process.pid))))
            time.sleep(0.5)
    return Cost(time.perf_counter() - started, _processor_seconds() - before, peak, process.returncode)


def _processor_seconds() -> float:
    """Of all processes that were started and waited for, and of what these started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _family(pid: int) -> list[int]:
    """The process and all that it started."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []
    return [pid, *(each for child in children for each in _family(child))]


def _memory(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * int(rollup.partition("\nPss:")[2].split()[0])


if __name__ == "__main__":
    main()
