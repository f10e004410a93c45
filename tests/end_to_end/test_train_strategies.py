"""DDP, FSDP2 and DeepSpeed's ZeRO on two CPU processes: one mathematics, whatever lies where."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.evaluate.score import score
from robointervlm.models.qwen2_5_vl import Section
from robointervlm.models.qwen2_5_vl.network import Qwen25VL
from robointervlm.models.qwen2_5_vl_moe.upcycle import Shape, upcycled
from robointervlm.runs.settings import load_recipe
from tiny_models import box_dataset, losses, train_arguments

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("strategies_worker.py")
SCRIPTS = Path(__file__).parents[2] / "qwen-vl-finetune" / "scripts"
ASK = "watch.validation={mixture: [boxes], every: 4, samples: 5, max_new_tokens: 8, batch_size: 2}"
COMMON = [
    *("mixture=[boxes,texts]", "run.max_steps=8", "batch.per_device=1", "data.max_bad_rate=0.9", "optim.clip=3.5"),
    *("optim.language_lr=1e-3", "optim.merger_lr=5e-4", "optim.vision_lr=2e-3", "optim.weight_decay=0.1"),
    ASK,
]
PACKED = ["batch.pack=shared", "batch.max_tokens=300", "run.max_steps=3"]
ZERO = {name: f"run.deepspeed={SCRIPTS / name}.json" for name in ("zero2", "zero3", "zero3_offload")}
# ZeRO-3 twice: the documented file keeps weights as small as these on every process; here none are.
SHARDED = "zero3_sharded"

if importlib.util.find_spec("deepspeed") is None:
    without = "DeepSpeed is not installed: pip install 'robointervlm[scale]'"
elif shutil.which("c++") is None and shutil.which("g++") is None:
    without = "DeepSpeed compiles its exchange over shared memory on a CPU, and there is no C++ compiler"
else:
    without = ""
needs_deepspeed = pytest.mark.skipif(bool(without), reason=without)
SHARING = ["fsdp", *(pytest.param(name, marks=needs_deepspeed) for name in (*ZERO, SHARDED))]
ALL = ["ddp", *SHARING]


def environment(extensions: Path) -> dict[str, str]:
    # What DeepSpeed compiles is kept for the next time where TORCH_EXTENSIONS_DIR says so.
    kept = {"TORCH_EXTENSIONS_DIR": str(extensions), **os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def in_two_processes(task: Path, base: dict[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, str(WORKER), str(task)]
    logs = [task.with_name(f"log-{rank}.txt") for rank in range(2)]
    processes = []
    for rank, log in enumerate(logs):
        numbered = {**base, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("w") as output:
            processes.append(subprocess.Popen(command, env=numbered, stdout=output, stderr=subprocess.STDOUT))
    try:
        end = time.monotonic() + 540
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            if any(process.poll() for process in processes):
                break  # the other would wait for it
            time.sleep(0.1)
        codes = [process.poll() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0], "\n".join(log.read_text()[-3000:] for log in logs)


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """A folder with a run of every strategy: undisturbed, stopped and resumed, packed; and what was observed."""
    folder = tmp_path_factory.mktemp("strategies")
    catalog = box_dataset(folder / "data", wordy=4, bad=[7])
    texts = [
        {"id": f"t{n}", "conversations": [{"from": "human", "value": "Open?"}, {"from": "gpt", "value": "Yes"}]}
        for n in range(6)
    ]
    (folder / "data" / "texts.json").write_text(json.dumps(texts))
    catalog.write_text(catalog.read_text() + "texts: {task: chat, annotations: texts.json}\n")
    strategies = {"ddp": [], "fsdp": ["run.strategy=fsdp"]}
    if not without:
        sharded = json.loads((SCRIPTS / "zero3.json").read_text())
        sharded["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        (folder / f"{SHARDED}.json").write_text(json.dumps(sharded))
        strategies |= {name: [setting] for name, setting in ZERO.items()}
        strategies[SHARDED] = [f"run.deepspeed={folder / SHARDED}.json"]
    task = {"model": str(tiny_folder), "catalog": str(catalog), "out": str(folder), "common": COMMON, "packed": PACKED}
    (folder / "task.json").write_text(json.dumps({**task, "strategies": strategies, "only_whole": False}))
    base = environment(tmp_path_factory.getbasetemp() / "extensions")
    in_two_processes(folder / "task.json", base)
    return folder, [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)], base


VARIANTS = {
    "checkpointed": ["run.gradient_checkpointing=true"],
    "lora": ["model.tune=[lora]", "optim.lora_lr=1e-2"],
    "lora-merger": ["model.tune=[lora,merger]", "optim.lora_lr=1e-2", "model.lora.vision=true"],
    "experts": ["model.tune=[language,experts]", "optim.experts_lr=1e-2"],
}
VARIED = {"fsdp": ["run.strategy=fsdp"], "zero2": [ZERO["zero2"]]}


@pytest.fixture(scope="module")
def varied(trained, tiny_folder, tmp_path_factory):
    """A run of each variant under ddp and the other strategies, and what the first process observed."""
    data, _, base = trained
    folder = tmp_path_factory.mktemp("variants")
    shape = Shape(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    upcycled(Qwen25VL.load(Section(path=str(tiny_folder), device="cpu")), shape, seed=0).save(folder / "moe")
    strategies = {"ddp": [], "fsdp": VARIED["fsdp"]}
    if not without:
        strategies |= {"zero2": VARIED["zero2"], SHARDED: [f"run.deepspeed={data / SHARDED}.json"]}
    runs = {
        f"{variant}-{strategy}": [
            *how,
            *more,
            *([f"model.path={json.dumps(str(folder / 'moe'))}"] if variant == "experts" else []),
        ]
        for variant, more in VARIANTS.items()
        for strategy, how in strategies.items()
    }
    task = {"model": str(tiny_folder), "catalog": str(data / "data" / "catalog.yaml"), "out": str(folder)}
    task |= {"common": COMMON, "packed": PACKED, "only_whole": True, "strategies": runs}
    (folder / "task.json").write_text(json.dumps(task))
    in_two_processes(folder / "task.json", base)
    return folder, json.loads((folder / "found-0.json").read_text())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "strategy", ["fsdp", *(pytest.param(name, marks=needs_deepspeed) for name in ("zero2", SHARDED))]
)
def test_a_strategy_learns_and_exports_what_ddp_does_whatever_is_trained(varied, strategy, variant):
    folder, found = varied
    name = f"{variant}-{strategy}"
    assert_same_course(folder / name, folder / f"{variant}-ddp")
    assert len(set(losses(folder / name).values())) == 8
    assert found[name]["wrong_keys"] == []
    # Low-rank updates are merged in the exported model and stand beside the weights in memory.
    assert found[name]["loaded"] == pytest.approx(found[name]["in_memory"], rel=1e-5)
    assert found[name]["answer"] == found[f"{variant}-ddp"]["answer"]
    assert (folder / f"{name}-model" / "adapter").is_dir() == variant.startswith("lora")


def numbers(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_course(ours: Path, theirs: Path) -> None:
    for one, other in zip(numbers(ours), numbers(theirs), strict=True):
        for name in ("loss", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), (one["step"], name)
        for name in ("step", "samples", "supervised", "bad", "lr_scale"):
            assert one[name] == other[name], name


@pytest.mark.parametrize("strategy", SHARING)
def test_a_strategy_learns_what_ddp_learns(trained, strategy):
    folder, _, _ = trained
    assert_same_course(folder / strategy, folder / "ddp")
    norms = [line["grad_norm"] for line in numbers(folder / strategy)]
    assert min(norms) < 3.5 < max(norms), "clipping is not tried"


@pytest.mark.parametrize("strategy", SHARING)
def test_a_strategy_learns_packed_rows_as_ddp_does(trained, strategy):
    folder, _, _ = trained
    assert_same_course(folder / f"{strategy}-packed", folder / "ddp-packed")


def test_a_process_without_pictures_computes_beside_one_with_pictures(trained):
    _, (first, second), _ = trained
    assert any(one != other for one, other in zip(first["ddp"]["pictures"], second["ddp"]["pictures"], strict=True))


@pytest.mark.parametrize("strategy", ALL)
def test_a_stopped_run_goes_on_as_if_undisturbed(trained, strategy):
    folder, _, _ = trained
    assert losses(folder / f"{strategy}-parts") == losses(folder / strategy)


@pytest.mark.parametrize("strategy", ALL)
def test_a_gradient_that_is_not_finite_is_not_applied(trained, strategy):
    _, found, _ = trained
    assert not any(math.isfinite(found[rank][strategy]["gradient"]) for rank in range(2))
    assert found[0][strategy]["unchanged"]


@pytest.mark.parametrize("strategy", ALL)
def test_the_exported_folder_loads_and_is_the_model_in_memory(trained, strategy):
    _, (found, _), _ = trained
    assert found[strategy]["wrong_keys"] == []
    assert found[strategy]["loaded"] == pytest.approx(found[strategy]["in_memory"], rel=1e-6)
    assert found[strategy]["answer"] == found["ddp"]["answer"]


@pytest.mark.parametrize("strategy", ALL)
def test_validation_asks_the_model_that_is_exported(trained, tmp_path, strategy):
    folder, _, _ = trained
    asked = [json.loads(line) for line in (folder / strategy / "validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in asked] == [0, 4, 8]
    replies = (folder / strategy / "validation" / "step-00000008.jsonl").read_text().splitlines()
    model, catalog = folder / f"{strategy}-model", folder / "data" / "catalog.yaml"
    settings = {"model.path": str(model), "data.catalog": [str(catalog)], "run.dir": str(tmp_path)}
    given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    more = ["model.device=cpu", "data.mixture=[boxes]", "decoding.max_new_tokens=8"]
    predict(load_recipe(EvaluationRecipe, None, [*given, *more]))
    score(tmp_path)
    said = {
        each["id"]: each["reply"] for each in map(json.loads, (tmp_path / "samples.jsonl").read_text().splitlines())
    }
    assert {each["id"]: each["reply"] for each in map(json.loads, replies)}.items() <= said.items()


@needs_deepspeed
def test_a_killed_zero3_run_goes_on_as_if_undisturbed(trained, tiny_folder, tmp_path):
    folder, _, base = trained
    more = [*COMMON, f"run.deepspeed={folder / SHARDED}.json", "run.save_every=2"]
    arguments = train_arguments(tiny_folder, folder / "data" / "catalog.yaml", tmp_path / "run", *more)
    command = [sys.executable, "-m", "robointervlm.cli", "train", *arguments, "--processes", "2"]
    process = subprocess.Popen(command, env=base, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while not (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir():
        assert time.monotonic() < end, "step 4 was not reached"
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert process.wait(timeout=300) == 137
    assert not (tmp_path / "run" / "result.json").exists()
    done = subprocess.run(command, env=base, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == losses(folder / SHARDED)
