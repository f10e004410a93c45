import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError
from robointervlm.data.spec import Catalog
from robointervlm.episodes.assemble import annotation_file, published_task
from robointervlm.episodes.build import BuildConfig, build
from robointervlm.episodes.questions import ASKERS
from robointervlm.episodes.sim.engine import load_mujoco

SMALL = BuildConfig(seed=5, train_episodes=4, val_episodes=1, frames=2)
QUIET = Console(quiet=True)


def tree(root):
    """Every file under a folder with the hash of its content."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("sim") / "data"
    return root, build(SMALL, root, workers=1, console=QUIET)


def test_the_published_files_are_there(built):
    root, report = built
    assert (
        root / "Generation/meta/train/sim/origin_format/full_single_multi_contact_obj_current_box_qa.json"
    ).is_file()
    assert (
        root / "Generation/meta/val/sim/origin_format/full_single_multi_contact_obj_traj_qa_wo_init_pos.json"
    ).is_file()
    assert (root / "Understanding/meta/train/sim/contact_decide.json").is_file()
    assert (report.made, report.reused) == (5, 0)


def test_a_file_holds_as_many_records_of_its_task_as_reported(built):
    root, report = built
    for split, counts in report.records.items():
        assert list(counts) == list(ASKERS)
        for task, count in counts.items():
            rows = json.loads((root / annotation_file(task, split, "sim")).read_text())
            assert sum(row["task"] == task for row in rows) == count
            assert split == "train" or {row["task"] for row in rows} <= {task}


def test_every_record_names_a_picture_of_its_size_under_the_root(built):
    root, _ = built
    for row in json.loads((root / annotation_file("gripper_det", "train", "sim")).read_text()):
        assert row["images"].startswith("Generation/image/train/sim/sim_s5_")
        with Image.open(root / row["images"]) as picture:
            assert picture.size == (row["w"], row["h"]) == (196, 112)


def test_training_and_validation_share_no_episode(built):
    root, _ = built
    numbers = {}
    for split in ("train", "val"):
        lines = (root / f"Episodes/meta/{split}/sim/episodes.jsonl").read_text().splitlines()
        numbers[split] = [json.loads(line)["number"] for line in lines]
    assert numbers == {"train": [0, 1, 2, 3], "val": [1_000_000]}


def test_the_number_of_workers_changes_no_byte(built, tmp_path):
    build(SMALL, tmp_path, workers=2, console=QUIET)
    assert tree(tmp_path) == tree(built[0])


def test_only_missing_episodes_are_made_again(built, tmp_path):
    build(SMALL, tmp_path, workers=1, console=QUIET)
    (tmp_path / ".shards/train/0000003.json").unlink()
    report = build(SMALL, tmp_path, workers=1, console=QUIET)
    assert (report.made, report.reused) == (1, 4)
    assert tree(tmp_path) == tree(built[0])


def test_a_killed_build_goes_on_to_the_same_bytes_and_leaves_no_process(built, tmp_path):
    root = tmp_path / "data"
    code = (
        "from pathlib import Path\nfrom robointervlm.episodes.build import BuildConfig, build\n"
        f"build(BuildConfig(5, 4, 1, frames=2), Path({str(root)!r}), workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: len(list(root.glob(".shards/train/*.json"))) >= 2)
    process.kill()
    process.wait()
    wait_for(lambda: not group_lives(process.pid))
    report = build(SMALL, root, workers=1, console=QUIET)
    assert report.reused >= 2
    assert tree(root) == tree(built[0])


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def group_lives(group):
    try:
        os.killpg(group, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True


def test_another_configuration_in_the_same_folder_is_refused_by_name(built):
    with pytest.raises(DataError, match="seed is 5 there and 6 now, frames is 2 there and 6 now"):
        build(BuildConfig(seed=6, train_episodes=4, val_episodes=1), built[0], console=QUIET)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match=r"not empty and holds no manifest\.json"):
        build(SMALL, tmp_path, console=QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "at least one"),
        ({"train_episodes": 1, "seed": -1}, "seed -1 is negative"),
        ({"train_episodes": 1_000_001}, "1000001 episodes"),
        ({"train_episodes": 1, "size": ImageSize(100, 50)}, r"\(100, 50\) is too small"),
        ({"train_episodes": 1, "frames": 1}, "1 frames"),
        ({"train_episodes": 1, "colours": ("red", "mauve")}, "colour 'mauve' is not known"),
        ({"train_episodes": 1, "colours": ("red",)}, "two different ones"),
        ({"train_episodes": 1, "tasks": ("traj", "juggling")}, "task 'juggling' is not asked"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        BuildConfig(**settings)


def test_the_manifest_names_the_release_of_mujoco(built):
    assert json.loads((built[0] / "manifest.json").read_text())["mujoco"] == load_mujoco().__version__


def another_manifest(built, tmp_path, change):
    root = tmp_path / "data"
    shutil.copytree(built[0], root)
    manifest = json.loads((root / "manifest.json").read_text())
    change(manifest)
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def test_a_build_is_not_finished_by_another_release_of_mujoco(built, tmp_path):
    # Some pixels differ between releases, so the data set would be neither's.
    root = another_manifest(built, tmp_path, lambda manifest: manifest.update(mujoco="3.9.9"))
    with pytest.raises(DataError, match=r"mujoco is 3\.9\.9 there and \d+\.\d+\.\d+ now"):
        build(SMALL, root, workers=1, console=QUIET)


def test_a_build_of_before_the_release_was_written_down_is_finished(built, tmp_path):
    root = another_manifest(built, tmp_path, lambda manifest: manifest.pop("mujoco"))
    assert build(SMALL, root, workers=1, console=QUIET).reused == 5


def test_progress_is_told_in_lines_where_there_is_no_terminal(tmp_path):
    console = Console(record=True, force_terminal=False, file=io.StringIO(), width=200)
    build(BuildConfig(train_episodes=2, frames=2), tmp_path / "out", workers=1, console=console)
    lines = console.export_text().splitlines()
    assert lines[0].startswith("Simulated tabletop: 2 episodes into ")
    assert lines[1:] == ["1/2 episodes", "2/2 episodes"]


def test_every_picture_that_a_record_names_is_there_in_its_size(built):
    root, _ = built
    named = 0
    for file in root.glob("*/meta/*/sim/**/*.json"):
        for row in json.loads(file.read_text()):
            pictures = [row["images"]] if isinstance(row["images"], str) else row["images"]
            for path in pictures:
                with Image.open(root / path) as picture:
                    assert picture.size == (row["w"], row["h"])
            assert row["conversations"][0]["value"].count("<image>") == len(pictures)
            named += len(pictures)
    assert named > 500


def test_a_chosen_task_is_built_alone_and_is_the_same(built, tmp_path):
    root, _ = built
    build(replace(SMALL, tasks=("gripper_det", "trajlang_choice")), tmp_path, workers=1, console=QUIET)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/meta/train/sim/**/*.json"))
    assert files == [
        "Generation/meta/train/sim/origin_format/full_single_multi_contact_obj_gripper_det_qa.json",
        "Understanding/meta/train/sim/trajlang_choice.json",
    ]
    assert not (tmp_path / "Task_planning").exists()
    for file in files:
        assert (tmp_path / file).read_bytes() == (root / file).read_bytes()


def test_every_task_has_a_catalog_entry_for_its_file():
    catalog = Catalog()
    for task in ASKERS:
        for split in ("train", "val"):
            spec = catalog[f"sim_{task}_{split}"]
            assert (spec.task, spec.split) == (published_task(task), split)
            assert spec.annotations == (annotation_file(task, split, "sim"),)


# Files as they were before the questions of every task were added, by the same seed: `SMALL`.
UNCHANGED = {
    "current_box": "e378bdbfd2803e16",
    "final_box": "5bb34eba125d8052",
    "contact_box": "542da180a0b45dfb",
    "gripper_det": "3f5c503cd1650716",
    "contact_point": "11a9aa2dbcc7bf07",
    "traj": "1a2bbe1217ae8486",
    "traj_wo_init_pos": "c958ff7e178f2fec",
    "grounding": "191a545910080ac3",
    "naming": "849a73b630f8d5cc",
}


@pytest.mark.parametrize("task", UNCHANGED)
def test_the_files_the_demo_learns_from_stay_as_they_were(built, task):
    content = (built[0] / annotation_file(task, "train", "sim")).read_bytes()
    assert hashlib.sha256(content).hexdigest()[:16] == UNCHANGED[task]
