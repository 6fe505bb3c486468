"""What a conversation looks like: one line for a call and for its result, nothing said twice, nothing hidden."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMError, LLMRetryPolicy, StatefulAgentLoop, tool
from power_loop.cli.ctrl_c import CtrlC
from power_loop.cli.exits import complain
from power_loop.cli.screen import Screen, as_json, message_line, seen
from power_loop.contracts.cancel import CancellationToken
from power_loop.errors import SessionBusyError, SessionNotFoundError, SessionPendingError, StoreSchemaError
from power_loop.testing import ScriptedLLM, call, calls, fail, say


async def shown(steps: list[Any], *tools: Any, config: AgentLoopConfig | None = None, **send: Any) -> str:
    """What a screen shows of one send."""
    out = io.StringIO()
    screen = Screen(out)
    async with StatefulAgentLoop(llm=ScriptedLLM(steps), dsn=":memory:", tools=list(tools) or None, config=config) as loop:
        loop.event_bus.subscribe(None, screen.hear)
        screen.result(await loop.send("Go.", await loop.new_session(), **send))
    return out.getvalue()


@tool(effects="pure")
def double(number: int) -> int:
    """Twice the number."""
    if number < 0:
        raise ValueError("only from 0\non")
    return 2 * number


async def test_text_calls_and_results_stand_in_order_one_line_each() -> None:
    steps = [calls(call("double", number=2), text="Let me see."), call("double", number=-1), say("Four.\nNo more.")]
    assert await shown(steps, double) == (
        'Let me see.\n  -> double {"number": 2}\n  <- 4\n  -> double {"number": -1}\n  <- [failed] Error: ValueError: only from 0 on\n'
        "Four.\nNo more.\n"
    )


async def test_a_long_result_is_cut_to_a_line() -> None:
    @tool(effects="pure")
    def long() -> str:
        """Much."""
        return "word " * 100

    lines = (await shown([call("long"), say("ok")], long)).splitlines()
    assert len(lines[1]) < 110
    assert lines[1].endswith("…")


async def test_an_attempt_that_broke_off_is_said_not_to_count() -> None:
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(backoff_initial=0, jitter=0))
    told = await shown([fail(LLMError("the line is dead"), after="Per"), say("Perhaps.")], config=config)
    assert told == "Per\n[this attempt broke off; what it said does not count]\n[the line is dead; again in 0.0 s]\nPerhaps.\n"


async def test_an_ending_that_is_no_answer_is_named() -> None:
    config = AgentLoopConfig(retry_policy=LLMRetryPolicy(max_attempts=1), max_rounds=1)
    assert "[degraded: " in await shown([fail(LLMError("no"))], config=config)
    assert "[hit_round_limit]" in await shown([call("double", number=1), say("It is 2.")], double, config=config)


async def test_what_no_delta_showed_is_shown_at_the_end() -> None:
    class Silent:
        async def complete(self, request: Any, **_: Any) -> Any:
            return await ScriptedLLM(["All at once."]).complete(request)

    out = io.StringIO()
    async with StatefulAgentLoop(llm=Silent(), dsn=":memory:") as loop:
        screen = Screen(out)
        loop.event_bus.subscribe(None, screen.hear)
        screen.result(await loop.send("Go.", await loop.new_session()))
    assert out.getvalue() == "All at once.\n"


@pytest.mark.parametrize("mark", ["\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\u200f", "\x07", "\r", "\u200b", "\u3164", "\U000e0062"])
def test_nothing_that_was_said_changes_how_a_terminal_writes(mark: str) -> None:
    told = seen(f"rm -rf {mark}safe\n\tתודה, c'est ça")
    assert mark[0] not in told
    assert told.startswith("rm -rf ·")
    assert told.endswith("safe\n\tתודה, c'est ça")


def test_what_shows_as_nothing_is_written_out_in_arguments_and_read_back_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    unseen = "".join(map(chr, (0xAD, 0x34F, 0x115F, 0x200B, 0x200D, 0x2800, 0x3164, 0xFE0F, 0xE0062, 0xE0101)))
    told = as_json({"to": f"bob{unseen}é"})
    assert told.isprintable()
    assert '"bob\\u00ad\\u034f\\u115f\\u200b\\u200d\\u2800\\u3164\\ufe0f\\udb40\\udc62\\udb40\\udd01é"' in told
    assert json.loads(told) == {"to": f"bob{unseen}é"}


def test_emoji_stay_whole_in_what_people_say() -> None:
    family = "\N{HEAVY BLACK HEART}\ufe0f \N{WOMAN}\u200d\N{GIRL}"
    assert seen(family) == family


def test_every_message_of_a_history_has_its_line() -> None:
    asked = {"id": "c1", "type": "function", "function": {"name": "double", "arguments": '{"number": 2}'}}
    assert message_line({"role": "user", "content": [{"type": "text", "text": "two\nlines"}]}) == "> two lines"
    assert message_line({"role": "assistant", "content": "", "tool_calls": [asked]}) == '  -> double {"number": 2}'
    assert message_line({"role": "assistant", "content": "So:", "tool_calls": [asked]}) == 'So:\n  -> double {"number": 2}'
    assert message_line({"role": "tool", "content": "4"}) == "  <- 4"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SessionNotFoundError("s"), 3),
        (SessionBusyError("s"), 4),
        (SessionPendingError("s"), 4),
        (StoreSchemaError("the schema is missing", ddl="CREATE TABLE a (b);"), 1),
        (ImportError("pip install 'power-loop[openai]'"), 1),
    ],
)
def test_an_error_is_one_line_with_its_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert complain(error) == code
    assert capsys.readouterr().err.count("\n") == 1


async def test_a_second_ctrl_c_does_not_wait_for_the_send_to_end() -> None:
    ctrl_c, token, begun = CtrlC(), CancellationToken(), asyncio.Event()
    before = signal.getsignal(signal.SIGINT)

    async def deaf() -> None:
        begun.set()
        await asyncio.Event().wait()

    work = asyncio.create_task(ctrl_c.guards(deaf(), token))
    await begun.wait()
    signal.raise_signal(signal.SIGINT)
    assert token.is_cancelled()
    assert not ctrl_c.leaves
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(asyncio.CancelledError):
        await work
    assert ctrl_c.leaves
    assert signal.getsignal(signal.SIGINT) is before
