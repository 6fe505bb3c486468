"""Results over the limit: the model reads head and tail, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_loop.config import AgentLoopConfig, ToolPolicy
from power_loop.contracts.tool import ToolHandlerResult
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.long_results import head_and_tail
from power_loop.testing import ScriptedLLM, call, calls, say
from power_loop.tools.define import tool

LONG = "begin " + "x" * 30_000 + "\ud800\0ж" + "y" * 30_000 + " end"


@tool(effects="pure")
def long() -> str:
    """A long text."""
    return LONG


@tool(effects="pure")
def wrong() -> ToolHandlerResult:
    """A long failure."""
    return ToolHandlerResult(False, LONG, {"why": "much"})


@tool(effects="pure")
def recall_output(call_id: str) -> str:
    """Stands in for the built-in tool."""
    return call_id


# acceptance: 46
@pytest.mark.parametrize("dsn", [":memory:", "file"])
async def test_a_long_result_is_cut_for_the_model_and_kept_whole(tmp_path: Path, dsn: str) -> None:
    model = ScriptedLLM([calls(call("long"), call("wrong")), say("done")])
    address = str(tmp_path / "a.db") if dsn == "file" else dsn
    async with StatefulAgentLoop(llm=model, dsn=address, tools=[long, wrong, recall_output]) as loop:
        session = await loop.new_session()
        result = await loop.send("go", session)
        assert (result.status, result.final_text) == ("completed", "done")
        results = [message for message in model.requests[-1].messages if message["role"] == "tool"]
        (first, one), (second, two) = [(message["content"], message["tool_call_id"]) for message in results]
        for read, call_id in ((first, one), (second, two)):
            assert len(read) <= 50_000
            assert read.startswith("begin xxx")
            assert read.endswith("yyy end")
            assert f"characters are left out here; recall_output(call_id='{call_id}') reads them" in read
        store = await loop.ensure_store()
        assert await store.load_output(session, one) == LONG
        assert await store.load_output(session, two) == LONG
        assert await store.load_output(session, "no such call") is None
        rows = {row.tool_call_id: row for row in await store.load_all_messages(session) if row.role == "tool"}
        assert rows[one].content == rows[two].content == LONG
        assert rows[two].meta["data"]["why"] == "much"
        assert [m["content"] for m in await loop.get_messages(session) if m["role"] == "tool"] == [first, second]


async def test_a_result_of_just_the_limit_is_left_as_it_is(tmp_path: Path) -> None:
    model = ScriptedLLM([call("long"), say("done")])
    config = AgentLoopConfig(tooling=ToolPolicy(result_max_chars=len(LONG)))
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[long], config=config) as loop:
        session = await loop.new_session()
        await loop.send("go", session)
        assert model.requests[-1].messages[-1]["content"] == LONG


async def test_a_resumed_session_reads_the_same_cut_text(tmp_path: Path) -> None:
    seen: list[Any] = []
    for script in ([call("long"), say("done")], [say("again")]):
        model = ScriptedLLM(script)
        async with StatefulAgentLoop(llm=model, dsn=str(tmp_path / "a.db"), tools=[long]) as loop:
            session = "s" if seen else await loop.new_session(session_id="s")
            await loop.send("go", session)
            seen += [message["content"] for message in model.requests[-1].messages if message["role"] == "tool"]
    assert len(seen) == 2
    assert seen[0] == seen[1] != LONG


@given(text=st.text(st.sampled_from("ab\nж"), min_size=0, max_size=400), limit=st.integers(1, 300))
def test_head_and_tail_are_of_the_text_and_the_marker_counts_the_rest(text: str, limit: int) -> None:
    text = text * 3 + "z" * limit
    cut = head_and_tail(text, limit, "; way")
    head, _, rest = cut.partition("\n[… ")
    missing, _, tail = rest.partition(" characters are left out here; way …]\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + len(tail) + int(missing) == len(text)
    assert len(cut) <= limit or limit < 150
