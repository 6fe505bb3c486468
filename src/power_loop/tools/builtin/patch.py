"""The tool `apply_patch`. How a patch is read and applied is in `patching`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.files import PATH, FileTools, loaded, told, utf8
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.builtin.patching import PatchError, apply, read_patch
from power_loop.tools.builtin.saving import check_read, save
from power_loop.tools.env import Place

APPLY_PATCH = ToolDefinition(
    "apply_patch",
    "Apply a unified patch to one file that was read before: hunks '@@ -start,count +start,count @@' or '@@ a line before it'. "
    "All hunks apply, or nothing is written. Files are neither created nor deleted.",
    {
        "type": "object",
        "properties": {"path": PATH, "patch": {"type": "string", "minLength": 1}},
        "required": ["path", "patch"],
        "additionalProperties": False,
    },
    effects="once",
)
DEFINITIONS = (APPLY_PATCH,)


class PatchTool(FileTools):
    """The handler, for one registry."""

    @told
    def apply_patch(self, run: ToolRun, path: str, patch: str) -> ToolHandlerResult:
        utf8(patch, "patch")
        place, memory = self.place(run, path), self._given.memory.of(run)
        text, found = loaded(place)
        check_read(memory, place, found)
        try:
            hunks = read_patch(patch, lambda name: self._is(run, name, place))
            body = apply(text.body, hunks, text.newline)
        except PatchError as error:
            return failed(f"{place.shown}: {error}. Nothing was written")
        if body == text.body:
            return failed(f"{place.shown}: the patch changes nothing")
        memory.saw(place.path, save(place, text._replace(body=body).encoded(), found))
        signs = [sign for hunk in hunks for sign, _ in hunk.lines]
        counted = f"{len(hunks)} hunk{'s' * (len(hunks) > 1)}, {signs.count('+')} lines added, {signs.count('-')} taken out"
        return ToolHandlerResult(True, f"patched {place.shown}: {counted}")

    def _is(self, run: ToolRun, name: str, place: Place) -> bool:
        """Does a file header's ``name`` mean ``place``? Git writes ``a/`` and ``b/`` before it."""
        bare = name[2:] if name.startswith(("a/", "b/")) else name
        return any(self._leads_to(run, each, place) for each in (name, bare))

    def _leads_to(self, run: ToolRun, name: str, place: Place) -> bool:
        try:
            return self.place(run, name).path == place.path
        except ValueError:
            return False


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"apply_patch": PatchTool(given).apply_patch}
