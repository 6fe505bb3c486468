"""What of an event may leave the process: secrets hidden, long fields cut, and the rest as JSON takes it.

Most values hold no secret name and nothing too long: the encoder of `json` writes those, with the texts cleaned. The others
are walked through piece by piece. Which texts are secrets is `contracts.redact`'s business, so that errors, debug logs and
recordings hide the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from json import encoder
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NoReturn, cast

from power_loop.contracts.events import TEXT_DELTAS, AgentEvent, AgentEventType
from power_loop.contracts.redact import HIDDEN, SECRET_NAMES, are_pairs, is_secret_name, is_secret_named, redact, redact_text
from power_loop.contrib.pieces import Pieces
from power_loop.contrib.seen import REMEMBERED, Seen

__all__ = ["HIDDEN", "SECRET_NAMES", "Redactor", "is_secret_name", "redact", "redact_text"]

LIST_LIMIT = 50
CUT = "… (+"
CUT_JSON = quoted(CUT)[1:-1]
# What stands deeper than this is told as its kind; json recurses too.
DEPTH_LIMIT = 60
# A secret that begins before the cut is recognised by what follows; more than this of a long text is not read.
BEYOND_THE_CUT = 4096
# Longer numbers would not be read back: Python refuses to turn more than 4300 digits into an integer.
DIGITS_LIMIT = 4000
PLAIN = 1 << 62  # smaller numbers need no second look
# No number in so short a line is too long.
SHORT_LINE_CHARS = DIGITS_LIMIT // 2
STREAMED = TEXT_DELTAS | {AgentEventType.STREAM_COMPLETED}
CONSTANTS: dict[object, str] = {None: "null", True: "true", False: "false"}
HIDDEN_JSON = f'"{HIDDEN}"'

Writer = Callable[[Any, int], str]
"""Writes a value that stands at a depth as JSON."""


class Redactor:
    """Writes values as they may leave: ``***`` for secrets, long strings and lists cut with a count, all else plain JSON.

    ``redact_keys`` are the names under which secrets stand, as words: None for `SECRET_NAMES`, ``()`` for none.
    ``redact_values=False`` leaves texts that look like secrets. ``max_field_len`` is in characters; None cuts nothing.
    A call never raises, whatever it is given, and changes nothing that it is given.
    """

    def __init__(
        self,
        *,
        redact_keys: Iterable[str] | None = None,
        redact_values: bool = True,
        max_field_len: int | None = None,
        max_items: int | None = LIST_LIMIT,
    ) -> None:
        for name, limit in (("max_field_len", max_field_len), ("max_items", max_items)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} is {limit}; give a number above 0, or None to cut nothing")
        named = (redact_keys,) if isinstance(redact_keys, str) else redact_keys
        self._names: Collection[str] = SECRET_NAMES if named is None else tuple(named)
        self._values = redact_values
        self._keys: dict[str, tuple[str, bool]] = {}
        """Names that were seen: as JSON, with the colon, and whether what stands under them is hidden."""
        self._max_chars, self._max_items = max_field_len, max_items
        self._longest = PLAIN if max_field_len is None else max_field_len
        self._rules = self._names, redact_values, max_items
        self._places = Seen(_place)
        self._streams: dict[tuple[str | None, str], Pieces] = {}
        """Texts that models are writing."""
        self._straight = _encoder(Seen(self._plain).__getitem__)

    def __call__(self, value: Any) -> Any:
        """``value`` made ready, as plain data."""
        return json.loads(self.json(value))

    def json(self, value: Any) -> str:
        """``value`` made ready, as one line of JSON."""
        try:
            line = "".join(self._straight(value, 0))
        except Exception:  # `_plain`'s; the encoder's, of what JSON does not have; the value's own
            return self._walk(value)
        is_flat = "[" not in line and line.rfind("{") < 1
        return line if len(line) < SHORT_LINE_CHARS and (is_flat or self._is_small(line)) else self._walk(value)

    def _is_small(self, line: str) -> bool:
        """Whether nothing in ``line`` can be too many or too deep: a longer list has more commas, what stands deeper more brackets."""
        few = self._max_items is None or line.count(",") < self._max_items
        return few and line.count("{") + line.count("[") < DEPTH_LIMIT

    def _plain(self, text: str) -> str:
        """``text`` as JSON. Raises `ValueError` where it is cut, or hides what stands under or beside it."""
        if (self._max_chars is not None and len(text) > self._max_chars) or (self._names and is_secret_name(text, self._names)):
            raise ValueError("this takes a closer look")
        return quoted(redact_text(text, self._names) if self._values else text)

    def shown(self, event: AgentEvent) -> str:
        """How the line of ``event`` ends in every sink: its number and time, where it happened, what it says.

        It is written once for all that write alike: where nothing was cut, a limit that is wider here, or beyond all of the line,
        makes no difference.
        """
        if event.type in STREAMED:
            if event.type in TEXT_DELTAS and self._values:
                return self._line(event, {**event.payload, "text": self._piece(event)})
            self._forget_stream(event)
        if (known := event.shown) is not None:
            rules, longest, line = known
            if rules == self._rules and (longest <= self._longest or len(line) <= self._longest) and CUT_JSON not in line:
                return line
        line = self._line(event, event.payload)
        event.shown = self._rules, self._longest, line
        return line

    def _line(self, event: AgentEvent, payload: Mapping[str, Any]) -> str:
        place = self._places[event.session_id, event.round_index, event.source]
        return f'"seq":{event.seq},"ts":{event.ts!r},{place},"payload":{self.json(payload)}}}'

    def _piece(self, event: AgentEvent) -> str:
        """Of a text that comes in pieces, what shows no part of a secret; it may come with the next one."""
        stream = event.session_id, str(event.type)
        if stream not in self._streams and len(self._streams) >= REMEMBERED:
            del self._streams[next(iter(self._streams))]
        return self._streams.setdefault(stream, Pieces(self._clean)).take(str(event.payload.get("text") or ""))

    def _clean(self, text: str) -> str:
        return redact_text(text, self._names)

    def _forget_stream(self, event: AgentEvent) -> None:
        for type in TEXT_DELTAS:
            self._streams.pop((event.session_id, str(type)), None)

    def text(self, text: str) -> str:
        """``text`` without secrets, cut."""
        limit = self._max_chars
        if limit is None or len(text) <= limit:
            return redact_text(text, self._names) if self._values else text
        seen = text[: limit + BEYOND_THE_CUT]
        clean = redact_text(seen, self._names) if self._values else seen
        if len(seen) == len(text):
            return clean if len(clean) <= limit else f"{clean[:limit]}{CUT}{len(clean) - limit} chars)"
        # What hid long secrets brought the end of what was seen nearer; a secret may be cut in two there.
        shown = min(limit, max(0, len(clean) - BEYOND_THE_CUT))
        return f"{clean[:shown]}{CUT}{len(text) - shown} chars)"

    def _walk(self, value: Any, depth: int = 0) -> str:
        """The same of any value, piece by piece. ``depth`` is how deep it stands in another."""
        kind = cast("type[object]", type(value))
        if kind is str:
            return quoted(self.text(value))
        if value is None or value is True or value is False:
            return CONSTANTS[value]
        if kind is int or kind is float:
            return _number(value)
        if depth >= DEPTH_LIMIT:
            return quoted(f"<{kind.__name__}>")
        try:
            if kind is dict:
                return self._mapping(value, depth + 1)
            return self._other(value, depth + 1)
        except Exception:  # the value's own code: its iteration, its text
            return quoted(f"<{kind.__name__}>")

    def _other(self, value: Any, depth: int) -> str:
        match value:
            case str():
                return quoted(self.text(str.__str__(value)))
            case Mapping():
                return self._mapping(cast("Mapping[Any, Any]", value), depth)
            case list() | tuple() | set() | frozenset():
                return self._list(cast("Collection[Any]", value), depth)
            case bytes() | bytearray():
                return quoted(f"<{len(value)} bytes>")
            case int():
                return _number(int(value))
            case float():
                return _number(float(value))
            case _:
                return quoted(self.text(str(value)))

    def _mapping(self, value: Mapping[Any, Any], depth: int, write: Writer | None = None) -> str:
        named = "value" in value and bool(self._names) and is_secret_named(value, self._names)
        told: list[str] = []
        for key, inner in value.items():
            name, hides = self._name(_name_of(key))
            hides = hides or (named and key == "value")
            told.append(name + (self._hide if hides else write or self._walk)(inner, depth))
        return f"{{{','.join(told)}}}"

    def _name(self, name: str) -> tuple[str, bool]:
        known = self._keys.get(name)
        if known is None:
            hides = bool(self._names) and is_secret_name(name, self._names)
            known = f"{quoted(redact_text(name, self._names) if self._values else name)}:", hides
            if len(self._keys) < REMEMBERED:
                self._keys[name] = known
        return known

    def _list(self, value: Collection[Any], depth: int, write: Writer | None = None) -> str:
        if not value:
            return "[]"
        write = write or self._walk
        limit = len(value) if self._max_items is None else self._max_items
        if self._names and are_pairs(value):
            items = [self._pair(item, write, depth + 1) for item, _ in zip(value, range(limit), strict=False)]
        else:
            items = [write(item, depth) for item, _ in zip(value, range(limit), strict=False)]
        if len(value) > limit:
            items.append(quoted(f"{CUT}{len(value) - limit} items)"))
        return f"[{','.join(items)}]"

    def _pair(self, pair: Sequence[Any], write: Writer, depth: int) -> str:
        """A name and its value, as headers are written."""
        name, value = pair
        return f"[{write(name, depth)},{(self._hide if self._name(name)[1] else write)(value, depth)}]"

    def _hide(self, value: Any, depth: int) -> str:
        """What stands under a secret name: of it only numbers, and where nothing is, are told."""
        match value:
            case None | bool() | int() | float() | "":
                return self._walk(value, depth)
            case b"":
                return '""'
            case Mapping() if depth < DEPTH_LIMIT:
                return self._mapping(cast("Mapping[Any, Any]", value), depth + 1, self._hide)
            case list() | tuple() | set() | frozenset() if depth < DEPTH_LIMIT:
                return self._list(cast("Collection[Any]", value), depth + 1, self._hide)
            case _:
                return HIDDEN_JSON


def word(value: str | int | None) -> str:
    """A name, an id or a count, as JSON: it is no secret."""
    if type(value) is str:
        return quoted(value)
    if value is None:
        return "null"
    return int.__repr__(value) if isinstance(value, int) else quoted(str(value))  # a host's event may have anything there


def _place(place: tuple[str | None, int | None, str | None]) -> str:
    """Where an event happened, as members of an object."""
    session_id, round_index, source = map(word, place)
    return f'"session_id":{session_id},"round_index":{round_index},"source":{source}'


def _encoder(write: Callable[[str], str]) -> Callable[[Any, int], Iterable[str]]:
    """The encoder of `json` with ``write`` for its texts; where Python has none in C, one that refuses everything."""
    made: Any = getattr(encoder, "c_make_encoder", None)
    return _refuse if made is None else made(None, _refuse, write, None, ":", ",", False, False, False)


def _refuse(*_: object) -> NoReturn:
    raise TypeError("this is no JSON")


def _name_of(key: object) -> str:
    """As `json` names what is no text."""
    return CONSTANTS[key] if key is None or key is True or key is False else str(key)


def _number(value: int | float) -> str:
    """JSON has no infinity, and nobody reads an integer of thousands of digits back."""
    if -PLAIN < value < PLAIN:
        return repr(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else quoted(str(value))
    return repr(value) if value.bit_length() < 3 * DIGITS_LIMIT else quoted(f"<integer of {value.bit_length()} bits>")
