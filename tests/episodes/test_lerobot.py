"""LeRobot datasets of both versions, read back; and broken ones, which cost no other episode anything."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("pyarrow")

from av.video.reformatter import Colorspace
from lerobot_sets import (
    CAMERA,
    CONTACT,
    FPS,
    STEPS,
    number_of,
    numbered,
    pictures_of,
    write_rows,
    write_v2,
    write_v3,
    write_video,
)
from rich.console import Console

from robointervlm.cli.main import run
from robointervlm.core.answer import Box
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import DataError, RecipeError, RefusedError
from robointervlm.episodes.lerobot.cells import box
from robointervlm.episodes.lerobot.dataset import LeRobotDataset
from robointervlm.episodes.lerobot.mapping import ROBOINTER, Mapping, read_mapping
from robointervlm.episodes.lerobot.read import pictures_at, read_episode
from robointervlm.episodes.lerobot.video import Video
from robointervlm.episodes.recorded import build_recorded, validation
from robointervlm.episodes.sources import LeRobotConfig

QUIET = Console(quiet=True)
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
M1 = SHARED / "internvla_m1_lerobot"
RECIPE = Path(__file__).parents[2] / "recipes" / "data" / "internvla_m1.yaml"


@pytest.fixture(scope="module")
def mapping() -> Mapping:
    return read_mapping(ROBOINTER)


@pytest.fixture(scope="module")
def sets(tmp_path_factory, successes):
    """The same two episodes in both versions."""
    root = tmp_path_factory.mktemp("lerobot")
    return {"v2.1": write_v2(root / "v2", successes[:2]), "v3.0": write_v3(root / "v3", successes[:2])}


@pytest.fixture
def copy(sets, tmp_path):
    """A v2.1 dataset to break."""
    return shutil.copytree(sets["v2.1"], tmp_path / "copy")


def noise(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB."""
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def read(root: Path, mapping: Mapping, index: int = 0, frames: int = 5):
    dataset = LeRobotDataset(root)
    return read_episode(dataset, dataset.listed(index), mapping, camera=CAMERA, frames=frames)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("index", [0, 1])
def test_frames_are_those_of_their_steps(sets, successes, version, index):
    dataset = LeRobotDataset(sets[version])
    steps = [23, 0, 6, 7, 8, 13, 14, 22]
    shown = pictures_at(dataset, dataset.listed(index), steps, camera=CAMERA)
    assert [number_of(picture) for picture in shown] == steps
    written = pictures_of(successes[index])
    assert min(noise(picture, written[step]) for picture, step in zip(shown, steps, strict=True)) > 30


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("index", [0, 1])
def test_labels_are_those_that_were_written(sets, mapping, successes, version, index):
    episode, simulated = read(sets[version], mapping, index).episode, successes[index]
    assert [frame.index for frame in episode.frames] == [0, 6, 9, 12, 17, 23]
    for frame in episode.frames:
        truth = simulated.frames[frame.index % len(simulated.frames)]
        assert frame.things["object to move"].box == truth.things[simulated.target].box
        assert frame.gripper.box == truth.gripper.box
        np.testing.assert_allclose(frame.trace.array, truth.trace.array, atol=1e-9)
        assert frame.tool_point == frame.trace.points[0]
    assert [frame.subtask for frame in episode.frames] == ["pick it up"] * 3 + ["put it down"] * 3
    assert [frame.touching for frame in episode.frames] == [False, False, True, None, None, None]


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_facts_of_the_whole_episode_come_from_its_rows(sets, mapping, version):
    episode = read(sets[version], mapping).episode
    assert (episode.contact_index, episode.steps, episode.instruction) == (CONTACT, STEPS, "put the thing there")
    assert episode.contact_box == Box(10, 12, 40, 52)
    assert episode.contact_points.points == ((21.0, 32.0), (28.0, 33.0))
    assert episode.final_box == Box(20, 30, 60, 70)
    assert [(s.first, s.last, s.primitive) for s in episode.segments] == [(0, 11, "pick"), (12, 23, "place")]


def test_of_several_contacts_the_first_is_told(copy, mapping):
    """Ten rows tell of step 9, those after them of step 20 with another box."""
    rows = read_rows(copy)
    for row in rows[CONTACT + 1 : 21]:
        row |= {"annotation.contact_frame": "20", "annotation.affordance_box": "[[1, 2], [3, 4]]"}
    for row in rows[:3]:
        row |= {"annotation.affordance_box": ""}
    write_rows(copy / "data/chunk-000/episode_000000.parquet", rows)
    episode = read(copy, mapping).episode
    assert (episode.contact_index, episode.contact_box) == (CONTACT, Box(10, 12, 40, 52))


