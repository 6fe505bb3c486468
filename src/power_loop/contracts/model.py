"""The model port: what a model is asked, what it answers, and what it costs.

`LLMService` is both a protocol and a base class: anything with an awaitable ``complete`` is a model.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, cast

from power_loop.contracts.codec import dumps
from power_loop.contracts.made import made
from power_loop.contracts.messages import Message, estimate_text_tokens, estimate_tokens
from power_loop.contracts.usage import CallUsage
from power_loop.contracts.when_seen import made_when_seen

DeltaCallback = Callable[[str], Awaitable[None] | None]


# For fields: ``dict[str, Any]`` makes one too, in many times the time.
new_dict: Callable[[], dict[str, Any]] = cast("Callable[[], dict[str, Any]]", dict)
new_list: Callable[[], list[Any]] = cast("Callable[[], list[Any]]", list)


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What a model can do, as declared; None is unknown and tried as if True."""

    image_input: bool | None = None
    pdf_input: bool | None = None
    data_url: bool | None = None
    tools: bool | None = None
    stream: bool | None = None
    json_schema: bool | None = None
    parallel_tool_calls: bool | None = None
    temperature: bool | None = None
    max_image_edge: int | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    output_cap_field: str | None = None
    """``max_tokens`` or ``max_completion_tokens``."""


UNKNOWN_CAPABILITIES = ModelCapabilities()


def capabilities_of(model: object) -> ModelCapabilities:
    """What ``model`` declares; a model of the host's may declare nothing."""
    return getattr(model, "capabilities", None) or UNKNOWN_CAPABILITIES


@dataclass
class LLMTokenUsage:
    """What the provider says that one call used; None where it says nothing."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    prompt_audio: int | None = None
    prompt_cached: int | None = None
    prompt_cache_miss: int | None = None
    prompt_text: int | None = None
    prompt_image: int | None = None
    completion_reasoning: int | None = None
    completion_audio: int | None = None
    completion_text: int | None = None
    completion_image: int | None = None
    accepted_prediction: int | None = None
    rejected_prediction: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False
    cost: float | None = None

    @property
    def input_tokens(self) -> int:
        return self.prompt or 0

    @property
    def output_tokens(self) -> int:
        return self.completion or 0

    @property
    def cached(self) -> int | None:
        return self.prompt_cached

    @property
    def cache_hit(self) -> int | None:
        return self.prompt_cached

    @property
    def cache_miss(self) -> int | None:
        return self.prompt_cache_miss

    @property
    def reasoning(self) -> int | None:
        return self.completion_reasoning

    @property
    def accepted(self) -> int | None:
        return self.accepted_prediction

    @property
    def rejected(self) -> int | None:
        return self.rejected_prediction

    def as_dict(self) -> dict[str, Any]:
        """The numbers that are known, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def for_call(self) -> CallUsage:
        """As the ledger keeps it; of a provider that counts only the whole, what is no output is input."""
        prompt = (self.total or 0) - (self.completion or 0) if self.prompt is None else self.prompt
        return made(CallUsage, (
            max(0, prompt), self.completion or 0, self.prompt_cached or 0, self.cache_write_tokens or 0,
            self.completion_reasoning or 0, 1, self.cost, self.estimated,
        ))  # fmt: skip


class ModelRestart(NamedTuple):
    """A call that failed is made again: what was streamed of it until now is void."""

    error: Exception
    from_model: str | None
    to_model: str | None
    attempt: int
    """1 for the first failure of this call."""
    wait_s: float = 0.0
    """Seconds until then."""
    by_another: bool = False
    """Another service takes over, whatever its model is called."""

    @property
    def is_fallback(self) -> bool:
        """Somebody else is asked now: another service, or another model of the same one."""
        return self.by_another or self.to_model != self.from_model


