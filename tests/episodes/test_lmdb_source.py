"""RoboInter's LMDB layout as a source: the same questions as of the same recordings in LeRobot's layout."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

pytest.importorskip("lmdb")
pytest.importorskip("av")

import lmdb
from lerobot_sets import pictures_of, rows_of, write_v2

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.episodes.lerobot.mapping import ROBOINTER, read_mapping
from robointervlm.episodes.lmdb import LmdbConfig
from robointervlm.episodes.recorded import build_recorded
from robointervlm.episodes.sources import LeRobotConfig

QUIET = Console(quiet=True)
NAMES = ("7_exterior_image_1_left", "RH20T_cfg1_task_3")


def write(folder: Path, content: dict[bytes, bytes]) -> Path:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for key, value in content.items():
            transaction.put(key, value)
    return folder


def labels(row: dict) -> dict:
    """The cells of a row as the LMDB has them: plain values, None where nothing is known."""
    found = {}
    for name, cell in row.items():
        if name.startswith("annotation."):
            try:
                found[name.removeprefix("annotation.")] = json.loads(cell) if cell else None
            except ValueError:
                found[name.removeprefix("annotation.")] = cell
    return found


def png(picture: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, successes):
    """Two recordings: their folder, and their labels in an LMDB and in a pickle."""
    root = tmp_path_factory.mktemp("lmdb")
    table = {}
    for index, name in enumerate(NAMES):
        pictures = pictures_of(successes[index])
        keys = [f"primary/{step}".encode() for step in range(len(pictures))]
        stored = {key: pickle.dumps(png(picture)) for key, picture in zip(keys, pictures, strict=True)}
        write(root / "episodes" / name / "lmdb", stored)
        (root / "episodes" / name / "meta_info.pkl").write_bytes(pickle.dumps({"keys": {"primary": keys}}))
        table[name] = {step: labels(row) for step, row in enumerate(rows_of(successes[index], index, 0))}
    write(root / "labels", {name.encode(): pickle.dumps(found) for name, found in table.items()})
    (root / "labels.pkl").write_bytes(pickle.dumps(table))
    return root


def config(root: Path, labels: str = "labels") -> LmdbConfig:
    return LmdbConfig(
        root / "episodes", read_mapping(LmdbConfig.columns), frames=4, val_share=0.0, annotations=root / labels
    )


def episodes(root: Path) -> list[dict]:
    lines = (root / "Episodes/meta/train/robointer/episodes.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_labels_are_those_of_the_same_recordings_in_the_other_layout(recordings, successes, tmp_path):
    build_recorded(config(recordings), tmp_path / "lmdb", workers=1, console=QUIET)
    lerobot = LeRobotConfig(write_v2(tmp_path / "v2", successes[:2]), read_mapping(ROBOINTER), frames=4, val_share=0.0)
    build_recorded(lerobot, tmp_path / "lerobot", workers=1, console=QUIET)
    found, expected = episodes(tmp_path / "lmdb"), episodes(tmp_path / "lerobot")
    assert [episode.pop("id") for episode in found] == [f"robointer_{name}" for name in NAMES]
    for episode in found + expected:
        episode.pop("id", None)
        for frame in episode["frames"]:
            frame.pop("picture")
    assert found == expected
    assert found[0]["contact_points"] == [[21.0, 32.0], [28.0, 33.0]]


def test_a_pickle_of_all_labels_gives_the_same_files_as_the_table(recordings, tmp_path):
    for kind in ("labels", "labels.pkl"):
        build_recorded(config(recordings, kind), tmp_path / kind, workers=1, console=QUIET)
    files = [
        {
            path.relative_to(tmp_path / kind): path.read_bytes()
            for path in (tmp_path / kind).rglob("*")
            if path.is_file()
        }
        for kind in ("labels", "labels.pkl")
    ]
    assert files[0] == files[1]


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def a_payload(table, made):
    return pickle.dumps(Payload(made))


def no_frames(table, made):
    return pickle.dumps([1, 2])


def a_frame_too_many(table, made):
    return pickle.dumps({**table, 24: table[0]})


def without_a_column(table, made):
    return pickle.dumps({frame: {k: v for k, v in row.items() if k != "trace"} for frame, row in table.items()})


def a_wild_box(table, made):
    return pickle.dumps({**table, 0: {**table[0], "object_box": [[1, 2], [3, float("nan")]]}})


def cut(table, made):
    return pickle.dumps(table)[:-20]


BROKEN = {
    a_payload: "is a pickle that is not trusted: it holds 'io.open', which is code",
    no_frames: "are no dictionary of frames",
    a_frame_too_many: "are of frame 24; it has 24 frames",
    without_a_column: "have no column 'trace'",
    a_wild_box: "where plain coordinates is expected",
    cut: "is a damaged pickle",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda damage: damage.__name__)
def test_damaged_labels_cost_their_episode_only_and_run_nothing(recordings, tmp_path, damage):
    table = pickle.loads((recordings / "labels.pkl").read_bytes())
    broken = {NAMES[0].encode(): damage(table[NAMES[0]], tmp_path / "made")}
    write(tmp_path / "labels", {NAMES[1].encode(): pickle.dumps(table[NAMES[1]]), **broken})
    wanted = LmdbConfig(recordings / "episodes", read_mapping(LmdbConfig.columns), annotations=tmp_path / "labels")
    report = build_recorded(wanted, tmp_path / "out", workers=1, console=QUIET)
    assert (report.made, [problem.episode for problem in report.problems]) == (1, [0])
    assert BROKEN[damage] in report.problems[0].reason
    assert not (tmp_path / "made").exists()


def test_an_episode_without_pictures_or_with_a_wild_name_is_left_out(recordings, tmp_path):
    table = pickle.loads((recordings / "labels.pkl").read_bytes())
    (tmp_path / "labels.pkl").write_bytes(
        pickle.dumps({"../out": table[NAMES[0]], "absent": table[NAMES[0]], NAMES[1]: table[NAMES[1]]})
    )
    wanted = LmdbConfig(recordings / "episodes", read_mapping(LmdbConfig.columns), annotations=tmp_path / "labels.pkl")
    report = build_recorded(wanted, tmp_path / "out", workers=1, console=QUIET)
    reasons = {problem.episode: problem.reason for problem in report.problems}
    assert "an episode is called '../out'" in reasons[0]
    assert "absent/meta_info.pkl cannot be opened" in reasons[2]
    assert report.made == 1


def test_exchanged_colours_are_put_right_if_the_mapping_says_so(recordings):
    wanted = config(recordings)
    exchanged = LmdbConfig(
        wanted.folder, wanted.mapping.model_copy(update={"channels": "bgr"}), annotations=wanted.annotations
    )
    plain, turned = wanted.open().pictures(0, [2])[0], exchanged.open().pictures(0, [2])[0]
    assert np.array_equal(plain[..., ::-1], turned)
    assert not np.array_equal(plain, turned)


def test_missing_labels_are_told(recordings, tmp_path):
    mapping = read_mapping(LmdbConfig.columns)
    with pytest.raises(RecipeError, match="needs --annotations"):
        LmdbConfig(recordings / "episodes", mapping).open()
    with pytest.raises(DataError, match="nothing is missing; the labels are expected there"):
        LmdbConfig(recordings / "episodes", mapping, annotations=tmp_path / "nothing").open()


def test_the_command_makes_datasets_that_pass_the_check(recordings, tmp_path, capsys):
    options = ["--from", str(recordings / "episodes"), "--annotations", str(recordings / "labels"), "--frames", "3"]
    out = tmp_path / "out"
    command = ["data", "build", "--source", "lmdb", *options, "--out", str(out), "--processes", "1"]
    assert run([*command, "--val-share", "0"]) == 0
    assert run(["data", "check", "robointer_gripper_det_train", "--catalog", str(out)]) == 0
    assert "2 episodes made" in capsys.readouterr().out
