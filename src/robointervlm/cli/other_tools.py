"""`robointer export …`, our tasks in other tools, and `robointer leaderboards …`, public benchmarks by VLMEvalKit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli import options
from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat
from robointervlm.runs.files import write_atomically

export = typer.Typer(
    name="export",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Write our tasks as other evaluation tools run them.",
)


@export.callback()
def _group() -> None:
    """Write our tasks as other evaluation tools run them."""


@export.command("lmms-eval", no_args_is_help=True)
def lmms_eval(  # noqa: PLR0913 - one per flag
    *,
    data: Annotated[str, typer.Option(help="An annotation file, or catalogued names such as a,b%30.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist, or be empty.")],
    model_coordinates: Annotated[
        str, typer.Option(help="What the model that is going to be asked writes: resized, per_mille, unit or pixel.")
    ],
    task: options.FileTask = None,
    image_dir: options.FileImages = None,
    coordinates: Annotated[
        str, typer.Option(help="Coordinate format of the file: pixel, unit, per_mille or resized.")
    ] = "pixel",
    root: Annotated[Path | None, typer.Option(help="The folder that catalogued paths start in.")] = None,
    catalog: options.OwnCatalog = None,
    style: Annotated[str, typer.Option(help="Prompt style: default, qwen_grounding, robobrain …")] = "default",
    min_pixels: Annotated[int, typer.Option(help="For resized: the processor's limit.", min=1)] = MIN_PIXELS,
    max_pixels: Annotated[int, typer.Option(help="For resized: the processor's limit.", min=1)] = MAX_PIXELS,
    limit: Annotated[int | None, typer.Option(help="Export only the first N samples.", min=1)] = None,
) -> None:
    """Write questions as a task folder for lmms-eval, scored there by the rules of `robointer score`.

    For example:

      robointer export lmms-eval --data val.json --task current_box --model-coordinates resized --out lmms_tasks

      lmms-eval --include_path lmms_tasks --tasks robointer --model openai --model_args …

    docs/leaderboards.md has the whole story.
    """
    from robointervlm.cli.evaluate import evaluation_recipe
    from robointervlm.evaluate import questions
    from robointervlm.evaluate.interop import lmms_eval as tasks

    flags: dict[str, object] = {
        "model.coordinates": model_coordinates,
        "data.task": task,
        "data.image_dir": image_dir,
        "data.coordinates": coordinates,
        "data.root": root,
        "data.catalog": [str(each) for each in catalog or []],
        "run.dir": out,
        "style": style,
        "limit": limit,
    }
    recipe = evaluation_recipe([], data, flags)
    answerer = tasks.Answerer(CoordinateFormat.named(model_coordinates), min_pixels, max_pixels)
    names = tasks.export(questions.questions_of(recipe), answerer, out, style=recipe.style)
    typer.echo(f"{out}: lmms-eval --include_path {out} --tasks {','.join(names)} (or robointer, for all)")


leaderboards = typer.Typer(
    name="leaderboards",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Public benchmarks, run by VLMEvalKit as it is.",
)


@leaderboards.command("config", no_args_is_help=True)
def config(  # noqa: PLR0913 - one per flag
    *,
    name: Annotated[str, typer.Option(help="What the results are called by.")],
    model: Annotated[str, typer.Option(help="The model's name at the endpoint; `transformers serve` takes its path.")],
    base_url: Annotated[str, typer.Option(help="The endpoint's address up to /v1.")],
    data: Annotated[str, typer.Option(help="Datasets, separated by commas: POPE, OCRBench …, or NAME=CLASS.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    max_tokens: Annotated[int, typer.Option(help="Maximum number of tokens to generate.", min=1)] = 512,
) -> None:
    """Write the configuration with which VLMEvalKit asks a checkpoint that is served.

    Example: `robointer leaderboards config --name mine --model runs/sft/model --base-url http://127.0.0.1:8000/v1
    --data POPE,OCRBench --out config.json`, then `python -m vlmeval --config config.json --work-dir results`
    """
    from robointervlm.evaluate.interop import vlmevalkit

    vlmevalkit.refuse_another_model(out, name, model, max_tokens)
    datasets = [each.strip() for each in data.split(",") if each.strip()]
    content = vlmevalkit.configuration(name, model, base_url, datasets, max_tokens=max_tokens)
    write_atomically(out, json.dumps(content, indent=2) + "\n")
    typer.echo(f"{out}")


@leaderboards.command("collect", no_args_is_help=True)
def collect(
    folder: Annotated[Path, typer.Argument(help="VLMEvalKit's work folder.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Where to write; the same folder by default.")] = None,
) -> None:
    """Collect VLMEvalKit's numbers into leaderboards.md and leaderboards.json; a dataset without any is listed, too.

    Example: `robointer leaderboards collect eval/benchmark/eval_vlmevalkit/results`
    """
    from robointervlm.evaluate.interop import vlmevalkit

    vlmevalkit.write_collected(vlmevalkit.collect(folder), out or folder)
    typer.echo((out or folder).joinpath("leaderboards.md").read_text(encoding="utf-8"), nl=False)
