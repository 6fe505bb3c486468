"""A program against the public API, as a user with a strict type checker would write it.

`make check` has pyright read it; a test runs `main` offline. Every public name occurs here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, assert_type

from power_loop import (
    DEFAULT_AGENT_SYSTEM_PROMPT,
    DEFAULT_DB_PATH,
    MAX_SPAWN_DEPTH,
    MUTATE_SKIP,
    STABLE_API,
    AgentEvent,
    AgentEventBus,
    AgentEventType,
    AgentHooks,
    AgentLoopConfig,
    AgentLoopResult,
    AgentRunner,
    AgentSpecError,
    ApprovalError,
    AsyncToolInSyncContext,
    BaseEventPayload,
    BaseHookCtx,
    BlackboardError,
    CancellationLike,
    CancellationRequested,
    CancellationToken,
    CompactionFailed,
    ContextPolicy,
    EventBusProtocol,
    EventHandler,
    EventSubscriber,
    FallbackLLM,
    FoldStrategy,
    FollowUpQueued,
    HookContext,
    HookDirective,
    HookHandler,
    HookManagerProtocol,
    HookPoint,
    HookResult,
    HumanInputRequired,
    InboxItem,
    LLMError,
    LLMPermanentError,
    LLMProviderConfig,
    LLMRequest,
    LLMResponse,
    LLMRetryExhausted,
    LLMRetryPolicy,
    LLMService,
    LLMStreamChunk,
    LLMSummaryFold,
    LLMTimeout,
    LLMTokenUsage,
    MessageRole,
    MessageRow,
    MessageState,
    ModelCapabilities,
    ModelRetry,
    NeverFold,
    NotesFullError,
    PhaseContext,
    PhaseResult,
    PowerLoopError,
    Price,
    RecordFromTheFuture,
    RunPolicy,
    RunStatus,
    RuntimeEnvError,
    SchemaPolicy,
    SessionArchivedError,
    SessionBusyError,
    SessionKind,
    SessionLeaseLost,
    SessionNotFoundError,
    SessionPendingError,
    SessionRow,
    SessionStatsRow,
    SessionStatus,
    SessionStore,
    SpecValidationError,
    StatefulAgentLoop,
    StatefulResult,
    StoreSchemaError,
    StoreUnavailable,
    StructuredOutputError,
    SubagentLifecycle,
    ToolBeforeCtx,
    ToolCall,
    ToolDefinition,
    ToolHandlerResult,
    ToolNotFound,
    ToolPolicy,
    ToolRegistry,
    ToolRun,
    ToolTimeout,
    ToolValidationError,
    Usage,
    UsageLimits,
    Worker,
    WorkerBootstrapError,
    WorkflowRunError,
    WorkflowSpecError,
    build_registry,
    create_llm,
    create_llm_service_from_config,
    create_llm_service_from_env,
    estimate_text_tokens,
    estimate_tokens,
    format_tool_catalog,
    open_store,
    phase,
    tool,
    with_retry,
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


# --- provisional names ------------------------------------------------------------------------


class KeepTwo:
    """A plain class is a fold strategy when it has these three."""

    fold_id = "keep_two"
    keep_last_sends = 2
    trigger_ratio = 0.5


def grouped(strategy: FoldStrategy) -> AgentLoopConfig:
    return AgentLoopConfig(
        system_prompt=DEFAULT_AGENT_SYSTEM_PROMPT,
        context=ContextPolicy(fold_strategy=strategy),
        tooling=ToolPolicy(concurrency=4, default_effects="idempotent"),
        running=RunPolicy(lease_ttl_s=10, on_busy="raise"),
        prices={"own*": Price(input=1.0, output=4.0)},
    )


def every_strategy() -> list[FoldStrategy]:
    return [KeepTwo(), LLMSummaryFold(keep_last_sends=3), NeverFold()]


def failures() -> list[type[Exception]]:
    """What `except` clauses may name; all but the two signals are `PowerLoopError`."""
    sessions = [SessionArchivedError, SessionLeaseLost]
    models = [LLMError, LLMPermanentError, CompactionFailed, StructuredOutputError]
    tools = [ToolNotFound, ToolValidationError, ToolTimeout, AsyncToolInSyncContext, ApprovalError]
    specs = [SpecValidationError, AgentSpecError, WorkflowSpecError, WorkflowRunError, WorkerBootstrapError]
    stores = [StoreSchemaError, StoreUnavailable, RecordFromTheFuture, RuntimeEnvError, NotesFullError, BlackboardError]
    signals = [HumanInputRequired, ModelRetry]
    return [*sessions, *models, *tools, *specs, *stores, *signals]


async def rows_of(store: SessionStore) -> list[str]:
    session = await store.create_session(kind=SessionKind.ROOT, lifecycle=SubagentLifecycle.LINKED)
    row = assert_type(await store.get_session(session), SessionRow)
    messages: list[MessageRow] = await store.load_all_messages(session)
    stats: list[SessionStatsRow] = await store.list_session_stats()
    waiting: list[InboxItem] = await store.inbox(session)
    assert row.status == SessionStatus.ACTIVE
    assert not any(message.state == MessageState.DROPPED for message in messages)
    await store.mutate_runtime_state(session, "count", lambda old: MUTATE_SKIP if old else 1, default=0)
    return [row.session_id, *(str(each) for each in [*stats, *waiting])]


def own_tools() -> ToolRegistry:
    def answer(args: dict[str, Any]) -> ToolHandlerResult:
        return ToolHandlerResult(ok=True, content="yes", data={"seen": args})

    registry = build_registry([ToolDefinition("answer", "Say yes.")], {"answer": answer})
    assert "answer" in format_tool_catalog(registry.to_openai_tools())
    return registry


def models() -> LLMService:
    quick = create_llm("echo:")
    quick.capabilities = ModelCapabilities(context_window=8_000)
    usage = LLMTokenUsage(prompt=3, completion=1)
    assert usage.input_tokens + usage.output_tokens == 4
    return FallbackLLM(quick, OwnModel())


async def tried_again() -> str:
    async def once() -> str:
        return RunStatus.COMPLETED

    return await with_retry(once, policy=LLMRetryPolicy(max_attempts=1))


def counted() -> int:
    call = ToolCall("c1", "add", "{}")
    message = {"role": MessageRole.ASSISTANT, "content": "", "tool_calls": [call.to_message()]}
    return estimate_tokens([message]) + estimate_text_tokens("a word")


def listened(bus: EventBusProtocol, told: EventHandler, hooks: HookManagerProtocol, handler: HookHandler) -> None:
    subscriber: EventSubscriber = told
    bus.subscribe(None, subscriber)
    hooks.register("my.point", handler)


def own_point(hooks: AgentHooks) -> HookResult:
    context = HookContext({"answer": 42})
    return hooks.run("my.point", context)


def told(payload: BaseEventPayload, context: BaseHookCtx) -> dict[str, Any]:
    return {**payload.to_dict(), "round": context.round_index}


def stopping(how: CancellationLike) -> CancellationToken:
    return CancellationToken.from_any(how)


def older_names() -> list[Any]:
    return [AgentRunner, PhaseContext, PhaseResult, phase, DEFAULT_DB_PATH, MAX_SPAWN_DEPTH, STABLE_API]


async def provisional(store: SessionStore) -> None:
    """Everything of this second part."""
    assert all(grouped(strategy).context.fold_strategy is strategy for strategy in every_strategy())
    assert issubclass(failures()[0], PowerLoopError)
    assert await rows_of(store)
    assert own_tools().names() == ["answer"]
    assert models().model == "echo"
    assert await tried_again() == "completed"
    assert counted() > 0
    hooks = AgentHooks()
    listened(AgentEventBus(), lambda event: None, hooks, lambda context: None)
    assert own_point(hooks) is not None
    assert not stopping(None).is_cancelled()
    assert older_names()


async def worked(loop: StatefulAgentLoop) -> int:
    worker = Worker(loop, concurrency=4, agents="*", recover=False, poll_s=1.0)
    await worker.run()
    await worker.stop(drain_timeout_s=1.0)
    return assert_type(await worker.run_once(), int)


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
    await provisional(store)
    await store.close()
    assert heard


if __name__ == "__main__":
    asyncio.run(main())
