"""The batch file, and the part of a run that Slurm's variables say a process is."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robointervlm.cli.main import run
from robointervlm.cli.slurm import Job, batch_file
from robointervlm.core.errors import RecipeError
from robointervlm.launch.cluster import Asked, Node, Started, first_host, place, tasks_on
from scripted_benchmark import ROOT

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "16",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
    "SLURM_TASKS_PER_NODE": "8(x2)",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
}
TORCHRUN = {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "nodelist, first",
    [
        ("node[01-04,07],gpu3", "node01"),
        ("gpu3,node[01-04]", "gpu3"),
        ("rack[2-3]n[08,11]", "rack2n08"),
        ("node[9-12]-ib", "node9-ib"),
        ("a.cluster.org", "a.cluster.org"),
    ],
)
def test_the_first_host_of_a_list(nodelist, first):
    assert first_host(nodelist) == first


NUMBERS = st.lists(st.integers(0, 999), min_size=1, max_size=3)


@given(name=st.from_regex(r"[a-z][a-z-]{0,5}", fullmatch=True), numbers=NUMBERS, width=st.integers(1, 4), last=NUMBERS)
def test_the_first_host_is_the_first_number_as_it_is_written(name, numbers, width, last):
    padded = [f"{number:0{width}d}" for number in numbers]
    ranges = ",".join(f"{number}-{int(number) + 3:0{width}d}" for number in padded)
    more = ",".join(f"other{number}" for number in last)
    assert first_host(f"{name}[{ranges}],{more}") == f"{name}{padded[0]}"


@pytest.mark.parametrize("nodelist", ["", "node[", "node[a-b]", "node]1[", ",a"])
def test_a_list_that_is_none_is_an_error(nodelist):
    with pytest.raises(RecipeError, match="SLURM_JOB_NODELIST"):
        first_host(nodelist)


def test_tasks_per_node_are_read_as_slurm_writes_them():
    assert [tasks_on("8(x2),4", node) for node in range(3)] == [8, 8, 4]
    with pytest.raises(RecipeError, match="no machine number 3"):
        tasks_on("8(x2),4", 3)


def test_one_task_per_gpu_is_a_process_of_the_run():
    here = place(STEP, Asked())
    assert isinstance(here, Started)
    assert here.variables == {
        "RANK": "11",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "16",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": "24422",
    }


def test_one_task_per_machine_starts_its_processes():
    assert place(STEP | {"SLURM_NTASKS": "2"}, Asked(per_node=8)) == Node(1, 2, "gpu07", 24422)


def test_the_batch_script_of_a_job_is_no_task_of_it():
    assert place({name: value for name, value in STEP.items() if name != "SLURM_STEP_ID"}, Asked(8)) is None


def test_what_torchrun_has_started_runs_as_it_is():
    assert place(TORCHRUN, Asked()) == Started({})


def test_flags_say_it_for_machines_without_slurm():
    assert place({}, Asked(8, nodes=2, node_rank=1, master="node01:29500")) == Node(1, 2, "node01", 29500)


@pytest.mark.parametrize(
    "environment, asked, said",
    [
        (TORCHRUN, Asked(per_node=4), "--gpus or --processes together with WORLD_SIZE=4"),
        ({"WORLD_SIZE": "2"}, Asked(per_node=4), "WORLD_SIZE is set without RANK, LOCAL_RANK"),
        (STEP, Asked(per_node=4), "4 processes asked for, but Slurm has started 8"),
        (STEP, Asked(nodes=2, node_rank=0, master="a:1"), "--nodes, --node-rank, --master within a Slurm step"),
        ({}, Asked(nodes=2), "give --master HOST:PORT"),
        ({}, Asked(nodes=2, node_rank=2, master="a:29500"), "counted from 0"),
        ({}, Asked(nodes=2, node_rank=0, master="node01"), "HOST:PORT was expected"),
        ({}, Asked(node_rank=1), "give --nodes, too"),
    ],
)
def test_half_of_it_or_two_that_differ_are_an_error(environment, asked, said):
    with pytest.raises(RecipeError, match=said):
        place(environment, asked)


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text("#!/usr/bin/env bash\n" + text)
    (folder / name).chmod(0o755)


def submitted(tmp_path: Path, command: list[str], **job: object) -> subprocess.CompletedProcess[str]:
    """The batch file run as Slurm would, with a `srun` that runs the command once, and what `scontrol` was asked."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "srun", 'while [[ "$1" == --* ]]; do shift; done; exec "$@"\n')
    program(
        tmp_path / "bin", "scontrol", f'echo "$@" >>{shlex.quote(str(tmp_path / "scontrol"))}; echo JobState=RUNNING\n'
    )
    settings = {"name": "a job", "nodes": 1, "gpus": 8, "logs": tmp_path, **job}
    environment = {"ROBOINTER_DATA": str(tmp_path / "da'ta $HOME"), "HF_TOKEN": "hf_secret"}
    text = batch_file(Job(**settings), command, environment=environment, folder=tmp_path)  # type: ignore[arg-type]
    (tmp_path / "job.sbatch").write_text(text)
    assert "hf_secret" not in text
    assert subprocess.run(["bash", "-n", tmp_path / "job.sbatch"], check=False).returncode == 0
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", tmp_path / "job.sbatch"],
        env={"PATH": path, "SLURM_JOB_ID": "4711"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_word_of_the_command_and_the_environment_arrives_as_it_was(tmp_path):
    folder = tmp_path / 'it\'s a "folder" $(date) \\'
    told = "import os, sys; print(sys.argv[1:], os.environ['ROBOINTER_DATA'], os.getcwd(), sep='\\n')"
    words = ["run.dir=/a b/c", "mixture=[a%30,b]", "it's", '"', "$HOME", "\\", "a\nb", ""]
    done = submitted(folder, [sys.executable, "-c", told, *words])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{words}\n{folder}/da'ta $HOME\n{folder}\n"
    assert not (folder / "scontrol").exists()


@pytest.mark.parametrize("code, asked", [(75, ["show job --oneliner 4711", "requeue 4711"]), (3, []), (0, [])])
def test_only_a_job_that_stopped_and_saved_is_queued_again(tmp_path, code, asked):
    assert submitted(tmp_path, ["bash", "-c", f"exit {code}"]).returncode == code
    told = tmp_path / "scontrol"
    assert (told.read_text().splitlines() if told.exists() else []) == asked


def test_slurms_own_lines(tmp_path):
    job = Job("my run", 2, 8, tmp_path / "100% mine", partition="gpu", time="1-00:00:00", account="lab")
    lines = batch_file(job, ["true"], environment={}, folder=tmp_path).splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        '#SBATCH --job-name="my run"',
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --time=1-00:00:00",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --gpus-per-node=8",
        f'#SBATCH --output="{tmp_path}/100%% mine/slurm-%j.out"',
        f'#SBATCH --error="{tmp_path}/100%% mine/slurm-%j.err"',
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:TERM@120",
        "#SBATCH --requeue",
    ]


