"""`robointer export …`: our tasks as other tools run them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli.evaluate import as_overrides, data_overrides
from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat

app = typer.Typer(
    name="export",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Write our tasks as other evaluation tools run them.",
)


@app.callback()
def _group() -> None:
    """Write our tasks as other evaluation tools run them."""


@app.command("lmms-eval", no_args_is_help=True)
def lmms_eval(  # noqa: PLR0913 - one per flag
    *,
    data: Annotated[str, typer.Option(help="An annotation file, or catalogued names such as a,b%30.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist, or be empty.")],
    model_coordinates: Annotated[
        str, typer.Option(help="What the model that is going to be asked writes: resized, per_mille, unit or pixel.")
    ],
    task: Annotated[str | None, typer.Option(help="The task of the annotation file's samples.")] = None,
    image_dir: Annotated[
        Path | None, typer.Option(help="The folder that the file's image paths are relative to.")
    ] = None,
    coordinates: Annotated[
        str, typer.Option(help="Coordinate format of the file: pixel, unit, per_mille or resized.")
    ] = "pixel",
    root: Annotated[Path | None, typer.Option(help="The folder that catalogued paths start in.")] = None,
    catalog: Annotated[list[Path] | None, typer.Option(help="A catalog of your own; repeatable.")] = None,
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
    from robointervlm.evaluate.interop.lmms_eval import Answerer, export
    from robointervlm.evaluate.questions import questions_of
    from robointervlm.evaluate.recipe import EvaluationRecipe
    from robointervlm.runs.settings import load_recipe

    options: dict[str, object] = {
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
    recipe = load_recipe(EvaluationRecipe, None, [*data_overrides(data), *as_overrides(options)])
    answerer = Answerer(CoordinateFormat.named(model_coordinates), min_pixels, max_pixels)
    names = export(questions_of(recipe), answerer, out, style=recipe.style)
    typer.echo(f"{out}: lmms-eval --include_path {out} --tasks {','.join(names)} (or robointer, for all)")
