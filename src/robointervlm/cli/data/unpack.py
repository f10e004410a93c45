"""`robointer data unpack`: the published picture archives, unpacked where they lie."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robointervlm.core.errors import RecipeError
from robointervlm.data.prepare.unpack import TYPES, Unpacked, archives_of
from robointervlm.data.prepare.unpack import unpack as unpack_archives
from robointervlm.data.spec import ROOT_VARIABLE, data_root

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def unpack(
    *,
    data_type: Annotated[
        str, typer.Option("--data-type", "--data_type", help=f"{', '.join(TYPES)}, or all.")
    ] = "Generation",
    root: Annotated[
        Path | None,
        typer.Option("--root", "--data_root", help=f"The folder that holds Generation; default: ${ROOT_VARIABLE}."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "--num_workers", min=1, help="Number of worker processes; default: one per core."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--dry_run", help="Look the archives through, write nothing.")
    ] = False,
    max_unpacked: Annotated[
        str, typer.Option("--max-unpacked", help="Bytes that all archives may unpack to, such as 500GB.")
    ] = "2TB",
) -> None:
    """Unpack the picture archives next to where they lie, split ones too. Run again, it finishes what was stopped.

    A damaged archive (exit code 3) or a hostile one (exit code 5) is named, and the others are unpacked all the same.

    Example: `robointer data unpack --data-type all --root /data/RoboInter-VQA`
    """
    folder = data_root(root)
    if folder is None:
        raise RecipeError(f"--root (or {ROOT_VARIABLE}) is missing: the folder that holds {', '.join(TYPES)}.")
    limit = _bytes(max_unpacked)
    archives = archives_of(folder, _types(data_type))
    console = Console(stderr=True)
    columns = (TextColumn("unpacking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        job = bar.add_task("", total=None)
        results = unpack_archives(
            archives,
            workers=workers or os.cpu_count() or 1,
            max_unpacked=limit,
            dry_run=dry_run,
            progress=lambda done, total: bar.update(job, completed=done, total=total),
        )
    for result in results:
        typer.echo(_line(result, dry_run=dry_run), err=bool(result.problem))
    code = max(result.exit_code for result in results)
    if code:
        raise typer.Exit(code)


def _types(name: str) -> tuple[str, ...]:
    if name != "all" and name not in TYPES:
        raise RecipeError(f"--data-type {name} is not known; one of {', '.join(TYPES)}, all.")
    return TYPES if name == "all" else (name,)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMGT]?)B?", text, re.IGNORECASE)
    if found is None:
        raise RecipeError(f"--max-unpacked {text} is not a size; write it as 500GB.")
    return int(found[1]) * _UNITS[found[2].upper()]


def _line(result: Unpacked, *, dry_run: bool) -> str:
    if result.problem:
        return f"not unpacked: {result.problem}"
    there = f"{result.kept} there already"
    if dry_run:
        return f"{result.archive}: {result.members} files, {result.size / 1e9:.2f} GB; {there}"
    return f"{result.archive}: {result.written} files written, {there}"
