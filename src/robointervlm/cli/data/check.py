"""`robointer data check`: what is wrong with datasets, before training time is spent on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from robointervlm.cli import options
from robointervlm.cli.data import counts
from robointervlm.core.errors import ExitCode
from robointervlm.data.annotations import RecordProblem
from robointervlm.data.mixture import Mixture
from robointervlm.data.prepare.check import Checked, check_dataset, check_splits, problem_as_json
from robointervlm.data.records import RecordError, RefusedRecordError
from robointervlm.data.spec import Catalog
from robointervlm.runs.files import writing_to

_Limit = Annotated[
    int, typer.Option("--limit", min=0, help="Maximum number of problems to print per dataset; 0 prints all.")
]
_Model = Annotated[
    Path | None, typer.Option("--model", help="Also look for samples that this model cannot be trained on.")
]
_Page = Annotated[
    Path | None, typer.Option("--stats", help="Write what `stats` writes to this page, too, without reading twice.")
]
_MaxTokens = Annotated[
    int, typer.Option("--max-tokens", min=1, help="With --model: the maximum number of tokens of a sample.")
]


def check(  # noqa: PLR0913 - one per option
    names: options.Names,
    *,
    root: options.Root = None,
    catalog: options.Catalogs = None,
    task: options.TaskOption = "",
    coordinates: options.CoordinatesOption = "pixel",
    image_dir: options.ImageDir = None,
    follow_links: options.FollowLinks = False,
    quick: Annotated[bool, typer.Option("--quick", help="Read only the headers of images.")] = False,
    limit: _Limit = 200,
    output: Annotated[Path | None, typer.Option("--json", help="Write the result of the check to this file.")] = None,
    listed: Annotated[Path | None, typer.Option("--list", help="Write every problem to this file, one a line.")] = None,
    model: _Model = None,
    page: _Page = None,
    max_tokens: _MaxTokens = 8192,
    workers: options.Workers = None,
) -> None:
    """List everything that is wrong with datasets: file, record and reason. Exit code 3 if there are errors.

    Missing, truncated or mislabelled pictures, boxes outside the picture, swapped corners, wrong or missing fields,
    unreadable answers, `<image>` counts, special tokens inside text, ids that stand twice, episodes both in training
    and in validation, answers out of balance, and with --model samples that are too long or that its processor does
    not take, such as a picture more than 200 times as long as it is wide.

    Example: `robointer data check sim_current_box_train`, or a file of your own:
    `robointer data check my.json --task current_box --coordinates pixel --image-dir pictures`
    """
    known = Catalog(*(catalog or ()))
    specs = [
        options.named_dataset(name, known, task, coordinates, image_dir, follow_links=follow_links) for name in names
    ]
    results = []
    with _list_of(listed) as add:
        for spec in specs:
            with options.progress_of(f"checking {spec.name}") as advance:
                found = check_dataset(spec, root, quick=quick, workers=workers, progress=advance, listed=add)
            if model is not None and found.records:
                more = _untrainable(Mixture([spec], root=root, catalog=known), model, found, max_tokens, workers)
                for problem in more:
                    add(problem)
                found = found.also(*more)
            results.append(found)
        results = check_splits(results, add)
    for result in results:
        _print_checked(result, limit)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps([result.as_json() for result in results], indent=2) + "\n", encoding="utf-8")
    if page is not None:
        described = [counts.described(spec, found.counted) for spec, found in zip(specs, results, strict=True)]
        counts.write_statistics(page, described)
    _print_summary(results)
    if any(result.errors for result in results):
        raise typer.Exit(ExitCode.BAD_INPUT)


@contextmanager
def _list_of(file: Path | None) -> Iterator[Callable[[RecordProblem], object]]:
    """Writes problems as JSON lines to a file, which is there when all of them are; forgets them without one."""
    if file is None:
        yield id
        return
    temporary = file.with_name(f".tmp-{file.name}")
    with writing_to(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as lines:
            yield lambda problem: lines.write(json.dumps(problem_as_json(problem)) + "\n")
        temporary.replace(file)


def _untrainable(
    mixture: Mixture, model: Path, found: Checked, max_tokens: int, workers: int | None
) -> list[RecordProblem]:
    """What training this checkpoint would stumble over: an error for a sample that its own processor and chat template
    do not take, a warning for one that is longer than the limit.
    """
    feed = counts.feed_of(mixture, model)
    tokens, dataset = counts.measured_rows(feed, workers=workers)["tokens"], mixture.datasets[0]
    listed = {problem.record for problem in found.problems if problem.field in {"images", "w"}}
    problems = []
    for index in (tokens == 0).nonzero()[0].tolist():
        problem = feed.problem(index)
        # A record that cannot be read, or whose pictures cannot, is in the list already.
        if problem is None or problem.record in listed:
            continue
        try:
            dataset[index]
        except (RecordError, RefusedRecordError):
            continue
        problems.append(problem)
    for index in (tokens > max_tokens).nonzero()[0].tolist():
        reason = f"is {tokens[index]:,} tokens long, over {max_tokens:,} (--max-tokens)"
        problems.append(replace(dataset.problem(index, "tokens", reason, dataset[index].id), severity="warning"))
    return problems


def _print_checked(checked: Checked, limit: int) -> None:
    """The first problems, and how many there are of each kind with the first of them."""
    if not checked.problems:
        return
    console = options.console_of()
    ordered = sorted(checked.problems, key=lambda problem: problem.severity)
    shown = ordered[:limit] if limit else ordered
    console.print(f"{checked.dataset}: {checked.file}", highlight=False, soft_wrap=True)
    table = Table("", "record")
    for column in ("id", "field", "reason"):
        table.add_column(column, overflow="fold")
    for problem in shown:
        colour = "red" if problem.severity == "error" else "yellow"
        cells = map(escape, (problem.place, problem.id, problem.field, problem.reason))
        table.add_row(f"[{colour}]{problem.severity}[/]", *cells)
    console.print(table)
    left = len(ordered) - len(shown) + checked.held_back
    if left:
        console.print(f"… and {left:,} more; --list FILE writes all, one a line.")
    first = {(problem.severity, problem.field): problem for problem in reversed(checked.problems)}
    table = Table("", "field", "problems", title=f"{checked.dataset}: problems by kind")
    table.add_column("for example", overflow="fold")
    for kind, count in Counter(checked.kinds).most_common():
        example = f"{first[kind].place}: {first[kind].reason}" if kind in first else ""
        table.add_row(kind[0], kind[1] or "the record", f"{count:,}", escape(example))
    console.print(table)


def _print_summary(results: list[Checked]) -> None:
    table = Table("dataset", "records", "pictures", "errors", "warnings", "answers")
    for result in results:
        lines = []
        for task, answers in result.answers.items():
            total = sum(answers.values())
            lines.append(f"{task}: " + ", ".join(f"{answer} {n / total:.0%}" for answer, n in sorted(answers.items())))
        numbers = map(str, (result.records, result.pictures, result.errors, result.warnings))
        table.add_row(result.dataset, *numbers, "\n".join(lines))
    options.console_of().print(table)
