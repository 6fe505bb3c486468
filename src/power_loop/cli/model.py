"""Which model a command talks to: ``--model``, else the environment, else the offline echo."""

from __future__ import annotations

import os
from typing import NamedTuple

from power_loop.cli.exits import USAGE, CommandFailed
from power_loop.contracts.model import LLMService
from power_loop.providers.open import create_llm, create_llm_service_from_env

# One of these set says that a model was meant; a half-told one is an error that names the rest.
TELLING = ("PROVIDER", "BASE_URL", "API_KEY", "MODEL")
PREFIXES = ("POWER_LOOP", "OPENAI_COMPAT")

OFFLINE = (
    "offline: no model is configured, so you talk to an echo. "
    "Set POWER_LOOP_BASE_URL, POWER_LOOP_API_KEY and POWER_LOOP_MODEL, or give --model PROVIDER:MODEL."
)


class Chosen(NamedTuple):
    """A model, and what the user should know about the choice."""

    llm: LLMService
    remark: str = ""


def chosen_model(name: str | None) -> Chosen:
    """The model that ``name`` (``PROVIDER:MODEL``) or the environment names. Raises `CommandFailed` for a half-told one."""
    try:
        if name is not None:
            return Chosen(create_llm(name))
        if any(os.environ.get(f"{prefix}_{variable}", "").strip() for prefix in PREFIXES for variable in TELLING):
            return Chosen(create_llm_service_from_env())
    except ValueError as error:
        raise CommandFailed(str(error), USAGE) from error
    return Chosen(create_llm("echo:"), OFFLINE)
