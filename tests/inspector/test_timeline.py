"""What the timeline says of a send besides its texts: keys, effects, unknown outcomes, folds; and how it ended although more followed."""

from __future__ import annotations

from typing import Any

from power_loop import StatefulAgentLoop, ToolRun, tool
from power_loop.contracts.codec import to_cells
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    CallCharged,
    ContextFolded,
    ModelReplied,
    SendEnded,
    SendResumed,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import RecordRow
from power_loop.contracts.usage import CallUsage
from power_loop.inspector.timeline import timeline
from power_loop.testing import ScriptedLLM, call, calls, say
from power_loop.testing.hand import Hand


def rows(*records: Any) -> list[RecordRow]:
    return [RecordRow(n, 1, 0, to_cells(record), created_at=1_000 * n) for n, record in enumerate(records, 1)]


async def test_a_call_is_shown_with_the_key_that_its_tool_was_given_and_its_class_of_effects(place: Any) -> None:
    keys: list[str] = []

    @tool(effects="once")
    def pay(run: ToolRun, euros: float) -> str:
        """Pay."""
        keys.append(run.idempotency_key)
        return "paid"

    @tool(effects="pure")
    def look(run: ToolRun, at: str) -> str:
        """Look."""
        keys.append(run.idempotency_key)
        return "seen"

    script = [
        calls(call("pay", euros=5.0), call("pay", euros=7.5)),
        call("look", at="it"),
        say("done"),
        call("pay", euros=1e3),
        say("done"),
    ]
    async with StatefulAgentLoop(llm=ScriptedLLM(script), store=place.store, tools=[pay, look]) as loop:
        await loop.new_session(session_id="keys")
        for _ in range(2):
            await loop.send("go", "keys")
    sends = (await place.browser.get("/api/timeline?id=keys")).json["sends"]
    shown = [made for send in sends for item in send["items"] for made in item.get("calls", ())]
    assert sorted(made["key"] for made in shown) == sorted(keys)
    assert [(made["name"], "began_at" in made) for made in shown] == [("pay", True), ("pay", True), ("look", False), ("pay", True)]


def test_a_call_of_unknown_outcome_counts_as_one_that_did_not_end_well() -> None:
    asked = ModelReplied("", (ToolCall("c1", "pay", "{}"),))
    (send,) = timeline(
        "s", rows(UserSaid("go"), asked, ToolStarted("c1"), ToolReturned("c1", "?", "unknown", ran=False), SendEnded("completed"))
    )
    assert (send["failed_calls"], send["items"][1]["calls"][0]["outcome"]) == (1, "unknown")


def test_a_fold_that_follows_a_send_is_shown_with_it_and_changes_neither_its_end_nor_its_time() -> None:
    ended = [UserSaid("go"), ModelReplied("yes"), SendEnded("completed")]
    folded = [CallCharged("fold", CallUsage(9, 1, calls=1)), ContextFolded(3, "what was said", 1, 90, 10)]
    (send,) = timeline("s", rows(*ended, *folded))
    assert (send["status"], send["took_ms"], send["prompt_tokens"]) == ("completed", 2_000, 9)
    assert [item["kind"] for item in send["items"]][-2:] == ["call_charged", "context_folded"]


def test_a_send_that_was_resumed_runs_until_it_ends_again() -> None:
    begun = [UserSaid("go"), ModelReplied("yes"), SendEnded("failed"), SendResumed()]
    assert timeline("s", rows(*begun))[0]["status"] == "running"
    assert timeline("s", rows(*begun, ModelReplied("well"), SendEnded("completed")))[0]["status"] == "completed"


async def test_a_session_whose_last_record_is_its_fold_is_listed_as_it_ended_and_its_requests_part_there(place: Any) -> None:
    await place.store.create_session(session_id="folds")
    hand = await Hand.of(place.store, "folds", "me")
    paid = CallUsage(9, 1, calls=1)
    await hand.take(UserSaid("about ships"), ModelReplied("yes"), SendEnded("completed"), UserSaid("more"), ModelReplied("well"))
    await hand.append(SendEnded("completed"), CallCharged("fold", paid, "it broke off"), CallCharged("fold", paid))
    await hand.release(ContextFolded(3, "ships", 1, 90, 10))
    lines = {line["session_id"]: line["outcome"] for line in (await place.browser.get("/api/sessions")).json["sessions"]}
    assert lines == {"folds": "completed", "demo": "completed"}
    await hand.take(UserSaid("and now?"), ModelReplied("now"))
    await hand.release(SendEnded("completed"))
    request = (await place.browser.get("/api/request?id=folds&seq=11")).json
    assert (request["previous_seq"], request["fold_seq"], request["common"], request["previous_messages"]) == (5, 9, 0, 3)
    assert [message["content"]["shown"] for message in request["gone"]] == ["about ships", "yes", "more"]
    assert [message["content"]["shown"] for message in request["messages"]][1:] == ["more", "well", "and now?"]
