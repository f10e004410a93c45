"""What looks at a run: its numbers, its curves, its trackers and the command after each checkpoint."""

from __future__ import annotations

import io
import json
import sys
import time
import types

import pytest
import torch
from accelerate import Accelerator
from rich.console import Console

from robointervlm.core.errors import RecipeError
from robointervlm.train.callbacks.after_save import AfterSave
from robointervlm.train.callbacks.progress import Rates, StepLine, StepProgress, duration, short
from robointervlm.train.callbacks.trackers import Trackers, refuse_missing
from robointervlm.train.run import train
from tiny_models import losses, train_recipe

OLD_KEYS = {"step", "loss", "grad_norm", "lr_scale", "seconds", "samples", "tokens", "supervised", "bad", "too_long"}


@pytest.mark.parametrize(
    "seconds, said", [(45, "45 s"), (720, "12 min"), (12000, "3 h 20 min"), (187200, "2 d 4 h"), (7200, "2 h")]
)
def test_a_time_is_said_as_people_say_it(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize("value, said", [(0.351, "0.35"), (96.4, "96"), (519, "519"), (8123, "8.12k"), (1.2e6, "1.2M")])
def test_a_rate_is_short(value, said):
    assert short(value) == said


def test_the_line_of_a_step_has_rates_over_time_and_what_is_left():
    line = StepLine(10, torch.device("cpu"))
    line.add(Rates(samples=4, tokens=400, supervised=40, seconds=1.0))
    line.add(Rates(samples=4, tokens=400, supervised=40, seconds=3.0))
    text = line.text(2, 0.5)
    assert text.startswith("loss 0.500  200 tokens/s  20 supervised/s  2 samples/s")
    assert text.endswith("16 s left")


def test_the_bar_fits_80_columns_with_all_its_numbers():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, color_system=None)
    with StepProgress(console, total=12000, done=0, disable=False) as bar:
        bar.show(6000, "loss 0.500  8.12k tokens/s  20 supervised/s  2 samples/s  61.5 GiB  3 h 20 min left")
    shown = written.getvalue().replace("\n", "")
    assert "6000/12000" in shown
    assert "50%" in shown
    assert "3 h 20 min left" in shown


