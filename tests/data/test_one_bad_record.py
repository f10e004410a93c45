"""One record that is wrong, however it is, is one line of the list; everything else goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import RECORDS, TEXTS, expected_of, make_pictures, text_of, write_between
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import box_record

from robointervlm.cli.main import run
from robointervlm.data.prepare.check import Checked, check_dataset
from robointervlm.data.prepare.stats import Statistics, statistics_of
from robointervlm.data.spec import DatasetSpec, spec_of_file
from robointervlm.evaluate.predict import predict
from robointervlm.evaluate.recipe import EvaluationRecipe
from robointervlm.runs.settings import load_recipe

NAMES = [*RECORDS, *TEXTS]


@pytest.fixture
def folder(root: Path) -> Path:
    make_pictures(root)
    return root


def checked(file: Path, *, quick: bool = False) -> Checked:
    return check_dataset(spec_of_file(file, task="current_box"), quick=quick, workers=1)


def counted(file: Path) -> Statistics:
    return statistics_of(spec_of_file(file, task="current_box"), workers=1)


def predicted(file: Path, out: Path) -> dict[str, int]:
    settings = ["model.family=scripted", 'model.constant="[[1, 2], [3, 4]]"', f"data.file={file}"]
    recipe = load_recipe(EvaluationRecipe, None, [*settings, "data.task=current_box", f"run.dir={out}"])
    return dict(predict(recipe).counts)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_it_is_listed_with_file_record_field_and_reason(folder: Path, name: str, ending: str) -> None:
    file = write_between(folder / f"a.{ending}", text_of(name))
    field, reason = expected_of(name)
    found = checked(file)
    assert (found.records, {problem.record for problem in found.problems}) == (3, {1})
    problem = found.problems[0]
    assert (problem.file, problem.field, problem.severity) == (file, field, "error")
    assert reason in problem.reason
    assert {*checked(file, quick=True).problems} == {*found.problems}
    json.dumps(found.as_json()).encode()
    str(problem).encode()


@pytest.mark.parametrize("name", NAMES)
def test_the_others_are_counted_and_asked(folder: Path, tmp_path: Path, name: str) -> None:
    file = write_between(folder / "a.jsonl", text_of(name))
    statistics = counted(file)
    assert statistics.records == 3
    assert statistics.tasks["current_box"].samples >= 2
    counts = predicted(file, tmp_path / "run")
    assert counts["ok"] == 2
    assert counts.get("input_error", 0) + counts.get("refused", 0) == 1


@pytest.mark.parametrize(
    "name", ["a place without a picture", "half a character in a path", "NaN", "an absolute path outside"]
)
def test_every_command_goes_on_and_names_it(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    file = write_between(folder / "a.jsonl", text_of(name))
    options = [str(file), "--task", "current_box"]
    page, out = tmp_path / "page.html", tmp_path / "out.json"
    assert run(["data", "check", *options, "--list", str(tmp_path / "list"), "--json", str(tmp_path / "all.json")]) == 3
    assert json.loads((tmp_path / "list").read_text().splitlines()[0])["record"] == 1
    assert run(["data", "stats", *options, "--out", str(page)]) == 0
    assert run(["data", "show", *options]) == 0
    assert run(["data", "view", *options, "--out", str(page)]) == 0
    left_out = 3 if name != "an absolute path outside" else 0  # its text can be rewritten all the same
    assert run(["data", "rewrite", *options, str(out), "--to", "unit"]) == left_out
    assert [record["id"] for record in json.loads(out.read_text())][:: 1 if left_out else 2] == ["first", "last"]
    model = ["model.family=scripted", 'model.constant="[[1, 2], [3, 4]]"', "--data", str(file), "--task", "current_box"]
    assert run(["predict", *model, "--out", str(tmp_path / "run")]) == 4
    assert "Traceback" not in (said := capfd.readouterr().err)
    assert f"left out: {file}, line 2" in said or not left_out


@pytest.mark.parametrize("name", ["half a character in an id", "a picture that is a folder, size unknown"])
def test_a_rewritten_file_has_the_others_and_the_exit_code_says_so(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    file = write_between(folder / "a.json", text_of(name))
    out = folder / "out.jsonl"
    assert run(["data", "rewrite", str(file), str(out), "--to", "resized", "--task", "current_box"]) == 3
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["first", "last"]
    assert f"left out: {file}, record 1" in capfd.readouterr().err


def test_a_picture_that_no_processor_resizes_is_left_out_of_resized_records(folder: Path) -> None:
    file = write_between(
        folder / "a.json", json.dumps(box_record(id="thin", w=400, h=1, new_w=..., new_h=...)).encode()
    )
    assert run(["data", "rewrite", str(file), str(folder / "o.json"), "--to", "resized", "--task", "current_box"]) == 3
    assert [record["id"] for record in json.loads((folder / "o.json").read_text())] == ["first", "last"]


def test_records_without_an_episode_share_none(folder: Path) -> None:
    file = write_between(folder / "a.json", json.dumps(box_record(id="n", episode=None)).encode())
    assert dict(checked(file).episodes) == {}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 1e308, 0, -1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=9)
    | st.sampled_from(["\ud83d", "a\0", "../..", "/etc", "[[1e309, 2], [3, 4]]", "<image>", "<bbox>", "<|im_end|>"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "value", "role", "content", "bbox", "ref", "image_id", "\ud83d"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
FIELDS = [
    *box_record(),
    "image",
    "messages",
    "question",
    "ground_truth",
    "episode",
    "video",
    "objects",
    "skill",
    "note",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    record=JSON_VALUES
    | st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4).map(
        lambda some: {**box_record(id="bad"), **some}
    )
)
def test_any_json_between_two_good_records_is_at_most_one_problem_of_its_own(root: Path, record: Any) -> None:
    file = write_between(root / "a.jsonl", json.dumps(record).encode())
    found = checked(file)
    assert found.records == 3
    assert {problem.record for problem in found.problems} <= {1}
    statistics = counted(file)
    assert (statistics.records, statistics.unreadable) == (3, 3 - sum(statistics.pictures.values()))
    for problem in found.problems:
        str(problem).encode()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    record=JSON_VALUES
    | st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4).map(
        lambda some: {**box_record(id="bad"), **some}
    )
)
def test_any_json_between_two_good_records_is_one_question(
    root: Path, tmp_path_factory: pytest.TempPathFactory, record: Any
) -> None:
    file = write_between(root / "a.jsonl", json.dumps(record).encode())
    counts = predicted(file, tmp_path_factory.mktemp("run") / "run")
    assert sum(counts.values()) == 3
    assert counts["ok"] >= 2


def test_a_record_of_another_project_that_holds_no_number_is_one_problem(root: Path) -> None:
    spec = DatasetSpec(
        name="theirs",
        task="refcoco",
        annotations=("a.jsonl",),
        fields={"question": "sent", "box": "bbox", "image": "image"},
        box="xywh",
    )
    good = {"sent": "the cup", "bbox": [72, 102, 120, 70], "image": "pictures/a.png"}
    records = [good, {**good, "bbox": [1, 2, 10**400, 4]}, {**good, "sent": "the other cup"}]
    (root / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    found = check_dataset(spec, root, workers=1)
    assert [(problem.record, problem.field) for problem in found.problems] == [(1, "bbox")]
