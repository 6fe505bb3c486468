"""The manager: who stands where, who is asked when, and which directive wins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from power_loop.contracts.hook_contexts import CONTEXTS, ToolAfterCtx, ToolBeforeCtx, context_for
from power_loop.contracts.hooks import HONOURED, BaseHookCtx, HookContext, HookDirective, HookPoint, HookResult, honours
from power_loop.runtime.hooks import AgentHooks

CONTINUE, SHORT_CIRCUIT, SKIP, BREAK, CANCEL = HookDirective
DIRECTIVES = [SHORT_CIRCUIT, SKIP, BREAK, CANCEL]
Handler = Callable[[Any], Any]


def writing(heard: list[str], word: str) -> Handler:
    return lambda _: heard.append(word)


def giving(directive: HookDirective | None, *, output: Any = None, reason: str = "") -> Handler:
    """A handler that leaves ``output`` and ``reason`` in its context and returns ``directive``."""

    def handler(ctx: Any) -> HookDirective | None:
        if output is not None:
            ctx.output = output
        if reason:
            ctx.reason = reason
        return directive

    return handler


async def decided(point: str, *handlers: Handler, **fields: Any) -> Any:
    hooks = AgentHooks()
    for handler in handlers:
        hooks.register(point, handler)
    return await hooks.run_typed_async(point, context_for(point, **fields))


# --- who stands where ------------------------------------------------------------------------------


# acceptance: 50
async def test_handlers_run_by_order_then_as_registered() -> None:
    hooks, heard = AgentHooks(), list[str]()
    for word, order in [("c", 5), ("a", -1), ("d", 5), ("b", 0)]:
        hooks.register("llm.before", writing(heard, word), order=order)
    await hooks.run_typed_async("llm.before", context_for("llm.before"))
    assert heard == ["a", "b", "c", "d"]


# acceptance: 50
def test_registering_with_replace_twice_leaves_one() -> None:
    hooks, heard = AgentHooks(), list[str]()
    for word in ("old", "new"):
        hooks.register("llm.before", writing(heard, word), name="mine", replace=True)
    hooks.run_typed("llm.before", context_for("llm.before"))
    assert heard == ["new"]


# acceptance: 50
def test_named_handlers_can_be_replaced_removed_and_looked_up() -> None:
    hooks, heard = AgentHooks(), list[str]()
    hooks.register("llm.before", writing(heard, "old"), name="mine")
    hooks.register("llm.after", writing(heard, "after"), name="mine")
    hooks.register("llm.before", writing(heard, "nameless"))
    hooks.replace("llm.before", writing(heard, "new"), name="mine", order=-1)
    hooks.run_typed("llm.before", context_for("llm.before"))
    assert heard == ["new", "nameless"]
    assert (hooks.has("mine"), hooks.has("mine", "llm.before"), hooks.has("mine", "tool.before")) == (True, True, False)
    assert hooks.remove("mine", "llm.before") == 1
    assert (hooks.has("mine"), hooks.has("mine", "llm.before")) == (True, False)
    assert hooks.remove("mine") == 1
    assert hooks.remove("mine") == 0
    assert not hooks.has("mine")


def test_equal_names_without_replace_both_stand() -> None:
    hooks = AgentHooks()
    for _ in range(2):
        hooks.register("llm.before", print, name="mine")
    assert hooks.remove("mine") == 2
    assert not hooks.stands("llm.before")


@pytest.mark.parametrize(("point", "left"), [("llm.before", ["llm.after"]), (None, [])])
def test_clear_takes_away_a_point_or_everything(point: str | None, left: list[str]) -> None:
    hooks = AgentHooks()
    for at in ("llm.before", "llm.after"):
        hooks.register(at, print)
    hooks.clear(point)
    assert [at for at in ("llm.before", "llm.after") if hooks.stands(at)] == left


def test_stands_says_whether_anybody_is_to_be_asked() -> None:
    hooks = AgentHooks()
    assert not hooks.stands("llm.before", "llm.after")
    hooks.register("llm.after", print)
    assert hooks.stands("llm.before", "llm.after")
    assert not hooks.stands("llm.before")


# acceptance: 51 (hooks)
def test_two_managers_do_not_know_each_other() -> None:
    one, two = AgentHooks(), AgentHooks()
    one.register("llm.before", print, name="mine")
    assert not two.stands("llm.before")
    assert not two.has("mine")


def test_a_point_is_the_member_or_its_plain_string() -> None:
    hooks, heard = AgentHooks(), list[str]()
    hooks.register(HookPoint.LLM_BEFORE, writing(heard, "member"))
    hooks.register("llm.before", writing(heard, "string"))
    hooks.run_typed(HookPoint.LLM_BEFORE, context_for("llm.before"))
    assert heard == ["member", "string"]


@pytest.mark.parametrize(
    ("point", "meant"),
    [("llm.befor", "llm.before"), ("LLM_BEFORE", "llm.before"), ("tool_after", "tool.after"), ("tools.before", "tool.before")],
)
def test_a_slip_of_a_built_in_point_is_logged(point: str, meant: str, caplog: pytest.LogCaptureFixture) -> None:
    AgentHooks().register(point, print)
    assert meant in caplog.text


@pytest.mark.parametrize("point", ["checkout.before", "my.own.step", "deploy", *HookPoint])
def test_other_strings_are_points_like_any_other(point: str, caplog: pytest.LogCaptureFixture) -> None:
    AgentHooks().register(point, print)
    assert caplog.text == ""


def test_what_cannot_be_a_handler_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="NoneType"):
        AgentHooks().register("llm.before", nothing)
    with pytest.raises(ValueError, match="name"):
        AgentHooks().register("llm.before", print, replace=True)


def test_handlers_may_be_registered_while_others_run() -> None:
    hooks, heard = AgentHooks(), list[str]()

    def adds(_: Any) -> None:
        hooks.register("llm.before", writing(heard, "late"))

    hooks.register("llm.before", adds, name="adds")
    hooks.run_typed("llm.before", context_for("llm.before"))
    assert heard == []
    hooks.remove("adds")
    hooks.run_typed("llm.before", context_for("llm.before"))
    assert heard == ["late"]


# --- which directive wins ----------------------------------------------------------------------------


def test_every_point_says_what_it_honours() -> None:
    assert set(HONOURED) == set(HookPoint) == set(CONTEXTS)
    assert all(honours(point, CONTINUE) for point in HookPoint)
    assert all((BREAK in directives) == (CANCEL in directives) for directives in HONOURED.values())
    assert all(honours("my.own", directive) for directive in HookDirective)


# acceptance: 48 (which directives have an effect)
@pytest.mark.parametrize("directive", DIRECTIVES)
@pytest.mark.parametrize("point", HookPoint)
async def test_a_directive_stands_where_it_is_honoured_and_nowhere_else(
    point: HookPoint, directive: HookDirective, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = await decided(point, giving(directive))
    honoured = directive in HONOURED[point]
    assert ctx.directive == (directive if honoured else CONTINUE)
    assert bool(caplog.records) == (not honoured)


@pytest.mark.parametrize(
    ("given", "wins"),
    [
        ([CONTINUE, SKIP, CONTINUE], SKIP),
        ([BREAK, SKIP], BREAK),
        ([SKIP, BREAK], BREAK),
        ([SHORT_CIRCUIT, SKIP], SKIP),
        ([SKIP, SHORT_CIRCUIT], SKIP),
        ([CANCEL, BREAK], CANCEL),
        ([BREAK, CANCEL], BREAK),
        ([None, None], CONTINUE),
    ],
)
async def test_the_strictest_directive_wins_and_of_equals_the_first(given: list[HookDirective], wins: HookDirective) -> None:
    hooks = AgentHooks()
    for directive in given:
        hooks.register("my.own", giving(directive))
    assert (await hooks.run_async("my.own", HookContext())).directive == wins


async def test_all_handlers_run_and_see_what_stands() -> None:
    seen: list[tuple[HookDirective, Any, str]] = []

    def look(ctx: ToolBeforeCtx) -> None:
        seen.append((ctx.directive, ctx.output, ctx.reason))

    await decided("tool.before", look, giving(SKIP, output="no", reason="policy"), look, giving(BREAK, output="stop"), look)
    assert seen == [(CONTINUE, None, ""), (SKIP, "no", "policy"), (BREAK, "stop", "")]


async def test_output_and_reason_are_those_of_the_winning_giver() -> None:
    ctx = await decided(
        "tool.before",
        giving(None, output="not mine to say", reason="chatter"),
        giving(SKIP, output="skipped", reason="first"),
        giving(BREAK, output="broken", reason="second"),
        giving(SKIP, output="late", reason="third"),
        giving(CONTINUE, output="later", reason="fourth"),
    )
    assert (ctx.directive, ctx.output, ctx.reason) == (BREAK, "broken", "second")


async def test_a_giver_that_says_nothing_takes_nobody_elses_words() -> None:
    ctx = await decided("tool.before", giving(SKIP, output="skipped", reason="first"), giving(BREAK))
    assert (ctx.directive, ctx.output, ctx.reason) == (BREAK, None, "")


async def test_a_directive_without_effect_brings_no_words_either() -> None:
    ctx = await decided("tool.before", giving(SHORT_CIRCUIT, output="instead", reason="shortcut"))
    assert (ctx.directive, ctx.output, ctx.reason) == (CONTINUE, None, "")


async def test_where_the_output_is_the_thing_itself_each_handler_may_replace_it() -> None:
    def redact(ctx: ToolAfterCtx) -> None:
        ctx.output = f"{ctx.output}".replace("secret", "***")

    ctx = await decided("tool.after", giving(BREAK, output="my secret"), redact, output="raw")
    assert (ctx.directive, ctx.output) == (BREAK, "my ***")


@pytest.mark.parametrize(
    "handler",
    [
        lambda ctx: HookResult(SKIP, "no", "policy"),
        lambda ctx: (
            [setattr(ctx, name, value) for name, value in {"directive": SKIP, "output": "no", "reason": "policy"}.items()][3:] or None
        ),
        lambda ctx: giving(SKIP, output="no", reason="policy")(ctx).value,
    ],
    ids=["a result", "assigned", "a plain string"],
)
async def test_a_directive_may_be_returned_or_assigned(handler: Handler) -> None:
    ctx = await decided("tool.before", handler)
    assert (ctx.directive, ctx.output, ctx.reason) == (SKIP, "no", "policy")


async def test_of_what_is_returned_and_what_is_assigned_the_stricter_counts() -> None:
    def both(ctx: ToolBeforeCtx) -> HookDirective:
        ctx.directive = BREAK
        return SKIP

    def loosens(ctx: ToolBeforeCtx) -> None:
        ctx.directive = CONTINUE

    assert (await decided("tool.before", both, loosens)).directive == BREAK


async def test_async_handlers_are_awaited_in_turn() -> None:
    heard: list[str] = []

    async def slow(_: Any) -> HookDirective:
        await asyncio.sleep(0)
        heard.append("slow")
        return SKIP

    ctx = await decided("tool.before", slow, writing(heard, "quick"))
    assert heard == ["slow", "quick"]
    assert ctx.directive == SKIP


def test_the_sync_way_refuses_an_async_handler_by_name() -> None:
    async def slow(_: Any) -> None: ...

    hooks = AgentHooks()
    hooks.register("tool.before", slow, name="slow one")
    with pytest.raises(TypeError, match="slow one"):
        hooks.run_typed("tool.before", context_for("tool.before"))


async def test_what_a_handler_raises_passes_unchanged_and_ends_the_asking() -> None:
    error, heard = ValueError("mine"), list[str]()

    def raises(_: Any) -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await decided("tool.before", raises, writing(heard, "later"))
    assert caught.value is error
    assert heard == []


async def test_a_word_that_is_no_directive_fails_closed() -> None:
    with pytest.raises(ValueError, match="skp"):
        await decided("tool.before", lambda _: "skp")


async def test_other_results_have_no_effect_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    hooks = AgentHooks()
    hooks.register("tool.before", lambda _: 7, name="counts")
    for _ in range(3):
        assert (await hooks.run_typed_async("tool.before", context_for("tool.before"))).directive == CONTINUE
    assert [record.message for record in caplog.records] == [
        "counts at tool.before returned a int, which is no directive and has no effect"
    ]


async def test_what_a_point_does_not_honour_is_logged_once_per_handler_and_directive(caplog: pytest.LogCaptureFixture) -> None:
    hooks, given = AgentHooks(), iter([SKIP, SKIP, BREAK, SKIP])
    hooks.register("llm.after", lambda _: next(given), name="eager")
    hooks.register("compact.before", giving(BREAK), name="eager")
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            await hooks.run_typed_async("llm.after", context_for("llm.after"))
        await hooks.run_typed_async("compact.before", context_for("compact.before"))
    assert [record.message for record in caplog.records] == [
        "eager asked for skip at llm.after, which has no effect there",
        "eager asked for break at compact.before, which has no effect there",
    ]


# --- a host's own points ---------------------------------------------------------------------------------


def test_a_host_runs_its_own_points_with_its_own_values() -> None:
    hooks = AgentHooks()

    def raise_the_price(ctx: HookContext) -> None:
        ctx.values["price"] += 1

    hooks.register("checkout.before", raise_the_price)
    hooks.register("checkout.before", lambda ctx: HookResult(SKIP, "sold out", values={"stock": 0}))
    result = hooks.run("checkout.before", HookContext({"price": 4}))
    assert result == HookResult(SKIP, "sold out", "", {"price": 5, "stock": 0})


async def test_an_output_without_a_directive_counts_at_a_hosts_own_point() -> None:
    hooks = AgentHooks()
    hooks.register("checkout.before", giving(None, output="first"))
    hooks.register("checkout.before", giving(None, output="second"))
    assert (await hooks.run_async("checkout.before", HookContext())).output == "second"
    hooks.register("checkout.before", giving(SKIP, output="third"))
    hooks.register("checkout.before", giving(None, output="fourth"))
    assert (await hooks.run_async("checkout.before", HookContext())).output == "third"


async def test_a_point_where_nobody_stands_leaves_the_context_as_it_was() -> None:
    ctx = BaseHookCtx(reason="as given")
    assert await AgentHooks().run_typed_async("session.end", ctx) is ctx
    assert (ctx.directive, ctx.reason) == (CONTINUE, "as given")
