"""Whatever a session lived through: warm and cold show the same, every provider takes it, and every fold can be recalled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from histories import Drawn, Life, window_of
from hypothesis import given, settings
from hypothesis import strategies as st

from power_loop.context.fold import ROUNDS_KEPT, cut, results_to_cut
from power_loop.context.projected import ProjectedWindow, message_rows, window_for
from power_loop.context.represent import ProjectedRepresentation, Representation
from power_loop.context.window import Window
from power_loop.contracts.codec import from_cells
from power_loop.contracts.effects import CallModel
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import estimate_tokens
from power_loop.contracts.records import ContextFolded, FoldSkipped, Record, SendEnded, SendProjected
from power_loop.contracts.store import FAR, Head, RecordRow
from power_loop.kernel.history import History
from power_loop.providers.anthropic.request import wire_messages
from power_loop.runtime.window_rows import rows_of_a_window
from power_loop.testing.wire_rules import anthropic_problems, openai_problems

PROJECTED = ProjectedRepresentation(20)
SHOWN_AS = {"verbatim": None, "projected": PROJECTED}


class LifeWithFolds(Life):
    """As the runtime writes it: folds inside sends, results shown cut, and a projection with every end."""

    def __init__(self, chance: Any, limits: Limits, shown_as: Representation | None) -> None:
        super().__init__(chance, limits, folds=True)
        self.shown_as = shown_as
        self.window = window_for(shown_as, "s")

    def note(self, *records: Record) -> None:
        for record in records:
            if isinstance(record, SendEnded) and self.shown_as is not None and self.chance.one_of((True, True, True, False)):
                own = [row for row in self.rows if row.send_index == self.send_index and row.cells.role]
                made = self.shown_as.project_send(message_rows("s", own), send_index=self.send_index, tool_registry=None)
                told = tuple({"kind": row.kind, "content": row.content, "text": row.rendered_text} for row in made.rows)
                super().note(SendProjected(self.send_index, "projected", 1, told, own[0].seq, own[-1].seq, 1.5))
            super().note(record)

    def fold(self) -> None:
        window = self.window
        match self.chance.one_of(("fold", "fold", "deep", "deep", "cut", "fail")):
            case "cut" if (last := results_to_cut(window, 0)[0]) is not None:
                left = window.tokens
                self.note(FoldSkipped("cut", 0, left, (last[0], 5)))
            case "fold" | "deep" as how:
                part = cut(window, 2, self.chance.one_of((0, 30, 60)), limit_tokens=0 if how == "deep" else None)
                if part is None:
                    self.note(FoldSkipped("nothing to fold", tokens=window.tokens))
                    return
                # Only folds of a history from elsewhere do not say how much they left.
                summary, left = f"in short {len(self.rows)}", 40
                self.note(ContextFolded(part.through, summary, part.through_send, 9, left, part.keeps, part.rounds, 1.5))
            case _:
                self.note(FoldSkipped("failed", 1, window.tokens))


class Rows:
    """A store's log over a list, as far as a window reads it."""

    def __init__(self, rows: list[RecordRow]) -> None:
        self._rows = rows

    async def rows(
        self, session_id: str, *, after: int, whole_from: int = 0, projected: str | None = None, until: int = FAR
    ) -> list[RecordRow]:
        found = [row for row in self._rows if after < row.seq <= until]
        if until != FAR:
            return found
        marks = ("context_folded", "fold_skipped", *(() if projected else ("send_resumed",)))

        def wanted(row: RecordRow) -> bool:
            if row.seq >= whole_from or row.cells.kind in marks:
                return True
            return row.cells.name == projected if row.cells.kind == "send_projected" else row.cells.role is not None and projected is None

        return [row for row in found if wanted(row)]


def cold(life: LifeWithFolds, shown_as: Representation | None) -> Window:
    """The window of a process that reads the session now."""
    history = History()
    for row in life.rows:
        history.add(row, from_cells(row.cells))
    head = Head("s", history.seq, 1, send_index=history.send_index, send_seq=history.send_seq, fold_seq=history.fold_seq,
                fold_through=history.fold_through)  # fmt: skip
    after = min(head.fold_through, head.send_seq - 1) if head.head else 0
    window = window_for(shown_as, "s")
    for row in asyncio.run(rows_of_a_window(Rows(life.rows), head, after, shown_as)):  # type: ignore[arg-type]  # as much of a log as is asked for
        window.add(row)
    return window


def facts(window: Window) -> dict[str, Any]:
    return {
        "messages": window.messages,
        "open": window.with_open_round(),
        "tokens": window.tokens,
        "growth": window.growth(),
        "tried": (window.tried, window.in_vain),
        "borders": window.borders,
        "rounds": (window.rounds, window.rounds_covered),
        "estimate": window.estimate(10),
        "scale": window.scale(10),
        "digest": window.digest().text(),
        "waiting": window.unprojected(idle=True) if isinstance(window, ProjectedWindow) else None,
    }


