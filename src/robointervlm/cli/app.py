"""The command `app`: a page to try a model and to browse samples and predictions, in the browser."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from robointervlm.cli.data.options import Catalogs
from robointervlm.cli.infer import model_section
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.prompt import Decoding

TOKEN_VARIABLE = "ROBOINTER_APP_TOKEN"
_SHORTEST_TOKEN = 16


def app(  # noqa: PLR0913 - one per flag
    model: Annotated[
        str | None,
        typer.Argument(metavar="[CHECKPOINT]", help="A checkpoint's folder, the run it was trained in, or a hub name."),
    ] = None,
    *,
    runs: Annotated[Path | None, typer.Option(help="A folder with scored runs in it, to browse.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of your datasets, to browse those it holds.")] = None,
    catalog: Catalogs = None,
    family: Annotated[str | None, typer.Option(help="Model family; detected from config.json if not given.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens to generate.")] = 512,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Keys of the model section: device=cpu.")] = None,
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

    from robointervlm.app.ask import ModelDemo
    from robointervlm.app.browse import RunBrowser
    from robointervlm.app.page import make_page, serve
    from robointervlm.data.spec import Catalog
    from robointervlm.models.model import load_model

    shelf = RunBrowser(runs, data, Catalog(*(catalog or ())))
    trial = None
    if model is not None:
        trial = ModelDemo(model, load_model(model_section(model, family, setting)), Decoding(max_new_tokens))
    serve(make_page(trial, shelf), host=host, port=port, allowed=None if token is None else matches(token))


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
