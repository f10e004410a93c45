"""Plugins: found by file, module or entry point, handed on to every process, and a bad one is one line."""

import json
import subprocess
import sys

import pytest

from robointervlm.core import plugins
from robointervlm.core.answer import Number
from robointervlm.core.coordinates import ImageSize
from robointervlm.core.errors import RecipeError
from robointervlm.core.reading import answer_from_json
from robointervlm.core.writing import answer_to_json
from robointervlm.models.model import families, load_model
from robointervlm.report.overlay import svg_shapes
from robointervlm.tasks import all_tasks, task_named
from scripted_benchmark import COMMAND, robointer

TASK = 'from robointervlm.tasks.numbers import number_task\nTASKS = (number_task("{}", unit="mm", penalty=9.0),)\n'


def test_a_package_in_a_folder_brings_tasks_models_and_answer_types(lab, no_plugins):
    plugins.use([str(lab)])
    assert list(all_tasks())[-2:] == ["grasp_angle", "needle"]
    assert "constant" in families()
    assert load_model({"family": "constant", "says": "B"}).answer([None], None)[0].text == "B"
    answer = task_named("needle").read("turned by 90", None)
    assert answer_from_json(answer_to_json(answer)) == answer
    assert '<polyline points="42.00,28.00 42.00,14.00"/>' in svg_shapes(answer, "true", ImageSize(84, 56))


def test_a_plugin_is_gone_with_the_variable(lab, no_plugins, monkeypatch):
    plugins.use([str(lab)])
    monkeypatch.delenv(plugins.VARIABLE)
    assert "grasp_angle" not in all_tasks()


def test_one_file_is_a_plugin_and_a_model_family_of_its_name(tmp_path, lab, no_plugins):
    file = tmp_path / "always.py"
    file.write_text((lab / "constant.py").read_text() + TASK.format("depth"))
    plugins.use([str(file)])
    assert task_named("depth").read('{"depth": 3}', None) == Number(3.0, "mm")
    assert "always" in families()


def test_a_model_of_a_plugin_answers_by_the_command_line(tmp_path, lab, grasps):
    options = ("model.family=constant", "model.says='30'", f"data.catalog=[{grasps}]", "data.mixture=grasps_val")
    finished = robointer("--plugin", lab, "predict", *options, f"run.dir={tmp_path / 'run'}")
    assert finished.returncode == 0, finished.stderr
    assert "15.0 deg" in finished.stdout


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "there is no such file"),
        ("import robointervlm\nraise OSError('no arm')\n", "cannot be imported: OSError: no arm"),
        ("import nowhere_at_all\n", "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("TASKS = (\n", "cannot be imported: SyntaxError: '(' was never closed"),
        (TASK.format("chat"), "task 'chat' is defined in both chat.py and the plugin"),
        ("TASKS = ('chat',)\n", "TASKS holds a str; a tuple of Task is expected"),
        (
            "from robointervlm.core.answer import Answer\nclass A(Answer): key = 'box'\n",
            "two answer types have the key",
        ),
        (TASK.format("grasp_angle") + "MODELS = {'scripted': None}\n", "model family 'scripted' of the plugin"),
    ],
)
def test_a_bad_plugin_is_one_line_that_names_it(tmp_path, grasps, content, said):
    file = tmp_path / "bad.py"
    if content is not None:
        file.write_text(content)
    options = ("model.constant=A", f"data.catalog=[{grasps}]", "data.mixture=grasps_val", f"run.dir={tmp_path / 'run'}")
    finished = robointer("predict", *options, "model.family=scripted", "--plugin", file)
    assert finished.returncode == 2, finished.stderr
    assert finished.stderr.count("\n") == 1
    assert said in finished.stderr
    assert "bad.py" in finished.stderr


def test_a_module_that_is_not_there_is_told_what_to_do():
    finished = robointer("score", "--plugin", "nowhere_at_all", "run")
    assert (finished.returncode, finished.stderr) == (
        2,
        "error: plugin nowhere_at_all: there is no module of this name; give its file or folder, "
        "or install its package.\n",
    )


def test_a_file_called_as_a_module_that_is_loaded_is_refused(tmp_path, no_plugins):
    (tmp_path / "json.py").write_text("")
    with pytest.raises(RecipeError, match="there is another module called 'json'"):
        plugins.use([str(tmp_path / "json.py")])


def test_results_bring_no_code_with_them(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('was run')\n")
    (tmp_path / "recipe.yaml").write_text(f"plugins: [{tmp_path / 'mine.py'}]\n")
    finished = robointer("report", tmp_path)
    assert finished.returncode == 5
    assert "lies in the folder of the results" in finished.stderr


ENTRY_POINTS = """[robointervlm.tasks]
lab = lab.grasp_angle

[robointervlm.models]
steady = steady_model

[robointervlm.sources]
shop = shop:ShopConfig
"""
SHOP = """from dataclasses import dataclass
from pathlib import Path
from robointervlm.episodes.recorded import RecordedConfig

@dataclass(frozen=True)
class ShopConfig(RecordedConfig):
    pass
"""
ASKED = """
import json, sys
from robointervlm.tasks import all_tasks
from robointervlm.models.model import families, load_model
print(json.dumps(["grasp_angle" in all_tasks(), "steady" in families(), "steady_model" in sys.modules]))
print(load_model({"family": "steady", "says": "C"}).says)
from robointervlm.episodes.sources import sources
print(list(sources()))
"""


def test_an_installed_package_names_its_parts_as_entry_points(tmp_path, lab, monkeypatch):
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "steady_model.py").write_text((lab / "constant.py").read_text())
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{lab.parent}", prepend=":")
    asked = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=120, check=False)
    assert asked.returncode == 0, asked.stderr
    first, second, third = asked.stdout.splitlines()
    assert json.loads(first) == [True, True, False], "a model is imported when it is used"
    assert second == "C"
    assert third == "['lerobot', 'lmdb', 'shop']"
    broken = (tmp_path / "lab-1.0.dist-info" / "entry_points.txt").read_text().replace("lab.grasp_angle", "lab.gone")
    (info / "entry_points.txt").write_text(broken)
    finished = subprocess.run([*COMMAND, "data", "list"], capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, "what asks for no task has no need of it"
    shown = [*COMMAND, "data", "show", __file__]
    finished = subprocess.run(shown, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 2
    assert "entry point lab = lab.gone (robointervlm.tasks) of the package lab cannot be loaded" in finished.stderr


def test_the_batch_files_of_slurm_hand_plugins_on(tmp_path, lab, grasps):
    out = tmp_path / "job.sbatch"
    finished = robointer("data", "build", "--source", "sim", "--out", tmp_path / "d", "--slurm", "2", "--plugin", lab)
    assert f"--plugin {lab}" in finished.stdout, finished.stderr
    options = ("model.path=x", "mixture=[grasps_train]", f"run.dir={tmp_path / 'r'}", "--nodes", "1", "--gpus", "1")
    finished = robointer("launch", "slurm", *options, "-o", out, "--plugin", lab)
    assert finished.returncode == 0, finished.stderr
    assert f"export ROBOINTER_PLUGINS={lab}\n" in out.read_text()
