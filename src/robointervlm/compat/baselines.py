"""The documented scripts for baseline models, `evaluation_intermediate_baseline_*.py`, in terms of this package.

Every baseline is asked, read and scored as our own model is. What the flags of the release mean is kept; what they did
to the numbers (sampling, one picture of eight, limits that were ignored) is not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robointervlm.compat import scripts
from robointervlm.compat.results import Evaluation
from robointervlm.core.errors import RecipeError
from robointervlm.models.locate import model_name

# What the release wrote for flags that nobody had filled in.
_EMPTY = ("", "#TODO")


@dataclass(frozen=True)
class Baseline:
    """What the scripts of one family differ in.

    `styles` says which of our ways to put a question a `--question_type` is for this family, where it is not the one of
    that name: the release words some of them otherwise for each.
    """

    family: str
    batch_size: int
    max_new_tokens: int
    styles: Mapping[str, str] = field(default_factory=dict)


BASELINES = {
    "api": Baseline("openai_api", 8, 512),
    "internvl": Baseline("internvl", 8, 1024, {"refindoor": "qwen_grounding"}),
    "llava": Baseline("llava_onevision", 1, 512),
    "robobrain": Baseline(
        "robobrain",
        8,
        1024,
        {
            "default": "robobrain",
            "w2p": "robobrain",
            "qwen_grounding": "robobrain_grounding",
            "refindoor": "robobrain_refindoor",
        },
    ),
}

_KEY_HELP = (
    "the environment variable with the key, or none; OPENAI_API_KEY for OpenAI and this machine and GEMINI_API_KEY for "
    "Gemini are not to be named"
)
_OPENAI = "https://api.openai.com/v1"
# The names that `--model` of the API script has in the release: the model and, where its maker has one, the address.
API_MODELS = {
    "gpt4o": ("gpt-4o", _OPENAI),
    "gpt4o-mini": ("gpt-4o-mini", _OPENAI),
    "gemini": ("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai"),
    "qwenvl2.5-72B": ("Qwen/Qwen2.5-VL-72B-Instruct", ""),
}


def evaluate_baseline(arguments: Sequence[str], folder: Path, *, name: str) -> int:
    """Evaluates as the documented script of this baseline does; `folder` is where it lies. Returns the exit code."""
    baseline = BASELINES[name]
    flags = _parser(name, baseline).parsed(arguments)
    if name == "api":
        path, model, decisive = flags.model, _api_model(flags), [f"model.coordinates={flags.model_coordinates}"]
    else:
        path, decisive = flags.model_path, []
        model = ["--model", path, "--batch-size", str(flags.batch_size), f"model.device={flags.device}"]
    if name == "robobrain":
        decisive = [f"model.thinking={json.dumps(flags.enable_thinking)}"]
    task = scripts.manipulation_task(flags.type, flags.json_path)
    asked = flags.question_type or "default"
    evaluation = Evaluation(
        model=path,
        model_name=flags.model_name or model_name(path),
        file=scripts.existing_file(flags.json_path, "--json_path"),
        task=task,
        kind=flags.type or task,
        style=asked,
        settings=[*scripts.asking_settings(flags, baseline.styles.get(asked, asked), baseline.family), *decisive],
    )
    return scripts.evaluated(evaluation, flags, model, folder)


def _parser(name: str, baseline: Baseline) -> scripts.Parser:
    parser = scripts.Parser(
        f"evaluation_intermediate_baseline_{name}.py", "Ask a baseline model, score its answers, report."
    )
    parser.add_argument("--json_path", required=True, help="the questions, JSON or JSONL")
    parser.add_argument("--image_dir", default="", help="where picture paths start; the questions' folder if empty")
    parser.add_argument("--type", default="", help="what is asked; from the file's name if empty")
    parser.add_argument("--question_type", default="default", help="default, qwen_grounding, refindoor, w2p")
    parser.add_argument("--max_new_tokens", type=int, default=baseline.max_new_tokens)
    parser.add_argument("--coordinates", default="pixel", help="of the file: pixel, unit, per_mille, resized")
    scripts.add_output_flags(parser)
    if name == "api":
        known = f"{', '.join(API_MODELS)}, or the endpoint's own name"
        parser.add_argument("--model", default="gpt4o-mini", help=known)
        parser.add_argument("--base_url", default="", help="the address up to /v1; several are separated by commas")
        parser.add_argument("--api_key", default=None, help=argparse.SUPPRESS)
        parser.add_argument("--api_key_env", default="", help=_KEY_HELP)
        parser.add_argument("--api_key_file", default="", help="a file with the key, instead")
        parser.add_argument("--image_root", default="", help=argparse.SUPPRESS)
        parser.add_argument(
            "--batch_size", type=int, default=baseline.batch_size, help="how many requests are in flight"
        )
        answers = "what it answers in: resized, per_mille, unit"
        parser.add_argument("--model_coordinates", default="resized", help=answers)
    else:
        parser.add_argument("--model_path", required=True, help="a checkpoint folder, or a model id")
        parser.add_argument("--batch_size", type=int, default=baseline.batch_size)
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    if name == "robobrain":
        parser.add_argument("--enable_thinking", action="store_true", help="let it think before it answers")
    return parser


def _api_model(flags: argparse.Namespace) -> list[str]:
    if flags.api_key is not None:
        raise RecipeError(
            "--api_key is not taken: other users of a machine can read a command line, and histories keep it. Put the "
            "key into the environment variable OPENAI_API_KEY (another one: --api_key_env NAME), or into a file: "
            "--api_key_file FILE."
        )
    if flags.image_root not in _EMPTY:
        raise RecipeError(
            f"--image_root {flags.image_root} has no use here: pictures named EPISODE#INDEX are read from the episodes "
            "themselves. Enter the file in a catalog that says `episodes:`; docs/unpack.md shows how."
        )
    model, address = API_MODELS.get(flags.model, (flags.model, ""))
    given = "" if flags.base_url in _EMPTY else flags.base_url
    addresses = [url.strip() for url in (given or address).split(",") if url.strip()]
    if not addresses:
        raise RecipeError(f"--model {flags.model}: give the address it is served at, with --base_url https://…/v1.")
    key = {"key_env": flags.api_key_env, "key_file": flags.api_key_file}
    return [
        *("--model", model, f"model.base_url={json.dumps(addresses)}"),
        f"model.concurrency={flags.batch_size}",
        *(f"model.{name}={json.dumps(value)}" for name, value in key.items() if value),
    ]
