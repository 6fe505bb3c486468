"""The Anthropic transport: the Messages protocol through the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from power_loop.contracts.model import LLMRequest
from power_loop.providers.anthropic.request import message_body
from power_loop.providers.anthropic.stream import MessageReader
from power_loop.providers.ask import Ask, schema_of
from power_loop.providers.capabilities import Ways, with_other_schema, with_smaller_cap, without_named
from power_loop.providers.clients import http_client
from power_loop.providers.errors import Refusal
from power_loop.providers.settings import AnthropicChatConfig
from power_loop.providers.transport import Transport
from power_loop.providers.wire import HttpResponse, Sent

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class MessagesWire:
    """``POST /v1/messages``."""

    provider = "anthropic"

    def __init__(self, config: AnthropicChatConfig) -> None:
        self._config = config

    def new_client(self) -> AsyncAnthropic:
        try:
            import anthropic
        except ImportError as error:
            raise ImportError("Anthropic models need the Anthropic SDK: pip install 'power-loop[anthropic]'") from error
        config = self._config
        return anthropic.AsyncAnthropic(
            api_key=config.api_key, base_url=config.base_url, timeout=config.timeout_s, max_retries=0,
            http_client=http_client(anthropic.DefaultAsyncHttpxClient, config.base_url),
        )  # fmt: skip

    def body(self, ask: Ask, request: LLMRequest, *, model: str, ways: Ways, stream: bool) -> dict[str, Any]:
        return message_body(ask, request, model=model, ways=ways, stream=stream, mark=self._config.prompt_cache)

    async def post(self, client: AsyncAnthropic, sent: Sent) -> HttpResponse:
        from anthropic import AsyncStream

        options: Any = {"headers": sent.headers}  # the SDK keeps this type private
        stream = await client.post(
            "/v1/messages", body=sent.body, options=options, cast_to=object, stream=True, stream_cls=AsyncStream[object]
        )
        return stream.response

    def reader(self, sent: Sent) -> MessageReader:
        return MessageReader(answers_by_tool=sent.ask.answers_by_tool)

    def lesson(self, ways: Ways, refusal: Refusal, sent: Sent) -> Ways | None:
        capabilities = self._config.capabilities
        lesson = without_named(ways, refusal, sent.body, capabilities)
        if lesson is None and sent.request.max_tokens is None:
            lesson = with_smaller_cap(ways, refusal, sent.body)
        if lesson is None and schema_of(sent.request.response_format) is not None:
            lesson = with_other_schema(ways, refusal, capabilities)
        return lesson


class AnthropicLLM(Transport):
    """A model behind the Anthropic Messages protocol."""

    config: AnthropicChatConfig

    def __init__(self, config: AnthropicChatConfig, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        super().__init__(config, MessagesWire(config), sleep=sleep)
