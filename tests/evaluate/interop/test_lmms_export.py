"""Our tasks as a folder for lmms-eval: what its functions say of a reply is what our scoring says."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from robointervlm.cli.main import run
from robointervlm.evaluate import lmms_docs as earlier_place
from robointervlm.evaluate.interop import lmms_docs

SIZE = (196, 112)


def records(task: str) -> list[dict]:
    if task == "current_box":
        return [
            {
                "id": "a",
                "image_path": "0.png",
                "question": "<image>\nWhere is it?",
                "ground_truth": '{"current_bbox": [[10, 10], [40, 30]]}',
            }
        ]
    path = [[10 * step, 50] for step in range(10)]
    return [
        {
            "id": "t",
            "image_path": "0.png",
            "question": "<image>\nWhere does it go?",
            "ground_truth": json.dumps({"future_traj": path}),
        }
    ]


@pytest.fixture
def exported(tmp_path):
    """Exports one question of a task for a model of these coordinates; the folder."""

    def export(task: str, coordinates: str = "pixel", size: tuple[int, int] = SIZE, *more: str) -> Path:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        Image.new("RGB", size, (200, 30, 30)).save(source / "0.png")
        (source / "val.json").write_text(json.dumps(records(task)))
        flags = ["--data", str(source / "val.json"), "--task", task, "--model-coordinates", coordinates, *more]
        assert run(["export", "lmms-eval", *flags, "--out", str(tmp_path / "tasks")]) == 0
        return tmp_path / "tasks"

    return export


def doc_of(folder: Path, task: str) -> dict:
    return json.loads((folder / f"robointer_{task}.jsonl").read_text())


def utils_of(folder: Path):
    """The folder's utils.py, imported as lmms-eval does it."""
    spec = importlib.util.spec_from_file_location("exported_utils", folder / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_reply_is_measured_in_the_coordinates_of_the_model(exported):
    folder = exported("current_box", "per_mille")
    # Of a picture of 196x112, (10, 10) to (40, 30) is (51, 89) to (204, 268) in thousandths, rounded; twice as wide is
    # half the overlap.
    said = ["It is at [[51, 89], [204, 268]]", "[[51, 89], [357, 268]]"]
    exact, wide = (utils_of(folder).process_results(doc_of(folder, "current_box"), [text]) for text in said)
    assert exact["IoU"] == pytest.approx(1, abs=0.02)
    assert wide["IoU"] == pytest.approx(0.5, abs=0.01)
    assert (wide["ACC@IoU>0.1"], wide["unparsed"]) == (1, 0)


def test_a_bounded_metric_charges_a_reply_without_an_answer(exported):
    folder = exported("current_box")
    values = utils_of(folder).process_results(doc_of(folder, "current_box"), ["I see nothing."])
    assert values == {"ACC@IoU>0.1": 0, "ACC@IoU>0.5": 0, "IoU": 0, "unparsed": 1}


def test_a_request_that_failed_is_no_answer_whatever_numbers_its_error_holds(exported):
    folder = exported("current_box")
    text = "[LMMS_EVAL_REQUEST_FAILED after 5 retries] [[10, 10], [40, 30]]"
    assert utils_of(folder).process_results(doc_of(folder, "current_box"), [text])["unparsed"] == 1


def test_a_distance_has_no_value_without_an_answer_and_a_charged_one(exported):
    folder = exported("traj")
    module = utils_of(folder)
    # Ten waypoints, each three pixels below its own.
    shifted = json.dumps({"future_traj": [[10 * step, 53] for step in range(10)]})
    near, none = (module.process_results(doc_of(folder, "traj"), [text]) for text in (shifted, "no"))
    assert near["DTW"] == near["DTW with failures charged"] == 30
    assert math.isnan(none["DTW"])
    assert none["DTW with failures charged"] > 30
    assert module.mean([near["DTW"], none["DTW"]]) == 30
    assert math.isnan(module.mean([none["DTW"]]))


def test_pictures_stand_where_their_markers_are(exported):
    folder = exported("current_box")
    [message] = utils_of(folder).doc_to_messages(doc_of(folder, "current_box"))
    image, text = message["content"]
    assert (message["role"], image["type"], image["url"].size) == ("user", "image", SIZE)
    assert text == {"type": "text", "text": "\nWhere is it?"}
    assert utils_of(folder).doc_to_text(doc_of(folder, "current_box")) == "Where is it?"


def test_a_resized_picture_is_exported_as_it_will_be_seen(exported):
    folder = exported("current_box", "resized", (320, 180))
    # Multiples of 28, as Qwen2.5-VL's processor makes of 320x180.
    [picture] = utils_of(folder).doc_to_visual(doc_of(folder, "current_box"))
    assert picture.size == (308, 168)


def test_the_style_words_the_question(exported):
    folder = exported("current_box", "pixel", SIZE, "--style", "qwen_grounding")
    [[_, text]] = json.loads(doc_of(folder, "current_box")["record"])["messages"]
    assert text.endswith("region this sentence describes: <ref>Where is it?</ref>")


def test_the_yaml_names_what_the_functions_give(exported):
    folder = exported("traj")

    class Loader(yaml.SafeLoader):
        """Reads `!function utils.f` as its text, as far as this test goes."""

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    task = yaml.load((folder / "robointer_traj.yaml").read_text(), Loader)  # noqa: S506 - a SafeLoader
    values = utils_of(folder).process_results(doc_of(folder, "traj"), ["no"])
    assert [each["metric"] for each in task["metric_list"]] == list(values)
    assert [each["higher_is_better"] for each in task["metric_list"]] == [False] * 9
    assert Path(task["dataset_kwargs"]["data_files"]["test"]) == folder / "robointer_traj.jsonl"
    assert task["generation_kwargs"] == {"max_new_tokens": 512, "temperature": 0, "do_sample": False, "until": []}
    functions = {text for text in task.values() if str(text).startswith("utils.")}
    assert {text.removeprefix("utils.") for text in functions} <= set(dir(utils_of(folder)))


def test_a_folder_with_something_in_it_is_not_written_into(exported, tmp_path, capsys):
    folder = exported("traj")
    flags = ["--data", str(tmp_path / "source/val.json"), "--task", "traj", "--model-coordinates", "unit"]
    assert run(["export", "lmms-eval", *flags, "--out", str(folder)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_question_that_cannot_be_asked_ends_the_export(exported, tmp_path, capsys):
    exported("traj")
    damaged = {**records("traj")[0], "id": "bad", "image_path": "none.png"}
    (tmp_path / "source/val.json").write_text(json.dumps([*records("traj"), damaged]))
    flags = ["--data", str(tmp_path / "source/val.json"), "--task", "traj", "--model-coordinates", "unit"]
    assert run(["export", "lmms-eval", *flags, "--out", str(tmp_path / "other")]) == 3
    assert "bad cannot be asked" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_lmms_eval_imports_needs_little():
    heavy = ("torch", "pydantic", "typer", "transformers")
    code = f"import sys, {lmms_docs.__name__}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_that_was_exported_before_the_module_moved_still_finds_it():
    for name in ("doc_to_text", "doc_to_visual", "doc_to_messages", "process_results", "mean"):
        assert getattr(earlier_place, name) is getattr(lmms_docs, name)
