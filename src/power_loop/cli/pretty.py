"""Tables, colours and a progress bar where the terminal and the extra ``cli`` (rich) allow it; plain lines everywhere else.

What is shown may come from a model: it is given to rich as text, never as markup, with control characters taken out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from power_loop.cli.screen import seen

STYLES = ((">", "bold"), ("  ->", "cyan"), ("  <-", "dim"), ("[", "yellow"))
"""How lines of a transcript look that begin so."""

# What is narrower is no column of text.
LAST_COLUMN_CHARS = 12
# Between two columns.
GAP_CHARS = 2


def console_on(stream: TextIO) -> Any:
    """A rich console on ``stream``; None where it is no terminal, colours are unwanted, or rich is not installed."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, console: Any = None) -> bool:
    """Show a table, its cells whole but for the last column; False where that is not possible, and the caller prints lines."""
    if (console := console or console_on(sys.stdout)) is None:
        return False
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False)
    cells = [[seen(cell) for cell in row] for row in rows]
    longest = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    least = [*longest[:-1], min(longest[-1], LAST_COLUMN_CHARS)]
    if sum(least) + GAP_CHARS * (len(least) - 1) > console.width:
        return False
    for column, width in zip(columns, least, strict=True):
        shown.add_column(column, overflow="fold", min_width=width)
    for row in cells:
        shown.add_row(*map(Text, row))
    console.print(shown)
    return True


def transcript(lines: Sequence[str], *, console: Any = None) -> bool:
    """Show a conversation in colours; False where that is not possible."""
    if (console := console or console_on(sys.stdout)) is None:
        return False
    from rich.text import Text

    for line in lines:
        style = next((style for begins, style in STYLES if line.startswith(begins)), "")
        console.print(Text(seen(line), style=style), soft_wrap=True)
    return True


@contextmanager
def working(what: str) -> Generator[None]:
    """Say on standard error, if somebody looks, what takes so long, and for how long: the store does it in one go, so no share is known."""
    console = console_on(sys.stderr)
    if console is not None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            bar.add_task(seen(what), total=None)
            yield
    elif sys.stderr.isatty():
        print(f"{seen(what)} …", file=sys.stderr, flush=True)
        yield
    else:
        yield
