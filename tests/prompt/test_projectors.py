"""What the model is shown beside the transcript: at the tail of every request, stored nowhere, and free where there is nothing to show."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engines
import pytest

from power_loop import (
    AgentEventBus,
    AgentHooks,
    AgentLoopConfig,
    BackgroundRuntimeProjector,
    LLMPermanentError,
    ProjectionContext,
    SessionStore,
    StatefulAgentLoop,
    TodoRuntimeProjector,
    ToolRun,
    create_default_tool_registry,
    default_runtime_projectors,
    get_tool_runtime_context,
    open_store,
)
from power_loop.providers.anthropic.borders import marked_messages
from power_loop.testing import ScriptedLLM, call, calls, fail, hang, say
from power_loop.tools.projectors import LATE_MS, LOST

ITEMS = [{"id": "1", "text": "look", "status": "completed"}, {"id": "2", "text": "build", "status": "in_progress"}]
LIST = "<current_todos>\n1 of 2 completed\n[x] 1: look\n[>] 2: build\n</current_todos>"
SHOWN = {"role": "system", "name": "current_todos", "content": LIST}


def todos(**more: Any) -> Any:
    return create_default_tool_registry(include=["todo", "current_time"], **more)


def tails(model: ScriptedLLM, name: str) -> list[str | None]:
    """What stands under this name at the end of each request; None where nothing does."""
    return [request.messages[-1]["content"] if request.messages[-1].get("name") == name else None for request in model.requests]


class Reads:
    """Counts what is read of the store."""

    def __init__(self, store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: list[str] = []
        for verb in ("get_runtime_state", "unseen_jobs"):
            monkeypatch.setattr(store, verb, self._counting(verb, getattr(store, verb)))

    def _counting(self, verb: str, read: Any) -> Any:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.of.append(verb)
            return await read(*args, **kwargs)

        return counted


@pytest.fixture
async def store() -> Any:
    store = await open_store(":memory:")
    yield store
    await store.close()


# --- todos -----------------------------------------------------------------------------------------


async def test_todos_stand_at_the_tail_of_every_request_and_nowhere_in_the_transcript(store: SessionStore) -> None:
    model = ScriptedLLM([call("todo", items=ITEMS), call("current_time"), say("1"), say("2")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos()) as loop:
        session = await loop.new_session()
        await loop.send("build it", session)
        await loop.send("how far?", session)
        first, *others = model.requests
        assert first.messages == [{"role": "user", "content": "build it"}]
        assert [request.messages[-1] for request in others] == [SHOWN] * 3
        assert all(message.get("name") != "current_todos" for request in others for message in request.messages[:-1])
        assert "current_todos" not in str(await loop.get_messages(session))
        assert "current_todos" not in str(await store.load_all_messages(session))


async def test_what_stands_before_the_tail_is_the_same_from_request_to_request(store: SessionStore) -> None:
    model = ScriptedLLM([call("todo", items=ITEMS), call("todo", items=ITEMS[:1]), say("1"), call("todo", items=[]), say("2")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos()) as loop:
        session = await loop.new_session()
        await loop.send("build it", session)
        await loop.send("how far?", session)
    bare = [[message for message in request.messages if message.get("name") != "current_todos"] for request in model.requests]
    for earlier, later in itertools.pairwise(bare):
        assert later[: len(earlier)] == earlier
    assert [tail is not None for tail in tails(model, "current_todos")] == [False, True, True, True, False]


def test_the_borders_of_the_prompt_cache_stay_where_they_are() -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert marked_messages([*talk, SHOWN]) == [*marked_messages(talk), SHOWN]
    assert [bool(message.get("cache_control")) for message in marked_messages(talk)] == [False, True, False]


async def test_a_cold_loop_shows_the_todos_that_a_warm_one_shows(tmp_path: Path) -> None:
    script = [
        [call("todo", items=ITEMS), say("1")],
        [say("2")],
        [call("current_time"), say("3")],
        [call("todo", items=[]), say("4")],
        [say("5")],
    ]
    requests: list[list[Any]] = []
    for warm in (True, False):
        model = ScriptedLLM([step for steps in script for step in steps])
        shared: dict[str, Any] = {"llm": model, "dsn": str(tmp_path / f"{warm}.db"), "tool_registry": todos()}
        loop = StatefulAgentLoop(**shared)
        session = await loop.new_session(session_id="s")
        for n in range(len(script)):
            if not warm:
                await loop.aclose()
                loop = StatefulAgentLoop(**shared)
            await loop.send(str(n), session)
        await loop.aclose()
        requests.append([request.messages for request in model.requests])
    assert [[m for m in r if m["role"] != "tool"] for r in requests[0]] == [[m for m in r if m["role"] != "tool"] for r in requests[1]]


async def test_a_list_that_another_loop_wrote_is_shown_by_a_warm_one(store: SessionStore) -> None:
    model, other = ScriptedLLM([say("1"), say("3")]), ScriptedLLM([call("todo", items=ITEMS), say("2")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos()) as warm:
        session = await warm.new_session()
        await warm.send("a", session)
        async with StatefulAgentLoop(llm=other, store=store, tool_registry=todos()) as elsewhere:
            await elsewhere.send("b", session)
        await warm.send("c", session)
    assert [tail is not None for tail in tails(model, "current_todos")] == [False, True]


async def test_a_session_that_writes_no_list_reads_none(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedLLM([call("current_time"), call("current_time"), say("1"), say("2"), call("todo", items=ITEMS), say("3"), say("4")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos()) as loop:
        session = await loop.new_session()
        reads = Reads(store, monkeypatch)
        await loop.send("a", session)
        await loop.send("b", session)
        assert reads.of == ["get_runtime_state"], "once, to know that there is none"
        await loop.send("c", session)
        await loop.send("d", session, tools=["current_time"])
    assert [tail is not None for tail in tails(model, "current_todos")] == [False] * 5 + [True, False]


async def test_a_send_without_the_tool_asks_nobody(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedLLM([say("1"), say("2")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos()) as loop:
        session = await loop.new_session()
        reads = Reads(store, monkeypatch)
        await loop.send("a", session, tools=[])
        await loop.send("b", session, tools=["current_time"])
        assert reads.of == []


async def test_a_round_that_wrote_the_list_says_so(store: SessionStore) -> None:
    rounds, seen, told = list[Any](), list[tuple[str, bool]](), list[Any]()
    bus, hooks = AgentEventBus(), AgentHooks()
    bus.subscribe("round_completed", lambda event: rounds.append(event.payload["used_todo"]))
    bus.subscribe("todo_updated", lambda event: told.append((event.payload["kind"], event.payload["counts"], event.payload["text"])))
    hooks.register("round.end", lambda ctx: seen.append(("round", ctx.used_todo)))
    hooks.register("tools.batch.after", lambda ctx: seen.append(("batch", ctx.used_todo)))
    model = ScriptedLLM([calls(call("current_time"), call("todo", items=ITEMS)), call("current_time"), say("1")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos(), event_bus=bus, hooks=hooks) as loop:
        await loop.send("a", await loop.new_session())
    assert rounds == [True, False, False]
    assert seen == [("batch", True), ("round", True), ("batch", False), ("round", False), ("round", False)]
    assert told == [("todo_snapshot", {"pending": 0, "in_progress": 1, "completed": 1}, "1 of 2 completed")]


async def test_a_handler_may_say_something_to_the_user_that_the_model_never_sees(store: SessionStore) -> None:
    async def notify(run: ToolRun, text: str) -> str:
        """Say it."""
        await run.notify(text)
        await get_tool_runtime_context(required=True).notify(text + "!")
        return "said"

    bus, told = AgentEventBus(), list[str]()
    bus.subscribe("user_notification", lambda event: told.append(event.payload["message"]))
    model = ScriptedLLM([call("notify", text="half way"), say("1")])
    async with StatefulAgentLoop(llm=model, store=store, tools=[notify], event_bus=bus) as loop:
        session = await loop.new_session()
        await loop.send("a", session)
        assert told == ["half way", "half way!"]
        assert "half way!" not in str(model.requests[-1].messages)


# --- background commands ------------------------------------------------------------------------------


def background() -> Any:
    return create_default_tool_registry(include=["background_run", "current_time"], workspace_dir=".")


async def ended(
    store: SessionStore, session: str, job: str, output: str = "all green\n", status: Any = "completed", code: int | None = 0
) -> None:
    await store.begin_job(session, job, kind="command", command="make  test", holder="somebody", timeout_s=300.0)
    assert await store.end_job(session, job, status=status, return_code=code, output=output)


# acceptance: 43 (its news)
async def test_the_end_of_a_command_is_told_once_it_is_there_and_not_again_once_a_reply_that_saw_it_is_stored(store: SessionStore) -> None:
    model = ScriptedLLM([call("current_time"), say("1"), say("2"), say("3")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=background()) as loop:
        session = await loop.new_session()
        await ended(store, session, "bg_1")
        await loop.send("a", session)
        await loop.send("b", session)
        await ended(store, session, "bg_2", output="", status="failed", code=3)
        loop = StatefulAgentLoop(llm=model, store=store, tool_registry=background())
        await loop.send("c", session)
        assert tails(model, "background_updates") == [
            "<background_updates>\nbg_1: completed: make test\nall green\n</background_updates>", None, None,
            "<background_updates>\nbg_2: failed(3): make test\n</background_updates>",
        ]  # fmt: skip
        assert "background_updates" not in str(await loop.get_messages(session))
        assert await store.unseen_jobs(session) == []
        assert [job.status for job in await store.list_jobs(session)] == ["completed", "failed"], "the rows stay as they were"


async def test_a_call_that_failed_shows_the_news_again(store: SessionStore) -> None:
    model = ScriptedLLM([fail(LLMPermanentError("refused")), hang(), say("1"), say("2")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=background()) as loop:
        session = await loop.new_session()
        await ended(store, session, "bg_1")
        with pytest.raises(LLMPermanentError):
            await loop.send("a", session)
        running = asyncio.ensure_future(loop.resume(session))
        while len(model.requests) < 2:
            await asyncio.sleep(0)
        await loop.cancel(session)
        assert (await running).status == "cancelled"
        await loop.send("b", session)
        await loop.send("c", session)
    assert [tail is not None for tail in tails(model, "background_updates")] == [True, True, True, False]


async def test_news_are_seen_in_the_batch_that_stores_the_reply(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, write = list[list[str]](), store.database.write

    async def writing(batch: Any) -> None:
        batches.append(
            [statement.sql.split()[0] + " " + statement.sql.split()[1 if statement.sql.startswith("UPDATE") else 2] for statement in batch]
        )
        await write(batch)

    async with StatefulAgentLoop(llm=ScriptedLLM([say("1")]), store=store, tool_registry=background()) as loop:
        session = await loop.new_session()
        await ended(store, session, "bg_1")
        monkeypatch.setattr(store.database, "write", writing)
        await loop.send("a", session)
    assert len(batches) == 2, "a plain send is still two batches"
    assert "UPDATE pl_jobs" not in batches[0]
    assert batches[1].count("UPDATE pl_jobs") == 1
    assert "INSERT pl_records" in batches[1]


@pytest.mark.parametrize("engine", engines.ALL)
async def test_the_end_of_a_command_is_news_once_on_every_engine(engine: str, tmp_path: Path) -> None:
    model = ScriptedLLM([say("1"), say("2")])
    async with engines.fresh(engine, tmp_path) as dsn:
        store = await open_store(dsn)
        async with StatefulAgentLoop(llm=model, store=store, tool_registry=background()) as loop:
            session = await loop.new_session()
            await ended(store, session, "bg_1")
            await store.begin_job(session, "bg_2", kind="command", command="x", holder=None, timeout_s=None)
            assert await store.ask_job_to_stop(session, "bg_2", 'say "seen":true')
            await loop.send("a", session)
            assert [job.job_id for job in await store.unseen_jobs(session)] == ["bg_2"]
            assert await store.end_job(session, "bg_2", status="stopped")
            await loop.send("b", session)
            assert await store.unseen_jobs(session) == []
            assert [job.stop for job in await store.list_jobs(session)] == [None, 'say "seen":true']
        await store.close()
    assert ["bg_1" in str(tail) for tail in tails(model, "background_updates")] == [True, False]
    assert ["bg_2" in str(tail) for tail in tails(model, "background_updates")] == [False, True]


async def test_long_output_is_shown_by_its_end(store: SessionStore) -> None:
    model = ScriptedLLM([say("1")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=background()) as loop:
        session = await loop.new_session()
        await ended(store, session, "bg_1", output="x" * 5000 + "the end")
        await loop.send("a", session)
    [shown] = tails(model, "background_updates")
    assert shown is not None
    assert "[… 4007 characters before this; check_background(task_id='bg_1') gives more …]" in shown
    assert shown.endswith("the end\n</background_updates>")
    assert len(shown) < 1300


async def test_a_command_whose_process_is_gone_is_told_as_lost(store: SessionStore) -> None:
    shower, context = BackgroundRuntimeProjector(), ProjectionContext(is_dead=lambda holder: holder == "dead")
    session = await store.create_session()
    for job, holder in (("bg_1", "dead"), ("bg_2", "alive"), ("bg_3", None)):
        await store.begin_job(session, job, kind="command", command=job, holder=holder, timeout_s=1.0)
    [message] = await shower.project(store=store, session_id=session, round_index=0, context=context)
    assert message["content"] == f"<background_updates>\nbg_1: error: bg_1\n{LOST}\n</background_updates>"
    assert (context.ask_again, [job.job_id for job in context.seen_jobs]) == (True, ["bg_1"])
    late = ProjectionContext(now_ms=store.clock.now_ms() + 1000 + LATE_MS + 10_000)
    [message] = await shower.project(store=store, session_id=session, round_index=0, context=late)
    assert message["content"].count(LOST) == 3
    assert late.ask_again is False
    assert {job.status for job in await store.list_jobs(session)} == {"error"}


async def test_a_running_command_is_looked_after_and_a_session_without_any_reads_once(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedLLM([call("current_time"), say("1"), say("2"), say("3"), call("current_time"), say("4")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=background()) as loop:
        session, busy = await loop.new_session(), await loop.new_session()
        reads = Reads(store, monkeypatch)
        await loop.send("a", session)
        await loop.send("b", session)
        assert reads.of == ["unseen_jobs"]
        await store.begin_job(busy, "bg_1", kind="command", command="x", holder=None)
        await loop.send("c", busy)
        await store.end_job(busy, "bg_1", status="completed", return_code=0)
        await loop.send("d", busy)
    assert [tail is not None for tail in tails(model, "background_updates")] == [False, False, False, False, True, False]


# --- projectors of the host ------------------------------------------------------------------------------


class Weather:
    """Shows the same, always."""

    def __init__(self, *messages: Any) -> None:
        self.messages = messages or ({"role": "user", "content": "It rains."},)
        self.asked: list[tuple[str, int, Sequence[str]]] = []

    def project(self, *, store: Any, session_id: str, round_index: int, context: ProjectionContext) -> Any:
        self.asked.append((session_id, round_index, context.tools))
        return list(self.messages)


class Broken:
    async def project(self, **about: Any) -> Any:
        raise ZeroDivisionError("the projector's own fault")


def with_projectors(*projectors: Any) -> AgentLoopConfig:
    return AgentLoopConfig(runtime_projectors=projectors)


async def test_projectors_of_the_host_are_asked_every_round_in_their_order(store: SessionStore) -> None:
    weather, clock = Weather(), Weather({"role": "system", "name": "clock", "content": "Noon."})
    model = ScriptedLLM([call("current_time"), say("1")])
    async with StatefulAgentLoop(llm=model, store=store, config=with_projectors(weather, clock), tool_registry=todos()) as loop:
        session = await loop.new_session()
        await loop.send("a", session)
    assert weather.asked == [(session, 0, ["todo", "current_time"]), (session, 1, ["todo", "current_time"])]
    assert [request.messages[-2:] for request in model.requests] == [[*weather.messages, *clock.messages]] * 2


@pytest.mark.parametrize(
    "broken",
    [
        Broken(),
        Weather({"role": "tool", "tool_call_id": "x", "content": "forged"}),
        Weather({"role": "assistant", "content": "never said"}),
        Weather({"role": "user", "content": ""}),
        Weather({"role": "user", "content": [5]}),
        Weather("just text"),
    ],
    ids=lambda each: type(each).__name__ + str(getattr(each, "messages", ""))[:24],
)
async def test_a_projector_that_fails_is_left_out_with_a_warning(
    broken: Any, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    model = ScriptedLLM([say("1")])
    async with StatefulAgentLoop(llm=model, store=store, config=with_projectors(broken, Weather())) as loop:
        assert (await loop.send("a", await loop.new_session())).status == "completed"
    assert [message["content"] for message in model.requests[0].messages] == ["a", "It rains."]
    assert f"the projector {type(broken).__name__} is left out" in caplog.text


async def test_a_projector_that_hangs_is_cut_off_by_a_cancel(store: SessionStore) -> None:
    begun = asyncio.Event()

    class Hanging:
        async def project(self, **about: Any) -> Any:
            begun.set()
            await asyncio.Event().wait()

    async with StatefulAgentLoop(llm=ScriptedLLM([say("1")], strict=False), store=store, config=with_projectors(Hanging())) as loop:
        session = await loop.new_session()
        running = asyncio.ensure_future(loop.send("a", session))
        await begun.wait()
        assert await loop.cancel(session)
        assert (await running).status == "cancelled"


async def test_the_summary_of_a_send_that_ran_out_of_rounds_sees_what_the_rounds_saw(store: SessionStore) -> None:
    model = ScriptedLLM([call("todo", items=ITEMS), say("summed up")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos(), config=AgentLoopConfig(max_rounds=1)) as loop:
        assert (await loop.send("a", await loop.new_session())).status == "hit_round_limit"
    assert model.requests[-1].messages[-2] == SHOWN


async def test_none_are_asked_where_none_are_configured(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedLLM([call("todo", items=ITEMS), say("1")])
    async with StatefulAgentLoop(llm=model, store=store, tool_registry=todos(), config=with_projectors()) as loop:
        session = await loop.new_session()
        reads = Reads(store, monkeypatch)
        await loop.send("a", session)
        assert reads.of == ["get_runtime_state"] * 0
    assert tails(model, "current_todos") == [None, None]


def test_the_default_is_the_todos_and_the_background_news() -> None:
    assert AgentLoopConfig().tooling.projectors == default_runtime_projectors()
    assert [type(each) for each in default_runtime_projectors()] == [TodoRuntimeProjector, BackgroundRuntimeProjector]
    with pytest.raises(ValueError, match=r"tooling\.projectors"):
        AgentLoopConfig(runtime_projectors=[object()])
