"""A call that began and was cut off: what became of it is asked, told, or left to somebody, as the caller says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    CancellationToken,
    HookDirective,
    HumanInputRequired,
    RunPolicy,
    StatefulAgentLoop,
    StoreUnavailable,
    ToolDefinition,
    ToolPolicy,
    ToolRegistry,
    ToolRun,
    tool,
)
from power_loop.context.pairing import check_pairs
from power_loop.contracts.store import Statement
from power_loop.testing import FunctionLLM, call, calls


class Bank:
    """Pays at most once per key; a payment may be cut off before or after the money went."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}
        self.attempts: list[str] = []
        self.hangs = True

    def tools(self, *, reconciles: Any = None, effects: Any = "once") -> list[Any]:
        @tool(effects=effects, reconcile=reconciles)
        async def pay(run: ToolRun, euros: int) -> str:
            """Pay."""
            assert run.idempotency_key is not None
            self.attempts.append(run.idempotency_key)
            self.paid[run.idempotency_key] = euros
            if self.hangs:
                await asyncio.Event().wait()
            return f"paid {euros}"

        return [pay]


@pytest.fixture
def bank() -> Bank:
    return Bank()


# acceptance: 123 (a retry, and a repeated request of the model)
async def test_one_more_try_has_the_same_key_and_the_same_request_in_a_later_round_another(house: Any) -> None:
    keys: list[str | None] = []

    @tool(effects="once")
    def pay(run: ToolRun, euros: int) -> str:
        """Pay."""
        keys.append(run.idempotency_key)
        if len(keys) == 1:
            raise ConnectionError("cut")
        return f"paid {euros}"

    again = {"tool.error": lambda ctx: HookDirective.SHORT_CIRCUIT}
    loop = house.loop(call("pay", euros=5), call("pay", euros=5), "done", tools=[pay], on=again)
    assert (await loop.run("go")).status == "completed"
    first, retried, repeated = keys
    assert first == retried != repeated


def done(request: Any) -> Any:
    last = request.messages[-1]
    return f"so: {last['content']}" if last["role"] == "tool" else call("pay", euros=5)


async def cut_off(house: Any, bank: Bank, **tools: Any) -> str:
    """A session whose payment was cut off in the middle; its id."""
    return await cut_off_on(house.loop(llm=FunctionLLM(done), tools=bank.tools(**tools)), house, bank)


async def cut_off_on(loop: StatefulAgentLoop, house: Any, bank: Bank) -> str:
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("pay 5", session))
    await house.until(lambda: bank.attempts)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    bank.hangs = False
    house.heard.clear()
    return session


# acceptance: 122 (reconcile)
async def test_a_tool_that_finds_out_ends_the_unknown_state(house: Any, bank: Bank) -> None:
    async def reconcile(run: ToolRun, arguments: Any) -> str:
        assert run.idempotency_key is not None
        return f"found: paid {bank.paid[run.idempotency_key]} (asked {arguments['euros']})"

    session = await cut_off(house, bank, reconciles=reconcile)
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools(reconciles=reconcile))
    result = await loop.resume(session)
    assert result.final_text == "so: found: paid 5 (asked 5)"
    assert (len(bank.attempts), [told["outcome"] for told in house.told("tool_call_completed")]) == (1, ["ok"])


# acceptance: 122 (reconcile does not know, or breaks)
@pytest.mark.parametrize("answer", ["None", "raises", "cancels itself", "absent"])
async def test_a_tool_that_does_not_find_out_leaves_it_unknown(house: Any, bank: Bank, answer: str) -> None:
    async def reconcile(run: ToolRun, arguments: Any) -> str | None:
        if answer == "raises":
            raise ConnectionError("the bank does not answer")
        if answer == "cancels itself":
            raise asyncio.CancelledError
        return None

    how = {} if answer == "absent" else {"reconciles": reconcile}
    session = await cut_off(house, bank, **how)
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools(**how))
    result = await loop.resume(session)
    assert "may or may not have taken effect" in result.final_text
    (told,) = house.told("tool_call_completed")
    assert (told["outcome"], told["failed"], len(bank.attempts)) == ("unknown", False, 1)


async def test_a_plain_function_may_find_out_and_what_it_gives_is_cut_to_size_like_any_result(house: Any, bank: Bank) -> None:
    def reconcile(run: ToolRun, arguments: Any) -> str:
        return "paid " + "0" * 5000

    session = await cut_off(house, bank, reconciles=reconcile)
    config = AgentLoopConfig(tooling=ToolPolicy(result_max_chars=1000))
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools(reconciles=reconcile), config=config)
    result = await loop.resume(session)
    assert result.final_text.startswith("so: paid 000")
    assert "characters are left out" in result.final_text


