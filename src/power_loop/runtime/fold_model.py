"""The model as a fold strategy sees it: what it is called for is charged, told, retried and cut off like every other call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from power_loop.contracts.ledger import NOTHING, OUTPUT_TOKENS, Sums
from power_loop.contracts.messages import estimate_text_tokens, estimate_tokens
from power_loop.contracts.model import LLMRequest, LLMResponse, LLMService, ModelCapabilities
from power_loop.contracts.records import CallCharged, Record
from power_loop.contracts.to_end import unhurried
from power_loop.contracts.usage import CallUsage
from power_loop.kernel.state import State
from power_loop.runtime.attempt import reply_to
from power_loop.runtime.cancel import Cut, Scope
from power_loop.runtime.ports import Ports, Terms, priced
from power_loop.runtime.reply import usage_of
from power_loop.runtime.send import Send
from power_loop.runtime.session import Session
from power_loop.runtime.tell import Teller

if TYPE_CHECKING:
    from power_loop.runtime.ledger import Books


class FoldTeller:
    """Says what a send's teller says, but for the stream: the text of a summary is not the answer."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self.round_index: int | None = teller.round_index

    @property
    def silent(self) -> bool:
        return self._teller.silent

    def say(self, type: str, **fields: Any) -> None:
        if not type.startswith("stream_"):
            self._teller.say(type, **fields)


class FoldBooks:
    """The books of a send, as the attempts of one fold call see them: another request, and perhaps another model."""

    def __init__(self, send: Send, books: Books, amount: Sums) -> None:
        self._send, self._books, self._amount = send, books, amount

    async def may_call(self, call: object, purpose: str, *, hears: bool = False) -> bool:
        """Charge what failed, and reserve for one more attempt; False when there is no budget left for it."""
        return await self._books.may_call(self._send, purpose, hears=hears, amount=self._amount)


class FoldCall:
    """What the attempts of a model call need of a send."""

    ahead: State
    scope: Scope
    session: Session

    def __init__(self, send: Send, model: LLMService, scope: Scope, charge: Callable[[CallCharged], None]) -> None:
        self.ports: Ports = replace(send.ports, model=model)
        self.terms: Terms = replace(send.terms, output=None) if send.terms.output is not None else send.terms
        self.session, self.ahead, self.scope = send.session, send.ahead, scope
        self.teller: FoldTeller = FoldTeller(send.teller)
        self.partial_text = ""
        self.books: FoldBooks | None = None
        """Of a fold in a send that has some; after a send nobody holds the session, so nothing is reserved."""
        self._charge = charge

    def note(self, record: Record) -> None:
        assert isinstance(record, CallCharged), "an attempt that fails leaves a charge"
        self._charge(record)


class FoldModel(LLMService):
    """The model of a send, or the strategy's own, for the calls of one fold."""

    def __init__(self, send: Send, model: LLMService, scope: Scope, charge: Callable[[CallCharged], None]) -> None:
        self.model: str | None = getattr(model, "model", None)
        self.provider_name: str | None = getattr(model, "provider_name", None)
        self.capabilities: ModelCapabilities | None = getattr(model, "capabilities", None)
        self._model, self._send, self._scope = model, send, scope
        self._charge_to, self._spent = charge, NOTHING
        self._is_own = model is send.ports.model

    async def complete(self, request: LLMRequest, **callbacks: Any) -> LLMResponse:
        """The reply, tried as often as the retry policy says, and charged. Raises `LLMError`, or `Cut` when the fold is stopped."""
        settings = self._send.terms.settings
        request.reason, request.session_id = "fold", self._send.session_id
        request.retry_in_transport = settings.retry is None
        if self._is_own and request.model is None:
            request.model = settings.model
        call: Any = FoldCall(self._send, self._model, self._scope, self._charge)  # as much of a send as an attempt needs
        if self._send.books is not None:
            call.books = await self._let_through(self._send.books, request)
        response = await reply_to(call, request, "fold")
        asked = self._name(request.model)
        usage = priced(settings, usage_of(response, request), response.model, asked)
        self._charge(CallCharged("fold", usage, None, response.model or asked))
        return response

    async def _let_through(self, books: Books, request: LLMRequest) -> FoldBooks | None:
        """Raises `Cut` when there is no budget left for it."""
        held = self._scope is self._send.scope
        amount = self._may_cost(request)
        may = books.may_call(self._send, "fold", hears=False, amount=amount) if held else books.has_room(self._send, self._spent)
        allowed = await unhurried(may)
        if not allowed:
            raise Cut
        return FoldBooks(self._send, books, amount) if held else None

    def _may_cost(self, request: LLMRequest) -> Sums:
        """Of ``request``, estimated, and the longest reply."""
        prompt = estimate_text_tokens(request.system_prompt or "") + estimate_tokens(request.messages)
        usage = CallUsage(prompt, request.max_tokens or OUTPUT_TOKENS, calls=1)
        return Sums.of(priced(self._send.terms.settings, usage, self._name(request.model)))

    def _charge(self, record: CallCharged) -> None:
        self._spent = self._spent.plus(Sums.of(record.usage))
        self._charge_to(record)

    def _name(self, model: str | None) -> str | None:
        return model or self.model
