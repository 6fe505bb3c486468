"""Who is asked at all: the tool's own rule, after the hooks. And what an approval is worth when the arguments change."""

from __future__ import annotations

import asyncio
import threading
from json import dumps
from typing import Any

import pytest

from power_loop import AgentHooks, CancellationToken, HookDirective, HookPoint, ToolDefinition, ToolRun, tool
from power_loop.contracts.approvals import digest_of
from power_loop.contracts.records import Decided, ToolParked, ToolStarted
from power_loop.testing import call

PAY = call("pay", euros=5)


def over_three(run: ToolRun, args: Any) -> bool:
    return args["euros"] > 3


async def over_three_async(run: ToolRun, args: Any) -> bool:
    await asyncio.sleep(0)
    assert (run.tool_name, run.session_id is not None) == ("pay", True)
    return args["euros"] > 3


class OverThree:
    async def __call__(self, run: ToolRun, args: Any) -> bool:
        return args["euros"] > 3


@pytest.mark.parametrize("rule", [over_three, over_three_async, OverThree(), lambda run, args: over_three_async(run, args)])
async def test_a_rule_says_which_calls_need_it(till_bank: Any, till: Any, rule: Any) -> None:
    small = await till_bank.loop(till, call("pay", euros=3), rule=rule)
    assert (await small.run("pay")).final_text == "so: paid 3"
    _, _, approval = await till_bank.waiting(till, PAY, rule=rule)
    assert approval.arguments == {"euros": 5}
    assert till.paid == [3]


def breaks(run: ToolRun, args: Any) -> bool:
    raise KeyError("no such limit")


async def gives_up(run: ToolRun, args: Any) -> bool:
    raise asyncio.CancelledError


@pytest.mark.parametrize("rule", [breaks, gives_up, None])
async def test_a_rule_that_raises_or_is_none_means_yes(till_bank: Any, till: Any, rule: Any) -> None:
    await till_bank.waiting(till, PAY, rule=rule)
    assert till.paid == []


def nested(levels: int) -> list[Any]:
    """Deeper than Python calls itself, as models may nest what they say."""
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    return deep


async def test_rules_and_handlers_are_shown_arguments_however_deep_they_are(till_bank: Any, till: Any) -> None:
    """A send that raised at them would raise again at every resume."""
    shown: list[Any] = []

    @tool(effects="pure", needs_approval=lambda run, args: shown.append(args["of"]))
    async def sort(of: list[Any]) -> str:
        """Sort."""
        return "sorted"

    loop = await till_bank.loop(till, call("sort", of=nested(600)), tools=[sort])
    loop.hooks.register("tool.before", lambda ctx: shown.append(ctx.tool_args["of"]))
    assert (await loop.run("sort it")).final_text == "so: sorted"
    assert [dumps(each) for each in shown] == ["[" * 601 + "]" * 601] * 2


async def test_what_a_rule_does_to_the_arguments_reaches_nobody(till_bank: Any, till: Any) -> None:
    def meddles(run: ToolRun, args: Any) -> bool:
        args["euros"] = 500
        return False

    loop = await till_bank.loop(till, PAY, rule=meddles)
    assert (await loop.run("pay")).final_text == "so: paid 5"


async def test_a_synchronous_rule_holds_up_nobody_else(till_bank: Any, till: Any) -> None:
    asked, free = threading.Event(), threading.Event()

    def slow(run: ToolRun, args: Any) -> bool:
        asked.set()
        return not free.wait(30)

    loop = await till_bank.loop(till, PAY, rule=slow)
    sending = asyncio.create_task(loop.run("pay"))
    while not asked.is_set():
        await asyncio.sleep(0)
    free.set()
    assert (await sending).final_text == "so: paid 5"


async def test_a_cancel_does_not_wait_for_a_rule_that_hangs(till_bank: Any, till: Any) -> None:
    asked = asyncio.Event()

    async def hangs(run: ToolRun, args: Any) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return False

    loop, token = await till_bank.loop(till, PAY, rule=hangs), CancellationToken()
    sending = asyncio.create_task(loop.run("pay", stop_event=token))
    await asked.wait()
    token.cancel("enough")
    assert (await sending).status == "cancelled"
    assert till.paid == []


async def test_arguments_that_break_the_schema_are_answered_before_anybody_is_asked(till_bank: Any, till: Any) -> None:
    loop = await till_bank.loop(till, call("pay", euros="many"))
    result = await loop.run("pay")
    assert result.status == "completed"
    assert "invalid" in result.final_text
    assert till_bank.told("approval_requested") == []


# --- hooks -------------------------------------------------------------------------------------------------


def hooks(handler: Any, point: HookPoint = HookPoint.TOOL_BEFORE) -> AgentHooks:
    made = AgentHooks()
    made.register(point, handler)
    return made


