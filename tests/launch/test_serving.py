"""Serving a checkpoint: what is refused before anything starts, the engines' command lines, and how they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import scan_cache_dir
from safetensors.numpy import save_file

from robointervlm.core.errors import ModelError, RecipeError
from robointervlm.launch import serving
from robointervlm.launch.serving import Served

# Stands for vLLM: a server that wants its key from the environment, with a worker that would outlive it.
FAKE = """
import http.server, json, os, subprocess, sys
arguments = sys.argv[1:]
if "--fail" in arguments:
    sys.exit(7)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
seen = {"arguments": arguments, "key": os.environ.get("VLLM_API_KEY"), "worker": worker.pid}
open(os.environ["FAKE_SEEN"], "w").write(json.dumps(seen))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(arguments[arguments.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 3136, "longest_edge": 200704}}')
    return folder


@pytest.fixture
def vllm(tmp_path, monkeypatch) -> Path:
    """An environment whose vLLM is the stand-in; where it writes what it was given."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "main.py").write_text(FAKE)
    seen = tmp_path / "seen.json"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("FAKE_SEEN", str(seen))
    return seen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_transformers_is_told_where_to_listen_and_what_to_compute_in(checkpoint):
    served = Served(checkpoint, port=8123, dtype="float32", device="cpu", python=Path("/env/python"), extra=("--x",))
    assert serving.command(served, "transformers") == [
        *("/env/python", "-m", "transformers.cli.transformers", "serve", str(checkpoint), "--host", "127.0.0.1"),
        *("--port", "8123", "--device", "cpu", "--dtype", "float32", "--x"),
    ]


def test_vllm_does_not_sample_by_the_checkpoints_settings_and_takes_the_pictures_of_a_plan(checkpoint):
    words = serving.command(Served(checkpoint, name="mine"), "vllm")
    assert words[words.index("--generation-config") + 1] == "vllm"
    assert json.loads(words[words.index("--limit-mm-per-prompt") + 1]) == {"image": 8}
    assert words[words.index("--served-model-name") + 1] == "mine"


def test_sglang_does_not_sample_by_the_checkpoints_settings(checkpoint):
    words = serving.command(Served(checkpoint), "sglang")
    assert words[words.index("--sampling-defaults") + 1] == "openai"


def test_a_key_is_in_the_environment_and_never_on_a_command_line(checkpoint):
    assert serving.environment("vllm", "canary", {})["VLLM_API_KEY"] == "canary"
    assert "VLLM_API_KEY" not in serving.environment("vllm", "", {})
    assert "canary" not in " ".join(serving.command(Served(checkpoint), "vllm"))
    assert "canary" not in serving.asking(Served(checkpoint), "vllm", "canary")


def test_the_questions_are_asked_in_sizes_that_the_checkpoint_leaves_alone(checkpoint):
    assert serving.asking(Served(checkpoint, port=9000, name="mine"), "vllm", "") == (
        "robointer predict --family openai_api --model mine model.base_url=http://127.0.0.1:9000/v1 "
        "model.coordinates=resized model.min_pixels=3136 model.max_pixels=200704 --data … --out …"
    )


def test_transformers_knows_a_model_by_its_folder_only(checkpoint):
    assert f"--model {checkpoint} " in serving.asking(Served(checkpoint, name="mine"), "transformers", "")


def test_coordinates_are_those_the_checkpoint_declares(checkpoint):
    (checkpoint / "robointer.json").write_text('{"coordinates": "per_mille"}')
    assert "model.coordinates=per_mille" in serving.asking(Served(checkpoint), "vllm", "")


def test_coordinates_of_another_family_are_left_to_the_user(checkpoint):
    (checkpoint / "config.json").write_text('{"model_type": "llava_onevision"}')
    assert "model.coordinates=… " in serving.asking(Served(checkpoint), "vllm", "")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_an_engine_without_keys_is_refused_for_other_machines(checkpoint, host):
    with pytest.raises(RecipeError, match="asks nobody for a key"):
        serving.check(Served(checkpoint, host=host), "transformers", "canary")


def test_other_machines_need_a_key(checkpoint):
    with pytest.raises(RecipeError, match="ROBOINTER_SERVE_TOKEN"):
        serving.check(Served(checkpoint, host="0.0.0.0", port=free_port()), "vllm", "")
    serving.check(Served(checkpoint, host="0.0.0.0", port=free_port()), "vllm", "canary")


def test_a_key_that_could_only_go_on_a_command_line_is_refused(checkpoint):
    with pytest.raises(RecipeError, match="command line only"):
        serving.serve(Served(checkpoint), "sglang", "canary")


def test_a_port_in_use_is_refused_before_anything_is_loaded(checkpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RecipeError, match="choose another --port"):
            serving.check(Served(checkpoint, port=taken.getsockname()[1]), "transformers", "")


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        serving.check(Served(tmp_path), "transformers", "")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "robointer_qwen2_5_vl_moe"},
        {"model_type": "llava_qwen"},
        {"model_type": "x", "architectures": ["LlavaQwenForCausalLM"]},
    ],
)
def test_a_layout_that_no_engine_knows_is_refused(checkpoint, config):
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match="no engine knows the layout"):
        serving.check(Served(checkpoint), "vllm", "")


def test_experts_of_a_config_that_calls_itself_dense_are_not_served_without_them(checkpoint, capfd):
    save_file({"model.layers.0.moe_block.gate.weight": np.zeros(2)}, checkpoint / "model.safetensors")
    command = [
        sys.executable,
        "-m",
        "robointervlm.cli",
        "serve",
        str(checkpoint),
        "--print",
        "--port",
        str(free_port()),
    ]
    assert subprocess.run(command, check=False).returncode == 2
    said = capfd.readouterr().err
    assert "no engine knows the layout 'qwen2_5_vl' with our mixture of experts" in said
    assert f"robointer predict --model {checkpoint}" in said


@pytest.mark.parametrize("folder", ["model", "run-7/model", "a folder/数据", "-/x-y-z"])
def test_the_hub_cache_of_transformers_serve_has_the_checkpoint_alone_under_its_folder(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "config.json").write_text('{"architectures": ["A"]}')
    (tmp_path / "hub").mkdir()
    listed = serving.list_checkpoint(tmp_path / "hub", serving.Served(tmp_path / folder))
    cache = scan_cache_dir(tmp_path / "hub")
    if folder == "-/x-y-z":  # its entry would be read as another path
        assert (listed, cache.repos, cache.warnings) == (False, frozenset(), [])
        return
    [repository] = cache.repos
    assert (listed, repository.repo_id, repository.repo_type) == (True, str(tmp_path / folder), "model")
    [file] = repository.refs["main"].files
    assert json.loads(file.file_path.read_text()) == {"architectures": ["A"]}


@pytest.mark.parametrize("folder", ["a--b", "x-/y", "n" * 250])
def test_a_path_that_no_entry_can_be_called_after_leaves_the_hub_cache_empty(tmp_path, folder):
    assert serving.list_checkpoint(tmp_path, serving.Served(Path("/data") / folder)) is False
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_the_hub_is_served_and_listed_under_its_name(tmp_path):
    snapshot = tmp_path / "models--acme--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (tmp_path / "hub").mkdir()
    served = serving.Served(snapshot, hub_name="acme/tiny")
    assert serving.list_checkpoint(tmp_path / "hub", served)
    assert [each.repo_id for each in scan_cache_dir(tmp_path / "hub").repos] == ["acme/tiny"]
    assert "acme/tiny" in serving.command(served, "transformers")
    assert "--model acme/tiny " in serving.asking(served, "transformers", "")
    # Another engine is given the folder, and the name to call it by.
    assert str(snapshot) in serving.command(served, "vllm")


def test_only_transformers_serve_sees_a_hub_cache_of_its_own(tmp_path):
    assert serving.environment("transformers", "", {"HF_HUB_CACHE": "/old"}, tmp_path)["HF_HUB_CACHE"] == str(tmp_path)
    assert serving.environment("vllm", "", {"HF_HUB_CACHE": "/old"})["HF_HUB_CACHE"] == "/old"


def test_auto_prefers_an_engine_made_for_many_requests(vllm):
    assert serving.chosen_engine("auto", Path(sys.executable)) == "vllm"


def test_an_engine_that_is_not_there_is_named_with_what_to_install():
    with pytest.raises(RecipeError, match=r"has no sglang.*docs/engines\.md"):
        serving.chosen_engine("sglang", Path(sys.executable))


def test_an_unknown_engine_is_refused():
    with pytest.raises(RecipeError, match="it is auto, transformers, vllm, sglang"):
        serving.chosen_engine("tensorrt", Path(sys.executable))


def test_a_python_that_does_not_run_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="does not run"):
        serving.installed(tmp_path / "python")


def test_a_signal_ends_the_engine_with_its_workers(vllm, checkpoint):
    ready: list[float] = []

    def stop_soon() -> None:
        ready.append(time.monotonic())
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    served = Served(checkpoint, port=free_port(), name="mine")
    assert serving.serve(served, "vllm", "canary", ready=stop_soon) == 0
    seen = json.loads(vllm.read_text())
    assert len(ready) == 1
    assert seen["key"] == "canary"
    assert seen["arguments"][:2] == ["serve", str(checkpoint)]
    until = time.monotonic() + 5
    while is_alive(seen["worker"]) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(seen["worker"])


def test_an_engine_that_fails_says_how(vllm, checkpoint):
    with pytest.raises(RecipeError, match="vllm ended with exit code 7"):
        serving.serve(Served(checkpoint, port=free_port(), extra=("--fail",)), "vllm", "")


def test_the_command_prints_what_it_would_run(vllm, checkpoint):
    shown = subprocess.run(
        [sys.executable, "-m", "robointervlm.cli", "serve", str(checkpoint), "--port", str(free_port()), "--print"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith("vllm: ")
    assert "vllm.entrypoints.cli.main serve" in shown
    assert not vllm.exists()
