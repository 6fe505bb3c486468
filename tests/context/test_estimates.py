"""How long a request is: by the provider's own count where it gave one, and how history is trimmed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from histories import READ, replied, rows_of, said, window_of
from hypothesis import given
from hypothesis import strategies as st

from power_loop import AgentLoopConfig, LLMSummaryFold, estimate_text_tokens, estimate_tokens, trim_history
from power_loop.context.pairing import pairing_problem
from power_loop.contracts.records import ContextFolded, SendEnded
from power_loop.contracts.usage import CallUsage
from power_loop.testing import say

ENDED = SendEnded("completed")


def counted(prompt: int, estimated: bool = False) -> CallUsage:
    return CallUsage(prompt, 5, calls=1, estimated=estimated)


# acceptance: 171 (uncalibrated)
def test_a_cjk_character_is_about_a_token_and_a_latin_letter_a_quarter() -> None:
    assert 700 <= estimate_text_tokens("漢" * 1000) <= 1000
    assert estimate_text_tokens("x" * 1000) == 250
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    assert estimate_tokens([picture]) == 765 + 4


# acceptance: 171 (calibrated)
@pytest.mark.parametrize("ratio", [0.6, 0.8, 1.0, 1.3, 2.0, 4.0])
def test_after_a_reply_the_estimate_is_near_what_the_provider_counts(ratio: float) -> None:
    text = "some words of the same kind " * 80
    head = 50

    def truly(tokens: int) -> int:
        return int((tokens + head) * ratio)

    first = window_of(rows_of(said(text))).tokens
    window = window_of(rows_of(said(text), replied(text, usage=counted(truly(first))), ENDED, said("and " * 20)))
    assert abs(window.estimate(head) - truly(window.tokens)) / truly(window.tokens) <= (0.15 if ratio >= 1 else 0.45)
    again = [said(text), replied(text, usage=counted(truly(first)))]
    second = window_of(rows_of(*again, ENDED, said("go on"))).tokens
    rows = rows_of(*again, ENDED, said("go on"), replied("yes", usage=counted(truly(second))))
    window = window_of(rows)
    assert abs(window.estimate(head) - truly(window.tokens)) / truly(window.tokens) <= 0.15


@pytest.mark.parametrize("hidden", [100, 350, 2000])
def test_what_a_provider_puts_before_every_request_is_not_counted_again_with_what_is_added(hidden: int) -> None:
    head = 50
    window = window_of(rows_of(said("hi"), replied("yes?", usage=counted(60 + hidden)), ENDED, said("word " * 8000)))
    truly = window.tokens + head + hidden
    assert truly <= window.estimate(head) <= truly * 1.05
    assert window.scale(head) < 1.3  # and a fold hands that on


def test_an_estimate_of_ours_calibrates_nothing() -> None:
    plain = window_of(rows_of(said("x" * 400), replied("yes", usage=counted(9999, estimated=True))))
    assert plain.estimate(0) == plain.tokens
    silent = window_of(rows_of(said("x" * 400), replied("yes", usage=CallUsage(calls=1))))
    assert silent.estimate(0) == silent.tokens


def test_a_count_beyond_belief_is_believed_in_part() -> None:
    window = window_of(rows_of(said("x" * 4000), replied("yes", usage=counted(3))))
    assert window.estimate(0) == window.tokens // 2


def test_a_fold_hands_on_what_a_token_costs() -> None:
    window = window_of(rows_of(said("x" * 400), replied("yes"), ENDED, said("hm"), ContextFolded(3, "x" * 400, 1, scale=2.0)))
    assert window.estimate(0) == window.tokens * 2


# acceptance: 171 (in a loop)
async def test_a_fold_is_due_by_the_providers_count(desk: Any) -> None:
    desk.answers(lambda request: say("short", prompt_tokens=3 * estimate_tokens(request.messages) + 300))
    loop = desk.loop(context_tokens=4000)
    session = await loop.new_session()
    for _ in range(6):
        await loop.send("word " * 200, session)
    await loop.aclose()
    assert estimate_tokens(desk.requests[-1].messages) < 3000, "by our own estimate it would not be due"
    assert desk.folds


# --- by hand ---------------------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "be brief"}
ASKED = {"role": "assistant", "content": "", "tool_calls": [READ.to_message()]}
RESULT = {"role": "tool", "tool_call_id": READ.id, "content": "x" * 400}
OLD, NEW = {"role": "user", "content": "o" * 400}, {"role": "user", "content": "new"}


def test_trimming_keeps_the_newest_that_fit_and_never_half_of_a_pair() -> None:
    history = [SYSTEM, OLD, ASKED, RESULT, NEW]
    assert trim_history(history, 10_000) == history
    assert trim_history(history, 150) == [SYSTEM, ASKED, RESULT, NEW]
    assert trim_history(history, 20, keep_last_n=1) == [SYSTEM, NEW]
    assert trim_history(history, 0) == [SYSTEM, ASKED, RESULT, NEW], "the last two stay, with what belongs to them"
    assert trim_history(history, 0, keep_last_n=0, keep_system=False) == []
    with pytest.raises(ValueError, match="trim_history"):
        trim_history(history, -1)


@given(st.lists(st.sampled_from(["word", "pair"]), max_size=8), st.integers(0, 300), st.integers(0, 4))
def test_whatever_is_trimmed_is_a_sound_tail(kinds: list[str], max_tokens: int, keep: int) -> None:
    history: list[Any] = []
    for at, kind in enumerate(kinds):
        if kind == "word":
            history.append({"role": "user", "content": "w" * 40})
        else:
            call = {**READ.to_message(), "id": f"c{at}"}
            asked = {"role": "assistant", "content": "", "tool_calls": [call]}
            history += [asked, {"role": "tool", "tool_call_id": f"c{at}", "content": "r"}]
    kept = trim_history(history, max_tokens, keep_last_n=keep)
    assert pairing_problem(kept) is None
    assert kept == history[len(history) - len(kept) :]
    assert estimate_tokens(kept) <= max_tokens or len(kept) <= keep + 1


# --- the trigger -----------------------------------------------------------------------------------------------


def test_an_absolute_trigger_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AgentLoopConfig(context_tokens=1000)
    assert config.fold_at_tokens() == 750
    monkeypatch.setenv("CONTEXT_COMPACT_THRESHOLD", "123")
    assert config.fold_at_tokens() == 123
    monkeypatch.setenv("CONTEXT_COMPACT_THRESHOLD", "")
    assert config.fold_at_tokens() == 750
    monkeypatch.setenv("CONTEXT_COMPACT_THRESHOLD", "many")
    with pytest.raises(ValueError, match="CONTEXT_COMPACT_THRESHOLD is 'many'"):
        config.fold_at_tokens()


class Remembers:
    """As much of a memory as a configuration looks at."""

    async def recall(self, *, messages: Any, session_id: str, budget_tokens: int = 1500) -> list[Any]:
        return []

    async def remember(self, *, snapshot: Any, session_id: str) -> None:
        return None


# acceptance: 93
async def test_memory_has_room_of_its_own_and_lowers_the_trigger_by_it(desk: Any) -> None:
    plain, remembering = AgentLoopConfig(context_tokens=4000), AgentLoopConfig(context_tokens=4000, memory=Remembers())
    assert (plain.effective_context_budget(), remembering.effective_context_budget()) == (4000, 2500)
    assert (plain.fold_at_tokens(), remembering.fold_at_tokens()) == (3000, 1875)
    assert AgentLoopConfig(context_tokens=4000, memory=Remembers(), builtin_memory_hook=False).fold_at_tokens() == 3000
    assert AgentLoopConfig(context_tokens=100, memory=Remembers()).effective_context_budget() == 1
    desk.answers(lambda _: say("word " * 200))
    folds: list[int] = []
    for memory in (None, Remembers()):
        desk.folds.clear()
        loop = desk.loop(context_tokens=4000, memory=memory, fold_strategy=LLMSummaryFold(keep_last_sends=1))
        session = await loop.new_session()
        for _ in range(4):
            await loop.send("word " * 200, session)
        await loop.aclose()
        folds.append(len(desk.folds))
    assert folds == [0, 1]
