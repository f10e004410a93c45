"""The documented scorers of prediction files, `generation.py` and `task_planning/eval.py`, in terms of this package."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robointervlm.compat.scripts import Parser
from robointervlm.core.errors import DataError, ExitCode, RecipeError

PREFIX = "eval_details_"
# The published file names, `eval_details_<task>.json`, whose task has that name.
GENERATION = (
    *("contact_box", "current_box", "final_box", "gripper_det", "traj", "traj_wo_init_pos", "contact_point"),
    *("contact_decide", "grasppose_choice", "grounding_choice", "traj_choice", "traj_direction_choice"),
    *("traj_direction_choice_with_traj", "trajlang_choice", "trajlang_sub_choice"),
)


def score_generation(arguments: Sequence[str]) -> int:
    """Scores the published prediction files of one model's folder, a run folder each; the first exit code not 0."""
    parser = Parser("generation.py", "Score the prediction files ROOT/MODEL/eval_details_<task>.json.")
    parser.add_argument("--model", required=True, help="the folder of the model's files below --root")
    parser.add_argument("--root", type=Path, default=Path(), help="default: the folder you are in")
    parser.add_argument("--coordinates", default="", help="what the answers are in: pixel, unit, per_mille, resized")
    parser.add_argument("--gt_coordinates", default="", help="what the references are in; default: the same")
    parser.add_argument("--image_size", default="published", help="WxH; default: by the id, as published")
    parser.add_argument("--output_dir", type=Path, help="default: ROOT/MODEL/scores")
    flags = parser.parsed(arguments)
    folder = flags.root / flags.model
    files = {task: folder / f"{PREFIX}{task}.json" for task in GENERATION}
    found = {task: file for task, file in files.items() if file.is_file()}
    if not found:
        raise DataError(f"{folder} holds no {PREFIX}<task>.json; the tasks are {', '.join(GENERATION)}.")
    if not flags.coordinates:
        raise RecipeError("generation.py: --coordinates says what the answers are in; it is never guessed from names.")
    out = flags.output_dir or folder / "scores"
    declared = ["--coordinates", flags.coordinates, "--image-size", flags.image_size]
    if flags.gt_coordinates:
        declared += ["--gt-coordinates", flags.gt_coordinates]
    codes = [_scored(file, task, out / task, declared) for task, file in found.items()]
    _show(out, list(found))
    return next((code for code in codes if code), ExitCode.COMPLETE)


def score_planning_files(arguments: Sequence[str]) -> int:
    """Scores planning prediction files, told apart record by record; the first exit code that is not 0."""
    parser = Parser("eval.py", "Score prediction files of the task-planning questions, strictly and as published.")
    parser.add_argument("files", nargs="+", type=Path, help="a file, or a folder with eval_details_*.json")
    parser.add_argument("--output_dir", type=Path, help="default: scores/ beside each file")
    flags = parser.parsed(arguments)
    files: list[Path] = []
    for path in flags.files:
        inside = [] if path.is_file() else sorted(path.glob(f"{PREFIX}*.json"))
        found = [file for file in inside if file.stem.removeprefix(PREFIX) not in GENERATION]
        if not found and not path.is_file():
            raise DataError(f"{path} is neither a file nor a folder that holds {PREFIX}*.json of planning questions.")
        files += found or [path]
    names = Counter(file.stem.removeprefix(PREFIX) for file in files)
    codes = []
    for file in files:
        name = file.stem.removeprefix(PREFIX)
        if flags.output_dir is not None and names[name] > 1:
            name = f"{file.resolve().parent.name}-{name}"  # the published planning files all have one name
        codes.append(_scored(file, "planning", (flags.output_dir or file.parent / "scores") / name, []))
    return next((code for code in codes if code), ExitCode.COMPLETE)


def _scored(file: Path, kind: str, out: Path, declared: Sequence[str]) -> int:
    from robointervlm.cli.main import run

    return run(["score", str(file), "--kind", kind, "--out", str(out), *declared])


def _show(out: Path, tasks: Sequence[str]) -> None:
    """The published "Average Score", which adds up pixels and shares; named for what it is."""
    values: list[float] = []
    for report in (out / task / "report.json" for task in tasks):
        groups: list[dict[str, Any]] = (
            json.loads(report.read_text(encoding="utf-8"))["tasks"] if report.is_file() else []
        )
        values += [
            metric["paper"]["mean"]  # the paper column's number
            for group in groups
            for metric in group["metrics"]
            if metric["name"] in ("IoU", "DTW", "Accuracy") and metric.get("paper")
        ]
    if values:
        average = sum(values) / len(values)
        sys.stdout.write(
            f"Published average over {len(values)} numbers: {average:.4f} (a plain mean of IoU, DTW in pixels and "
            f"accuracy, lower DTW included: for comparison with published averages only)\n"
        )
