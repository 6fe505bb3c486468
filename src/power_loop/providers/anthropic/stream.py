"""The replies of the Anthropic Messages protocol, streamed or whole."""

from __future__ import annotations

import json
from typing import Any

from power_loop.contracts.model import LLMStreamChunk, LLMTokenUsage
from power_loop.providers.anthropic.thinking import kept
from power_loop.providers.ask import FINAL_ANSWER
from power_loop.providers.reply import CallDraft, Draft
from power_loop.providers.values import Json, mapping, number, objects, text

Block = dict[str, Any]

# How the pieces of a block arrive: type of the delta → (key in the delta, key in the block).
_PIECES = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "json"),
}


class MessageReader:
    """Merges the events of one message."""

    def __init__(self, *, answers_by_tool: bool = False) -> None:
        self.draft: Draft = Draft()
        self.complete: bool = False
        self._answers_by_tool = answers_by_tool
        self._blocks: dict[int, Block] = {}
        self._usage: dict[str, Any] = {}

    def feed(self, event: Json) -> LLMStreamChunk | None:
        match event.get("type"):
            case "message_start":
                self._head(mapping(event.get("message")))
            case "content_block_start":
                return self._told(self._begin(number(event, "index") or 0, mapping(event.get("content_block"))), event)
            case "content_block_delta":
                return self._told(self._piece(number(event, "index") or 0, mapping(event.get("delta"))), event)
            case "message_delta":
                self.draft.finish = text(mapping(event.get("delta")).get("stop_reason")) or self.draft.finish
                self._usage |= {key: value for key, value in mapping(event.get("usage")).items() if value is not None}
            case "message_stop" | "done":
                self._finish()
            case _:  # pings, block ends, and what later versions of the protocol add
                pass
        return None

    def whole(self, body: Json) -> LLMStreamChunk | None:
        if body.get("type") != "message" and not isinstance(body.get("content"), list):
            return None  # some other document
        self._head(body)
        self.draft.finish = text(body.get("stop_reason")) or None
        told = [self._begin(place, block) for place, block in enumerate(objects(body.get("content")))]
        self._finish()
        self.draft.raw = dict(body)
        return self._told(("".join(said for said, _ in told), "".join(thought for _, thought in told)), body)

    def _head(self, message: Json) -> None:
        self.draft.model, self.draft.response_id = message.get("model"), message.get("id")
        self._usage |= mapping(message.get("usage"))

    def _begin(self, place: int, block: Json) -> tuple[str, str]:
        """(text, thinking) that the block starts with."""
        arguments = json.dumps(block["input"], ensure_ascii=False) if block.get("input") else ""
        self._blocks[place] = {**block, "json": arguments}
        return text(block.get("text")) or self._answer(block, arguments), text(block.get("thinking"))

    def _piece(self, place: int, delta: Json) -> tuple[str, str]:
        """(text, thinking) that the piece adds."""
        block = self._blocks.setdefault(place, {"type": "text", "json": ""})
        kind = text(delta.get("type"))
        if kind not in _PIECES:
            return "", ""
        source, target = _PIECES[kind]
        piece = text(delta.get(source))
        block[target] = text(block.get(target)) + piece
        said = piece if kind == "text_delta" else self._answer(block, piece) if kind == "input_json_delta" else ""
        return said, piece if kind == "thinking_delta" else ""

    def _answer(self, block: Json, piece: str) -> str:
        """``piece`` of a call's arguments where that call is how the model answers."""
        return piece if self._answers_by_tool and block.get("name") == FINAL_ANSWER else ""

    def _told(self, pieces: tuple[str, str], event: Json) -> LLMStreamChunk | None:
        said, thought = pieces
        kinds = (mapping(event.get("delta")).get("type"), mapping(event.get("content_block")).get("type"))
        calls = [dict(event)] if "input_json_delta" in kinds or "tool_use" in kinds else None
        return LLMStreamChunk(said, thought, calls, raw_event=event) if said or thought or calls else None

    def _finish(self) -> None:
        """All is there: the blocks become the reply."""
        draft, blocks = self.draft, [self._blocks[place] for place in sorted(self._blocks)]
        draft.text = [text(block.get("text")) for block in blocks if block.get("type") == "text"]
        draft.think = [text(block.get("thinking")) for block in blocks if block.get("type") == "thinking"]
        draft.calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
        whole = [{key: value for key, value in block.items() if key != "json"} for block in blocks]
        # Thinking is only asked back while the round is open that its calls began.
        draft.provider_blocks = kept(whole) if draft.calls else None
        draft.usage = usage_of(self._usage)
        draft.raw = {"id": draft.response_id, "model": draft.model, "content": whole, "stop_reason": draft.finish, "usage": self._usage}
        self.complete = True


def _call(block: Json) -> CallDraft:
    return CallDraft(text(block.get("id")), text(block.get("name")), arguments=[text(block.get("json")) or "{}"])


def usage_of(usage: Json) -> LLMTokenUsage | None:
    """What the server counted; None where it counted nothing. The protocol leaves cached tokens out of ``input_tokens``."""
    fresh, completion = number(usage, "input_tokens") or 0, number(usage, "output_tokens") or 0
    read, written = number(usage, "cache_read_input_tokens"), number(usage, "cache_creation_input_tokens")
    prompt = fresh + (read or 0) + (written or 0)
    if not prompt and not completion:
        return None
    return LLMTokenUsage(
        prompt=prompt, completion=completion, total=prompt + completion, prompt_cached=read, prompt_cache_miss=fresh,
        cache_write_tokens=written, completion_reasoning=number(usage, "output_tokens_details", "thinking_tokens"),
    )  # fmt: skip
