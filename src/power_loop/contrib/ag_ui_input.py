"""What an AG-UI interface asks of a run: a message, or answers to what the last run waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from power_loop.contracts.text import check_key


def run_key(*ids: str) -> str:
    """The key of what a run says: of its message, or of its answer to a question."""
    return ":".join(("ag-ui", *ids))


@dataclass(frozen=True)
class Answer:
    """One entry of ``resume``: the answer to a parked call, or that there will be none."""

    interaction_id: str
    cancelled: bool
    payload: Any

    @property
    def approves(self) -> bool:
        """For an approval: ``true``, or an object that says ``approved``."""
        return not self.cancelled and (self.payload is True or self._fields.get("approved") is True)

    @property
    def note(self) -> str | None:
        note = self._fields.get("note")
        return str(note) if note else None

    @property
    def _fields(self) -> Mapping[str, Any]:
        given: object = self.payload
        return cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}


@dataclass(frozen=True)
class RunInput:
    """As much of a ``RunAgentInput`` as concerns a loop, which keeps the conversation itself."""

    thread_id: str
    run_id: str
    said: str | list[dict[str, Any]] | None
    """The last message, where it is the user's."""
    answers: tuple[Answer, ...] = ()


def run_input_of(given: Any) -> RunInput:
    """``given``, a mapping or the model of the protocol's own package, taken apart. Raises `ValueError` for what is none."""
    dump = getattr(given, "model_dump", None)  # of a host's object: we need no pydantic
    told: Any = dump(by_alias=True, mode="json", exclude_none=True) if callable(dump) else given
    if not isinstance(told, Mapping):
        raise ValueError(f"an AG-UI run input is a JSON object, not {type(given).__name__}")
    fields = cast("Mapping[str, Any]", told)
    ids = [fields.get(name) for name in ("threadId", "runId")]
    if not all(isinstance(each, str) and each for each in ids):
        raise ValueError("an AG-UI run input has a threadId and a runId, both text")
    answers = tuple(map(_answer, _objects(fields, "resume")))
    for key in (run_key(str(ids[1])), *(run_key(str(ids[1]), each.interaction_id) for each in answers)):
        check_key("runId", key)
    messages = _objects(fields, "messages")
    said = _said(messages[-1].get("content")) if messages and messages[-1].get("role") == "user" and not answers else None
    return RunInput(str(ids[0]), str(ids[1]), said, answers)


def _objects(fields: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    value: Any = fields.get(name) or ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, Mapping) for each in cast("Sequence[Any]", value)):
        raise ValueError(f"{name} of an AG-UI run input is a list of objects")
    return cast("Sequence[Mapping[str, Any]]", value)


def _answer(entry: Mapping[str, Any]) -> Answer:
    if not isinstance(entry.get("interruptId"), str) or entry.get("status") not in ("resolved", "cancelled"):
        raise ValueError("an entry of resume has an interruptId and a status, 'resolved' or 'cancelled'")
    return Answer(entry["interruptId"], entry["status"] == "cancelled", entry.get("payload"))


def _said(content: Any) -> str | list[dict[str, Any]]:
    said = content if isinstance(content, str) else [_block(part) for part in _parts(content)]
    if not (said.strip() if isinstance(said, str) else any(part.get("text", "an image").strip() for part in said)):
        raise ValueError("the user message is empty")
    return said


def _parts(content: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(content, (list, tuple)) or not all(isinstance(part, Mapping) for part in cast("Sequence[Any]", content)):
        raise ValueError("the content of a user message is text, or a list of parts")
    return cast("Sequence[Mapping[str, Any]]", content)


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a message as a content block of ours."""
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    given: object = part.get("source")
    source: Mapping[str, Any] = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else {}
    value, mime = str(source.get("value", "")), source.get("mimeType")
    if kind == "image" and value:
        url = value if source.get("type") == "url" else f"data:{mime};base64,{value}"
        return {"type": "image_url", "image_url": {"url": url}}
    raise ValueError(f"a part of type {kind!r} cannot be said to this agent; text and images can")
