"""Sessions at the door: they are the database's, not a loop's, and every field of what a send gives is there."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, SessionNotFoundError, StatefulAgentLoop, Usage
from power_loop.testing import ScriptedLLM, call, calls, raw_call, respond, say

ANOTHER_PROCESS = """
import asyncio, json, sys
from power_loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM

async def main(dsn, session):
    async with StatefulAgentLoop(llm=ScriptedLLM(["I am another process."]), dsn=dsn) as loop:
        result = await loop.send("And who are you?", session)
        print(json.dumps([result.final_text, result.send_index, loop.llm.requests[0].messages]))

asyncio.run(main(*sys.argv[1:]))
"""


def add(a: int, b: int = 1) -> str:
    """Add."""
    return str(a + b)


# acceptance: 10
async def test_a_bare_file_name_is_enough_and_the_second_request_holds_the_first_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ScriptedLLM(["Blue.", "Green."])
    async with StatefulAgentLoop(llm=model, dsn="app.db") as loop:
        assert not (tmp_path / "app.db").exists(), "construction does no I/O"
        session = await loop.new_session()
        await loop.send("Name a colour.", session)
        await loop.send("Another one?", session)
    assert (tmp_path / "app.db").exists()
    assert [(m["role"], m["content"]) for m in model.requests[1].messages] == [
        ("user", "Name a colour."),
        ("assistant", "Blue."),
        ("user", "Another one?"),
    ]


# acceptance: 11
async def test_another_process_goes_on_from_dsn_and_session_id_alone(file_home: Any) -> None:
    loop = file_home.loop(call("add", a=2, b=3), "Five.", tools=[add])
    session = await loop.new_session()
    await loop.send("2 + 3?", session)
    known = await loop.get_messages(session)
    await loop.aclose()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ANOTHER_PROCESS, file_home.dsn, session, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    text, send_index, messages = json.loads(told)
    assert (text, send_index) == ("I am another process.", 2)
    assert messages == [*known, {"role": "user", "content": "And who are you?"}]


# acceptance: 13
async def test_a_closed_file_is_whole_without_side_files_and_can_be_copied(file_home: Any, tmp_path: Path) -> None:
    loop = file_home.loop(calls(call("add", a=1), call("add", a=2)), "done", tools=[add])
    session = await loop.new_session(metadata={"owner": "ann"})
    await loop.send("go", session)
    before = await loop.get_messages(session)
    await loop.aclose()
    copy = tmp_path / "elsewhere" / "copy.db"
    copy.parent.mkdir()
    shutil.copyfile(file_home.dsn, copy)
    async with StatefulAgentLoop(llm=ScriptedLLM(), dsn=str(copy)) as other:
        assert await other.get_messages(session) == before
        assert (await (await other.ensure_store()).get_session(session)).metadata == {"owner": "ann"}


# acceptance: 14
async def test_a_new_session_has_a_fresh_id_and_its_metadata_and_calls_no_model(home: Any) -> None:
    loop = home.loop()
    one, two = await loop.new_session(metadata={"user": "ü"}), await loop.new_session()
    assert one != two
    assert one.startswith("sess_")
    assert len(one) == len("sess_") + 24
    store = await loop.ensure_store()
    assert (await store.get_session(one)).metadata == {"user": "ü"}
    assert (await store.get_session(two)).metadata == {}
    assert loop.llm.requests == []


async def test_an_own_id_is_taken_once_and_must_be_a_plain_name(home: Any) -> None:
    loop = home.loop()
    assert await loop.new_session(session_id="tenant/42:chat") == "tenant/42:chat"
    for refused in ("tenant/42:chat", "", "with blank", "ü", "x" * 192, "line\nend", "a\0"):
        with pytest.raises(ValueError, match="session"):
            await loop.new_session(session_id=refused)
    assert await loop.new_session(session_id="x" * 191)


async def test_ids_differ_by_case_and_are_never_trimmed(home: Any) -> None:
    loop = home.loop("for a", "for A")
    await loop.new_session(session_id="a")
    await loop.new_session(session_id="A")
    await loop.send("to a", "a")
    await loop.send("to A", "A")
    assert [m["content"] for m in await loop.get_messages("A")] == ["to A", "for A"]


# acceptance: 14 (unknown id)
@pytest.mark.parametrize("verb", ["send", "follow_up", "enqueue"])
async def test_saying_something_to_an_unknown_session_is_refused_and_writes_nothing(home: Any, verb: str) -> None:
    loop = home.loop()
    await loop.new_session()
    before = await home.contents()
    with pytest.raises(SessionNotFoundError) as refused:
        await getattr(loop, verb)("hello", "sess_of_nobody")
    assert refused.value.session_id == "sess_of_nobody"
    assert await home.contents() == before
    assert loop.llm.requests == []


@pytest.mark.parametrize(
    "verb", ["resume", "abort_pending", "cancel", "get_messages", "get_pending", "get_session_stats", "close_session", "inbox"]
)
async def test_every_method_that_takes_an_id_refuses_an_unknown_one_by_name(home: Any, verb: str) -> None:
    with pytest.raises(SessionNotFoundError, match="sess_of_nobody"):
        await getattr(home.loop(), verb)("sess_of_nobody")


async def test_answering_a_question_of_an_unknown_session_is_refused(home: Any) -> None:
    with pytest.raises(SessionNotFoundError):
        await home.loop().submit_input("sess_of_nobody", "input_0", "yes")
    with pytest.raises(SessionNotFoundError):
        await home.loop().resolve_system_prompt(session_id="sess_of_nobody")


# acceptance: 15
async def test_a_result_has_every_documented_field_with_its_type(home: Any) -> None:
    loop = home.loop(call("add", a=1), say("Two.", prompt_tokens=10, completion_tokens=3), tools=[add])
    session = await loop.new_session()
    result = await loop.send("1 + 1?", session)
    expected: dict[str, tuple[type, Any]] = {
        "session_id": (str, session),
        "status": (str, "completed"),
        "final_text": (str, "Two."),
        "rounds": (int, 2),
        "pending_tool_calls": (list, []),
        "pending_interactions": (list, []),
        "usage": (dict, result.usage),
        "tool_calls": (int, 1),
        "output": (type(None), None),
        "finish_reason": (str, "stop"),
        "error": (type(None), None),
        "send_index": (int, 1),
        "send_id": (str, f"{session}/1"),
        "usage_own": (dict, result.usage),
        "partial_text": (str, ""),
    }
    given = result.to_dict()
    assert given.keys() == expected.keys()
    for name, (kind, value) in expected.items():
        assert isinstance(given[name], kind), name
        assert given[name] == value, name
    assert isinstance(result.usage, Usage)
    assert set(result.usage) == {"prompt_tokens", "completion_tokens", "cache_read_tokens", "reasoning_tokens", "total_tokens", "calls"}
    assert all(type(number) is int for number in result.usage.values())


# acceptance: 15 (a send that rests)
async def test_the_result_of_a_send_without_tools_names_the_calls_that_wait(home: Any) -> None:
    loop = home.loop(calls(call("add", a=1), text="Let me see."))
    session = await loop.new_session()
    result = await loop.send("1 + 1?", session)
    assert (result.status, result.final_text, result.finish_reason, result.rounds) == ("pending_tools", "Let me see.", "tool_calls", 1)
    assert [c["function"]["name"] for c in result.pending_tool_calls] == ["add"]
    assert result.tool_calls == 0
    with pytest.raises(Exception, match="pending_tools"):
        result.raise_for_status()


# acceptance: 16
async def test_two_loops_on_one_store_see_each_others_sessions_one_after_the_other(home: Any) -> None:
    one, two = home.loop("from one", "one again"), home.loop("from two")
    session = await one.new_session(metadata={"by": "one"})
    await one.send("a", session)
    await two.send("b", session)
    await one.send("c", session)
    said = ["a", "from one", "b", "from two", "c", "one again"]
    assert [m["content"] for m in await one.get_messages(session)] == [m["content"] for m in await two.get_messages(session)] == said
    assert await one.get_session_stats(session) == await two.get_session_stats(session)


# acceptance: 16 (at once)
async def test_two_loops_at_once_on_one_session_take_turns_and_lose_nothing(home: Any) -> None:
    loops = [home.loop(llm=ScriptedLLM([f"reply {n}"], strict=False)) for n in range(2)]
    session = await loops[0].new_session()
    sent = await asyncio.gather(*(loop.send(f"{n}.{k}", session) for k in range(5) for n, loop in enumerate(loops)))
    assert sorted(result.send_index for result in sent) == list(range(1, 11))
    messages = await loops[1].get_messages(session)
    assert [m["role"] for m in messages] == ["user", "assistant"] * 10
    for asked, answered in zip(messages[::2], messages[1::2], strict=True):
        assert answered["content"] == f"reply {asked['content'][0]}"
    assert {m["content"] for m in messages[::2]} == {f"{n}.{k}" for n in range(2) for k in range(5)}


# acceptance: 16 (deleted, and made again under its id)
@pytest.mark.parametrize("again", ["shorter", "as long", "longer", "restored"])
async def test_a_loop_that_knew_a_deleted_session_takes_nothing_of_it_into_another_of_its_id(home: Any, again: str) -> None:
    knows, other = home.loop(llm=ScriptedLLM(["yes"], strict=False)), home.loop(llm=ScriptedLLM(["no"], strict=False))
    session = await other.new_session(session_id="user-1", system_prompt="You are old.")
    await knows.send("mine", session)
    archive = await (await other.ensure_store()).export_session(session)
    await knows.send("secret", session)
    await other.close_session(session)
    if again == "restored":
        await (await other.ensure_store()).import_session(archive, new_session_id=session)
    else:
        await other.new_session(session_id=session, system_prompt="You are new.")
    for n in range({"shorter": 0, "as long": 2, "longer": 4, "restored": 1}[again]):
        await other.send(f"{n}", session)
    kept = await other.get_messages(session)
    await knows.send("and now?", session)
    request = knows.llm.requests[-1]
    assert request.messages == [*kept, {"role": "user", "content": "and now?"}]
    assert request.system_prompt == ("You are old." if again == "restored" else "You are new.")


# acceptance: 17
async def test_prewarming_tells_whether_the_session_exists_and_changes_no_request(home: Any) -> None:
    requests = []
    for warmed in (False, True):
        first = home.loop(call("add", a=1), "done", tools=[add])
        session = await first.new_session()
        await first.send("go", session)
        second = home.loop("again", tools=[add])
        if warmed:
            assert await second.prewarm(session) is True
            assert await second.prewarm("sess_of_nobody") is False
        await second.send("once more", session)
        requests.append(second.llm.requests[0])
    assert requests[0].messages == requests[1].messages
    assert requests[0].system_prompt == requests[1].system_prompt
    assert requests[0].tools == requests[1].tools


# acceptance: 19
async def test_a_warm_loop_shows_the_model_what_another_loop_appended(home: Any) -> None:
    warm, other = home.loop("one", "three"), home.loop(call("add", a=1), "two", tools=[add])
    session = await warm.new_session()
    await warm.send("first", session)
    await other.send("second", session)
    await warm.send("third", session)
    assert warm.llm.requests[1].messages == (await other.get_messages(session))[:-1]
    assert [m["role"] for m in warm.llm.requests[1].messages] == ["user", "assistant", "user", "assistant", "tool", "assistant", "user"]


# acceptance: 19 (what a host appended)
async def test_a_warm_loop_shows_the_model_what_a_host_appended_past_all_loops(home: Any) -> None:
    warm = home.loop("one", "two")
    session = await warm.new_session()
    await warm.send("first", session)
    for role, content in (("user", "from the host"), ("assistant", "so be it")):
        await (await home.store()).append_message(session, role=role, content=content)
    await warm.send("second", session)
    assert [m["content"] for m in warm.llm.requests[1].messages] == ["first", "one", "from the host", "so be it", "second"]


# acceptance: 19 (what happens while it waits)
async def test_what_happened_while_a_send_waited_is_in_its_request(home: Any) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> str:
        begun.set()
        await go_on.wait()
        return "slow answer"

    holder, waiter = home.loop(respond(slow)), home.loop("after")
    session = await holder.new_session()
    first = asyncio.create_task(holder.send("first", session))
    await begun.wait()
    second = asyncio.create_task(waiter.send("second", session))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, second)
    assert [m["content"] for m in waiter.llm.requests[0].messages] == ["first", "slow answer", "second"]


# acceptance: 22
async def test_concurrent_sends_on_one_session_run_in_order_of_arrival_without_interleaving(home: Any) -> None:
    loop = home.loop(llm=ScriptedLLM([respond(lambda request: f"re: {request.messages[-1]['content']}")], strict=False))
    session = await loop.new_session()
    results = await asyncio.gather(*(loop.send(f"message {n}", session) for n in range(20)))
    assert [result.send_index for result in results] == list(range(1, 21))
    expected = [text for n in range(20) for text in (f"message {n}", f"re: message {n}")]
    assert [m["content"] for m in await loop.get_messages(session)] == expected


# acceptance: 22 (with tools)
async def test_a_second_send_waits_for_the_tools_of_the_first(home: Any) -> None:
    order: list[str] = []

    async def slow() -> str:
        """Take a while."""
        order.append("tool begins")
        for _ in range(20):
            await asyncio.sleep(0)
        order.append("tool ends")
        return "done"

    def second(request: Any) -> str:
        order.append("second request")
        return "two"

    loop = home.loop(call("slow"), "one", respond(second), tools=[slow])
    session = await loop.new_session()
    await asyncio.gather(loop.send("first", session), loop.send("second", session))
    assert order == ["tool begins", "tool ends", "second request"]
    assert [m["role"] for m in await loop.get_messages(session)] == ["user", "assistant", "tool", "assistant", "user", "assistant"]


async def test_sends_on_different_sessions_do_not_wait_for_each_other(home: Any) -> None:
    meet = asyncio.Barrier(5)

    async def together(request: Any) -> str:
        await meet.wait()
        return "we met"

    loop = home.loop(llm=ScriptedLLM([respond(together)], strict=False))
    sessions = [await loop.new_session() for _ in range(5)]
    results = await asyncio.gather(*(loop.send("hello", session) for session in sessions))
    assert {result.final_text for result in results} == {"we met"}


async def test_a_session_works_under_any_cache_size(home: Any) -> None:
    requests = []
    for size in (0, 1, 256):
        loop = home.loop(*["a", "x", "b", "y"], session_cache_size=size)
        one, two = await loop.new_session(), await loop.new_session()
        for text, session in (("1", one), ("2", two), ("3", one), ("4", two)):
            await loop.send(text, session)
        requests.append([request.messages for request in loop.llm.requests])
        assert loop.cache_stats.entries <= size
    assert requests[0] == requests[1] == requests[2]


async def test_the_prompt_of_the_configuration_is_read_at_every_send_and_not_stored(home: Any) -> None:
    old = home.loop("one", config=AgentLoopConfig(system_prompt="Old prompt."))
    session = await old.new_session()
    await old.send("a", session)
    new = home.loop("two", config=AgentLoopConfig(system_prompt="New prompt."))
    assert await new.resolve_system_prompt(session_id=session) == "New prompt."
    await new.send("b", session)
    assert new.llm.requests[0].system_prompt == "New prompt."


async def test_raw_arguments_come_back_to_the_model_byte_for_byte(home: Any) -> None:
    spelled = '{ "b":2 ,"a" : 1}'
    loop = home.loop(raw_call("add", spelled), "three", tools=[add])
    await loop.run("go")
    assert loop.llm.requests[1].messages[1]["tool_calls"][0]["function"]["arguments"] == spelled
