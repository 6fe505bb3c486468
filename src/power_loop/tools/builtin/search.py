"""The tools `glob` and `grep`.

How folders are walked is in `search_walk`, how lines are matched in `search_lines` and `search_helpers`.
"""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.files import PATH, FileTools, printable, told
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.builtin.search_helpers import LARGE_BYTES, Matcher, TookTooLong, worth_a_look
from power_loop.tools.builtin.search_lines import Lines, Wanted
from power_loop.tools.builtin.search_walk import Found, Pattern, walk
from power_loop.tools.env import Place, RuntimeEnv
from power_loop.tools.folders import open_file

GLOB_RESULTS, MAX_GLOB_RESULTS = 100, 500
GREP_RESULTS, MAX_GREP_RESULTS = 50, 500
GREP_TIMEOUT_S = 30.0

_FOLDER = {**PATH, "description": "The folder to search; the workspace by default"}
_HIDDEN = {"type": "boolean", "description": "Look at hidden files and folders too. false by default"}
_PASSED_OVER = "Hidden files, caches, build results and version control are passed over unless named."

GLOB = ToolDefinition(
    "glob",
    f"Find files by name, newest first: '*.py' in any folder, 'src/**/*.{{ts,tsx}}' below one. {_PASSED_OVER}",
    {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "minLength": 1},
            "path": _FOLDER,
            "max_results": {"type": "integer", "minimum": 1, "maximum": MAX_GLOB_RESULTS, "description": f"{GLOB_RESULTS} by default"},
            "include_hidden": _HIDDEN,
        },
        "required": ["pattern"],
        "additionalProperties": False,
    },
    effects="pure",
)
GREP = ToolDefinition(
    "grep",
    f"Find lines that match a regular expression, as path:line:text. {_PASSED_OVER}",
    {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "minLength": 1, "description": "A Python regular expression, matched line by line"},
            "path": {**PATH, "description": "The folder or file to search; the workspace by default"},
            "include": {"type": "string", "minLength": 1, "description": "Only files that this glob pattern means, like '*.py'"},
            "max_results": {"type": "integer", "minimum": 1, "maximum": MAX_GREP_RESULTS, "description": f"{GREP_RESULTS} by default"},
            "literal": {"type": "boolean", "description": "Take the pattern as plain text. false by default"},
            "case_sensitive": {"type": "boolean", "description": "true by default"},
            "include_hidden": _HIDDEN,
        },
        "required": ["pattern"],
        "additionalProperties": False,
    },
    effects="pure",
)
DEFINITIONS = (GLOB, GREP)


