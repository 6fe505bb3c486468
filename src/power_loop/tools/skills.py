"""Skills: folders with a ``SKILL.md`` that says what they are for, and how to go about it.

Their descriptions are for the system prompt; a body is loaded when the model asks for it. The tool of a preset is in
`builtin.skills`; here is the loader, and the same tool for registries that are put together by hand.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from power_loop.contracts.log import log
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.tools.env import AnyPath, RuntimeEnv, absolute, current_runtime_env
from power_loop.tools.folders import HAS_HANDLES, ByHandle, ByPath, why
from power_loop.tools.front_matter import split
from power_loop.tools.toolbox import ToolRegistry

FILE = "SKILL.md"
# A body is read by a model: what is longer belongs into files beside it.
MAX_BYTES = 1024 * 1024

HOW = "Before you begin a task that one of these is for, read how to go about it with load_skill."

Version = tuple[int, int]
"""Time of the last change (ns) and size."""


def about(args: Mapping[str, Any], result: str | None) -> str:
    return f"load_skill: {args.get('name')}"


LOAD_SKILL_DEFINITION = ToolDefinition(
    "load_skill",
    "Read how to go about a kind of task: the instructions of a skill by its name. Files that belong to it can be read afterwards.",
    {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1, "description": "As the list of skills names it"}},
        "required": ["name"],
        "additionalProperties": False,
    },
    project=about,
    effects="pure",
)


@dataclass(frozen=True)
class Skill:
    """One skill, as its file describes it."""

    name: str
    description: str
    body: str
    root: str
    """Its folder, absolute and without links."""
    fields: Mapping[str, Any]
    """The whole front matter: license, compatibility, metadata, allowed-tools."""


class _Known(NamedTuple):
    version: Version
    skill: Skill | None
    """None: this version is broken, and that was said."""


class SkillLoader:
    """The skills of one folder. A file is read again only when its time or size has changed. Safe to use from any thread."""

    def __init__(self, skills_dir: AnyPath | None = None) -> None:
        """None: the skills of the current `runtime_env_context`, else those that the variables name."""
        self.skills_dir: str = str(absolute(skills_dir, "skills_dir") if skills_dir is not None else current_env().skills)
        self._known: dict[str, _Known] = {}
        self._section: tuple[dict[str, Version], str] = ({}, "")
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Sorted."""
        return list(self.skills())

    def skills(self) -> dict[str, Skill]:
        """By name, as they are on the disk now."""
        with self._lock:
            self._known = {folder: self._look(folder, file, version) for folder, file, version in self._found()}
            return {folder: known.skill for folder, known in self._known.items() if known.skill is not None}

    def get_descriptions(self) -> str:
        """A line for each skill: ``- name: description``; empty without any."""
        return "\n".join(f"- {name}: {' '.join(skill.description.split())}" for name, skill in self.skills().items())

    def get_content(self, name: str) -> str | None:
        """The body of a skill; None when there is no such skill."""
        skill = self.skills().get(name)
        return None if skill is None else skill.body

    def build_system_prompt_section(self) -> str:
        """What the model is told of its skills; empty without any. The same object until a file changes."""
        described = self.get_descriptions()
        with self._lock:
            versions = {folder: known.version for folder, known in self._known.items()}
            if self._section[0] != versions:
                self._section = (versions, f"# Skills\n{HOW}\n{described}" if described else "")
            return self._section[1]

    def handle_load_skill(self, name: str) -> ToolHandlerResult:
        """The block that the model reads of a skill, or why there is none."""
        return self.load(name, current_env())[0]

    def load(self, name: str, env: RuntimeEnv) -> tuple[ToolHandlerResult, Skill | None]:
        """(what the model reads, the skill if there is one)."""
        skills = self.skills()
        skill = skills.get(name)
        if skill is None:
            there_are = f"there are {', '.join(skills)}" if skills else "there are none here"
            return ToolHandlerResult(False, f"There is no skill {name!r}; {there_are}."), None
        try:
            return ToolHandlerResult(True, block(skill, env), {"skill": name}), skill
        except OSError as error:
            return ToolHandlerResult(False, f"The skill {name!r} cannot be used: its home cannot be made ({why(error)})."), None

    def reload(self) -> None:
        """Read every file again."""
        with self._lock:
            self._known = {}
        self.skills()

    def _found(self) -> list[tuple[str, str, Version]]:
        """(name of the folder, its path, version of its file), by name."""
        try:
            with os.scandir(self.skills_dir) as entries:
                folders = sorted(entry.name for entry in entries if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            log.warning("the folder of skills %s cannot be read: %s", self.skills_dir, why(error))
            return []
        found: list[tuple[str, str, Version]] = []
        for folder in folders:
            path = os.path.join(self.skills_dir, folder)
            try:
                status = os.lstat(os.path.join(path, FILE))
            except OSError:
                continue  # some other folder
            found.append((folder, path, (status.st_mtime_ns, status.st_size)))
        return found

    def _look(self, name: str, path: str, version: Version) -> _Known:
        known = self._known.get(name)
        if known is not None and known.version == version:
            return known
        try:
            return _Known(version, read_skill(name, path))
        except OSError as error:
            said = why(error)
        except ValueError as error:
            said = str(error)
        log.warning("the skill %s is left out: %s", os.path.join(path, FILE), said)
        return _Known(version, None)


def read_skill(name: str, path: str) -> Skill:
    """The skill in the folder at ``path``. Raises `OSError` (for a link in the place of its file too), and `ValueError`."""
    root = os.path.realpath(path)
    fields, body = split(_text(root))
    said, description = fields.get("name", name), fields.get("description")
    if said != name:
        raise ValueError(f"its name is {said!r}, but that of its folder {name!r}")
    if not isinstance(description, str) or not description.strip():
        raise ValueError("it has no description")
    return Skill(name, description.strip(), body, root, fields)


def _text(root: str) -> str:
    folder = (ByHandle if HAS_HANDLES else ByPath).root(root)
    try:
        with os.fdopen(folder.open_file(FILE), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        folder.close()
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from error


def block(skill: Skill, env: RuntimeEnv) -> str:
    """The body between tags that say where it works."""
    where = {"name": skill.name, "root": skill.root, "home": env.home}
    if env.workspace_dir is not None:
        where["workspace"] = env.workspace
    told = " ".join(f'{key}="{escape(str(value))}"' for key, value in where.items())
    return f"<skill {told}>\n{skill.body}\n</skill>"


def skills_of(env: RuntimeEnv, run: ToolRun) -> str:
    """The folder of skills that a call in ``env`` means: its own, else that of the loop's configuration, else below the home."""
    if env.skills_dir is None and run.config is not None and (configured := run.config.tooling.skills_dir) is not None:
        return str(absolute(configured, "skills_dir"))
    return str(env.skills)


def prompt_section(tool: Any, run: ToolRun) -> str:
    """What ``tool`` (``load_skill``, as it is on offer) has to say in the system prompt: its handler's ``prompt_section(run)``.

    Looks at the disk. Empty where the handler has no such method, or it fails; that is logged.
    """
    say = getattr(tool.handler, "prompt_section", None)
    try:
        return str(say(run)) if say is not None else ""
    except Exception as error:  # may be the host's own handler
        log.warning("the skills are left out of the system prompt: %s", error)
        return ""


def current_env() -> RuntimeEnv:
    """The environment of the context, else that of the variables."""
    return current_runtime_env() or RuntimeEnv.from_env()


def get_default_loader() -> SkillLoader:
    """A loader of the current environment's skills. Keep it: what it has read, it knows."""
    return SkillLoader()


def register_skill_tools(registry: ToolRegistry, *, skills_dir: AnyPath | None = None) -> SkillLoader:
    """Offer ``load_skill`` in ``registry``; the loader behind it.

    Tools that read files are told nothing of it: give them the folder in ``read_only_roots`` when it lies outside of
    the home, or take all of them from one `create_default_tool_registry`, where loading a skill opens its folder.
    """
    loader = SkillLoader(skills_dir)
    registry.register(LOAD_SKILL_DEFINITION, _ByHand(loader))
    return loader


class _ByHand:
    """``load_skill`` over one loader."""

    def __init__(self, loader: SkillLoader) -> None:
        self._loader = loader

    def __call__(self, run: ToolRun, name: str) -> ToolHandlerResult:
        return self._loader.load(name, run.env if isinstance(run.env, RuntimeEnv) else current_env())[0]

    def prompt_section(self, run: ToolRun) -> str:
        return self._loader.build_system_prompt_section()
