"""Questions to people: several at once, beside approvals, answered once and from any process; calls of unknown outcome settled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    ContextPolicy,
    HumanInputRequired,
    ProjectedRepresentation,
    SessionBusyError,
    StatefulAgentLoop,
    ToolRun,
    VerbatimRepresentation,
    request_user_input,
    tool,
)
from power_loop.contracts.records import ToolReturned
from power_loop.testing import ScriptedLLM, call, calls

PAY = call("pay", euros=5)


@tool
def ask(what: str) -> str:
    """Ask."""
    request_user_input(prompt=f"Which {what}?", kind="choice", options=[{"id": "a", "label": "A"}], metadata={"for": what})


@tool
async def quick(at: str) -> str:
    """Be quick."""
    return f"was at {at}"


def tools(till: Any) -> list[Any]:
    return [*till.tools(), ask, quick]


@pytest.mark.parametrize("options", ["abc", b"abc", {"a": 1}, 7, [None], [""], ["a", {}]])
def test_options_that_could_not_be_shown_or_chosen_are_refused(options: Any) -> None:
    with pytest.raises(TypeError, match="options= "):
        request_user_input(prompt="Which?", kind="choice", options=options)


def test_what_is_asked_is_text_whatever_was_given() -> None:
    given: Any = ValueError("which?")
    with pytest.raises(HumanInputRequired) as asked:
        request_user_input(prompt=given)
    assert (asked.value.prompt, asked.value.kind) == ("which?", "text")


async def asked(bank: Any, till: Any, wanted: Any) -> tuple[str, Any]:
    """A session that waits, and the result that said so."""
    loop = await bank.loop(till, wanted, tools=tools(till))
    session = await loop.new_session()
    return session, await loop.send("go", session)


# acceptance: 111 (several at once, from other processes), 131
async def test_several_questions_of_one_round_are_answered_one_by_one_from_other_processes(bank: Any, till: Any) -> None:
    session, result = await asked(bank, till, calls(call("ask", what="colour"), call("quick", at="home"), call("ask", what="size")))
    assert result.status == "waiting_for_input"
    colour, size = result.pending_interactions
    assert (colour["kind"], colour["prompt"], colour["metadata"]) == ("choice", "Which colour?", {"for": "colour"})
    assert colour["interaction_id"].startswith("input_")
    assert len(colour["interaction_id"]) == len("input_") + 16
    assert [told["output"] for told in bank.told("tool_call_completed")] == ["was at home"]
    second = await bank.loop(till, tools=tools(till))
    half = await second.submit_input(session, size["interaction_id"], {"cm": 12})
    assert (half.status, half.pending_interactions) == ("waiting_for_input", [colour])
    third = await bank.loop(till, tools=tools(till))
    done = await third.submit_input(session, colour["interaction_id"], "blue äß\n")
    assert (done.status, done.final_text) == ("completed", 'so: blue äß\n | was at home | {"cm":12}')


# acceptance: 111
@pytest.mark.parametrize("shown_as", [VerbatimRepresentation(), ProjectedRepresentation()], ids=["verbatim", "projected"])
async def test_after_a_restart_the_answer_is_in_the_next_request(tmp_path: Path, shown_as: Any) -> None:
    where = {"dsn": str(tmp_path / "app.db"), "tools": [ask], "config": AgentLoopConfig(context=ContextPolicy(representation=shown_as))}
    async with StatefulAgentLoop(llm=ScriptedLLM(["hello", call("ask", what="colour")]), **where) as loop:
        session = await loop.new_session()
        await loop.send("hi", session)
        (question,) = (await loop.send("paint it", session)).pending_interactions
    model = ScriptedLLM(["painted", "you are welcome"])
    async with StatefulAgentLoop(llm=model, **where) as loop:
        result = await loop.submit_input(session, question["interaction_id"], "blue")
        await loop.send("thanks", session)
    assert (result.status, result.final_text) == ("completed", "painted")
    assert (model.requests[0].messages[-1]["role"], model.requests[0].messages[-1]["content"]) == ("tool", "blue")
    assert [m["role"] for m in model.requests[0].messages] == ["user", "assistant", "user", "assistant", "tool"]
    assert ("tool" in [m["role"] for m in model.requests[1].messages]) is isinstance(shown_as, VerbatimRepresentation)


async def test_a_question_and_an_approval_of_one_round_wait_side_by_side(bank: Any, till: Any) -> None:
    session, result = await asked(bank, till, calls(PAY, call("ask", what="colour")))
    assert [each["kind"] for each in result.pending_interactions] == ["approval", "choice"]
    other = await bank.loop(till, tools=tools(till))
    (approval,) = await other.list_approvals(session)
    await other.approve(session, approval.interaction_id, digest=approval.digest)
    half = await other.resume(session)
    assert (half.status, till.paid, [each["kind"] for each in half.pending_interactions]) == ("waiting_for_input", [5], ["choice"])
    done = await other.submit_input(session, half.pending_interactions[0]["interaction_id"], "red")
    assert (done.final_text, till.paid) == ("so: paid 5 | red", [5])


async def test_a_question_that_is_answered_first_leaves_the_approval_waiting(till_bank: Any, till: Any) -> None:
    session, result = await asked(till_bank, till, calls(PAY, call("ask", what="colour")))
    other = await till_bank.loop(till, tools=tools(till))
    half = await other.submit_input(session, result.pending_interactions[1]["interaction_id"], "red")
    assert (half.status, [each["kind"] for each in half.pending_interactions]) == ("waiting_for_input", ["approval"])
    (approval,) = await other.list_approvals(session)
    await other.deny(session, approval.interaction_id, digest=approval.digest, note="no")
    assert (await other.resume(session)).final_text == "so: Denied: pay was not run. Note: no | red"


async def test_an_answer_counts_once(bank: Any, till: Any) -> None:
    session, result = await asked(bank, till, call("ask", what="colour"))
    (question,) = result.pending_interactions
    loop = await bank.loop(till, tools=tools(till))
    first = await loop.submit_input(session, question["interaction_id"], "red", key="k1")
    assert first.final_text == "so: red"
    again = await (await bank.loop(till, tools=tools(till))).submit_input(session, question["interaction_id"], "blue", key="k1")
    assert (again.final_text, again.rounds) == ("so: red", 0)
    for key in (None, "k2"):
        with pytest.raises(ValueError, match="waits for no answer"):
            await loop.submit_input(session, question["interaction_id"], "blue", key=key)
    assert len(await bank.records(loop, session, ToolReturned)) == 1


async def test_of_two_answers_at_the_same_time_one_counts(bank: Any, till: Any) -> None:
    session, result = await asked(bank, till, call("ask", what="colour"))
    question = result.pending_interactions[0]["interaction_id"]
    loops = [await bank.loop(till, tools=tools(till)) for _ in range(3)]
    answers = (loop.submit_input(session, question, f"answer {n}") for n, loop in enumerate(loops))
    ended = await asyncio.gather(*answers, return_exceptions=True)
    (counted,) = await bank.records(loops[0], session, ToolReturned)
    refused = [each for each in ended if isinstance(each, ValueError)]
    assert len(refused) == 2, ended
    assert [each.final_text for each in ended if not isinstance(each, ValueError)] == [f"so: {counted.output}"]


async def test_an_answer_that_waits_for_its_turn_does_not_reopen_a_send_that_is_cancelled_meanwhile() -> None:
    @tool(effects="pure")
    async def linger() -> str:
        """Take a while."""
        await asyncio.Event().wait()
        return "done"

    model = ScriptedLLM([calls(call("ask", what="colour"), call("linger"))])
    async with StatefulAgentLoop(llm=model, tools=[ask, linger], dsn=":memory:") as loop:
        session = await loop.new_session()
        sending = asyncio.create_task(loop.send("go", session))
        while not (asked := (await loop.get_pending(session) or {}).get("pending_interactions")):
            await asyncio.sleep(0)
        answering = asyncio.create_task(loop.submit_input(session, asked[0]["interaction_id"], "red"))
        await asyncio.sleep(0)  # the store is in memory: it stands in line now
        assert await loop.cancel(session)
        assert [(await sending).status, (await answering).status] == ["cancelled", "cancelled"]
    assert len(model.requests) == 1


# --- calls of unknown outcome --------------------------------------------------------------------------------


class Post:
    """Sends a letter, and is cut off before it can say so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.sent = 0

    def tools(self) -> list[Any]:
        @tool(effects="once")
        async def send(run: ToolRun, to: str) -> str:
            """Send."""
            self.sent += 1
            self.begun.set()
            await asyncio.Event().wait()
            return "sent"

        return [send]


