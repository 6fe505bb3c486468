"""``running.keep_requests``: every request is kept whole beside its reply, and the inspector shows it as it was sent."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentHooks, AgentLoopConfig, HookPoint, LLMSummaryFold, RunPolicy, StatefulAgentLoop, open_store, tool
from power_loop.contracts.kept_requests import unpacked
from power_loop.inspector.reads import Reads
from power_loop.inspector.requests import request_of
from power_loop.inspector.shown import Shown
from power_loop.testing import FunctionLLM, ScriptedLLM, call, say

KEEPS = RunPolicy(keep_requests=True)


@tool(effects="pure")
def nothing() -> str:
    """Do nothing."""
    return "done"


async def shown_of(store: Any, session: str, seq: int) -> Any:
    return Shown(secrets=True).answer(await request_of(reads_of(store), session, seq))


async def replies(store: Any, session: str) -> list[Any]:
    return [row for row in await store.rows(session, after=0) if row.cells.kind == "model_replied"]


async def requests_kept(store: Any) -> int:
    ((count,),) = await store.database.read("SELECT COUNT(*) FROM pl_blobs WHERE digest LIKE 'request:%'", ())
    return count


def reads_of(store: Any) -> Reads:
    return Reads(store.database, store.dialect, store.table_prefix, store.clock, store.ids)


def remembering(context: Any) -> None:
    """A hook whose addition no record holds."""
    context.messages.append({"role": "user", "content": "only for this request \ud800 " + "x" * 5000})


async def loop_of(*script: Any, keeps: bool = True, **settings: Any) -> StatefulAgentLoop:
    hooks = AgentHooks()
    hooks.register(HookPoint("llm.before"), remembering)
    config = AgentLoopConfig(running=KEEPS if keeps else RunPolicy(), system_prompt="Be brief.", **settings)
    return StatefulAgentLoop(llm=ScriptedLLM(list(script)), store=await open_store(), hooks=hooks, tools=[nothing], config=config)


async def test_a_kept_request_is_shown_as_it_was_sent() -> None:
    loop = await loop_of("one", "two")
    session = await loop.new_session()
    for text in ("first", "second"):
        await loop.send(text, session)
    store: Any = loop.store
    for sent, reply in zip(loop.llm.requests, await replies(store, session), strict=True):
        shown = await shown_of(store, session, reply.seq)
        assert shown is not None
        assert [message["content"]["shown"] for message in shown["messages"]] == [message["content"] for message in sent.messages]
        assert (shown["sent"]["system_prompt"]["shown"], shown["sent"]["max_tokens"]["shown"], shown["left_out"]) == (
            sent.system_prompt,
            "8000",
            0,
        )
    assert (shown["common"], shown["previous_messages"]) == (1, 2)  # what the hook added parts it from the one before
    await loop.aclose()
    await store.close()


async def test_without_the_setting_nothing_is_kept_and_it_is_derived() -> None:
    loop = await loop_of("one", keeps=False)
    session = await loop.new_session()
    await loop.send("first", session)
    store: Any = loop.store
    [reply] = await replies(store, session)
    shown = await shown_of(store, session, reply.seq)
    assert shown is not None
    assert (shown["sent"], len(shown["messages"]), await requests_kept(store)) == (None, 1, 0)
    await loop.aclose()
    await store.close()


async def test_a_kept_request_goes_with_its_session_and_its_archive_but_not_with_a_fork() -> None:
    loop = await loop_of("one")
    session = await loop.new_session()
    await loop.send("first", session)
    store: Any = loop.store
    [reply] = await replies(store, session)
    twin = await store.import_session(await store.export_session(session))
    assert (await shown_of(store, twin, reply.seq))["sent"] is not None
    branch = await store.fork_session(session)
    assert (await shown_of(store, branch, reply.seq))["sent"] is None
    await loop.close_session(session)
    assert await requests_kept(store) == 1
    await loop.close_session(twin)
    assert await requests_kept(store) == 0
    await loop.aclose()
    await store.close()


async def test_pruning_what_was_folded_deletes_the_requests_that_show_it() -> None:
    def answer(request: Any) -> Any:
        return say("<summary>ships</summary>") if request.reason == "fold" else say("I see. " * 40)

    config = AgentLoopConfig(context_tokens=2000, fold_strategy=LLMSummaryFold(keep_last_sends=1), running=KEEPS)
    store: Any = await open_store()
    loop = StatefulAgentLoop(llm=FunctionLLM(answer), store=store, config=config)
    session = await loop.new_session()
    for n in range(12):
        await loop.send(f"{n}: a secret. " * 20, session)
    assert await requests_kept(store) == 12
    assert await store.prune_compacted_messages(session) > 0
    for (data,) in await store.database.read("SELECT data FROM pl_blobs WHERE digest LIKE 'request:%'", ()):
        assert "'0: a secret" not in str(unpacked(bytes(data)))
    assert await requests_kept(store) < 12
    await loop.send("more", session)
    assert await requests_kept(store) > 0
    await loop.aclose()
    await store.close()


async def test_pruning_the_details_of_calls_deletes_their_requests() -> None:
    loop = await loop_of("one", "two", "three")
    session = await loop.new_session()
    for text in ("first", "second", "third"):
        await loop.send(text, session)
    store: Any = loop.store
    await store.prune_usage_rounds(session, keep_last=2)
    assert await requests_kept(store) == 2
    await store.prune_usage_rounds(session, keep_last=0)
    assert await requests_kept(store) == 1  # the last send is left whole
    await loop.aclose()
    await store.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_the_same_request_is_kept_once(times: int) -> None:
    store: Any = await open_store()
    await store.create_session(session_id="s")
    for _ in range(times):
        await store.keep_request("s", "abc", b"data")
    assert (await requests_kept(store), await store.kept_request("s", "abc")) == (1, b"data")
    await store.close()


async def test_a_request_in_a_tool_round_is_kept_with_its_calls() -> None:
    loop = await loop_of(call("nothing"), "two")
    session = await loop.new_session()
    await loop.send("first", session)
    store: Any = loop.store
    shown = await request_of(reads_of(store), session, (await replies(store, session))[1].seq)
    assert shown is not None
    assert shown["messages"][1]["tool_calls"][0]["name"] == "nothing"
    await loop.aclose()
    await store.close()
