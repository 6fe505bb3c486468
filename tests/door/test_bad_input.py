"""What a user may hand in by mistake: each has one clear outcome, and nothing is written or lost on the way."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from power_loop import (
    AgentLoopConfig,
    SchemaPolicy,
    SessionArchivedError,
    SessionNotFoundError,
    StatefulAgentLoop,
    StoreSchemaError,
    StoreUnavailable,
    ToolDefinition,
    ToolRegistry,
    estimate_text_tokens,
    open_store,
    tool,
)
from power_loop.testing import ScriptedLLM, call


def loop_at(dsn: Any, **settings: Any) -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=ScriptedLLM(["fine"]), dsn=dsn, **settings)


# --- where the database is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        *("oracle://host/name", "redis://localhost", "sqllite:///app.db", "http://host/app.db", "file:app.db", "mongodb+srv://host"),
        *("", "app\0.db", "sqlite://app.db", "sqlite:///app.db?synchronous=off", "sqlite:///app.db?wrong=1"),
        "postgresql://user:s3cret@host:port/name",
    ],
)
async def test_a_wrong_dsn_is_refused_and_no_file_is_named_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.chdir(tmp_path)
    async with loop_at(dsn) as loop:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"\w+") as refused:
                await loop.new_session()
            assert "s3cret" not in str(refused.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
async def test_a_path_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    async with loop_at(str(folder / "app.db")) as loop:
        with pytest.raises(StoreUnavailable, match="locked"):
            await loop.new_session()


async def test_a_path_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    async with loop_at(str(tmp_path / "file" / "app.db")) as loop:
        with pytest.raises(StoreUnavailable, match=r"app\.db"):
            await loop.new_session()
    assert (tmp_path / "file").read_text() == "not a folder"


async def test_a_path_in_a_folder_that_is_no_place_for_files_says_so() -> None:
    async with loop_at("/proc/nowhere/app.db") as loop:
        with pytest.raises(StoreUnavailable, match="nowhere"):
            await loop.new_session()


NO_DATABASES = [b"This is a text file, not a database.\n" * 100, b"\0" * 5000, b"SQLite format 3\0" + b"\xff" * 5000, b"xy"]


@pytest.mark.parametrize("content", NO_DATABASES)
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    async with loop_at(str(path)) as loop:
        with pytest.raises((StoreUnavailable, StoreSchemaError), match=r"notes\.txt"):
            await loop.new_session()
    assert path.read_bytes() == content


async def test_a_directory_is_refused_by_name(tmp_path: Path) -> None:
    async with loop_at(str(tmp_path)) as loop:
        with pytest.raises(StoreUnavailable, match="directory"):
            await loop.new_session()


async def test_somebody_elses_database_is_joined_without_touching_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE users (name TEXT)")
        other.execute("INSERT INTO users VALUES ('ann')")
    other.close()
    async with loop_at(str(path)) as loop:
        assert (await loop.run("hello")).final_text == "fine"
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT * FROM users").fetchall() == [("ann",)]
    other.close()


async def test_verify_on_a_missing_path_creates_nothing_and_a_later_loop_may_create_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "app.db"
    async with loop_at(str(path), schema=SchemaPolicy.VERIFY) as loop:
        with pytest.raises(StoreSchemaError) as refused:
            await loop.new_session()
        assert "CREATE TABLE" in refused.value.ddl
    assert not path.parent.exists()
    async with loop_at(str(path)) as loop:
        assert (await loop.run("hello")).final_text == "fine"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"store": "x", "dsn": "y"}, {"schema": "maybe"}, {"table_prefix": "no-good"}),
        *({"max_spawn_depth": wrong} for wrong in (0, 1.5, "3", True)),
        *({"session_cache_size": wrong} for wrong in (-1, 1.5, "many", None)),
    ],
)
async def test_parameters_of_a_loop_that_cannot_be_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    place = {} if "store" in wrong else {"dsn": str(tmp_path / "app.db")}
    with pytest.raises(ValueError, match=r"\w+"):
        await StatefulAgentLoop(llm=ScriptedLLM(), **place, **wrong).ensure_store()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("llm", [None, object(), 3, "nobody:model", "just-a-name"])
def test_what_is_no_model_is_refused_at_construction(llm: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        StatefulAgentLoop(llm=llm)


async def test_a_store_that_is_given_is_not_closed_by_the_loop() -> None:
    store = await open_store()
    for n in range(2):
        async with StatefulAgentLoop(llm=ScriptedLLM(["fine"]), store=store) as loop:
            assert (await loop.run(f"{n}")).final_text == "fine"
    assert len(await store.list_sessions()) == 2
    await store.close()


# --- what is said ------------------------------------------------------------------------------------------------------


EMPTY = ["", "   ", "\n\t", [], {}, {"role": "user", "content": ""}, {"role": "user", "content": []}, {"content": " "}]
MISUSE = [
    *(None, 3, True, b"bytes", object(), {"role": "assistant", "content": "x"}, {"role": "system", "content": "x"}, {"role": "user"}),
    *(["text"], [None], [{"type": "text"}], [{"type": "text", "text": 3}], [{"type": "unknown", "unknown": {}}], [{"text": "no type"}]),
    *([{"type": "image_url", "image_url": "http://x"}], [{"type": "text", "text": "x", "more": object()}], {"content": None}),
    *({"content": "x", "name": 3}, [{"type": "text", "text": "fine"}, {"type": "attachment", "attachment": {}}]),
    *([{"type": "image_url", "image_url": {}}], {"content": {"role": "user", "content": "nested"}}),
]


@pytest.mark.parametrize("said", [*EMPTY, *MISUSE], ids=lambda said: None)
async def test_what_cannot_be_said_is_refused_before_anything_is_written(home: Any, said: Any) -> None:
    loop = home.loop("fine")
    session = await loop.new_session()
    before = await home.contents()
    for verb in (loop.send, loop.follow_up, loop.enqueue):
        with pytest.raises((ValueError, TypeError)):
            await verb(said, session)
    assert await home.contents() == before
    assert loop.llm.requests == []
    assert (await loop.send("something", session)).final_text == "fine"


async def test_ten_megabytes_are_said_stored_and_sent_whole(home: Any) -> None:
    text = "".join(f"{n:09d}ü" for n in range(1_000_000))
    loop = home.loop("Long.", config=AgentLoopConfig(context_tokens=100_000_000))
    session = await loop.new_session()
    await loop.send(text, session)
    assert loop.llm.requests[0].messages[0]["content"] == text
    reopened = home.loop("Still long.")
    reopened.config.context_tokens = 100_000_000
    await reopened.send("And?", session)
    assert reopened.llm.requests[0].messages[0]["content"] == text


@pytest.mark.parametrize("part", ["ünïcödé ", "字", "mostly plain text and then an é "])
def test_a_very_long_text_is_estimated_like_its_parts(part: str) -> None:
    assert estimate_text_tokens(part * 20_000) == pytest.approx(20 * estimate_text_tokens(part * 1000), rel=0.05)


ODD = "nul \0, high \ud800, low \udfff, 𝄞 and ü"


async def test_nul_and_lone_surrogates_may_be_said(home: Any) -> None:
    loop = home.loop(ODD)
    session = await loop.new_session(metadata={ODD: ODD})
    await loop.send([{"type": "text", "text": ODD}], session, metadata={ODD: ODD}, system_prompt=ODD)
    reopened = home.loop("next")
    await reopened.send(ODD, session)
    request = reopened.llm.requests[0]
    assert loop.llm.requests[0].system_prompt == ODD
    assert request.messages[0]["content"] == [{"type": "text", "text": ODD}]
    assert [m["content"] for m in request.messages[1:]] == [ODD, ODD]
    assert (await (await reopened.ensure_store()).get_session(session)).metadata == {ODD: ODD}


async def test_where_a_lone_surrogate_cannot_be_kept_it_is_refused_before_anything_is_written(home: Any) -> None:
    loop = home.loop("fine")
    session = await loop.new_session()
    before = await home.contents()
    for wrong in (
        lambda: loop.new_session(system_prompt=ODD),
        lambda: loop.new_session(session_id=ODD),
        lambda: loop.send({"content": "x", "name": ODD}, session),
        lambda: loop.enqueue("x", session, key=ODD),
        lambda: loop.send("x", session, key=ODD),
    ):
        with pytest.raises(ValueError, match=r"\w+"):
            await wrong()
    assert await home.contents() == before
    assert (await loop.send("x", session)).final_text == "fine"


@pytest.mark.parametrize("metadata", [{"x": object()}, {"x": {1, 2}}, "text", 3])
async def test_metadata_that_is_no_json_object_is_refused_before_anything_is_written(home: Any, metadata: Any) -> None:
    loop = home.loop("fine")
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises((TypeError, ValueError)):
        await loop.send("x", session, metadata=metadata)
    with pytest.raises((TypeError, ValueError)):
        await loop.new_session(metadata=metadata)
    assert await home.contents() == before
    assert (await loop.send("x", session)).final_text == "fine"


@pytest.mark.parametrize(
    "wrong",
    [{"stop_event": "yes"}, {"stop_event": 3}, {"system_prompt": 3}, {"metadata": 3}, {"unknown": 1}, {"limits": 3}],
)
async def test_parameters_of_a_send_that_cannot_be_are_refused_before_anything_is_written(home: Any, wrong: dict[str, Any]) -> None:
    loop = home.loop("fine")
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises((TypeError, ValueError)):
        await loop.send("x", session, **wrong)
    assert await home.contents() == before
    assert (await loop.send("x", session)).final_text == "fine"


@pytest.mark.parametrize("wrong", [{"unknown": "maybe"}, {"extra_rounds": -1}, {"extra_rounds": 1.5}, {"limits": 3}])
async def test_parameters_of_a_resume_that_cannot_be_are_refused(home: Any, wrong: dict[str, Any]) -> None:
    loop = home.loop()
    session = await loop.new_session()
    with pytest.raises((TypeError, ValueError)):
        await loop.resume(session, **wrong)


# --- tools ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "with blank", "dots.are.out", "ünï", "x" * 65, "new\nline", "a/b", "tool!", "a\0"])
def test_a_tool_name_that_a_provider_would_refuse_is_refused_at_registration(name: str) -> None:
    registry = ToolRegistry()
    with pytest.raises(ValueError, match="name"):
        registry.register(ToolDefinition(name), lambda: "")
    with pytest.raises(ValueError, match="name"):
        tool(name=name)(lambda: "")  # type: ignore[arg-type]  # a lambda is as good as any function here
    assert registry.names() == []


@pytest.mark.parametrize("name", ["a", "A-Z_0-9", "x" * 64, "-", "_"])
async def test_every_name_that_providers_take_can_be_used(home: Any, name: str) -> None:
    registry = ToolRegistry()
    registry.register(ToolDefinition(name), lambda: "ran")
    loop = home.loop(call(name), "done", tool_registry=registry)
    await loop.run("go")
    assert loop.llm.requests[1].messages[-1]["content"] == "ran"


def test_a_second_tool_of_one_name_is_refused_and_the_first_stays() -> None:
    @tool(name="same")
    def first() -> str:
        """First."""
        return "1"

    @tool(name="same")
    def second() -> str:
        """Second."""
        return "2"

    registry = ToolRegistry([first])
    for add in (lambda: registry.add(second), lambda: registry.register(ToolDefinition("same"), lambda: "3")):
        with pytest.raises(ValueError, match="'same'"):
            add()
    assert registry.invoke("same", {}) == "1"
    with pytest.raises(ValueError, match="'same'"):
        StatefulAgentLoop(llm=ScriptedLLM(), tools=[first, second])
    with pytest.raises(ValueError, match="'same'"):
        StatefulAgentLoop(llm=ScriptedLLM(), tool_registry=registry, tools=[second])


async def test_duplicate_tools_of_one_call_are_refused_before_anything_is_written(home: Any) -> None:
    def one() -> str:
        """One."""
        return ""

    loop = home.loop(tools=[one])
    session = await loop.new_session()
    before = await home.contents()
    with pytest.raises(ValueError, match="'one'"):
        await loop.send("x", session, tools=["one", one])
    assert await home.contents() == before


async def test_tools_given_to_a_loop_do_not_change_a_registry_that_others_use(home: Any) -> None:
    def own() -> str:
        """Own."""
        return ""

    shared = ToolRegistry()
    loop = home.loop("a", tool_registry=shared, tools=[own])
    other = home.loop("b", tool_registry=shared)
    await loop.run("x")
    await other.run("x")
    assert [each["function"]["name"] for each in loop.llm.requests[0].tools] == ["own"]
    assert other.llm.requests[0].tools is None


@pytest.mark.parametrize("key", ["", "k" * 192, "with\0nul", "lone \ud800"])
@pytest.mark.parametrize("verb", ["send", "follow_up", "enqueue"])
async def test_a_key_that_not_every_engine_can_keep_is_refused(home, verb, key):
    loop = home.loop()
    session_id = await loop.new_session()
    with pytest.raises(ValueError, match="give 1 to 191 characters"):
        await getattr(loop, verb)("hello", session_id, key=key)
    assert await loop.get_messages(session_id) == []


async def test_a_prompt_that_no_database_keeps_is_refused_by_name(home):
    loop, store = home.loop("hello"), await home.store()
    session_id = await loop.new_session()
    await loop.send("hello", session_id)
    no_text = r"system_prompt holds a NUL character or a lone surrogate", ValueError
    for prompt, (said, error) in (("a\0b", no_text), ("lone \ud800", no_text), (5, ("system_prompt takes text, not int", TypeError))):
        for verb in (
            lambda prompt: loop.new_session(system_prompt=prompt),
            lambda prompt: loop.fork(session_id, system_prompt=prompt),
            lambda prompt: store.update_session_prompt(session_id, prompt),
        ):
            with pytest.raises(error, match=said):
                await verb(prompt)


# A verb of the loop, and one of the store, of every kind: what drives, reads, writes, waits, and streams.
ON_A_SESSION: dict[str, Any] = {
    "send": lambda loop, store, id: loop.send("hello", id),
    "follow_up": lambda loop, store, id: loop.follow_up("hello", id),
    "enqueue": lambda loop, store, id: loop.enqueue("hello", id),
    "resume": lambda loop, store, id: loop.resume(id),
    "cancel": lambda loop, store, id: loop.cancel(id),
    "get_messages": lambda loop, store, id: loop.get_messages(id),
    "get_pending": lambda loop, store, id: loop.get_pending(id),
    "submit_input": lambda loop, store, id: loop.submit_input(id, "input_0", "x"),
    "approve": lambda loop, store, id: loop.approve(id, "input_0", digest="d"),
    "doctor": lambda loop, store, id: loop.doctor(id),
    "budget": lambda loop, store, id: loop.budget(id),
    "fork": lambda loop, store, id: loop.fork(id),
    "list_jobs": lambda loop, store, id: loop.list_jobs(id),
    "stop_job": lambda loop, store, id: loop.stop_job(id, "bg_0"),
    "close_session": lambda loop, store, id: loop.close_session(id),
    "watch": lambda loop, store, id: anext(loop.watch(id)),
    "export_session": lambda loop, store, id: store.export_session(id),
    "archive_session": lambda loop, store, id: store.archive_session(id),
    "update_session_prompt": lambda loop, store, id: store.update_session_prompt(id, "Be brief."),
    "get_session": lambda loop, store, id: store.get_session(id),
    "add_note": lambda loop, store, id: store.add_note(id, "note"),
}


@pytest.mark.parametrize("verb", ON_A_SESSION)
async def test_an_id_that_no_session_can_have_is_as_unknown_as_any_other(home, verb):
    loop, store = home.loop(), await home.store()
    for unknown in ("lone \ud800", "with\0nul", "no such", "x" * 300, "", None):
        with pytest.raises(SessionNotFoundError) as refused:
            await ON_A_SESSION[verb](loop, store, unknown)
        assert refused.value.session_id == unknown


@pytest.mark.parametrize("verb", ON_A_SESSION)
async def test_an_id_that_is_no_text_is_refused_by_its_type(home, verb):
    loop, store = home.loop("hello"), await home.store()
    await loop.send("hello", await loop.new_session(session_id="5"))
    for no_text in (5, UUID(int=5)):
        with pytest.raises(TypeError, match=f"session_id takes text, not {type(no_text).__name__}"):
            await ON_A_SESSION[verb](loop, store, no_text)


@pytest.mark.parametrize("given", [{"delay_s": timedelta(minutes=5)}, {"due_at_ms": datetime.now(UTC)}, {"delay_s": 5, "interval_s": "60"}])
async def test_a_timer_tells_which_of_its_times_is_no_number(home, given):
    loop = home.loop()
    session_id = await loop.new_session()
    with pytest.raises(ValueError, match=rf"{list(given)[-1]} is .* must be"):
        await loop.schedule_timer(session_id, note="look", **given)
    assert await loop.list_timers(session_id) == []


# What a session is to hear, by every way.
WORDS: dict[str, Any] = {
    "send": lambda loop, id: loop.send("hello", id),
    "follow_up": lambda loop, id: loop.follow_up("hello", id),
    "enqueue": lambda loop, id: loop.enqueue("hello", id),
    "steer": lambda loop, id: loop.enqueue("hello", id, mode="steer"),
}


@pytest.mark.parametrize("verb", WORDS)
async def test_an_archived_session_takes_no_words(home, verb):
    loop, store = home.loop(), await home.store()
    session_id = await loop.new_session()
    await store.archive_session(session_id)
    with pytest.raises(SessionArchivedError):
        await WORDS[verb](loop, session_id)
    assert await loop.inbox(session_id) == []
