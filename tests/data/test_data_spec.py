from __future__ import annotations

from pathlib import Path

import pytest

from robointervlm.core.coordinates import CoordinateFormat
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.data.spec import Catalog, DatasetSpec, spec_of_file
from robointervlm.tasks import all_tasks

GENERATION = (
    "vla_contact_box_train",
    "vla_contact_point_train",
    "vla_current_box_train",
    "vla_final_box_train",
    "vla_traj_qa_train",
    "vla_traj_init_point_qa_train",
    "vla_gripper_det_qa_train",
)
UNDERSTANDING = (
    "contact_choice_qa_train",
    "grounding_choice_qa_train",
    "traj_lang_choice_qa_train",
    "traj_lang_sub_choice_qa_train",
    "traj_direction_choice_qa_train",
    "traj_choice_qa_train",
    "traj_direction_choice_with_traj_qa_train",
)
DOCUMENTED = [f"{source}_{name}" for source in ("rh20t", "droid") for name in GENERATION + UNDERSTANDING] + [
    "rh20t_graspppose_choice_qa_train",
    "manipvqa_train",
]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_dataset_name_is_in_the_catalog(name: str) -> None:
    assert Catalog()[name].name == name


def test_the_release_has_29_names_and_one_it_forgot_to_register() -> None:
    assert len(DOCUMENTED) == 29 + 1


def test_the_correct_spelling_of_grasppose_means_the_documented_dataset() -> None:
    assert Catalog()["rh20t_grasppose_choice_qa_train"].name == "rh20t_graspppose_choice_qa_train"


@pytest.mark.parametrize("source", ["rh20t", "droid"])
def test_traj_qa_is_the_file_without_a_starting_point_despite_its_name(source: str) -> None:
    spec = Catalog()[f"{source}_vla_traj_qa_train"]
    assert spec.task == "traj_wo_init_pos"
    assert spec.annotations[0].endswith("_traj_qa_wo_init_pos.json")


@pytest.mark.parametrize("source", ["rh20t", "droid"])
def test_traj_init_point_qa_is_the_file_with_a_starting_point(source: str) -> None:
    spec = Catalog()[f"{source}_vla_traj_init_point_qa_train"]
    assert spec.task == "traj"
    assert spec.annotations[0].endswith("_obj_traj_qa.json")


@pytest.mark.parametrize("source", ["rh20t", "droid"])
def test_contact_choice_is_a_yes_or_no_question_despite_its_name(source: str) -> None:
    assert Catalog()[f"{source}_contact_choice_qa_train"].task == "contact_decide"


def test_every_catalogued_task_exists() -> None:
    unknown = {spec.task for spec in Catalog().values()} - set(all_tasks())
    assert unknown == set()


def test_a_published_path_is_found_under_the_data_root() -> None:
    spec = Catalog()["rh20t_vla_current_box_train"]
    assert spec.candidates(Path("/data")) == (
        Path("/data/Generation/meta/train/rh20t/origin_format/full_single_multi_contact_obj_current_box_qa.json"),
    )


def test_another_published_coordinate_format_is_asked_for_with_an_at_sign() -> None:
    spec = Catalog()["droid_vla_traj_qa_train@smart_resize_format"]
    assert spec.format is CoordinateFormat.RESIZED
    assert "/droid/smart_resize_format/" in str(spec.candidates(Path("/data"))[0])


def test_a_format_cannot_be_asked_of_a_dataset_that_has_one_only() -> None:
    with pytest.raises(RecipeError, match="one coordinate format only"):
        Catalog()["manipvqa_train@llava_format"]


def test_the_first_of_several_candidate_files_that_exists_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "Understanding/meta/train/droid"
    folder.mkdir(parents=True)
    (folder / "droid_contact_decide.json").write_text("[]")
    assert Catalog()["droid_contact_choice_qa_train"].annotation_file(tmp_path) == folder / "droid_contact_decide.json"
    (folder / "contact_decide.json").write_text("[]")
    assert Catalog()["droid_contact_choice_qa_train"].annotation_file(tmp_path) == folder / "contact_decide.json"


def test_a_missing_file_error_names_every_candidate(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/contact_decide\.json, .*/droid_contact_decide\.json"):
        Catalog()["droid_contact_choice_qa_train"].annotation_file(tmp_path)


def test_an_unset_data_root_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOINTER_DATA", raising=False)
    with pytest.raises(RecipeError, match="Set ROBOINTER_DATA") as caught:
        Catalog()["manipvqa_train"].annotation_file(None)
    assert "\n" not in str(caught.value)


def test_the_data_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOINTER_DATA", "/somewhere")
    assert Catalog()["manipvqa_train"].image_root(None) == Path("/somewhere")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="nearest: rh20t_vla_current_box_train"):
        Catalog()["rh20t_vla_curent_box_train"]


def test_a_users_catalog_adds_datasets_relative_to_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("root: .\nmine_train: {task: current_box, annotations: mine.json}\n")
    assert Catalog(tmp_path)["mine_train"].candidates(None) == (tmp_path / "mine.json",)


def test_a_name_in_two_catalogs_is_an_error_that_names_both_files(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("manipvqa_train: {task: current_box, annotations: mine.json}\n")
    with pytest.raises(RecipeError, match=r"manipvqa\.yaml and .*mine\.yaml"):
        Catalog(tmp_path)


@pytest.mark.parametrize(
    "text,reason",
    [
        ("a: {task: current_box}\n", "annotations"),
        ("a: {task: current_box, annotations: x, imagez: y}\n", r"key 'imagez' is not known; nearest: images"),
        ("a: {task: current_box, annotations: x, coordinates: percent}\n", "coordinates"),
        ("a: 3\n", "got 3"),
        ("- a\n", "holds a list; dataset names"),
        ("a: {task: [\n", "is not YAML"),
        ("a: {alias_of: nothing}\n", "is an alias of 'nothing'"),
        ("a%b: {task: t, annotations: x}\n", "mixtures give a meaning to"),
        ("a: {task: t, annotations: x}\na: {task: t, annotations: y}\n", "twice"),
        ("root: 3\n", "'root' is a folder"),
    ],
)
def test_a_wrong_catalog_is_an_error_that_names_file_and_entry(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match=reason) as caught:
        Catalog(tmp_path, built_in=False)
    assert "mine.yaml" in str(caught.value)


def test_a_catalog_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        Catalog(tmp_path / "none")


def test_a_specification_cannot_be_changed() -> None:
    spec = DatasetSpec(name="a", task="t", annotations="x.json")
    with pytest.raises(ValueError, match="frozen"):
        spec.task = "u"  # type: ignore[misc]


def test_a_single_file_has_its_pictures_beside_it_unless_told_otherwise(tmp_path: Path) -> None:
    spec = spec_of_file(tmp_path / "val.json", task="traj")
    assert (spec.name, spec.image_root(None)) == ("val", tmp_path)


def test_the_planning_files_are_of_the_planning_tasks() -> None:
    catalog = Catalog()
    assert {name: catalog[name].task for name in catalog if name.startswith("manipvqa")} == {
        "manipvqa_train": "planning",
        "manipvqa_planning_val": "planning",
        "manipvqa_choice_val": "planning_choice",
        "manipvqa_decide_val": "planning_decide",
    }
