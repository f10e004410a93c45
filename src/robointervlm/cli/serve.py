"""`robointer serve`: a checkpoint behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def serve(  # noqa: PLR0913 - one per flag
    checkpoint: Annotated[
        str, typer.Argument(help="The folder of a checkpoint, the run it was trained in, or a hub name.")
    ],
    *,
    engine: Annotated[str, typer.Option(help="transformers, vllm, sglang; auto: what is installed.")] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    name: Annotated[str, typer.Option(help="The model's name at the endpoint (vllm, sglang).")] = "",
    dtype: Annotated[str, typer.Option(help="As the engine takes it: auto, float32, bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="transformers only: auto, cpu, cuda:0.")] = "auto",
    python: Annotated[Path, typer.Option(help="The Python of the environment that has the engine.")] = Path(
        sys.executable
    ),
    extra: Annotated[list[str] | None, typer.Option(help="An argument for the engine; repeatable.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Only print the command.")] = False,
) -> int:
    """Serve a checkpoint over HTTP, by `transformers serve`, vLLM or SGLang, until Ctrl-C.

    Prints the engine's command line, and the `robointer predict` that asks it as the checkpoint is asked in process:
    pictures in sizes that the engine leaves alone. The key for other machines is read from ROBOINTER_SERVE_TOKEN.
    """
    from robointervlm.launch import serving
    from robointervlm.models._shared.weights import expert_names, tensor_names
    from robointervlm.models.locate import hub_folder, is_hub_name, model_folder

    hub_name = checkpoint if is_hub_name(checkpoint) else ""
    folder = hub_folder(hub_name) if hub_name else model_folder(checkpoint)
    token = os.environ.get(serving.TOKEN_ENV, "")
    wanted = serving.Served(
        Path(folder), host, port, name or hub_name, dtype, device, python, tuple(extra or ()), hub_name
    )
    found = serving.chosen_engine(engine, python)
    serving.check(wanted, found, token, experts=bool(expert_names(tensor_names(folder) or ())))
    typer.echo(f"{found}: {shlex.join(serving.command(wanted, found))}")
    if show:
        return 0

    def ready() -> None:
        typer.echo(f"ready at {wanted.address}/v1; ask it from here with\n  {serving.asking(wanted, found, token)}")

    return serving.serve(wanted, found, token, ready=ready)