class SearchTools(FileTools):
    """The handlers, for one registry."""

    def glob(
        self, run: ToolRun, pattern: str, path: str = ".", max_results: int = GLOB_RESULTS, include_hidden: bool = False
    ) -> ToolHandlerResult:
        return self._glob(run, path, pattern, max_results, include_hidden)

    def grep(
        self,
        run: ToolRun,
        pattern: str,
        path: str = ".",
        include: str | None = None,
        max_results: int = GREP_RESULTS,
        literal: bool = False,
        case_sensitive: bool = True,
        include_hidden: bool = False,
    ) -> ToolHandlerResult:
        if "\0" in pattern:  # no argument of a program can hold it
            return failed("the pattern holds a NUL character, which stands in no text file: leave it out")
        return self._grep(run, path, Wanted(pattern, literal, case_sensitive), include, max_results, include_hidden)

    @told
    def _glob(self, run: ToolRun, path: str, pattern: str, max_results: int, hidden: bool) -> ToolHandlerResult:
        path, pattern = rooted(path, pattern)
        place, env = self.place(run, path, for_reading=True), self._given.env(run)
        met = walk(place, Pattern(pattern), hidden=hidden, stopped=run.cancel.is_cancelled)
        total = 0

        def times() -> Iterator[tuple[int, str]]:
            nonlocal total
            for found in met:
                if (changed := _changed(found, place, env)) is not None:
                    total += 1
                    yield changed, shown(place, found.parts)

        newest = heapq.nsmallest(max_results, times(), key=lambda each: (-each[0], each[1]))
        if run.cancel.is_cancelled():
            return failed("the search was cancelled")
        if not newest:
            return ToolHandlerResult(True, "no file matches")
        more = [f"[{total - len(newest)} more files match: narrow the pattern or the path]"] if total > len(newest) else []
        return ToolHandlerResult(True, "\n".join([*(name for _, name in newest), *more]))

    @told
    def _grep(self, run: ToolRun, path: str, wanted: Wanted, include: str | None, room: int, hidden: bool) -> ToolHandlerResult:
        place, until = self.place(run, path, for_reading=True), time.monotonic() + GREP_TIMEOUT_S
        try:
            matcher = Matcher(wanted, until)
        except (re.error, OverflowError, RecursionError) as error:
            return failed(f"the pattern is no regular expression ({error}): mend it, or use literal=true")
        take_back = run.cancel.on_cancel(lambda reason: matcher.end())
        lines: list[str] = []
        notice = ""
        try:
            for name, found in self._matches(run, place, matcher, wanted, include, hidden, room + 1):
                lines += [f"{name}:{number}:{text}" for number, text in found]
                if len(lines) > room:
                    notice = f"[more than {room} lines match: narrow the pattern, the path or include]"
                    break
        except TookTooLong:
            notice = f"[stopped after {GREP_TIMEOUT_S:.0f} s, some files were not searched: simplify the pattern, or narrow the path]"
        finally:
            take_back()
            matcher.close()
        if run.cancel.is_cancelled():
            return failed("the search was cancelled")
        text = "\n".join([*lines[:room], *([notice] if notice else [])])
        return ToolHandlerResult(bool(lines) or not notice, text or "no line matches")

    def _matches(
        self, run: ToolRun, place: Place, matcher: Matcher, wanted: Wanted, include: str | None, hidden: bool, room: int
    ) -> Iterator[tuple[str, Lines]]:
        """(how the file is called, its matching lines), by name, until ``room`` lines are found."""
        for name, fd in self._files(run, place, wanted, include, hidden):
            try:
                found = matcher.lines(fd, room)
            finally:
                os.close(fd)
            if found:
                room -= len(found)
                yield name, found
            if not room:
                return

    def _files(self, run: ToolRun, place: Place, wanted: Wanted, include: str | None, hidden: bool) -> Iterator[tuple[str, int]]:
        """(how it is called, a descriptor) of each file that may match."""
        if (fd := _as_file(place)) is not None:
            yield place.shown, fd
            return
        pattern = Pattern(include or "**")
        worthy = worth_a_look(place, wanted, pattern, hidden=hidden, timeout_s=GREP_TIMEOUT_S)
        for found in walk(place, pattern, hidden=hidden, stopped=run.cancel.is_cancelled):
            if found.kind != "file" or (worthy is not None and "/".join(found.parts) not in worthy and not _is_large(found)):
                continue
            try:
                fd = found.folder.open_file(found.name)
            except OSError:
                continue  # not readable, gone, or a link by now
            yield shown(place, found.parts), fd


def rooted(path: str, pattern: str) -> tuple[str, str]:
    """A pattern that begins at a root is one below it: its first part joins the path. Raises `ValueError` for ``..``."""
    if ".." in pattern.split("/"):
        raise ValueError("a pattern cannot hold '..': give the folder as path")
    if not pattern.startswith(("/", "~", "@workspace/", "@home/")):
        return path, pattern
    head, tail = pattern.split("/"), list[str]()
    while head and (not tail or any(any(sign in part for sign in "*?[{") for part in head)):
        tail.insert(0, head.pop())
    return "/".join(head) or "/", "./" + "/".join(tail)


def _as_file(place: Place) -> int | None:
    """A descriptor of the file at ``place``; None where a folder is. Raises `OSError`."""
    try:
        return open_file(place)
    except IsADirectoryError:
        return None


def _is_large(found: Found) -> bool:
    """Too large for ripgrep to have looked at it."""
    try:
        return found.folder.status(found.name).st_size > LARGE_BYTES
    except OSError:
        return False


def _changed(found: Found, place: Place, env: RuntimeEnv) -> int | None:
    """When the file was last changed (ns); None for what is gone, or a link that is no file inside of the roots."""
    try:
        if found.kind == "link":
            target = env.place(os.path.join(place.path, *found.parts), for_reading=True)
            os.close(open_file(target))
        return found.folder.status(found.name).st_mtime_ns
    except (OSError, ValueError):
        return None


def shown(place: Place, parts: tuple[str, ...]) -> str:
    """How the model may call what lies ``parts`` below ``place``."""
    return printable("/".join(parts if place.shown == "." else (place.shown, *parts)))


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    tools = SearchTools(given)
    return {"glob": tools.glob, "grep": tools.grep}
