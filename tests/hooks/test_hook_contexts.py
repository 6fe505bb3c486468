"""The contexts: what each point shows, and that what is shown is a copy made at the first look."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from power_loop.contracts.hook_contexts import CONTEXTS, LlmBeforeCtx, MessagesCtx, context_for
from power_loop.contracts.hooks import BaseHookCtx, HookPoint

EVERYWHERE = {"round_index", "directive", "session_id", "send_index", "depth", "scope", "reason"}
CALL = {"tool_call", "tool_name", "tool_args", "output"}
FIELDS: dict[str, set[str]] = {
    "session.start": {"messages", "stop_event"},
    "session.end": {"messages", "final_text"},
    "round.start": {"messages", "stop_event"},
    "round.end": {"messages", "has_tools", "response_text", "used_todo"},
    "llm.before": {
        *(
            "messages",
            "system_prompt",
            "tools",
            "max_tokens",
            "temperature",
            "output",
            "model",
            "response_format",
            "purpose",
            "run",
            "memory_of",
        ),
    },
    "llm.after": {"messages", "output"},
    "round.decide": {"messages", "tool_calls", "assistant_text", "output"},
    "tools.batch.before": {"messages", "tool_calls", "output"},
    "tools.batch.after": {"messages", "used_todo"},
    "tool.before": CALL,
    "tool.after": CALL | {"failed", "outcome"},
    "tool.error": CALL | {"error", "error_message"},
    "compact.before": {"messages"},
    "compact.after": {"messages", "messages_before_count", "messages_after_count"},
    "message.append": {"message"},
    "memory.recalled": {"recalled", "budget_tokens"},
    "timer.fire": {"timer_id", "note", "due_at", "message", "postpone_s"},
    "complete.decide": {"messages", "final_text", "vetoes", "message"},
}


# acceptance: 48 (the documented context)
@pytest.mark.parametrize("point", HookPoint)
def test_a_context_has_the_documented_fields(point: HookPoint) -> None:
    ctx = context_for(point)
    fields = {each.name for each in dataclasses.fields(ctx)}
    assert fields == FIELDS[point] | EVERYWHERE
    assert all(hasattr(ctx, name) for name in fields)


def test_a_context_is_named_after_its_point() -> None:
    for point, chosen in CONTEXTS.items():
        assert chosen.__name__ == "".join(word.capitalize() for word in point.split(".")) + "Ctx"


@pytest.mark.parametrize("point", HookPoint)
def test_a_context_keeps_what_it_is_made_with(point: HookPoint) -> None:
    given: dict[str, Any] = {name: [] if name in ("messages", "tool_calls", "recalled") else {} for name in FIELDS[point]}
    given |= {"session_id": "s1", "send_index": 2, "depth": 1, "scope": "subagent", "round_index": 3}
    ctx = context_for(point, **given)
    assert {name: getattr(ctx, name) for name in given} == given


def test_a_field_or_point_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        context_for("llm.before", colour="red")
    with pytest.raises(ValueError, match=r"my\.own"):
        context_for("my.own")


# --- copies ------------------------------------------------------------------------------------------


def messages() -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


WITH_MESSAGES = [point for point in HookPoint if "messages" in FIELDS[point]]


# acceptance: 52 (copies)
@pytest.mark.parametrize("point", WITH_MESSAGES)
def test_editing_messages_at_any_depth_leaves_the_live_list_alone(point: HookPoint) -> None:
    live = messages()
    ctx: Any = context_for(point, messages=live)
    ctx.messages.append({"role": "user", "content": "more"})
    ctx.messages[0]["content"][0]["text"] = "changed"
    assert live == messages()
    assert ctx.adopted() == [{"role": "user", "content": [{"type": "text", "text": "changed"}]}, {"role": "user", "content": "more"}]


def test_messages_are_copied_when_a_handler_first_looks_and_not_before() -> None:
    asked: list[int] = []

    def live() -> list[dict[str, Any]]:
        asked.append(1)
        return messages()

    ctx = LlmBeforeCtx(messages=live)
    repr(ctx)
    assert ctx.adopted() is None
    assert asked == []
    assert ctx.messages is ctx.messages
    assert asked == [1]
    assert ctx.adopted() == messages()


def test_assigned_messages_are_adopted_without_a_copy_of_the_old_ones() -> None:
    def never() -> list[dict[str, Any]]:
        raise AssertionError("nobody looked")

    ctx = LlmBeforeCtx(messages=never)
    ctx.messages = messages()
    assert ctx.adopted() == messages()
    assert ctx.messages is ctx.messages


def test_a_context_made_without_messages_shows_none() -> None:
    ctx = MessagesCtx()
    assert ctx.adopted() is None
    assert ctx.messages == []


# acceptance: 52 (tools, arguments, the message, what was recalled)
@pytest.mark.parametrize(
    ("point", "field", "value"),
    [
        ("llm.before", "tools", [{"function": {"name": "add"}}]),
        ("round.decide", "tool_calls", [{"function": {"name": "add"}}]),
        ("tools.batch.before", "tool_calls", [{"function": {"name": "add"}}]),
        ("tool.before", "tool_args", {"function": {"name": "add"}}),
        ("tool.before", "tool_call", {"function": {"name": "add"}}),
        ("message.append", "message", {"function": {"name": "add"}}),
        ("memory.recalled", "recalled", [{"function": {"name": "add"}}]),
    ],
)
def test_editing_another_field_in_place_leaves_the_original_alone(point: str, field: str, value: Any) -> None:
    ctx = context_for(point, **{field: value})
    shown = getattr(ctx, field)
    assert shown == value
    inner = shown[0] if isinstance(shown, list) else shown
    inner["function"]["name"] = "changed"
    assert "changed" not in str(value)
    assert getattr(ctx, field) is shown


def test_two_contexts_of_one_class_share_nothing() -> None:
    one, two = LlmBeforeCtx(messages=messages()), LlmBeforeCtx(messages=[])
    one.messages.clear()
    assert two.messages == []
    assert LlmBeforeCtx(messages=messages()).messages == messages()


def test_what_was_assigned_is_known_once() -> None:
    ctx = BaseHookCtx()
    ctx.take_assigned()
    ctx.reason = "why"
    assert ctx.take_assigned() == {"reason"}
    assert ctx.take_assigned() == set()
