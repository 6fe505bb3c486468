"""Cancellation: one small token that anything can be turned into."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

from power_loop.contracts.errors import CancellationRequested
from power_loop.contracts.log import log
from power_loop.contracts.soon import soon

# How often a callable or a threading.Event is asked; neither can tell by itself.
POLL_S = 0.1


class CancellationToken:
    """Says once, and for good, that the work shall stop. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._reason = ""
        self._listeners: list[Callable[[str], None]] = []
        self._ask: Callable[[], bool] | None = None
        self._asked_badly = False
        self._followed: tuple[CancellationToken, ...] = ()
        self._unfollow: list[Callable[[], None]] = []
        """Those that it follows know of it only while somebody listens to it: one may be for a whole process."""

    @property
    def reason(self) -> str:
        self._look_at_followed()
        return self._reason

    @property
    def polled(self) -> bool:
        """It must be asked from time to time: its source cannot call back."""
        return self._ask is not None or any(token.polled for token in self._followed)

    def cancel(self, reason: str = "cancelled") -> None:
        """Stop; the first reason stands. Listeners are told once, and one that raises keeps it from no other."""
        self._look_at_followed()
        self._cancel(reason)

    def _cancel(self, reason: str) -> None:
        with self._lock:
            if self._cancelled:
                return
            self._cancelled, self._reason = True, reason
            listeners, self._listeners = self._listeners, []
            parts, self._unfollow = self._unfollow, []
        for part in parts:
            part()
        for listener in listeners:
            _tell(listener, reason)

    def is_cancelled(self) -> bool:
        self._look_at_followed()
        if not self._cancelled and self._ask is not None and self._answer():
            self.cancel()
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        if self.is_cancelled():
            raise CancellationRequested(self._reason)

    def on_cancel(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have ``listener(reason)`` called at the cancel, in the thread that cancels; the answer takes it back."""
        with self._lock:
            listens = not self._cancelled
            if listens:
                self._listeners.append(listener)
            follows = listens and bool(self._followed) and not self._unfollow
        if not listens:
            listener(self._reason)
            return lambda: None
        if follows:
            self._follow()
        return lambda: self._forget(listener)

    def child(self) -> CancellationToken:
        """A token that follows this one and can also be cancelled by itself."""
        return CancellationToken.any_of(self)

    async def wait(self) -> str:
        """Wait for the cancel; its reason."""
        if self.polled:
            while not self.is_cancelled():
                await asyncio.sleep(POLL_S)
            return self._reason
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: str) -> None:
            soon(loop, done.set)

        forget = self.on_cancel(wake)
        try:
            await done.wait()
        finally:
            forget()
        return self._reason

    @classmethod
    def any_of(cls, *tokens: CancellationToken) -> CancellationToken:
        """A token that is cancelled as soon as one of ``tokens`` is."""
        joined = cls()
        joined._followed = tokens
        return joined

    @classmethod
    def never(cls) -> CancellationToken:
        return cls()

    @classmethod
    def from_any(cls, source: Any) -> CancellationToken:
        """A token from None, a token, a `threading.Event`, an `asyncio.Event` or a callable that says True to stop."""
        if source is None:
            return cls()
        if isinstance(source, CancellationToken):
            return source
        ask = source.is_set if isinstance(source, (threading.Event, asyncio.Event)) else source
        if not callable(ask):
            raise TypeError(f"{type(source).__name__} cannot stop a send: give a CancellationToken, an Event or a callable")
        token = cls()
        token._ask = cast("Callable[[], bool]", ask)
        return token

    def _answer(self) -> bool:
        try:
            return self._ask is not None and bool(self._ask())
        except Exception:  # the host's callable: a broken one does not stop the work
            if not self._asked_badly:
                self._asked_badly = True
                log.exception("the cancellation callable raised; it counts as not cancelled")
            return False

    def _forget(self, listener: Callable[[str], None]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            parts: list[Callable[[], None]] = []
            if not self._listeners:
                parts, self._unfollow = self._unfollow, []
        for part in parts:
            part()

    def _follow(self) -> None:
        """Be told by those that this follows, while somebody listens; what another thread did meanwhile is not done twice."""
        parts = [token.on_cancel(self._cancel) for token in self._followed]
        with self._lock:
            if self._listeners and not self._cancelled and not self._unfollow:
                self._unfollow, parts = parts, []
        for part in parts:
            part()

    def _look_at_followed(self) -> None:
        if not self._cancelled and (first := next((token for token in self._followed if token.is_cancelled()), None)):
            self._cancel(first.reason)


def _tell(listener: Callable[[str], None], reason: str) -> None:
    try:
        listener(reason)
    except Exception:  # the host's
        log.exception("a listener of a cancellation raised; the work is cancelled all the same")


CancellationLike = CancellationToken | threading.Event | asyncio.Event | Callable[[], bool] | None
