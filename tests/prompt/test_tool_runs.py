"""What a handler is told of where it runs, by parameter and from the air; and one registry for many tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from power_loop import (
    AgentHooks,
    AgentLoopConfig,
    HookDirective,
    RuntimeEnv,
    StatefulAgentLoop,
    ToolRegistry,
    ToolRun,
    ToolRuntimeContext,
    Usage,
    create_default_tool_registry,
    get_tool_runtime_context,
    runtime_env_context,
    tool,
)
from power_loop.testing import ScriptedLLM, call, calls, say


class Tools:
    """Handlers that keep what they were told."""

    def __init__(self) -> None:
        self.runs: list[ToolRun] = []

    async def look(self, run: ToolRun) -> str:
        """Look."""
        assert get_tool_runtime_context(required=True) is run
        self.runs.append(run)
        return "seen"

    def look_sync(self, run: ToolRun) -> str:
        """Look."""
        assert get_tool_runtime_context() is run
        self.runs.append(run)
        return "seen"

    def later(self) -> Awaitable[str]:
        """Give something to wait for."""
        first = get_tool_runtime_context(required=True)

        async def rest() -> str:
            await asyncio.sleep(0)
            assert get_tool_runtime_context(required=True) is first
            self.runs.append(first)
            return "seen"

        return rest()


# acceptance: 118
@pytest.mark.parametrize("name", ["look", "look_sync", "later"])
async def test_every_field_of_a_run_is_filled(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POWER_LOOP_WORKSPACE", str(tmp_path))
    tools, deps = Tools(), object()
    model = ScriptedLLM([say("0"), call(name), call(name), say("1")])
    config = AgentLoopConfig()
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[getattr(tools, name)], deps=deps, config=config) as loop:
        session = await loop.new_session()
        await loop.send("first", session)
        result = await loop.send("second", session)
        first, second = tools.runs
        assert (first.session_id, first.tool_name, first.send_index, first.attempt, first.depth) == (session, name, 2, 1, 0)
        assert (first.round_index, second.round_index) == (0, 1)
        assert first.call_id != second.call_id
        assert len({first.idempotency_key, second.idempotency_key, ""}) == 3
        assert first.deps is deps
        assert (first.loop, first.config, first.store) == (loop, config, loop.store)
        assert first.has_session_store
        assert not first.cancel.is_cancelled()
        assert isinstance(first.usage, Usage)
        assert (first.usage.requests, second.usage.requests, result.usage.requests) == (1, 2, 3)
        assert 0 < first.usage.total_tokens < second.usage.total_tokens < result.usage.total_tokens
        assert (first.usage.tool_calls, second.usage.tool_calls) == (0, 1)
        assert isinstance(first.env, RuntimeEnv)
        assert first.env.workspace == tmp_path
        assert "deps" not in str(await loop.store.load_all_messages(session))
    assert get_tool_runtime_context().session_id is None


def test_outside_of_handlers_there_is_an_empty_run_or_an_error() -> None:
    assert ToolRuntimeContext is ToolRun
    empty = get_tool_runtime_context()
    assert (empty.session_id, empty.has_session_store, empty.loop) == (None, False, None)
    with pytest.raises(RuntimeError, match="outside of a tool's handler"):
        get_tool_runtime_context(required=True)


async def test_tools_called_by_hand_find_their_run_too_and_leave_nothing_behind() -> None:
    tools, run = Tools(), ToolRun(session_id="s")
    registry = ToolRegistry([tools.look, tools.look_sync, tools.later])
    assert await registry.invoke_async("look", {}, run=run) == "seen"
    assert registry.invoke("look_sync", {}, run=run) == "seen"
    assert await registry.invoke_async("later", {}, run=run) == "seen"
    assert tools.runs == [run] * 3
    assert get_tool_runtime_context().session_id is None


async def test_calls_side_by_side_each_find_their_own_run() -> None:
    met = asyncio.Barrier(3)
    seen: dict[str, str] = {}

    async def meet(who: str) -> str:
        """Meet the others."""
        await met.wait()
        seen[who] = get_tool_runtime_context(required=True).call_id
        await met.wait()
        assert seen[who] == get_tool_runtime_context(required=True).call_id
        return who

    model = ScriptedLLM([calls(*(call("meet", who=who) for who in "abc")), say("1")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[meet]) as loop:
        await loop.send("go", await loop.new_session())
    assert len(set(seen.values())) == 3


async def test_a_second_try_that_a_handler_asked_for_is_the_second_attempt() -> None:
    attempts: list[tuple[int, str]] = []

    def flaky(run: ToolRun) -> str:
        """Work at the second try."""
        attempts.append((run.attempt, run.idempotency_key))
        if run.attempt == 1:
            raise OSError("away")
        return "there"

    hooks = AgentHooks()
    hooks.register("tool.error", lambda ctx: HookDirective.SHORT_CIRCUIT)
    async with StatefulAgentLoop(llm=ScriptedLLM([call("flaky"), say("1")]), dsn=":memory:", tools=[flaky], hooks=hooks) as loop:
        await loop.send("go", await loop.new_session())
    assert [attempt for attempt, _ in attempts] == [1, 2]
    assert attempts[0][1] == attempts[1][1]


# --- the environment ----------------------------------------------------------------------------------------


def test_the_environment_is_asked_for_once_and_only_where_somebody_looks() -> None:
    asked: list[object] = []
    base = ToolRun(env_of=lambda tools: asked.append(tools) or len(asked))
    idle, first, second = base.of_call(call_id="a"), base.of_call(call_id="b"), base.of_call(call_id="c", env="given")
    assert (first.env, first.env, second.env, idle.call_id, asked) == (1, 1, "given", "a", [None])
    assert base.env is None, "what all calls have in common is in no environment"
    assert base.of_call(tools="others").env == first.of_call(attempt=2).env - 1 == 2
    assert asked == [None, "others", None]
    assert (ToolRun().env, ToolRun(env="given").of_call(tool_name="t").env) == (None, "given")


async def test_the_environment_of_a_run_is_that_of_its_registry_else_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWER_LOOP_WORKSPACE", str(tmp_path))
    for name in ("bound", "outer"):
        (tmp_path / name).mkdir()
    seen: list[Path] = []

    @tool
    def where(run: ToolRun) -> str:
        """Say where."""
        seen.append(run.env.workspace)
        return ""

    bound = create_default_tool_registry(include=["read_file"], workspace_dir=tmp_path / "bound")
    bound.add(where)
    outer = RuntimeEnv(tmp_path / "outer")
    for registry, env in ((bound, None), (bound, outer), (ToolRegistry([where]), outer), (ToolRegistry([where]), None)):
        async with StatefulAgentLoop(llm=ScriptedLLM([call("where"), say("1")]), dsn=":memory:", tool_registry=registry) as loop:
            session = await loop.new_session()
            if env is None:
                await loop.send("go", session)
            else:
                with runtime_env_context(env):
                    await loop.send("go", session)
    assert [path.name for path in seen] == ["bound", "bound", "outer", tmp_path.name]


# acceptance: 27
async def test_one_registry_reads_the_files_of_the_tenant_that_sends_also_when_two_send_at_once(tmp_path: Path) -> None:
    registry = create_default_tool_registry(include=["read_file"], bind=False)
    arrived = asyncio.Barrier(2)

    async def wait() -> str:
        """Wait until the other is here."""
        await arrived.wait()
        return ""

    registry.add(wait)
    both = calls(call("wait"), call("read_file", path="secret.txt"))

    async def of(tenant: str, loop: StatefulAgentLoop) -> Any:
        (tmp_path / tenant).mkdir()
        (tmp_path / tenant / "secret.txt").write_text(f"of {tenant}", "utf-8")
        with runtime_env_context(RuntimeEnv(tmp_path / tenant, tmp_path / "home")):
            session = await loop.new_session()
            await loop.send("read", session)
            return [message["content"] for message in await loop.get_messages(session) if message.get("name") == "read_file"]

    async with StatefulAgentLoop(llm=ScriptedLLM([both, both, say("1"), say("2")]), dsn=":memory:", tool_registry=registry) as loop:
        ada, bob = await asyncio.gather(of("ada", loop), of("bob", loop))
    assert ("of ada" in str(ada), "of bob" in str(bob)) == (True, True)
    assert ("of bob" in str(ada), "of ada" in str(bob)) == (False, False)
