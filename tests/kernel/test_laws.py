"""The laws of the kernel, over whatever lives it can lead: see `histories.Life`."""

from __future__ import annotations

from collections import Counter

from histories import Drawn, Life, lives, said
from hypothesis import given
from hypothesis import strategies as st

from power_loop.contracts.codec import from_cells
from power_loop.contracts.effects import (
    CallModel,
    CheckOutput,
    EndSend,
    FoldContext,
    ReportCancelled,
    ReportDenied,
    ReportUnknown,
    Rest,
    RunTools,
)
from power_loop.contracts.limits import Limits
from power_loop.contracts.records import ModelReplied, SendEnded, StopRequested, ToolReturned, UserSaid
from power_loop.kernel.state import IDLE, State, apply, replay


@given(lives(folds=True), st.data())
def test_replay_is_a_fold(life: Life, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(life.records)))
    first, rest = life.records[:cut], life.records[cut:]
    assert replay(life.records) == replay(rest, replay(first)) == life.state


@given(lives(folds=True))
def test_a_process_that_reads_the_rows_stands_where_the_writer_stood(life: Life) -> None:
    assert replay(from_cells(row.cells) for row in life.rows) == life.state


@given(lives())
def test_the_first_word_of_a_send_begins_anew(life: Life) -> None:
    word = said(overrides={"max_rounds": 7})
    state = apply(life.state, SendEnded("completed"))
    assert apply(state, word) == apply(IDLE, word) == State(idle=False, overrides={"max_rounds": 7})


@given(lives())
def test_earlier_sends_leave_no_trace(life: Life) -> None:
    begins = [at for at, record in enumerate(life.records) if isinstance(record, UserSaid) and replay(life.records[:at]).idle]
    if begins:
        assert replay(life.records[begins[-1] :]) == life.state


@given(lives(folds=True))
def test_what_is_performed_is_noted_and_moves_the_send_on(life: Life) -> None:
    for deed in life.deeds:
        assert deed.noted > 0, deed.effect
        assert deed.after != deed.before, deed.effect


@given(lives(folds=True))
def test_an_effect_fits_its_state(life: Life) -> None:
    for state, effect, *_ in life.deeds:
        open_calls = set(state.open_calls)
        match effect:
            case RunTools(calls):
                assert calls
                assert set(calls) <= open_calls
                assert not {call.id for call in calls} & state.parked
                assert state.stop is None
            case ReportUnknown(calls):
                assert calls
                assert {call.id for call in calls} <= state.started
                assert set(calls) <= open_calls
            case ReportDenied(calls):
                assert calls
                assert set(calls) <= open_calls
                assert not {call.id for call in calls} & state.parked
                assert state.stop is None
            case ReportCancelled(calls):
                assert state.stop is not None
                assert calls == state.open_calls
            case CallModel() | FoldContext():
                assert not state.open_calls
                assert state.stop is None
            case EndSend():
                assert not state.open_calls
            case CheckOutput():
                assert state.answered
                assert state.stop is None
            case Rest():
                assert state.idle or state.open_calls


@given(lives(folds=True))
def test_every_call_is_answered_once_before_its_send_ends(life: Life) -> None:
    answers = Counter(record.call_id for record in life.records if isinstance(record, ToolReturned))
    assert set(answers.values()) <= {1}
    unanswered = set[str]()
    for record in life.records:
        if isinstance(record, ModelReplied):
            assert not unanswered, "a reply while calls are open"
            unanswered = {call.id for call in record.calls}
        elif isinstance(record, ToolReturned):
            unanswered.remove(record.call_id)
        elif isinstance(record, (UserSaid, SendEnded)):
            assert not unanswered, f"{record} while calls are open"
    assert unanswered == {call.id for call in life.state.open_calls}


@given(lives(folds=True))
def test_a_send_makes_no_more_rounds_than_it_may(life: Life) -> None:
    def bound(state: State) -> int:
        return life.limits.rounds + state.extra_rounds + state.reasks

    assert life.state.rounds <= bound(life.state)
    assert life.state.reasks <= (life.limits.output_retries or 0)
    assert all(state.rounds < bound(state) for state, effect, *_ in life.deeds if isinstance(effect, CallModel))


@given(st.data(), st.integers(1, 6), st.integers(0, 3), st.none() | st.integers(0, 3))
def test_the_loop_cannot_spin(data: st.DataObject, rounds: int, empty_retries: int, output_retries: int | None) -> None:
    """Whatever model and tools do: with nobody saying a word, the loop rests after a bounded number of effects."""
    limits = Limits(rounds=rounds, empty_retries=empty_retries, output_retries=output_retries)
    life = Life(Drawn(data.draw), limits, folds=True)
    life.note(said())
    # A round: fold, ask, run, report, and once more for each of its calls that dies under its process; then vetoes and the end.
    bound = (rounds + (output_retries or 0)) * (4 + 3 + 1) + Life.MAX_VETOES + 3
    life.lead(bound, quiet=True)
    assert isinstance(life.next(), Rest)
    assert len(life.deeds) < bound


@given(lives(folds=True), st.booleans())
def test_a_stop_ends_the_send_whatever_stands_open(life: Life, too_long: bool) -> None:
    if life.state.idle:
        return
    life.note(StopRequested("cancelled", "enough", "cancel"))
    for _ in range(3):
        life.perform(life.next(too_long=too_long))
    assert life.state.idle
    assert not life.state.open_calls


@given(lives(folds=True))
def test_deciding_changes_nothing(life: Life) -> None:
    assert life.next() == life.next()
    assert replay(life.records) == life.state