def test_a_line_cannot_be_smuggled_into_the_batch_file(tmp_path):
    with pytest.raises(RecipeError, match="control character"):
        batch_file(Job("x\n#SBATCH --uid=0", 1, 1, tmp_path), ["true"], environment={}, folder=tmp_path)


def test_sft_sh_is_run_with_its_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ["TASK_NAME=try it", "PRETRAIN_MODEL=/my models/qwen", f"OUTPUT_DIR={tmp_path}/my results"]
    script = ROOT / "qwen-vl-finetune/scripts/sft.sh"
    assert run(["launch", "slurm", str(script), *settings, "--gpus", "4", "-o", "job.sbatch"]) == 0
    text = (tmp_path / "job.sbatch").read_text()
    assert "    'TASK_NAME=try it' \\\n    'PRETRAIN_MODEL=/my models/qwen' \\\n" in text
    assert f"    bash \\\n    {script} \\\n    'try it' \\\n    4 &\n" in text
    assert (tmp_path / "my results").is_dir()


def test_a_recipe_that_means_nothing_is_an_error_before_the_queue(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wrong = ["model.path=x", "mixture=a", "run.dir=r", "optim.lr=1"]
    assert run(["launch", "slurm", *wrong, "-o", "job.sbatch"]) == 2
    assert "optim.lr" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
