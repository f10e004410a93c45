"""`robointer app`: who may use it, what its pages show, and the whole of it over its own interface."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from robointervlm.app.ask import FREE, ModelDemo, questions
from robointervlm.app.browse import RunBrowser, Wanted, chosen_predictions
from robointervlm.cli.main import run
from robointervlm.cli.serve import TOKEN_VARIABLE, check_host, matches, read_token
from robointervlm.core.errors import DataError, RecipeError
from robointervlm.core.prompt import Decoding
from robointervlm.models.model import load_model
from robointervlm.report.scored import read_scored
from scripted_benchmark import COMMAND, ROOT, make_benchmark

TOKEN = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    return make_benchmark(tmp_path_factory.mktemp("app"), count=15)


@pytest.fixture(scope="module")
def runs(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert run(["predict", *benchmark.options(folder / "eval" / "boxes")]) == 0
    return folder


@pytest.fixture(scope="module")
def catalog(benchmark):
    """A catalog of the benchmark's own dataset, in a file."""
    file = benchmark.file.parent / "own.yaml"
    file.write_text("root: .\nown_boxes:\n  task: current_box\n  annotations: current_box.json\n  images: images\n")
    return file


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_loopback_needs_no_token(host):
    check_host(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4"])
def test_any_other_host_needs_a_token(host):
    with pytest.raises(RecipeError, match="set a token"):
        check_host(host, None)
    check_host(host, TOKEN)


def test_a_name_is_no_host_even_with_a_token():
    with pytest.raises(RecipeError, match="is no IP address"):
        check_host("example.org", TOKEN)


def test_the_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}-file\n")
    assert read_token(tmp_path / "token") == f"{TOKEN}-file"
    with pytest.raises(DataError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_a_short_token_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "hunter2")
    with pytest.raises(RecipeError, match="shorter than 16") as refused:
        read_token(None)
    assert "hunter2" not in str(refused.value)


def test_only_the_token_is_the_password():
    allowed = matches(TOKEN)
    assert allowed("anybody", TOKEN)
    assert not allowed("anybody", TOKEN[:-1])
    assert not allowed(TOKEN, "")
    assert not allowed("anybody", "ü")


def test_without_gradio_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "")
    assert run(["app"]) == 2
    assert "gradio is not installed" in (said := capsys.readouterr().err)
    assert "robointervlm[ui]" in said


@pytest.fixture
def trial(benchmark):
    return ModelDemo("scripted", load_model({"path": str(benchmark.model)}), Decoding())


def test_an_answer_is_drawn_read_and_shown_as_it_was_written(trial, benchmark):
    shown = trial.ask([benchmark.images / "0000.png"], "current_box", "Where is object 0?")
    assert '<rect x="8.00" y="10.00" width="30.00" height="22.00"/>' in shown.drawn
    assert shown.read_as.startswith("(8, 10) (38, 32) px")
    assert shown.text == '{"current_bbox": [[8, 10], [38, 32]]}'


def test_the_answer_to_a_free_question_is_not_read(trial, benchmark):
    shown = trial.ask([benchmark.images / "0000.png"], FREE, "Where is object 0?")
    assert "<rect" not in shown.drawn
    assert shown.read_as.startswith("a text")


def test_an_unreadable_answer_says_why(trial, benchmark):
    shown = trial.ask([benchmark.images / "0009.png"], "current_box", "Where is object 9?")
    assert shown.read_as.startswith("no answer could be read")