def test_labels_of_lower_quality_are_as_if_they_were_not_there(copy, mapping):
    set_cells(copy, "Q_annotation.object_box", "Secondary")
    boxes = [frame.things["object to move"].box for frame in read(copy, mapping).episode.frames]
    assert boxes == [None] * 6
    accepting = mapping.model_copy(update={"accepted_quality": ("Primary", "Secondary")})
    assert read(copy, accepting).episode.frames[0].things["object to move"].box is not None


@pytest.mark.parametrize(
    "written, places",
    [
        ([[32, 18], [64, 36]], {"coordinates": "pixel", "size": [320, 180]}),
        ([0.1, 0.1, 0.2, 0.2], {"coordinates": "unit"}),
        ([100, 100, 100, 100], {"coordinates": "per_mille", "corners": "xywh"}),
    ],
)
def test_boxes_are_brought_into_pixels_from_the_declared_form(copy, mapping, written, places):
    set_cells(copy, "annotation.object_box", json.dumps(written))
    declared = {"object_box": {"column": "annotation.object_box", "stored": "json", **places}}
    changed = Mapping.model_validate({**mapping.model_dump(), **declared})
    box = read(copy, changed).episode.frames[0].things["object to move"].box
    assert [box.x1, box.y1, box.x2, box.y2] == pytest.approx([19.6, 11.2, 39.2, 22.4])


def test_an_inclusive_box_reaches_to_the_edge_behind_its_last_pixel(copy, mapping):
    set_cells(copy, "annotation.object_box", json.dumps([3, 4, 5, 6]))
    places = {"column": "annotation.object_box", "stored": "json", "coordinates": "pixel", "inclusive": True}
    changed = Mapping.model_validate({**mapping.model_dump(), "object_box": places})
    assert read(copy, changed).episode.frames[0].things["object to move"].box == Box(3, 4, 6, 7)


def test_of_a_moving_camera_nothing_of_other_moments_is_known(sets, mapping):
    episode = read(sets["v2.1"], mapping.model_copy(update={"moving_camera": True})).episode
    assert (episode.contact_points, episode.contact_box, episode.final_box) == (None, None, None)
    assert [frame.trace for frame in episode.frames] == [None] * 6


@pytest.mark.parametrize("written", ["ITU601", "ITU709"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (40, 90, 160)])
def test_colours_are_right_in_both_ways_of_writing_them(tmp_path, colour, written):
    pictures = [np.full((64, 96, 3), colour, np.uint8)] * 3
    write_video(tmp_path / "v.mp4", pictures, colours=Colorspace[written])
    with Video(tmp_path / "v.mp4") as video:
        (picture,) = video.pictures([1], fps=FPS)
    assert np.abs(picture.astype(int) - colour).max() <= 6


def read_rows(root: Path) -> list[dict]:
    import pyarrow.parquet as pq  # noqa: PLC0415

    return pq.read_table(root / "data/chunk-000/episode_000000.parquet").to_pylist()


def set_cells(root: Path, column: str, value: object) -> None:
    """Writes the same value into every cell of a column of the first episode."""
    write_rows(root / "data/chunk-000/episode_000000.parquet", [{**row, column: value} for row in read_rows(root)])


def without_rows(root: Path) -> None:
    (root / "data/chunk-000/episode_000000.parquet").unlink()


