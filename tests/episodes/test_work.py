"""Who makes the episodes changes no byte: one process, several, Ray, or shares that are merged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from deadly_recordings import DeadlyConfig
from hypothesis import given
from hypothesis import strategies as st
from lerobot_sets import CAMERA, write_v2
from rich.console import Console
from work_jobs import divide_by, fail_at_two, touch, touch_or_end

from robointervlm.cli.main import run
from robointervlm.core.errors import DataError, ExhaustedError, RecipeError
from robointervlm.episodes.assemble import Assembly
from robointervlm.episodes.build import BuildConfig, build
from robointervlm.episodes.lerobot.mapping import ROBOINTER, read_mapping
from robointervlm.episodes.recorded import build_recorded
from robointervlm.episodes.sources import LeRobotConfig
from robointervlm.episodes.work import Crew, claim
from robointervlm.jobs.ray_cluster import cluster
from robointervlm.jobs.share import Share

QUIET = Console(quiet=True)
SMALL = BuildConfig(seed=5, train_episodes=4, val_episodes=2, frames=2)


def tree(root: Path) -> dict[str, str]:
    """Every file under a folder with the hash of its content."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    root = tmp_path_factory.mktemp("sim") / "data"
    build(SMALL, root, workers=1, console=QUIET)
    return tree(root)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, successes):
    """Six recordings, the video of one of which is missing."""
    pytest.importorskip("av")
    folder = write_v2(tmp_path_factory.mktemp("lerobot") / "v2", successes[:6])
    (folder / f"videos/chunk-000/{CAMERA}/episode_000003.mp4").unlink()
    return LeRobotConfig(folder, read_mapping(ROBOINTER), frames=3, val_share=0.34)


@pytest.fixture(scope="module")
def recorded(recordings, tmp_path_factory):
    root = tmp_path_factory.mktemp("recorded") / "data"
    report = build_recorded(recordings, root, workers=1, console=QUIET)
    assert (report.made, report.errors) == (5, 1)
    return tree(root)


@given(st.integers(0, 40), st.integers(1, 9))
def test_every_episode_is_in_exactly_one_share(episodes, shares):
    jobs = [("train", number) for number in range(episodes)]
    parts = [list(Crew(share=Share(number + 1, shares)).jobs(jobs)) for number in range(shares)]
    assert sorted(job for part in parts for job in part) == jobs
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["3", "0/3", "1/2/3"])
def test_a_share_that_is_none_is_told_with_how_to_write_one(text, tmp_path, capsys):
    assert run(["data", "build", "--out", str(tmp_path / "out"), "--shard", text]) == 2
    assert capsys.readouterr().err == f"error: share '{text}' is none; write the third of eight as 3/8.\n"


def test_three_shares_merged_are_what_one_process_makes(simulated, tmp_path):
    for number in (3, 1, 2):
        report = build(SMALL, tmp_path, crew=Crew(1, share=Share(number, 3)), console=QUIET)
        assert (report.made, report.records) == (2, {})
    report = build(SMALL, tmp_path, crew=Crew(merge=True), console=QUIET)
    assert (report.made, report.reused) == (0, 6)
    assert tree(tmp_path) == simulated


def test_a_merge_before_all_shares_are_done_says_what_is_missing(tmp_path):
    build(SMALL, tmp_path, crew=Crew(1, share=Share(1, 6)), console=QUIET)
    with pytest.raises(DataError, match="5 episodes are not made yet, the first is 1 of train"):
        build(SMALL, tmp_path, crew=Crew(merge=True), console=QUIET)
    assert not list(tmp_path.glob("*/meta"))


def test_shares_of_recordings_merge_to_the_same_files_with_a_broken_one_among_them(recordings, recorded, tmp_path):
    errors = [
        build_recorded(recordings, tmp_path, crew=Crew(1, share=Share(number, 2)), console=QUIET).errors
        for number in (1, 2)
    ]
    assert sorted(errors) == [0, 1]
    report = build_recorded(recordings, tmp_path, crew=Crew(merge=True), console=QUIET)
    assert (report.made, report.reused, report.errors) == (0, 5, 1)
    assert tree(tmp_path) == recorded


def test_a_merge_makes_nothing_and_takes_no_cluster():
    with pytest.raises(RecipeError, match="a merge makes no episodes"):
        Crew(merge=True, share=Share(1, 2))


def test_shares_that_begin_at_the_same_moment_agree_on_the_manifest(tmp_path):
    root = tmp_path / "out"
    root.mkdir()
    (root / ".manifest-2").write_text("half")  # of another share, which is writing
    (root / "..manifest-3.partial").write_text("ha")
    claim(root, {"source": "sim"}, Share(1, 3))
    (root / ".shards").mkdir()
    claim(root, {"source": "sim"}, Share(2, 3))
    assert json.loads((root / "manifest.json").read_text()) == {"source": "sim"}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_wrong_with_a_job_reaches_the_one_who_asked(tmp_path, workers):
    jobs = [("train", number) for number in range(4)]
    with pytest.raises(DataError, match="episode 2 of train is odd"):
        Crew(workers).run(fail_at_two, jobs, 4, root=tmp_path, console=QUIET)


@pytest.mark.slow
def test_a_job_whose_process_dies_costs_no_other(tmp_path):
    lost = []
    jobs = ((str(tmp_path), number) for number in range(20))
    Crew(2).run(touch_or_end, jobs, 20, root=tmp_path, console=QUIET, lost=lost.append)
    assert sorted(number for _, number in lost) == [2, 17]
    assert {int(path.name) for path in tmp_path.iterdir()} == {*range(20)} - {2, 17}


