"""`robointer leaderboards …`: public benchmarks, run by VLMEvalKit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.runs.files import write_atomically

app = typer.Typer(
    name="leaderboards",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Public benchmarks, run by VLMEvalKit as it is.",
)


@app.command("config", no_args_is_help=True)
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
    from robointervlm.evaluate.interop.vlmevalkit import configuration, refuse_another_model

    refuse_another_model(out, name, model, max_tokens)
    datasets = [each.strip() for each in data.split(",") if each.strip()]
    content = configuration(name, model, base_url, datasets, max_tokens=max_tokens)
    write_atomically(out, json.dumps(content, indent=2) + "\n")
    typer.echo(f"{out}")


@app.command("collect", no_args_is_help=True)
def collect(
    folder: Annotated[Path, typer.Argument(help="VLMEvalKit's work folder.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Where to write; the same folder by default.")] = None,
) -> None:
    """Collect VLMEvalKit's numbers into leaderboards.md and leaderboards.json; a dataset without any is listed, too.

    Example: `robointer leaderboards collect eval/benchmark/eval_vlmevalkit/results`
    """
    from robointervlm.evaluate.interop.vlmevalkit import collect as collected
    from robointervlm.evaluate.interop.vlmevalkit import write_collected

    write_collected(collected(folder), out or folder)
    typer.echo((out or folder).joinpath("leaderboards.md").read_text(encoding="utf-8"), nl=False)
