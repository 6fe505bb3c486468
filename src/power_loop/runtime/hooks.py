"""Who stands at which point, and what they decide together.

Handlers run in order; the strictest directive that the point honours wins, and its giver's words go with it. What
a directive means for a run is decided where the point is asked, not here.
"""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, cast

from power_loop.contracts.hooks import (
    HONOURED,
    OUTPUT_IS_PASSED_ON,
    BaseHookCtx,
    Context,
    HookContext,
    HookDirective,
    HookHandler,
    HookPoint,
    HookResult,
    honours,
)
from power_loop.contracts.log import log

# How alike a string must be to a built-in point to be taken for a typo of it; "llm.befor" is, "host.before" is not.
NEAR_MISS = 0.85


class Entry:
    """One handler at one point."""

    __slots__ = ("handler", "name", "order", "point", "warned")

    handler: HookHandler
    name: str | None
    order: int
    point: str

    def __init__(self, point: str, handler: HookHandler, order: int, name: str | None) -> None:
        self.point, self.handler, self.order, self.name = point, handler, order, name
        self.warned: set[str] = set()

    @property
    def label(self) -> str:
        return self.name or getattr(self.handler, "__qualname__", None) or repr(self.handler)

    def warn_once(self, what: str, text: str, *values: object) -> None:
        if what not in self.warned:
            self.warned.add(what)
            log.warning(text, *values)


class AgentHooks:
    """The handlers of one loop, or of several that share it. Registering is safe from any thread, also while handlers run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.standing: Mapping[str, tuple[Entry, ...]] = {}
        """Who stands where. Replaced as a whole, never changed in place, so that asking needs no lock."""

    # --- who stands where --------------------------------------------------------------------

    def register(self, point: str, handler: HookHandler, *, order: int = 0, name: str | None = None, replace: bool = False) -> None:
        """Have ``handler`` called at ``point``: lower ``order`` first, ties as registered.

        ``replace`` first removes what stands at this point under ``name``. Any string is a point; one that looks like a
        slip of a built-in name is logged.
        """
        if not callable(handler):
            raise TypeError(f"a hook handler is called with its context; {type(handler).__name__} cannot be called")
        if replace and name is None:
            raise ValueError("replace=True needs the name of the handler to replace")
        point = str(point)
        _warn_of_slips(point)
        with self._lock:
            others = [entry for entry in self.standing.get(point, ()) if not (replace and entry.name == name)]
            entries = sorted([*others, Entry(point, handler, order, name)], key=lambda entry: entry.order)
            self.standing = {**self.standing, point: tuple(entries)}

    def replace(self, point: str, handler: HookHandler, *, name: str, order: int = 0) -> None:
        """Put ``handler`` in place of what stands at ``point`` under ``name``; if nothing does, register it."""
        self.register(point, handler, order=order, name=name, replace=True)

    def remove(self, name: str, point: str | None = None) -> int:
        """Take away every handler of this name, at ``point`` or everywhere; how many they were."""
        with self._lock:
            before = self.standing
            after = {
                at: tuple(entry for entry in entries if entry.name != name or (point is not None and at != point))
                for at, entries in before.items()
            }
            self.standing = {at: entries for at, entries in after.items() if entries}
        return sum(map(len, before.values())) - sum(map(len, after.values()))

    def has(self, name: str, point: str | None = None) -> bool:
        """Does a handler of this name stand at ``point``, or anywhere?"""
        return any(entry.name == name for at, entries in self.standing.items() if point is None or at == point for entry in entries)

    def clear(self, point: str | None = None) -> None:
        """Take all handlers away, at ``point`` or everywhere."""
        with self._lock:
            self.standing = {} if point is None else {at: entries for at, entries in self.standing.items() if at != point}

    def stands(self, *points: str) -> bool:
        """Is there a handler at any of these points?"""
        standing = self.standing
        if not standing:
            return False
        return any(point in standing for point in points)

    # --- asking them ---------------------------------------------------------------------------

    async def run_typed_async(self, point: str, ctx: Context) -> Context:
        """Call every handler at ``point``; then ``ctx`` holds the directive that won, with its giver's output and reason.

        What a handler raises passes unchanged, and the handlers after it are not called.
        """
        verdict = Verdict(point, ctx)
        for entry in self.standing.get(point, ()):
            verdict.show()
            given = entry.handler(ctx)
            verdict.hear(entry, await given if inspect.isawaitable(given) else given)
        verdict.show()
        return ctx

    def run_typed(self, point: str, ctx: Context) -> Context:
        """The same for sync handlers only. Raises `TypeError` at the first async one."""
        verdict = Verdict(point, ctx)
        for entry in self.standing.get(point, ()):
            verdict.show()
            given = entry.handler(ctx)
            if inspect.isawaitable(given):
                _discard(given)
                raise TypeError(f"{entry.label} at {point} is async: await run_typed_async() or run_async() instead")
            verdict.hear(entry, given)
        verdict.show()
        return ctx

    async def run_async(self, point: str, ctx: HookContext) -> HookResult:
        """Ask the handlers at a point of the host's own: what they decided, as a result."""
        return _as_result(await self.run_typed_async(point, ctx))

    def run(self, point: str, ctx: HookContext) -> HookResult:
        """`run_async` for sync handlers only."""
        return _as_result(self.run_typed(point, ctx))


