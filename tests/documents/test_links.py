"""Every link of every page leads somewhere, and every page can be found from the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_pages import ROOT, anchors, links, pages, sections, spans

# Begins a path of this repository; files of the package are also named from the package's folder on.
FOLDERS = ("src", "tests", "recipes", "docs", "eval", "qwen-vl-finetune", "data_process", "benchmarks", "requirements")
PACKAGE = ROOT / "src/robointervlm"
# Folders of the package whose names are also those of a user's folders in examples.
A_USERS = {"data", "runs"}
PATH = re.compile(r"^[\w.-]+(?:/[\w.-]+)+\.(?:py|sh|md|json|yaml|yml|txt|toml)$")


def wrong_links(page: Path, text: str) -> list[str]:
    """The relative links of the page that lead to no file, or to no heading of it."""
    found = []
    for target in [link for section in sections(text) for link in links("\n".join(section.lines))]:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page.parent / name).resolve() if name else ROOT / page
        if not file.exists():
            found.append(f"{target}: there is no {file}")
        elif anchor and anchor not in anchors(text if not name else file.read_text("utf-8")):
            found.append(f"{target}: no heading")
    return found


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path):
    assert wrong_links(page, (ROOT / page).read_text("utf-8")) == []


@pytest.mark.parametrize("target", ["docs/nothing.md", "docs/demo.md#nothing", "#nothing", "../README.md"])
def test_a_link_that_leads_nowhere_is_found(target: str):
    assert wrong_links(Path("README.md"), f"# Start\n\nSee [there]({target}).\n")


@pytest.mark.parametrize("target", ["docs/demo.md#the-columns", "#start", "docs/models/", "https://example.org/x"])
def test_a_link_that_leads_somewhere_is_right(target: str):
    assert wrong_links(Path("README.md"), f"# Start\n\nSee [there]({target}).\n") == []


def test_every_document_can_be_reached_from_the_readme():
    reached, waiting = set(), [Path("README.md")]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for target in links((ROOT / page).read_text("utf-8")):
            name = target.partition("#")[0]
            file = (ROOT / page.parent / name).resolve()
            if name.endswith(".md") and file.is_file() and file.is_relative_to(ROOT):
                waiting.append(file.relative_to(ROOT))
    assert [str(page) for page in pages() if page not in reached] == []


def test_the_readme_lists_every_page_of_docs():
    listed = set(links((ROOT / "README.md").read_text("utf-8")))
    wanted = {str(page) for page in pages() if page.parent == Path("docs")}
    assert sorted(wanted - listed) == []


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_file_of_the_repository_that_a_page_names_is_there(page: Path):
    if page.name == "CHANGELOG.md":
        return  # it tells what was, too
    text = "\n".join("\n".join(section.lines) for section in sections((ROOT / page).read_text("utf-8")))
    missing = []
    for name in filter(PATH.match, spans(text)):
        first = name.partition("/")[0]
        if first == "robointervlm":
            candidates = [ROOT / "src" / name]
        elif (PACKAGE / first).is_dir() and first not in A_USERS:
            candidates = [PACKAGE / name, ROOT / name]
        elif first in FOLDERS:
            candidates = [ROOT / name]
        else:
            continue
        candidates += [ROOT / page.parent / name]
        if not any(candidate.exists() for candidate in candidates):
            missing.append(name)
    assert missing == []
