"""Which text every database can keep as it is, and how the rest is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

Json = TypeVar("Json")

# The longest key that every engine indexes.
MAX_KEY_CHARS = 191

# What providers take as a name, of a function, a schema or whoever speaks (platform.openai.com, docs.anthropic.com: the same pattern).
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")
NAME_CHARS = 64


def encodes(text: str) -> bool:
    """It has UTF-8: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def wire_name(text: str) -> str:
    """``text`` as a name that every provider takes: other characters are ``_``, and it ends after 64."""
    return NOT_IN_A_NAME.sub("_", text)[:NAME_CHARS]


def without_lone_surrogates(value: Json) -> Json:
    """A JSON value with U+FFFD for half characters, which have no UTF-8; a model's JSON escapes may contain them."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def findable(params: Sequence[Any]) -> Sequence[Any]:
    """``params`` as a database can be asked for them: text that none keeps equals nothing there. TypeError for what is no value."""
    return [_findable(each) for each in params]


def _findable(value: Any) -> Any:
    if isinstance(value, str):
        return None if "\0" in value or not (value.isascii() or encodes(value)) else value
    if value is None or isinstance(value, (int, float, bytes)):
        return value
    raise TypeError(f"a database is asked for text, numbers or bytes, not for {value!r:.60} ({type(value).__name__})")


def check_is_text(what: str, given: str | None) -> None:
    """TypeError for what is neither text nor None."""
    if given is not None and not isinstance(cast("Any", given), str):
        raise TypeError(f"{what} takes text, not {type(given).__name__}")


def check_text(what: str, text: str | None) -> None:
    """ValueError when a database could not keep ``text`` character by character; TypeError where it is none."""
    check_is_text(what, text)
    if text is not None and ("\0" in text or not (text.isascii() or encodes(text))):
        raise ValueError(f"{what} holds a NUL character or a lone surrogate, which is no text that a database keeps; take it out")


def metadata_in(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A copy of what was given. TypeError for what is no mapping."""
    if given is not None and not isinstance(cast("Any", given), Mapping):
        raise TypeError(f"metadata takes a mapping, not {type(given).__name__}")
    return None if given is None else dict(given)


def check_key(what: str, key: str | None) -> None:
    """ValueError when some engine could not tell ``key`` from others; TypeError where it is no text."""
    check_is_text(what, key)
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARS and (key.isascii() or encodes(key)) and "\0" not in key):
        raise ValueError(f"{what} {key!r:.60} cannot be kept: give 1 to {MAX_KEY_CHARS} characters without NUL and lone surrogates")
