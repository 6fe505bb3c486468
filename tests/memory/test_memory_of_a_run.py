"""What a memory recalls stands at the tail of every request of a run, and nowhere else; what ends is told to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from power_loop import (
    AgentHooks,
    AgentLoopConfig,
    HookDirective,
    LLMError,
    MemoryPolicy,
    MemoryProvider,
    MemoryRecallHook,
    MemorySnapshot,
    StatefulAgentLoop,
    UsageLimits,
    open_store,
    tag_as_memory,
    tool,
)
from power_loop.contracts.hook_contexts import LlmBeforeCtx
from power_loop.testing import ScriptedLLM, call, fail, hang, say


class Diary:
    """A memory that recalls how often it was asked, and keeps what it is told."""

    def __init__(self, *recalled: str, error: Exception | None = None) -> None:
        self.asked: list[tuple[list[Any], str, int]] = []
        self.told: list[MemorySnapshot] = []
        self.recalled: Sequence[str] = recalled
        self.error = error
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def recall(self, *, messages: Sequence[Any], session_id: str, budget_tokens: int = 1500) -> list[Any]:
        self.asked.append((list(messages), session_id, budget_tokens))
        if self.error is not None:
            raise self.error
        return [{"role": "user", "content": text} for text in self.recalled or (f"asked {len(self.asked)} times",)]

    async def remember(self, *, snapshot: MemorySnapshot, session_id: str) -> None:
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        assert session_id == snapshot.session_id
        self.told.append(snapshot)


@tool(effects="pure")
def look(at: str) -> str:
    """Look at something."""
    return f"a {at}"


class Place:
    """A store in memory, and loops on it."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.loops: list[StatefulAgentLoop] = []
        self.heard: list[Any] = []

    def loop(self, *script: Any, memory: Any = None, **settings: Any) -> StatefulAgentLoop:
        config = settings.pop("config", None) or AgentLoopConfig(memory=memory, **settings.pop("options", {}))
        settings.setdefault("tools", [look])
        loop = StatefulAgentLoop(llm=ScriptedLLM(script), store=self.store, config=config, **settings)
        loop.event_bus.subscribe(None, self.heard.append)
        self.loops.append(loop)
        return loop

    def told(self, type: str) -> list[dict[str, Any]]:
        return [dict(event.payload) for event in self.heard if event.type == type]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place(await open_store(":memory:"))
    yield made
    for loop in made.loops:
        await loop.aclose()
    await made.store.close()


def shown(loop: Any, at: int = -1) -> list[tuple[str, str | None, Any]]:
    return [(m["role"], m.get("name"), m["content"]) for m in loop.llm.requests[at].messages]


# acceptance: 94
async def test_memory_is_recalled_once_per_run_and_stands_at_the_tail_of_each_of_its_requests(place: Place) -> None:
    diary = Diary()
    loop = place.loop(call("look", at="x"), call("look", at="y"), "done", "again", memory=diary)
    session = await loop.new_session()
    await loop.send("go", session)
    tails = [shown(loop, at)[-1] for at in range(3)]
    assert tails == [("system", "memory_recalled", "asked 1 times")] * 3
    assert len({str(request.messages[-1]) for request in loop.llm.requests}) == 1, "byte-equal"
    (messages, asked_for, budget) = diary.asked[0]
    assert ([m["content"] for m in messages], asked_for, budget) == (["go"], session, 1500)
    await loop.send("and?", session)
    assert shown(loop)[-1][2] == "asked 2 times"


# acceptance: 94 (stored nowhere)
async def test_what_was_recalled_is_stored_nowhere(place: Place) -> None:
    loop = place.loop("done", memory=Diary("a secret of yesterday"))
    session = await loop.new_session()
    await loop.send("go", session)
    assert "secret" not in str(await loop.get_messages(session))
    tables = [name for name, kind, _ in await place.store.database.read(place.store.dialect.relations) if kind == "table"]
    for table in {name for name in tables if name.startswith("pl_")}:
        assert "secret" not in str(await place.store.database.read(f"SELECT * FROM {table}")), table


