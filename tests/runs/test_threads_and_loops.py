"""One loop object in many hands: a cancel, a word or a send may come from any thread and any event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from power_loop import CancellationToken, StatefulAgentLoop
from power_loop.testing import FunctionLLM, ScriptedLLM, hang, respond


async def in_a_thread(work: Any) -> Any:
    """Run ``work()`` (a coroutine function) in an event loop of another thread."""
    return await asyncio.to_thread(lambda: asyncio.run(work()))


async def until(holds: Any) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0)


async def test_a_cancel_from_another_thread_ends_the_send(file_loop: Any) -> None:
    loop = await file_loop(hang())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await until(lambda: loop.llm.left == 0)
    assert await in_a_thread(lambda: loop.cancel(session, reason="from a thread"))
    assert (await sending).final_text == "[cancelled: from a thread]"


async def test_a_token_pulled_in_another_thread_ends_the_send(file_loop: Any) -> None:
    loop, stop = await file_loop(hang()), CancellationToken()
    sending = asyncio.create_task(loop.run("go", stop_event=stop))
    await until(lambda: loop.llm.left == 0)
    thread = threading.Thread(target=stop.cancel, args=("pulled",))
    thread.start()
    assert (await sending).final_text == "[cancelled: pulled]"
    thread.join()


async def test_a_word_from_another_thread_is_heard_by_the_run(file_loop: Any) -> None:
    async def think(_: Any) -> str:
        await in_a_thread(lambda: loop.follow_up("from a thread", session))
        return "answer"

    loop = await file_loop(respond(think), "both")
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "both"


async def test_sends_from_several_threads_on_one_session_take_turns(file_loop: Any) -> None:
    loop = await file_loop(llm=FunctionLLM(lambda request: f"answer to {request.messages[-1]['content']}"))
    session = await loop.new_session()
    results = await asyncio.gather(*(in_a_thread(lambda n=n: loop.send(f"word {n}", session)) for n in range(6)))
    assert {result.final_text for result in results} == {f"answer to word {n}" for n in range(6)}
    messages = await loop.get_messages(session)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 6
    for asked, answered in zip(messages[::2], messages[1::2], strict=True):
        assert answered["content"] == f"answer to {asked['content']}"


async def test_handlers_may_be_sync_or_async_side_by_side(file_loop: Any) -> None:
    order: list[str] = []

    async def later(ctx: Any) -> None:
        await asyncio.sleep(0)
        order.append("async")

    loop = await file_loop("answer")
    loop.hooks.register("llm.before", later)
    loop.hooks.register("llm.before", lambda ctx: order.append("sync"))
    await loop.run("go")
    assert order == ["async", "sync"]


def test_one_loop_object_serves_one_event_loop_after_another(tmp_path: Any) -> None:
    loop = StatefulAgentLoop(llm=ScriptedLLM(["one", "two", "three"]), dsn=str(tmp_path / "app.db"))
    session = asyncio.run(loop.new_session())
    texts = [asyncio.run(loop.send("go", session)).final_text for _ in range(2)]
    texts.append(loop.send_sync("go", session).final_text)
    asyncio.run(loop.aclose())
    assert texts == ["one", "two", "three"]
