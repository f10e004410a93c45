"""Says whether a change of the code changed what comes out of it: `python tests/same_outputs.py OUT [--against OTHER]`.

Runs, on tiny data and the base model of the demo, what users run (build, check, stats, index, trainings with a resume,
predictions in one process and in shares, score, report, compare, infer, export, the documented scripts), and keeps what
each printed beside what it wrote below OUT. With `--against`, the folder made by another commit, every file that differs
is listed, after times and places are masked; exit code 1 if there is one. About ten minutes on two cores.
"""

# ruff: noqa: E501, T201 - a command line is read in one piece
from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from scripted_benchmark import ROOT

BASE = "base"
RUN = f"model.path={BASE} model.tune=[language,merger,vision] model.device=cpu data.root=sim optim.language_lr=1e-3 run.save_every=20 run.seed=3"
MIXTURE = "mixture=[sim_gripper_det_train,sim_current_box_train%50,sim_traj_train%20]"
ASK = "--model packed/model --data sim_gripper_det_val,sim_current_box_val,sim_planning_val --limit 40"
SCRIPTS = ROOT / "eval" / "benchmark" / "eval_manip" / "scripts"

COMMANDS: dict[str, str] = {
    "build": "robointer data build --source sim --episodes 12 --val-episodes 6 --out sim --workers 1",
    "list": "robointer data list",
    "check": "robointer data check sim_gripper_det_train sim_current_box_train sim_traj_train sim_planning_val --json check.json",
    "check-ranges": "robointer data check sim_gripper_det_train --coordinates pixel",
    "stats": "robointer data stats sim_gripper_det_train sim_traj_train --out stats.html",
    "show": "robointer data show sim_gripper_det_train -n 3",
    "view": "robointer data view sim_current_box_train -n 4 --out view.html",
    "rewrite": "robointer data rewrite sim_gripper_det_train rewritten.json --to smart_resize_format",
    "index": "robointer data index sim_gripper_det_train --model base --workers 1",
    "plan": f"robointer train --plan {RUN} {MIXTURE} run.dir=planned batch.pack=shared batch.max_tokens=2048 run.max_steps=50",
    "packed-half": f"robointer train {RUN} {MIXTURE} run.dir=packed batch.pack=shared batch.max_tokens=2048 run.max_steps=50 augment.crop_min=0.6 optim.name=muon",
    "plain": f"robointer train {RUN} {MIXTURE} run.dir=plain batch.pack=none batch.per_device=2 run.max_steps=50 model.tune=[lora]",
    "two": f"robointer train {RUN} {MIXTURE} run.dir=two batch.pack=samples batch.max_tokens=2048 run.max_steps=6 --gpus 0 --processes 2",
    "finished": f"robointer train {RUN} {MIXTURE} run.dir=packed batch.pack=shared batch.max_tokens=2048 run.max_steps=50 augment.crop_min=0.6 optim.name=muon",
    "predict": f"robointer predict {ASK} --out one",
    "processes": f"robointer predict {ASK} --out processes --processes 2",
    "shard-1": f"robointer predict {ASK} --out shards --shard 1/2",
    "shard-2": f"robointer predict {ASK} --out shards --shard 2/2",
    "merge": "robointer score shards",
    "ray": f"robointer predict {ASK} --out ray --ray local",
    "base": f"robointer predict {ASK.replace('packed/model', BASE)} --out untrained",
    "again": "robointer score one",
    "report": "robointer report one --examples 6",
    "table": "robointer report one untrained --table paper",
    "compare": "robointer compare one untrained",
    "infer": "robointer infer --model packed/model --prompt 'Where is the gripper?' --images picture.png",
    "foreign": "robointer score theirs.json --kind current_box --coordinates pixel --out theirs",
    "coordinates": "robointer data coordinates theirs.json --kind current_box",
    "export": "robointer export lmms-eval --data sim_gripper_det_val --model-coordinates resized --out lmms",
    "upcycle": "robointer convert upcycle base moe",
    "slurm": f"robointer launch slurm -o job.sbatch --nodes 2 --gpus 4 {RUN} {MIXTURE} run.dir=slurm && cat job.sbatch",
    "build-slurm": "robointer data build --source sim --episodes 12 --out simslurm --slurm 4",
    "sft": "OUTPUT_DIR=$PWD/sft bash {ROOT}/qwen-vl-finetune/scripts/sft.sh ours 0",
    "eval": "OUTPUT_DIR=$PWD/documented MODEL_PATHS=packed MODEL_NAMES=tiny JSON_PATHS=val.json TYPES=gripper_det IMAGE_DIRS=sim BATCH_SIZE=4 MAX_NEW_TOKENS=24 LOG_DIR=$PWD/logs bash {SCRIPTS}/eval.sh",
    "unknown-name": "robointer data check sim_griper_det_train",
    "unknown-key": "robointer train run.dri=x",
    "no-model": "robointer predict --model nowhere --data sim_gripper_det_val --out nowhere-out",
}


