"""The batch file that `robointer launch slurm` writes, run on the CPU with programs in the place of Slurm's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_train_nodes import free_port

from robointervlm.cli.main import run
from tiny_models import box_dataset, losses, train_arguments

pytestmark = pytest.mark.slow

# As srun does: one task per machine, SIGTERM handed on, the highest exit code of the tasks.
SRUN = r"""#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_NNODES=2 SLURM_JOB_NODELIST=127.0.0.1 SLURM_TASKS_PER_NODE="1(x2)"
SLURM_NODEID=0 SLURM_PROCID=0 "$@" & one=$!
SLURM_NODEID=1 SLURM_PROCID=1 "$@" & two=$!
trap 'kill -TERM $one $two' TERM
high=0
for task in $one $two; do
    while :; do code=0; wait "$task" || code=$?; [ $code -gt 128 ] && kill -0 "$task" 2>/dev/null || break; done
    [ $code -le $high ] || high=$code
done
exit $high
"""
SCONTROL = '#!/usr/bin/env bash\necho "$1" >>"$(dirname "$0")/asked"; echo JobState=RUNNING\n'


def test_a_job_that_is_stopped_saves_is_queued_again_and_goes_on(tiny_folder, tmp_path, monkeypatch):
    folder = tmp_path / "a folder"
    (folder / "bin").mkdir(parents=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    catalog = box_dataset(folder / "data")
    steps = 40
    more = [f"run.max_steps={steps}", "batch.per_device=1", "batch.accumulate=1", "optim.schedule=constant"]
    arguments = train_arguments(tiny_folder, catalog, folder / "run", *more)
    monkeypatch.chdir(folder)
    assert run(["launch", "slurm", *arguments, "--nodes", "2", "--gpus", "0", "-o", "job.sbatch"]) == 0

    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environment |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def job() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "job.sbatch"], env=environment | {"SLURM_JOB_ID": str(free_port() // 2)}, stderr=sys.stderr
        )

    first = job()
    metrics = folder / "run" / "metrics.jsonl"
    end = time.monotonic() + 240
    while time.monotonic() < end and not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=240) == 75
    assert (folder / "bin" / "asked").read_text().split() == ["show", "requeue"]
    assert 2 <= max(losses(folder / "run")) < steps
    assert job().wait(timeout=240) == 0
    assert sorted(losses(folder / "run")) == list(range(1, steps + 1))
    assert json.loads((folder / "run" / "result.json").read_text())["steps"] == steps