# acceptance: 94 (a resume is a run)
async def test_a_resume_recalls_anew(place: Place) -> None:
    diary = Diary()
    loop = place.loop(fail(LLMError("gone")), "done", memory=diary)
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("go", session)
    await loop.resume(session)
    assert [shown(loop, at)[-1][2] for at in (0, 1)] == ["asked 1 times", "asked 2 times"]


# acceptance: 94 (by name)
async def test_the_hook_can_be_removed_and_replaced_by_its_name(place: Place) -> None:
    diary = Diary()
    loop = place.loop("one", "two", "three", memory=diary)
    session = await loop.new_session()
    assert loop.hooks.has("builtin.memory_recall", "llm.before")
    assert MemoryRecallHook.NAME == "builtin.memory_recall"
    assert loop.hooks.remove("builtin.memory_recall") == 1
    await loop.send("go", session)
    loop.config.temperature = 1.0
    await loop.send("go", session)
    assert diary.asked == []
    assert not loop.hooks.has("builtin.memory_recall"), "what the host took away stays away"
    own = MemoryRecallHook(diary, budget_tokens=7, position="front")
    loop.hooks.replace("llm.before", own, name=MemoryRecallHook.NAME, order=100)
    await loop.send("go", session)
    assert (shown(loop)[0][1], diary.asked[0][2]) == ("memory_recalled", 7)
    assert await settled(diary, 3), "it is told all the same"


async def settled(diary: Diary, times: int) -> bool:
    """It is told of so many sends, in the end."""
    for _ in range(1000):
        if len(diary.told) >= times:
            return True
        await asyncio.sleep(0)
    return False


# acceptance: 94 (R4.9)
async def test_what_stands_under_the_name_already_is_left_alone(place: Place) -> None:
    hooks, diary, seen = AgentHooks(), Diary(), []
    hooks.register("llm.before", lambda ctx: seen.append(ctx.purpose), name="builtin.memory_recall")
    loop = place.loop("done", memory=diary, hooks=hooks)
    await loop.run("go")
    assert (seen, diary.asked) == (["round"], [])
    without = place.loop("done", memory=diary, options={"builtin_memory_hook": False})
    await without.run("go")
    assert (diary.asked, without.hooks.has("builtin.memory_recall")) == ([], False)


async def test_memory_may_stand_in_front(place: Place) -> None:
    loop = place.loop(call("look", at="x"), "done", memory=Diary("blue"), options={"memory_position": "front"})
    await loop.run("go")
    for at in (0, 1):
        assert shown(loop, at)[0] == ("system", "memory_recalled", "blue")
    assert shown(loop, 0)[1] == ("user", None, "go")


# acceptance: 95 (also when the memory changes)
async def test_the_next_request_begins_with_the_last_one_up_to_its_memory(place: Place) -> None:
    loop = place.loop(call("look", at="x"), "one", "two", "three", memory=Diary())
    session = await loop.new_session()
    for text in ("a", "b", "c"):
        await loop.send(text, session)
    requests = [request.messages for request in loop.llm.requests]
    for earlier, later in itertools.pairwise(requests):
        assert later[: len(earlier) - 1] == earlier[:-1]
        assert earlier[-1]["role"] == "system"
    replies = await place.store.database.read("SELECT body FROM pl_records WHERE kind = 'model_replied'")
    assert len({row[0] for row in replies}) == len(replies), "each reply knows its own request"


