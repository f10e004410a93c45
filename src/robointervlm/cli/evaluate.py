"""The commands `predict`, `score` and `report`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robointervlm.core.errors import RecipeError, TooManyFailuresError
from robointervlm.evaluate.score import score as score_run
from robointervlm.evaluate.shards import is_sharded, merge_shards
from robointervlm.inference.judging import ANSWERED
from robointervlm.report.benchmark import NamedRun, TableName, benchmark_tables
from robointervlm.report.benchmark_formats import Format, written
from robointervlm.report.scored import read_scored
from robointervlm.report.write import write_report
from robointervlm.runs.files import write_atomically
from robointervlm.runs.settings import use_recorded_plugins

if TYPE_CHECKING:
    from robointervlm.evaluate.predict import Outcome
    from robointervlm.evaluate.recipe import EvaluationRecipe


def predict(  # noqa: PLR0913 - one per flag
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE.yaml section.key=value", help="A recipe, and settings that override it."),
    ] = None,
    *,
    model: Annotated[
        str | None, typer.Option(help="A checkpoint's folder, the run it was trained in, or a hub name.")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="The model's name in reports; by default that of its run or folder.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Model family; detected from config.json if not given.")] = None,
    data: Annotated[
        str | None, typer.Option(help="An annotation file, catalogued names such as a,b%30,sim_*_val, or all.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task of the annotation file's samples.")] = None,
    image_dir: Annotated[
        Path | None, typer.Option(help="The folder that the file's image paths are relative to.")
    ] = None,
    coordinates: Annotated[
        str | None, typer.Option(help="Coordinate format of the file: pixel, unit, per_mille or resized.")
    ] = None,
    follow_links: Annotated[
        bool | None, typer.Option("--follow-links", help="Follow symbolic links that lead out of the image folder.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; all output is written there.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Questions per batch.")] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(help="Token budget per batch (prompt padding + max_new_tokens), instead of --batch-size."),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Maximum number of tokens to generate.")] = None,
    style: Annotated[str | None, typer.Option(help="Prompt style: default, qwen_grounding, robobrain …")] = None,
    limit: Annotated[int | None, typer.Option(help="Evaluate only the first N samples.")] = None,
    max_error_rate: Annotated[
        float | None, typer.Option(help="Maximum share of failed questions; above it the exit code is 4.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="K/N: answer only shard K of N; `robointer score` merges the shards when all are done."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Number of worker processes; the questions are divided among them.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(help="Run the workers on the Ray cluster at this address; `local` starts one, `auto` finds one."),
    ] = None,
) -> None:
    """Ask a model every question of a dataset, then score the answers and write the report.

    Each answer is on the disk the moment it is there: kill it whenever you like and run the same command again.

    For example:

      robointer predict recipes/eval/default.yaml model.path=runs/sft/model run.dir=runs/eval

      robointer predict --model runs/sft/model --data val.json --task current_box --image-dir images --out runs/eval

      robointer predict --model Qwen/Qwen2.5-VL-3B-Instruct --data sim_traj_val --out runs/qwen
    """
    from robointervlm.evaluate.recipe import EvaluationRecipe
    from robointervlm.runs.settings import load_recipe, with_plugins

    recipe_file, overrides = _split(settings or [])
    options = {
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
    given = [*data_overrides(data), *as_overrides(options), *overrides]
    recipe = with_plugins(load_recipe(EvaluationRecipe, recipe_file, given))
    outcome = _predicted(recipe, processes, ray)
    if recipe.shard is None:
        _finish(outcome.folder)
    else:
        typer.echo(f"shard {recipe.shard} is done; once all are, `robointer score {recipe.run.dir}` merges them.")
    _check_failures(outcome, recipe.max_error_rate)


def _predicted(recipe: EvaluationRecipe, processes: int, ray: str | None) -> Outcome:
    """The run, by this process, by several of this machine, or by a Ray cluster."""
    from robointervlm.evaluate.predict import predict

    if ray is None and processes == 1:
        return predict(recipe)
    from robointervlm.evaluate.in_shards import predict_in_shards
    from robointervlm.jobs.ray_cluster import cluster

    if ray is None:
        return predict_in_shards(recipe, processes)
    with cluster(ray, processes) as connected:
        return predict_in_shards(recipe, processes, connected)


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
        "--kind": kind,
        "--coordinates": coordinates,
        "--gt-coordinates": gt_coordinates,
        "--image-size": image_size,
        "--image-dir": image_dir,
        "--resize-limits": resize_limits,
        "--out": out,
    }
    if not any(_is_file(path) for path in runs):
        _score_folders(runs, [name for name, value in flags.items() if value is not None])
        return
    if len(runs) > 1 or kind is None or out is None:
        raise RecipeError(
            f"{runs[0]} is a file: score one at a time and say what is in it, "
            "with --kind, --coordinates (for places) and --out FOLDER."
        )
    flags |= {"--prediction-field": prediction_field, "--gt-field": gt_field, "--gt-box": gt_box}
    _score_file(runs[0], kind, out, flags)


def _score_file(file: Path, kind: str, out: Path, flags: Mapping[str, Any]) -> None:
    """Makes a run folder of a file of predictions, by what the flags of `score` say of it, and scores that."""
    from robointervlm.cli.answer_files import declared
    from robointervlm.evaluate.interop.answer_files import import_predictions

    said = declared(
        kind,
        coordinates=flags["--coordinates"],
        gt_coordinates=flags["--gt-coordinates"],
        image_size=flags["--image-size"],
        image_dir=flags["--image-dir"],
        resize_limits=flags["--resize-limits"],
        fields=(flags["--prediction-field"], flags["--gt-field"], flags["--gt-box"]),
    )
    import_predictions(file, out, said)
    _finish(out)


def _is_file(path: Path) -> bool:
    """Whether a path is meant as a file of predictions rather than as a run folder."""
    return path.is_file() or (path.suffix in {".json", ".jsonl"} and not path.is_dir())


def _score_folders(folders: list[Path], flags: list[str]) -> None:
    if flags:
        raise RecipeError(f"{', '.join(flags)} is for one file of predictions; {folders[0]} is not one.")
    for folder in folders:
        if is_sharded(folder):
            merge_shards(folder)
        use_recorded_plugins(folder)
        _finish(folder)


def report(  # noqa: PLR0913 - one per flag
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders that were scored.")],
    *,
    examples: Annotated[int, typer.Option(min=0, help="Number of worst, best and random samples per task.")] = 6,
    table: Annotated[
        TableName | None,
        typer.Option(help="Print the paper's table with these runs in it: 3 is manipulation, 2 is third-party."),
    ] = None,
    layout: Annotated[Format, typer.Option("--format", help="The format of that table.")] = "md",
    out: Annotated[Path | None, typer.Option(help="Write that table into this file instead.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also take runs whose questions or protocol differ.")] = False,
) -> None:
    """Write report.md, report.html and the logs of scored runs; with --table, the benchmark table instead.

    report.html is one file with the pictures in it; open it in a browser, or send it to somebody.

    For example:

      robointer report runs/eval --examples 12

      robointer report runs/ours runs/base --table paper --format html --out table.html
    """
    if table is not None:
        _benchmark_table(_named_runs(runs), table, layout, out, force=force)
        return
    if out is not None or force or layout != "md":
        raise RecipeError("--format, --out and --force are about the benchmark table: add --table paper.")
    for folder in runs:
        use_recorded_plugins(folder)
        typer.echo(write_report(folder, examples=examples).summary)
        typer.echo(f"{folder / 'report.html'} shows the pictures.")


def _benchmark_table(runs: list[NamedRun], table: TableName, layout: Format, out: Path | None, *, force: bool) -> None:
    text = written(benchmark_tables(runs, table, force=force), layout)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(out, text)
        typer.echo(f"{out}")


def _named_runs(folders: list[Path]) -> list[NamedRun]:
    """The runs under their models' names, with the folder where two models share one."""
    for folder in folders:
        use_recorded_plugins(folder)
    found = [read_scored(folder) for folder in folders]
    names = [run.model_name for run in found]
    return [
        NamedRun(f"{run.model_name} ({folder})" if names.count(run.model_name) > 1 else run.model_name, run)
        for folder, run in zip(folders, found, strict=True)
    ]