def make(out: Path) -> None:
    out.mkdir(parents=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ROBOINTER_DATA": str(out / "sim"),
        "ROBOINTER_CACHE": str(out / "cache"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "160",
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PRETRAIN_MODEL": str(out / BASE),
        "DATASETS": "sim_gripper_det_train",
        "MAX_STEPS": "3",
    }
    (out / BASE).symlink_to(ROOT / "src" / "robointervlm" / "assets" / "tiny-grounding")
    said = out / "said"
    said.mkdir()
    started = time.monotonic()
    for name, command in COMMANDS.items():
        if name == "packed-half":
            _stopped_in_the_middle(command, out, environment)
        if name == "infer":
            _little_files(out)
        line = command.replace("{ROOT}", str(ROOT)).replace("{SCRIPTS}", str(SCRIPTS))
        done = subprocess.run(
            ["bash", "-c", line], cwd=out, env=environment, capture_output=True, text=True, check=False
        )
        (said / f"{name}.txt").write_text(
            f"exit code {done.returncode}\n--- out\n{done.stdout}\n--- err\n{done.stderr}"
        )
        print(f"{time.monotonic() - started:6.0f} s  exit code {done.returncode}  {name}", flush=True)


def _stopped_in_the_middle(command: str, out: Path, environment: dict[str, str]) -> None:
    """Ended by SIGKILL once its first checkpoint is there, so that the same command then goes on from it."""
    running = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=out,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while running.poll() is None and not (out / "packed" / "checkpoints" / "step-20" / "COMPLETE").exists():
        if list((out / "packed" / "checkpoints").glob("step-*")):
            time.sleep(1)
            break
        time.sleep(0.1)
    running.kill()
    running.wait()


def _little_files(out: Path) -> None:
    Image.new("RGB", (196, 112), (90, 120, 60)).save(out / "picture.png")
    rows = [{"id": str(n), "gt": [[10, 20], [50 + n, 60]], "response": f"[{10 + n}, 20, 50, 60]"} for n in range(5)]
    (out / "theirs.json").write_text(json.dumps(rows))
    found = next((out / "sim" / "Generation" / "meta" / "val").rglob("*gripper_det*.json"))
    (out / "val.json").write_text(json.dumps(json.loads(found.read_text())[:4]))


# What differs from one run of the same code to the next.
_VOLATILE_KEYS = re.compile(
    r"second|time|date|started|written_at|per_s|host|pid|memory|rss|mtime|commit|elapsed|speed|flops|^check$|^files$",
    re.I,
)
_MASKS = [
    (re.compile(r"robointervlm(\.\w+)+:"), "MODULE:"),  # of a log line
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:\d\d)?"), "DATE"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (
        re.compile(
            r"[\d.,]+ ?(ms|s|seconds?|minutes?|min|hours?|h|GB|MB|MiB|GiB|kB|tokens/s|samples/s|TFLOP/s|GFLOP/s|%)\b"
        ),
        "N UNIT",
    ),
    (re.compile(r"\b127\.0\.0\.1:\d+|pid[ =]\d+|\bport \d+"), "PLACE"),
    (re.compile(r"/tmp/[\w./-]*"), "TMP"),
]
# `state.pt` and the curves hold how long it took; weights and losses stand beside them.
# Lines that come by the clock, or hold nothing but speed.
_TIMED = re.compile(
    r"step \d+ of \d+ |^(seconds|samples_per|tokens_per)\w*:|answered \d+ of|^\s+samples/s|supervised/s"
)
_SKIPPED = re.compile(r"curves\.(html|png)$|state\.pt$|(^|/)(cache/|said/ray|.*\.lock$)|__pycache__")


def masked(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "OUT").replace(str(ROOT), "ROOT")
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return text


def _plain(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each, folder) for key, each in value.items() if not _VOLATILE_KEYS.search(key)}
    if isinstance(value, list):
        return [_plain(each, folder) for each in value]
    return masked(value, folder) if isinstance(value, str) else value


def content(file: Path, folder: Path) -> Any:
    """A file as it is compared: JSON without what is timed, text masked, everything else as bytes."""
    raw = file.read_bytes()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw
    try:
        if file.suffix == ".json":
            return json.dumps(_plain(json.loads(text), folder), indent=1)
        if file.suffix == ".jsonl":
            return "\n".join(json.dumps(_plain(json.loads(line), folder)) for line in text.splitlines())
        if "log" in file.name or file.parent.name in ("logs", "said"):
            text = "\n".join(line for line in text.splitlines() if not _TIMED.search(line))
    except ValueError:
        pass
    return masked(text, folder)


def compare(new: Path, old: Path) -> int:
    files = {
        folder: {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and not _SKIPPED.search(str(path.relative_to(folder)))
        }
        for folder in (new, old)
    }
    differing = 0
    for name in sorted(files[new] | files[old]):
        if name not in files[new] or name not in files[old]:
            print(f"only in {new if name in files[new] else old}: {name}")
            differing += 1
            continue
        first, second = content(old / name, old), content(new / name, new)
        if first == second:
            continue
        differing += 1
        print(f"differs: {name}")
        if isinstance(first, str) and isinstance(second, str):
            for line in list(difflib.unified_diff(first.splitlines(), second.splitlines(), lineterm="", n=0))[2:14]:
                print(f"    {line[:200]}")
    print(f"{len(files[new] | files[old])} files, {differing} differ")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    out = given.out.resolve()
    if not out.exists():
        make(out)
    return 1 if given.against and compare(out, given.against.resolve()) else 0


if __name__ == "__main__":
    sys.exit(main())