# acceptance: 94 (memory.recalled), 48 (memory.recalled)
async def test_handlers_at_memory_recalled_may_edit_or_drop_it(place: Place) -> None:
    hooks = AgentHooks()

    def edit(ctx: Any) -> Any:
        assert ctx.budget_tokens == 1500
        if "nothing" in ctx.recalled[0]["content"]:
            return HookDirective.SKIP
        ctx.recalled[:] = [{"role": "system", "name": "memory_mine", "content": "edited"}]
        return None

    hooks.register("memory.recalled", edit)
    loop = place.loop("one", memory=Diary("a", "b"), hooks=hooks)
    await loop.run("go")
    assert shown(loop)[1:] == [("system", "memory_mine", "edited")]
    assert place.told("memory_recalled") == [{"returned": 2, "injected": 1, "budget_tokens": 1500}]
    loop = place.loop("two", memory=Diary("nothing"), hooks=AgentHooks())
    loop.hooks.register("memory.recalled", edit)
    await loop.run("go")
    assert shown(loop) == [("user", None, "go")]
    assert place.told("memory_recalled")[-1] == {"returned": 1, "injected": 0, "budget_tokens": 1500}


async def test_more_than_the_budget_is_not_shown(place: Place) -> None:
    loop = place.loop("one", memory=Diary("x" * 200, "y" * 200, "z" * 200), options={"memory_budget_tokens": 120})
    await loop.run("go")
    assert [text[0] for _, _, text in shown(loop)[1:]] == ["x", "y"]


# acceptance: 94 (a failing memory)
@pytest.mark.parametrize("error", [ValueError("broken"), TimeoutError()])
async def test_a_failing_memory_harms_no_send(place: Place, error: Exception) -> None:
    diary = Diary(error=error)
    loop = place.loop(call("look", at="x"), "done", memory=diary)
    result = await loop.run("go")
    assert (result.status, result.final_text) == ("completed", "done")
    await loop.aclose()
    told = place.told("memory_failed")
    assert [(each["phase"], each["error_type"]) for each in told] == [("recall", type(error).__name__), ("remember", type(error).__name__)]
    assert len(diary.asked) == 1, "not asked again in this run"
    assert shown(loop)[-1][0] == "tool"


@pytest.mark.parametrize("wrong", [{"role": "user"}, {"content": None}, {"content": 5}, {"content": ["text"]}, 5])
async def test_what_no_request_can_take_is_a_failing_memory(place: Place, wrong: Any) -> None:
    class Odd(Diary):
        async def recall(self, **asked: Any) -> list[Any]:
            return ["fine", wrong]

    loop = place.loop("done", memory=Odd())
    assert (await loop.run("go")).status == "completed"
    assert [each["phase"] for each in place.told("memory_failed")] == ["recall"]
    assert [role for role, *_ in shown(loop)] == ["user"]


async def test_a_memory_that_does_not_answer_is_not_waited_for(place: Place) -> None:
    class Slow(Diary):
        async def recall(self, **asked: Any) -> list[Any]:
            await asyncio.Event().wait()
            return []

    hook = MemoryRecallHook(Slow(), timeout_s=0.01)
    loop = place.loop("done")
    loop.hooks.register("llm.before", hook, order=100, name=hook.NAME)
    assert (await loop.run("go")).final_text == "done"


# --- remembering ---------------------------------------------------------------------------------


# acceptance: 94 (remember)
async def test_every_ending_is_told_after_the_result(place: Place) -> None:
    diary = Diary()
    loop = place.loop(say("done"), fail(LLMError("gone")), call("look", at="x"), memory=diary)
    session = await loop.new_session()
    await loop.send("go", session)
    with pytest.raises(LLMError):
        await loop.send("fail", session)
    await loop.send("spend", session, limits=UsageLimits(requests=1))
    await loop.aclose()
    endings = [("completed", "done"), ("failed", ""), ("budget_exceeded", "[budget_exceeded]")]
    assert [(told.status, told.final_text) for told in diary.told] == endings
    first = diary.told[0]
    assert (first.session_id, first.rounds, first.metadata["send_index"], first.metadata["usage"]["calls"]) == (session, 1, 1, 1)
    assert [m["content"] for m in first.messages] == ["go", "done"]
    assert isinstance(diary, MemoryProvider)


