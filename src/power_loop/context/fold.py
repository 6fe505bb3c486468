"""When older sends are folded into a summary, and where the border lies.

The summary itself is a model call and so the performer's business; this decides what it covers. Borders lie between
whole sends, and inside the send under way between whole rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from power_loop.context.shorten import is_longer, shortened
from power_loop.context.window import MOST_SCALE, Border, Window
from power_loop.contracts.messages import Message, estimate_message_tokens, estimate_tokens

# A fold is due again only when the window grew by this part of the budget, so that a session at the border
# pays for a summary now and then, not at every send.
GROWTH_PART = 10

# Of the send under way so many rounds always stay as they are.
ROUNDS_KEPT = 2

# What a tool result is cut to where nothing else makes a request fit.
CUT_CHARS = 400


class Cut(NamedTuple):
    """What a fold would replace."""

    through: int
    """seq of the last record that the summary covers."""
    through_send: int
    messages: list[Message]
    """What is shown of it now, the previous summary first."""
    keeps: int = 0
    """Inside a send: seq of the word that began it. It is among ``messages`` and stays all the same."""
    rounds: int = 0
    """So many rounds of that send are covered, those of earlier folds counted too."""


class Place(NamedTuple):
    """A border that a fold may choose."""

    border: Border
    keeps: int = 0
    rounds: int = 0


# --- when ---------------------------------------------------------------------------------------


def exceeds(window: Window, head_tokens: int, limit_tokens: int | None, more: int = 0) -> bool:
    """A request would have more tokens than ``limit_tokens`` (None: never).

    Estimated: ``head_tokens`` of system prompt and tools; ``more`` of messages that are about to be added.
    """
    if limit_tokens is None or (window.tokens + more + head_tokens) * MOST_SCALE <= limit_tokens:
        return False
    return window.estimate(head_tokens, more) > limit_tokens


def due(window: Window, head_tokens: int, fold_at_tokens: int | None, budget_tokens: int) -> bool:
    """The request has reached the trigger, and grew by a tenth of the budget since the last fold or attempt."""
    if fold_at_tokens is None or (window.tokens + head_tokens) * MOST_SCALE < fold_at_tokens:
        return False
    return window.estimate(head_tokens) >= fold_at_tokens and grown(window, head_tokens, budget_tokens)


def grown(window: Window, head_tokens: int, budget_tokens: int) -> bool:
    """Enough was added since the last fold or attempt for another one."""
    return not window.tried or window.growth() * window.scale(head_tokens) * GROWTH_PART >= budget_tokens


def of_messages(window: Window, head_tokens: int, tokens: int) -> int:
    """Of ``tokens`` by the provider's measure, what is left for messages, by ours."""
    plain = window.tokens + head_tokens
    return max(0, tokens * plain // max(1, window.estimate(head_tokens)) - head_tokens)


# --- where --------------------------------------------------------------------------------------


def cut(window: Window, keep_last_sends: int, target_tokens: int, *, limit_tokens: int | None = None) -> Cut | None:
    """Where to fold: whole sends, oldest first, all but the last ``keep_last_sends``, until the rest fits ``target_tokens``.

    Where that leaves more than ``limit_tokens`` (None: no limit), the other sends follow, then the older rounds of the
    last one. Both are estimated tokens of messages. None when there is nothing to fold.
    """
    last = len(window.borders) - keep_last_sends
    places = [Place(border) for border in window.borders[1 : max(0, last) + 1]]
    chosen = _fitting(window, places, target_tokens)
    if limit_tokens is not None and (chosen is None or _left(window, chosen) > limit_tokens):
        places = [*map(Place, window.borders[1:]), *_inner(window)]
        chosen = _fitting(window, places, target_tokens)
    if chosen is None:
        return None
    border, keeps, rounds = chosen
    through_send = border.send_index - (0 if keeps else 1)
    return Cut(border.seq - 1, through_send, window.messages[: border.at], keeps, rounds)


def _inner(window: Window) -> list[Place]:
    """The rounds of the last send that may begin behind a border."""
    if not window.borders:
        return []
    keeps, covered = window.borders[-1].seq, window.rounds_covered
    behind = window.rounds[1 : max(1, len(window.rounds) - ROUNDS_KEPT + 1)]
    return [Place(place, keeps, covered + number) for number, place in enumerate(behind, 1)]


def _fitting(window: Window, places: Sequence[Place], target_tokens: int) -> Place | None:
    """The first of ``places`` behind which no more than ``target_tokens`` stand, else the last."""
    left, at = window.tokens, 0
    for place in places:
        left -= estimate_tokens(window.messages[at : place.border.at])
        at = place.border.at
        if left + _word_tokens(window, place) <= target_tokens:
            return place
    return places[-1] if places else None


def _left(window: Window, place: Place) -> int:
    return window.tokens - estimate_tokens(window.messages[: place.border.at]) + _word_tokens(window, place)


def _word_tokens(window: Window, place: Place) -> int:
    """Of the word that stays although it lies before the border."""
    return estimate_message_tokens(window.messages[window.borders[-1].at]) if place.keeps else 0


# --- instead ------------------------------------------------------------------------------------


def results_to_cut(window: Window, target_tokens: int) -> tuple[tuple[str, int] | None, int]:
    """The last of the oldest results that have to be shown cut to reach ``target_tokens``, and what is left then."""
    left, last = window.tokens, None
    for message in window.messages:
        if left <= target_tokens:
            break
        if message.get("role") == "tool" and is_longer(message["content"], CUT_CHARS):
            left += estimate_message_tokens(shortened(message, CUT_CHARS)) - estimate_message_tokens(message)
            last = (str(message["tool_call_id"]), CUT_CHARS)
    return last, left