async def cut_off(bank: Any, till: Any, post: Post) -> tuple[str, str]:
    """(a session whose call began and was cut off, the call)."""
    loop = await bank.loop(till, call("send", to="ann"), tools=post.tools())
    session = await loop.new_session()
    sending = asyncio.create_task(loop.send("go", session))
    await post.begun.wait()
    with pytest.raises(SessionBusyError):
        await loop.settle(session, (await loop.get_pending(session))["unknown_call_ids"][0], output="sent")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    pending = await loop.get_pending(session)
    return session, pending["unknown_call_ids"][0]


# acceptance: 122 (settle)
@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("failed", [False, True])
async def test_a_call_of_unknown_outcome_is_settled_by_who_looked(bank: Any, till: Any, parked: bool, failed: bool) -> None:
    post = Post()
    session, call_id = await cut_off(bank, till, post)
    loop = await bank.loop(till, tools=post.tools())
    if parked:
        (question,) = (await loop.resume(session, unknown="ask")).pending_interactions
        assert question["kind"] == "unknown"
        assert question["interaction_id"].startswith("input_")
    await loop.settle(session, call_id, output={"letters": 1}, failed=failed)
    with pytest.raises(ValueError, match=r"settled already|outcome is unknown"):
        await loop.settle(session, call_id, output="other")
    result = await loop.resume(session)
    assert (result.final_text, post.sent) == ('so: {"letters":1}', 1)
    (settled,) = await bank.records(loop, session, ToolReturned)
    assert (settled.outcome, settled.ran) == ("failed" if failed else "ok", False)


async def test_only_calls_of_unknown_outcome_can_be_settled(till_bank: Any, till: Any) -> None:
    loop, session, approval = await till_bank.waiting(till)
    for call_id in (approval.tool_call_id, "call_nobody"):
        with pytest.raises(ValueError, match="outcome is unknown"):
            await loop.settle(session, call_id, output="paid")
