"""The tools `read_file`, `write_file` and `edit_file`.

Where they may go is `env`'s business, how files are opened that of `folders`, how they are replaced that of `saving`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.text import encodes
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.builtin.edits import EditError, replace, unified_diff
from power_loop.tools.builtin.given import Given, Stamp, failed
from power_loop.tools.builtin.saving import TEMPORARY, Refused, check_read, save, stamp_of
from power_loop.tools.builtin.slices import read_all, read_slice, same_bytes
from power_loop.tools.builtin.text import SNIFFED_BYTES, NotText, Text, clean, encoding_of
from power_loop.tools.env import Place
from power_loop.tools.folders import listed, open_file, why

DEFAULT_LINES = 2000
MAX_LINES = 20_000
# A larger file is read in slices only.
MAX_WHOLE_BYTES = 5 * 1024 * 1024
# A larger file is not held in memory to be changed.
MAX_EDITED_BYTES = 64 * 1024 * 1024
MAX_LISTED = 200
# Of a path, in what is said of it.
SHOWN_CHARS = 200

PATH: Mapping[str, Any] = {"type": "string", "minLength": 1, "description": "Relative to the workspace, or @home/…"}

READ_FILE = ToolDefinition(
    "read_file",
    "Read a text file as numbered lines, or list a folder. Long files are shown in parts: go on with offset.",
    {
        "type": "object",
        "properties": {
            "path": PATH,
            "offset": {"type": "integer", "minimum": 1, "description": "The first line to show, counted from 1"},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LINES, "description": f"How many lines; {DEFAULT_LINES} by default"},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
    effects="pure",
)
WRITE_FILE = ToolDefinition(
    "write_file",
    "Write a whole file; missing folders are made. A file that exists must have been read before in this session.",
    {
        "type": "object",
        "properties": {
            "path": PATH,
            "content": {"type": "string"},
            "overwrite": {"type": "boolean", "description": "false: fail where the file exists. true by default"},
        },
        "required": ["path", "content"],
        "additionalProperties": False,
    },
    effects="idempotent",
)
EDIT_FILE = ToolDefinition(
    "edit_file",
    "Replace a piece of a file that was read before. old_text must stand in it exactly once, blanks and line breaks included.",
    {
        "type": "object",
        "properties": {
            "path": PATH,
            "old_text": {"type": "string"},
            "new_text": {"type": "string"},
            "replace_all": {"type": "boolean", "description": "Replace every place where old_text stands. false by default"},
        },
        "required": ["path", "old_text", "new_text"],
        "additionalProperties": False,
    },
    effects="once",
)
DEFINITIONS = (READ_FILE, WRITE_FILE, EDIT_FILE)

S = TypeVar("S")
P = ParamSpec("P")
Handler = Callable[Concatenate[S, ToolRun, str, P], ToolHandlerResult]


def told(handler: Handler[S, P]) -> Handler[S, P]:
    """The handler, with what the file system refuses told to the model."""

    @functools.wraps(handler)
    def guarded(self: S, run: ToolRun, path: str, *args: P.args, **kwargs: P.kwargs) -> ToolHandlerResult:
        try:
            return handler(self, run, path, *args, **kwargs)
        except (Refused, EditError, RuntimeEnvError) as error:
            return failed(str(error))
        except NotText as error:
            return failed(f"this file cannot be handled as text: {error}. Use another tool for it")
        except OSError as error:
            way_out = "" if isinstance(error, PermissionError) else ". glob shows which files there are"
            return failed(f"{path[:SHOWN_CHARS]!r} cannot be used: {why(error)}{way_out}")
        except ValueError as error:
            return failed(str(error))

    return guarded


class FileTools:
    """The handlers, for one registry."""

    def __init__(self, given: Given) -> None:
        self._given = given

    def place(self, run: ToolRun, path: str, *, for_reading: bool = False) -> Place:
        """Where ``path`` leads. Raises `ValueError` where it may not go."""
        opened = self._given.memory.of(run).roots if for_reading else ()
        return self._given.env(run).place(path, for_reading=for_reading, also=opened)

    @told
    def read_file(self, run: ToolRun, path: str, offset: int = 1, limit: int | None = None) -> ToolHandlerResult:
        place = self.place(run, path, for_reading=True)
        try:
            fd = open_file(place)
        except IsADirectoryError:
            return ToolHandlerResult(True, listing(place))
        try:
            status = os.fstat(fd)
            encoding = encoding_of(os.read(fd, SNIFFED_BYTES))
            if encoding is None:
                about = f"{place.shown} is a binary file of {status.st_size} bytes"
                return failed(f"{about}: they are not shown, and no tool for files replaces it. Write to another path")
            if limit is None and status.st_size > MAX_WHOLE_BYTES:
                return failed(f"{place.shown} has {status.st_size / 1048576:.1f} MiB: give a limit (and an offset) to read a part of it")
            part = read_slice(fd, encoding, offset, limit or DEFAULT_LINES)
        finally:
            os.close(fd)
        if part.total < offset and (part.total or offset > 1):
            return failed(f"{place.shown} has {part.total} lines; offset {offset} lies beyond its end")
        self._given.memory.of(run).saw(place.path, stamp_of(status))
        return ToolHandlerResult(True, numbered(place.shown, part.lines, offset, part.total, cut=part.cut))

    @told
    def write_file(self, run: ToolRun, path: str, content: str, overwrite: bool = True) -> ToolHandlerResult:
        data = utf8(content, "content")
        place, memory = self.place(run, path), self._given.memory.of(run)
        try:
            fd = open_file(place)
        except FileNotFoundError:
            memory.saw(place.path, save(place, data, None))
            return ToolHandlerResult(True, f"wrote {place.shown}: {len(data)} bytes, a new file")
        try:
            found, same = stamp_of(os.fstat(fd)), same_bytes(fd, data)
        finally:
            os.close(fd)
        if same:
            memory.saw(place.path, found)
            return ToolHandlerResult(True, f"{place.shown} holds exactly these {len(data)} bytes already")
        if not overwrite:
            return failed(f"{place.shown} exists with another content; read it, or write it with overwrite=true")
        check_read(memory, place, found)
        memory.saw(place.path, save(place, data, found))
        return ToolHandlerResult(True, f"wrote {place.shown}: {len(data)} bytes in place of {found.size}")

    @told
    def edit_file(self, run: ToolRun, path: str, old_text: str, new_text: str, replace_all: bool = False) -> ToolHandlerResult:
        utf8(new_text, "new_text")
        place, memory = self.place(run, path), self._given.memory.of(run)
        text, found = loaded(place)
        check_read(memory, place, found)
        try:
            edited = replace(text.body, old_text, new_text, everywhere=replace_all, newline=text.newline)
        except EditError as error:
            return failed(f"{place.shown}: {error}")
        memory.saw(place.path, save(place, text._replace(body=edited.body).encoded(), found))
        times = "" if len(edited.spots) == 1 else f" in {len(edited.spots)} places"
        return ToolHandlerResult(True, f"edited {place.shown}{times}\n{unified_diff(text.body, edited.body, place.shown)}")


def loaded(place: Place) -> tuple[Text, Stamp]:
    """A file's text and the stamp of just this version. Raises `NotText`, `Refused` for a huge one, `OSError`."""
    fd = open_file(place)
    try:
        status = os.fstat(fd)
        if status.st_size > MAX_EDITED_BYTES:
            raise Refused(f"{place.shown} has {status.st_size / 1048576:.0f} MiB, which is too large to be changed here")
        return Text.of(read_all(fd)), stamp_of(status)
    finally:
        os.close(fd)


