"""The shims for 3.x programs: each warns, and does what it did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from power_loop.compat import AgentRunner, PhaseContext, PhaseEventPayload, PhaseResult, phase
from power_loop.contracts.events import AgentEvent
from power_loop.contracts.hooks import HookContext, HookDirective
from power_loop.llm import EchoLLM
from power_loop.runtime.bus import AgentEventBus
from power_loop.runtime.hooks import AgentHooks

Step = Callable[..., Any]


def shop(**handlers: Callable[[HookContext], Any]) -> tuple[PhaseContext, list[AgentEvent]]:
    """A context whose hooks have ``handlers`` at ``shop.NAME``, and the events that it tells."""
    hooks, bus, heard = AgentHooks(), AgentEventBus(), list[AgentEvent]()
    for name, handler in handlers.items():
        hooks.register(f"shop.{name}", handler)
    bus.subscribe(None, heard.append)
    with pytest.deprecated_call():
        return PhaseContext("checkout", hooks, bus, "s1", 2, {"price": 4}), heard


def as_phase(step: Step) -> Step:
    with pytest.deprecated_call():
        return phase(before="shop.before", after="shop.after", error="shop.error", start_event="shop_started", end_event="shop_ended")(step)


async def test_a_step_runs_between_its_hooks_and_events() -> None:
    def before(ctx: HookContext) -> None:
        ctx.values["price"] += 1

    def after(ctx: HookContext) -> None:
        ctx.output = f"{ctx.output}, thank you"

    ctx, heard = shop(before=before, after=after)

    async def checkout(ctx: PhaseContext) -> str:
        return f"{ctx.values['price']} euros"

    assert await as_phase(checkout)(ctx) == PhaseResult("5 euros, thank you")
    assert [(event.type, event.payload["status"]) for event in heard] == [("shop_started", "started"), ("shop_ended", "completed")]
    assert heard[0].data == PhaseEventPayload("checkout", "started")
    assert (heard[0].session_id, heard[0].round_index) == ("s1", 2)


async def test_a_directive_before_keeps_the_step_from_running() -> None:
    def before(ctx: HookContext) -> HookDirective:
        ctx.output, ctx.reason = "closed", "it is night"
        return HookDirective.SKIP

    ctx, heard = shop(before=before)
    assert await as_phase(lambda ctx: 1 / 0)(ctx) == PhaseResult("closed", HookDirective.SKIP, "it is night")
    assert heard == []


@pytest.mark.parametrize("directive", [HookDirective.SKIP, None])
async def test_a_step_that_raises_does_so_unless_a_handler_answers_for_it(directive: HookDirective | None) -> None:
    def error(ctx: HookContext) -> HookDirective | None:
        ctx.output = type(ctx.values["error"]).__name__
        return directive

    ctx, heard = shop(error=error)
    step = as_phase(lambda ctx: 1 / 0)
    if directive is None:
        with pytest.raises(ZeroDivisionError):
            await step(ctx)
    else:
        assert (await step(ctx)).output == "ZeroDivisionError"
    assert heard[-1].data == PhaseEventPayload("checkout", "failed", "ZeroDivisionError")
    assert ctx.values == {"price": 4}


async def test_a_step_needs_nobody_to_ask_or_tell_but_a_context() -> None:
    with pytest.deprecated_call():
        ctx = PhaseContext()

    def step(ctx: PhaseContext) -> int:
        return 7

    assert await as_phase(step)(ctx) == PhaseResult(7)
    assert ctx.name == "step"
    with pytest.raises(TypeError, match="PhaseContext"):
        await as_phase(step)(None)


async def test_a_runner_runs_each_prompt_in_a_session_of_its_own(tmp_path: Path) -> None:
    with pytest.deprecated_call():
        runner = AgentRunner(llm=EchoLLM(), dsn=str(tmp_path / "app.db"))
    async with runner:
        first, second = [await runner.run(text) for text in ("one", "two")]
    assert (first.status, second.status) == ("completed", "completed")
    assert [message["role"] for message in second.messages] == ["user", "assistant"]
    assert second.final_text == second.messages[-1]["content"]
