"""The replies of OpenAI-compatible servers, streamed or whole, as they really come.

Servers differ: ids repeated in each fragment or missing, all indexes zero, names sent twice, the old ``function_call``,
reasoning under four names, usage in a chunk of its own or in the last one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from power_loop.contracts.model import LLMStreamChunk, LLMTokenUsage
from power_loop.providers.ask import FINAL_ANSWER
from power_loop.providers.errors import error_from, refusal_in_body
from power_loop.providers.reply import CallDraft, Draft
from power_loop.providers.values import Json, mapping, number, objects
from power_loop.providers.wire import DONE

PROVIDER = "openai"

# Where reasoning text stands; a server that sends two of these sends the same text twice.
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")

_KNOWN_CALL_KEYS = frozenset({"id", "index", "type", "function"})


class ChatReader:
    """Merges the events of one chat completion."""

    def __init__(self, *, answers_by_tool: bool = False) -> None:
        self.draft: Draft = Draft()
        self.complete: bool = False
        self._answers_by_tool = answers_by_tool
        self._replay: dict[str, Any] = {}

    def feed(self, event: Json) -> LLMStreamChunk | None:
        """Raises `LLMError` where the server says that the reply failed, as `whole` does."""
        self.complete = self.complete or event is DONE
        return self._take(event, "delta")

    def whole(self, body: Json) -> LLMStreamChunk | None:
        self.complete = bool(objects(body.get("choices")))
        chunk = self._take(body, "message")
        self.draft.raw = dict(body)
        return chunk

    def _take(self, event: Json, part: str) -> LLMStreamChunk | None:
        draft = self.draft
        draft.model = draft.model or event.get("model")
        draft.response_id = draft.response_id or event.get("id")
        # Whoever asks for several replies by ``extra`` is given the first of them.
        choice = next((choice for choice in objects(event.get("choices")) if not number(choice, "index")), mapping(None))
        draft.usage = usage_of(mapping(event.get("usage") or choice.get("usage"))) or draft.usage
        if not choice:
            return None
        if choice.get("error"):
            raise error_from(refusal_in_body(choice), PROVIDER)
        if reason := choice.get("finish_reason"):
            draft.finish, self.complete = str(reason), True
        return self._message(mapping(choice.get(part)), event)

    def _message(self, message: Json, event: Json) -> LLMStreamChunk | None:
        draft = self.draft
        text, think = _text_and_think(message.get("content"))
        if refusal := message.get("refusal"):
            text, draft.refused = text + str(refusal), True
        think += self._reasoning(message)
        fragments = list(_fragments(message))
        alone = len(fragments) == 1
        answer = "".join(self._merge(fragment, None if alone else place) for place, fragment in enumerate(fragments))
        if text:
            draft.text.append(text)
        if think:
            draft.think.append(think)
        self._keep_for_replay()
        if not (text or answer or think or fragments):
            return None
        return LLMStreamChunk(text + answer, think, [dict(f) for f in fragments] or None, raw_event=event)

    def _reasoning(self, message: Json) -> str:
        if details := message.get("reasoning_details"):
            self._replay.setdefault("reasoning_details", []).extend(details)
        key = next((key for key in _REASONING_KEYS if isinstance(message.get(key), str) and message[key]), None)
        if key is None:
            return ""
        if key == "reasoning_content":
            self._replay[key] = self._replay.get(key, "") + message[key]
        return str(message[key])

    def _merge(self, fragment: Json, place: int | None) -> str:
        """Add a fragment to its call; the text that it adds to the final answer, where that comes by a tool."""
        function = mapping(fragment.get("function"))
        name, arguments = str(function.get("name") or ""), _arguments(function.get("arguments"))
        call = self._call_of(fragment, name, arguments, place)
        call.id = call.id or str(fragment.get("id") or "")
        if name != call.name:
            call.name += name
        call.arguments.append(arguments)
        call.extras.update({key: value for key, value in fragment.items() if key not in _KNOWN_CALL_KEYS and value is not None})
        return arguments if self._answers_by_tool and call.name == FINAL_ANSWER else ""

    def _call_of(self, fragment: Json, name: str, arguments: str, place: int | None) -> CallDraft:
        """The call that ``fragment`` belongs to: by id, else by index, else by its place (None: the only one in its event)."""
        call_id, index = str(fragment.get("id") or ""), number(fragment, "index")
        if call_id:
            found = self._by_id(call_id, index, name, arguments)
        elif index is not None:
            found = self._by_index(index, name, arguments)
        else:
            found = self._by_place(place, name)
        if found is None:
            found = CallDraft(index=index)
            self.draft.calls.append(found)
        return found

    def _by_id(self, call_id: str, index: int | None, name: str, arguments: str) -> CallDraft | None:
        same = [call for call in self.draft.calls if call.id == call_id]
        if not same:  # the id may come later than the name
            unnamed = self._by_index(index, name, arguments) if index is not None else None
            return unnamed if unnamed is not None and not unnamed.id else None
        found = next((call for call in reversed(same) if call.index == index), same[-1])
        # A server that gives every call the same id still counts or names them.
        another = name and (name != found.name or index not in (None, found.index)) and found.is_whole()
        return None if another else found

    def _by_index(self, index: int, name: str, arguments: str) -> CallDraft | None:
        found = next((call for call in reversed(self.draft.calls) if call.index == index), None)
        # A server that gives every call the same index still names them.
        another = found is not None and name and (name != found.name or arguments.strip()) and found.is_whole()
        return None if another else found

    def _by_place(self, place: int | None, name: str) -> CallDraft | None:
        calls = self.draft.calls
        if not calls or (place is not None and place >= len(calls)):
            return None
        found = calls[-1 if place is None else place]
        return None if name and (name != found.name or found.is_whole()) else found

    def _keep_for_replay(self) -> None:
        """Only a reply with calls is shown again while its reasoning still counts."""
        calls = self.draft.calls
        if not calls:
            return
        kept = dict(self._replay)
        if any(call.extras for call in calls):
            kept["tool_calls"] = [call.extras for call in calls]
        self.draft.provider_blocks = kept or None


def _arguments(given: object) -> str:
    """The arguments as JSON text; some servers send the object itself."""
    if given is None or isinstance(given, str):
        return given or ""
    return json.dumps(given, ensure_ascii=False)


def _fragments(message: Json) -> Iterator[Json]:
    yield from objects(message.get("tool_calls"))
    if function := message.get("function_call"):
        yield {"index": 0, "function": function}


def _text_and_think(content: Any) -> tuple[str, str]:
    """The text and the reasoning of a content that is a string or typed blocks."""
    if isinstance(content, str):
        return content, ""
    text = think = ""
    for block in objects(content):
        if block.get("type") == "text":
            text += str(block.get("text") or "")
        elif block.get("type") in ("thinking", "reasoning"):
            inner: Any = block.get(str(block["type"])) or block.get("text") or ""
            think += inner if isinstance(inner, str) else _text_and_think(inner)[0]
    return text, think


def usage_of(usage: Json) -> LLMTokenUsage | None:
    """What the server counted; None where it counted nothing."""
    prompt, completion = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
    if not prompt and not completion:
        return None
    cost = usage.get("cost")
    cached = (
        number(usage, "prompt_tokens_details", "cached_tokens"), number(usage, "prompt_cache_hit_tokens"), number(usage, "cached_tokens"),
    )  # fmt: skip
    return LLMTokenUsage(
        prompt=prompt, completion=completion, total=number(usage, "total_tokens"),
        prompt_audio=number(usage, "prompt_tokens_details", "audio_tokens"),
        prompt_cached=next((value for value in cached if value is not None), None),
        prompt_cache_miss=number(usage, "prompt_cache_miss_tokens"),
        prompt_text=number(usage, "prompt_tokens_details", "text_tokens"),
        prompt_image=number(usage, "prompt_tokens_details", "image_tokens"),
        completion_reasoning=number(usage, "completion_tokens_details", "reasoning_tokens"),
        completion_audio=number(usage, "completion_tokens_details", "audio_tokens"),
        completion_text=number(usage, "completion_tokens_details", "text_tokens"),
        completion_image=number(usage, "completion_tokens_details", "image_tokens"),
        accepted_prediction=number(usage, "completion_tokens_details", "accepted_prediction_tokens"),
        rejected_prediction=number(usage, "completion_tokens_details", "rejected_prediction_tokens"),
        cache_write_tokens=number(usage, "prompt_tokens_details", "cache_write_tokens"),
        cost=float(cost) if isinstance(cost, (int, float)) else None,
    )  # fmt: skip