def utf8(text: str, what: str) -> bytes:
    """Raises `ValueError` for text that no file can hold."""
    if not encodes(text):
        raise ValueError(f"{what} holds a lone surrogate, which is no text; leave it out")
    return text.encode()


def numbered(shown: str, lines: list[str], first: int, total: int, *, cut: bool) -> str:
    """The lines as the model reads them, with how to go on."""
    if not total:
        return f"{shown}: the file is empty"
    last = first + len(lines) - 1
    text = [f"{shown}: showing lines {first}-{last} of {total}"]
    text += [f"{number:>6}|{line}" for number, line in enumerate(lines, first)]
    if cut:
        text.append(f"[line {last} is cut here: no more than 5 MiB are shown at once]")
    if last < total:
        text.append(f"[{total - last} more lines: continue with offset={last + 1}]")
    return "\n".join(text)


def listing(place: Place) -> str:
    """A folder's entries, folders first."""
    entries = sorted(
        (each for each in listed(place) if not each.name.startswith(TEMPORARY)), key=lambda each: (each.kind != "folder", each.name)
    )
    marks = {"folder": "/", "link": " (link)", "other": " (special)"}
    names = [printable(each.name) + marks.get(each.kind, "") for each in entries[:MAX_LISTED]]
    more = [f"[{len(entries) - MAX_LISTED} more entries: use glob]"] if len(entries) > MAX_LISTED else []
    return "\n".join([f"{place.shown}: a folder with {len(entries)} entries", *names, *more])


def printable(name: str) -> str:
    """A file's name as one line of text: bytes that are none become U+FFFD, control characters are spelled out."""
    return name if name.isascii() and name.isprintable() else re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], clean(name))


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    tools = FileTools(given)
    return {"read_file": tools.read_file, "write_file": tools.write_file, "edit_file": tools.edit_file}
