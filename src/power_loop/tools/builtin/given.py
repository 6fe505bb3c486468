"""What a registry gives its built-in tools: the environment of a call, and what the process remembers of its session."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from power_loop.contracts.tool import ToolHandlerResult, ToolRun
from power_loop.tools.env import RuntimeEnv

CommandCheck = Literal["standard", "off"] | Callable[[str], str | None]
"""How a shell command is judged before it runs; a callable gives the text of its refusal, or None."""

# Files whose stamps one session keeps; the oldest is forgotten and has to be read again.
MAX_STAMPS = 4096
# Sessions that one registry remembers at a time; one that is forgotten has to read its files again.
MAX_SESSIONS = 1024


class Stamp(NamedTuple):
    """By what a file is told from a changed one."""

    mtime_ns: int
    size: int
    inode: int = 0
    """Clocks of file systems are coarse: two versions of one size may bear one time, but a replaced file is another one."""


class SessionMemory:
    """What one session has seen of the file system. Safe to use from any thread."""

    def __init__(self) -> None:
        self._stamps: OrderedDict[str, Stamp] = OrderedDict()
        self._roots: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def saw(self, path: str, stamp: Stamp) -> None:
        """The session has read, or has just written, this version of ``path`` (absolute, without links)."""
        with self._lock:
            self._stamps[path] = stamp
            self._stamps.move_to_end(path)
            if len(self._stamps) > MAX_STAMPS:
                self._stamps.popitem(last=False)

    def seen(self, path: str) -> Stamp | None:
        """The version of ``path`` that the session saw last; None when it never did."""
        with self._lock:
            return self._stamps.get(path)

    def open_root(self, path: str) -> None:
        """From now on this session may read below ``path``: the folder of a skill that it loaded."""
        with self._lock:
            self._roots |= {path}

    @property
    def roots(self) -> frozenset[str]:
        """The folders that loaded skills opened for reading."""
        return self._roots


class Memory:
    """What the process remembers of each session that used these tools; it ends with the registry.

    Two stores may know sessions of one id, so a session is told by both.
    """

    def __init__(self) -> None:
        self._of_store: weakref.WeakKeyDictionary[Any, OrderedDict[str, SessionMemory]] = weakref.WeakKeyDictionary()
        self._without_store: OrderedDict[str, SessionMemory] = OrderedDict()
        self._lock = threading.Lock()
        with _LOCK:
            _MEMORIES.add(self)

    def of(self, run: ToolRun) -> SessionMemory:
        """The memory of the session that ``run`` belongs to."""
        with self._lock:
            sessions = self._without_store if run.store is None else self._of_store.setdefault(run.store, OrderedDict())
            memory = sessions.setdefault(run.session_id or "", SessionMemory())
            sessions.move_to_end(run.session_id or "")
            if len(sessions) > MAX_SESSIONS:
                sessions.popitem(last=False)
            return memory

    def forget(self, store: Any, session_id: str) -> None:
        with self._lock:
            if (sessions := self._of_store.get(store)) is not None:
                sessions.pop(session_id, None)


_MEMORIES: weakref.WeakSet[Memory] = weakref.WeakSet()
_LOCK = threading.Lock()


def forget_session(store: Any, session_id: str) -> None:
    """A session of ``store`` was deleted: another one may be made under its id, which has seen nothing."""
    with _LOCK:
        memories = list(_MEMORIES)
    for memory in memories:
        memory.forget(store, session_id)


@dataclass(frozen=True)
class Given:
    """One registry's share in its built-in tools."""

    env: Callable[[ToolRun], RuntimeEnv]
    """The environment of a call. Raises `RuntimeEnvError` where there is none."""
    memory: Memory = field(default_factory=Memory)
    command_check: CommandCheck = "standard"


def failed(text: str) -> ToolHandlerResult:
    """The result of a call that did not do what it was asked; ``text`` says why and what to try."""
    return ToolHandlerResult(False, text)
