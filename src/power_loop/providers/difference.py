"""Where two JSON values part: for people who ask why a replay did not match."""

from __future__ import annotations

import json
from typing import Any, cast

# How much is shown around the place.
_EXCERPT = 60


def first_difference(recorded: Any, asked: Any, path: str = "request") -> str:
    """The path of the first difference, and what stands there in each; empty where there is none."""
    if recorded == asked:
        return ""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        return _between_objects(cast("dict[str, Any]", recorded), cast("dict[str, Any]", asked), path)
    if isinstance(recorded, list) and isinstance(asked, list):
        return _between_lists(cast("list[Any]", recorded), cast("list[Any]", asked), path)
    if isinstance(recorded, str) and isinstance(asked, str):
        place = _parting(recorded, asked)
        return f"{path}, character {place}: recorded {_around(recorded, place)}, asked {_around(asked, place)}"
    return f"{path}: recorded {short(recorded)}, asked {short(asked)}"


def short(value: Any) -> str:
    """``value`` as JSON, cut."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2 * _EXCERPT else f"{text[: 2 * _EXCERPT]}…"


def _between_objects(recorded: dict[str, Any], asked: dict[str, Any], path: str) -> str:
    key = next(key for key in dict.fromkeys([*recorded, *asked]) if recorded.get(key) != asked.get(key))
    return first_difference(recorded.get(key), asked.get(key), f"{path}.{key}")


def _between_lists(recorded: list[Any], asked: list[Any], path: str) -> str:
    for place, (one, other) in enumerate(zip(recorded, asked, strict=False)):
        if one != other:
            return first_difference(one, other, f"{path}[{place}]")
    longer, who = (recorded, "only recorded") if len(recorded) > len(asked) else (asked, "only asked")
    place = min(len(recorded), len(asked))
    return f"{path}[{place}]: {who} {short(longer[place])}"


def _parting(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _around(text: str, place: int) -> str:
    start = max(0, place - _EXCERPT // 2)
    return repr(("…" if start else "") + text[start : place + _EXCERPT // 2])
