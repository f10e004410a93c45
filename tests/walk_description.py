"""Tries the system's description row by row, as its reader would: `python tests/walk_description.py OUT [WORDS]`.

Makes data of every documented dataset in the published layout and a tiny checkpoint of each family below OUT, runs every
command there is in the description, and writes OUT/description.md: the command, its exit code, its last line, and whether
what the description promises is there. Exit code 1 if anything is not. Takes about half an hour on two cores; with WORDS only the rows
whose name holds them are tried.
"""

# ruff: noqa: E501 - a command line is read in one piece
from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from documented_mixture import SIZE as IMAGE_SIZE
from documented_mixture import documented_names, make_mixture
from faults.api_server import ApiServer
from robointervlm.data.mixture import Mixture
from robointervlm.data.spec import Catalog
from robointervlm.models.tiny import tiny_model
from robointervlm.train.data.labels import sample_texts
from scripted_benchmark import ROOT
from tiny_families import make_checkpoint
from tiny_models import SIZE

TYPES = ("contact_box", "current_box", "final_box", "gripper_det", "traj", "traj_wo_init_pos")
QUESTION_TYPES = ("default", "qwen_grounding", "refindoor", "w2p")
LANGUAGE_TYPES = ("qa", "bbox", "traj", "point")
FINETUNE, EVAL = "qwen-vl-finetune", "eval/benchmark/eval_manip"


@dataclass(frozen=True)
class Row:
    """One promise: the command, run in `folder` of the checkout, and what is to be there afterwards.

    `holds` raises or gives a text that says what is missing; `code` is the promised exit code.
    """

    part: str
    what: str
    command: str
    folder: str = "."
    code: int = 0
    holds: Callable[[str], str] = lambda _said: ""
    settings: dict[str, object] = field(default_factory=dict)


def files_are(*paths: Path) -> Callable[[str], str]:
    return lambda _said: ", ".join(f"{path} is missing" for path in paths if not path.exists())


def says(*texts: str) -> Callable[[str], str]:
    return lambda said: ", ".join(f"'{text}' is not said" for text in texts if text not in said)


