from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.core.errors import DataError, RecipeError
from robointervlm.data.mixture import Entry, Mixture, parse_entries, subset
from robointervlm.data.spec import Catalog, DatasetSpec


@pytest.fixture
def mine(tmp_path: Path) -> Catalog:
    """Two datasets without pictures, of ten and of four records."""
    for name, count in (("a", 10), ("b", 4)):
        records = [{"id": f"{name}{i}", "question": "Reached?", "ground_truth": "Yes"} for i in range(count)]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    entries = "".join(f"{name}: {{task: contact_decide, annotations: {name}.json}}\n" for name in "ab")
    (tmp_path / "mine.yaml").write_text("root: .\n" + entries)
    return Catalog(tmp_path, built_in=False)


def ids(mixture: Mixture) -> list[str]:
    return [mixture[i].id for i in range(len(mixture))]


def test_entries_are_written_as_a_list_or_with_commas() -> None:
    expected = (Entry("rh20t_vla_current_box_train", 65.0), Entry("manipvqa_train", 100.0))
    assert parse_entries("rh20t_vla_current_box_train%65,manipvqa_train") == expected
    assert parse_entries(["rh20t_vla_current_box_train%65", "manipvqa_train"]) == expected
    assert parse_entries(" rh20t_vla_current_box_train%65 , manipvqa_train ,") == expected


def test_percentages_may_have_decimals() -> None:
    assert parse_entries("a%12.5") == (Entry("a", 12.5),)


@pytest.mark.parametrize("text", ["a%0", "a%-3", "a%", "a%half", "a%nan", "a%inf", "%50", "", ",", "a,a%50", "all,a"])
def test_a_mixture_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        parse_entries(text)


def test_a_mixture_takes_datasets_in_order_and_in_proportion(mine: Catalog) -> None:
    mixture = Mixture("a%30,b", catalog=mine, seed=1)
    assert [tuple(row) for row in mixture.table()] == [
        ("a", "contact_decide", 30.0, 10, 3),
        ("b", "contact_decide", 100.0, 4, 4),
    ]
    assert ids(mixture)[3:] == ["b0", "b1", "b2", "b3"]


def test_more_than_100_percent_repeats(mine: Catalog) -> None:
    taken = ids(Mixture("b%250", catalog=mine))
    assert len(taken) == 10
    assert {name: taken.count(name) >= 2 for name in taken} == dict.fromkeys(["b0", "b1", "b2", "b3"], True)


def test_a_subset_does_not_depend_on_what_else_is_in_the_mixture(mine: Catalog) -> None:
    alone = ids(Mixture("a%30", catalog=mine, seed=7))
    assert ids(Mixture("b%50,a%30", catalog=mine, seed=7))[2:] == alone


def test_another_seed_takes_other_records(mine: Catalog) -> None:
    assert len({tuple(ids(Mixture("a%30", catalog=mine, seed=seed))) for seed in range(5)}) > 1


def test_a_subset_is_never_empty(mine: Catalog) -> None:
    assert len(Mixture("b%1", catalog=mine)) == 1


def test_the_subset_of_a_seed_stays_what_it_was() -> None:
    # Written down when it was made: a resumed run on a newer numpy has to see the same records.
    assert subset("a", 10, 50, 0).tolist() == [0, 4, 5, 6, 9]


def test_the_order_of_an_epoch_is_fixed_and_another_epoch_has_another(mine: Catalog) -> None:
    mixture = Mixture("a,b", catalog=mine, seed=3)
    assert mixture.order(0).tolist() == Mixture("a,b", catalog=mine, seed=3).order(0).tolist()
    assert mixture.order(0).tolist() != mixture.order(1).tolist()
    assert sorted(mixture.order(1).tolist()) == list(range(14))


def test_a_mixture_can_be_sent_to_another_process(mine: Catalog) -> None:
    mixture = Mixture("a%30,b", catalog=mine, seed=1)
    assert ids(pickle.loads(pickle.dumps(mixture))) == ids(mixture)


def test_datasets_that_are_in_no_catalog_can_be_mixed(mine: Catalog, tmp_path: Path) -> None:
    spec = DatasetSpec(name="c", task="contact_decide", annotations="b.json", root=tmp_path)
    assert [row.name for row in Mixture([spec, "a%50"], catalog=mine).table()] == ["c", "a"]


def test_all_takes_the_training_datasets_that_are_on_disk(mine: Catalog, tmp_path: Path) -> None:
    (tmp_path / "b.json").unlink()
    assert [row.name for row in Mixture("all", catalog=mine).table()] == ["a"]


@pytest.fixture
def splits(tmp_path: Path) -> Catalog:
    """Datasets of every split, of one record each; the file of `y_val` is missing."""
    lines = ["root: ."]
    for name in ("x_train", "y_train", "x_val", "y_val", "x_test"):
        if name != "y_val":
            (tmp_path / f"{name}.json").write_text('[{"id": "1", "question": "Reached?", "ground_truth": "Yes"}]')
        lines.append(f"{name}: {{task: contact_decide, annotations: {name}.json, split: {name[2:]}}}")
    (tmp_path / "splits.yaml").write_text("\n".join(lines))
    return Catalog(tmp_path, built_in=False)


