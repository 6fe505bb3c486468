"""The built-in tools by name: which there are, which sets of them, and a registry of them for one environment.

What a module of built-in tools offers is agreed in the docstring of `tools.builtin`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.tool import ToolDefinition, ToolRun
from power_loop.tools.bound import BoundTool
from power_loop.tools.builtin.given import CommandCheck, Given
from power_loop.tools.env import AnyPath, RuntimeEnv, current_runtime_env
from power_loop.tools.toolbox import ToolHandler, ToolRegistry

# Tool → its module in `tools.builtin`.
TOOL_MODULES: Mapping[str, str] = {
    "bash": "shell",
    "read_file": "files",
    "write_file": "files",
    "edit_file": "files",
    "apply_patch": "patch",
    "glob": "search",
    "grep": "search",
    "load_skill": "skills",
    "request_user_input": "ask",
    "todo": "todo",
    "note_add": "notes",
    "note_update": "notes",
    "note_delete": "notes",
    "schedule_wakeup": "wakeups",
    "list_wakeups": "wakeups",
    "cancel_wakeup": "wakeups",
    "current_time": "clock",
    "recall_compacted": "recall",
    "recall_send": "recall",
    "recall_output": "recall",
    "background_run": "background",
    "check_background": "background",
}

FULL_TOOL_NAMES = tuple(TOOL_MODULES)
CORE_TOOL_NAMES = FULL_TOOL_NAMES[:9]
EXPLORE_TOOL_NAMES = ("bash", "read_file", "glob", "grep", "load_skill", "request_user_input")
TOOL_PRESETS: Mapping[str, tuple[str, ...]] = {"core": CORE_TOOL_NAMES, "explore": EXPLORE_TOOL_NAMES, "full": FULL_TOOL_NAMES}

NEEDS_WORKSPACE = frozenset({"bash", "read_file", "write_file", "edit_file", "apply_patch", "glob", "grep", "background_run"})


def create_default_tool_registry(
    *,
    preset: str | None = None,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    workspace_dir: AnyPath | None = None,
    home_dir: AnyPath | None = None,
    skills_dir: AnyPath | None = None,
    shell_backend: Any = None,
    blackboard: Any = None,
    blackboard_id: str | None = None,
    bind: bool = True,
    read_only_roots: Iterable[AnyPath] = (),
    command_check: CommandCheck = "standard",
) -> ToolRegistry:
    """The built-in tools of ``preset`` (or ``include``, without ``exclude``), for one environment.

    What is not given comes from the variables ``POWER_LOOP_WORKSPACE``, ``_HOME`` and ``_SKILLS_DIR``. ``bind=False``: the
    tools work in the `runtime_env_context` of each call instead, so that one registry serves many tenants.

    Raises `ValueError` for an unknown preset or tool, `RuntimeEnvError` where a tool needs a workspace and there is none.
    """
    names = chosen_names(preset, include, exclude)
    if command_check not in ("standard", "off") and not callable(command_check):
        raise ValueError(f"command_check is {command_check!r}; it must be 'standard', 'off' or a function of the command")
    if not bind:
        return _registry(names, Given(ambient_env, command_check=command_check))
    variables = RuntimeEnv.from_env()
    bound = RuntimeEnv(
        workspace_dir or variables.workspace_dir, home_dir or variables.home_dir, skills_dir or variables.skills_dir,
        shell_backend, blackboard, blackboard_id, tuple(read_only_roots),
    )  # fmt: skip
    _refuse_without_workspace(names, bound)
    registry = _registry(names, Given(bound_env(bound), command_check=command_check))
    registry.env = bound
    return registry


def chosen_names(preset: str | None, include: Iterable[str] | None, exclude: Iterable[str] | None) -> list[str]:
    """The tools of a preset, or those of ``include``, without those of ``exclude``. Raises `ValueError` for unknown ones."""
    if preset is not None and preset not in TOOL_PRESETS:
        raise ValueError(f"there is no preset {preset!r}; there are {', '.join(TOOL_PRESETS)}")
    wanted = _names("include", include) if include is not None else TOOL_PRESETS[preset or "full"]
    unwanted = _names("exclude", exclude or ())
    return [name for name in dict.fromkeys(wanted) if name not in unwanted]


def _names(what: str, given: Iterable[str]) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    if unknown := [name for name in names if name not in TOOL_MODULES]:
        raise ValueError(f"{what} names no built-in tool: {', '.join(map(repr, unknown))}; there are {', '.join(TOOL_MODULES)}")
    return names


def _refuse_without_workspace(names: Iterable[str], env: RuntimeEnv) -> None:
    in_need = [name for name in names if name in NEEDS_WORKSPACE]
    if in_need and env.workspace_dir is None:
        raise RuntimeEnvError(f"{', '.join(in_need)} need a workspace: give workspace_dir=…, or set POWER_LOOP_WORKSPACE")
    if in_need and not env.workspace.is_dir():
        raise RuntimeEnvError(f"the workspace {str(env.workspace)!r} is no folder; make it, or give another workspace_dir")


# --- the environment of a call ------------------------------------------------------------------------


def bound_env(bound: RuntimeEnv) -> Callable[[ToolRun], RuntimeEnv]:
    """``bound`` at every call; an outer context supplies only the shell backend and the board, where it has none."""

    def env_of(run: ToolRun) -> RuntimeEnv:
        outer = current_runtime_env()
        return bound if outer is None else bound.completed_by(outer)

    return env_of


def ambient_env(run: ToolRun) -> RuntimeEnv:
    """The environment that the call finds: of the context, else of its run, else of the variables."""
    outer = current_runtime_env()
    if outer is not None:
        return outer
    return run.env if isinstance(run.env, RuntimeEnv) else RuntimeEnv.from_env()


# --- definitions and handlers -------------------------------------------------------------------------


def get_tool_definitions(
    *, preset: str | None = None, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
) -> list[ToolDefinition]:
    """What the built-in tools of ``preset`` (or ``include``, without ``exclude``) say of themselves. Raises `ValueError`."""
    return [definition_of(name) for name in chosen_names(preset, include, exclude)]


def validate_tool_args(name: str, args: Mapping[str, Any]) -> str | None:
    """Everything in which ``args`` break the schema of the built-in tool ``name``; None when they keep it. Raises `ValueError`."""
    return BoundTool(definition_of(_names("name", name)[0]), _unused).violations(args)


def definition_of(name: str) -> ToolDefinition:
    definitions = cast("tuple[ToolDefinition, ...]", _module_of(name).DEFINITIONS)
    return next(each for each in definitions if each.name == name)


def _unused(**arguments: Any) -> None:
    """Stands where only a definition is looked at."""


def _registry(names: list[str], given: Given) -> ToolRegistry:
    registry, handlers = ToolRegistry(), Handlers(given)
    for name in names:
        registry.register(definition_of(name), handlers[name])
    return registry


def _module_of(name: str) -> Any:
    return import_module(f"power_loop.tools.builtin.{TOOL_MODULES[name]}")


class Handlers(Mapping[str, ToolHandler]):
    """The handlers of all built-in tools; those of a module are made when the first of them is taken, and share what they are given."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._made: dict[str, Mapping[str, ToolHandler]] = {}

    def __getitem__(self, name: str) -> ToolHandler:
        module = TOOL_MODULES[name]
        if module not in self._made:
            self._made.setdefault(module, _module_of(name).handlers(self._given))
        return self._made[module][name]

    def __iter__(self) -> Iterator[str]:
        return iter(TOOL_MODULES)

    def __len__(self) -> int:
        return len(TOOL_MODULES)


DEFAULT_TOOL_HANDLERS: Mapping[str, ToolHandler] = Handlers(Given(ambient_env))
"""Bound to no environment: each call works in its `runtime_env_context`."""
