"""The documented scripts for one question and for evaluation, in terms of this package; each script holds one call.

A flag that is not known is an error that names the nearest.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from robointervlm.compat.results import Evaluation, publish, run_evaluation
from robointervlm.core.errors import RecipeError
from robointervlm.models.locate import model_name
from robointervlm.runs.signals import ending


class Parser(argparse.ArgumentParser):
    """argparse whose errors are ours, and in which a flag is written in full."""

    def __init__(self, script: str, description: str) -> None:
        super().__init__(prog=script, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise RecipeError(f"{self.prog}: {message}. See --help.")

    def parsed(self, arguments: Sequence[str]) -> argparse.Namespace:
        found, unknown = self.parse_known_args(arguments)
        if unknown:
            known = [option for option in self._option_string_actions if option.startswith("--")]
            raise RecipeError(f"{self.prog}: '{unknown[0]}' is not known; {nearest(unknown[0].split('=')[0], known)}")
        return found


def evaluate(arguments: Sequence[str], folder: Path, *, language: bool) -> int:
    """Evaluates as the two documented scripts do; `folder` is where they lie, and the exit code is returned."""
    script = "evaluation_intermediate_lang.py" if language else "evaluation_intermediate.py"
    parser = Parser(script, "Ask a model the questions of a file, score the answers, write report and log.")
    parser.add_argument(
        "--model_path", required=True, help="a checkpoint folder, the run it was trained in, or a hub name"
    )
    parser.add_argument("--json_path", required=True, help="the questions, JSON or JSONL")
    parser.add_argument(
        "--image_dir", default="", help="where picture paths start; the folder of the questions if empty"
    )
    parser.add_argument("--type", default="qa" if language else "", help="what is asked; from the file's name if empty")
    parser.add_argument("--question_type", default="default", help="default, qwen_grounding, refindoor, w2p, robobrain")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_new_tokens", type=int, default=512)
    parser.add_argument("--coordinates", default="pixel", help="of the file: pixel, unit, per_mille, resized")
    parser.add_argument("--family", default="", help="the model family, where no config.json tells")
    add_output_flags(parser)
    flags = parser.parsed(arguments)
    task = language_task(flags.type, flags.json_path) if language else manipulation_task(flags.type, flags.json_path)
    style = flags.question_type or "default"
    evaluation = Evaluation(
        model=flags.model_path,
        model_name=flags.model_name or model_name(flags.model_path),
        file=existing_file(flags.json_path, "--json_path"),
        task=task,
        kind=flags.type or task,
        style=style,
        settings=asking_settings(flags, style, flags.family),
    )
    return evaluated(evaluation, flags, ["--model", flags.model_path, "--batch-size", str(flags.batch_size)], folder)


def asking_settings(flags: argparse.Namespace, style: str, family: str) -> list[str]:
    """The flags of `predict` for how every documented script asks, beside model and questions."""
    return [
        *("--style", style, "--coordinates", flags.coordinates, "--max-new-tokens", str(flags.max_new_tokens)),
        # "1" is how the released scripts are told that the paths stand alone.
        *(("--image-dir", str(Path(flags.image_dir).absolute())) if flags.image_dir not in ("", "1") else ()),
        *(("--family", family) if family else ()),
        *(("--follow-links",) if flags.follow_links else ()),
    ]


def evaluated(evaluation: Evaluation, flags: argparse.Namespace, model: Sequence[str], folder: Path) -> int:
    """Asks, scores, and writes log and answers where the flags say, or in the script's own folder; the exit code."""
    results = flags.results_dir or folder / "results"
    out = evaluation.folder(flags.output_dir, results)
    code = run_evaluation(evaluation, [*model, "--max-error-rate", str(flags.max_error_rate)], out=out)
    publish(evaluation, out, code, results=results, logs=flags.log_dir or folder / "scripts" / "logs")
    return code


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every evaluation script has for what it writes and may read."""
    own = "<type>-<folder>-<file>-<question type>-<digest>"
    parser.add_argument("--output_dir", type=Path, help="the run folder; one that holds another evaluation is refused")
    parser.add_argument("--results_dir", type=Path, help=f"instead: where <model>/{own} is made; default: results")
    parser.add_argument("--log_dir", type=Path, help="default: scripts/logs")
    parser.add_argument(
        "--model_name", default="", help="for the log and the results; the run's or the folder's name if empty"
    )
    parser.add_argument("--max_error_rate", type=float, default=0.0, help="above it the exit code is 4")
    parser.add_argument(
        "--follow_links",
        "--follow-links",
        action="store_true",
        help="read pictures behind links that lead out of their folder",
    )


# The types of the language script, which both scripts take.
_SHORT_TYPES = ("qa", "bbox", "traj", "point")


def manipulation_task(kind: str, json_path: str) -> str:
    """The task of `--type`, or of the published file's name where it is not given."""
    from robointervlm.tasks import task_for_stem, task_named

    if kind in _SHORT_TYPES:
        return language_task(kind, json_path)
    return (task_named(kind) if kind else task_for_stem(Path(json_path).stem)).name


def language_task(kind: str, json_path: str) -> str:
    """The task of the language script's `--type`: a task's name, `qa`, or anything with bbox, traj or point in it.

    `qa` is the task whose published file this is, and free text where the name is not known.
    """
    from robointervlm.tasks import all_tasks, task_for_stem

    if kind in all_tasks():
        return kind
    for part, task in (("bbox", "grounding"), ("traj", "traj_wo_init_pos"), ("point", "contact_point")):
        if part in kind:
            return task
    if kind != "qa":
        raise RecipeError(f"--type {kind} is not known; qa, bbox, traj, point, or one of {', '.join(all_tasks())}.")
    try:
        return task_for_stem(Path(json_path).stem).name
    except RecipeError:
        return "chat"


def infer(arguments: Sequence[str]) -> int:
    """Answers one question as the documented `infer.py` does; the exit code."""
    from robointervlm.cli.main import run

    parser = Parser("infer.py", "Ask a model one question about pictures.")
    parser.add_argument("--model_type", required=True, choices=("qwen", "llava"))
    parser.add_argument("--model_path", required=True)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--images", required=True, nargs="+", help="files, or frames of LMDB episodes: …/EPISODE#N")
    parser.add_argument("--max_new_tokens", type=int, default=512)
    parser.add_argument("--device", default="", help="cuda, cpu …; a GPU if there is one")
    flags = parser.parsed(arguments)
    # --model_type is asked for because it is documented; the checkpoint's own config.json says what it is.
    section: list[str] = [f"device={flags.device}"] if flags.device else []
    return run(
        [
            *("infer", "--model", flags.model_path, "--prompt", flags.prompt),
            *("--max-new-tokens", str(flags.max_new_tokens)),
            *(text for setting in section for text in ("--set", setting)),
            *(text for path in flags.images for text in ("--images", path)),
        ]
    )


def script(function: Callable[..., int], *arguments: Any, **named: Any) -> NoReturn:
    """Runs a documented script to its end, with the errors and exit codes of `robointer`."""
    from robointervlm.cli.main import explained

    def code() -> int:
        try:
            return function(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - the outermost boundary, as in `main`
            return explained(error)

    ending(code)


def existing_file(path: str, flag: str) -> Path:
    if not Path(path).is_file():
        raise RecipeError(f"{flag}: {path} does not exist.")
    return Path(path)


def nearest(name: str, known: Sequence[str]) -> str:
    dashes = "" if name.startswith("--") else "--"
    near = difflib.get_close_matches(name, known, n=3)
    return f"nearest: {', '.join(dashes + each for each in near)}." if near else "see the README for the flags."
