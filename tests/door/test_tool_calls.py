"""A tool is called once, with valid arguments, and whatever it does becomes something that the model can read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, ToolDefinition, ToolPolicy, ToolRegistry, ToolRun, tool
from power_loop.testing import FunctionLLM, call, calls, raw_call, say

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "age": {"type": "integer", "minimum": 0},
        "address": {"type": "object", "properties": {"zip": {"type": "string"}}, "required": ["zip"], "additionalProperties": False},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


# acceptance: 40
@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ('{"name": 3}', "/name"),
        ('{"age": 3}', "name"),
        ('{"name": "x", "ages": 3}', "ages"),
        ('{"name": "x", "age": "3"}', "/age"),
        ('{"name": "x", "age": 3.5}', "/age"),
        ('{"name": "x", "age": true}', "/age"),
        ('{"name": "x", "address": {}}', "/address"),
        ('{"name": "x", "address": {"zip": 7}}', "/address/zip"),
        ('{"name": "x", "address": {"zip": "7", "more": 1}}', "/address/more"),
        ('{"name": "x", "tags": ["a", "c"]}', "/tags/1"),
        ("{}", "name"),
        ("", "name"),
    ],
)
async def test_what_breaks_the_schema_is_told_with_its_path_and_not_called(home: Any, arguments: str, path: str) -> None:
    called: list[Any] = []
    registry = ToolRegistry()
    registry.register(ToolDefinition("save", "Save.", SCHEMA), called.append)
    (text,) = await home.told(registry, raw_call("save", arguments))
    assert path in text
    assert "not called" in text
    assert called == []


async def test_violations_are_cut_to_size_like_every_result(home: Any) -> None:
    registry = ToolRegistry()
    registry.register(ToolDefinition("save", "Save.", SCHEMA), lambda args: "")
    wrong = raw_call("save", json.dumps({"name": "x", "tags": ["c"] * 1000}))
    (text,) = await home.told(registry, wrong, config=AgentLoopConfig(tooling=ToolPolicy(result_max_chars=1000)))
    assert len(text) <= 1000
    assert "not called" in text
    assert "/tags/0" in text
    assert "/tags/999" in text


async def test_every_violation_is_told_at_once(home: Any) -> None:
    registry = ToolRegistry()
    registry.register(ToolDefinition("save", "Save.", SCHEMA), lambda args: "")
    (text,) = await home.told(registry, raw_call("save", '{"name": "", "age": -1, "tags": ["c"], "x": 1}'))
    for path in ("/name", "/age", "/tags/0", "/x"):
        assert path in text


async def test_a_float_without_a_fraction_is_an_integer_and_nothing_is_coerced_or_filled_in(home: Any) -> None:
    got: list[Any] = []
    registry = ToolRegistry()
    with_default = {**SCHEMA, "properties": {**SCHEMA["properties"], "kind": {"type": "string", "default": "plain"}}}
    registry.register(ToolDefinition("save", "Save.", with_default), lambda args: got.append(args))
    await home.told(registry, raw_call("save", '{"name": "x", "age": 3.0}'))
    assert got == [{"name": "x", "age": 3.0}]


# acceptance: 41
async def test_an_unknown_tool_name_becomes_a_result_that_names_the_tools_on_offer(home: Any) -> None:
    def known() -> str:
        """Be known."""
        return "ok"

    texts = await home.told(known, call("unknown"), call("known"), call(""), call("with blank"))
    assert "'unknown'" in texts[0]
    assert "known" in texts[0].partition("offer")[2]
    assert texts[1] == "ok"
    assert all("no tool named" in text for text in texts[2:])


# --- how a handler is called ------------------------------------------------------------------------------


# acceptance: 118
@pytest.mark.parametrize("shape", ["keywords", "one dict", "async"])
async def test_a_tool_run_is_injected_and_not_in_the_schema(home: Any, shape: str) -> None:
    seen: list[ToolRun] = []

    def by_name(run: ToolRun, word: str) -> str:
        seen.append(run)
        return word

    def by_dict(run: ToolRun, args: dict[str, Any]) -> str:
        seen.append(run)
        return args["word"]

    async def later(run: ToolRun, word: str) -> str:
        seen.append(run)
        return word

    handler: Callable[..., Any] = {"keywords": by_name, "one dict": by_dict, "async": later}[shape]
    schema = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
    registry = ToolRegistry()
    registry.register(ToolDefinition("echo", "Say it.", schema), handler)
    loop = home.loop(call("echo", word="hi"), "done", tool_registry=registry, deps={"db": "handle"})
    session = await loop.new_session()
    await loop.send("go", session)
    assert list(loop.llm.requests[0].tools[0]["function"]["parameters"]["properties"]) == ["word"]
    (run,) = seen
    assert (run.session_id, run.tool_name, run.call_id, run.send_index, run.round_index) == (session, "echo", "call_1", 1, 0)
    assert (run.deps, run.loop, run.store, run.attempt, run.depth) == ({"db": "handle"}, loop, loop.store, 1, 0)
    assert len(run.idempotency_key) == 32
    assert run.has_session_store
    assert not run.cancel.is_cancelled()


# acceptance: 118 (a decorated function)
async def test_the_run_of_a_decorated_function_is_not_in_its_schema(home: Any) -> None:
    @tool
    def echo(run: ToolRun, word: str) -> str:
        """Say it."""
        return f"{word} in send {run.send_index}"

    loop = home.loop(call("echo", word="hi"), "done", tools=[echo])
    await loop.run("go")
    assert list(loop.llm.requests[0].tools[0]["function"]["parameters"]["properties"]) == ["word"]
    assert loop.llm.requests[1].messages[-1]["content"] == "hi in send 1"


class Deps:
    """Holds something that must never be written down, in any spelling."""

    secret = "nobody-may-store-this"

    def __repr__(self) -> str:
        return f"Deps({self.secret})"


def everything_in(folder: Path) -> list[bytes]:
    """The bytes of all files there."""
    return [path.read_bytes() for path in folder.iterdir() if path.is_file()]


# acceptance: 118 (deps are not stored)
async def test_deps_reach_the_tool_and_no_byte_of_the_database(file_home: Any) -> None:
    seen: list[Any] = []

    def look(run: ToolRun) -> str:
        """Look."""
        seen.append(run.deps.secret)
        return "seen"

    loop = file_home.loop(call("look"), "done", call("look"), tools=[look], deps=Deps())
    session = await loop.new_session()
    await loop.send("go", session, deps=Deps())
    with pytest.raises(Exception, match="script"):
        await loop.send("go", session)
    await loop.aclose()
    files = everything_in(file_home.folder)
    assert seen == [Deps.secret] * 2
    assert any(session.encode() in content for content in files), "this is where it would be"
    assert not any(Deps.secret.encode() in content for content in files)


# acceptance: 119
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_type_error_from_inside_is_the_tools_own_failure_and_no_reason_to_call_again(home: Any, is_async: bool) -> None:
    called: list[str] = []

    def save(text: str) -> str:
        """Save."""
        called.append(text)
        raise TypeError("save() missing 1 required positional argument: 'text'")

    async def save_later(text: str) -> str:
        """Save."""
        return save(text)

    save_later.__name__ = "save"
    (text,) = await home.told(save_later if is_async else save, call("save", text="x"))
    assert text == "Error: TypeError: save() missing 1 required positional argument: 'text'"
    assert called == ["x"]


# acceptance: 119 (the dict convention)
async def test_a_handler_with_one_parameter_may_take_all_arguments_as_a_dict(home: Any) -> None:
    got: list[Any] = []

    def handler(params: dict[str, Any]) -> str:
        got.append(params)
        params["changed"] = True
        return "ok"

    registry = ToolRegistry()
    registry.register(ToolDefinition("save", "Save.", SCHEMA), handler)
    await home.told(registry, raw_call("save", '{"name": "x"}'))
    assert got == [{"name": "x", "changed": True}]


@pytest.mark.parametrize("handler", [lambda: "", lambda a, b: "", lambda *, other: ""])
def test_a_handler_that_fits_neither_way_is_refused_at_registration(handler: Any) -> None:
    with pytest.raises(TypeError, match="save"):
        ToolRegistry().register(ToolDefinition("save", "Save.", SCHEMA), handler)


async def test_a_sync_handler_that_gives_an_awaitable_is_awaited(home: Any) -> None:
    async def work() -> str:
        return f"on {threading.current_thread().name}"

    registry = ToolRegistry()
    registry.register(ToolDefinition("save"), lambda: work())
    assert await home.told(registry, call("save")) == ["on MainThread"]


async def test_a_hook_that_edits_arguments_in_place_rewrites_the_call_on_record(home: Any) -> None:
    got: list[Any] = []

    def edit(ctx: Any) -> None:
        ctx.tool_args["address"]["zip"] = "rewritten"

    registry = ToolRegistry()
    registry.register(ToolDefinition("save", "Save.", SCHEMA, effects="pure"), lambda args: got.append(args))
    loop = home.loop(call("save", name="x", address={"zip": "1"}), "done", tool_registry=registry)
    loop.hooks.register("tool.before", edit)
    await loop.run("go")
    assert got == [{"name": "x", "address": {"zip": "rewritten"}}]
    kept = [row for row in (await home.contents())["pl_records"] if "tool_started" in row]
    assert "rewritten" in str(kept), "a resume would not ask the hook again"


async def test_the_handler_of_a_repeated_request_is_called_again_with_another_key(home: Any) -> None:
    keys: list[str] = []

    def look(run: ToolRun, at: str) -> str:
        """Look."""
        keys.append(run.idempotency_key)
        return at

    loop = home.loop(calls(call("look", at="x"), call("look", at="x")), call("look", at="x"), "done", tools=[look])
    await loop.run("go")
    assert len(set(keys)) == len(keys) == 3


async def test_tool_calls_counts_dispatches_only(home: Any) -> None:
    def look(at: str) -> str:
        """Look."""
        return at

    asked = calls(call("look", at="x"), call("look", at=3), call("nothing"), raw_call("look", "{"), call("look", at="y"))
    loop = home.loop(asked, "done", tools=[look])
    assert (await loop.run("go")).tool_calls == 2


async def test_progress_and_notices_of_a_tool_reach_listeners(home: Any) -> None:
    async def work(run: ToolRun) -> str:
        """Work."""
        await run.progress("half way", 0.5)
        await run.notify("hello user")
        return "done"

    loop = home.loop(llm=FunctionLLM(lambda request: call("work") if len(request.messages) == 1 else say("done")), tools=[work])
    heard: list[Any] = []
    loop.event_bus.subscribe(None, heard.append)
    await loop.run("go")
    told = {str(event.type): event.payload for event in heard}
    assert told["tool_progress"] == {"tool_call_id": "call_1", "text": "half way", "fraction": 0.5}
    assert told["user_notification"]["message"] == "hello user"


async def test_a_registry_that_takes_the_place_of_another_is_called_though_it_offers_the_same(home: Any) -> None:
    def registry(answer: str) -> ToolRegistry:
        made = ToolRegistry()
        made.register(ToolDefinition("look", "Look.", {"type": "object"}), lambda args: answer)
        return made

    loop = home.loop(llm=FunctionLLM(lambda request: say("yes") if request.messages[-1]["role"] == "tool" else call("look")))
    session = await loop.new_session()
    for answer in ("first", "second"):
        loop.tool_registry = registry(answer)
        await loop.send("Look.", session)
        assert (await loop.get_messages(session))[-2]["content"] == answer
