"""Fold strategies: what they are given, what they may give back, the notes of the agentic one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from power_loop import (
    AgenticFold,
    FoldContext,
    FoldResult,
    FoldStrategy,
    LLMSummaryFold,
    ModelCapabilities,
    NeverFold,
    NoteOp,
    NotesPolicy,
    ProjectedRepresentation,
    ProjectMessageRow,
    VerbatimRepresentation,
    tool,
)
from power_loop.contracts.errors import LLMError
from power_loop.testing import FunctionLLM, call, calls, fail, say

WORDS = "word " * 400
BOTH = pytest.mark.parametrize("representation", [VerbatimRepresentation(), ProjectedRepresentation()], ids=["verbatim", "projected"])


async def folded(desk: Any, strategy: Any, sends: int = 3, **config: Any) -> str:
    """A session whose fold was made, and heard by one more send; its id."""
    desk.answers(lambda _: say(WORDS))
    loop = desk.loop(**{"context_tokens": 4000, "fold_strategy": strategy, **config})
    session = await loop.new_session()
    for n in range(sends):
        await loop.send(f"question {n} {WORDS}", session)
    await loop.aclose()
    await desk.loop(**{"context_tokens": 100_000, **config}).send("and now?", session)
    return session


class Own:
    """A plain class: no inheritance."""

    fold_id = "own"
    keep_last_sends = 1
    trigger_ratio = 0.75

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer or (lambda rows, context: FoldResult(f"{len(rows)} sends", rows[-1].send_index))
        self.rows: Sequence[ProjectMessageRow] = ()
        self.context: FoldContext | None = None

    async def fold(self, rows: Sequence[ProjectMessageRow], *, context: FoldContext) -> FoldResult | None:
        self.rows, self.context = rows, context
        return self.answer(rows, context)


# acceptance: 87 (a strategy of the host's)
@BOTH
async def test_a_plain_class_is_a_strategy_and_is_given_one_row_per_send(desk: Any, representation: Any) -> None:
    own = Own()
    assert isinstance(own, FoldStrategy)
    session = await folded(desk, own, 3, representation=representation)
    assert [(row.session_id, row.send_index) for row in own.rows] == [(session, 1), (session, 2)]
    assert {row.kind for row in own.rows} == {"verbatim" if isinstance(representation, VerbatimRepresentation) else "project"}
    assert own.rows[0].content[0]["content"].endswith(WORDS)
    assert own.rows[0].rendered_text.startswith("user: ")
    assert own.rows[0].token_estimate > 500
    context = own.context
    assert context is not None
    assert (context.session_id, context.max_tokens, context.previous) == (session, 4000, "")
    assert context.current_tokens > 2000
    assert context.representation is representation
    note = desk.requests[-1].messages[0]
    assert "sends 1 to 2" in note["content"]
    assert note["content"].endswith("2 sends")


async def test_it_may_fold_less_than_it_is_given_and_show_another_text(desk: Any) -> None:
    own = Own(lambda rows, context: FoldResult("kept for others", rows[0].send_index, "what the model reads"))
    await folded(desk, own, 3)
    messages = desk.requests[-1].messages
    assert "sends 1 to 1" in messages[0]["content"]
    assert messages[0]["content"].endswith("what the model reads")
    assert messages[1]["content"].startswith("question 1")


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows, context: None,
        lambda rows, context: FoldResult("", 1),
        lambda rows, context: FoldResult("too far", 3),
        lambda rows, context: FoldResult("nowhere", 0),
        lambda rows, context: "a text",
        lambda rows, context: 1 / 0,
    ],
)
async def test_what_is_no_fold_leaves_history_as_it_was(desk: Any, answer: Any) -> None:
    await folded(desk, Own(answer), 3)
    assert desk.requests[-1].messages[0]["content"].startswith("question 0")


async def test_the_send_under_way_may_be_named_only_for_its_closed_rounds(desk: Any) -> None:
    @tool(effects="pure")
    def read(part: int) -> str:
        """Read a part."""
        return "x" * 4000

    asked = iter(range(1, 6))
    own = Own()
    desk.answers(lambda _: call("read", part=part) if (part := next(asked, None)) else say("done"))
    result = await desk.loop(tools=[read], context_tokens=4500, fold_strategy=own).run("go")
    assert result.status == "completed"
    assert [row.send_index for row in own.rows] == [1]
    assert sum(message["role"] == "tool" for message in own.rows[0].content) >= 1
    assert [message["role"] for message in desk.requests[-1].messages].count("tool") >= 2


@BOTH
async def test_the_plain_summary_is_on_offer_to_every_strategy(desk: Any, representation: Any) -> None:
    class Polite(Own):
        async def fold(self, rows: Any, *, context: FoldContext) -> FoldResult | None:
            return FoldResult("Dear model: " + await context.summarise(rows, max_tokens=77), rows[-1].send_index)

    await folded(desk, Polite(), 3, representation=representation)
    assert desk.requests[-1].messages[0]["content"].endswith("Dear model: in short")
    assert desk.folds[0].max_tokens == 77


# --- what the summariser reads -----------------------------------------------------------------------


async def test_the_summariser_reads_no_more_than_its_window_in_slices(desk: Any) -> None:
    window = ModelCapabilities(context_window=1500)
    asked: list[Any] = []

    def summarise(request: Any) -> Any:
        asked.append(request)
        return say(f"<summary>summary {len(asked)}</summary>")

    small = FunctionLLM(summarise, capabilities=window)
    await folded(desk, LLMSummaryFold(keep_last_sends=1, summary_max_tokens=200, summary_llm=small), 3)
    assert len(asked) > 1
    assert all(len(request.messages[0]["content"]) / 4 + 200 < 1500 for request in asked)
    assert asked[1].messages[0]["content"].startswith("earlier summary: summary 1")
    whole = "".join(request.messages[0]["content"] for request in asked)
    assert all(f"question {n}" in whole for n in range(2))
    assert desk.requests[-1].messages[0]["content"].endswith(f"summary {len(asked)}")


async def test_the_summary_of_before_goes_into_the_next_one(desk: Any) -> None:
    count = iter(range(1, 100))
    desk.summary = lambda _: say(f"<summary>summary {next(count)}</summary>")
    desk.answers(lambda _: say(WORDS))
    loop = desk.loop(context_tokens=4000, fold_strategy=LLMSummaryFold(keep_last_sends=1))
    session = await loop.new_session()
    for n in range(7):
        await loop.send(f"question {n} {WORDS}", session)
    assert len(desk.folds) > 1
    assert desk.folds[1].messages[0]["content"].startswith("earlier summary: summary 1\nuser: question")


# --- notes ------------------------------------------------------------------------------------------------


# acceptance: 92
@BOTH
async def test_the_agentic_fold_keeps_notes_and_updates_those_that_are_there(desk: Any, representation: Any) -> None:
    def summarise(request: Any) -> Any:
        if len(request.messages) > 1:
            return say("<summary>the rest</summary>")
        added = call("note_add", content="The ship is called Ada.", pinned=True)
        return calls(added, call("note_update", note_id=1, content="It is green."))

    desk.summary = summarise
    desk.answers(lambda _: say(WORDS))
    loop = desk.loop(context_tokens=4000, fold_strategy=AgenticFold(keep_last_sends=1), representation=representation)
    session = await loop.new_session()
    await desk.store.add_note(session, "It is blue.")
    for n in range(3):
        await loop.send(f"question {n} {WORDS}", session)
    await loop.aclose()
    notes = await desk.store.list_notes(session)
    kept = [(note.note_id, note.content, note.pinned) for note in notes]
    assert kept == [(1, "It is green.", False), (2, "The ship is called Ada.", True)]
    assert "#1: It is blue." in desk.folds[0].messages[0]["content"], "the numbers are visible"
    assert [tool["function"]["name"] for tool in desk.folds[0].tools] == ["note_add", "note_update"]
    assert desk.folds[1].messages[2]["content"] == "Noted."
    await desk.loop().send("and now?", session)
    assert [row.purpose for row in await desk.store.list_usage(session)].count("fold") == 1
    assert desk.folds[0].temperature == 0.0


async def test_notes_stay_within_their_policy(desk: Any) -> None:
    answers: list[str] = []

    def summarise(request: Any) -> Any:
        if len(request.messages) > 1:
            answers.extend(message["content"] for message in request.messages if message["role"] == "tool")
            return say("<summary>done</summary>")
        return calls(
            call("note_add", content="one"), call("note_add", content="two"), call("note_add", content="x" * 99),
            call("note_update", note_id=9, content="no such"), call("note_delete", note_id=1), call("note_add"),
        )  # fmt: skip

    desk.summary = summarise
    session = await folded(desk, AgenticFold(keep_last_sends=1), 3, notes_policy=NotesPolicy(max_notes=1, max_note_chars=20))
    assert [note.content for note in await desk.store.list_notes(session)] == ["one"]
    assert answers[0] == "Noted."
    assert all(answer.startswith("Error: ") for answer in answers[1:])


# acceptance: 170 (the agentic prompt)
@BOTH
async def test_the_agentic_prompt_is_the_hosts(desk: Any, representation: Any) -> None:
    await folded(desk, AgenticFold(keep_last_sends=1, system_prompt="Mind the ships."), 3, representation=representation)
    assert desk.folds[0].system_prompt == "Mind the ships."


@pytest.mark.parametrize("trouble", ["raises", "never writes a summary", "cannot take tools"])
async def test_the_plain_summary_stands_in_for_an_agentic_fold_that_fails(desk: Any, trouble: str) -> None:
    def summarise(request: Any) -> Any:
        if request.system_prompt == "agentic":
            return fail(LLMError("no")) if trouble == "raises" else call("note_add", content=f"note {len(request.messages)}")
        return say("<summary>plainly</summary>")

    own = FunctionLLM(summarise, capabilities=ModelCapabilities(tools=False if trouble == "cannot take tools" else None))
    await folded(desk, AgenticFold(keep_last_sends=1, system_prompt="agentic", max_rounds=3, summary_llm=own), 3)
    assert desk.requests[-1].messages[0]["content"].endswith("plainly")
    asked = [request.system_prompt == "agentic" for request in own.requests]
    assert asked.count(True) == {"raises": 1, "never writes a summary": 3, "cannot take tools": 0}[trouble]


async def test_a_note_op_of_any_strategy_is_kept(desk: Any) -> None:
    ops = (NoteOp("add", "remember me"), NoteOp("update", "x", note_id=7))
    own = Own(lambda rows, context: FoldResult("short", rows[-1].send_index, note_ops=ops))
    session = await folded(desk, own, 3)
    assert [note.content for note in await desk.store.list_notes(session)] == ["remember me"]


@pytest.mark.parametrize("strategy", [LLMSummaryFold(), AgenticFold(), NeverFold(), Own()])
def test_all_of_them_keep_the_protocol(strategy: Any) -> None:
    assert isinstance(strategy, FoldStrategy)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="AgenticFold needs max_rounds"):
        AgenticFold(max_rounds=0)
    with pytest.raises(ValueError, match="AgenticFold needs keep_last_sends"):
        AgenticFold(keep_last_sends=0)


# acceptance: 87 (each with each)
@BOTH
@pytest.mark.parametrize("strategy", [LLMSummaryFold(keep_last_sends=1), AgenticFold(keep_last_sends=1), NeverFold(), Own()])
async def test_each_representation_works_with_each_strategy(desk: Any, strategy: Any, representation: Any) -> None:
    session = await folded(desk, strategy, 4, representation=representation)
    folds = await desk.store.list_compactions(session)
    assert bool(folds) is not isinstance(strategy, NeverFold)
    first = desk.requests[-1].messages[0]
    assert (first.get("name") == "compact_note") is bool(folds)