@pytest.mark.parametrize("by", ["token", "cancel"])
async def test_a_cancel_does_not_wait_for_a_tool_that_finds_nothing_out(house: Any, bank: Bank, by: str) -> None:
    asked: list[str] = []

    async def reconcile(run: ToolRun, arguments: Any) -> None:
        asked.append(run.call_id)
        await asyncio.Event().wait()

    session = await cut_off(house, bank, reconciles=reconcile)
    loop, token = house.loop(llm=FunctionLLM(done), tools=bank.tools(reconciles=reconcile)), CancellationToken()
    resuming = asyncio.create_task(loop.resume(session, stop_event=token))
    await house.until(lambda: asked)
    if by == "token":
        token.cancel("enough")
    else:
        await loop.cancel(session)
    result = await asyncio.wait_for(resuming, 60)
    assert (result.status, len(asked)) == ("cancelled", 1)
    assert [told["outcome"] for told in house.told("tool_call_completed")] == ["unknown"]


async def test_a_call_that_a_cancel_cut_off_has_no_more_time_to_be_found_out_about_than_the_cancel_has(house: Any, bank: Bank) -> None:
    async def reconcile(run: ToolRun, arguments: Any) -> None:
        await asyncio.Event().wait()

    config = AgentLoopConfig(running=RunPolicy(cancel_grace_s=0.01))
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools(reconciles=reconcile), config=config)
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("pay 5", session))
    await house.until(lambda: bank.attempts)
    await loop.cancel(session)
    assert (await asyncio.wait_for(sending, 60)).status == "cancelled"
    assert [told["outcome"] for told in house.told("tool_call_completed")] == ["unknown"]


# acceptance: 122 (rerun), 123 (resume)
async def test_it_runs_again_on_the_callers_word_with_the_same_key(house: Any, bank: Bank) -> None:
    session = await cut_off(house, bank)
    result = await house.loop(llm=FunctionLLM(done), tools=bank.tools()).resume(session, unknown="rerun")
    assert result.final_text == "so: paid 5"
    assert len(bank.attempts) == 2
    assert len(bank.paid) == 1


async def test_the_callers_word_holds_for_that_resume_only(house: Any, bank: Bank) -> None:
    session = await cut_off(house, bank)
    bank.hangs = True
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools())
    resuming = asyncio.create_task(loop.resume(session, unknown="rerun"))
    await house.until(lambda: len(bank.attempts) == 2)
    resuming.cancel()
    await asyncio.gather(resuming, return_exceptions=True)
    bank.hangs = False
    result = await house.loop(llm=FunctionLLM(done), tools=bank.tools()).resume(session)
    assert "may or may not" in result.final_text
    assert len(bank.attempts) == 2, "one rerun was asked for, and it began"


# acceptance: 122 (ask)
async def test_it_is_parked_as_a_question_that_anyone_may_answer(house: Any, bank: Bank) -> None:
    session = await cut_off(house, bank)
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools())
    waiting = await loop.resume(session, unknown="ask")
    assert waiting.status == "waiting_for_input"
    (question,) = waiting.pending_interactions
    assert (question["kind"], question["tool_name"]) == ("unknown", "pay")
    assert (await loop.resume(session)).status == "waiting_for_input", "asked once, it stays parked"
    other = house.loop(llm=FunctionLLM(done), tools=bank.tools())
    result = await other.submit_input(session, question["interaction_id"], "I looked: it was paid")
    assert result.final_text == "so: I looked: it was paid"
    assert (len(bank.attempts), result.tool_calls) == (1, 0)
    check_pairs(await loop.get_messages(session))


async def test_a_call_that_was_parked_as_unknown_stays_unknown_when_it_is_given_up(house: Any, bank: Bank) -> None:
    session = await cut_off(house, bank)
    loop = house.loop(llm=FunctionLLM(done), tools=bank.tools())
    await loop.resume(session, unknown="ask")
    assert await loop.abort_pending(session, reason="nobody knows") == 1
    assert [told["outcome"] for told in house.told("tool_call_completed")] == ["unknown"]
    assert (await loop.send("never mind", session)).final_text == "so: paid 5"


async def test_a_call_that_was_parked_as_unknown_stays_unknown_when_the_send_is_cancelled(house: Any, bank: Bank) -> None:
    @tool(effects="pure", parallel=True)
    async def wait() -> str:
        """Wait."""
        await asyncio.Event().wait()
        return "never"

    loop = house.loop(calls(call("pay", euros=5), call("wait")), tools=[*bank.tools(), wait])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until(lambda: bank.attempts)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    house.heard.clear()
    resuming = asyncio.create_task(loop.resume(session, unknown="ask"))
    await house.until_told("tool_call_started")
    await loop.cancel(session)
    assert (await resuming).status == "cancelled"
    assert {told["name"]: told["outcome"] for told in house.told("tool_call_completed")} == {"pay": "unknown", "wait": "aborted"}


# acceptance: 121 (as a user sees it)
@pytest.mark.parametrize("effects", ["idempotent", "pure"])
async def test_what_may_be_repeated_just_runs_again(house: Any, bank: Bank, effects: str) -> None:
    session = await cut_off(house, bank, effects=effects)
    pending = await house.loop().get_pending(session)
    assert pending is not None
    assert pending["unknown_call_ids"] == []
    result = await house.loop(llm=FunctionLLM(done), tools=bank.tools(effects=effects)).resume(session)
    assert result.final_text == "so: paid 5"
    assert len(set(bank.attempts)) == 1


