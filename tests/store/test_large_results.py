"""Results above 256 KiB lie beside the records, by their content, and nobody who reads through the store can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engines
import pytest

from power_loop import AgentLoopConfig, SessionStore, StatefulAgentLoop, ToolPolicy, open_store, tool
from power_loop.store.large import LARGE_BYTES
from power_loop.testing import ScriptedLLM, call, calls, check_invariants, say

TEXT = "ж\0" + "wörter " * 60_000
BLOCKS = [{"type": "text", "text": "a map"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}]
CONFIG = AgentLoopConfig(context_tokens=10_000_000, tooling=ToolPolicy(result_max_chars=10_000_000))


@tool(effects="pure")
def text() -> str:
    """Much text."""
    return TEXT


@tool(effects="pure")
def picture() -> list[dict[str, Any]]:
    """A large picture."""
    return BLOCKS


@tool(effects="pure")
def just() -> str:
    """Just not too large."""
    return "x" * LARGE_BYTES


async def stored(store: SessionStore) -> list[tuple[int, Any]]:
    """(bytes in the row, the blob that it names) of each result."""
    found = await store.database.read("SELECT content, body FROM pl_records WHERE kind = 'tool_returned' ORDER BY seq")
    return [(len(content.encode()), '"blob":' in (body or "")) for content, body in found]


async def blobs(store: SessionStore) -> int:
    return (await store.database.read("SELECT COUNT(*) FROM pl_blobs"))[0][0]


def results(messages: list[Any]) -> list[Any]:
    return [message["content"] for message in messages if message["role"] == "tool"]


@pytest.mark.parametrize("engine", engines.ALL)
async def test_a_large_result_leaves_its_row_and_is_whole_for_every_reader(engine: str, tmp_path: Path) -> None:
    script = [calls(call("text"), call("picture"), call("just")), call("text"), say("1"), say("2")]
    model = ScriptedLLM(script)
    whole = [TEXT, BLOCKS, "x" * LARGE_BYTES, TEXT]
    async with engines.fresh(engine, tmp_path) as dsn:
        store = await open_store(dsn)
        tools = [text, picture, just]
        async with StatefulAgentLoop(llm=model, store=store, config=CONFIG, tools=tools) as loop:
            session = await loop.new_session()
            await loop.send("go", session)
            rows = await stored(store)
            assert sorted(named for _, named in rows) == [False, True, True, True]
            assert all(size < 100 for size, named in rows if named)
            assert await blobs(store) == 2, "the same content is kept once"
        async with StatefulAgentLoop(llm=model, store=store, config=CONFIG, tools=tools) as cold:
            await cold.send("on", session)
            assert results(model.requests[-1].messages) == whole, "a cold loop shows the model what a warm one did"
            assert results(model.requests[-2].messages) == whole
            assert sorted(map(len, results(await cold.get_messages(session)))) == sorted(map(len, whole))
            kept = [row for row in await store.load_all_messages(session) if row.role == "tool"]
            assert [row.content for row in kept] == whole
            one = await store.get_message(session, kept[0].seq)
            assert one is not None
            assert one.content == TEXT
            assert await store.load_output(session, kept[0].tool_call_id or "") == TEXT
            told = [event.payload["content"] async for event in cold.watch(session, follow=False) if event.type == "message_appended"]
            assert sum(content == TEXT for content in told) == 2
        assert await check_invariants(store) == []
        await store.close_session(session)
        assert await blobs(store) == 0
        await store.close()


async def test_a_copy_of_the_session_shows_the_same(tmp_path: Path) -> None:
    model = ScriptedLLM([calls(call("text"), call("picture")), say("1"), say("fork"), say("import")])
    async with StatefulAgentLoop(llm=model, dsn=str(tmp_path / "a.db"), config=CONFIG, tools=[text, picture]) as loop:
        session = await loop.new_session()
        await loop.send("go", session)
        await loop.send("on", await loop.fork(session))
        archive = await loop.store.export_session(session)
    async with StatefulAgentLoop(llm=model, dsn=str(tmp_path / "b.db"), config=CONFIG, tools=[text, picture]) as other:
        store = await other.ensure_store()
        await other.send("on", await store.import_session(archive))
    assert [results(request.messages) for request in model.requests[-2:]] == [[TEXT, BLOCKS]] * 2