def _check_failures(outcome: Outcome, allowed: float) -> None:
    """Raises `TooManyFailuresError` where more questions failed than the user allowed."""
    if outcome.error_rate <= allowed:
        return
    failed = ", ".join(f"{count} {status}" for status, count in outcome.counts.items() if status not in ANSWERED)
    raise TooManyFailuresError(
        f"{outcome.error_rate:.1%} of {outcome.requested} questions failed ({failed}), more than "
        f"max_error_rate={allowed:g}. The report counts them, {outcome.folder}/log.txt says why; "
        "the same command asks only those again."
    )


def _finish(folder: Path) -> None:
    """Scores a run, writes its report and shows the table."""
    score_run(folder)
    written = write_report(folder)
    typer.echo(written.summary)
    typer.echo(f"{folder / 'report.html'} shows the pictures.")


def _split(settings: list[str]) -> tuple[Path | None, list[str]]:
    """The recipe file, if there is one, and the overrides."""
    files = [text for text in settings if "=" not in text]
    if len(files) > 1:
        raise RecipeError(f"one recipe is expected, got {', '.join(files)}. Overrides look like section.key=value.")
    return (Path(files[0]) if files else None), [text for text in settings if "=" in text]


def data_overrides(data: str | None) -> list[str]:
    """`--data` is a file if there is one of that name, catalogued datasets otherwise."""
    if data is None:
        return []
    if _names_a_file(data) or data.endswith((".json", ".jsonl")):
        return [f"data.file={json.dumps(data)}", "data.mixture=[]"]
    return [f"data.mixture={json.dumps(data.split(','))}", "data.file=null"]


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        return False  # many catalogued names are longer than any file's


def as_overrides(options: Mapping[str, object]) -> list[str]:
    # JSON is YAML: quoting keeps a path with a colon, or a folder called 2024, a text.
    return [
        f"{key}={json.dumps(str(value) if isinstance(value, Path) else value)}"
        for key, value in options.items()
        if value is not None
    ]