@pytest.mark.parametrize(("named", "put", "attempts"), [("pure", "once", 1), ("once", "idempotent", 2)])
async def test_the_tool_that_a_hook_put_in_the_place_of_another_decides_whether_the_call_runs_again(
    house: Any, bank: Bank, named: Any, put: str, attempts: int
) -> None:
    @tool(effects=named)
    async def look(euros: int) -> str:
        """Look."""
        raise AssertionError("the hook named another tool")

    def rename(ctx: Any) -> None:
        ctx.tool_name = "pay"

    tools = [look, *bank.tools(effects=put)]
    session = await cut_off_on(house.loop(call("look", euros=5), tools=tools, on={"tool.before": rename}), house, bank)
    result = await house.loop("done", tools=tools).resume(session)
    assert (result.final_text, len(bank.attempts)) == ("done", attempts)


async def test_a_call_that_began_is_unknown_where_its_tool_is_gone_whatever_the_default(house: Any, bank: Bank) -> None:
    session = await cut_off(house, bank)
    config = AgentLoopConfig(tooling=ToolPolicy(default_effects="idempotent"))
    other = ToolDefinition("other", "Another tool."), lambda: "other"
    cold = house.loop(llm=FunctionLLM(done), tool_registry=ToolRegistry([other]), config=config)
    assert "may or may not have taken effect" in (await cold.resume(session)).final_text
    assert [told["outcome"] for told in house.told("tool_call_completed")] == ["unknown"]


# acceptance: 122 (beside calls that never began)
async def test_a_sibling_that_never_began_runs_once_the_unknown_one_is_settled(house: Any, bank: Bank) -> None:
    noted: list[str] = []

    @tool(effects="once", parallel=False)
    def note(text: str) -> str:
        """Note."""
        noted.append(text)
        return "noted"

    two = calls(call("pay", euros=5), call("note", text="x"))
    loop = house.loop(two, tools=[*bank.tools(), note])
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("pay 5", session))
    await house.until(lambda: bank.attempts)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert noted == []
    house.heard.clear()
    cold = house.loop("done", tools=[*bank.tools(), note])
    assert (await cold.resume(session)).final_text == "done"
    assert (noted, len(bank.attempts)) == (["x"], 1)
    assert [told["outcome"] for told in house.told("tool_call_completed")] == ["unknown", "ok"]
    assert [message["role"] for message in await cold.get_messages(session)] == ["user", "assistant", "tool", "tool", "assistant"]


async def test_nonsense_is_refused_before_anything_is_touched(house: Any, bank: Bank) -> None:
    session = await cut_off(house, bank)
    before = await house.kinds(session)
    with pytest.raises(ValueError, match="unknown"):
        await house.loop(tools=bank.tools()).resume(session, unknown="guess")
    with pytest.raises(ValueError, match="nothing"):
        await house.loop(tools=bank.tools()).submit_input(session, "input_1", "yes")
    assert await house.kinds(session) == before


# --- calls that wait for somebody, and a run that could not say so ---------------------------------------------


# acceptance: 131 (a run that was cut off while a call waits)
@pytest.mark.parametrize("how", ["task", "handler", "crash"])
async def test_a_session_whose_calls_all_wait_says_so_however_its_run_ended(house: Any, how: str) -> None:
    async def ask() -> str:
        """Ask."""
        raise HumanInputRequired("which one?")

    reached: list[str] = []

    async def at_the_end(ctx: Any) -> None:
        reached.append(how)
        if how == "handler":
            raise KeyError("mine")
        await asyncio.Event().wait()

    loop = house.loop(call("ask"), tools=[ask], on={"tools.batch.after": at_the_end})
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await house.until(lambda: reached)
    if how == "crash":
        taken = Statement("UPDATE pl_sessions SET epoch = epoch + 1, holder = NULL WHERE session_id = ?", (session,), 1)
        await house.database.write([taken])
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    cold = house.loop("thanks", tools=[ask])
    waiting = await cold.resume(session)
    assert (waiting.status, len(waiting.pending_interactions)) == ("waiting_for_input", 1)
    answered = await cold.submit_input(session, waiting.pending_interactions[0]["interaction_id"], "that one")
    assert (answered.status, answered.final_text) == ("completed", "thanks")


# acceptance: 36 (not begun)
async def test_a_call_whose_mark_could_not_be_written_has_not_begun(house: Any, bank: Bank) -> None:
    loop, refused = house.loop(llm=FunctionLLM(done), tools=bank.tools()), list[int]()
    bank.hangs, append = False, loop.store.append

    async def away(batch: Any) -> None:
        if not refused and any(row.cells.kind == "tool_started" for row in batch.rows):
            refused.append(len(batch.rows))
            raise StoreUnavailable("no route to the database")
        await append(batch)

    loop.store.append = away
    session = await loop.new_session()
    with pytest.raises(StoreUnavailable):
        await loop.send("pay 5", session)
    assert ((await loop.get_pending(session))["unknown_call_ids"], refused, bank.attempts) == ([], [2], [])
    assert (await loop.resume(session)).final_text == "so: paid 5"
    assert len(bank.attempts) == 1