@dataclass
class LLMRequest:
    """One request to a model. ``messages`` never hold the system prompt."""

    messages: list[Message]
    system_prompt: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    parse_json: bool = False
    reason: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: Any = None
    extra: dict[str, Any] = field(default_factory=new_dict)
    call_id: str | None = None
    session_id: str | None = None
    retry_in_transport: bool = True
    """False while a retry policy above counts the attempts: then one call is one attempt."""
    on_restart: Callable[[ModelRestart], Awaitable[None] | None] | None = field(default=None, repr=False, compare=False)
    """Told before a transport or a `FallbackLLM` tries again; what it gives back is awaited right before that, and may raise.
    Without it nobody tries again once a delta was shown."""

    # No field: what makes the messages, until somebody looks. An attribute all the same, since whoever reaches into
    # `__dict__` instead makes every other attribute of the request slower.
    _make = None

    def showing(self, messages: Callable[[], list[Message]]) -> LLMRequest:
        """The same request, with ``messages`` that are made when somebody first looks: of a long session they are thousands."""
        del self.messages
        self._make = messages
        return self

    @property
    def unseen(self) -> bool:
        """Nobody has looked at the messages yet."""
        return self._make is not None

    @classmethod
    def from_prompt(cls, prompt: str, **settings: Any) -> LLMRequest:
        return cls([{"role": "user", "content": prompt}], **settings)

    def to_messages(self, capabilities: ModelCapabilities | None = None) -> list[Message]:
        """The messages with the system prompt in front, attachments rendered as blocks that a model can take."""
        from power_loop.contracts.attachments import render  # only requests with attachments need it

        head: list[Message] = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return head + [render(message, capabilities or UNKNOWN_CAPABILITIES) for message in self.messages]


def _messages_of(request: LLMRequest) -> list[Message]:
    make: Callable[[], list[Message]] | None = request.__dict__.pop("_make", None)
    if make is None:
        raise AttributeError("messages")
    return make()


made_when_seen(LLMRequest, "messages", _messages_of)


def estimate_request_tokens(request: LLMRequest) -> int:
    """Roughly how many tokens a model is given with ``request``: its system prompt, messages and tools."""
    tools = estimate_text_tokens(dumps(request.tools)) if request.tools else 0
    return estimate_text_tokens(request.system_prompt or "") + estimate_tokens(request.messages) + tools


@dataclass
class LLMResponse:
    """One reply. ``tool_calls`` have the common shape: id, type, function {name, arguments as JSON text}."""

    raw_text: str = ""
    raw_message: Any = None
    raw_completion: Any = None
    raw_json_data: dict[str, Any] = field(default_factory=new_dict)
    raw_json_error: str | None = None
    content_text: str = ""
    think: str = ""
    json_data: dict[str, Any] = field(default_factory=new_dict)
    token_usage: LLMTokenUsage | None = None
    parse_error: str | None = None
    debug: dict[str, Any] = field(default_factory=new_dict)
    tool_calls: list[dict[str, Any]] = field(default_factory=new_list)
    stream_chunks: list[Any] = field(default_factory=new_list)
    finish_reason: str | None = None
    """``stop``, ``tool_calls``, ``length``, ``content_filter``, ``refusal`` or ``error``."""
    model: str | None = None
    response_id: str | None = None
    provider_blocks: Any = None

    @property
    def text(self) -> str:
        return self.content_text or self.raw_text

    @property
    def ok(self) -> bool:
        return self.parse_error is None and self.finish_reason != "error"

    def get_tool_calls(self) -> list[dict[str, Any]]:
        return list(self.tool_calls)


@dataclass
class LLMStreamChunk:
    """One piece of a streamed reply; the last one has ``is_final`` and, from our transports, the whole ``response``.

    ``delta_tool_calls`` are for those who watch; the reply has the calls of ``tool_calls``, or of its ``response``.
    """

    delta_text: str = ""
    think: str = ""
    delta_tool_calls: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=new_list)
    token_usage: LLMTokenUsage | None = None
    raw_event: Any = None
    is_final: bool = False
    finish_reason: str | None = None
    response: LLMResponse | None = None