def a_life(data: st.DataObject, shown_as: Representation | None) -> LifeWithFolds:
    return LifeWithFolds(Drawn(data.draw), Limits(rounds=data.draw(st.integers(2, 8))), shown_as)


# acceptance: 18 (folds and projections), 90 (rounds)
@pytest.mark.parametrize("axis", SHOWN_AS)
@given(st.data())
@settings(max_examples=60)
def test_a_cold_window_is_the_warm_one_after_every_step(axis: str, data: st.DataObject) -> None:
    life = a_life(data, SHOWN_AS[axis])
    for _ in range(data.draw(st.integers(1, 12))):
        life.lead(4)
        warm = facts(life.window)
        assert facts(cold(life, SHOWN_AS[axis])) == warm
        assert warm["tokens"] == estimate_tokens(warm["messages"])


@pytest.mark.parametrize("axis", SHOWN_AS)
@given(st.data())
@settings(max_examples=40)
def test_every_request_is_one_that_both_wires_take(axis: str, data: st.DataObject) -> None:
    life = a_life(data, SHOWN_AS[axis])
    for _ in range(40):
        if isinstance(life.next(), CallModel):
            messages = life.window.messages
            assert openai_problems(messages) == []
            bare = [{key: message[key] for key in message if key != "provider_blocks"} for message in messages]
            assert anthropic_problems({"messages": wire_messages(bare)}) == []
        life.lead(1)


# acceptance: 90 (rounds of the running send), 91 (every fold)
@pytest.mark.parametrize("axis", SHOWN_AS)
@given(st.data(), st.integers(1, 3), st.integers(0, 100))
@settings(max_examples=40)
def test_a_fold_keeps_whole_rounds_and_everything_it_covers_is_there_to_be_recalled(
    axis: str, data: st.DataObject, keep: int, target: int
) -> None:
    life = a_life(data, SHOWN_AS[axis])
    life.lead(30)
    window = life.window
    if life.state.open_calls:
        return
    part = cut(window, keep, target, limit_tokens=0)
    if part is None:
        return
    first_kept = next(row for row in life.rows if row.seq > part.through and row.cells.role)
    assert first_kept.cells.role != "tool"
    behind = window.messages[len(part.messages) :]
    if part.keeps:
        assert len([message for message in behind if message["role"] == "assistant"]) >= ROUNDS_KEPT
        assert life.rows[part.keeps - 1].cells.role == "user"
    word = [message for message in part.messages if part.keeps and message is window.messages[window.borders[-1].at]]
    before = len(life.rows)
    life.note(ContextFolded(part.through, "…", part.through_send, 0, 0, part.keeps, part.rounds))
    assert life.window.messages[1:] == word + behind
    covered = [row for row in life.rows[:before] if row.seq <= part.through and row.cells.role]
    assert all(row.cells.content is not None for row in covered)


@given(st.data())
@settings(max_examples=40)
def test_a_session_may_be_looked_at_in_either_way_whatever_was_written_in_the_other(data: st.DataObject) -> None:
    life = a_life(data, PROJECTED)
    life.lead(30)
    if life.state.open_calls or not life.rows:
        return
    plain = cold(life, None)
    verbatim = Window()
    for row in life.rows:
        verbatim.add(row)
    folds = [record for record in life.records if isinstance(record, (ContextFolded, FoldSkipped))]
    if not folds:
        assert plain.messages == verbatim.messages == window_of(life.rows).messages
    assert openai_problems([*plain.messages, {"role": "user", "content": "and?"}]) == []


def test_what_the_wires_refuse_is_found() -> None:
    """A check that finds nothing in bad messages proves nothing."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    use = {"role": "assistant", "content": "", "tool_calls": [call]}
    result, word = {"role": "tool", "tool_call_id": "c", "content": "x"}, {"role": "user", "content": "hi"}
    assert openai_problems([word, use, result]) == []
    for bad in ([word, use], [word, result], [word, use, word, result], [use, result], [word, {"role": "assistant", "content": " "}], []):
        assert openai_problems(bad), bad
    again = [word, use, result, use, result]
    assert "was used before" in openai_problems(again)[0]
    text = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    asks = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}
    told = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "x"}]}
    assert anthropic_problems({"messages": [text, asks, told]}) == []
    for bad in ([], [asks], [text, text], [text, asks], [text, asks, text], [text, told], [{"role": "user", "content": []}]):
        assert anthropic_problems({"messages": bad}), bad
