"""What handlers put in the place of results and messages: anything that has JSON is kept as a result would be, all else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentHooks, HookDirective, HookPoint, ModelRetry, StatefulAgentLoop
from power_loop.contracts.codec import content_of
from power_loop.testing import ScriptedLLM, call

SKIP = HookDirective.SKIP
VETOES = ["tool.before", "tools.batch.before", "round.decide"]


def add(a: int) -> str:
    """Add up."""
    if a < 0:
        raise ValueError("negative")
    return f"sum {a}"


class Desk:
    """One session in a file; each loop is another process's, with a handler at one point or none."""

    def __init__(self, folder: Path) -> None:
        self.path, self.session = str(folder / "desk.db"), ""

    def loop(self, script: list[Any], point: str | None = None, handler: Any = None) -> StatefulAgentLoop:
        hooks = AgentHooks()
        if point is not None:
            hooks.register(HookPoint(point), handler)
        return StatefulAgentLoop(llm=ScriptedLLM(script), dsn=self.path, tools=[add], hooks=hooks)

    async def send(self, point: str, handler: Any, a: int = 1) -> list[Any]:
        """The results and the other messages as stored."""
        async with self.loop([call("add", a=a), "done"], point, handler) as loop:
            self.session = await loop.new_session()
            await loop.send("go", self.session)
            return [message["content"] for message in await loop.get_messages(self.session) if message["role"] == "tool"]

    async def goes_on(self) -> None:
        """Without the handler, what was left open is ended and another send works."""
        async with self.loop(["done", "again"]) as loop:
            await loop.resume(self.session)
            assert (await loop.send("and now?", self.session)).status == "completed"
            assert (await loop.doctor(self.session)).state == "idle"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def answering(output: Any) -> Any:
    def handler(ctx: Any) -> HookDirective:
        ctx.output = output
        return SKIP

    return handler


@pytest.mark.parametrize(("given", "told"), [({"denied": True}, '{"denied": true}'), (5, "5"), ("", ""), (0, "0"), ([], "[]")])
@pytest.mark.parametrize("point", VETOES)
async def test_what_a_veto_gives_is_told_as_a_result_would_be(desk: Desk, point: str, given: Any, told: str) -> None:
    assert await desk.send(point, answering(given)) == [told]
    await desk.goes_on()


@pytest.mark.parametrize(("given", "told"), [({"kept": 1}, '{"kept": 1}'), ("", ""), (None, "Error: ValueError: negative")])
async def test_what_is_given_for_a_failure_is_told_as_a_result_would_be(desk: Desk, given: Any, told: str) -> None:
    assert await desk.send("tool.error", answering(given), a=-1) == [told]
    await desk.goes_on()


@pytest.mark.parametrize(("point", "a"), [*((point, 1) for point in VETOES), ("tool.error", -1)])
async def test_an_answer_without_json_fails_closed_and_is_asked_for_again(desk: Desk, point: str, a: int) -> None:
    with pytest.raises(TypeError, match=rf"handler at {point} gave an output of type object"):
        await desk.send(point, answering(object()), a)
    await desk.goes_on()


def putting(role: str, **changed: Any) -> Any:
    def handler(ctx: Any) -> None:
        if ctx.message["role"] == role:
            ctx.message.update(changed)

    return handler


@pytest.mark.parametrize("content", [5, [1, 2], {"type": "text", "text": "no list"}, [{"type": "text"}]])
@pytest.mark.parametrize("role", ["user", "assistant"])
async def test_content_that_no_message_has_is_refused(desk: Desk, role: str, content: Any) -> None:
    with pytest.raises(TypeError, match=r"message\.append"):
        await desk.send("message.append", putting(role, content=content))
    await desk.goes_on()


async def test_a_name_that_is_no_text_is_refused(desk: Desk) -> None:
    with pytest.raises(TypeError, match=r"message\.append named a message 5"):
        await desk.send("message.append", putting("user", name=5))
    await desk.goes_on()


async def test_a_result_that_a_handler_makes_plain_data_is_told_as_json(desk: Desk) -> None:
    assert await desk.send("message.append", putting("tool", content={"sum": 1})) == ['{"sum": 1}']
    await desk.goes_on()


@pytest.mark.parametrize("stored", ['{"denied": true}', "5", "[1, 2]"])
def test_a_row_of_a_form_that_no_message_has_is_read_as_text(stored: str) -> None:
    assert content_of(stored, 2) == stored


@pytest.mark.parametrize("message", [{"not": "yet"}, 5, [1]])
async def test_a_word_against_the_end_that_no_message_has_is_refused(desk: Desk, message: Any) -> None:
    def handler(ctx: Any) -> HookDirective:
        ctx.message = message
        return SKIP

    with pytest.raises(TypeError, match=r"complete\.decide"):
        await desk.send("complete.decide", handler)
    await desk.goes_on()


async def test_what_a_handler_asks_to_be_tried_again_is_told_as_text(desk: Desk) -> None:
    asked = [ModelRetry(ValueError("another number"))]  # type: ignore[arg-type]  # as a host without a type checker does

    def handler(ctx: Any) -> None:
        if asked:
            raise asked.pop()

    assert "another number" in (await desk.send("tool.before", handler))[0]
    await desk.goes_on()
