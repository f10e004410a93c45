"""A translated page is the counterpart of the English one: the same parts in the same places.

The words are free, but a paragraph has as many lines in both pages, so that a new sentence goes into the same line of
each. Code blocks are the same to the byte, comments included, so that they can be copied.
"""

from __future__ import annotations

import re

import pytest
from markdown_pages import BOLD, CODE, LINK, ROOT, Section, links, sections, spans

PAIRS = [("README.md", "README_CN.md"), ("data_process/README_DATA.md", "data_process/README_DATA_zh.md")]
# A translated page names the translated page where the English one names the English one.
TRANSLATED = {"README_CN.md": "README.md", "README_DATA_zh.md": "README_DATA.md"}
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
LIST_ITEM = re.compile(r"^\s*(?:[*-]|\d+\.) ", re.MULTILINE)


def differences(english: str, other: str) -> list[str]:
    """Where the two pages are not counterparts, by section of the English one."""
    ours, theirs = sections(english), sections(other)
    if [section.level for section in ours] != [section.level for section in theirs]:
        return [f"headings: {[s.title for s in ours]} and {[s.title for s in theirs]}"]
    found = []
    for first, second in zip(ours, theirs, strict=True):
        for what, parts in _parts(first).items():
            if parts != _parts(second)[what]:
                found.append(f"{first.title}: {what}: {_told(parts, _parts(second)[what])}")
    return found


def _parts(section: Section) -> dict[str, object]:
    prose = "\n".join(line for line in section.prose.splitlines())
    words = LINK.sub("", CODE.sub("", prose))
    return {
        "code blocks": section.blocks,
        # Sentence by sentence cannot be compared; a line that was added to one page only can be seen.
        "lines": len([line for line in prose.splitlines() if line.strip()]),
        "paragraphs": len(re.findall(r"\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", prose)),
        "list items": len(LIST_ITEM.findall(prose)),
        "bold": len(BOLD.findall(prose)),
        "links": sorted(_english(target) for target in links(prose)),
        "code": _code(prose),
        "numbers": sorted(set(NUMBER.findall(words))),
        "table rows": [_row(row) for row in section.rows],
    }


def _code(text: str) -> list[str]:
    return sorted({_english(span) for span in spans(text)})


def _row(row: list[str]) -> tuple[object, ...]:
    """The parts of a table row: by column its code and links, and the numbers of the whole row."""
    cells = [(_code(cell), sorted(_english(target) for target in links(cell))) for cell in row]
    return (cells, sorted(NUMBER.findall(LINK.sub("", CODE.sub("", " ".join(row))))))


def _english(target: str) -> str:
    for translated, english in TRANSLATED.items():
        target = target.replace(translated, english)
    return target


def _told(first: object, second: object) -> str:
    if isinstance(first, list) and isinstance(second, list):
        lost = [part for part in first if part not in second]
        added = [part for part in second if part not in first]
        return f"missing {lost}, too many {added}" if lost or added else f"{len(first)} and {len(second)}"
    return f"{first} and {second}"


@pytest.mark.parametrize("english, other", PAIRS)
def test_the_translated_page_is_the_counterpart(english: str, other: str):
    assert differences((ROOT / english).read_text("utf-8"), (ROOT / other).read_text("utf-8")) == []


@pytest.mark.parametrize("english, other", PAIRS)
def test_each_page_links_the_other_and_the_translated_one_other_translated_ones(english: str, other: str):
    folder = (ROOT / english).parent
    pages = {name: (ROOT / name).read_text("utf-8") for name in (english, other)}
    assert other.rpartition("/")[2] in {target.removeprefix("./") for target in links(pages[english])}
    assert english.rpartition("/")[2] in {target.removeprefix("./") for target in links(pages[other])}
    translated = {(ROOT / name).resolve(): (ROOT / target).resolve() for name, target in PAIRS}
    own = (ROOT / english).resolve()
    for target in links(pages[other]):
        named = (folder / target.partition("#")[0]).resolve()
        assert named == own or named not in translated, f"{other} links {target}, of which there is a translation"


PAGE = """# Title

Some words with `code` and [a link](docs/page.md), 12 of them.

* one **bold** point
* another

## Data

| name | value |
| --- | ---: |
| `a` | 0.5 |

```bash
robointer data list    # every name
```
"""
TRANSLATION = """# 标题

一些文字：`code`，[链接](docs/page.md)，共 12 个。

* 一个**粗体**要点
* 另一个

## 数据

| 名称 | 值 |
| --- | ---: |
| `a` | 0.5 |

```bash
robointer data list    # every name
```
"""


def test_a_page_of_the_same_parts_in_other_words_is_a_counterpart():
    assert differences(PAGE, TRANSLATION) == []


@pytest.mark.parametrize(
    "old, new, named",
    [
        ("## 数据\n", "", "headings"),
        ("## 数据", "### 数据", "headings"),
        ("data list ", "data show ", "code blocks"),
        ("# every name", "# every  name", "code blocks"),
        ("```bash", "```text", "code blocks"),
        ("docs/page.md", "docs/pages.md", "links"),
        ("`code`", "`codes`", "code"),
        ("`code`", "code", "code"),
        ("共 12 个", "共 13 个", "numbers"),
        ("| `a` | 0.5 |", "| `a` | 0.6 |", "table rows"),
        ("| `a` | 0.5 |", "| `b` | 0.5 |", "table rows"),
        ("| `a` | 0.5 |\n", "", "table rows"),
        ("| `a` | 0.5 |", "| `a` | 0.5 | |", "table rows"),
        ("* 另一个\n", "", "list items"),
        ("**粗体**", "粗体", "bold"),
        ("个。\n", "个。\n\n又一段。\n", "paragraphs"),
        ("个。\n", "个。\n又一行。\n", "lines"),
    ],
)
def test_a_page_that_lacks_or_changes_a_part_is_none(old: str, new: str, named: str):
    assert old in TRANSLATION
    found = differences(PAGE, TRANSLATION.replace(old, new, 1))
    assert found
    assert any(named in difference for difference in found), found
