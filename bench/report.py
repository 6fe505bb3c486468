"""The table that a run of the bench prints."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Lines of (what, measured, beside, bar, kept)."""

    rows: list[tuple[str, str, str, str, bool | None]] = field(default_factory=list)

    def add(self, what: str, measured: str, beside: str = "", bar: str = "", kept: bool | None = None) -> None:
        self.rows.append((what, measured, beside, bar, kept))
        print("  " + self._line(self.rows[-1], [46, 16, 34, 44]), flush=True)

    def text(self) -> str:
        missed = [row[0] for row in self.rows if row[4] is False]
        kept = sum(row[4] is True for row in self.rows)
        return f"\n{kept} bars kept, {len(missed)} missed" + "".join(f"\n  missed: {what}" for what in missed)

    @staticmethod
    def _line(row: tuple[str, str, str, str, bool | None], widths: list[int]) -> str:
        verdict = "" if row[4] is None else "ok" if row[4] else "MISSED"
        return "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), verdict]).rstrip()
