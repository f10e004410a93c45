"""The dataset registry: names with an optional percentage, such as `rh20t_vla_current_box_train%65`.

The entries are YAML files in `src/robointervlm/data/catalog/`; `robointer data list` shows them, and
`--catalog FOLDER` adds your own. `data_list` is here for code that was written against the registry.
"""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

try:
    from robointervlm.data.mixture import parse_entries
    from robointervlm.data.spec import Catalog, DatasetSpec
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[3] / "requirements/not_installed.py"), run_name=__name__)

__all__ = ["data_list"]


def data_list(dataset_names: list[str]) -> list[tuple[DatasetSpec, float]]:
    """Each named dataset with the percentage of its records to take; an unknown name is an error that says so."""
    catalog = Catalog()
    return [(catalog[entry.name], entry.percent) for entry in parse_entries(dataset_names)]
