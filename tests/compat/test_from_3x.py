"""What a program of the 3.x line relies on, and what its owner is told of the rest."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import power_loop
from power_loop import AgentLoopConfig, NeverFold, StatefulAgentLoop, ToolPolicy
from power_loop.testing import ScriptedLLM, call, say
from power_loop.workflow import register_wake_guard

PAGE = Path(__file__).parent.parent.parent / "docs" / "guides" / "migration.md"
FLAT: list[tuple[str, Any, str]] = [
    ("fold_timeout_s", 7.0, "context.fold_timeout_s"),
    ("fold_target_ratio", 0.25, "context.fold_target_ratio"),
    ("migrate_history_on_switch", False, "context.migrate_history_on_switch"),
    ("repair_corrupt_history", True, "context.repair_corrupt_history"),
    ("microcompact_enabled", True, "context.spill.enabled"),
    ("microcompact_size_limit", 99, "context.spill.size_limit"),
    ("microcompact_hot_tail", 3, "context.spill.hot_tail"),
    ("memory_budget_tokens", 77, "recall.budget_tokens"),
    ("memory_position", "front", "recall.position"),
    ("builtin_memory_hook", False, "recall.builtin_hook"),
    ("inject_tool_descriptions", True, "tooling.catalog"),
    ("tool_catalog_header", "# Tools", "tooling.catalog_header"),
    ("max_tokens_per_run", 500, "limits.total_tokens"),
]
GONE = ("AgentPipeline", "MessageSink", "NullSink", "SQLiteSink")
OLDER = (
    *("LoopMessage", "AgentMessage", "ToolCall", "RuntimeMessage", "MessageRole", "AgentEvent", "AgentEventType", "BaseEventPayload"),
    *("BaseHookCtx", "HookContext", "HookResult", "EventBusProtocol", "EventHandler", "HookHandler", "HookManagerProtocol", "ToolHandler"),
    *("ToolHandlerMap", "EventSubscriber", "ToolArgsValidator", "DEFAULT_DB_PATH", "MAX_SPAWN_DEPTH", "__version__"),
    *("AgentRunner", "phase", "PhaseContext", "PhaseResult", "PhaseEventPayload"),
)


def at(config: AgentLoopConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("flat", "value", "path"), FLAT, ids=lambda each: str(each))
def test_a_flat_name_is_a_keyword_and_an_attribute_of_its_group(flat: str, value: Any, path: str) -> None:
    for config in (AgentLoopConfig(**{flat: value}), replace(AgentLoopConfig(), **{flat: value})):
        assert at(config, path) == value
        assert getattr(config, flat) == value
    config = AgentLoopConfig()
    setattr(config, flat, value)
    assert at(config, path) == value


def test_no_compactor_is_no_folding() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert isinstance(AgentLoopConfig(compactor=None).context.fold_strategy, NeverFold)


@pytest.mark.parametrize("name", OLDER)
def test_a_name_of_3x_is_still_importable(name: str) -> None:
    assert getattr(power_loop, name) is not None


@pytest.mark.parametrize("name", GONE)
def test_a_name_that_is_gone_is_gone_and_the_page_says_so(name: str) -> None:
    with pytest.raises(AttributeError):
        getattr(power_loop, name)
    assert name in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("shim", ["AgentRunner", "phase", "PhaseContext"])
def test_importing_a_shim_is_silent_and_using_it_warns(shim: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind = getattr(power_loop, shim)
    with pytest.warns(DeprecationWarning, match="kept for 3.x programs only; use"):
        kind(**({"llm": "echo:", "dsn": ":memory:"} if shim == "AgentRunner" else {}))


async def test_a_wake_guard_of_3x_may_still_be_registered(tmp_path: Path) -> None:
    async with StatefulAgentLoop(llm=ScriptedLLM([say("done")]), dsn=str(tmp_path / "app.db")) as loop:
        register_wake_guard(loop)
        assert (await loop.run("go")).status == "completed"


async def test_repetition_of_tools_can_be_had_back(tmp_path: Path) -> None:
    config = AgentLoopConfig(tooling=ToolPolicy(default_effects="idempotent"))
    seen: list[str] = []

    def add(a: int) -> str:
        """Add."""
        seen.append(str(a))
        return str(a)

    async with StatefulAgentLoop(llm=ScriptedLLM([call("add", a=1), say("1")]), dsn=":memory:", config=config, tools=[add]) as loop:
        session = await loop.new_session()
        await loop.send("Add.", session)
        archive = await (await loop.ensure_store()).export_session(session)
    assert seen == ["1"]
    assert "tool_started" not in [record["kind"] for record in archive["records"]], "only once tools leave a trace of their start"


def test_every_line_of_the_table_says_what_to_do() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## What is different")[1].split("A loop that shall")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| 3.x |")]
    assert len(rows) >= 17
    assert [row for row in rows if len(re.split(r"(?<!\\)\|", row)) != 5] == []
