"""The page of `robointer app`, in gradio; what it does is in `ask` and `browse`."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from robointervlm.app.ask import FREE, ModelDemo, questions
from robointervlm.app.browse import ALL, ORDERS, RunBrowser, Wanted
from robointervlm.core.errors import RecipeError, RoboInterError
from robointervlm.report.fragments import style_sheet

_MAX_UPLOAD = "50mb"
# Names of what every system has: nothing is fetched from elsewhere.
_FONT = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")
_STYLE = """
.gradio-container { max-width: 1280px !important; margin: 0 auto !important; }
.pieces { --panel: var(--block-background-fill); --ink: var(--body-text-color); --line: var(--border-color-primary);
  --soft: color-mix(in srgb, var(--body-text-color) 68%, transparent); font-size: 15px; color: var(--ink);
  --ok: #4c78a8; --unparsable: #b98a00; --model_error: #c8443c; --input_error: #9b59b6; --refused: #7f6a5a;
  --missing: #9aa3ad; }
.empty { border: 1px dashed var(--border-color-primary); border-radius: 8px; padding: 110px 20px; text-align: center; }
.key .predicted { color: #d9540b; } .key .true { color: #1887c2; }
"""


_KEY = (
    ' · over the pictures: <b class="predicted">━ predicted</b> <b class="true">╍ true</b>, '
    "the large dot is the start of a trajectory"
)
_EMPTY = '<p class="empty">The answer will be drawn on your picture here.</p>'


def make_page(trial: ModelDemo | None, shelf: RunBrowser) -> gr.Blocks:
    """The page: a tab to try a model, if there is one, and a tab to browse, if there is something to browse."""
    with gr.Blocks(title="RoboInterVLM", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(
            "# RoboInterVLM\nWhat a robot needs to know before it moves: where the object is, where it will end, "
            "where to touch it, along which path. Ask a model, and see its answer on the picture."
        )
        with gr.Tab("Try a model"):
            if trial is None:
                gr.Markdown("No model was given. Start with one: `robointer app runs/sft/model`")
            else:
                _trying(trial)
        with gr.Tab("Browse samples and predictions"):
            if shelf.sources:
                _browsing(shelf, page)
            else:
                gr.Markdown(
                    "Nothing to browse was found. Start with `--runs FOLDER` for the predictions of scored runs, "
                    "or with `--data FOLDER` for the samples of datasets."
                )
    return page


def serve(page: gr.Blocks, *, host: str, port: int, allowed: Callable[[str, str], bool] | None) -> None:
    """Serves the page until it is interrupted; with `allowed`, to those only whose name and password it accepts."""
    try:
        page.launch(
            server_name=host,
            server_port=port or None,
            auth=allowed,
            auth_message="Any user name; the password is the token." if allowed else None,
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            max_file_size=_MAX_UPLOAD,
            footer_links=["api"],
            theme=gr.themes.Default(font=_FONT, font_mono=_MONO),
            css=_STYLE + style_sheet(),
        )
    except OSError as error:
        raise RecipeError(
            f"--port {port} of {host} cannot be had ({error}); give another, or 0 for a free one."
        ) from None


def _trying(trial: ModelDemo) -> None:
    wordings = questions()
    first = next(task for task, wording in wordings.items() if wording)
    with gr.Row():
        with gr.Column(scale=1):
            picture = gr.Image(type="filepath", label="1. Your picture", sources=["upload", "clipboard"], height=260)
            with gr.Accordion("More pictures, for a question about several", open=False):
                more = gr.Files(label="They come after the first, in this order", file_types=["image"])
            task = gr.Dropdown(list(wordings), value=first, label="2. What is asked for")
            question = gr.Textbox(
                wordings[first], lines=3, label="3. The question", info="Fill in what stands in { }, or write your own."
            )
            button = gr.Button("Ask", variant="primary")
        with gr.Column(scale=1):
            gr.Markdown(f"**The answer of** `{trial.name}`")
            drawn = gr.HTML(_EMPTY, label="On the picture")
            read_as = gr.Textbox(label="Read as (pixels of the picture)", interactive=False)
            text = gr.Textbox(label="What the model wrote", interactive=False, lines=2)
    task.input(lambda chosen: wordings.get(chosen, ""), task, question, api_visibility="private")

    def answer(picture: str | None, more: list[str] | None, task: str, question: str) -> tuple[str, str, str]:
        files = [Path(file) for file in (picture, *(more or ())) if file]
        drawn, read_as, text = _said(lambda: trial.ask(files, task or FREE, question))
        return str(drawn), read_as, text

    inputs: list[Any] = [picture, more, task, question]
    for event in (button.click, question.submit):
        # One at a time: a model answers one question after another.
        event(
            answer,
            inputs,
            [drawn, read_as, text],
            api_name="ask" if event == button.click else None,
            concurrency_id="model",
            concurrency_limit=1,
        )


def _browsing(shelf: RunBrowser, page: gr.Blocks) -> None:
    source_name = shelf.sources[0]
    filters = _said(lambda: shelf.filters(source_name))
    with gr.Row():
        source = gr.Dropdown(list(shelf.sources), value=source_name, label="Run or dataset", scale=2)
        dataset = gr.Dropdown(list(filters.datasets), value=filters.datasets[0], label="Dataset")
        task = gr.Dropdown(list(filters.tasks), value=filters.tasks[0], label="Task")
        order = gr.Dropdown(list(filters.orders), value=filters.orders[0], label="Order")
        number = gr.Number(1, label="Page", precision=0, minimum=1, min_width=80)
    with gr.Row(equal_height=True):
        summary = gr.HTML()
        before = gr.Button("← Previous", size="sm", scale=0, min_width=110)
        after = gr.Button("Next →", size="sm", scale=0, min_width=110)
    cards = gr.HTML()

    def narrowed(source: str) -> tuple[Any, Any, Any, int]:
        found = _said(lambda: shelf.filters(source))
        choices = (found.datasets, found.tasks, found.orders)
        return *(gr.update(choices=list(names), value=names[0]) for names in choices), 1

    def shown(source: str, dataset: str, task: str, order: str, number: float) -> tuple[str, int, str]:
        wanted = Wanted(dataset or ALL, task or ALL, order if order in ORDERS else ORDERS[-1], int(number or 1))
        found = _said(lambda: shelf.page(source, wanted))
        return (
            str(found.cards),
            found.number,
            f'<p class="key">{found.summary}, page {found.number} of {found.pages} {_KEY}</p>',
        )

    inputs: list[Any] = [source, dataset, task, order, number]
    outputs: list[Any] = [cards, number, summary]
    hidden: dict[str, Any] = {"api_visibility": "private"}
    source.input(narrowed, source, [dataset, task, order, number], **hidden).then(shown, inputs, outputs, **hidden)
    for filter_ in (dataset, task, order):
        filter_.input(lambda: 1, None, number, **hidden).then(shown, inputs, outputs, **hidden)
    number.submit(shown, inputs, outputs, api_name="browse")
    before.click(lambda page: max(1, int(page or 1) - 1), number, number, **hidden).then(
        shown, inputs, outputs, **hidden
    )
    after.click(lambda page: int(page or 1) + 1, number, number, **hidden).then(shown, inputs, outputs, **hidden)
    page.load(shown, inputs, outputs, **hidden)


def _said(work: Callable[[], Any]) -> Any:
    """What the work gives; a mistake becomes the page's own message."""
    try:
        return work()
    except RoboInterError as error:
        raise gr.Error(escape(str(error)), title="That cannot be done", print_exception=False) from None
