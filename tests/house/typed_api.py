"""A program against the public API, as a user with a strict type checker would write it.

`make check` has pyright read it; a test runs `main` offline. Every public name occurs here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, assert_type

from power_loop import (
    AgentEvent,
    AgentEventBus,
    AgentEventType,
    AgentHooks,
    AgentLoopConfig,
    AgentLoopResult,
    CancellationRequested,
    CancellationToken,
    FollowUpQueued,
    HookDirective,
    HookPoint,
    LLMProviderConfig,
    LLMRequest,
    LLMResponse,
    LLMRetryExhausted,
    LLMRetryPolicy,
    LLMService,
    LLMStreamChunk,
    LLMTimeout,
    ModelRetry,
    PowerLoopError,
    SchemaPolicy,
    SessionBusyError,
    SessionNotFoundError,
    SessionPendingError,
    SessionStore,
    StatefulAgentLoop,
    StatefulResult,
    ToolBeforeCtx,
    ToolDefinition,
    ToolRegistry,
    ToolRun,
    Usage,
    UsageLimits,
    create_llm_service_from_config,
    create_llm_service_from_env,
    open_store,
    tool,
)


@tool(effects="pure")
def add(a: int, b: Annotated[int, "the second one"] = 0) -> int:
    """Add two numbers."""
    return a + b


@tool
async def refund(run: ToolRun, order: int, euros: float) -> str:
    """Pay a customer back."""
    if euros <= 0:
        raise ModelRetry("euros must be positive")
    await run.progress("asking the bank", 0.5)
    return f"{run.idempotency_key} {order}"


def look_up(args: dict[str, Any]) -> dict[str, Any]:
    return {"found": args["key"]}


class OwnModel(LLMService):
    """A model needs `complete`, and nothing else."""

    model = "own"

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: Callable[[str], Awaitable[None] | None] | None = None,
        **callbacks: Any,
    ) -> LLMResponse:
        text = f"{len(request.messages)} messages"
        if on_chunk_delta_text is not None:
            shown = on_chunk_delta_text(text)
            if shown is not None:
                await shown
        return LLMResponse(raw_text=text, content_text=text, finish_reason="stop")


def configured() -> AgentLoopConfig:
    return AgentLoopConfig(
        system_prompt="Be brief.",
        max_rounds=6,
        max_tokens=500,
        temperature=None,
        limits=UsageLimits(total_tokens=100_000, seconds=60),
        retry_policy=LLMRetryPolicy(max_attempts=2, backoff_initial=0.1),
    )


def with_hooks() -> AgentHooks:
    hooks = AgentHooks()

    def no_refunds(ctx: ToolBeforeCtx) -> HookDirective | None:
        if ctx.tool_name != "refund":
            return None
        ctx.output = "refunds are closed today"
        return HookDirective.SKIP

    hooks.register(HookPoint.TOOL_BEFORE, no_refunds, name="no refunds", order=10)
    assert hooks.has("no refunds")
    return hooks


def with_listeners(heard: list[AgentEvent]) -> AgentEventBus:
    bus = AgentEventBus(sync_dispatch="inline")
    bus.subscribe(AgentEventType.STREAM_DELTA, heard.append)
    bus.subscribe(None, heard.append, priority=5)
    return bus


def with_tools() -> ToolRegistry:
    registry = ToolRegistry()
    schema = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
    registry.register(ToolDefinition("look_up", "Look something up.", schema, effects="pure", timeout_s=5), look_up)
    return registry


async def one_conversation(loop: StatefulAgentLoop) -> Usage:
    session = assert_type(await loop.new_session(metadata={"user": 1}), str)
    result = assert_type(await loop.send("Hello", session, key="first", limits=UsageLimits(requests=3)), StatefulResult)
    assert_type(result.final_text, str)
    assert_type(result.status, str)
    answer = await loop.follow_up("And?", session)
    if isinstance(answer, FollowUpQueued):
        assert_type(answer.queue_depth, int)
    queued = assert_type(await loop.enqueue("Later", session), FollowUpQueued)
    assert queued.session_id == session
    async for event in loop.stream("Go on", session, tools=["add"]):
        assert_type(event.delta, str)
    assert await loop.get_pending(session) is None
    assert len(await loop.get_messages(session)) >= 4
    await loop.close_session(session)
    return result.usage


async def cancelled(loop: StatefulAgentLoop, session: str) -> StatefulResult:
    token = CancellationToken()
    token.cancel("the user left")
    assert CancellationToken.from_any(threading.Event()).is_cancelled() is False
    return await loop.send("Stop", session, stop_event=token)


async def what_can_go_wrong(loop: StatefulAgentLoop, session: str) -> str:
    try:
        await loop.send("Hello", session, on_busy="raise")
    except SessionNotFoundError as error:
        return error.session_id
    except SessionPendingError as error:
        return ", ".join(str(call) for call in error.pending_tool_calls)
    except SessionBusyError as error:
        return f"{error.holder} until {error.expires_at}"
    except LLMTimeout as error:
        return f"{error.elapsed} of {error.total_timeout}"
    except LLMRetryExhausted as error:
        return f"{error.attempts}: {error.last_error}"
    except CancellationRequested as error:
        return error.reason
    except PowerLoopError as error:
        return error.code
    return ""


def other_models() -> list[LLMService]:
    config = LLMProviderConfig(base_url="http://127.0.0.1:9/v1", api_key="none", model="m", timeout_s=5)
    return [create_llm_service_from_config(config), create_llm_service_from_env(prefix="POWER_LOOP")]


async def shared_store() -> SessionStore:
    return await open_store(":memory:", schema=SchemaPolicy.AUTO_CREATE)


def shown(chunk: LLMStreamChunk) -> str:
    return chunk.delta_text


def summed(result: AgentLoopResult, more: Usage) -> int:
    return (result.usage + more).total_tokens


async def main() -> None:
    """Everything above that needs no provider."""
    heard: list[AgentEvent] = []
    store = await shared_store()
    async with StatefulAgentLoop(
        llm=OwnModel(),
        store=store,
        config=configured(),
        hooks=with_hooks(),
        event_bus=with_listeners(heard),
        tool_registry=with_tools(),
        tools=[add, refund],
    ) as loop:
        usage = await one_conversation(loop)
        assert usage.requests == 1
        assert await what_can_go_wrong(loop, "nobody") == "nobody"
        assert (await cancelled(loop, await loop.new_session())).status == "cancelled"
    await store.close()
    assert heard


if __name__ == "__main__":
    asyncio.run(main())
