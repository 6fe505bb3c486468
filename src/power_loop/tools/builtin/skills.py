"""The tool ``load_skill`` of a registry: the skills of the call's environment, whose folders it opens for reading."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from power_loop.contracts.errors import RuntimeEnvError
from power_loop.contracts.tool import ToolHandlerResult, ToolRun
from power_loop.tools.builtin.given import Given, failed
from power_loop.tools.skills import LOAD_SKILL_DEFINITION, SkillLoader, skills_of

DEFINITIONS = (LOAD_SKILL_DEFINITION,)

# Folders of skills that one registry knows at a time; one that is forgotten is read again.
MAX_LOADERS = 64


class LoadSkill:
    """The handler, for one registry that may serve many environments."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._loaders: OrderedDict[str, SkillLoader] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, run: ToolRun, name: str) -> ToolHandlerResult:
        """Synchronous: files are read in a thread, off the event loop."""
        try:
            env = self._given.env(run)
            result, skill = self._loader(skills_of(env, run)).load(name, env)
        except RuntimeEnvError as error:
            return failed(str(error))
        if skill is not None:
            self._given.memory.of(run).open_root(skill.root)
        return result

    def prompt_section(self, run: ToolRun) -> str:
        """The skills that a call would find, for the system prompt; looks at the disk."""
        return self._loader(skills_of(self._given.env(run), run)).build_system_prompt_section()

    def _loader(self, skills_dir: str) -> SkillLoader:
        with self._lock:
            loader = self._loaders.setdefault(skills_dir, SkillLoader(skills_dir))
            self._loaders.move_to_end(skills_dir)
            if len(self._loaders) > MAX_LOADERS:
                self._loaders.popitem(last=False)
            return loader


def handlers(given: Given) -> dict[str, Callable[..., Any]]:
    return {"load_skill": LoadSkill(given)}