def test_a_process_that_dies_ends_a_build_that_cannot_do_without_its_episode(tmp_path):
    jobs = [(str(tmp_path), number) for number in range(4)]
    with pytest.raises(ExhaustedError, match="a process died while it made episode 2 of"):
        Crew(2).run(touch_or_end, jobs, 4, root=tmp_path, console=QUIET)


@pytest.mark.slow
def test_an_episode_that_kills_its_process_is_left_out(recordings, tmp_path):
    deadly = DeadlyConfig(recordings.folder, recordings.mapping, frames=3)
    report = build_recorded(deadly, tmp_path, workers=2, console=QUIET)
    assert (report.made, [problem.episode for problem in report.problems]) == (4, [2, 3])
    assert "the process that read it died" in report.problems[0].reason


def test_jobs_are_handed_out_a_few_at_a_time(tmp_path):
    handed = []

    def jobs():
        for number in range(200):
            handed.append(number)
            # Those that are done have left a file.
            assert number - len(list(tmp_path.iterdir())) <= 10
            yield str(tmp_path), number

    Crew(2).run(touch, jobs(), 200, root=tmp_path, console=QUIET)
    assert handed == list(range(200))


def peak_of_assembling(root: Path, shard: bytes, episodes: int) -> int:
    """Bytes that were in use at most."""
    for number in range(episodes):
        file = root / f".shards/train/{number:07d}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(shard)
    tracemalloc.start()
    try:
        Assembly(root, "sim").split("train", range(episodes))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path):
    records = [{"id": str(number), "gt": "Yes"} for number in range(100)]
    balances = [["", "Yes" if number % 3 else "No", 2] for number in range(100)]
    shard = {"episode": {}, "records": {"contact_decide": records}, "balances": {"contact_decide": balances}}
    content = json.dumps(shard).encode()
    few, many = (peak_of_assembling(tmp_path / str(count), content, count) for count in (5, 200))
    assert many < 1.2 * few
    file = tmp_path / "200/Understanding/meta/train/sim/contact_decide.json"
    # 34 of each hundred are a No, and as many Yes are kept.
    assert len(json.loads(file.read_text())) == 200 * 68


def test_a_damaged_shard_is_told_with_the_remedy(tmp_path):
    (tmp_path / ".shards/train").mkdir(parents=True)
    (tmp_path / ".shards/train/0000000.json").write_text("{")
    with pytest.raises(DataError, match="remove it, its episode is then made again"):
        Assembly(tmp_path, "sim").split("train", [0])


def test_an_unknown_source_is_told_with_the_known_ones(tmp_path, capsys):
    assert run(["data", "build", "--source", "film", "--out", str(tmp_path / "out")]) == 2
    assert "--source film is not known; sim, lerobot, lmdb are." in capsys.readouterr().err


def test_the_batch_file_repeats_the_command_as_parts_and_as_their_merge(tmp_path, capsys):
    out = tmp_path / "my data"
    command = ["data", "build", "--out", str(out), "--episodes", "2", "--val-episodes", "0", "--tasks", "traj"]
    assert run([*command, "--slurm", "2"]) == 0
    text = capsys.readouterr().out
    assert "--array=1-2" in text
    assert not out.exists()
    batch = tmp_path / "build.sbatch"
    batch.write_text(text.replace("\nexec ", "\nprintf '%s\\n' "))
    place = {**os.environ, "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "3"}
    part = subprocess.run(["bash", str(batch)], env=place, capture_output=True, text=True, check=True).stdout
    asked = ["--out", str(out), "--episodes", "2", "--val-episodes", "0", "--tasks", "traj"]
    assert part.splitlines()[3:] == ["data", "build", *asked, "--shard", "2/2", "--workers", "3"]
    merge = subprocess.run(["bash", str(batch)], capture_output=True, text=True, check=True).stdout
    assert merge.splitlines()[3:] == ["data", "build", *asked, "--merge"]


@pytest.mark.slow
def test_ray_makes_the_same_files_and_tells_what_is_wrong(simulated, recordings, recorded, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    # Jobs of this folder are found by Ray's processes, too.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    crew = Crew(2, ray="local")
    with cluster("local", 2):  # one for all; it takes long to start
        build(SMALL, tmp_path / "sim", crew=crew, console=QUIET)
        assert tree(tmp_path / "sim") == simulated
        report = build_recorded(recordings, tmp_path / "recorded", crew=crew, console=QUIET)
        assert (report.made, report.errors) == (5, 1)
        assert tree(tmp_path / "recorded") == recorded
        with pytest.raises(DataError, match="episode 2 of train is odd"):
            crew.run(fail_at_two, [("train", number) for number in range(4)], 4, root=tmp_path, console=QUIET)
        with pytest.raises(ray.exceptions.RayTaskError, match="ZeroDivisionError"):
            crew.run(divide_by, [("train", 0)], 1, root=tmp_path, console=QUIET)
        with pytest.raises(ExhaustedError, match="Ray lost the work"):
            crew.run(touch_or_end, [(str(tmp_path), 2)], 1, root=tmp_path, console=QUIET)


@pytest.mark.parametrize("broken_off", [0, 2, 4])
def test_a_build_of_recordings_that_lost_its_end_goes_on_to_the_same_files(recordings, recorded, tmp_path, broken_off):
    build_recorded(recordings, tmp_path, workers=1, console=QUIET)
    shards = sorted((tmp_path / ".shards").glob("*/*.json"))
    for shard in shards[broken_off:]:
        shard.unlink()
    for name in ("Generation", "Understanding", "Task_planning", "Episodes"):
        shutil.rmtree(tmp_path / name / "meta", ignore_errors=True)
    build_recorded(recordings, tmp_path, workers=1, console=QUIET)
    assert tree(tmp_path) == recorded
