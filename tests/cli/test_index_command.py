"""`robointer data index`: done ahead, so that training finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robointervlm.cli.main import run
from robointervlm.data import annotations
from robointervlm.runs.settings import load_recipe
from robointervlm.train.packing import lengths as measures
from robointervlm.train.recipe import TrainRecipe
from robointervlm.train.run import train
from tiny_models import box_dataset, saved_model

PACKED = ["batch.pack=shared", "model.device=cpu"]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOINTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(annotations, "STORE_FROM_BYTES", 0)
    monkeypatch.setattr(measures, "STORE_FROM_SAMPLES", 1)
    return box_dataset(tmp_path / "data", bad=[3])


def test_places_of_records_are_kept(catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "index", "boxes", "--catalog", str(catalog)]) == 0
    assert "boxes" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").glob("records/*.npy"))) == 1
    assert not (tmp_path / "cache" / "measures").exists()


def test_with_a_model_training_finds_every_measure(
    catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved_model(tmp_path)
    arguments = ["--catalog", str(catalog), "--model", str(model), "--workers", "1"]
    assert run(["data", "index", "boxes", *arguments]) == 0
    cells = [cell.strip() for cell in next(x for x in capsys.readouterr().out.splitlines() if "boxes" in x).split("│")]
    assert cells[1:4] == ["boxes", "12", "1"]
    looked_at = []
    monkeypatch.setattr(measures, "shareable", lambda *_: looked_at.append(1))
    run_folder = tmp_path / "run"
    recipe = [f"model.path={json.dumps(str(model))}", "mixture=[boxes]", f"data.catalog=[{json.dumps(str(catalog))}]"]
    monkeypatch.setattr("robointervlm.train.setup.use_packed_attention", stop)
    with pytest.raises(StopIteration):
        train(load_recipe(TrainRecipe, None, [*recipe, f"run.dir={json.dumps(str(run_folder))}", *PACKED]))
    assert looked_at == []


def stop(_: object) -> None:
    """In the place of what follows the plan."""
    raise StopIteration


def test_a_model_that_is_not_there_is_one_line(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "index", "boxes", "--catalog", str(catalog), "--model", "nowhere"]) != 0
    assert "Traceback" not in capsys.readouterr().err
