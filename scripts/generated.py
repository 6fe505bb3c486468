"""Every file that is written from the code: the stub, the pages, the diagrams.

``python scripts/generated.py`` names those that are not up to date; ``--write`` renews them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import acceptance
import architecture
import catalogue
import cli_reference
import diagrams
import examples_page
import reference
import stub

# Each gives its files, whole, as they should be.
WRITERS: tuple[Callable[[], dict[Path, str]], ...] = (
    stub.files, architecture.files, acceptance.files, reference.files, cli_reference.files, catalogue.files, diagrams.files,
    examples_page.files,
)  # fmt: skip


def stale() -> dict[Path, str]:
    """The files that are not what the code says, and what they should be."""
    found = {path: text for files in WRITERS for path, text in files().items()}
    return {path: text for path, text in found.items() if not path.is_file() or path.read_text(encoding="utf-8") != text}


def main() -> int:
    found = stale()
    for path, text in found.items():
        if "--write" in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        else:
            print(f"{path.name} is not up to date: run `make map`")
    return 1 if found and "--write" not in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
