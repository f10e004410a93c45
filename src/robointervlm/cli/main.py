"""The command `robointer`: finds the sub-command, and turns every error into one clear line and its exit code."""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import robointervlm
from robointervlm.core import plugins
from robointervlm.core.errors import ExitCode, RoboInterError
from robointervlm.runs.signals import StopRequested, ending


class _Command(NamedTuple):
    """Where a sub-command is. Imported when it is called, so that `--help` is quick and `score` never meets torch."""

    module: str
    attribute: str
    summary: str


_COMMANDS = {
    "demo": _Command("demo", "demo", "Watch a small model learn: simulate, train, predict, score, look. Start here."),
    "data": _Command("data.commands", "app", "List, check, build and convert datasets."),
    "train": _Command("train", "train", "Fine-tune a model from a recipe."),
    "launch": _Command("slurm", "launch", "Write the batch file of a training run for a Slurm cluster."),
    "tiny": _Command("checkpoints", "tiny", "Make a small random Qwen2.5-VL, for dry runs and tests."),
    "convert": _Command("checkpoints", "convert", "Make a model with experts from a dense one."),
    "export": _Command("other_tools", "export", "Write our tasks as other evaluation tools run them: lmms-eval."),
    "leaderboards": _Command("other_tools", "leaderboards", "Public benchmarks (POPE, OCRBench …), run by VLMEvalKit."),
    "doctor": _Command("checkpoints", "doctor", "Show that packing is exact on your own model and data."),
    "predict": _Command("evaluate", "predict", "Ask a model every question of a dataset; goes on after any kill."),
    "score": _Command("evaluate", "score", "Score recorded answers again, without the model."),
    "report": _Command("report", "report", "Write the report of a run: Markdown, HTML with pictures, log."),
    "compare": _Command(
        "compare", "compare", "Tell whether one scored run is better than another, and how sure it is."
    ),
    "serve": _Command("serve", "serve", "Put a checkpoint behind an OpenAI-compatible endpoint."),
    "infer": _Command("infer", "infer", "Ask a model about your own pictures: one question, or one after another."),
    "app": _Command("serve", "app", "Try a model and browse samples and predictions in the browser."),
}

# Which modules an extra of pyproject.toml brings; the first that brings a module is named. "" is every installation.
_BROUGHT = {
    "": ("PIL", "jinja2", "markupsafe", "numpy", "pydantic", "pydantic_core", "rich", "sacrebleu", "typer", "yaml"),
    "train": ("accelerate", "huggingface_hub", "peft", "safetensors", "tokenizers", "torch", "transformers"),
    "scale": ("deepspeed", "ninja"),
    "sim": ("mujoco",),
    "api": ("anyio", "httpx2"),
    "serve": ("fastapi", "openai", "uvicorn"),
    "tables": ("pyarrow",),
    "lerobot": ("av", "pyarrow"),
    "ray": ("pyarrow", "ray"),
    "ui": ("gradio",),
}


class _LazyGroup(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name not in _COMMANDS:
            return name, command, rest
        module, attribute, _ = _COMMANDS[name]
        target = getattr(importlib.import_module(f"robointervlm.cli.{module}"), attribute)
        if not isinstance(target, typer.Typer):
            function = target
            target = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            target.command(
                name,
                context_settings={"help_option_names": ["-h", "--help"]},
                no_args_is_help=name not in {"demo", "app"},
            )(function)
        loaded = typer.main.get_command(target)
        loaded.name = name
        _take_plugins(loaded)
        return name, loaded, rest


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, value: bool) -> None:
    if value:
        typer.echo(f"robointer {robointervlm.__version__}")
        raise typer.Exit


def _use_plugins(*, value: list[str] | None) -> None:
    plugins.use(value or ())


