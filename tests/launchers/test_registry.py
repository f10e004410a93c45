from __future__ import annotations

import importlib.util

import pytest

from robointervlm.core.errors import RecipeError
from scripted_benchmark import ROOT


@pytest.fixture(scope="module")
def registry():
    path = ROOT / "qwen-vl-finetune/qwenvl/data/__init__.py"
    spec = importlib.util.spec_from_file_location("qwenvl_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_documented_name_with_a_percentage_is_found(registry):
    [(dataset, percent)] = registry.data_list(["rh20t_vla_current_box_train%65"])
    assert (dataset.task, percent) == ("current_box", 65.0)


def test_an_unknown_name_is_an_error(registry):
    with pytest.raises(RecipeError, match="nearest"):
        registry.data_list(["rh20t_vla_current_bx_train"])
