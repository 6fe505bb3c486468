"""What the pages say of file tools agrees with what they are."""

from __future__ import annotations

import re
from pathlib import Path

from power_loop import ToolRegistry, create_default_tool_registry


# acceptance: 113 (files)
def test_the_pages_say_that_file_tools_are_no_boundary_and_where_one_is(repo: Path) -> None:
    text = (repo / "docs" / "guides" / "files.md").read_text(encoding="utf-8")
    assert re.search(r"\*\*That is no security boundary\*\*", text)
    assert "(shell.md)" in text


# acceptance: 113 (a tool beside them keeps to nothing)
def test_a_tool_of_the_host_beside_them_is_not_confined(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "diary.txt").write_text("dear diary")

    def peek(path: str) -> str:
        """Read any file."""
        return Path(path).read_text(encoding="utf-8")

    registry: ToolRegistry = create_default_tool_registry(include=["read_file"], workspace_dir=tmp_path / "work")
    registry.add(peek)
    assert "outside of the folders" in registry.invoke("read_file", {"path": "../diary.txt"}).content
    assert registry.invoke("peek", {"path": str(tmp_path / "diary.txt")}) == "dear diary"