def test_a_run_writes_numbers_curves_and_tensorboard_scalars_that_can_be_read_back(tiny_folder, catalog, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    train(train_recipe(tiny_folder, catalog, run, "watch.to=tensorboard"))
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(record) >= OLD_KEYS | {"tokens_per_second", "supervised_per_second", "samples_per_second", "memory_gib"}
    assert record["lr"] == {part: pytest.approx(1e-3 * record["lr_scale"]) for part in ("language", "merger", "vision")}
    assert record["samples_per_second"] == pytest.approx(4 / record["seconds"])
    assert "Loss per supervised token" in (run / "curves.html").read_text()
    read = events.EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    found = {event.step: event.value for event in read.Scalars("train/loss")}
    assert found == {step: pytest.approx(loss, rel=1e-6) for step, loss in losses(run).items()}
    assert len(read.Scalars("train/lr/vision")) == 3


def test_nothing_is_tracked_unless_it_is_asked_for(tiny_folder, catalog, tmp_path):
    assert train_recipe(tiny_folder, catalog, tmp_path).watch.to == ()


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_loaded(tmp_path, catalog, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RecipeError, match="pip install swanlab"):
        train(train_recipe(tmp_path / "no model", catalog, tmp_path / "run", "watch.to=swanlab"))
    assert not (tmp_path / "run").exists()
    refuse_missing(())


class _Wandb(types.ModuleType):
    """Takes what wandb's functions take; the second record fails."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: dict[str, object] = {}
        self.steps: list[int] = []
        self.config = types.SimpleNamespace(update=lambda *_, **__: None)

    def init(self, **named):
        self.begun = named
        return types.SimpleNamespace(log=self._log, finish=lambda: None)

    def _log(self, _values, step):
        if step == 2:
            raise ConnectionError("no route")
        self.steps.append(step)


def test_a_tracker_that_fails_is_warned_of_once_and_the_run_goes_on(
    tiny_folder, catalog, tmp_path, monkeypatch, caplog
):
    Accelerator(cpu=True)  # accelerate's trackers ask it which process this is
    fake = _Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    recipe = train_recipe(tiny_folder, catalog, tmp_path, "watch.to=wandb", "watch.project=arms", "watch.name=first")
    trackers = Trackers(recipe, first_step=0)
    for step in (1, 2, 2, 3):
        trackers.log(step, {"train/loss": 0.5})
    trackers.close()
    assert (fake.begun["project"], fake.begun["name"], fake.begun["resume"]) == ("arms", "first", "allow")
    assert fake.steps == [1, 3]
    assert sum("did not take the numbers of step 2" in line for line in caplog.messages) == 1
    again = _Wandb()
    monkeypatch.setitem(sys.modules, "wandb", again)
    Trackers(recipe, first_step=2).close()
    assert again.begun["id"] == fake.begun["id"]


def test_after_save_runs_for_each_checkpoint_on_a_copy_that_pruning_leaves_alone(tiny_folder, catalog, tmp_path):
    code = "import os,sys; print(sorted(os.listdir(sys.argv[1]))[0], *sys.argv[2:], os.environ.get('RANK'))"
    command = json.dumps([sys.executable, "-c", code, "{checkpoint}", "{step}", "{run}"])
    run = tmp_path / "run"
    train(train_recipe(tiny_folder, catalog, run, "run.save_every=1", "run.keep=1", f"watch.after_save={command}"))
    said = [(run / "evaluations" / f"step-0000000{step}" / "output.txt").read_text() for step in (1, 2, 3)]
    assert said == [f"chat_template.jinja {step} {run} None\n" for step in (1, 2, 3)]
    assert {path.read_text() for path in run.glob("evaluations/*/exit_code")} == {"0\n"}
    assert not list(run.glob("evaluations/*/model"))


@pytest.fixture
def model_folder(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    return tmp_path / "checkpoint"


def test_a_command_runs_beside_the_training_one_at_a_time(model_folder, tmp_path):
    queue = AfterSave([sys.executable, "-c", "import time; time.sleep(0.5)"], tmp_path)
    started = time.monotonic()
    queue.saved(1, model_folder)
    queue.saved(2, model_folder)
    queue.poll()
    assert not list(tmp_path.glob("evaluations/*/exit_code"))
    queue.finish()
    assert time.monotonic() - started >= 1.0  # two sleeps, one after the other
    assert len(list(tmp_path.glob("evaluations/*/exit_code"))) == 2


@pytest.mark.parametrize("command, code", [([sys.executable, "-c", "exit(3)"], "3\n"), (["no-such-program"], "127\n")])
def test_a_command_that_fails_is_noted_and_no_error(model_folder, tmp_path, command, code):
    queue = AfterSave(command, tmp_path)
    queue.saved(7, model_folder)
    queue.finish()
    assert (tmp_path / "evaluations" / "step-00000007" / "exit_code").read_text() == code


def test_a_command_that_was_ended_with_the_run_is_done_when_it_goes_on(model_folder, tmp_path):
    queue = AfterSave([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path)
    queue.saved(1, model_folder)
    queue.stop()
    assert not list(tmp_path.glob("evaluations/*/exit_code"))
    AfterSave([sys.executable, "-c", "print('done')"], tmp_path).finish()
    assert (tmp_path / "evaluations" / "step-00000001" / "output.txt").read_text() == "done\n"


def test_an_unknown_place_in_the_command_is_refused(tiny_folder, catalog, tmp_path):
    with pytest.raises(RecipeError, match=r"\{chekpoint\} is not known"):
        train_recipe(tiny_folder, catalog, tmp_path, 'watch.after_save=["predict", "{chekpoint}"]')
