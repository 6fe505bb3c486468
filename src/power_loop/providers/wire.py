"""What a wire adds to the transport: how a request is written, sent and read, and what a refusal teaches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from power_loop.contracts.model import LLMRequest
from power_loop.providers.ask import Ask
from power_loop.providers.capabilities import Ways
from power_loop.providers.clients import Closable
from power_loop.providers.errors import Refusal
from power_loop.providers.reply import Reader
from power_loop.providers.values import mapping

# What a stream says last, as an event that every reader knows.
DONE: Mapping[str, Any] = {"type": "done"}


class HttpResponse(Protocol):
    """What we use of an SDK's raw response (httpx names)."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    def aiter_bytes(self) -> AsyncIterator[bytes]: ...
    async def aread(self) -> bytes: ...
    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it goes out."""

    request: LLMRequest
    ask: Ask
    body: dict[str, Any]
    headers: dict[str, str]
    streams: bool


class Wire(Protocol):
    """One protocol, spoken through one SDK."""

    provider: str

    def new_client(self) -> Closable:
        """An SDK client with its own retries switched off. Raises `ImportError` naming the extra where the SDK is missing."""
        ...

    def body(self, ask: Ask, request: LLMRequest, *, model: str, ways: Ways, stream: bool) -> dict[str, Any]:
        """The JSON of a request, without extras."""
        ...

    async def post(self, client: Any, sent: Sent) -> HttpResponse:
        """Send it; the answer's body is not read yet. Raises what the SDK raises."""
        ...

    def reader(self, sent: Sent) -> Reader:
        """Understands the reply to ``sent``."""
        ...

    def lesson(self, ways: Ways, refusal: Refusal, sent: Sent) -> Ways | None:
        """How to ask instead; None: the refusal stands."""
        ...


def split_extra(*extras: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(what goes into the body, what becomes headers) of the ``extra`` settings, later ones over earlier ones.

    ``extra_body`` and ``extra_headers`` are understood as the SDKs understand them.
    """
    body: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for extra in extras:
        rest = dict(extra)
        headers |= mapping(rest.pop("extra_headers", None))
        body |= rest | dict(mapping(rest.pop("extra_body", None)))
    return body, headers
