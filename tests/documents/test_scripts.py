"""What pages say of the Makefile, the scripts, their settings and their flags is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import ROOT, commands, pages, sections, spans
from test_commands import command_at, options

PAGES = [page for page in pages() if page.name != "CHANGELOG.md"]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
SETTING = re.compile(r"^([A-Z][A-Z0-9_]*)=")
# Settings of a script's surroundings: read by our package or by a library, not by the script.
SURROUNDINGS = {"OPENAI_API_KEY", "VLLM_CPU_KVCACHE_SPACE", "ROBOINTER_DATA", "HF_HUB_OFFLINE", "OMP_NUM_THREADS"}
# Flags of other programs: sbatch and srun, uv, the Hugging Face hub, and places where a flag is only an example.
OTHERS = {"--cpus-per-task", "--gpus-per-task", "--signal", "--local-dir", "--torch-backend", "--universal"}


def made(text: str) -> set[str]:
    """The targets that the page tells to make."""
    return {word for _, words in commands(text, "make") for word in words[:1] if re.fullmatch(r"[a-z]+", word)}


def called(text: str) -> list[tuple[list[str], Path, list[str]]]:
    """The scripts of this repository that the page calls: the settings before them, the file, the arguments."""
    found = []
    for program in ("bash", "python", "python3"):
        for line, words in commands(text, program):
            if words and re.search(r"\.(?:sh|py)$", words[0]):
                before = re.split(rf"(?:^|[ /]){program} ", line.split(words[0])[0])[0]
                settings = [match[1] for word in before.split() if (match := SETTING.match(word))]
                found.append((settings, Path(words[0]), words[1:]))
    return found


def script(name: Path, page: Path) -> Path | None:
    """The script that a page calls from some folder of the repository, or None."""
    near = [ROOT / page.parent / name, ROOT / name, ROOT / "qwen-vl-finetune" / name]
    tracked = [*(ROOT / "eval").rglob(name.name), *(ROOT / "recipes").rglob(name.name)]
    return next((path for path in [*near, *tracked] if path.is_file() and str(path).endswith(str(name))), None)


@cache
def known_flags() -> set[str]:
    """The flags of every command of `robointer` and of every script."""
    found: set[str] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        path = waiting.pop()
        command: Any = command_at(path)
        found |= options(command)
        waiting += [(*path, name) for name in getattr(command, "commands", ())]
    for folder in ("src/robointervlm/cli", "src/robointervlm/compat", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text("utf-8")
            found |= set(re.findall(r"[\"'](--[a-z][a-z_0-9-]*)", text))
            if file.name == "training.py":  # its flags are the names of a table
                found |= {f"--{name}" for name in re.findall(r"\"([a-z][a-z_0-9]*)\"", text)}
    return found


def wrong_flags(text: str) -> list[str]:
    """The flags in the page's sentences, and of its calls of scripts, that no command and no script has."""
    in_sentences = [span for section in sections(text) for span in spans("\n".join(section.lines))]
    words = [word for span in in_sentences if span.startswith("--") for word in span.split()]
    words += [word for _, _, arguments in called(text) for word in arguments]
    flags = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    return sorted(flags - known_flags() - OTHERS)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_target_that_is_made_is_in_the_makefile(page: Path):
    assert made((ROOT / page).read_text("utf-8")) <= TARGETS


def test_the_makefile_has_help_for_every_target_of_the_readme():
    text = (ROOT / "Makefile").read_text("utf-8")
    for target in made((ROOT / "README.md").read_text("utf-8")):
        assert re.search(rf"^{target}:.*##", text, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_script_is_there_and_reads_the_settings_before_it(page: Path):
    for settings, name, _ in called((ROOT / page).read_text("utf-8")):
        file = script(name, page)
        assert file is not None, f"{page} calls {name}"
        text = file.read_text("utf-8")
        for sourced in re.findall(r"^source .*?(\w+\.sh)", text, re.MULTILINE):
            text += "".join(path.read_text("utf-8") for path in (ROOT / "eval").rglob(sourced))
        unread = [setting for setting in settings if f"${{{setting}" not in text and setting not in SURROUNDINGS]
        assert unread == [], f"{page}: {name} does not read them"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_flag_that_a_page_names_exists(page: Path):
    assert wrong_flags((ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize("text", ["`--processs N`", "```bash\npython eval/x.py --model_pth a\n```"])
def test_a_flag_that_does_not_exist_is_found(text: str):
    assert wrong_flags(text)


def test_a_target_a_script_and_a_setting_are_found_in_a_line():
    text = "```bash\nmake demos\nA=1 WRONG_NAME=2 bash qwen-vl-finetune/scripts/sft.sh x 0\n```\n"
    assert made(text) == {"demos"}
    assert called(text) == [(["A", "WRONG_NAME"], Path("qwen-vl-finetune/scripts/sft.sh"), ["x", "0"])]
