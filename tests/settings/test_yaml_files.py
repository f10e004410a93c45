"""A YAML file that a user wrote is read strictly, or is one line that says what is wrong with it."""

from __future__ import annotations

import pytest

from robointervlm.core.errors import RecipeError
from robointervlm.settings.yaml_files import read_yaml


def test_a_mapping_is_read_and_an_empty_file_is_an_empty_one(tmp_path):
    (tmp_path / "a.yaml").write_text("\ufeffa: {b: [1, 2.5, null]}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml", "recipe") == {"a": {"b": [1, 2.5, None]}}
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml", "recipe") == {}


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a: 1\na: 2\n", "key 'a' is given twice"),
        (b"x: {a: 1, a: 2}\n", "key 'a' is given twice"),
        (b"? [a, b]\n: 1\n", "a key is no text"),
        (b"? {a: b}\n: 1\n", "a key is no text"),
        (b"a: [", "is not YAML"),
        (b"a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        (b"a: 2024-13-45\n", "is not YAML"),
        (b"[" * 5000, "is not YAML"),
        (b"- a\n", "holds a list; a mapping was expected"),
        (b"3: a\n", "holds a dict; a mapping was expected"),
        (b"a: \xff\n", "cannot be read as UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_with_its_name(tmp_path, content, said):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_yaml(tmp_path / "a.yaml", "mapping")
    assert str(caught.value).startswith(f"mapping {tmp_path}/a.yaml ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_says_where_to_find_one(tmp_path):
    with pytest.raises(RecipeError, match=r"recipe .*x\.yaml does not exist; look in recipes/\."):
        read_yaml(tmp_path / "x.yaml", "recipe", missing="; look in recipes/")
