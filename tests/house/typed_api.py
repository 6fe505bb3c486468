"""A program against the public API, as a user with a strict type checker would write it.

`make check` has pyright read it; a test runs `main` offline. Every public name occurs here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, assert_type

from power_loop import (
    DEFAULT_AGENT_SYSTEM_PROMPT,
    DEFAULT_DB_PATH,
    MAX_SPAWN_DEPTH,
    MUTATE_SKIP,
    RUN_AGENT_DEFINITION,
    SPAWN_AGENT_DEFINITION,
    STABLE_API,
    AgentEvent,
    AgentEventBus,
    AgentEventType,
    AgentHooks,
    AgenticFold,
    AgentLoopConfig,
    AgentLoopResult,
    AgentMessage,
    AgentRunner,
    AgentSpec,
    AgentSpecError,
    Approval,
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
    FoldContext,
    FoldResult,
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
    LoopMessage,
    MemoryPolicy,
    MemoryProvider,
    MemoryRecallHook,
    MemorySnapshot,
    MessageRole,
    MessageRow,
    MessageState,
    ModelCapabilities,
    ModelRetry,
    NeverFold,
    NoteMemory,
    NoteOp,
    NotesFullError,
    PhaseContext,
    PhaseEventPayload,
    PhaseResult,
    PowerLoopError,
    Price,
    ProjectedRepresentation,
    ProjectedRow,
    ProjectedSend,
    ProjectMessageRow,
    RecordFromTheFuture,
    Representation,
    RoutedLLM,
    RunPolicy,
    RunStatus,
    RuntimeEnvError,
    RuntimeMessage,
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
    SpillPolicy,
    SQLiteNoteMemory,
    StatefulAgentLoop,
    StatefulResult,
    StoreRefused,
    StoreSchemaError,
    StoreUnavailable,
    StructuredOutputError,
    StructuredOutputSpec,
    SubagentLifecycle,
    SubagentResult,
    TimerRow,
    TimerRunner,
    ToolArgsValidator,
    ToolBeforeCtx,
    ToolCall,
    ToolDefinition,
    ToolHandler,
    ToolHandlerMap,
    ToolHandlerResult,
    ToolNotFound,
    ToolPolicy,
    ToolRegistry,
    ToolRun,
    ToolTimeout,
    ToolValidationError,
    Usage,
    UsageLimits,
    VerbatimRepresentation,
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
    parse_structured,
    partial_json,
    phase,
    register_spawn_agent,
    run_agent_spec,
    tag_as_memory,
    tool,
    trim_history,
    with_retry,
)
from power_loop.workflow import (
    Leaf,
    Plan,
    SharedBudget,
    StepRow,
    SubprocessExecutor,
    WorkerBootstrap,
    WorkflowResult,
    WorkflowRunHandle,
    WorkflowSpec,
    create_workflow,
    get_workflow,
    in_workflow,
    list_workflows,
    mermaid,
    register_workflow_tools,
    resume_run,
    run_detached,
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


async def decided(loop: StatefulAgentLoop, session: str) -> StatefulResult:
    approvals: list[Approval] = await loop.list_approvals(session)
    for approval in approvals:
        cheap = len(approval.arguments) < 2 and approval.expires_at is None
        decide = loop.approve if cheap else loop.deny
        await decide(session, approval.interaction_id, digest=approval.digest, by="ann", note=None)
    await loop.settle(session, "call_1", output="it was paid", failed=False)
    return await loop.submit_input(session, "input_1", {"nights": 2}, key="once")


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
    """A plain class is a fold strategy when it has these four."""

    fold_id = "keep_two"
    keep_last_sends = 2
    trigger_ratio = 0.5

    async def fold(self, rows: Sequence[ProjectMessageRow], *, context: FoldContext) -> FoldResult | None:
        known = [note.note_id for note in context.notes]
        ops = (NoteOp("update", "seen", note_id=known[0]),) if known else (NoteOp("add", "new", pinned=True),)
        return FoldResult(await context.summarise(rows), rows[-1].send_index, note_ops=ops)


class LastWord:
    """A plain class is a representation when it has these four."""

    kind = "last_word"
    version = 1

    def project_send(self, send_rows: list[MessageRow], *, send_index: int, tool_registry: object) -> ProjectedSend:
        return ProjectedSend([ProjectedRow("user", send_rows[0].content), ProjectedRow("project", send_rows[-1].content, "…")])

    def render(self, rows: list[ProjectMessageRow]) -> list[dict[str, Any]]:
        return [{"role": "user" if row.kind in ("user", "compact") else "assistant", "content": row.rendered_text or "…"} for row in rows]


def every_representation() -> list[Representation]:
    return [LastWord(), VerbatimRepresentation(), ProjectedRepresentation(max_chars=200)]


def trimmed(messages: list[dict[str, Any]]) -> int:
    return len(trim_history(messages, 1000, keep_last_n=1))


def grouped(strategy: FoldStrategy) -> AgentLoopConfig:
    return AgentLoopConfig(
        system_prompt=DEFAULT_AGENT_SYSTEM_PROMPT,
        context=ContextPolicy(fold_strategy=strategy),
        tooling=ToolPolicy(concurrency=4, default_effects="idempotent"),
        running=RunPolicy(lease_ttl_s=10, on_busy="raise"),
        prices={"own*": Price(input=1.0, output=4.0)},
    )


def every_strategy() -> list[FoldStrategy]:
    return [KeepTwo(), LLMSummaryFold(keep_last_sends=3), AgenticFold(max_rounds=2, system_prompt="Keep names."), NeverFold()]


def failures() -> list[type[Exception]]:
    """What `except` clauses may name; all but the two signals are `PowerLoopError`."""
    sessions = [SessionArchivedError, SessionLeaseLost]
    models = [LLMError, LLMPermanentError, CompactionFailed, StructuredOutputError]
    tools = [ToolNotFound, ToolValidationError, ToolTimeout, AsyncToolInSyncContext, ApprovalError]
    specs = [SpecValidationError, AgentSpecError, WorkflowSpecError, WorkflowRunError, WorkerBootstrapError]
    stores = [StoreSchemaError, StoreUnavailable, StoreRefused, RecordFromTheFuture, RuntimeEnvError, NotesFullError, BlackboardError]
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


async def a_sub_agent(loop: StatefulAgentLoop) -> str:
    registry = ToolRegistry()
    register_spawn_agent(registry, include_run_agent=True, overwrite=False)
    assert {SPAWN_AGENT_DEFINITION.name, RUN_AGENT_DEFINITION.name} == set(registry.names())
    result = assert_type(await run_agent_spec(AgentSpec("clerk", "You file things."), "File it.", parent_loop=loop), SubagentResult)
    assert (result.status, result["status"]) == ("completed", "completed")
    return result.final_text


async def a_run(loop: StatefulAgentLoop, parent: str) -> str:
    registry = ToolRegistry()
    register_workflow_tools(registry, overwrite=True)
    executor = SubprocessExecutor(bootstrap=WorkerBootstrap(llm_from_env=True), term_grace_s=1.0)
    document = {"name": "w", "root": {"type": "human", "id": "ask", "prompt": "Shall we?"}}
    held = create_workflow(document, parent_loop=loop, executor=executor, budget=SharedBudget(1_000), parent_session_id=parent)
    result = assert_type(await held.run(), WorkflowResult)
    result = assert_type(await resume_run(loop, parent, result.run_id, executor=executor, on_change="keep"), WorkflowResult)
    handle = assert_type(await run_detached(create_workflow(document, parent_loop=loop, parent_session_id=parent)), WorkflowRunHandle)
    assert not in_workflow()
    assert (await handle.task).status == "waiting_for_input"
    assert (await get_workflow(loop, parent, handle.run_id))["name"] == "w"
    return ", ".join(run["status"] for run in await list_workflows(loop, parent))


def a_workflow() -> Plan:
    clerk = AgentSpec("clerk", "You file things.", tools=["read_file"], limits=UsageLimits(cost=0.5))
    spec = assert_type(WorkflowSpec.from_json({"name": "w", "root": {"type": "agent", "id": "a", "spec": clerk.to_dict()}}), WorkflowSpec)
    plan = Plan(spec)
    for leaf in assert_type(plan.ready(), list[Leaf]):
        plan.apply(StepRow(leaf.key, "completed", text="filed"))
    assert assert_type(plan.result(), WorkflowResult).ok
    assert assert_type(mermaid(plan), str)
    return plan


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
    return RoutedLLM({"quick": quick, "careful": FallbackLLM(quick, OwnModel())}, default="careful")


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
    return [AgentRunner, PhaseContext, PhaseEventPayload, PhaseResult, phase, DEFAULT_DB_PATH, MAX_SPAWN_DEPTH, STABLE_API]


def older_types(handlers: ToolHandlerMap, check: ToolArgsValidator, said: LoopMessage) -> list[AgentMessage]:
    handler: ToolHandler = handlers["add"]
    wrong = check("add", {"a": handler(a=1)})
    shown: RuntimeMessage = {"role": "user", "content": wrong or "fine"}
    return [said, shown]


async def provisional(store: SessionStore) -> None:
    """Everything of this second part."""
    assert all(grouped(strategy).context.fold_strategy is strategy for strategy in every_strategy())
    spill = SpillPolicy(enabled=False)
    shown = [AgentLoopConfig(context=ContextPolicy(representation=each, spill=spill)) for each in every_representation()]
    assert [config.projection_representation is None for config in shown] == [False, True, False]
    assert trimmed([{"role": "user", "content": "hi"}]) == 1
    assert issubclass(failures()[0], PowerLoopError)
    assert a_workflow().status == "completed"
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
    assert remembered(store, AgentEventBus()).memory is not None


async def structured(loop: StatefulAgentLoop, session: str) -> dict[str, Any]:
    def positive(value: dict[str, Any]) -> dict[str, Any]:
        return value

    spec = StructuredOutputSpec("number", {"type": "object"}, strict=False, description="One number.", examples=[{"n": 1}])
    AgentLoopConfig(output_type=spec, output_validators=(positive,), response_format=spec.to_openai_response_format())
    result: StatefulResult = await loop.send("Name a number.", session, output_type=spec)
    await loop.resume(session, output_type=list[int])
    so_far: Any = partial_json(result.partial_text)
    return parse_structured(result.final_text, schema=spec) if so_far is None else {}


class OwnMemory:
    """A memory needs no base class."""

    async def recall(self, *, messages: Sequence[Mapping[str, Any]], session_id: str, budget_tokens: int = 1500) -> list[dict[str, Any]]:
        return [tag_as_memory(f"{len(messages)} messages of {session_id}, {budget_tokens} tokens", name="own")]

    async def remember(self, *, snapshot: MemorySnapshot, session_id: str) -> None:
        assert (snapshot.session_id, snapshot.status) == (session_id, "completed")


def remembered(store: SessionStore, bus: AgentEventBus) -> AgentLoopConfig:
    notes: MemoryProvider = NoteMemory(store)
    assert isinstance(notes, SQLiteNoteMemory)
    hooks = AgentHooks()
    hooks.register("llm.before", MemoryRecallHook(notes, budget_tokens=900, hooks=hooks, event_bus=bus), name=MemoryRecallHook.NAME)
    return AgentLoopConfig(memory=OwnMemory(), recall=MemoryPolicy(budget_tokens=900, position="front"))


async def spent(loop: StatefulAgentLoop, session: str) -> float:
    budget = assert_type(await loop.budget(session), dict[str, Any])
    return budget["spent"]["cost"]


async def worked(loop: StatefulAgentLoop) -> int:
    worker = Worker(loop, concurrency=4, agents="*", recover=False, poll_s=1.0)
    await worker.run()
    await worker.stop(drain_timeout_s=1.0)
    return assert_type(await worker.run_once(), int)


async def woken(loop: StatefulAgentLoop, session: str) -> int:
    timer = assert_type(await loop.schedule_timer(session, delay_s=60, note="look again", interval_s=3600), TimerRow)
    await loop.schedule_timer(session, cron="0 3 * * *", tz="Europe/Berlin", note="nightly")
    assert await loop.cancel_timer(session, timer.timer_id)
    assert assert_type(await loop.list_timers(session), list[TimerRow])
    runner = TimerRunner(loop, scan_interval_s=2.0, max_concurrency=8)
    runner.start()
    await runner.stop()
    return assert_type(await runner.scan_once(), int)


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
        assert await a_sub_agent(loop)
        assert await a_run(loop, await loop.new_session())
    await provisional(store)
    await store.close()
    assert heard


if __name__ == "__main__":
    asyncio.run(main())
