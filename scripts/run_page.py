"""Runs the Python blocks of one page, top to bottom, in one namespace: ``python run_page.py PAGE``.

`await` may stand at top level; a traceback names the page and its line. A block below ``<!-- no-run: reason -->``
is shown to readers and not run.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

FENCE = re.compile(
    r"^(?:<!-- no-run: (?P<reason>[^\n]+?) -->\n+)?(?P<indent> *)```python(?P<words>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """One fenced block of Python."""

    line: int
    """Where its code begins on the page."""
    code: str
    skipped: str | None
    """Why it is not run."""
    words: str
    """What stands behind ``python`` in the fence; renderers want nothing there."""


def blocks(page: str) -> Iterator[Block]:
    for found in FENCE.finditer(page):
        indent = len(found["indent"])
        code = "".join(line[indent:] or "\n" for line in found["code"].splitlines(keepends=True))
        yield Block(page.count("\n", 0, found.start("code")) + 1, code, found["reason"], found["words"])


def run(path: Path) -> int:
    """How many blocks ran."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    todo = [block for block in blocks(path.read_text(encoding="utf-8")) if block.skipped is None]
    with asyncio.Runner() as runner:
        for block in todo:
            padded = "\n" * (block.line - 1) + block.code
            code = compile(padded, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(cast("Coroutine[Any, Any, Any]", eval(code, namespace)))
            else:
                exec(code, namespace)
    return len(todo)


if __name__ == "__main__":
    print(run(Path(sys.argv[1])), "blocks ran")
