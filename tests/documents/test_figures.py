"""A figure or a list that stands in several places is the same in all of them, and the measured or declared one."""

from __future__ import annotations

import re
import tomllib

import pytest
from markdown_pages import ROOT
from test_commands import command_at

from robointervlm.core.errors import ExitCode
from robointervlm.tasks import all_tasks

# How long the demo takes, in the words of each place.
MINUTES = {
    "README.md": r"(\d+) to (\d+) minutes on two cores",
    "README_CN.md": r"两个 CPU 核上约需 (\d+) 到 (\d+) 分钟",
    "Makefile": r"(\d+) to (\d+) minutes on two cores",
    "docs/demo.md": r"(\d+) to (\d+) minutes on two cores",
}


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def measured_minutes() -> list[float]:
    """The minutes that docs/demo.md has measured on the commits of its table."""
    return [float(found) for found in re.findall(r"^\| \w+ \(([\d.]+) minutes\)", text("docs/demo.md"), re.MULTILINE)]


@pytest.mark.parametrize("name", MINUTES)
def test_the_minutes_of_the_demo_are_the_measured_ones(name: str):
    measured = measured_minutes()
    assert len(measured) >= 2
    told = re.findall(MINUTES[name], text(name))
    assert told, f"{name} does not say how long the demo takes"
    assert {(int(low), int(high)) for low, high in told} == {(round(min(measured)), round(max(measured)))}


def test_the_help_of_the_demo_says_the_minutes_of_the_readme():
    told = re.findall(r"(\d+) to (\d+) minutes\s+on two cores", command_at(("demo",)).help)
    assert told == re.findall(MINUTES["README.md"], text("README.md"))


@pytest.mark.parametrize("name", [*MINUTES, "src/robointervlm/cli/demo.py"])
def test_no_other_number_of_minutes_is_told_in_words(name: str):
    words = r"(?i)(?:about|to) (?:five|six|seven|eight|nine|ten) minutes|[五六七八九十]分钟"
    assert re.findall(words, text(name)) == []


@pytest.mark.parametrize("name", ["README.md", "README_CN.md"])
def test_the_readme_lists_every_extra(name: str):
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    (line,) = [line for line in text(name).splitlines() if "-e '.[train,sim]'" in line]
    start = text(name).index(line)
    paragraph = text(name)[start : text(name).index("\n* ", start)]
    listed = re.findall(r"`(\w+)`\s*[(（]", paragraph)
    assert sorted(listed) == sorted(extras)


@pytest.mark.parametrize("name", ["README.md", "README_CN.md", "docs/exit_codes.md"])
def test_every_exit_code_is_explained(name: str):
    told = {int(found) for row in re.findall(r"^\| ([\d, 、]+) \|", text(name), re.MULTILINE) for found in _ints(row)}
    assert {int(code) for code in ExitCode} <= told


def _ints(row: str) -> list[str]:
    return re.findall(r"\d+", row)


def test_every_task_is_explained_in_the_readme_or_a_page_of_docs():
    pages = ["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
    named = {name for page in pages for name in re.findall(r"`(\w+)`", text(page))}
    assert sorted(set(all_tasks()) - named) == []