async def test_a_send_that_waits_is_not_told_yet_and_a_cancelled_one_is(place: Place) -> None:
    diary = Diary()
    loop = place.loop(call("nobody"), hang(), memory=diary, tools=None)
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "pending_tools"
    await loop.abort_pending(session)
    sending = asyncio.create_task(loop.send("more", session))
    while not await loop.cancel(session):
        await asyncio.sleep(0)
    assert (await sending).status == "cancelled"
    await loop.aclose()
    assert [told.status for told in diary.told] == ["cancelled", "cancelled"]


async def test_the_result_does_not_wait_for_the_memory_but_closing_and_the_next_recall_do(place: Place) -> None:
    diary = Diary()
    diary.go_on.clear()
    loop = place.loop("one", "two", "three", memory=diary)
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "one"
    assert diary.told == []
    sending = asyncio.create_task(loop.send("more", session))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(diary.asked) == 1, "what the memory recalls knows of the send before"
    diary.go_on.set()
    assert (await sending).final_text == "two"
    assert await settled(diary, 2)
    diary.go_on.clear()
    await loop.send("last", session)
    closing = asyncio.create_task(loop.aclose())
    for _ in range(100):
        await asyncio.sleep(0)
    assert not closing.done()
    diary.go_on.set()
    await closing
    assert [told.final_text for told in diary.told] == ["one", "two", "three"]


# R15.3
async def test_a_sub_agents_run_neither_recalls_nor_is_told(place: Place) -> None:
    diary = Diary()
    hook = MemoryRecallHook(diary)
    ctx = LlmBeforeCtx(messages=[{"role": "user", "content": "x"}], depth=1, session_id="s")
    await hook(ctx)
    assert (diary.asked, len(ctx.standing())) == ([], 1)


async def test_memory_that_is_set_later_is_used_from_the_next_send_on(place: Place) -> None:
    loop = place.loop("one", "two", "three")
    session = await loop.new_session()
    await loop.send("a", session)
    loop.config.memory = Diary("new")
    await loop.send("b", session)
    assert shown(loop)[-1][2] == "new"
    loop.config.memory = None
    await loop.send("c", session)
    assert shown(loop)[-1] == ("user", None, "c")


def test_what_is_tagged_as_memory_is_a_system_message_of_a_telling_name() -> None:
    assert tag_as_memory("blue") == {"content": "blue", "role": "system", "name": "memory_recalled"}
    assert tag_as_memory({"role": "user", "content": "x", "name": "notes"})["name"] == "memory_notes"
    assert tag_as_memory({"content": "x", "name": "memory_y"}, name="z")["name"] == "memory_y"


@pytest.mark.parametrize("memory", ["a name", object(), 7])
def test_what_is_no_memory_is_refused(memory: Any) -> None:
    with pytest.raises(ValueError, match="memory"):
        AgentLoopConfig(memory=memory)
    with pytest.raises(ValueError, match="position"):
        AgentLoopConfig(memory_position="middle")


# acceptance: 93
def test_the_fold_threshold_is_lowered_by_the_memory_budget_while_built_in_memory_is_on() -> None:
    plain = AgentLoopConfig(context_tokens=10_000)
    on = AgentLoopConfig(context_tokens=10_000, memory=Diary(), recall=MemoryPolicy(budget_tokens=2_000))
    off = AgentLoopConfig(context_tokens=10_000, memory=Diary(), memory_budget_tokens=2_000, builtin_memory_hook=False)
    assert [each.effective_context_budget() for each in (plain, on, off)] == [10_000, 8_000, 10_000]
    ratio = plain.fold_strategy.trigger_ratio
    assert [each.fold_at_tokens() for each in (plain, on, off)] == [int(10_000 * ratio), int(8_000 * ratio), int(10_000 * ratio)]
    assert AgentLoopConfig(context_tokens=100, memory=Diary()).effective_context_budget() == 1
