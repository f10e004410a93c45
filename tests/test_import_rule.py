"""Who may import whom, as the design says, and what works without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from scripted_benchmark import make_benchmark

SOURCE = Path(__file__).resolve().parents[1] / "src" / "robointervlm"

# docs of the design: "Who may import whom". A name with a dot allows that module only.
INSIDE = (
    *("core", "settings", "metrics", "tasks", "data", "episodes", "models", "inference"),
    *("runs", "jobs", "train", "evaluate", "report"),
)
ALLOWED = {
    "core": {"core"},
    "settings": {"core", "settings"},
    "metrics": {"core", "metrics"},
    "tasks": {"core", "metrics", "tasks"},
    "data": {"core", "settings", "tasks", "data"},
    "runs": {"core", "settings", "runs"},
    "launch": {"core", "runs", "launch"},
    "jobs": {"core", "runs", "launch", "jobs"},
    "episodes": {"core", "settings", "tasks", "data", "jobs", "episodes"},
    "models": {"core", "settings", "models"},
    "inference": {"core", "metrics", "tasks", "inference"},
    "train": {"core", "settings", "tasks", "data", "models", "inference", "runs", "launch", "train"},
    "evaluate": {
        *("core", "settings", "metrics", "tasks", "data", "models", "inference"),
        *("runs", "launch", "jobs", "evaluate"),
    },
    "report": {"core", "metrics", "tasks", "runs", "data.images", "report"},
    "app": {"core", "tasks", "data", "episodes", "models", "inference", "runs", "evaluate", "report", "app"},
    "cli": {*INSIDE, "launch", "app", "cli"},
    "compat": {*INSIDE, "launch", "cli", "compat"},
}
# `core` and `metrics` are arithmetic: the standard library and numpy. One file may use one package more.
LIGHT = {"core", "metrics"}
LIGHT_EXCEPT = {"metrics/text.py": "sacrebleu"}
# The launchers of several machines meet in torch's store, and import it only then.
TORCH_EXCEPT = "launch/node_store.py"
HEAVY = {"torch", "transformers", "accelerate", "deepspeed", "safetensors", "peft", "liger_kernel"}
MODULES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """The absolute names of what a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0] if path.parent != SOURCE else ""


@pytest.mark.parametrize("layer", sorted(ALLOWED))
def test_a_layer_imports_only_what_it_may(layer):
    wrong = []
    for path in (path for path in MODULES if layer_of(path) == layer):
        for name in imports(path):
            package, _, rest = name.partition(".")
            if package != "robointervlm" or not rest or rest.startswith("__"):
                continue
            if not any(rest == allowed or rest.startswith(f"{allowed}.") for allowed in ALLOWED[layer]):
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert wrong == []


def test_every_layer_has_a_rule():
    assert {layer_of(path) for path in MODULES} - {""} <= set(ALLOWED)


def test_torch_is_imported_only_by_models_and_training():
    wrong = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in MODULES
        if path.relative_to(SOURCE).as_posix() != TORCH_EXCEPT
        for name in imports(path)
        if name.split(".")[0] in HEAVY and layer_of(path) not in {"models", "train"}
    ]
    assert wrong == []


@pytest.mark.parametrize("layer", sorted(LIGHT))
def test_arithmetic_needs_only_numpy(layer):
    wrong = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in MODULES
        if layer_of(path) == layer
        for name in imports(path)
        if (top := name.split(".")[0]) not in sys.stdlib_module_names
        and top not in {"numpy", "robointervlm", LIGHT_EXCEPT.get(path.relative_to(SOURCE).as_posix())}
    ]
    assert wrong == []


WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "accelerate"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import robointervlm
from robointervlm.cli.main import run
commands = " ".join(sys.argv[1:]).split(" THEN ")
sys.exit(max(run(command.split(" ")) for command in commands))
"""


def test_predict_and_score_of_the_scripted_model_work_without_torch(tmp_path):
    benchmark = make_benchmark(tmp_path, count=3)
    commands = ["predict", *benchmark.options(tmp_path / "run"), "THEN", "score", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *commands], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_command_that_needs_torch_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "train", "run.dir=x", "mixture=[a]", "model.path=y"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'robointervlm[train]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_starts_without_heavy_modules():
    code = (
        "import sys; from robointervlm.cli.main import run; code = run(['--help']);"
        "heavy = {'torch', 'transformers', 'pydantic', 'PIL', 'numpy', 'jinja2', 'mujoco'} & set(sys.modules);"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