@pytest.mark.parametrize(
    "entries,split,expected",
    [
        ("all", "train", ["x_train", "y_train"]),
        ("all", "val", ["x_val"]),
        ("*", "train", ["x_train", "y_train"]),
        ("*", "val", ["x_val", "x_test"]),
        ("x*", "val", ["x_val", "x_test"]),
        ("?_val", "train", ["x_val"]),
        ("[xy]_train", "val", ["x_train", "y_train"]),
        ("x_val,*_test", "train", ["x_val", "x_test"]),
    ],
)
def test_a_pattern_takes_the_sets_at_hand_of_its_ending_or_of_what_the_mixture_is_for(
    splits: Catalog, entries: str, split: Literal["train", "val"], expected: list[str]
) -> None:
    assert [row.name for row in Mixture(entries, catalog=splits, split=split).table()] == expected


def test_what_a_pattern_takes_and_what_is_missing_is_said(splits: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        Mixture("*_val", catalog=splits, split="val", root=Path("/none"))
    assert caplog.messages == [
        "'*_val' takes the 1 of 2 validation datasets at hand: x_val",
        "'*_val': not under the data root /none: y_val",
    ]


def test_a_pattern_that_finds_no_file_is_an_error_that_names_the_root() -> None:
    with pytest.raises(
        DataError, match="'all' found no dataset: none of the .* validation files is under the data root /none"
    ):
        Mixture("all", root=Path("/none"), split="val")


def test_a_pattern_without_a_data_root_is_an_error_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOINTER_DATA", raising=False)
    with pytest.raises(DataError, match=r"none is set \(ROBOINTER_DATA\)"):
        Mixture("sim_*", split="val")


def test_a_pattern_that_takes_only_other_splits_says_how_to_end_it(splits: Catalog) -> None:
    with pytest.raises(
        RecipeError, match="takes no training dataset of the catalog; it takes 1 others, such as x_test"
    ):
        Mixture("x_t[a-f]*", catalog=splits, split="train")


def test_a_pattern_that_takes_what_is_named_beside_it_is_an_error(splits: Catalog) -> None:
    with pytest.raises(RecipeError, match="names 'x_val' twice"):
        Mixture("*_val,x_val%50", catalog=splits, split="val")


def test_a_percentage_of_a_pattern_is_that_of_each(mine: Catalog) -> None:
    assert [(row.name, row.taken) for row in Mixture("[ab]%50", catalog=mine).table()] == [("a", 5), ("b", 2)]


def test_a_published_pattern_may_ask_for_a_format(tmp_path: Path) -> None:
    folder = tmp_path / "Generation/meta/val/llava_format"
    folder.mkdir(parents=True)
    file = folder / "full_single_multi_contact_obj_current_box_qa.json"
    file.write_text('[{"id": "1", "question": "Where?", "image": "a.png", "gt": "[[0.1, 0.1], [0.2, 0.2]]"}]')
    found = Mixture("robointer_*_box_val@llava_format", root=tmp_path, split="val").table()
    assert [row.name for row in found] == ["robointer_current_box_val@llava_format"]


def test_a_dataset_and_its_alias_are_not_mixed() -> None:
    with pytest.raises(RecipeError, match="alias"):
        Mixture("rh20t_grasppose_choice_qa_train,rh20t_graspppose_choice_qa_train", root=Path("/none"))


def test_a_dataset_without_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    spec = DatasetSpec(name="none", task="contact_decide", annotations="none.json", root=tmp_path)
    with pytest.raises(DataError, match="no records"):
        Mixture([spec])


def test_a_position_outside_the_mixture_is_an_index_error(mine: Catalog) -> None:
    with pytest.raises(IndexError):
        Mixture("b", catalog=mine)[4]


@given(st.integers(1, 400), st.floats(0.01, 400), st.integers(0, 2**40), st.text(max_size=5))
def test_a_subset_has_the_asked_share_and_every_record_about_equally_often(
    records: int, percent: float, seed: int, name: str
) -> None:
    positions = subset(name, records, percent, seed)
    assert abs(len(positions) - records * percent / 100) <= 0.5 + 1e-6 or len(positions) == 1
    counts = np.bincount(positions, minlength=records)
    assert counts.max() - counts.min() <= 1
    assert len(counts) == records
    assert positions.tolist() == sorted(positions.tolist()) == subset(name, records, percent, seed).tolist()


@given(st.integers(1, 300), st.floats(1, 100), st.floats(1, 100), st.integers(0, 99))
def test_a_smaller_percentage_takes_a_part_of_what_a_larger_one_takes(
    records: int, first: float, second: float, seed: int
) -> None:
    small, large = sorted((first, second))
    assert set(subset("a", records, small, seed).tolist()) <= set(subset("a", records, large, seed).tolist())
