"""Every `robointer` command line of every page is one that the command understands, recipe keys and values included."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from markdown_pages import ROOT, commands, pages, sections, spans
from pydantic import BaseModel

from robointervlm.cli.main import app
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.models.model import families
from robointervlm.runs.settings import override_values
from robointervlm.train.recipe import TrainRecipe

# What was, and is no more, stands in the changelog too.
PAGES = [page for page in pages() if page.name != "CHANGELOG.md"]
ELLIPSIS = re.compile(r"…|\.\.\.")
SECTIONS = set(TrainRecipe.model_fields) | set(EvaluationRecipe.model_fields)
KEY = re.compile(r"^([a-z_]+(?:\.[a-z_]+)+)(=.*)?$")
ENDINGS = (
    ".json",
    ".jsonl",
    ".md",
    ".py",
    ".yaml",
    ".pt",
    ".txt",
    ".png",
    ".html",
    ".mdb",
    ".pkl",
    ".parquet",
    ".safetensors",
)
FLAG = re.compile(r"^--[a-z][a-z_-]*")


@pytest.fixture(autouse=True)
def _no_plugin_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's own file of an example is not here."""
    monkeypatch.setattr("robointervlm.core.plugins.use", lambda _named: None)


def mistakes(words: list[str]) -> list[str]:
    """What is wrong with a call of `robointer` with these words, by the command's own parser."""
    words = words[1:] if words[:1] == ["--debug"] else list(words)
    path: tuple[str, ...] = ()
    while hasattr(command := command_at(path), "commands"):
        if not words or not re.fullmatch(r"[a-z][a-z-]*", words[0]):
            return []  # the command alone, with --help, or COMMAND
        path = (*path, words.pop(0))
        if path[-1] not in command.commands:
            return [f"robointer {' '.join(path)} is no command"]
    known = options(command)
    flags = [word.partition("=")[0] for word in words if FLAG.match(word)]
    wrong = [f"robointer {' '.join(path)} has no {flag}" for flag in flags if flag not in known]
    return wrong if wrong or ELLIPSIS.search(" ".join(words)) else _unparsed(command, path, words)


@cache
def command_at(path: tuple[str, ...]) -> Any:
    """The command or group of commands of this name, imported as the command line imports it."""
    if not path:
        return typer.main.get_command(app)
    group = command_at(path[:-1])
    if path[-1] not in group.commands:
        return None
    context = group.make_context(" ".join(path[:-1]), [], resilient_parsing=True)
    return group.resolve_command(context, [path[-1]])[1]


def options(command: Any) -> set[str]:
    """The flags of a command."""
    parameters = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
    return {"-h", "--help", *parameters}


def _unparsed(command: Any, path: tuple[str, ...], words: list[str]) -> list[str]:
    if {"-h", "--help"} & set(words):
        return []
    try:
        command.make_context(" ".join(path), list(words))
    except Exception as error:  # noqa: BLE001 - whatever the parser says
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        return [f"robointer {' '.join([*path, *words])}: {message}"]
    return []


def _in_a_block(text: str) -> set[str]:
    """The lines of the page that are whole commands: those of code blocks, not the code within sentences."""
    in_sentences = set(spans("\n".join(line for section in sections(text) for line in section.lines)))
    return {line for line, _ in commands(text)} - in_sentences


def wrong_commands(text: str) -> list[str]:
    whole = _in_a_block(text)
    found = []
    for line, words in commands(text):
        # Within a sentence only part of a command may be named.
        found += mistakes(words if line in whole else [*words, "…"])
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_line_is_understood(page: Path):
    assert wrong_commands((ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line, named",
    [
        ("robointer predcit --model a --data b --out c", "is no command"),
        ("robointer data lists", "is no command"),
        ("robointer predict --modle a --data b --out c", "has no --modle"),
        ("ROBOINTER_DATA=x .venv/bin/robointer data check a --lists b | head", "has no --lists"),
        ("robointer compare runs/a", "Missing argument"),
        ("robointer data view a -n many --out page.html", "many"),
    ],
)
def test_a_command_line_that_is_not_understood_is_found(line: str, named: str):
    assert named in " ".join(wrong_commands(f"```bash\n{line}\n```\n"))


def test_what_a_backslash_continues_belongs_to_the_command():
    assert wrong_commands("```bash\nrobointer predict --model a \\\n    --wrong b --out c\n```\n")


@cache
def _models() -> list[type[BaseModel]]:
    return [importlib.import_module(f"robointervlm.models.{name}").Section for name in families()]


def _fields(kind: Any, names: list[str]) -> bool:
    """Whether these names lead to a field of the section."""
    for position, name in enumerate(names):
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return False
        if name not in kind.model_fields:
            return False
        if position < len(names) - 1:
            annotation = kind.model_fields[name].annotation
            inner = [part for part in (annotation, *getattr(annotation, "__args__", ())) if isinstance(part, type)]
            kind = next((part for part in inner if issubclass(part, BaseModel)), None)
    return True


def is_key(name: str) -> bool:
    """Whether a dotted name is a key of a training or an evaluation recipe."""
    names = name.split(".")
    if any(_fields(recipe, names) for recipe in (TrainRecipe, EvaluationRecipe)):
        return True
    return names[0] == "model" and any(_fields(section, names[1:]) for section in _models())


def _keys_of_recipes(text: str) -> list[str]:
    """The dotted keys of the parts of recipes in the page's YAML blocks."""
    found = []
    for language, block in [block for section in sections(text) for block in section.blocks]:
        values = yaml.safe_load(block) if language == "yaml" else None
        if isinstance(values, dict) and set(values) <= SECTIONS:
            found += [f"{name}.{key}" for name, inner in values.items() if isinstance(inner, dict) for key in inner]
    return found


def wrong_keys(text: str) -> list[str]:
    in_sentences = [span for section in sections(text) for span in spans("\n".join(section.lines))]
    words = [word for _, given in commands(text) for word in given]
    found = []
    for word in dict.fromkeys([*in_sentences, *words, *_keys_of_recipes(text)]):
        if not (match := KEY.match(word)) or match[1].endswith(ENDINGS):
            continue
        if match[1].split(".")[0] in SECTIONS and not is_key(match[1]):
            found.append(match[1])
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_recipe_key_exists(page: Path):
    pytest.importorskip("torch")
    assert wrong_keys((ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "`batch.packs`",
        "`model.lora.rnk=8`",
        "```bash\nrobointer train run.dri=a\n```",
        "```yaml\nwatch:\n  validations: {every: 5}\n```",
    ],
)
def test_a_recipe_key_that_does_not_exist_is_found(text: str):
    pytest.importorskip("torch")
    assert wrong_keys(text)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_value_of_a_training_command_is_one(page: Path):
    pytest.importorskip("torch")
    for line, words in commands((ROOT / page).read_text("utf-8")):
        settings = [word for word in words if KEY.match(word) and "=" in word and not ELLIPSIS.search(word)]
        if words[:1] == ["train"] and settings:
            values = override_values(settings)
            for name, value in values.items():
                kind = TrainRecipe.model_fields[name].annotation
                if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, dict):
                    needed = {"dir": "runs/x"} if name == "run" else {"path": "x"} if name == "model" else {}
                    assert kind.model_validate({**needed, **value}), line
