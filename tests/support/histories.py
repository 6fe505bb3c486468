"""Histories that a session may hold: single records of every kind, and whole lives led by the kernel itself.

`Life` has chance in the place of the world: a model, tools, hooks, people and crashes. What it notes is what the
performers may note, so whatever it cannot reach need not work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from hypothesis import strategies as st

from power_loop.context.fold import cut
from power_loop.context.window import Window
from power_loop.contracts.codec import to_cells
from power_loop.contracts.effects import (
    CallModel,
    CheckOutput,
    Effect,
    EndSend,
    FoldContext,
    ReportCancelled,
    ReportDenied,
    ReportUnknown,
    Rest,
    RunTools,
)
from power_loop.contracts.limits import Limits
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import (
    Answered,
    CallCharged,
    ContextFolded,
    Decided,
    FoldSkipped,
    ModelReplied,
    Record,
    RoundSkipped,
    SendEnded,
    SendProjected,
    SendRested,
    SendResumed,
    StepChanged,
    StopRequested,
    ToolParked,
    ToolReturned,
    ToolStarted,
    UserSaid,
)
from power_loop.contracts.store import RecordRow
from power_loop.contracts.tool import Effects
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.decide import after_check, decide
from power_loop.kernel.hears import hears
from power_loop.kernel.state import IDLE, State, apply

T = TypeVar("T")

TOOLS: Mapping[str, Effects] = {"read": "pure", "save": "idempotent", "mail": "once"}
READ, SAVE, MAIL = ToolCall("c1", "read", "{}"), ToolCall("c2", "save", "{}"), ToolCall("c3", "mail", "{}")
USED = CallUsage(10, 5, calls=1)


def effects_of(name: str) -> Effects:
    return TOOLS[name]


# --- words for tables of cases ------------------------------------------------------------------


def said(text: str = "hi", **more: Any) -> UserSaid:
    return UserSaid(text, **more)


def replied(text: str = "", *calls: ToolCall, **more: Any) -> ModelReplied:
    return ModelReplied(text, calls, **{"usage": USED, "finish_reason": "tool_calls" if calls else "stop", **more})


def returned(call: ToolCall, output: str = "done", **more: Any) -> ToolReturned:
    return ToolReturned(call.id, output, name=call.name, **more)


def parked(call: ToolCall, interaction: str = "q1") -> ToolParked:
    return ToolParked(call.id, {"interaction_id": interaction, "kind": "input", "prompt": "which?"})


def rows_of(*records: Record) -> list[RecordRow]:
    """The rows that these records become when one send after the other says them."""
    life = Life(First(), Limits())
    for record in records:
        life.note(record)
    return life.rows


def window_of(rows: Sequence[RecordRow]) -> Window:
    window = Window()
    for row in rows:
        window.add(row)
    return window


# --- single records -------------------------------------------------------------------------------

# What databases and wires stumble over stands beside ordinary text.
awkward = st.sampled_from(["", " ", "\0", "a\0b", "\ud800", "x\udfffy", "😀", "漢字", '"\\', "\n\t", "'; --"])
texts = st.one_of(st.text(max_size=12), awkward)
words = st.sampled_from(["a", "b", "tool", "Ω"])
jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, jsons, max_size=3)
blocks = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), max_size=3)
contents = st.one_of(texts, blocks)
counts = st.integers(0, 10_000)
usages = st.builds(
    CallUsage, counts, counts, counts, counts, counts, st.integers(0, 3), st.none() | st.floats(0, 9), st.booleans()
)  # fmt: skip
scales = st.floats(0, 99)
tool_calls = st.lists(st.builds(ToolCall, words, words, texts), max_size=3).map(tuple)
unknown_policies = st.sampled_from(["report", "rerun", "ask"])
outcomes = st.sampled_from(["ok", "failed", "skipped", "aborted", "unknown", "denied"])

RECORDS: Mapping[type, st.SearchStrategy[Any]] = {
    UserSaid: st.builds(UserSaid, contents, st.none() | words, st.none() | objects, st.none() | texts, st.none() | objects),
    SendResumed: st.builds(SendResumed, counts, unknown_policies, st.none() | objects),
    ModelReplied: st.builds(
        ModelReplied, texts, tool_calls, st.sampled_from(["round", "limit_summary", "degraded"]), usages, texts, st.none() | texts,
        st.none() | texts, st.none() | texts, texts, st.none() | st.lists(objects, max_size=2),
    ),
    CallCharged: st.builds(CallCharged, words, usages, st.none() | texts, st.none() | texts),
    RoundSkipped: st.builds(RoundSkipped, texts),
    ToolStarted: st.builds(ToolStarted, words, st.none() | words, st.none() | texts),
    ToolParked: st.builds(ToolParked, words, objects),
    Decided: st.builds(Decided, texts, words, st.booleans(), st.none() | texts, st.none() | texts, texts, st.none() | counts),
    Answered: st.builds(Answered, texts, words, jsons),
    ToolReturned: st.builds(
        ToolReturned, words, contents, outcomes, st.none() | words, st.none() | objects, counts, st.booleans(), st.booleans()
    ),
    StopRequested: st.builds(StopRequested, words, texts, texts),
    ContextFolded: st.builds(ContextFolded, counts, texts, counts, counts, counts, counts, counts, scales),
    FoldSkipped: st.builds(FoldSkipped, texts, counts, counts, st.none() | st.tuples(words, counts)),
    SendProjected: st.builds(
        SendProjected, counts, words, st.integers(1, 9), st.lists(objects, max_size=2).map(tuple), counts, counts, scales
    ),
    SendRested: st.builds(SendRested, words, st.none() | objects),
    StepChanged: st.builds(StepChanged, words, objects),
    SendEnded: st.builds(SendEnded, words, texts, st.none() | objects),
}  # fmt: skip
any_record = st.one_of(*RECORDS.values())


# --- whole lives --------------------------------------------------------------------------------------


class Chance(Protocol):
    """Decides what the world does."""

    def one_of(self, options: Sequence[T]) -> T: ...

    def shuffled(self, items: Sequence[T]) -> list[T]: ...


class First:
    """No chance at all: always the first option."""

    def one_of(self, options: Sequence[T]) -> T:
        return options[0]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return list(items)


@dataclass
class Drawn:
    """Chance that Hypothesis draws, and shrinks."""

    draw: st.DrawFn

    def one_of(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(list(options)))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return self.draw(st.permutations(list(items)))


class Deed(NamedTuple):
    """One effect as it was performed."""

    before: State
    effect: Effect
    noted: int
    """How many records it left."""
    after: State


class Life:
    """One session: its records and rows, and the state and the window that they amount to."""

    MAX_VETOES = 2

    def __init__(self, chance: Chance, limits: Limits, *, folds: bool = False) -> None:
        self.chance, self.limits, self.folds = chance, limits, folds
        self.records: list[Record] = []
        self.rows: list[RecordRow] = []
        self.state, self.window = IDLE, Window()
        self.send_index = 0
        self.deeds: list[Deed] = []

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.records))

    def note(self, *records: Record) -> None:
        for record in records:
            before, self.state = self.state, apply(self.state, record)
            begins = before.idle and isinstance(record, UserSaid)
            self.send_index += begins
            inside = isinstance(record, (ToolReturned, ToolStarted)) or bool(before.open_calls)
            row = RecordRow(len(self.rows) + 1, self.send_index, 0 if begins else max(0, before.rounds - inside), to_cells(record))
            self.records.append(record)
            self.rows.append(row)
            self.window.add(row)

    def next(self, *, too_long: bool = False) -> Effect:
        return decide(self.state, self.limits, effects_of=effects_of, too_long=lambda: too_long)

    def lead(self, steps: int, *, quiet: bool = False) -> None:
        """Do ``steps`` things; ``quiet``: stop where the loop rests, and nobody says a word."""
        for _ in range(steps):
            effect = self.next(too_long=self.folds and self.chance.one_of((False, False, True)))
            if isinstance(effect, Rest):
                if quiet:
                    return
                self.outside()
                continue
            if not quiet and not self.chance.one_of((True, True, True, True, False)):
                self.interrupt()
                continue
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        before, noted = self.state, len(self.records)
        match effect:
            case CallModel(purpose=purpose):
                self.model(purpose)
            case CheckOutput():
                self.look()
            case RunTools(calls):
                self.tools(calls)
            case ReportUnknown(calls):
                for call in calls:
                    asks = self.state.unknown == "ask" and self.state.stop is None
                    self.note(parked(call, f"unknown_{call.id}") if asks else returned(call, "?", outcome="unknown", ran=False))
            case ReportDenied(calls):
                for call in calls:
                    self.note(returned(call, "?", outcome="denied", ran=False))
            case ReportCancelled(calls):
                self.abort(calls)
            case FoldContext():
                self.fold()
            case EndSend():
                self.end(effect)
            case Rest():
                pass
        self.deeds.append(Deed(before, effect, len(self.records) - noted, self.state))

    def look(self) -> None:
        follows = after_check(self.state, self.limits, self.chance.one_of((None, None, "not so")), "why")
        if isinstance(follows, EndSend):
            self.end(follows)
        else:
            self.note(follows)

    def model(self, purpose: str) -> None:
        signed = self.chance.one_of((None, [{"signature": "x"}]))
        match self.chance.one_of(("text", "calls", "calls", "calls", "empty", "blank", "fails", "cut", "skipped", "stopped")):
            case "text":
                self.note(replied(f"answer {len(self.rows)}", provider_blocks=signed, purpose=purpose))
            case "calls":
                self.note(replied(self.chance.one_of(("", "let me see")), *self.calls(), provider_blocks=signed, purpose=purpose))
            case "empty":
                self.note(replied(""))
            case "blank":
                self.note(replied(" \n"))
            case "fails":
                self.note(CallCharged("round", USED, "LLMError"), replied("[degraded: …]", purpose="degraded", usage=CallUsage()))
            case "cut":
                self.note(CallCharged("round", USED, "cancelled"), StopRequested("cancelled", "enough", "token"))
            case "skipped":
                self.note(RoundSkipped("not now"))
            case _:
                self.note(StopRequested("completed", "", self.chance.one_of(("round.start", "llm.before"))))

    def calls(self) -> list[ToolCall]:
        names = self.chance.one_of((("read",), ("mail",), ("read", "mail"), ("mail", "save", "mail")))
        return [ToolCall(f"call_{len(self.rows)}_{at}", name, "{}") for at, name in enumerate(names)]

    def tools(self, calls: Sequence[ToolCall]) -> None:
        started = [call for call in calls if TOOLS[call.name] == "once" and call.id not in self.state.started]
        self.note(*(ToolStarted(call.id) for call in started))
        for call in self.chance.shuffled(calls):
            match self.chance.one_of(("ok", "ok", "ok", "failed", "parked", "lost")):
                case "parked":
                    self.note(parked(call, f"q_{call.id}"))
                case "lost" if started:  # the process dies here, and another one goes on
                    return
                case outcome:
                    self.note(returned(call, f"result of {call.id}", outcome="failed" if outcome == "failed" else "ok"))

    def abort(self, calls: Sequence[ToolCall]) -> None:
        self.note(*(returned(call, "aborted", outcome="aborted", ran=False) for call in calls))

    def fold(self) -> None:
        part = cut(self.window, 1, self.chance.one_of((0, 20, 10_000)))
        if part is None or self.chance.one_of((False, False, True)):
            self.note(CallCharged("fold", USED, "LLMError"), FoldSkipped("the summary failed"))
        else:
            self.note(CallCharged("fold", USED), ContextFolded(part.through, f"summary {len(self.rows)}", part.through_send))

    def end(self, effect: EndSend) -> None:
        vetoed = self.state.vetoes < self.MAX_VETOES and self.chance.one_of((False, False, False, True))
        if effect.status == "completed" and self.state.stop is None and vetoed:
            self.note(said("not yet", name="hook"))
            return
        if effect.status == "hit_round_limit" and self.state.stop is None:
            self.note(replied(self.chance.one_of(("so far …", "")), purpose="limit_summary"))
        self.note(SendEnded(effect.status, effect.reason))

    def interrupt(self) -> None:
        """A word or a stop arrives while the send is under way."""
        word = self.chance.one_of((said("and also", name="follow_up"), StopRequested("cancelled", "enough", "cancel")))
        if hears(self.state, word):
            self.note(word)

    def outside(self) -> None:
        """The loop rests: somebody does something about it."""
        if self.state.idle:
            again = self.state.status not in ("", "completed") and self.chance.one_of((False, True))
            self.note(SendResumed(self.chance.one_of((0, 1))) if again else said(f"question {len(self.rows)}", overrides={"max_rounds": 3}))
            return
        match self.chance.one_of(("answer", "answer", "rest", "abort")):
            case "answer":
                call = self.chance.one_of([call for call in self.state.open_calls if call.id in self.state.parked])
                self.note(returned(call, "the answer", ran=False))
            case "rest":
                self.note(SendRested("waiting_for_input"), SendResumed(unknown=self.chance.one_of(("report", "rerun", "ask"))))
            case _:
                self.abort(self.state.open_calls)
                self.note(SendEnded("cancelled"))


@st.composite
def lives(draw: st.DrawFn, *, folds: bool = False, min_steps: int = 0, max_steps: int = 40) -> Life:
    """Any session that the kernel can lead to."""
    rounds, retries, reasks = draw(st.integers(1, 6)), draw(st.integers(0, 2)), draw(st.none() | st.integers(0, 2))
    life = Life(Drawn(draw), Limits(rounds=rounds, empty_retries=retries, output_retries=reasks), folds=folds)
    life.lead(draw(st.integers(min_steps, max_steps)))
    return life
