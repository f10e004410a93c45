"""Scenarios 8 to 10: training killed at random moments, also inside a save, is the training that was never killed.

FAULT_KILLS kills each configuration so often (20 for the figures in `docs/resume.md`); FAULT_SEED draws other moments.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_forks import Child, Nursery

from robointervlm.train.checkpoint import newest
from tiny_models import box_dataset, train_arguments

SEED = int(os.environ.get("FAULT_SEED", "0"))
SAVE_EVERY = 5


@dataclass
class Ledger:
    """What the kills did."""

    kills: int = 0
    in_save: int = 0
    redone: int = 0
    most_redone: int = 0
    rounds: int = 0
    seconds: float = 0.0
    most_difference: float = 0.0


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def step_reached(run: Path) -> int:
    """The last step whose line is whole."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return int(json.loads(whole[-1])["step"]) if whole else 0


def samples(run: Path, ranks: int) -> list[list[dict]]:
    return [lines(run / f"samples.rank{rank}.jsonl") for rank in range(ranks)]


def start(nursery: Nursery, arguments: list[str], ranks: int, faults: tuple[str, ...]) -> list[Child]:
    if ranks == 1:
        return [nursery.start(arguments, *faults)]
    return nursery.start_ranks(arguments, faults)


def kill_once(nursery: Nursery, arguments: list[str], run: Path, moments: random.Random, ranks: int) -> bool | None:
    """Start, kill at a random moment; whether that was inside a save, None if it was finished before."""
    marker = run.parent / f"{run.name}.marker"
    marker.unlink(missing_ok=True)
    in_save = moments.random() < 0.5
    # Rank 0 does up to twenty-odd things to the disk in a save, another rank one; also the next save may be the one.
    fault = f"pause_in_save:{moments.randint(1, 30)}:{marker}" if in_save else ""
    children = start(nursery, arguments, ranks, (fault, "")[:ranks])
    end = time.monotonic() + (120 if in_save else moments.uniform(0.0, 3.0) * ranks)
    while time.monotonic() < end and any(child.poll() is None for child in children) and not marker.exists():
        time.sleep(0.005)
    if all(child.poll() == 0 for child in children):
        return None
    if moments.random() < 0.5:
        # Kill one; the others have to end by themselves, which the one that stands still in its save cannot.
        if not marker.exists():
            moments.shuffle(children)
        children[0].kill()
    else:
        for child in children:
            child.kill()
    codes = [child.wait(60) for child in children]
    assert set(codes) <= {-9, 0, 1, 75}, [child.output for child in children]
    return None if set(codes) == {0} else marker.exists()


def killed_runs(nursery: Nursery, arguments_for, folder: Path, kills: int, ranks: int) -> tuple[Ledger, list[Path]]:
    """As many runs as it takes for so many kills, each gone on with until it is finished."""
    moments, ledger, started = random.Random(SEED), Ledger(), time.monotonic()
    runs = [folder / "killed0"]
    while ledger.kills < kills:
        run = runs[-1]
        outcome = kill_once(nursery, arguments_for(run), run, moments, ranks)
        if outcome is None:
            runs.append(folder / f"killed{len(runs)}")
            continue
        ledger.kills += 1
        ledger.in_save += outcome
        kept = newest(run / "checkpoints")
        redone = max(0, step_reached(run) - (kept.step if kept else 0))
        ledger.redone += redone
        ledger.most_redone = max(ledger.most_redone, redone)
    for child in start(nursery, arguments_for(runs[-1]), ranks, ("", "")[:ranks]):
        assert child.wait() == 0, child.output
    ledger.rounds, ledger.seconds = len(runs), time.monotonic() - started
    return ledger, runs


def assert_never_killed(run: Path, undisturbed: Path, ranks: int) -> float:
    """Everything of the run is as in the other one; the largest difference of a loss."""
    ours, theirs = lines(run / "metrics.jsonl"), lines(undisturbed / "metrics.jsonl")
    for line in ours + theirs:
        # How fast it went and what memory it took is another thing each time.
        for measured in ("seconds", "memory_gib", *(name for name in [*line] if name.endswith("_per_second"))):
            del line[measured]
    difference = max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs, strict=True))
    assert ours == theirs
    assert samples(run, ranks) == samples(undisturbed, ranks)
    mine, other = (load_file(each / "model" / "model.safetensors") for each in (run, undisturbed))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert (run / "result.json").read_bytes() == (undisturbed / "result.json").read_bytes()
    return difference


def shared_questions(folder: Path) -> Path:
    """Eighty questions, four on each of twenty pictures."""
    catalog = box_dataset(folder, 20)
    records = json.loads((folder / "boxes.json").read_text())
    several = [record | {"id": f"{record['id']}.{turn}"} for record in records for turn in range(4)]
    (folder / "boxes.json").write_text(json.dumps(several))
    return catalog


# Name: ranks, kills by default, settings. Half of 80 samples; two epochs on one process, four on two.
CONFIGURATIONS = {
    "one process": (1, 20, ["batch.per_device=1", "run.epochs=2"]),
    "one process, packed, two loaders": (
        *(1, 2),
        ["batch.pack=shared", "batch.max_tokens=220", "run.epochs=4", "data.workers=2"],
    ),
    "one process, packed, two loaders, kept pixels": (
        *(1, 2),
        [
            *("batch.pack=shared", "batch.max_tokens=220", "run.epochs=4", "data.workers=2", "augment.crop_min=1"),
            "data.pixel_cache=RUN-pixels",
        ],
    ),
    "two processes": (2, 3, ["batch.per_device=1", "run.epochs=4"]),
    "two processes, packed": (2, 2, ["batch.pack=shared", "batch.max_tokens=220", "run.epochs=8"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_run_killed_again_and_again_is_the_run_that_was_never_killed(nursery, tiny_folder, tmp_path, name, ledger):
    ranks, kills, settings = CONFIGURATIONS[name]
    kills = int(os.environ.get("FAULT_KILLS", kills))
    catalog = shared_questions(tmp_path / "data")

    def arguments(run: Path) -> list[str]:
        more = ["mixture=[boxes%50]", f"run.save_every={SAVE_EVERY}", "augment.crop_min=0.8", "run.max_steps=null"]
        own = [setting.replace("RUN", str(run)) for setting in settings]
        return train_arguments(tiny_folder, catalog, run, *more, *own)

    for child in start(nursery, arguments(tmp_path / "whole"), ranks, ("", "")[:ranks]):
        assert child.wait() == 0, child.output
    found, runs = killed_runs(nursery, arguments, tmp_path, kills, ranks)
    for run in runs:
        found.most_difference = max(found.most_difference, assert_never_killed(run, tmp_path / "whole", ranks))
    seen = Counter(each for rank in samples(runs[-1], ranks) for line in rank for each in line["ids"])
    epochs = int(next(setting for setting in settings if "epochs" in setting).partition("=")[2])
    ledger(
        name,
        **vars(found) | {"samples": len(seen), "seen": sorted(set(seen.values())), "steps": step_reached(runs[-1])},
    )
    assert found.most_difference == 0.0
    assert found.most_redone <= SAVE_EVERY
    assert len(seen) == 40
    assert set(seen.values()) == {epochs}
