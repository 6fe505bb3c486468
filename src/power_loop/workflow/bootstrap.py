"""What a worker process is made of: which model, which tools, which folders. `WorkerBootstrap` says it as a document."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from power_loop.contracts.errors import WorkerBootstrapError

# What a provider is described by in the environment, below its prefix.
PROVIDER_VARIABLES = frozenset(
    {
        *("BASE_URL", "API_KEY", "MODEL", "PROVIDER", "TIMEOUT_S", "MAX_TOKENS", "TEMPERATURE", "MAX_RETRIES", "CONTEXT_WINDOW"),
        *("ECHO_REPLY", "ECHO_SLEEP"),
    }
)
# Before a worker's result, with a word that only it and its parent know: whatever else is printed is not it.
RESULT = "power-loop-result"
DEFAULT_PREFIX, FALLBACK_PREFIX = "POWER_LOOP", "OPENAI_COMPAT"


@dataclass(frozen=True)
class WorkerBootstrap:
    """How a worker gets its model and its tools. Factories are for workers that share this program's code, not for documents."""

    llm_from_env: bool = False
    """The model that the worker's environment describes."""
    provider_prefix: str | None = None
    """Of the variables that describe it; None: ``POWER_LOOP``, then ``OPENAI_COMPAT``."""
    tool_preset: str | None = None
    """A preset of the built-in tools; None: no tools."""
    workspace_dir: str | os.PathLike[str] | None = None
    home_dir: str | os.PathLike[str] | None = None
    llm_factory: Callable[[], Any] | None = None
    registry_factory: Callable[[], Any] | None = None

    def __post_init__(self) -> None:
        if not self.llm_from_env and self.llm_factory is None:
            raise WorkerBootstrapError("a worker needs a model: set llm_from_env=True, or give llm_factory= to an executor that takes one")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON. Raises `WorkerBootstrapError` for factories, which are code of this process."""
        factories = [name for name in ("llm_factory", "registry_factory") if getattr(self, name) is not None]
        if factories:
            text = f"{' and '.join(factories)} cannot be handed to another process: use llm_from_env and tool_preset"
            raise WorkerBootstrapError(text)
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        told |= {name: os.path.abspath(path) for name in ("workspace_dir", "home_dir") if (path := getattr(self, name)) is not None}
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> WorkerBootstrap:
        """What `to_dict` made. Raises `WorkerBootstrapError`."""
        try:
            return cls(**members)
        except TypeError as error:
            raise WorkerBootstrapError(f"this bootstrap cannot be read: {error}") from error

    def provider_environment(self, source: Mapping[str, str]) -> dict[str, str]:
        """The variables of ``source`` that describe the worker's model."""
        if not self.llm_from_env:
            return {}
        prefixes = (self.provider_prefix,) if self.provider_prefix is not None else (DEFAULT_PREFIX, FALLBACK_PREFIX)
        return {name: value for name, value in source.items() if any(_describes(name, prefix) for prefix in prefixes)}


def _describes(name: str, prefix: str) -> bool:
    start, _, rest = name.partition(f"{prefix}_")
    return not start and (rest in PROVIDER_VARIABLES or rest.startswith("SUPPORTS_"))


def place_of(db_path: str) -> str:
    """The database's path in full; the folder that it is in is there."""
    path = os.path.abspath(db_path)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    return path


def workspace_of(bootstrap: WorkerBootstrap, db_path: str, given: str | None = None) -> str:
    """Where the leaf's tools work: as it was said, else in a folder of its own beside the database."""
    own = f"{os.path.splitext(db_path)[0]}.work"
    chosen = os.path.abspath(given or bootstrap.workspace_dir or os.environ.get("POWER_LOOP_WORKSPACE") or own)
    os.makedirs(chosen, exist_ok=True)
    return chosen