def without_video(root: Path) -> None:
    (root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4").unlink()


def damaged_rows(root: Path) -> None:
    file = root / "data/chunk-000/episode_000000.parquet"
    file.write_bytes(file.read_bytes()[:-200])


def truncated_video(root: Path) -> None:
    file = root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_video_inside(root: Path) -> None:
    (root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4").write_bytes(b"<html>404</html>")


def playlist_instead_of_a_video(root: Path) -> None:
    content = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"
    (root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4").write_text(content)


def shorter_video(root: Path) -> None:
    pictures = [numbered(np.zeros((112, 196, 3), np.uint8), step) for step in range(STEPS - 3)]
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", pictures)


def smaller_video(root: Path) -> None:
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", [np.zeros((56, 98, 3), np.uint8)] * STEPS)


def other_length(root: Path) -> None:
    lines = (root / "meta/episodes.jsonl").read_text()
    (root / "meta/episodes.jsonl").write_text(lines.replace('"length": 24', '"length": 25', 1))


def without_column(root: Path) -> None:
    rows = [{name: cell for name, cell in row.items() if name != "annotation.object_box"} for row in read_rows(root)]
    write_rows(root / "data/chunk-000/episode_000000.parquet", rows)


def wild_box(root: Path) -> None:
    set_cells(root, "annotation.object_box", "[1, 2, 3, Infinity]")


def no_json(root: Path) -> None:
    set_cells(root, "annotation.object_box", "[" * 100_000)


def late_contact(root: Path) -> None:
    set_cells(root, "annotation.contact_frame", "99")


BROKEN = {
    without_rows: "is missing",
    without_video: "is missing",
    damaged_rows: "cannot be read",
    truncated_video: "video",
    no_video_inside: "no readable video",
    playlist_instead_of_a_video: "no readable video",
    shorter_video: "has 21 frames; the episode has 24 rows",
    smaller_video: "frames of 98x56; meta/info.json says 196x112",
    other_length: "has 24 rows of episode 0; its metadata says 25",
    without_column: "has no column 'annotation.object_box'",
    wild_box: "where plain coordinates is expected",
    no_json: "where JSON is expected",
    late_contact: "99 is no frame of 0 to 23",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_a_broken_episode_is_reported_and_costs_no_other(copy, tmp_path, mapping, damage):
    damage(copy)
    report = build_recorded(LeRobotConfig(copy, mapping, frames=2), tmp_path / "out", workers=1, console=QUIET)
    assert [(problem.episode, problem.severity) for problem in report.problems] == [(0, "error")]
    assert BROKEN[damage] in report.problems[0].reason
    assert "\n" not in report.problems[0].reason
    assert report.made == 1
    assert json.loads((tmp_path / "out/problems.json").read_text())[0]["episode"] == 0


class _Payload:
    """A pickle of it makes a file when it is read by Python's own reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickled_cell_that_would_run_something_runs_nothing(copy, tmp_path, mapping):
    set_cells(copy, "annotation.object_box", pickle.dumps(_Payload(tmp_path / "made")))
    places = {"column": "annotation.object_box", "stored": "pickle", "coordinates": "pixel"}
    changed = Mapping.model_validate({**mapping.model_dump(), "object_box": places})
    report = build_recorded(LeRobotConfig(copy, changed, frames=2), tmp_path / "out", workers=1, console=QUIET)
    assert [problem.episode for problem in report.problems] == [0, 1]
    assert "is a pickle that is not trusted: it holds 'io.open', which is code" in report.problems[0].reason
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("source: a b", "'source' is 'a b': string should match pattern"),
        ("source: x\nobject_box: {column: a}", "'object_box.Places.coordinates' is missing"),
        ("source: x\nbox: {}", "key 'box' is not known; nearest: "),
        ("source: x\nnames: '(?P<place>.)'", "has no group (?P<target>…)"),
        ("source: [", "is not YAML"),
    ],
)
def test_a_mapping_that_means_nothing_is_told_in_one_line(tmp_path, text, said):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_mapping(tmp_path / "m.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_codec_than_stated_is_a_warning(copy, tmp_path, mapping, successes):
    write_video(copy / f"videos/chunk-000/{CAMERA}/episode_000000.mp4", pictures_of(successes[0]), codec="mpeg4")
    report = build_recorded(LeRobotConfig(copy, mapping, frames=2), tmp_path / "out", workers=1, console=QUIET)
    assert [(problem.episode, problem.severity) for problem in report.problems] == [(0, "warning")]
    assert report.problems[0].reason.endswith("is coded as mpeg4; meta/info.json says h264.")


def test_a_path_that_leads_out_of_the_folder_is_refused(copy):
    info = json.loads((copy / "meta/info.json").read_text())
    info["video_path"] = "../../{video_key}.mp4"
    (copy / "meta/info.json").write_text(json.dumps(info))
    dataset = LeRobotDataset(copy)
    with pytest.raises(RefusedError, match="leads out of"):
        dataset.video(dataset.listed(0), CAMERA)


def test_a_folder_without_metadata_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match="no LeRobot dataset"):
        LeRobotDataset(tmp_path)


def test_an_unknown_camera_is_told_with_those_there_are(sets):
    with pytest.raises(RecipeError, match=r"camera 'wrist' is not in .*; it has observation\.images\.primary"):
        LeRobotDataset(sets["v3.0"]).camera("wrist")


def test_a_build_goes_on_where_it_was_broken_off_to_the_same_files(copy, tmp_path, mapping):
    config = LeRobotConfig(copy, mapping, frames=3, val_share=0.5)
    build_recorded(config, tmp_path / "whole", workers=2, console=QUIET)
    video = copy / f"videos/chunk-000/{CAMERA}/episode_000001.mp4"
    video.rename(copy / "away")
    first = build_recorded(config, tmp_path / "twice", workers=1, console=QUIET)
    (copy / "away").rename(video)
    second = build_recorded(config, tmp_path / "twice", workers=1, console=QUIET)
    assert (first.made, first.errors, second.made, second.reused, second.errors) == (1, 1, 1, 1, 0)
    assert contents(tmp_path / "twice") == contents(tmp_path / "whole")


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_both_versions_give_the_same_questions(sets, tmp_path, mapping):
    reports = [
        build_recorded(LeRobotConfig(sets[version], mapping, frames=4), tmp_path / version, workers=1, console=QUIET)
        for version in ("v2.1", "v3.0")
    ]
    assert reports[0].records == reports[1].records
    assert {"current_box", "final_box", "contact_box", "gripper_det", "contact_point"} <= set(
        reports[0].records["train"]
    )


def test_sides_are_split_by_episode_and_do_not_depend_on_the_order(sets, mapping):
    config = LeRobotConfig(sets["v2.1"], mapping, val_share=0.2)
    held_out = validation(range(100), config)
    assert len(held_out) == 20
    assert validation(range(99, -1, -1), config) == held_out


def test_the_command_makes_datasets_that_pass_the_check(sets, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--source", "lerobot", "--from", str(sets["v3.0"]), "--out", str(out), "--frames", "3", "--workers", "1"]
    assert run(["data", "build", *options, "--val-share", "0"]) == 0
    assert run(["data", "check", "robointer_gripper_det_train", "--catalog", str(out)]) == 0
    assert "2 episodes made" in capsys.readouterr().out


def test_the_command_without_a_folder_says_what_is_missing(tmp_path, capsys):
    assert run(["data", "build", "--source", "lerobot", "--out", str(tmp_path / "out")]) == 2
    assert "needs --from FOLDER" in capsys.readouterr().err


def test_a_build_without_pyav_says_what_to_install(sets, tmp_path, mapping, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(RecipeError, match=r"robointervlm\[lerobot\]"):
        build_recorded(LeRobotConfig(sets["v3.0"], mapping), tmp_path / "out", workers=1, console=QUIET)


def test_a_dataset_of_the_same_columns_does_not_get_into_another_ones_folder(copy, tmp_path, mapping):
    config = LeRobotConfig(copy, mapping, frames=2)
    build_recorded(config, tmp_path / "out", workers=1, console=QUIET)
    info = json.loads((copy / "meta/info.json").read_text()) | {"total_episodes": 7}
    (copy / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="holds another data set: dataset is"):
        build_recorded(config, tmp_path / "out", workers=1, console=QUIET)


@pytest.mark.skipif(not M1.is_dir(), reason="the InternVLA-M1 demonstration set is not here")
def test_the_two_recordings_of_internvla_m1_are_read_through_their_mapping(tmp_path):
    config = LeRobotConfig(M1, read_mapping(RECIPE), frames=4)
    report = build_recorded(config, tmp_path / "out", workers=1, console=QUIET)
    assert [problem.episode for problem in report.problems] == [2, 3]
    lines = (tmp_path / "out/Episodes/meta/train/internvla_m1/episodes.jsonl").read_text().splitlines()
    first = json.loads(lines[0])["frames"]
    assert [frame["index"] for frame in first] == [0, 137, 274, 411]
    assert (first[1]["subtask"], first[1]["touching"]) == ("lift the shoe", True)


@pytest.mark.skipif(not M1.is_dir(), reason="the InternVLA-M1 demonstration set is not here")
def test_boxes_of_internvla_m1_are_those_that_others_took_from_it():
    dataset, mapping = LeRobotDataset(M1), read_mapping(RECIPE)
    rows = [dataset.rows(listed, mapping.columns) for listed in map(dataset.listed, (0, 1))]
    annotated = json.loads((SHARED / "internvla_m1_frames" / "annotations.json").read_text())
    for frame in annotated:
        row = rows[frame["episode"]][frame["frame"]]
        for name, wanted in (("pick_box", mapping.object_box), ("place_box", mapping.place_box)):
            seen = box(row, wanted, ImageSize(640, 480))
            found = None if seen is None else [seen.box.x1, seen.box.y1, seen.box.x2 - 1, seen.box.y2 - 1]
            assert found == (frame[name] and frame[name]["box"])
        fingers = box(row, mapping.gripper_box, ImageSize(640, 480)).box
        sides = [fingers.x1, fingers.y1, fingers.x2, fingers.y2]
        assert sides == pytest.approx(frame["gripper_fingers_box"], abs=0.006)
    assert len(annotated) == 22
