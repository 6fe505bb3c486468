"""Arguments of tool calls, as a wire takes them: one JSON object each.

Models write what is none, or JSON with raw newlines, NaN and the like. Servers that read the calls of a history (vLLM, llama.cpp)
refuse it, and with it every later request of the session. So it goes out as an object that shows what was written.
"""

from __future__ import annotations

import json
from math import isinf
from typing import Any, cast


def as_object(written: str) -> dict[str, Any]:
    """What a model wrote as arguments; what is no object is shown as it was written, never as an empty one."""
    read = _read(written.strip() or "{}", LENIENT)
    return {"unreadable_arguments": written} if read is None else read


def as_text(written: str) -> str:
    """``written`` itself where every server can read it, else the JSON of what stands for it."""
    return json.dumps(as_object(written), ensure_ascii=False) if _read(written, STRICT) is None else written


def _read(written: str, decoder: json.JSONDecoder) -> dict[str, Any] | None:
    try:
        value = decoder.decode(written)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _finite(written: str) -> float:
    value = float(written)
    if isinf(value):
        raise ValueError(f"{written} is larger than JSON can say again")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
# What the tools were called with: raw newlines and tabs in strings are read there too.
LENIENT = json.JSONDecoder(strict=False, parse_constant=_refuse, parse_float=_finite)
