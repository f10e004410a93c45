"""The map in CONTRIBUTING.md is the package as it is, and leads a newcomer to what he looks for in two jumps."""

from __future__ import annotations

import ast
import re

import pytest
from markdown_pages import LINK, ROOT, sections, spans

import test_import_rule

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PACKAGE = ROOT / "src" / "robointervlm"


def rows(title: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    [section] = [section for section in sections(TEXT) if section.title == title]
    return [[cell.strip() for cell in row] for row in section.rows[2:]]


def test_the_rooms_are_the_folders_of_the_package():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for row in rows("The rooms") for name in spans(row[0])} == folders


def test_the_table_of_layers_is_the_import_rule():
    said = {spans(row[0])[0]: row[1].partition(";")[0] for row in rows("Who may import whom")}
    assert said.keys() == test_import_rule.ALLOWED.keys()
    for layer, allowed in test_import_rule.ALLOWED.items():
        if "every" not in said[layer]:
            named = {name for name in said[layer].split(", ") if name not in {"standard library", "numpy"}}
            assert named == allowed - {layer}, layer


def near(phrase: str) -> list[str]:
    """The links of CONTRIBUTING.md that stand right before and right after a phrase in bold."""
    [place] = [found for found in re.finditer(r"\*\*([^*]+)\*\*", TEXT) if " ".join(found[1].split()) == phrase]
    before = list(LINK.finditer(TEXT, 0, place.start()))[-1]
    after = LINK.search(TEXT, place.end())
    assert after is not None
    return [before[1], after[1]]


def defined(file: str) -> set[str]:
    """The functions, methods and classes of a source file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))) if isinstance(node, kinds)}


@pytest.mark.parametrize(
    "phrase, name",
    [
        ("the loss", "SupervisedLoss"),
        ("masks the labels", "supervised"),
        ("turns the reply into a status", "judged"),
    ],
)
def test_a_newcomers_question_is_answered_in_two_jumps(phrase: str, name: str):
    assert any(name in defined(file) for file in near(phrase))


@pytest.mark.parametrize("word", ["collate", "sampler", "throughput", "prefill", "sequence packing"])
def test_a_word_of_the_field_is_found_in_the_source(word: str):
    assert any(word in path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
