"""Where tools work: the workspace, the home, the skills, and what of the file system may be touched.

`RuntimeEnv` says which paths are allowed; opening them without being led astray is the business of `folders`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from power_loop.contracts.errors import RuntimeEnvError

AnyPath = str | os.PathLike[str]

# Below the home only these may be touched; the rest is the kernel's own.
HOME_FOLDERS = (".cache", "logs")
VARIABLES = ("WORKSPACE", "HOME", "SKILLS_DIR")


class Place(NamedTuple):
    """A path that is allowed: below which root, and how the model may call it."""

    root: str
    """Absolute and without links, as it was when the environment was made."""
    parts: tuple[str, ...]
    """The way down from the root: no links when it was looked up, no ``..``."""
    shown: str

    @property
    def path(self) -> str:
        return os.path.join(self.root, *self.parts)


@dataclass(frozen=True)
class RuntimeEnv:
    """What the built-in tools of one agent, or one tenant, work with. Paths are made absolute; nothing is created yet."""

    workspace_dir: AnyPath | None = None
    home_dir: AnyPath | None = None
    """None: the variable ``POWER_LOOP_HOME`` at the time of use, else ``~/.power_loop``."""
    skills_dir: AnyPath | None = None
    """None: ``skills`` below the home."""
    shell_backend: Any = None
    blackboard: Any = None
    blackboard_id: str | None = None
    read_only_roots: tuple[AnyPath, ...] = ()
    _workspace_root: str | None = field(init=False, repr=False, compare=False, default=None)
    _reading_roots: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        for name in ("workspace_dir", "home_dir", "skills_dir"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, absolute(given, name))
        roots = (self.read_only_roots,) if isinstance(self.read_only_roots, (str, os.PathLike)) else self.read_only_roots
        object.__setattr__(self, "read_only_roots", tuple(absolute(root, "read_only_roots") for root in roots))
        # Followed once, now: a root that is replaced by a link later does not lead the tools elsewhere.
        if self.workspace_dir is not None:
            object.__setattr__(self, "_workspace_root", os.path.realpath(self.workspace_dir))
        object.__setattr__(self, "_reading_roots", tuple(os.path.realpath(root) for root in self.read_only_roots))

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> RuntimeEnv:
        """The environment that the variables ``POWER_LOOP_WORKSPACE``, ``_HOME`` and ``_SKILLS_DIR`` describe; empty is unset."""
        variables = os.environ if env is None else env
        workspace, home, skills = (variables.get(f"POWER_LOOP_{name}") or None for name in VARIABLES)
        return cls(workspace, home, skills)

    def completed_by(self, outer: RuntimeEnv) -> RuntimeEnv:
        """This environment, with the shell backend and the board of ``outer`` where it has none of its own."""
        completed = copy.copy(self)  # not made anew: its roots stay what they were
        if self.shell_backend is None:
            object.__setattr__(completed, "shell_backend", outer.shell_backend)
        if self.blackboard is None:
            object.__setattr__(completed, "blackboard", outer.blackboard)
            object.__setattr__(completed, "blackboard_id", self.blackboard_id if self.blackboard_id is not None else outer.blackboard_id)
        return completed

    # --- the folders ----------------------------------------------------------------------------------

    @property
    def workspace(self) -> Path:
        """Raises `RuntimeEnvError` when there is none: it is never the current directory."""
        if self.workspace_dir is None:
            raise RuntimeEnvError("these tools need a workspace: give workspace_dir=…, or set POWER_LOOP_WORKSPACE")
        return Path(self.workspace_dir)

    @property
    def home(self) -> Path:
        """Made when first asked for."""
        home = self._home()
        home.mkdir(parents=True, exist_ok=True)
        return home

    @property
    def skills(self) -> Path:
        """Where skills are looked for; it need not be there."""
        return Path(self.skills_dir) if self.skills_dir is not None else self._home() / "skills"

    def _home(self) -> Path:
        return absolute(self.home_dir or os.environ.get("POWER_LOOP_HOME") or "~/.power_loop", "home_dir")

    def _was_led_out(self, home: str) -> bool:
        """The home stands in the workspace, where a shell may have put a link in its place."""
        workspace = self._workspace_root
        return workspace is not None and not below(home, workspace) and below(str(self._home()), str(self.workspace_dir))

    # --- what may be touched --------------------------------------------------------------------------

    def safe_path(self, path: AnyPath, *, for_reading: bool = False, also: Iterable[str] = ()) -> Path:
        """``path``, absolute and without links. ``also``: further roots that may be read, as they were without links.

        Takes ``@workspace/x``, ``@home/x``, ``~/x``, absolute paths, and anything else relative to the workspace.
        Raises `ValueError` where it leads outside of what may be touched, `RuntimeEnvError` without a workspace.
        """
        return Path(self.place(path, for_reading=for_reading, also=also).path)

    def place(self, path: AnyPath, *, for_reading: bool = False, also: Iterable[str] = ()) -> Place:
        """The same, as a way down from an allowed root: for `folders`, which walks it without following a link."""
        text = os.fspath(path)
        if "\0" in text:
            raise ValueError("a path cannot hold a NUL character")
        real = os.path.realpath(self._spelled_out(text))
        found = _below_one(real, self._writable())
        if found is not None and (for_reading or not self._kept_from_writing(real, found.root)):
            if found.root != self._workspace_root:
                os.makedirs(self._home(), exist_ok=True)
            return found
        # As they were: what somebody has put in the place of such a root since then is not what was opened.
        found = _below_one(real, ((root, (), root) for root in (*self._reading_roots, *also)))
        if found is not None and for_reading:
            return found
        named = "this path" if os.path.isabs(text) or text.startswith("~") else repr(text)
        if found is not None:
            raise ValueError(f"{named} can be read but not written: it lies in a read-only folder. Write below the workspace")
        raise ValueError(f"{named} leads outside of the folders that may be touched. Use a path relative to the workspace, or @home/…")

    def _spelled_out(self, text: str) -> str:
        for word, root in (("@workspace", lambda: self.workspace), ("@home", lambda: self.home)):
            if text == word or text.startswith((word + "/", word + os.sep)):
                return os.path.join(root(), text[len(word) + 1 :])
        return os.path.join(self.workspace, os.path.expanduser(text)) if not os.path.isabs(text) else text

    def _kept_from_writing(self, real: str, root: str) -> bool:
        """A read-only folder inside of what may be written stays one."""
        return any(below(real, kept) and below(kept, root) and kept != root for kept in self._reading_roots)

    def _writable(self) -> Iterator[Allowed]:
        """What may be read and written, the workspace first."""
        if self._workspace_root is not None:
            yield self._workspace_root, (), ""
        home, skills = os.path.realpath(self._home()), os.path.realpath(self.skills)
        if self._was_led_out(home):
            return
        yield from ((home, (name,), "@home") for name in HOME_FOLDERS)
        if skills.startswith(home + os.sep):
            yield home, tuple(skills[len(home) + 1 :].split(os.sep)), "@home"


def below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


Allowed = tuple[str, tuple[str, ...], str]
"""(root, the folder below it that may be touched, how the model calls the root)."""


def _below_one(real: str, allowed: Iterable[Allowed]) -> Place | None:
    """Where ``real`` lies, if below one of ``allowed``."""
    for root, folder, name in allowed:
        inside = root.rstrip(os.sep) + os.sep
        parts = tuple(real[len(inside) :].split(os.sep)) if real.startswith(inside) else () if real == root else None
        if parts is not None and parts[: len(folder)] == folder:
            return Place(root, parts, "/".join((name, *parts) if name else parts) or ".")
    return None


def absolute(path: AnyPath, what: str) -> Path:
    """``path`` made absolute, ``~`` too; links stay. Raises `ValueError` for what is no path."""
    text = os.fspath(path)
    if not text or "\0" in text:
        raise ValueError(f"{what} is {text!r}; it must be a path")
    return Path(os.path.abspath(os.path.expanduser(text)))


# --- the environment of a call ------------------------------------------------------------------------

# The one thing here that is fetched from the air: programs of the 3.x line set it around a send.
_CURRENT: ContextVar[RuntimeEnv | None] = ContextVar("power_loop_runtime_env", default=None)


@contextmanager
def runtime_env_context(env: RuntimeEnv) -> Generator[RuntimeEnv]:
    """Tools that are called inside, in this task and those it starts, work in ``env`` unless they are bound to another."""
    token = _CURRENT.set(env)
    try:
        yield env
    finally:
        _CURRENT.reset(token)


def current_runtime_env() -> RuntimeEnv | None:
    """The environment of the innermost `runtime_env_context`; None outside of any."""
    return _CURRENT.get()


def environment_of(tools: Any) -> RuntimeEnv:
    """The environment of calls of ``tools``: what their registry is bound to, else that of the context, else of the variables."""
    bound, outer = getattr(tools, "env", None), current_runtime_env()
    if bound is not None:
        return bound.completed_by(outer) if outer is not None else bound
    if outer is not None:
        return outer
    values = [os.environ.get(f"POWER_LOOP_{name}") or None for name in VARIABLES]
    try:
        return _of_variables(*values, os.getcwd())
    except OSError:  # the current directory is gone, and with it what is relative to it
        return RuntimeEnv()


@lru_cache(maxsize=8)
def _of_variables(workspace: str | None, home: str | None, skills: str | None, cwd: str) -> RuntimeEnv:
    """Made once for the same variables in the same directory: it follows links, and no call should wait for the disk."""
    return RuntimeEnv(workspace, home, skills)
