"""What docs/foreign_files.md says is there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from robointervlm.cli.main import run
from robointervlm.data.spec import Catalog
from robointervlm.evaluate.interop import answer_records as foreign_records
from robointervlm.evaluate.interop.answer_files import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "foreign_files.md").read_text(encoding="utf-8")


def row(name):
    return re.findall(r"`(\w+)`", re.search(rf"^\| {name} \|(.*)\|$", TEXT, flags=re.M)[1])


def test_the_field_names_of_the_document_are_those_of_the_reader():
    assert row("id") == list(foreign_records.IDS)
    assert row("prediction") == list(foreign_records.PREDICTIONS)
    assert row("reference") == list(foreign_records.REFERENCES)
    assert row("picture") == list(foreign_records.IMAGES)


def test_every_short_kind_is_explained():
    assert {kind for kind in KINDS if f"`{kind}`" in TEXT} == set(KINDS)


@pytest.mark.parametrize("command", ["score", "data coordinates"])
def test_every_flag_of_a_documented_command_exists(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in TEXT.splitlines() if line.startswith(f"robointer {command} ")]
    flags = {word for line in lines for word in shlex.split(line) if word.startswith("--")}
    assert flags
    assert flags <= set(re.findall(r"--[a-z-]+", shown))


def test_the_catalog_of_the_document_is_one(tmp_path):
    block = re.search(r"```yaml\n(.*?)```", TEXT, flags=re.S)[1]
    (tmp_path / "mine.yaml").write_text(block)
    catalog = Catalog(tmp_path, built_in=False)
    assert list(catalog) == list(yaml.safe_load(block)) == ["my_refcoco", "my_places"]
