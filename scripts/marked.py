"""Pages of which a part is written by hand and a part by a script: the part stands between two marks."""

from __future__ import annotations


def renewed(page: str, begin: str, part: str, end: str) -> str:
    """``page`` with ``part`` between the marks ``begin`` and ``end``."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{part}\n\n{end}{after}"