@pytest.mark.parametrize(
    "pictures, question, said",
    [
        ([], "Where is it?", "picture"),
        (["0000.png"], " ", "question"),
        (["0000.png"], "Where is the {name}?", "Fill in {name}"),
    ],
)
def test_what_is_missing_is_said_before_the_model_is_asked(trial, benchmark, pictures, question, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        trial.ask([benchmark.images / name for name in pictures], "current_box", question)


def test_tasks_with_a_question_of_their_own_come_first():
    wordings = list(questions().items())
    assert wordings[0] == (FREE, "")
    assert wordings[1][1]
    assert wordings[-1][1] == ""


def test_runs_are_found_below_a_folder_and_narrowed(runs):
    shelf = RunBrowser(runs)
    assert shelf.sources == ("run eval/boxes",)
    filters = shelf.filters("run eval/boxes")
    assert filters.datasets == ("all", "current_box")
    assert filters.tasks == ("all", "current_box")


def test_a_run_shows_its_worst_predictions_first(runs):
    scored = read_scored(runs / "eval" / "boxes")
    worst = chosen_predictions(scored, Wanted())
    best = chosen_predictions(scored, Wanted(order="best first"))
    # Of the 15, the tenth is prose and the fifth and fifteenth are far off.
    assert worst[0]["id"] == "current_box-0009"
    assert {entry["id"] for entry in worst[1:3]} == {"current_box-0004", "current_box-0014"}
    assert [entry["id"] for entry in best] == [entry["id"] for entry in reversed(worst)]
    assert [entry["id"] for entry in chosen_predictions(scored, Wanted(order="as asked"))][:2] == [
        "current_box-0000",
        "current_box-0001",
    ]
    assert chosen_predictions(scored, Wanted(task="traj")) == []


def test_pages_hold_twelve_and_a_number_beyond_them_is_the_last(runs):
    shelf = RunBrowser(runs)
    first, last = shelf.page("run eval/boxes", Wanted()), shelf.page("run eval/boxes", Wanted(page=9))
    assert (first.number, first.pages, first.summary) == (1, 2, "1-12 of 15 predictions")
    assert (last.number, last.summary) == (2, "13-15 of 15 predictions")
    assert first.cards.count("<article") == 12
    assert last.cards.count("<article") == 3
    nothing = shelf.page("run eval/boxes", Wanted(dataset="another"))
    assert (nothing.number, nothing.pages, nothing.summary) == (1, 1, "no predictions")


def test_only_datasets_that_are_there_are_offered(benchmark, catalog):
    from robointervlm.data.spec import Catalog  # noqa: PLC0415

    shelf = RunBrowser(root=benchmark.file.parent, catalog=Catalog(catalog))
    assert shelf.sources == ("dataset own_boxes",)
    page = shelf.page("dataset own_boxes", Wanted(page=2))
    assert page.summary == "13-15 of 15 samples"
    assert page.cards.count('class="true"') == 3
    assert "Where is object 12?" in page.cards


def test_a_source_that_was_not_found_at_the_start_is_not_opened(runs):
    with pytest.raises(RecipeError, match="is not one of the runs"):
        RunBrowser(runs).page("run ../../etc", Wanted())


def test_a_folder_of_runs_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        RunBrowser(tmp_path / "none")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_app_answers_those_who_have_the_token(benchmark, runs, tmp_path):
    client_of = pytest.importorskip("gradio_client", reason="gradio (extra ui) is not installed").Client
    pytest.importorskip("gradio", reason="gradio (extra ui) is not installed")
    environment = {**os.environ, TOKEN_VARIABLE: TOKEN, "PYTHONUNBUFFERED": "1", "GRADIO_TEMP_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(ROOT / "src")
    with subprocess.Popen(
        [*COMMAND, "app", str(benchmark.model), "--runs", str(runs), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as served:
        try:
            assert served.stdout is not None
            address = next(found[0] for line in served.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{address}/config")
            client = client_of(address, auth=("me", TOKEN), verbose=False)
            from gradio_client import handle_file  # noqa: PLC0415

            picture = handle_file(str(benchmark.images / "0000.png"))
            drawn, read_as, text = client.predict(picture, [], "current_box", "Where is object 0?", api_name="/ask")
            assert '<rect x="8.00" y="10.00" width="30.00" height="22.00"/>' in drawn
            assert read_as.startswith("(8, 10) (38, 32) px")
            assert text == '{"current_bbox": [[8, 10], [38, 32]]}'
            cards, number, summary = client.predict(
                "run eval/boxes", "all", "all", "worst first", 2, api_name="/browse"
            )
            assert (cards.count("<article"), number) == (3, 2)
            assert "13-15 of 15 predictions" in summary
        finally:
            # Not SIGINT: a shell that puts the tests into the background has it ignored by all their children.
            served.terminate()
            try:
                served.wait(timeout=30)
            except subprocess.TimeoutExpired:
                served.kill()
