"""What is kept of a command's output, and what is shown of it."""

from __future__ import annotations

import pytest

from power_loop.tools.shell.exchange import spoken
from power_loop.tools.shell.output import Output


def fed(text: bytes, *, chunk: int = 7, **bounds: int) -> Output:
    output = Output(**bounds)
    for at in range(0, len(text), chunk):
        output.feed(text[at : at + chunk])
    return output


@pytest.mark.parametrize("lines", [0, 1, 5, 6, 100])
@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_the_first_and_last_lines_are_shown_and_the_rest_is_counted(lines: int, end: str, chunk: int) -> None:
    text = "\n".join(map(str, range(lines))) + (end if lines else "")
    shown = fed(text.encode(), chunk=chunk).lines(2, 3)
    if lines <= 5:
        assert shown == text
    else:
        assert shown == f"0\n1\n[... {lines - 5} lines left out ...]\n{lines - 3}\n{lines - 2}\n{lines - 1}{end}"


def test_what_is_kept_does_not_grow_with_what_comes() -> None:
    output = fed(b"0123456789\n" * 10_000, chunk=1000, head_bytes=100, tail_bytes=1000)
    assert len(output._head) + len(output._tail) <= 100 + 2 * 1000 + 1000
    shown = output.lines(2, 3)
    assert shown == "0123456789\n0123456789\n[... 9995 lines, 109945 bytes left out ...]\n" + "0123456789\n" * 3
    assert output.total == 110_000


def test_the_end_alone_is_cut_to_characters() -> None:
    assert fed(b"abc", head_bytes=0).last(10) == "abc"
    output = fed("ä".encode() * 1000, head_bytes=0, tail_bytes=400)
    assert output.last(100).startswith("[... 2000 bytes in all, the last of them follow ...]\nä")
    assert len(output.last(100)) == 100
    assert fed(b"x" * 200, head_bytes=0).last(100).endswith("x" * 40)


def test_what_the_shell_is_told_names_no_mark_as_it_is_printed() -> None:
    """So a shell that prints what it reads, or what it runs, prints no mark."""
    assert "\x1e" not in spoken("echo 'it''s'", "a" * 32)