@app.callback()
def options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from, and log more.")] = False,
    plugin: Annotated[  # noqa: ARG001 - the callback uses it
        list[str] | None,
        typer.Option(
            metavar="FILE_OR_MODULE",
            callback=_use_plugins,
            is_eager=True,  # what other options mean may depend on it
            expose_value=False,
            help="Tasks, models or answer types of your own; repeatable.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - the callback shows it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Fine-tune vision-language models on robot-manipulation questions, and evaluate any model on them.

    Each command explains itself: robointer predict --help. Settings come from a recipe (YAML) and from
    section.key=value after it; everything a command writes goes into one run folder.
    """
    from robointervlm.runs.log import configure_logging

    configure_logging(verbose=debug)


def _no_op() -> None:
    """Stands in the help for a command that is imported when it is called."""


for _name, _command in _COMMANDS.items():
    app.command(_name, help=_command.summary)(_no_op)


def _take_plugins(command: Any) -> None:
    """Gives a command and its sub-commands the option `--plugin`, which is understood in front of them, too."""
    for each in getattr(command, "commands", {}).values():
        _take_plugins(each)
    if not hasattr(command, "commands"):
        command.params += [option for option in typer.main.get_command(app).params if option.name == "plugin"]


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with the codes of `core.errors.ExitCode`."""
    given = sys.argv[1:] if arguments is None else arguments
    ending(lambda: run(given))


def run(arguments: list[str]) -> int:
    """The exit code of a command line; what went wrong is said on standard error, on one line."""
    debug = "--debug" in arguments
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="robointer", standalone_mode=False)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; nothing is left to say to it.
        sys.stdout = None
        return ExitCode.COMPLETE
    except StopRequested as stop:
        return _said(str(stop) or "rerun the same command to go on.", stop.exit_code, label="stopped")
    except Exception as error:  # noqa: BLE001 - the outermost boundary: every error becomes a line and an exit code
        if debug:
            traceback.print_exc()
        return explained(error)
    return result if isinstance(result, int) else ExitCode.COMPLETE


def explained(error: Exception) -> int:  # noqa: PLR0911 - one per kind
    """Says on one line what went wrong; the exit code of it."""
    match error:
        case RoboInterError():
            return _said(str(error), error.exit_code)
        case typer.Exit():
            return error.exit_code
        case typer.Abort():
            return _said("interrupted.", ExitCode.INTERRUPTED, label="stopped")
        case ModuleNotFoundError() if (module := (error.name or "").partition(".")[0]) and module != "robointervlm":
            return _said(_to_install(error.name or module, module), ExitCode.USAGE)
        case MemoryError():
            return _said(f"out of memory: {error}. Use a smaller batch_size.", ExitCode.EXHAUSTED)
        case _ if hasattr(error, "format_message"):
            return _usage(error)
    with tempfile.NamedTemporaryFile("w", prefix="robointer-bug-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    summary = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    sys.stderr.write(f"error: {summary}. This is a bug; the traceback is in {file.name} (--debug shows it).\n")
    return 1


def _to_install(missing: str, module: str) -> str:
    """What to do about a module that is missing."""
    needed = f"{missing} is not installed, and this command needs it"
    extra = next((extra for extra, modules in _BROUGHT.items() if module in modules), None)
    if extra is None:
        return f"{needed}: pip install the package that has it, usually `pip install {module}`."
    bracket = f"[{extra}]" if extra else ""
    return f"{needed}: pip install 'robointervlm{bracket}', or pip install -e '.{bracket}' in a checkout."


def _usage(error: Any) -> int:
    """A command line that means nothing; the parser's own error."""
    message = " ".join(error.format_message().split())
    if not message:
        return ExitCode.USAGE  # the help was shown, because nothing was given
    tip = f" See `{error.ctx.command_path} --help`." if error.ctx is not None else ""
    return _said(message + tip, ExitCode.USAGE)


def _said(message: str, code: ExitCode, *, label: str = "error") -> int:
    sys.stderr.write(f"{label}: {' '.join(message.split())}\n")
    return code
