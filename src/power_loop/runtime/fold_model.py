"""The model as a fold strategy sees it: what it is called for is charged, told, retried and cut off like every other call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from power_loop.contracts.model import LLMRequest, LLMResponse, LLMService
from power_loop.contracts.records import CallCharged, Record
from power_loop.runtime.attempt import reply_to
from power_loop.runtime.cancel import Cut, Scope, being_cancelled, to_its_end
from power_loop.runtime.ports import Ports, Terms, priced
from power_loop.runtime.reply import usage_of
from power_loop.runtime.send import Send
from power_loop.runtime.tell import Teller

if TYPE_CHECKING:
    from power_loop.runtime.ledger import Books


class FoldTeller:
    """Says what a send's teller says, but for the stream: the text of a summary is not the answer."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self.round_index = teller.round_index

    @property
    def silent(self) -> bool:
        return self._teller.silent

    def say(self, type: str, **fields: Any) -> None:
        if not type.startswith("stream_"):
            self._teller.say(type, **fields)


class FoldCall:
    """What the attempts of a model call need of a send."""

    def __init__(self, send: Send, model: LLMService, scope: Scope, charge: Callable[[CallCharged], None]) -> None:
        self.ports: Ports = replace(send.ports, model=model)
        self.terms: Terms = replace(send.terms, output=None) if send.terms.output is not None else send.terms
        self.session, self.ahead, self.scope = send.session, send.ahead, scope
        self.teller = FoldTeller(send.teller)
        self.partial_text = ""
        self.books = None
        """The whole call was let through; its attempts are charged one by one."""
        self._charge = charge

    def note(self, record: Record) -> None:
        assert isinstance(record, CallCharged), "an attempt that fails leaves a charge"
        self._charge(record)


class FoldModel(LLMService):
    """The model of a send, or the strategy's own, for the calls of one fold."""

    def __init__(self, send: Send, model: LLMService, scope: Scope, charge: Callable[[CallCharged], None]) -> None:
        self.model = getattr(model, "model", None)
        self.provider_name = getattr(model, "provider_name", None)
        self.capabilities = getattr(model, "capabilities", None)
        self._model, self._send, self._scope, self._charge = model, send, scope, charge
        self._is_own = model is send.ports.model

    async def complete(self, request: LLMRequest, **callbacks: Any) -> LLMResponse:
        """The reply, tried as often as the retry policy says, and charged. Raises `LLMError`, or `Cut` when the fold is stopped."""
        settings = self._send.terms.settings
        request.reason, request.session_id = "fold", self._send.session_id
        request.retry_in_transport = settings.retry is None
        if self._is_own and request.model is None:
            request.model = settings.model
        if self._scope is self._send.scope and self._send.books is not None:  # after a send nobody holds the session
            await self._let_through(self._send.books)
        call: Any = FoldCall(self._send, self._model, self._scope, self._charge)  # as much of a send as an attempt needs
        response = await reply_to(call, request, "fold")
        name = response.model or request.model
        self._charge(CallCharged("fold", priced(settings, name, usage_of(response, request)), None, name))
        return response

    async def _let_through(self, books: Books) -> None:
        """Raises `Cut` when there is no budget left for it."""
        may = await to_its_end(books.may_call(self._send, "fold", hears=False))
        if being_cancelled():
            raise asyncio.CancelledError
        if not may:
            raise Cut
