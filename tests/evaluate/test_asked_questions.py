from __future__ import annotations

from pathlib import Path

import pytest

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.questions import mixture_of
from robointervlm.evaluate.recipe import Data, EvaluationRecipe
from robointervlm.evaluate.records import read_requested
from robointervlm.runs.settings import load_recipe
from scripted_benchmark import make_benchmark


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A catalog of one training and one validation set, of the same three questions."""
    benchmark = make_benchmark(tmp_path, count=3)
    entry = f"{{task: current_box, annotations: {benchmark.file.name}, images: {benchmark.images.name}, split: %s}}"
    (tmp_path / "mine.yaml").write_text(f"root: .\nm_train: {entry % 'train'}\nm_val: {entry % 'val'}\n")
    return tmp_path / "mine.yaml"


def test_all_asks_the_validation_sets(mine: Path, tmp_path: Path) -> None:
    model = ["model.family=scripted", 'model.constant="[[1, 2], [3, 4]]"', f"data.catalog=[{mine}]"]
    assert run(["predict", *model, "--data", "all", "--out", str(tmp_path / "run")]) == 0
    assert {question.dataset for question in read_requested(tmp_path / "run").questions} == {"m_val"}


def test_a_training_set_is_evaluated_by_its_name_with_a_warning(mine: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(mixture_of(Data(mixture=("m_train",), catalog=(mine,)))) == 3
    assert caplog.messages == ["evaluating on training sets, which a model may know by heart: m_train"]


def test_a_validation_set_is_evaluated_without_a_warning(mine: Path, caplog: pytest.LogCaptureFixture) -> None:
    mixture_of(Data(mixture=("m_val",), catalog=(mine,)))
    assert caplog.messages == []


def test_linked_pictures_are_asked_about_and_shown_where_that_is_declared(tmp_path: Path) -> None:
    benchmark = make_benchmark(tmp_path / "there", count=3)
    linked = tmp_path / "here"
    linked.mkdir()
    for picture in benchmark.images.iterdir():
        (linked / picture.name).symlink_to(picture)
    settings = ["model.family=scripted", 'model.constant="[[1, 2], [3, 4]]"', f"data.file={benchmark.file}"]
    settings += ["data.task=current_box", f"data.image_dir={linked}"]
    declared = load_recipe(EvaluationRecipe, None, [*settings, "data.follow_links=true", f"run.dir={tmp_path / 'b'}"])
    with pytest.raises(DataError, match="follow_links"):
        predict(load_recipe(EvaluationRecipe, None, [*settings, f"run.dir={tmp_path / 'a'}"]))
    assert predict(declared).counts == {"ok": 3}
    assert run(["score", str(tmp_path / "b")]) == 0
    assert "data:image/" in (tmp_path / "b" / "report.html").read_text()
