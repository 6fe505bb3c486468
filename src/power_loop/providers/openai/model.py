"""The OpenAI-compatible transport: chat completions through the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from power_loop.contracts.model import LLMRequest, LLMStreamChunk
from power_loop.providers.ask import Ask, schema_of
from power_loop.providers.capabilities import Ways, with_other_cap_field, with_other_schema, without_named
from power_loop.providers.clients import http_client
from power_loop.providers.errors import Refusal
from power_loop.providers.openai.request import chat_body
from power_loop.providers.openai.resume import resumed
from power_loop.providers.openai.stream import PROVIDER, ChatReader
from power_loop.providers.settings import OpenAICompatibleChatConfig
from power_loop.providers.transport import Transport
from power_loop.providers.wire import HttpResponse, Sent

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class ChatWire:
    """``POST /chat/completions``."""

    provider = PROVIDER

    def __init__(self, config: OpenAICompatibleChatConfig) -> None:
        self._config = config

    def new_client(self) -> AsyncOpenAI:
        try:
            import openai
        except ImportError as error:
            raise ImportError("OpenAI-compatible models need the OpenAI SDK: pip install 'power-loop[openai]'") from error
        config = self._config
        return openai.AsyncOpenAI(
            api_key=config.api_key, base_url=config.base_url, organization=config.organization, timeout=config.timeout_s, max_retries=0,
            http_client=http_client(openai.DefaultAsyncHttpxClient, config.base_url),
        )  # fmt: skip

    def body(self, ask: Ask, request: LLMRequest, *, model: str, ways: Ways, stream: bool) -> dict[str, Any]:
        return chat_body(ask, request, model=model, ways=ways, stream=stream)

    async def post(self, client: AsyncOpenAI, sent: Sent) -> HttpResponse:
        from openai import AsyncStream

        options: Any = {"headers": sent.headers}  # the SDK keeps this type private
        stream = await client.post(
            "/chat/completions", body=sent.body, options=options, cast_to=object, stream=True, stream_cls=AsyncStream[object]
        )
        return stream.response

    def reader(self, sent: Sent) -> ChatReader:
        return ChatReader(answers_by_tool=sent.ask.answers_by_tool)

    def lesson(self, ways: Ways, refusal: Refusal, sent: Sent) -> Ways | None:
        capabilities = self._config.capabilities
        by_parameter = without_named(ways, refusal, sent.body, capabilities) or with_other_cap_field(ways, refusal, sent.body, capabilities)
        if by_parameter is not None or schema_of(sent.request.response_format) is None:
            return by_parameter
        return with_other_schema(ways, refusal, capabilities)


class OpenAICompatibleLLM(Transport):
    """A model behind any server that speaks OpenAI's chat completions."""

    config: OpenAICompatibleChatConfig

    def __init__(self, config: OpenAICompatibleChatConfig, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        super().__init__(config, ChatWire(config), sleep=sleep)

    async def _attempt(self, request: LLMRequest) -> AsyncGenerator[LLMStreamChunk]:
        once = super()._attempt
        chunks = resumed(once, request, self.config.stream_max_restarts) if self.config.stream_resume_on_error else once(request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
