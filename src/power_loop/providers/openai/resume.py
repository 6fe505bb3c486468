"""Continue a text-only reply that broke off, by showing the model what it had said."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from power_loop.contracts.errors import LLMError
from power_loop.contracts.llm_errors import is_transient_llm_error
from power_loop.contracts.messages import estimate_text_tokens
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMStreamChunk, LLMTokenUsage, estimate_request_tokens
from power_loop.providers.reply import parse_into
from power_loop.providers.values import mapping

Attempt = Callable[[LLMRequest], AsyncGenerator[LLMStreamChunk]]

_GO_ON = "The connection broke while you spoke. Go on exactly where your text ends; repeat nothing and do not comment on this."


class _Beginning(NamedTuple):
    """What the attempts that broke off have said, and used by estimate: nobody told their numbers."""

    text: str = ""
    think: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def then(self, asked: LLMRequest, text: str, think: str) -> _Beginning:
        prompt, completion = _used(asked, text + think)
        return _Beginning(self.text + text, self.think + think, self.prompt_tokens + prompt, self.completion_tokens + completion)


async def resumed(attempt: Attempt, request: LLMRequest, restarts: int) -> AsyncGenerator[LLMStreamChunk]:
    """One reply out of up to ``restarts + 1`` attempts, each of which said something.

    The error is raised of one that said nothing, since whoever counts the attempts also waits between them; of a reply with tool
    calls; and of a document that the server holds to its format, which no second half could be.
    """
    earlier, is_text = _Beginning(), request.response_format is None
    while True:
        asked, text, think = _continued(request, earlier.text), "", ""
        try:
            async with aclosing(attempt(asked)) as chunks:
                async for chunk in chunks:
                    text, think = text + chunk.delta_text, think + chunk.think
                    is_text = is_text and not chunk.delta_tool_calls
                    whole = None if chunk.response is None else _with_beginning(earlier, chunk.response, asked)
                    yield chunk if whole is None else replace(chunk, response=whole, token_usage=whole.token_usage)
            return
        except LLMError as error:
            if not text or not is_text or restarts <= 0 or not is_transient_llm_error(error):
                raise
            earlier, restarts = earlier.then(asked, text, think), restarts - 1


def _continued(request: LLMRequest, said: str) -> LLMRequest:
    if not said:
        return request
    return replace(request, messages=[*request.messages, {"role": "assistant", "content": said}, {"role": "user", "content": _GO_ON}])


def _with_beginning(earlier: _Beginning, tail: LLMResponse, asked: LLMRequest) -> LLMResponse:
    """The whole reply, of which ``asked`` brought the ``tail``."""
    if not earlier.text:
        return tail
    text = earlier.text + tail.content_text
    message = {**mapping(tail.raw_message), "content": text}
    usage = _with_earlier(earlier, tail.token_usage or LLMTokenUsage(*_used(asked, tail.content_text)))
    whole = replace(tail, content_text=text, raw_text=text, think=earlier.think + tail.think, raw_message=message, token_usage=usage)
    if asked.parse_json:
        parse_into(whole)
    return whole


def _used(asked: LLMRequest, said: str) -> tuple[int, int]:
    """The tokens of a request and of what was said to it, by estimate."""
    return estimate_request_tokens(asked), estimate_text_tokens(said)


def _with_earlier(earlier: _Beginning, usage: LLMTokenUsage) -> LLMTokenUsage:
    prompt, completion = earlier.prompt_tokens + usage.input_tokens, earlier.completion_tokens + usage.output_tokens
    total = None if usage.total is None else usage.total + earlier.prompt_tokens + earlier.completion_tokens
    return replace(usage, prompt=prompt, completion=completion, total=total, estimated=True)