class World:
    """Where everything lies that the rows use."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.data = out / "data"
        self.base = out / "Qwen2.5-VL-tiny"
        self.run = out / "results" / "my_experiment"
        self.logs = out / "logs"
        self.results = out / "evaluations"
        self.val = out / "val"
        self.archives = out / "archives"

    def make(self) -> None:
        trained = [name for name, spec in Catalog().items() if spec.split == "train" and not name.startswith("sim_")]
        make_mixture(self.data, trained)
        names = documented_names()
        tiny_model(sample_texts(Mixture(names, root=self.data)), SIZE, seed=0).save(self.base)
        for family in ("internvl", "llava_next", "robobrain", "qwen2_vl", "qwen3_vl", "llava_onevision"):
            make_checkpoint(family, self.out / "families" / family)
        parts = self.archives / "Generation" / "image"
        parts.mkdir(parents=True)
        with zipfile.ZipFile(parts / "rh20t.zip", "w") as archive:
            archive.write(self.data / "image" / "0.png", "rh20t/0.png")
        self.val.mkdir()
        for kind in (*TYPES, "contact_point"):
            name = next(each for each in trained if Catalog()[each].task == kind)
            records = json.loads(Catalog()[name].candidates(self.data)[0].read_text())[:3]
            (self.val / f"{kind}.json").write_text(json.dumps(records))
        for place, ids in (("planning", "Planning_Task"), ("choice", "Scene_Understanding"), ("decide", "Success_Neg")):
            self._language(place, ids + ("ative_Task" if ids == "Success_Neg" else ""))
        documented = {
            "id": "1",
            "image_path": "image/0.png",
            "question": "Where is the cup?",
            "ground_truth": "[1, 2, 30, 40]",
        }
        (self.val / "eval_data.json").write_text(json.dumps([documented]))
        training = {
            "id": "1",
            "image": "image/0.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhere is the cup?"},
                {"from": "gpt", "value": '{"current_bbox": [[1, 2], [30, 40]]}'},
            ],
        }
        (self.val / "training_data.json").write_text(json.dumps([training]))

    def _language(self, place: str, kind: str) -> None:
        answer = {"planning": "open the drawer", "choice": "A", "decide": "yes"}[place]
        records = [
            {
                "id": f"{kind}_{number}",
                "images": [f"image/{number}.png"],
                "conversations": [
                    {"from": "human", "value": f"<image>\nWhat is next ({number})?"},
                    {"from": "gpt", "value": answer},
                ],
            }
            for number in range(2)
        ]
        folder = self.val / place
        folder.mkdir()
        (folder / "task_planning.json").write_text(json.dumps(records))


def training(world: World) -> Iterator[Row]:
    few = {"MAX_STEPS": 3, "SAVE_STEPS": 2, "BATCH_SIZE": 2, "GRAD_ACCUM": 1, "PRETRAIN_MODEL": world.base}
    out = world.run
    yield Row(
        "Training",
        "two processes stand for 8 GPUs: ZeRO-3, the whole mixture, script kept, checkpoints, log",
        "bash scripts/sft.sh my_experiment 2",
        FINETUNE,
        holds=files_are(
            *(out / name for name in ("sft.sh", "job.out", "model/config.json", "checkpoints", "metrics.jsonl"))
        ),
        settings={**few, "OUTPUT_DIR": out},
    )
    yield Row(
        "Training",
        "run again, it is finished",
        "bash scripts/sft.sh my_experiment 2",
        FINETUNE,
        holds=says("is finished already"),
        settings={**few, "OUTPUT_DIR": out},
    )
    one = {**few, "DATASETS": "rh20t_vla_current_box_train"}
    for strategy in ("scripts/zero2.json", "scripts/zero3_offload.json", ""):
        name = Path(strategy).stem or "none"
        yield Row(
            "Training",
            f"DeepSpeed {name}",
            f"bash scripts/sft.sh {name} 2",
            FINETUNE,
            holds=files_are(out.parent / name / "model/config.json"),
            settings={**one, "DEEPSPEED": strategy, "OUTPUT_DIR": out.parent / name},
        )
    for variable, value in (("TUNE_VISION", "True"), ("TUNE_MLP", "True"), ("PACK", "shared"), ("REPORT_TO", "none")):
        name = variable.lower()
        yield Row(
            "Training",
            f"setting {variable}={value}",
            f"bash scripts/sft.sh {name} 0",
            FINETUNE,
            holds=files_are(out.parent / name / "model/config.json"),
            settings={**one, variable: value, "OUTPUT_DIR": out.parent / name},
        )
    yield Row(
        "Training",
        "the line numbers of the description",
        f"{shlex.quote(sys.executable)} -m pytest -q tests/launchers/test_line_numbers.py",
        holds=says("passed"),
    )
    yield Row(
        "Training parameters",
        "the documented defaults stand in the run's recipe",
        "sed -n '/optim:/,/clip/p;/batch:/,/max_tokens/p;/max_pixels/p;/min_pixels/p' "
        + shlex.quote(str(out / "recipe.yaml")),
        holds=says(
            "language_lr: 5.0e-06", "vision_lr: 1.0e-06", "schedule: cosine", "max_tokens: 8192", "12845056", "3136"
        ),
    )


def datasets(world: World) -> Iterator[Row]:
    names = [each for each, spec in Catalog().items() if spec.split == "train" and not each.startswith("sim_")]
    yield Row(
        "Dataset names",
        f"all {len(names)}, and the {len(documented_names())} that sft.sh takes among them",
        f"COLUMNS=200 robointer data check {' '.join(names)}",
        holds=says(*names),
    )
    for form in ("training_data", "eval_data"):
        yield Row(
            "Data format",
            f"the documented form of {form}",
            f"robointer data check {world.val}/{form}.json --task {'current_box' if form == 'training_data' else 'grounding'} "
            f"--coordinates pixel --image-dir {world.data}",
        )


def evaluation(world: World) -> Iterator[Row]:
    model = world.run / "model"
    where = f"--results_dir {world.results} --log_dir {world.logs} --max_error_rate 1"
    for kind in TYPES:
        for question in QUESTION_TYPES:
            yield Row(
                "Evaluation: 6 types x 4 question types",
                f"{kind}, {question}",
                f"python evaluation_intermediate.py --model_path {model} --json_path {world.val}/{kind}.json --image_dir "
                f"{world.data} --type {kind} --question_type {question} --batch_size 16 --max_new_tokens 8 {where}",
                EVAL,
                holds=files_are(world.logs / f"my_experiment_{kind}.log"),
            )
    for kind in LANGUAGE_TYPES:
        source = {
            "bbox": "current_box",
            "traj": "traj_wo_init_pos",
            "point": "contact_point",
            "qa": "choice/task_planning",
        }[kind]
        yield Row(
            "Language types",
            kind,
            f"python evaluation_intermediate_lang.py --model_path {model} --json_path {world.val}/{source}.json --image_dir "
            f"{world.data} --type {kind} --batch_size 16 --max_new_tokens 8 {where}",
            EVAL,
            holds=files_are(world.logs / f"my_experiment_{kind}.log"),
        )
    given = {
        "IMAGE_DIRS": world.data,
        "OUTPUT_DIR": world.results,
        "LOG_DIR": world.logs,
        "MAX_NEW_TOKENS": 8,
        "GPUS": 0,
    }
    yield Row(
        "Evaluation scripts",
        "eval.sh, the model given as OUTPUT_DIR of the training",
        "bash eval.sh",
        f"{EVAL}/scripts",
        holds=files_are(world.logs / "by_script_contact_box.log"),
        settings={
            **given,
            "MODEL_PATHS": world.run,
            "MODEL_NAMES": "by_script",
            "JSON_PATHS": world.val / "contact_box.json",
        },
    )
    files = ",".join(str(world.val / place / "task_planning.json") for place in ("planning", "choice", "decide"))
    zero2 = world.run.parent / "zero2" / "model"

    def six(_said: str) -> str:
        folders = [
            len(list((world.out / "planning" / name).glob("qa-*/report.json"))) for name in ("my_experiment", "zero2")
        ]
        logs = len(list((world.out / "planning-logs").glob("*_qa-*.log")))
        return "" if (folders, logs) == ([3, 3], 6) else f"results {folders}, logs {logs}"

    yield Row(
        "Planning",
        "three files of one name, two models called `model`: six results, six logs",
        "bash eval_lang.sh",
        f"{EVAL}/scripts",
        holds=six,
        settings={
            **given,
            **{"MODEL_PATHS": f"{world.run / 'model'},{zero2}", "JSON_PATHS": files, "TYPES": "qa"},
            **{"OUTPUT_DIR": world.out / "planning", "LOG_DIR": world.out / "planning-logs"},
        },
    )
    runs = f"{world.out}/planning/my_experiment/qa-decide-* {world.out}/planning/zero2/qa-decide-*"
    yield Row("Planning", "named right by compare", f"robointer compare {runs}", holds=says("my_experiment", "zero2"))
    yield Row(
        "Planning",
        "named right in a table",
        f"robointer report {runs} --table paper",
        holds=says("| my_experiment |", "| zero2 |"),
    )
    step = world.run / "checkpoints" / "step-00000002"
    yield Row(
        "infer.py",
        "qwen, a checkpoint of the training",
        f"python infer.py --model_type qwen --model_path {step} --prompt 'Where is the cup?' --images {world.data}/image/0.png "
        "--max_new_tokens 8",
        FINETUNE,
    )
    yield Row(
        "infer.py",
        "llava, in the layout it is published in",
        f"python infer.py --model_type llava --model_path {world.out}/families/llava_next --prompt 'Where is the cup?' "
        f"--images {world.data}/image/0.png {world.data}/image/1.png --max_new_tokens 8",
        FINETUNE,
    )


def baselines(world: World, endpoint: str) -> Iterator[Row]:
    given = {
        "IMAGE_DIRS": world.data,
        "OUTPUT_DIR": world.results,
        "LOG_DIR": world.logs,
        "MAX_NEW_TOKENS": 8,
        "GPUS": 0,
    }
    for name, family in (("internvl", "internvl"), ("llava", "llava_next"), ("robobrain", "robobrain")):
        yield Row(
            "Baselines",
            f"eval_{name}.sh",
            f"bash eval_{name}.sh",
            f"{EVAL}/scripts/eval_baseline",
            holds=files_are(
                world.logs / f"{name}_contact_box.log", world.results / name / "eval_details_contact_box.json"
            ),
            settings={
                **given,
                **{"MODEL_PATHS": world.out / "families" / family, "MODEL_NAMES": name},
                "JSON_PATHS": world.val / "contact_box.json",
            },
        )
    yield Row(
        "Baselines",
        "eval_api.sh, an endpoint on this machine",
        "bash eval_api.sh",
        f"{EVAL}/scripts/eval_baseline",
        holds=files_are(world.logs / "gpt4o_contact_box.log"),
        settings={
            **given,
            **{"MODEL_PATHS": "gpt4o", "MODEL_NAMES": "gpt4o", "BASE_URL": endpoint},
            "JSON_PATHS": world.val / "contact_box.json",
        },
    )
    for family in ("qwen2_vl", "qwen3_vl", "llava_onevision"):
        yield Row(
            "Baselines",
            f"{family} through the main script",
            f"python evaluation_intermediate.py --model_path {world.out}/families/{family} --json_path {world.val}/contact_box.json "
            f"--image_dir {world.data} --type contact_box --max_new_tokens 8 --results_dir {world.results} --log_dir {world.logs}",
            EVAL,
            holds=files_are(world.logs / f"{family}_contact_box.log"),
        )


def other_scorers(world: World) -> Iterator[Row]:
    here = "eval/benchmark/eval_llava_format"
    yield Row(
        "eval_llava_format",
        "what eval.sh wrote, scored by generation.py",
        f"python manip/generation.py --root {world.results} --model my_experiment --coordinates resized --gt_coordinates pixel",
        here,
        holds=files_are(world.results / "my_experiment/scores/contact_box/report.json"),
    )
    yield Row(
        "eval_llava_format",
        "the planning scorer",
        f"python manip/task_planning/eval.py {world.out}/planning/my_experiment",
        here,
        holds=says("planning"),
    )
    yield Row(
        "eval_llava_format",
        "run_eval.sh",
        "bash run_eval.sh",
        here,
        settings={"ROOT": world.results, "MODEL": "llava", "COORDINATES": "unit", "GT_COORDINATES": "pixel"},
    )
    yield Row(
        "VLMEvalKit",
        "without its own environment (docs/leaderboards.md): one line that says how to make it",
        "bash eval_all.sh",
        "eval/benchmark/eval_vlmevalkit",
        code=2,
        holds=says("docs/leaderboards.md"),
        settings={"MODEL_PATHS": world.run, "VLMEVALKIT_PYTHON": world.out / "none"},
    )
    yield Row(
        "Data scripts",
        "unpack_from_hf.py --dry_run",
        f"python data_process/unpack_from_hf.py --data_type all --dry_run --data_root {world.archives}",
    )
    yield Row("Data scripts", "check.py", "python data_process/check.py manipvqa_train")
    yield Row("Data scripts", "build_sim.py", f"python data_process/build_sim.py --episodes 2 --out {world.out}/sim")
    yield Row(
        "eval/utils",
        "metrics.py",
        "python -c 'import metrics; print([name for name in dir(metrics) if name[0].islower()])'",
        "eval/utils",
    )


def tried(row: Row, world: World) -> tuple[str, str, float]:
    """What is wrong with a row (nothing if it works), its last line, and the seconds it took."""
    environment = {
        **os.environ,
        **{"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ROBOINTER_PYTHON": sys.executable},
        **{"ROBOINTER_DATA": str(world.data), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        **{name: str(value) for name, value in row.settings.items()},
    }
    begin = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own command lines
        ["bash", "-c", row.command],
        cwd=ROOT / row.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begin
    lines = [line for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    if done.returncode != row.code:
        return f"exit code {done.returncode}", last, seconds
    return row.holds(done.stdout + done.stderr), last, seconds


class _Constant(dict[str, str]):
    """The same answer to every question."""

    def __missing__(self, question: str) -> str:
        return '{"contact_bbox": [[1, 2], [30, 40]]}'


def main(out: Path, words: str) -> int:
    world = World(out.resolve())
    world.out.mkdir(parents=True)
    world.make()
    table = ["| part | what | command | works | last line |", "| --- | --- | --- | --- | --- |"]
    wrong = 0
    server = ApiServer(_Constant())
    with server.serving() as endpoint:
        for row in [
            *datasets(world),
            *training(world),
            *evaluation(world),
            *baselines(world, endpoint),
            *other_scorers(world),
        ]:
            if words not in f"{row.part}: {row.what}":
                continue
            problem, last, seconds = tried(row, world)
            wrong += bool(problem)
            given = "".join(f"{name}={value} " for name, value in row.settings.items())
            command = f"{given}{row.command}".replace(str(world.out), "OUT").replace("|", "\\|")
            shown = last.replace(str(world.out), "OUT").replace("|", "\\|")[:160]
            table.append(
                f"| {row.part} | {row.what} | `{command}` | {'yes' if not problem else f'**no: {problem}**'} | {shown} |"
            )
            sys.stdout.write(f"{'ok ' if not problem else 'NO '} {seconds:6.1f} s  {row.part}: {row.what}  {problem}\n")
            sys.stdout.flush()
    table.append(f"\n{len(table) - 2} rows, {wrong} that do not work. Pictures of {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}.")
    (world.out / "description.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), " ".join(sys.argv[2:])))
