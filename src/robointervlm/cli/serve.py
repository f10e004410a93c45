"""The commands `serve`, a checkpoint behind an OpenAI-compatible endpoint, and `app`, a page to try and to browse."""

from __future__ import annotations

import hmac
import ipaddress
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli import options
from robointervlm.core.errors import DataError, RecipeError

TOKEN_VARIABLE = "ROBOINTER_APP_TOKEN"
_SHORTEST_TOKEN = 16


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


def app(  # noqa: PLR0913 - one per flag
    model: Annotated[
        str | None,
        typer.Argument(metavar="[CHECKPOINT]", help="A checkpoint's folder, the run it was trained in, or a hub name."),
    ] = None,
    *,
    runs: Annotated[Path | None, typer.Option(help="A folder with scored runs in it, to browse.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of your datasets, to browse those it holds.")] = None,
    catalog: options.Catalogs = None,
    family: options.Family = None,
    max_new_tokens: options.MaxNewTokens = 512,
    setting: options.ModelSettings = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    token_file: Annotated[
        Path | None, typer.Option(help=f"A file with the token that visitors give; or set ${TOKEN_VARIABLE}.")
    ] = None,
) -> None:
    """Try a model on your own pictures, and browse samples and predictions, on a page in your browser.

    It listens on this machine only, and asks nothing of any other: no fonts, no statistics, no tunnel.

    For example:

      robointer app runs/sft/model --runs runs --data $ROBOINTER_DATA

      robointer app --runs runs --port 8000
    """
    token = read_token(token_file)
    check_host(host, token)
    # Both are read when the libraries are imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio  # noqa: F401 - its absence is said before a model is loaded

    from robointervlm.app import ask, browse, page
    from robointervlm.core.prompt import Decoding
    from robointervlm.data.spec import Catalog
    from robointervlm.models.model import load_model

    shelf = browse.RunBrowser(runs, data, Catalog(*(catalog or ())))
    trial = None
    if model is not None:
        loaded = load_model(options.model_section(model, family, setting))
        trial = ask.ModelDemo(model, loaded, Decoding(max_new_tokens))
    page.serve(page.make_page(trial, shelf), host=host, port=port, allowed=None if token is None else matches(token))


def read_token(file: Path | None) -> str | None:
    """The token that visitors have to give, of the file or of the environment; None if there is none."""
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise DataError(f"--token-file: {file} cannot be read: {error}.") from None
    else:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return None
    if len(token) < _SHORTEST_TOKEN:
        place = file if file is not None else f"${TOKEN_VARIABLE}"
        raise RecipeError(f"the token in {place} is shorter than {_SHORTEST_TOKEN} characters; `openssl rand -hex 16`.")
    return token


def check_host(host: str, token: str | None) -> None:
    """Raises `RecipeError` where anybody on the network could use the page without a token."""
    if host == "localhost":
        return
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise RecipeError(
            f"--host: '{host}' is no IP address; 127.0.0.1 is this machine, 0.0.0.0 the network."
        ) from None
    if not address.is_loopback and token is None:
        raise RecipeError(
            f"--host {host} lets others on the network use the page: set a token, with --token-file FILE or "
            f"${TOKEN_VARIABLE}, or leave --host out."
        )


def matches(token: str) -> Callable[[str, str], bool]:
    """Whether a login is good: any user name, and the token as the password."""
    return lambda _user, password: hmac.compare_digest(password.encode(), token.encode())
