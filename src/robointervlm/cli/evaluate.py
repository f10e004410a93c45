"""The commands `predict` and `score`: asking a model, and measuring what was answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from robointervlm.cli import options
from robointervlm.core.coordinates import MAX_PIXELS, MIN_PIXELS, CoordinateFormat, ImageSize
from robointervlm.core.errors import DataError, RecipeError, TooManyFailuresError
from robointervlm.evaluate.score import score as score_run
from robointervlm.evaluate.shards import is_sharded, merge_shards
from robointervlm.inference.judging import ANSWERED
from robointervlm.report.write import write_report
from robointervlm.runs.settings import load_recipe, use_recorded_plugins, with_plugins

if TYPE_CHECKING:
    from robointervlm.evaluate.interop import answer_files, answer_records
    from robointervlm.evaluate.recipe import EvaluationRecipe


_Model = Annotated[str | None, typer.Option(help="A checkpoint's folder, the run it was trained in, or a hub name.")]
_ModelName = Annotated[
    str | None, typer.Option(help="The model's name in reports; by default that of its run or folder.")
]
_Data = Annotated[
    str | None, typer.Option(help="An annotation file, catalogued names such as a,b%30,sim_*_val, or all.")
]
_Coordinates = Annotated[
    str | None, typer.Option(help="Coordinate format of the file: pixel, unit, per_mille or resized.")
]
_FollowLinks = Annotated[
    bool | None, typer.Option("--follow-links", help="Follow symbolic links that lead out of the image folder.")
]
_BatchTokens = Annotated[
    int | None,
    typer.Option(help="Token budget per batch (prompt padding + max_new_tokens), instead of --batch-size."),
]
_MaxErrorRate = Annotated[
    float | None, typer.Option(help="Maximum share of failed questions; above it the exit code is 4.")
]
_Shard = Annotated[
    str | None,
    typer.Option(help="K/N: answer only shard K of N; `robointer score` merges the shards when all are done."),
]
_Processes = Annotated[
    int, typer.Option(min=1, help="Number of worker processes; the questions are divided among them.")
]
_Ray = Annotated[
    str | None,
    typer.Option(help="Run the workers on the Ray cluster at this address; `local` starts one, `auto` finds one."),
]


def predict(  # noqa: PLR0913 - one per flag
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE.yaml section.key=value", help="A recipe, and settings that override it."),
    ] = None,
    *,
    model: _Model = None,
    model_name: _ModelName = None,
    family: options.Family = None,
    data: _Data = None,
    task: options.FileTask = None,
    image_dir: options.FileImages = None,
    coordinates: _Coordinates = None,
    follow_links: _FollowLinks = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; all output is written there.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions per batch.")] = None,
    batch_tokens: _BatchTokens = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Maximum number of tokens to generate.")] = None,
    style: Annotated[str | None, typer.Option(help="Prompt style: default, qwen_grounding, robobrain …")] = None,
    limit: Annotated[int | None, typer.Option(help="Evaluate only the first N samples.")] = None,
    max_error_rate: _MaxErrorRate = None,
    shard: _Shard = None,
    processes: _Processes = 1,
    ray: _Ray = None,
) -> None:
    """Ask a model every question of a dataset, then score the answers and write the report.

    Each answer is on the disk the moment it is there: kill it whenever you like and run the same command again.

    For example:

      robointer predict recipes/eval/default.yaml model.path=runs/sft/model run.dir=runs/eval

      robointer predict --model runs/sft/model --data val.json --task current_box --image-dir images --out runs/eval

      robointer predict --model Qwen/Qwen2.5-VL-3B-Instruct --data sim_traj_val --out runs/qwen
    """
    given = {
        "model.path": model,
        "model.name": model_name,
        "model.family": family,
        "data.task": task,
        "data.image_dir": image_dir,
        "data.coordinates": coordinates,
        "data.follow_links": follow_links,
        "run.dir": out,
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
        "decoding.max_new_tokens": max_new_tokens,
        "style": style,
        "limit": limit,
        "max_error_rate": max_error_rate,
        "shard": shard,
    }
    _answer(with_plugins(evaluation_recipe(settings or [], data, given)), processes, ray)


def _answer(recipe: EvaluationRecipe, processes: int, ray: str | None) -> None:
    """Asks in this process, in several of this machine, or on a Ray cluster; then scores.

    Raises `TooManyFailuresError` where more questions failed than the recipe allows.
    """
    from robointervlm.evaluate.predict import predict as predict_here

    if ray is None and processes == 1:
        outcome = predict_here(recipe)
    else:
        from robointervlm.evaluate.in_shards import predict_in_shards
        from robointervlm.jobs.ray_cluster import cluster

        with nullcontext() if ray is None else cluster(ray, processes) as connected:
            outcome = predict_in_shards(recipe, processes, connected)
    if recipe.shard is None:
        _finish(outcome.folder)
    else:
        typer.echo(f"shard {recipe.shard} is done; once all are, `robointer score {recipe.run.dir}` merges them.")
    if outcome.error_rate > recipe.max_error_rate:
        failed = ", ".join(f"{count} {status}" for status, count in outcome.counts.items() if status not in ANSWERED)
        raise TooManyFailuresError(
            f"{outcome.error_rate:.1%} of {outcome.requested} questions failed ({failed}), more than "
            f"max_error_rate={recipe.max_error_rate:g}. The report counts them, {outcome.folder}/log.txt says why; "
            "the same command asks only those again."
        )


def evaluation_recipe(settings: list[str], data: str | None, flags: Mapping[str, object]) -> EvaluationRecipe:
    """The recipe of a file, if `settings` name one, with `--data`, other flags by their keys, and `section.key=value`.

    `data` is a file if there is one of that name, catalogued datasets otherwise. Raises `RecipeError`.
    """
    from robointervlm.evaluate.recipe import EvaluationRecipe

    files = [text for text in settings if "=" not in text]
    if len(files) > 1:
        raise RecipeError(f"one recipe is expected, got {', '.join(files)}. Overrides look like section.key=value.")
    # JSON is YAML: quoting keeps a path with a colon, or a folder called 2024, a text.
    given = [
        f"{key}={json.dumps(str(value) if isinstance(value, Path) else value)}"
        for key, value in flags.items()
        if value is not None
    ]
    if data is not None:
        try:
            is_file = Path(data).is_file()
        except OSError:
            is_file = False  # many catalogued names are longer than any file's
        if is_file or data.endswith((".json", ".jsonl")):
            given = [f"data.file={json.dumps(data)}", "data.mixture=[]", *given]
        else:
            given = [f"data.mixture={json.dumps(data.split(','))}", "data.file=null", *given]
    overrides = [text for text in settings if "=" in text]
    return load_recipe(EvaluationRecipe, Path(files[0]) if files else None, [*given, *overrides])


def score(  # noqa: PLR0913 - one per flag
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Folders that `robointer predict` wrote, or one FILE.")
    ],
    *,
    kind: Annotated[
        str | None, typer.Option(help="For a file: a task, or box, traj, point, choice, decide, text, planning.")
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(help="For a file: coordinate format of its predictions: pixel, unit, per_mille or resized."),
    ] = None,
    gt_coordinates: Annotated[
        str | None, typer.Option("--gt-coordinates", help="Coordinate format of its references; default: the same.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="For a file: the run folder to write.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="WxH of pictures whose record does not say; or `published`, the guess by the id.")
    ] = None,
    image_dir: Annotated[
        Path | None, typer.Option(help="The folder that the file's image paths are relative to.")
    ] = None,
    resize_limits: Annotated[
        str | None, typer.Option(help="MIN,MAX pixels of the processor, for resized without new_w and new_h.")
    ] = None,
    prediction_field: Annotated[str, typer.Option(help="The field of a prediction, if it has an odd name.")] = "",
    gt_field: Annotated[str, typer.Option(help="The field of a reference, if it has an odd name.")] = "",
    gt_box: Annotated[str | None, typer.Option(help="A reference's four numbers: xywh or xyxy.")] = None,
) -> None:
    """Score recorded answers again and write the report. Needs no model, no dataset and no torch.

    For example:

      robointer score runs/eval

      robointer score eval_details_traj.json --kind traj --coordinates resized --image-size 640x480 --out runs/theirs

    A file of another tool is made a run folder first; docs/foreign_files.md says which files are understood.
    """
    flags: dict[str, Any] = {
        "coordinates": coordinates,
        "gt_coordinates": gt_coordinates,
        "image_size": image_size,
        "image_dir": image_dir,
        "resize_limits": resize_limits,
    }
    # A name that looks like a file's is meant as one, whether it is there or not.
    if not any(path.is_file() or (path.suffix in {".json", ".jsonl"} and not path.is_dir()) for path in runs):
        _score_folders(runs, {"kind": kind, **flags, "out": out})
        return
    if len(runs) > 1 or kind is None or out is None:
        raise RecipeError(
            f"{runs[0]} is a file: score one at a time and say what is in it, "
            "with --kind, --coordinates (for places) and --out FOLDER."
        )
    from robointervlm.evaluate.interop.answer_files import import_predictions

    import_predictions(runs[0], out, declared(kind, **flags, fields=(prediction_field, gt_field, gt_box)))
    _finish(out)


def _score_folders(folders: list[Path], flags: Mapping[str, object]) -> None:
    if given := [f"--{name.replace('_', '-')}" for name, value in flags.items() if value is not None]:
        raise RecipeError(f"{', '.join(given)} is for one file of predictions; {folders[0]} is not one.")
    for folder in folders:
        if is_sharded(folder):
            merge_shards(folder)
        use_recorded_plugins(folder)
        _finish(folder)


def _finish(folder: Path) -> None:
    """Scores a run, writes its report and shows the table."""
    score_run(folder)
    written = write_report(folder)
    typer.echo(written.summary)
    typer.echo(f"{folder / 'report.html'} shows the pictures.")


def declared(  # noqa: PLR0913 - one per flag
    kind: str,
    *,
    coordinates: str | None = None,
    gt_coordinates: str | None = None,
    image_size: str | None = None,
    image_dir: Path | None = None,
    resize_limits: str | None = None,
    fields: tuple[str, str, str | None] = ("", "", None),
) -> answer_files.Declared:
    """What the flags say of a file of predictions, for `score` and `data coordinates`.

    `fields` are those of the prediction and the reference, and xywh or xyxy. Raises `RecipeError` for a flag that means
    nothing.
    """
    from robointervlm.evaluate.interop import answer_files, answer_records

    if image_dir is not None and not image_dir.is_dir():
        raise DataError(f"--image-dir {image_dir} is no folder.")
    return answer_files.Declared(
        kind=kind,
        coordinates=None if coordinates is None else CoordinateFormat.named(coordinates),
        reference_coordinates=None if gt_coordinates is None else CoordinateFormat.named(gt_coordinates),
        image_size=_image_size(image_size),
        image_dir=image_dir,
        resize_limits=_limits(resize_limits),
        names=answer_records.FieldNames(fields[0], fields[1], _box(fields[2])),
    )


def _image_size(text: str | None) -> ImageSize | Literal["published"] | None:
    if text is None:
        return None
    if text == "published":
        return "published"
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RecipeError(f"--image-size {text} is not a size; write it as 640x480, or published.")
    return ImageSize(int(width), int(height))


def _limits(text: str | None) -> tuple[int, int]:
    if text is None:
        return MIN_PIXELS, MAX_PIXELS
    least, _, most = text.partition(",")
    if not (least.isdecimal() and most.isdecimal() and 0 < int(least) <= int(most)):
        raise RecipeError(f"--resize-limits {text} is not two numbers of pixels; write them as 3136,1003520.")
    return int(least), int(most)


def _box(text: str | None) -> answer_records.BoxMeaning | None:
    if text not in (None, "xywh", "xyxy"):
        raise RecipeError(f"--gt-box {text} is not known; xywh or xyxy is.")
    return cast("answer_records.BoxMeaning | None", text)
