"""The parts of a Markdown page: sections, code blocks, tables, links, code spans and commands."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^\s*```(\S*)\s*$")
HEADING = re.compile(r"^(#{1,6}) (.+?)\s*$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# Code within a sentence; it may go on in the next line, but not in the next paragraph.
CODE = re.compile(r"(?<!`)`((?:[^`\n]|\n(?!\s*\n))+)`(?!`)")
BOLD = re.compile(r"\*\*[^*]+\*\*")
# What begins a command line where the whole block is one: an indented block holds diagrams and formulas, too.
INDENTED = "    "
ENDS_A_COMMAND = set("|&;<>()")


@dataclass
class Section:
    """What stands between one heading and the next."""

    level: int
    title: str
    lines: list[str] = field(default_factory=list)
    blocks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def prose(self) -> str:
        """The section's text without code blocks and tables."""
        return "\n".join(line for line in self.lines if not line.lstrip().startswith("|"))

    @property
    def rows(self) -> list[list[str]]:
        """The rows of its tables as cells; `\\|` in a cell is no border."""
        found = [line.strip() for line in self.lines if line.lstrip().startswith("|")]
        return [re.split(r"(?<!\\)\|", row)[1:-1] for row in found]


def sections(text: str) -> list[Section]:
    """The sections of a page; what precedes the first heading is a section without a title."""
    found = [Section(0, "")]
    language, block = None, []
    for line in text.splitlines():
        if fence := FENCE.match(line):
            if language is None:
                language, block = fence[1], []
            else:
                found[-1].blocks.append((language, "\n".join(block)))
                language = None
        elif language is not None:
            block.append(line)
        elif heading := HEADING.match(line):
            found.append(Section(len(heading[1]), heading[2]))
        else:
            found[-1].lines.append(line)
    if language is not None:
        raise AssertionError(f"a code block is not closed: {block[:1]}")
    return found


def spans(text: str) -> list[str]:
    """The code within the text's sentences, each on one line."""
    return [" ".join(found.split()) for found in CODE.findall(text)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    names: list[str] = []
    for section in sections(text)[1:]:
        name = re.sub(r"[^\w\- ]", "", section.title.lower()).replace(" ", "-")
        count = names.count(name)
        names.append(name)
        if count:
            names.append(f"{name}-{count}")
    return set(names)


def links(text: str) -> list[str]:
    """The targets of the links in the text, in order; code spans hold none."""
    return LINK.findall(CODE.sub("", text))


def pages() -> list[Path]:
    """Every Markdown page that belongs to the repository, relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not listed:  # an unpacked source archive is no git repository
        skipped = {".venv", ".bench", "runs", "build", ".git", ".pytest_cache"}
        listed = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("*.md")
            if not skipped & set(path.relative_to(ROOT).parts) and "site-packages" not in path.parts
        ]
    return sorted(path for name in listed if (ROOT / (path := Path(name))).is_file())


def commands(text: str, program: str = "robointer") -> list[tuple[str, list[str]]]:
    """The calls of `program` in the code blocks and code spans of a page: the line, and the arguments.

    Arguments end where the shell would end the command. `robointer data list | show` names several; of those the first.
    """
    found = []
    for line in _command_lines(text):
        for words in _simple_commands(line):
            for position, word in enumerate(words):
                if word == program or word.endswith(f"/{program}"):
                    found.append((line, words[position + 1 :]))
                    break
    return found


def _command_lines(text: str) -> list[str]:
    lines = []
    for section in sections(text):
        for _, block in section.blocks:
            lines += _joined(block.splitlines())
        indented = [line for line in section.lines if line.startswith(INDENTED) and not line.lstrip().startswith("|")]
        lines += _joined(indented)
        lines += spans("\n".join(line for line in section.lines if not line.startswith(INDENTED)))
    return lines


def _joined(lines: list[str]) -> list[str]:
    """Lines with what a backslash continues put into one."""
    return [line.strip() for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).split("\n")]


def _simple_commands(line: str) -> list[list[str]]:
    """The words of the simple commands of a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe: words, not a command
        return []
    found: list[list[str]] = [[]]
    for word in words:
        if word and set(word) <= ENDS_A_COMMAND:
            found.append([])
        else:
            found[-1].append(word)
    return found
