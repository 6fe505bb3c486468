"""Boxes, arrows and tables as SVG text: just enough for the diagrams of the documentation.

Everything is set in one monospaced size, so that widths can be known without a font. The page is light in either theme.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

CHAR, LINE, PAD = 7.3, 17, 8
"""Width of a character, height of a line, and the room around text, in pixels at 12 px."""
PLAIN, BLUE, GREEN, AMBER, GREY = "#ffffff", "#e8f0fe", "#e6f4ea", "#fff4e0", "#f1f3f4"
INK, FAINT, RULE = "#202124", "#5f6368", "#bdc1c6"


class Drawing:
    """Elements, and how far they reach."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []
        self.width = self.height = 0.0

    def text(self, x: float, y: float, words: str, *, faint: bool = False, bold: bool = False) -> None:
        """One line whose top is ``y``."""
        style = f'fill="{FAINT if faint else INK}"' + (' font-weight="bold"' if bold else "")
        self._parts.append(f'<text xml:space="preserve" x="{x:g}" y="{y + 12:g}" {style}>{escape(words)}</text>')
        self._reach(x + CHAR * len(words), y + LINE)

    def box(self, x: float, y: float, lines: Sequence[str], *, width: float = 0, fill: str = PLAIN, bold_first: bool = False) -> float:
        """A box around ``lines``, at least ``width`` wide; the y of its lower edge."""
        width = max(width, 2 * PAD + CHAR * max(map(len, lines)))
        height = 2 * PAD + LINE * len(lines)
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" stroke="{RULE}"/>')
        for place, line in enumerate(lines):
            self.text(x + PAD, y + PAD + LINE * place, line, bold=bold_first and place == 0)
        self._reach(x + width, y + height)
        return y + height

    def arrow(self, x1: float, y1: float, x2: float, y2: float, words: str = "") -> None:
        """From one point to another; ``words`` stand above or beside it."""
        self._parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{FAINT}" marker-end="url(#tip)"/>')
        if words:
            beside, above = (x1 + 6, y1 - LINE) if y1 == y2 else (x1 + 6, (y1 + y2) / 2 - 9)
            self.text(beside, above, words, faint=True)
        self._reach(max(x1, x2), max(y1, y2))

    def svg(self) -> str:
        """The whole file."""
        wide, high = self.width + 10, self.height + 10
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}" '
            f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12" role="img" aria-label="{escape(self.title)}">'
        )
        tip = (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{FAINT}"/></marker></defs>'
        )
        page = f'<rect width="{wide:g}" height="{high:g}" fill="{PLAIN}"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", tip, page, *self._parts, "</svg>"]) + "\n"

    def _reach(self, x: float, y: float) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)


def wrapped(words: str, width: int) -> list[str]:
    """``words`` in lines of at most ``width`` characters."""
    return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False) or [""]
