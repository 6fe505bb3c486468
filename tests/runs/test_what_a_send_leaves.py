"""What is left of a send in the process once it is over: what its host keeps, and nothing beside it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from scarce import no_threads
from shells import until

from power_loop import LLMRequest, LLMResponse
from power_loop.runtime.send import Send
from power_loop.testing import call


def add(a: int) -> str:
    """Add."""
    return str(a + 1)


class Keeping:
    """Keeps every request."""

    def __init__(self) -> None:
        self.kept: list[LLMRequest] = []

    async def complete(self, request: LLMRequest, **_: Any) -> LLMResponse:
        assert request.on_restart is not None
        self.kept.append(request)
        return LLMResponse(content_text="done")


def sends_alive() -> list[Send]:
    return [each for each in gc.get_objects() if type(each) is Send]


async def gone(before: list[Send]) -> None:
    """Wait until no send is left but those of ``before``. The thread of a handler lets go of it in its own time."""
    known = {id(each) for each in before}
    await until(lambda: all(id(each) in known for each in sends_alive()))


async def test_a_send_that_is_over_needs_no_garbage_collector_to_be_gone(house: Any) -> None:
    loop = house.loop(call("add", a=1), "done", "again", tools=[add])
    gc.collect()
    before = sends_alive()
    gc.disable()
    try:
        session = await loop.new_session()
        await loop.send("go", session)
        await loop.send("and again", session)
        await gone(before)
    finally:
        gc.enable()


async def test_a_model_that_keeps_its_requests_keeps_no_sends_and_can_restart_nothing(house: Any) -> None:
    model = Keeping()
    gc.collect()
    before = sends_alive()
    await house.loop(llm=model).run("go")
    assert [request.on_restart for request in model.kept] == [None]
    await gone(before)


async def test_a_send_that_cannot_keep_its_lease_alive_gives_it_back_and_the_next_one_can(house: Any) -> None:
    loop = house.loop("answer")
    session = await loop.new_session()
    with no_threads(), pytest.raises(RuntimeError, match="thread"):
        await loop.send("go", session)
    assert (await loop.store.look(session)).holder is None
    assert not await loop.cancel(session), "nothing runs"
    assert house.types().count("session_ended") == 1
    assert (await loop.send("go", session)).final_text == "answer"
    await loop.aclose()
