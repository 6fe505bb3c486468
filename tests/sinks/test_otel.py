"""Runs as traces: the right names, the right parents, nothing said without consent, nothing left open."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as published
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from power_loop import (
    AgentEvent,
    AgentEventBus,
    AgentLoopConfig,
    ContextPolicy,
    HookDirective,
    LLMRetryPolicy,
    LLMSummaryFold,
    request_user_input,
    tool,
)
from power_loop.contrib import otel_bridge, otel_meters, otel_names
from power_loop.contrib.otel_sink import SendIds, attach_otel_sink
from power_loop.testing import call, calls, fail, hang, say
from power_loop.workflow import SubprocessExecutor, WorkerBootstrap, create_workflow

SECRET = "the vault is behind the painting"


def attached(stage: Any, traces: Any, **more: Any) -> Any:
    return attach_otel_sink(stage.bus, tracer=traces.tracer, meter=traces.meter, **more)


# acceptance: 63 (parents), 181 (names)
async def test_a_session_has_rounds_and_they_have_model_calls_and_tool_calls(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    loop = stage.loop(calls(call("look", at="a"), call("break_it"), prompt_tokens=10), say("done"), config=AgentLoopConfig(model="gpt-x"))
    result = await loop.run("go")
    tree = [(span.name, parent.name if (parent := traces.parent(span)) else None) for span in traces.spans]
    assert sorted(tree) == sorted([
        ("invoke_agent scout", None), ("round 0", "invoke_agent scout"), ("round 1", "invoke_agent scout"), ("chat gpt-x", "round 0"),
        ("chat gpt-x", "round 1"), ("execute_tool look", "round 0"), ("execute_tool break_it", "round 0"),
    ])  # fmt: skip
    (agent,) = traces.named("invoke_agent")
    assert agent.attributes["gen_ai.conversation.id"] == result.session_id
    assert (agent.attributes["gen_ai.operation.name"], agent.attributes["gen_ai.agent.name"]) == ("invoke_agent", "scout")
    chat = traces.named("chat")[0]
    assert chat.kind == SpanKind.CLIENT
    assert chat.attributes["gen_ai.request.model"] == "gpt-x"
    assert chat.attributes["gen_ai.provider.name"]
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    broken = traces.named("execute_tool break_it")[0]
    assert (broken.status.status_code, broken.attributes["error.type"]) == (StatusCode.ERROR, "tool_error")
    assert broken.attributes["gen_ai.tool.name"] == "break_it"
    assert broken.attributes["gen_ai.tool.call.id"]
    assert agent.status.status_code == StatusCode.UNSET


# acceptance: 181 (usage on chat spans only)
async def test_usage_stands_on_the_spans_of_model_calls_alone(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    await stage.everything()
    with_usage = {span.name for span in traces.spans if any("usage" in name for name in span.attributes)}
    assert with_usage == {span.name for span in traces.named("chat")}
    assert all("gen_ai.usage.input_tokens" in span.attributes for span in traces.named("chat"))
    assert [span.attributes.get("gen_ai.usage.cache_read.input_tokens") for span in traces.named("chat")].count(90) == 1


# acceptance: 63 (nothing is left open)
@pytest.mark.parametrize("ending", ["completed", "cancelled", "degraded", "raised", "hook", "parked", "task", "detached"])
async def test_after_any_ending_no_span_is_open(stage: Any, traces: Any, ending: str) -> None:
    started: list[Any] = []

    class Counting:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append(span)

        def on_end(self, span: Any) -> None: ...

        def _on_ending(self, span: Any) -> None: ...

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    traces.provider.add_span_processor(Counting())
    bridge = attached(stage, traces)

    @tool(effects="pure")
    async def ask() -> str:
        """Ask."""
        request_user_input(prompt="?")
        return ""

    if ending in ("completed", "cancelled", "degraded"):
        await stage.everything()
    elif ending == "raised":
        with pytest.raises(Exception, match="gone"):
            await stage.loop(fail(ConnectionError("gone"))).run("go")
    elif ending == "hook":
        loop = stage.loop(say("x"))
        loop.hooks.register("llm.after", lambda ctx: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await loop.run("go")
    elif ending == "parked":
        assert (await stage.loop(call("ask"), tools=[ask]).run("go")).status == "waiting_for_input"
    else:
        running = asyncio.create_task(stage.loop(hang(after="I "), say("y")).run("go"))
        await stage.until("stream_delta")
        if ending == "task":
            running.cancel()
        else:
            bridge.close()
            await stage.loops[-1].cancel(next(event.session_id for event in stage.heard))
        await asyncio.gather(running, return_exceptions=True)
    assert started
    assert [span.name for span in started if span.is_recording()] == []
    assert bridge.errors == 0


DEAD = fail(ConnectionError("x"))


@pytest.mark.parametrize(
    ("script", "status", "error"), [((DEAD, DEAD), StatusCode.ERROR, "ConnectionError"), ((say("fine"),), StatusCode.UNSET, None)]
)
async def test_a_failure_sets_the_status_of_the_session(
    stage: Any, traces: Any, script: Any, status: StatusCode, error: str | None
) -> None:
    attached(stage, traces)
    loop = stage.loop(*script, config=AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=2, backoff_initial=0.0001)))
    await loop.run("go")
    (agent,) = traces.named("invoke_agent")
    assert agent.status.status_code == status
    assert agent.attributes.get("error.type") == error
    failed = [span for span in traces.named("chat") if span.status.status_code == StatusCode.ERROR]
    assert len(failed) == len(script) * (error is not None)


# acceptance: 181 (no content without opt-in)
@pytest.mark.parametrize("wanted", [None, False, True, "by environment"])
async def test_what_was_said_is_told_on_request_only(stage: Any, traces: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk" + "-proj-" + "Ab12" * 8
    if wanted == "by environment":
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    attached(stage, traces, capture_content=wanted if isinstance(wanted, bool) else None)
    loop = stage.loop(calls(call("look", at=SECRET), text=SECRET), say(f"{SECRET} {key}"))
    await loop.run(SECRET)
    told = str([(span.name, dict(span.attributes), span.events, span.status.description) for span in traces.spans])
    assert (SECRET in told) == (wanted in (True, "by environment"))
    assert key not in told
    if SECRET in told:
        first, second = (span.attributes for span in traces.named("chat"))
        assert SECRET in first["gen_ai.input.messages"]
        assert '"tool_call"' in first["gen_ai.output.messages"]
        assert '"tool_call_response"' in second["gen_ai.input.messages"]
        assert SECRET in traces.named("execute_tool")[0].attributes["gen_ai.tool.call.arguments"]


async def test_error_texts_are_content_too(stage: Any, traces: Any) -> None:
    attached(stage, traces, capture_content=False)
    with pytest.raises(Exception, match="painting"):
        await stage.loop(fail(ConnectionError(SECRET))).run("go")
    assert SECRET not in str(
        [(dict(span.attributes), [e.attributes for e in span.events], span.status.description) for span in traces.spans]
    )


# --- parents ------------------------------------------------------------------------------------------------


async def test_a_run_hangs_under_what_the_host_is_doing(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    with traces.tracer.start_as_current_span("request"):
        await stage.loop(say("x")).run("go")
    assert traces.parent(traces.named("invoke_agent")[0]).name == "request"


def tell(bus: AgentEventBus, type: str, session: str, **payload: Any) -> None:
    bus.publish(AgentEvent.from_dict({"type": type, "payload": payload, "session_id": session, "send_index": 1}))


def start(bus: AgentEventBus, session: str, **more: Any) -> None:
    tell(bus, "session_started", session, **{"scope": "main", "agent": session, "resumed": False, **more})


# acceptance: 63 (sub-agents)
def test_sub_agents_that_run_side_by_side_hang_under_their_own_calls(traces: Any) -> None:
    bus = AgentEventBus()
    bridge = attach_otel_sink(bus, tracer=traces.tracer, meter=traces.meter)
    start(bus, "parent")
    tell(bus, "round_started", "parent", round_index=0)
    for n in "12":
        tell(bus, "tool_call_started", "parent", name="spawn", tool_input={}, tool_call_id=f"call_{n}")
    tell(bus, "subagent_task_start", "parent", task="t", preset="a", sub_session_id="child_1", depth=1, tool_call_id="call_1")
    start(bus, "child_2", scope="subagent", parent_session_id="parent", parent_call_id="call_2")
    start(bus, "child_1", scope="subagent")
    tell(bus, "round_started", "child_1", round_index=0)
    tell(bus, "tool_call_started", "child_1", name="spawn", tool_input={}, tool_call_id="deep")
    tell(bus, "subagent_task_start", "child_1", task="t", preset="b", sub_session_id="grandchild", depth=2)
    start(bus, "grandchild", scope="workflow")
    for session in ("grandchild", "child_1", "child_2", "parent"):
        tell(bus, "session_ended", session, reason="completed")
    assert bridge.errors == 0
    agents = {span.name: traces.parent(span) for span in traces.named("invoke_")}
    assert agents["invoke_agent child_1"].attributes["gen_ai.tool.call.id"] == "call_1"
    assert agents["invoke_agent child_2"].attributes["gen_ai.tool.call.id"] == "call_2"
    assert agents["invoke_workflow grandchild"].attributes["gen_ai.tool.call.id"] == "deep"
    assert len({span.context.trace_id for span in traces.spans}) == 1


@tool(effects="pure")
async def ask() -> str:
    """Ask."""
    request_user_input(prompt="Who?")
    return ""


async def test_a_resumed_send_goes_on_in_the_trace_of_its_first_run(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    loop = stage.loop(call("ask"), say("Ada it is"), tools=[ask])
    session = await loop.new_session()
    waiting = await loop.send("go", session)
    await loop.submit_input(session, waiting.pending_interactions[0]["interaction_id"], "Ada")
    first, second = traces.named("invoke_agent")
    assert traces.parent(second) is first
    assert second.attributes["power_loop.resumed"] is True
    assert traces.named("execute_tool")[0].attributes["power_loop.outcome"] == "parked"


async def test_with_send_ids_two_processes_write_to_one_trace(stage: Any, traces: Any) -> None:
    here, there = type(traces)(id_generator=SendIds()), type(traces)(id_generator=SendIds())
    loop = stage.loop(call("ask"), say("x"), tools=[ask])
    first_bridge = attach_otel_sink(stage.bus, tracer=here.tracer, meter=here.meter)
    session = await loop.new_session()
    waiting = await loop.send("go", session)
    first_bridge.close()
    attach_otel_sink(stage.bus, tracer=there.tracer, meter=there.meter)
    other = stage.loop(say("Ada it is"), tools=[ask])
    await other.submit_input(session, waiting.pending_interactions[0]["interaction_id"], "Ada")
    (first,), (second,) = here.named("invoke_agent"), there.named("invoke_agent")
    assert second.parent.span_id == first.context.span_id
    assert {span.context.trace_id for span in (*here.spans, *there.spans)} == {first.context.trace_id}
    await other.send("another", session)
    assert there.named("invoke_agent")[-1].context.trace_id != first.context.trace_id


async def test_a_process_that_the_host_starts_hangs_where_it_was_told_to(stage: Any, traces: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = AgentEventBus()
    bridge = attach_otel_sink(bus, tracer=traces.tracer, meter=traces.meter)
    start(bus, "driver", scope="workflow")
    parent = bridge.traceparent("driver")
    assert parent is not None
    assert bridge.traceparent("unknown") is None
    monkeypatch.setenv("TRACEPARENT", parent)
    attached(stage, traces)
    await stage.loop(say("x")).run("go")
    bridge.close()
    assert traces.parent(traces.named("invoke_agent scout")[0]).name == "invoke_workflow driver"


# --- folds, names, metrics -------------------------------------------------------------------------------------


async def test_a_fold_has_a_span_of_its_own_and_is_counted_once(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    config = AgentLoopConfig(context=ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1)), context_tokens=2000)
    loop = stage.loop(*(say("word " * 400) for _ in range(6)), config=config)
    session = await loop.new_session()
    for n in range(4):
        await loop.send(f"go {n} " + "and on " * 200, session)
    stats = await loop.get_session_stats(session)
    folds = [span for span in traces.named("chat") if span.attributes["power_loop.purpose"] == "fold"]
    assert folds
    assert sum(span.attributes["gen_ai.usage.input_tokens"] for span in traces.named("chat")) == stats.prompt_tokens
    assert all(traces.parent(span) is not None for span in folds)


async def test_our_own_names_on_request(stage: Any, traces: Any) -> None:
    attached(stage, traces, names="power_loop")
    await stage.loop(call("look", at="a"), say("x")).run("go")
    assert {span.name for span in traces.spans} == {
        "power_loop.session", "power_loop.round", "power_loop.llm_call", "power_loop.tool_call",
    }  # fmt: skip
    assert not any(name.startswith("gen_ai.") for span in traces.spans for name in span.attributes)
    assert traces.metric("power_loop.client.token.usage")
    with pytest.raises(ValueError, match="gen_ai"):
        attached(stage, traces, names="other")


# acceptance: 181 (metrics)
async def test_the_client_metrics_of_the_conventions(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    await stage.loop(call("look", at="a"), say("a longer text")).run("go")
    kinds = {point.attributes["gen_ai.token.type"] for point in traces.metric("gen_ai.client.token.usage")}
    assert kinds == {"input", "output"}
    assert sum(point.count for point in traces.metric("gen_ai.client.operation.duration")) == 2
    assert sum(point.count for point in traces.metric("gen_ai.client.operation.time_to_first_chunk")) == 1
    assert [point.attributes["gen_ai.tool.name"] for point in traces.metric("gen_ai.execute_tool.duration")] == ["look"]


def test_the_names_are_those_of_the_published_conventions() -> None:
    known = {value for name, value in vars(published).items() if name.startswith("GEN_AI")}
    known |= {value for name, value in vars(gen_ai_metrics).items() if name.startswith("GEN_AI")}
    if "gen_ai.workflow.name" not in known:
        pytest.skip("the conventions that are installed are older than the names")
    ours = set()
    for module in (otel_bridge, otel_meters, otel_names):
        ours |= set(re.findall(r'"(gen_ai\.[a-z_.]+[a-z])"', Path(module.__file__).read_text()))
    assert ours - known <= {"gen_ai.execute_tool.duration"}
    assert len(ours) > 20


def test_the_global_providers_are_the_default(stage: Any) -> None:
    bridge = attach_otel_sink(stage.bus)
    start(stage.bus, "s")
    bridge.close()
    assert trace.get_current_span().get_span_context().is_valid is False
    assert bridge.errors == 0


async def test_hook_skips_and_vetoes_leave_a_whole_trace(stage: Any, traces: Any) -> None:
    bridge = attached(stage, traces)
    loop = stage.loop(call("look", at="a"), say("x"))

    def veto(ctx: Any) -> None:
        ctx.directive = HookDirective.SKIP

    loop.hooks.register("tool.before", veto)
    await loop.run("go")
    assert traces.named("execute_tool") == []
    assert len(traces.named("round")) == 2
    assert bridge.errors == 0


# acceptance: 63 (workflows)
async def test_a_workflow_is_a_span_with_its_leaves_below_it_under_the_session_that_it_works_for(stage: Any, traces: Any) -> None:
    attached(stage, traces)
    loop = stage.loop(say("one"), say("two"))
    parent = await loop.new_session()
    steps = [{"type": "agent", "id": name, "spec": {"name": name, "system_prompt": "s"}, "input": "go"} for name in ("first", "second")]
    document = {"name": "pair", "root": {"type": "sequence", "steps": steps}}
    result = await create_workflow(document, parent_loop=loop, parent_session_id=parent).run()
    assert result.status == "completed"
    (run,) = traces.named("invoke_workflow pair")
    leaves = traces.named("invoke_agent")
    assert [traces.parent(leaf) for leaf in leaves] == [run, run]
    assert run.attributes["power_loop.status"] == "completed"
    started = next(event for event in stage.heard if event.type == "session_started" and event.payload["scope"] == "workflow")
    ended = [event for event in stage.heard if event.type == "session_ended" and event.session_id == started.session_id]
    assert (started.payload["parent_session_id"], [event.payload["reason"] for event in ended]) == (parent, ["completed"])
    assert ended[0].record_seq is not None


async def test_what_leaves_in_processes_of_their_own_cost_is_told_and_stands_on_spans_below_the_workflow(
    stage: Any, traces: Any, tmp_path: Path
) -> None:
    attached(stage, traces)
    bootstrap = WorkerBootstrap(llm_from_env=True)
    executor = SubprocessExecutor(bootstrap=bootstrap, runs_dir=tmp_path / "runs", env={"POWER_LOOP_PROVIDER": "echo"})
    leaf = {"type": "agent", "id": "far", "spec": {"name": "far", "system_prompt": "s"}, "input": "go"}
    loop = stage.loop()
    result = await create_workflow({"name": "away", "root": leaf}, parent_loop=loop, executor=executor).run()
    assert result.status == "completed"
    told = [event.payload for event in stage.heard if event.type == "usage_updated"]
    assert [each["purpose"] for each in told] == ["leaf"]
    (span,) = traces.named("chat")
    assert traces.parent(span) == traces.named("invoke_workflow away")[0]
    assert span.attributes["gen_ai.usage.input_tokens"] == told[0]["usage"]["prompt_tokens"] == result.usage["prompt_tokens"]
