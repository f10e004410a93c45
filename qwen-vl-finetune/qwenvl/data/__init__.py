"""The dataset registry: names with an optional percentage, such as `rh20t_vla_current_box_train%65`.

`data_list` is here for code that was written against the registry of Qwen's fine-tuning code, in the form that is known
there. The training itself does not use it. The entries are YAML files in `src/robointervlm/data/catalog/`, which
`robointer data list` shows; datasets of your own are a folder of such files, given to `data_list` as `catalog`, to
`train_qwen.py` as `--catalog FOLDER`. Where the data lies is ROBOINTER_DATA.
"""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import TypedDict

try:
    from robointervlm.data.mixture import ALL, parse_entries
    from robointervlm.data.spec import Catalog, DatasetSpec
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[3] / "requirements/not_installed.py"), run_name=__name__)

__all__ = ["Entry", "data_list"]


class Entry(TypedDict):
    """A dataset: its annotation file, the folder its picture paths start in, and the share of its records to take."""

    annotation_path: str
    data_path: str
    sampling_rate: float


def data_list(dataset_names: list[str], *catalog: Path) -> list[Entry]:
    """Each named dataset, in this order; `all`, alone, is every training dataset of the catalog.

    `name%NN` takes NN percent of its records. A name that is not known is an error that names the nearest. Files need
    not exist: of several places in which a file may lie the first that does is given, or else the first.
    """
    known = Catalog(*catalog)
    entries = parse_entries(dataset_names)
    if entries[0].name == ALL and ALL not in known:
        return [_entry(spec, entries[0].percent) for spec in known.values() if spec.split == "train"]
    return [_entry(known[entry.name], entry.percent) for entry in entries]


def _entry(spec: DatasetSpec, percent: float) -> Entry:
    places = spec.candidates(None)
    return {
        "annotation_path": str(next((path for path in places if path.is_file()), places[0])),
        "data_path": str(spec.image_root(None)),
        "sampling_rate": percent / 100,
    }
