"""How far work is, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from robointervlm.jobs.progress import progress_bar


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_only(terminal: bool):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=60, color_system=None)
    with progress_bar(console) as bar:
        bar.advance(bar.add_task("episodes", total=4), 3)
    said = console.file.getvalue()
    assert ("episodes" in said, "3/4" in said) == (terminal, terminal)
