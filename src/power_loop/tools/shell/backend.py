"""Where a shell runs: the seam that sandboxes plug into, and the shell of this machine behind it.

`LocalShellBackend` is no boundary: what it starts may do whatever the host's user may. It only keeps the host's
environment, and the secrets in it, from being handed on by accident.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol, runtime_checkable

# What a program needs to find its way around; nothing that usually holds a secret.
ALLOWED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE"),
    }
)
ALLOWED_PREFIX = "LC_"
# No colours and no paging tricks: the output is read by a model.
PLAIN: Mapping[str, str] = {"TERM": "dumb", "NO_COLOR": "1"}
BASH = ("/bin/bash", "--norc", "--noprofile")


@runtime_checkable
class ShellBackend(Protocol):
    """How a shell is started for the workspace ``ws``. Asked in any thread, once for each shell and each background command.

    The process must be a bash that takes commands from its standard input and hands its three streams through
    (``docker exec -i … bash`` does). What raises here is told to the model, and nothing is started.
    """

    def launch_argv(self, ws: str) -> list[str]:
        """The program and its arguments."""
        ...

    def launch_cwd(self, ws: str) -> str | None:
        """The directory to start it in; None: wherever the host runs."""
        ...

    def launch_env(self, ws: str) -> dict[str, str]:
        """Its whole environment."""
        ...

    def session_key(self, ws: str) -> Hashable:
        """Shells of one session that have equal keys are one shell."""
        ...


class LocalShellBackend:
    """bash on this machine, as the host's user, with the allow-listed environment. No boundary.

    ``inherit_env`` hands the whole environment on; ``env`` names single variables that are let through besides;
    ``extra`` sets variables.
    """

    env: tuple[str, ...]
    extra: dict[str, str]
    inherit_env: bool

    def __init__(
        self,
        *,
        inherit_env: bool = False,
        env: Sequence[str] = (),
        extra: Mapping[str, str] = {},  # it is copied, and never changed
    ) -> None:
        self.inherit_env, self.env, self.extra = inherit_env, names(env), dict(extra)

    def launch_argv(self, ws: str) -> list[str]:
        return list(BASH)

    def launch_cwd(self, ws: str) -> str | None:
        return ws

    def launch_env(self, ws: str) -> dict[str, str]:
        return shell_environment(inherit_env=self.inherit_env, env=self.env, extra=self.extra)

    def session_key(self, ws: str) -> Hashable:
        return ("local", ws, self.inherit_env, self.env, tuple(sorted(self.extra.items())))

    def __repr__(self) -> str:
        return f"LocalShellBackend(inherit_env={self.inherit_env}, env={self.env}, extra={sorted(self.extra)})"


def shell_environment(
    *, inherit_env: bool = False, env: Sequence[str] = (), extra: Mapping[str, str] | None = None, source: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a child: the allow-list, the variables named in ``env``, ``extra``, and plain output.

    ``POWER_LOOP_SHELL_ENV=inherit`` in ``source`` (default: this process's environment) hands everything on.
    """
    have = os.environ if source is None else source
    everything = inherit_env or have.get("POWER_LOOP_SHELL_ENV", "").strip().lower() == "inherit"
    passed = {name: value for name, value in have.items() if everything or _is_allowed(name) or name in env}
    return {**passed, **PLAIN, **(extra or {})}


def names(env: Sequence[str]) -> tuple[str, ...]:
    """The names of variables, as a tuple. A string alone is one name, not its letters."""
    return (env,) if isinstance(env, str) else tuple(env)


def _is_allowed(name: str) -> bool:
    return name.upper() in ALLOWED or name.startswith(ALLOWED_PREFIX)


DEFAULT_SHELL_BACKEND = LocalShellBackend()