class Joined:
    """The reply that chunks make up, which the last one may hold whole."""

    def __init__(self) -> None:
        self._whole: LLMResponse | None = None
        self._parts = LLMResponse()
        self._text, self._think = list[str](), list[str]()
        self._in_pieces = False

    def take(self, chunk: LLMStreamChunk) -> None:
        parts = self._parts
        self._text.append(chunk.delta_text)
        self._think.append(chunk.think)
        parts.tool_calls = chunk.tool_calls or parts.tool_calls
        parts.token_usage = chunk.token_usage or parts.token_usage
        parts.finish_reason = chunk.finish_reason or parts.finish_reason
        self._in_pieces = self._in_pieces or bool(chunk.delta_tool_calls)
        self._whole = chunk.response or self._whole

    def response(self, model: object) -> LLMResponse:
        """The reply of ``model``. Raises `TypeError` where its calls came in pieces alone: only the server knows how to merge them."""
        parts, reply = self._parts, self._whole or self._parts
        if self._in_pieces and reply is parts and not parts.tool_calls:
            raise TypeError(f"stream() of {type(model).__name__} gave calls in delta_tool_calls alone; give them whole, in tool_calls")
        if not reply.text:
            reply.content_text = "".join(self._text)
        reply.think = reply.think or "".join(self._think)
        reply.tool_calls = reply.tool_calls or parts.tool_calls
        reply.token_usage = reply.token_usage or parts.token_usage
        reply.finish_reason = reply.finish_reason or parts.finish_reason
        return reply


class LLMService:
    """A model. Override ``complete`` or ``stream``; the other is made of it."""

    model: str | None = None
    provider_name: str | None = None
    capabilities: ModelCapabilities | None = None

    async def complete(
        self,
        request: LLMRequest,
        *,
        on_chunk_delta_text: DeltaCallback | None = None,
        on_chunk_think: DeltaCallback | None = None,
        on_stream_end: Callable[[], Awaitable[None] | None] | None = None,
    ) -> LLMResponse:
        """The whole reply; the callbacks (sync or async) hear the pieces as they come.

        Raises `LLMError` and below. Cancelling the awaiting task stops the network traffic.
        """
        if type(self).stream is LLMService.stream:  # that would be made of this
            raise self._has_neither()
        reply = Joined()
        async with aclosing(closable(self.stream(request))) as chunks:
            async for chunk in chunks:
                reply.take(chunk)
                await _hand(on_chunk_delta_text, chunk.delta_text)
                await _hand(on_chunk_think, chunk.think)
        if on_stream_end is not None and (awaitable := on_stream_end()) is not None:
            await awaitable
        return reply.response(self)

    def stream(self, request: LLMRequest) -> AsyncIterator[LLMStreamChunk]:
        """The reply piece by piece; of a model with ``complete`` alone, the pieces that it tells."""
        from power_loop.contracts.live import chunks_of  # a loop streams through `complete`

        if type(self).complete is LLMService.complete:  # that would be made of this
            raise self._has_neither()
        return chunks_of(self.complete, request)

    def _has_neither(self) -> TypeError:
        return TypeError(f"{type(self).__name__} has neither complete() nor stream()")

    async def close(self) -> None:
        """Give back connections. May be called more than once."""

    async def predict(self, prompt: str, system_prompt: str | None = None) -> str:
        """The reply's text to one prompt."""
        return await self.chat([{"role": "user", "content": prompt}], system_prompt)

    async def chat(self, messages: Sequence[Mapping[str, Any]], system_prompt: str | None = None) -> str:
        """The reply's text to a conversation."""
        return (await self.complete(LLMRequest([dict(m) for m in messages], system_prompt))).text

    async def predict_stream(self, prompt: str, system_prompt: str | None = None) -> AsyncIterator[str]:
        """The reply's text to one prompt, piece by piece."""
        async for chunk in self.stream(LLMRequest.from_prompt(prompt, system_prompt=system_prompt)):
            if chunk.delta_text:
                yield chunk.delta_text


async def closable(chunks: AsyncIterator[LLMStreamChunk]) -> AsyncGenerator[LLMStreamChunk]:
    """``chunks``, given back at once when the consumer leaves early, also where they are no generator."""
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def _hand(callback: DeltaCallback | None, text: str) -> None:
    if callback is not None and text and (awaitable := callback(text)) is not None:
        await awaitable
