"""Cutting a list of messages down to a number of tokens, without parting a call from its result. Pure, for hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from power_loop.contracts.messages import estimate_tokens

AMessage = Mapping[str, Any]


def trim_history(messages: Sequence[AMessage], max_tokens: int, *, keep_system: bool = True, keep_last_n: int = 2) -> list[AMessage]:
    """The newest of ``messages`` that have no more than ``max_tokens`` together, estimated; new list, the same messages.

    An assistant's calls and their results stay or go together. Messages of the role system stay where ``keep_system``,
    and so do the last ``keep_last_n`` messages (with what belongs to them), even where that is too much.
    """
    if max_tokens < 0 or keep_last_n < 0:
        raise ValueError(f"trim_history needs max_tokens >= 0 and keep_last_n >= 0, not {max_tokens} and {keep_last_n}")
    groups = list(grouped(messages))
    room = max_tokens - sum(_tokens(messages, group) for group in groups if keep_system and _is_system(messages, group))
    kept: set[int] = set()
    for group in reversed(groups):
        if keep_system and _is_system(messages, group):
            kept.update(group)
            continue
        room -= _tokens(messages, group)
        if room < 0 and group[-1] < len(messages) - keep_last_n:
            room = -1  # what is older than something that went goes too
            continue
        kept.update(group)
    return [message for at, message in enumerate(messages) if at in kept]


def grouped(messages: Sequence[AMessage]) -> Iterable[list[int]]:
    """Places of the messages that belong together: calls with their results, every other message alone."""
    group: list[int] = []
    for at, message in enumerate(messages):
        if group and message.get("role") != "tool":
            yield group
            group = []
        group.append(at)
    if group:
        yield group


def _tokens(messages: Sequence[AMessage], group: Sequence[int]) -> int:
    return estimate_tokens([messages[at] for at in group])


def _is_system(messages: Sequence[AMessage], group: Sequence[int]) -> bool:
    return messages[group[0]].get("role") == "system"
