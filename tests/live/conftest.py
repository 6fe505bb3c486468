"""Which models the live tests talk to: those that ``POWER_LOOP_LIVE`` names, and always a third-party server on this machine.

    POWER_LOOP_LIVE="openai:gpt-4o-mini anthropic:claude-haiku-4-5" pytest tests/live

Keys and addresses come from the variables that `create_llm` reads. Without ``POWER_LOOP_LIVE`` no real model is asked; what then runs is
the rehearsal, which shows that the tests themselves are sound.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import npm
import pytest

from power_loop import create_llm
from power_loop.llm import LLMService

AIMOCK = "@copilotkit/aimock@1.43.0"
ASKED = os.environ.get("POWER_LOOP_LIVE", "").split()


@dataclass(frozen=True)
class Endpoint:
    """A model behind a wire, and how one gets its refusals."""

    name: str
    """PROVIDER:MODEL"""
    base_url: str | None = None
    """None: a real one, as the environment says."""

    def llm(self, *, model: str | None = None, api_key: str | None = None) -> LLMService:
        name = f"{self.name.partition(':')[0]}:{model}" if model else self.name
        if self.base_url is None:
            return create_llm(name, **({"api_key": api_key} if api_key else {}))
        return create_llm(name, api_key=api_key or "rehearsal", base_url=self.base_url)

    def with_a_wrong_key(self) -> LLMService:
        """The rehearsal's server looks at no key, so there it is a model that refuses it."""
        return self.llm(api_key="wrong") if self.base_url is None else self.llm(model="refuses-the-key")

    def of_no_model(self) -> LLMService:
        return self.llm(model="no-such-model")


@pytest.fixture(scope="session")
def rehearsal() -> Iterator[str]:
    """The address of a third-party server that speaks both wires."""
    try:
        program = npm.installed(AIMOCK, ".bin/llmock")
    except LookupError as why:
        pytest.skip(f"no rehearsal of the live tests: {why}")
    command = [str(program), "-p", "0", "-f", str(Path(__file__).with_name("aimock.json")), "--strict", "-c", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.terminate()


@pytest.fixture(params=["rehearsal-openai", "rehearsal-anthropic", *ASKED])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    if request.param == "rehearsal-openai":
        return Endpoint("openai:rehearsal", request.getfixturevalue("rehearsal") + "/v1")
    if request.param == "rehearsal-anthropic":
        return Endpoint("anthropic:rehearsal", request.getfixturevalue("rehearsal"))
    chosen = Endpoint(request.param)
    try:
        chosen.llm()
    except ValueError as why:
        pytest.skip(f"{request.param} was asked for, but {why}")
    return chosen