async def test_hooks_are_asked_first_so_the_approval_shows_what_would_run(till_bank: Any, till: Any) -> None:
    asked: list[int] = []

    def halve(ctx: Any) -> None:
        asked.append(ctx.tool_args["euros"])
        ctx.tool_args = {"euros": ctx.tool_args["euros"] // 2}

    loop, session, approval = await till_bank.waiting(till, call("pay", euros=8), hooks=hooks(halve))
    assert approval.arguments == {"euros": 4}
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    other = await till_bank.loop(till, hooks=hooks(halve))
    assert (await other.resume(session)).final_text == "so: paid 4"
    assert (till.paid, asked) == ([4], [8]), "what the hook decided is a record: it is not asked again"
    assert len(await till_bank.records(loop, session, ToolStarted)) == 1


async def test_what_a_hook_vetoes_is_asked_of_nobody(till_bank: Any, till: Any) -> None:
    def veto(ctx: Any) -> None:
        ctx.directive, ctx.output = HookDirective.SKIP, "not on Sundays"

    loop = await till_bank.loop(till, PAY, hooks=hooks(veto))
    assert (await loop.run("pay")).final_text == "so: not on Sundays"
    assert till_bank.told("approval_requested") == []


# acceptance: 125 (void for other arguments)
async def test_arguments_that_are_rewritten_afterwards_void_the_approval(bank: Any, till: Any) -> None:
    loop, session, first = await bank.waiting(till)
    await loop.approve(session, first.interaction_id, digest=first.digest, by="ann")

    def double(ctx: Any) -> None:
        ctx.tool_args = {"euros": 2 * ctx.tool_args["euros"]}

    other = await bank.loop(till, PAY, hooks=hooks(double))
    result = await other.resume(session)
    assert (result.status, till.paid) == ("waiting_for_input", [])
    (second,) = await other.list_approvals(session)
    assert (second.tool_call_id, second.arguments) == (first.tool_call_id, {"euros": 10})
    assert (second.interaction_id, second.digest) != (first.interaction_id, first.digest)
    assert second.digest == digest_of(first.tool_call_id, "pay", {"euros": 10})
    await other.approve(session, second.interaction_id, digest=second.digest, by="bob")
    third = await bank.loop(till, PAY, hooks=hooks(double))
    assert (await third.resume(session)).final_text == "so: paid 10"
    assert till.paid == [10]
    assert [made.by for made in await bank.records(loop, session, Decided)] == ["ann", "bob"]


async def test_a_denial_stands_whatever_a_hook_makes_of_the_call(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till)
    await loop.deny(session, approval.interaction_id, digest=approval.digest)
    seen: list[str] = []
    other = await till_bank.loop(till, PAY, hooks=hooks(lambda ctx: seen.append(ctx.tool_name)))
    assert (await other.resume(session)).final_text == "so: Denied: pay was not run."
    assert seen == []


async def test_a_tool_that_was_replaced_by_another_is_asked_about_anew(till_bank: Any, till: Any) -> None:
    """The digest has the tool's name: a hook that turns an approved call into one of another tool has it asked about."""
    loop, session, approval = await till_bank.waiting(till)
    await loop.approve(session, approval.interaction_id, digest=approval.digest)

    def to_grant(ctx: Any) -> None:
        ctx.tool_name = "grant"

    async def grant(euros: int) -> str:
        return "granted"

    grants = (ToolDefinition("grant", "Grant.", {"type": "object"}, needs_approval=True), grant)
    other = await till_bank.loop(till, hooks=hooks(to_grant), tools=[*till.tools(), grants])
    result = await other.resume(session)
    assert (result.status, [each["tool_name"] for each in result.pending_interactions]) == ("waiting_for_input", ["grant"])


# --- asked once -----------------------------------------------------------------------------------------


async def test_an_approved_call_that_is_cut_off_is_not_asked_about_again(till_bank: Any, till: Any) -> None:
    """P10: what a human decided is a record. A call that may run again does so under the approval that it has."""
    begun, hangs = asyncio.Event(), [True]

    async def send_mail(run: ToolRun, to: str) -> str:
        begun.set()
        if hangs.pop():
            hangs.append(False)
            await asyncio.Event().wait()
        return f"sent under {run.idempotency_key[:4]}"

    schema = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}
    mail = (ToolDefinition("send_mail", "Mail.", schema, effects="idempotent", needs_approval=True), send_mail)
    loop, session, approval = await till_bank.waiting(till, call("send_mail", to="ann"), tools=[mail])
    await loop.approve(session, approval.interaction_id, digest=approval.digest)
    resuming = asyncio.create_task(loop.resume(session))
    await begun.wait()
    resuming.cancel()
    await asyncio.gather(resuming, return_exceptions=True)
    other = await till_bank.loop(till, tools=[mail])
    assert (await other.resume(session)).status == "completed"
    assert len(await till_bank.records(other, session, ToolParked)) == 1


async def test_the_model_that_asks_again_is_a_new_call_and_needs_a_new_approval(till_bank: Any, till: Any) -> None:
    loop, session, first = await till_bank.waiting(till)
    await loop.approve(session, first.interaction_id, digest=first.digest)
    await loop.resume(session)
    await loop.send("again", session)
    (second,) = await loop.list_approvals(session)
    assert second.interaction_id != first.interaction_id
    assert till.paid == [5]


async def test_a_cancelled_send_answers_what_waits_and_late_approvals_are_refused(bank: Any, till: Any) -> None:
    loop, session, approval = await bank.waiting(till)
    assert await loop.abort_pending(session) == 1
    with pytest.raises(Exception, match="nothing waits"):
        await loop.approve(session, approval.interaction_id, digest=approval.digest)
    assert (await loop.resume(session)).final_text == "so: <aborted: aborted>"
    assert till.paid == []
