"""The bar that shows how far work is: the same one for questions, episodes and records."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """What is done, of how many, and the time left; nothing is shown where the console is no terminal.

    A `transient` bar goes away with the work.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient, disable=not console.is_terminal)