class Verdict:
    """What stands while the handlers at one point are asked, one after the other."""

    __slots__ = ("_asked_for", "ctx", "directive", "output", "output_is_passed_on", "point", "reason")

    directive: HookDirective
    point: str
    reason: str

    def __init__(self, point: str, ctx: BaseHookCtx) -> None:
        self.ctx: Any = ctx  # only some contexts have an output
        self.point, self.directive, self.reason = point, ctx.directive, ctx.reason
        self.output: Any = getattr(ctx, "output", None)
        self._asked_for = (self.output, self.reason)
        self.output_is_passed_on: bool = point in OUTPUT_IS_PASSED_ON

    def show(self) -> None:
        """Let the next handler see what stands."""
        ctx = self.ctx
        ctx.directive, ctx.reason = self.directive, self.reason
        if hasattr(ctx, "output"):
            ctx.output = self.output
        ctx.take_assigned()

    def hear(self, entry: Entry, given: object) -> None:
        """Weigh what a handler returned, and what it left in the context."""
        wanted = self._wanted(entry, given)
        assigned = self.ctx.take_assigned()
        if wanted.strictness > self.directive.strictness:
            if honours(self.point, wanted):
                self._stand(wanted, assigned)
            else:
                entry.warn_once(wanted, "%s asked for %s at %s, which has no effect there", entry.label, wanted.value, self.point)
        if "output" in assigned and (self.output_is_passed_on or self._is_open()):
            self.output = self.ctx.output

    def _is_open(self) -> bool:
        """At a host's own point an output counts also without a directive, until one stands."""
        return self.directive == HookDirective.CONTINUE and self.point not in HONOURED

    def _stand(self, directive: HookDirective, assigned: set[str]) -> None:
        """``directive`` wins so far; output and reason are its giver's, or what the asker began with."""
        output, reason = self._asked_for
        self.directive = directive
        self.reason = self.ctx.reason if "reason" in assigned else reason
        if not self.output_is_passed_on:
            self.output = self.ctx.output if "output" in assigned else output

    def _wanted(self, entry: Entry, given: object) -> HookDirective:
        """The stricter of what was returned and what was assigned; other results than those have no effect."""
        if isinstance(given, HookResult):
            self._keep(given)
            given = given.directive
        left = HookDirective(self.ctx.directive)
        if given is None:
            return left
        if not isinstance(given, str):
            kind = type(given).__name__
            entry.warn_once("result", "%s at %s returned a %s, which is no directive and has no effect", entry.label, self.point, kind)
            return left
        returned = HookDirective(given)
        return returned if returned.strictness >= left.strictness else left

    def _keep(self, given: HookResult) -> None:
        if given.output is not None and hasattr(self.ctx, "output"):
            self.ctx.output = given.output
        if given.reason:
            self.ctx.reason = given.reason
        if isinstance(self.ctx, HookContext):
            self.ctx.values.update(given.values)


def _as_result(ctx: HookContext) -> HookResult:
    return HookResult(ctx.directive, ctx.output, ctx.reason, ctx.values)


def _discard(given: Awaitable[Any]) -> None:
    """An awaitable that nobody will await; a coroutine would complain about it."""
    if inspect.iscoroutine(given):
        cast("Coroutine[Any, Any, Any]", given).close()


def _warn_of_slips(point: str) -> None:
    points = [known.value for known in HookPoint]
    if point in points:
        return
    written = point.lower().replace("_", ".").replace("-", ".")
    near = difflib.get_close_matches(written, points, n=1, cutoff=NEAR_MISS)
    if near:
        log.warning("a handler was registered at %r, which no loop asks; did you mean %r?", point, near[0])
