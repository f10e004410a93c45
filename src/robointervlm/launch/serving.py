"""A checkpoint behind an OpenAI-compatible endpoint: the command line of each engine, and the process that runs it.

The engines are other people's servers: `transformers serve`, vLLM, SGLang. What this adds is that pictures we send are
left as they are, that nothing of the checkpoint makes the answers random, and that nobody else is let in by accident.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from robointervlm.core.errors import ExitCode, ModelError, RecipeError
from robointervlm.launch.die_with_parent import dying_with_parent
from robointervlm.runs.signals import noting_signals

logger = logging.getLogger(__name__)

Engine = Literal["transformers", "vllm", "sglang"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
# What `auto` takes first: the engines made for many requests.
_PREFERRED: tuple[Engine, ...] = ("vllm", "sglang", "transformers")
_NEEDS: dict[Engine, tuple[str, ...]] = {
    "transformers": ("transformers", "fastapi", "uvicorn", "openai"),
    "vllm": ("vllm",),
    "sglang": ("sglang",),
}
_INSTALL = {
    "transformers": "pip install 'robointervlm[train,serve]'",
    "vllm": "make an environment with vLLM (docs/engines.md) and give its Python with --python",
    "sglang": "make an environment with SGLang (docs/engines.md) and give its Python with --python",
}
TOKEN_ENV = "ROBOINTER_SERVE_TOKEN"  # noqa: S105 - the name of a variable
# As many pictures as a planning question has.
PICTURES = 8
# Of one folder, in bytes, on the usual file systems.
_LONGEST_NAME = 255
# How long an engine may take to end by itself, in seconds; and between two questions whether it is ready.
_PATIENCE, _POLL = 15.0, 0.5


@dataclass(frozen=True)
class Served:
    """What is to be served, where, and by what.

    Attributes:
        checkpoint: a folder in Hugging Face's layout.
        host: the address to listen at; another than this machine's own needs a token.
        name: what the model is called at the endpoint; for `transformers` always the folder, or the hub name.
        dtype, device: as the engine takes them; `device` is for `transformers` only.
        python: the Python of the engine's environment.
        extra: more arguments for the engine, as they are.
        hub_name: the name on the hub, where `checkpoint` is the folder that it has in the cache.
    """

    checkpoint: Path
    host: str = "127.0.0.1"
    port: int = 8000
    name: str = ""
    dtype: str = "auto"
    device: str = "auto"
    python: Path = field(default_factory=lambda: Path(sys.executable))
    extra: tuple[str, ...] = ()
    hub_name: str = ""

    @property
    def path(self) -> str:
        """What `transformers serve` is given, and asked for."""
        return self.hub_name or str(self.checkpoint.absolute())

    @property
    def address(self) -> str:
        """Where this machine's programs find it."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", "localhost"} else self.host  # noqa: S104 - asked for
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def installed(python: Path) -> list[Engine]:
    """The engines in the environment of this Python. Raises `RecipeError` if it does not run."""
    names = sorted({name for needed in _NEEDS.values() for name in needed})
    probe = f"import importlib.util as u, json; print(json.dumps([n for n in {names!r} if u.find_spec(n)]))"
    try:
        said = subprocess.run(  # noqa: S603 - the user's own Python
            [python, "-c", probe], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise RecipeError(f"--python {python} does not run: {error}. Give the Python of an environment.") from None
    there = set(json.loads(said.splitlines()[-1]))
    return [engine for engine in ENGINES if there.issuperset(_NEEDS[engine])]


def chosen_engine(wanted: str, python: Path) -> Engine:
    """The engine to use. Raises `RecipeError` with what to install."""
    there = installed(python)
    if wanted == "auto":
        for engine in _PREFERRED:
            if engine in there:
                return engine
        raise RecipeError(f"{python} has no engine: {_INSTALL['transformers']}, or {_INSTALL['vllm']}.")
    if wanted not in ENGINES:
        raise RecipeError(f"--engine {wanted} is not known; it is auto, {', '.join(ENGINES)}.")
    if wanted not in there:
        lacking = " or ".join(_NEEDS[wanted])
        raise RecipeError(f"{python} has no {lacking}, which --engine {wanted} needs: {_INSTALL[wanted]}.")
    return wanted


def check(served: Served, engine: Engine, token: str, *, experts: bool = False) -> None:
    """Everything that can be wrong before minutes of loading. Raises `ModelError` or `RecipeError`.

    `experts`: whether the weights hold experts. A config.json that calls itself dense does not tell, and an engine
    would leave them out of its answers without a word.
    """
    config = served.checkpoint / "config.json"
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{config} cannot be read ({error}); give the folder of a checkpoint in Hugging Face's layout."
        ) from None
    kind = str(said.get("model_type", "")) if isinstance(said, dict) else ""
    ours = experts or kind.startswith("robointer_")
    if ours or kind == "llava_qwen" or "LlavaQwenForCausalLM" in (said.get("architectures") or ()):
        what = f"the layout '{kind}'" + (" with our mixture of experts" if experts else "")
        raise RecipeError(
            f"{config}: no engine knows {what}; ask this checkpoint in process: "
            f"robointer predict --model {served.checkpoint}."
        )
    if not _is_loopback(served.host):
        if engine == "transformers":
            raise RecipeError(
                f"--host {served.host}: `transformers serve` asks nobody for a key and is open to whoever reaches it. "
                "Keep 127.0.0.1 and use an SSH tunnel, or take --engine vllm."
            )
        if not token:
            raise RecipeError(f"--host {served.host} lets other machines in: put a key into {TOKEN_ENV}.")
    with socket.socket(socket.AF_INET6 if ":" in served.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((served.host, served.port))
        except OSError as error:
            raise RecipeError(
                f"cannot listen at {served.host}:{served.port}: {error.strerror or error}; choose another --port."
            ) from None


def command(served: Served, engine: Engine) -> list[str]:
    """The engine's command line; a token is never on it, as everybody on a machine reads those."""
    where = ["--host", served.host, "--port", str(served.port)]
    folder = str(served.checkpoint.absolute())
    if engine == "transformers":
        hf = [str(served.python), "-m", "transformers.cli.transformers", "serve", served.path]
        return [*hf, *where, "--device", served.device, "--dtype", served.dtype, *served.extra]
    name = served.name or folder
    if engine == "vllm":
        vllm = [str(served.python), "-m", "vllm.entrypoints.cli.main", "serve", folder, "--served-model-name", name]
        # The checkpoint's own sampling settings, such as a repetition penalty, are not the evaluation's.
        rules = ["--generation-config", "vllm", "--limit-mm-per-prompt", json.dumps({"image": PICTURES})]
        return [*vllm, *where, "--dtype", served.dtype, *rules, *served.extra]
    sglang = [str(served.python), "-m", "sglang.launch_server", "--model-path", folder, "--served-model-name", name]
    return [*sglang, *where, "--dtype", served.dtype, "--sampling-defaults", "openai", *served.extra]


def list_checkpoint(hub: Path, served: Served) -> bool:
    """Makes the empty folder `hub` a hub cache with this checkpoint alone, called as it is asked for.

    `transformers serve` answers `GET /v1/models` with what is in the hub cache, and fails where there is none; a folder
    is never in it. Returns False, and the cache stays empty, where the path cannot be the name of an entry: there a
    slash is two hyphens.
    """
    entry = "models--" + served.path.replace("/", "--")
    if entry.split("--", maxsplit=1)[1].replace("--", "/") != served.path or len(os.fsencode(entry)) > _LONGEST_NAME:
        return False
    refs, snapshots = hub / entry / "refs", hub / entry / "snapshots"
    refs.mkdir(parents=True)
    snapshots.mkdir(parents=True)
    (refs / "main").write_text("served", encoding="utf-8")
    (snapshots / "served").symlink_to(served.checkpoint.absolute(), target_is_directory=True)
    return True


def environment(engine: Engine, token: str, inherited: Mapping[str, str], hub: Path | None = None) -> dict[str, str]:
    """The engine's environment: nothing is fetched, nothing is reported; `hub` is the hub cache it sees, if given."""
    made = {**inherited, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
    made |= {"DO_NOT_TRACK": "1"} | ({"HF_HUB_CACHE": str(hub)} if hub is not None else {})
    if engine == "vllm" and token:
        made["VLLM_API_KEY"] = token
    return made


def asking(served: Served, engine: Engine, token: str) -> str:
    """The `robointer predict` that asks this server as the checkpoint would be asked in process."""
    name = served.name if served.name and engine != "transformers" else served.path
    coordinates = _settings(served.checkpoint / "robointer.json").get("coordinates")
    if not isinstance(coordinates, str):
        # Qwen2.5-VL's own is known; of others it has to be said.
        known = _settings(served.checkpoint / "config.json").get("model_type") == "qwen2_5_vl"
        coordinates = "resized" if known else "…"
    # With the checkpoint's pixel limits its own processor finds nothing to resize in what we send.
    settings = _settings(served.checkpoint / "preprocessor_config.json")
    settings = settings or _settings(served.checkpoint / "processor_config.json").get("image_processor") or {}
    size = settings.get("size") or {}
    limits = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    said = [f"robointer predict --family openai_api --model {name} model.base_url={served.address}/v1"]
    said += [f"model.coordinates={coordinates}"]
    said += [f"model.{key}={value}" for key, other in limits.items() if (value := settings.get(key) or other)]
    said += [f"model.key_env={TOKEN_ENV}"] if token else []
    return " ".join([*said, "--data … --out …"])


def serve(served: Served, engine: Engine, token: str, *, ready: Any = None) -> int:
    """Runs the engine until it ends or a signal comes; `ready()` is called once it answers. Returns an exit code."""
    if engine == "sglang" and token:
        raise RecipeError("SGLang takes a key on its command line only, where others read it: use --engine vllm.")
    with noting_signals() as stop, contextlib.ExitStack() as stack:
        hub = None
        if engine == "transformers":
            hub = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robointer-serve-")))
            if not list_checkpoint(hub, served):
                logger.warning(
                    "%s: the path is too long or has '--' in it; /v1/models lists nothing", served.checkpoint
                )
        # In a group of its own: its workers end with it, and a Ctrl-C reaches it once, through us.
        child = subprocess.Popen(  # noqa: S603 - as printed
            dying_with_parent(command(served, engine)), env=environment(engine, token, os.environ, hub), process_group=0
        )
        stack.callback(_end, child)
        waiting = ready
        while child.poll() is None and not stop.requested:
            if waiting is not None and _answers(served.address):
                waiting()
                waiting = None
            time.sleep(_POLL)
        if stop.requested:
            return ExitCode.COMPLETE
    if child.returncode:
        raise RecipeError(f"{engine} ended with exit code {child.returncode}; what it said is above.")
    return ExitCode.COMPLETE


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends an engine and its workers: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)


def _answers(address: str) -> bool:
    """Whether the server is up. Not through a proxy, which would be asked for this machine's own addresses."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{address}/health", timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code in {401, 403}
    except OSError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
