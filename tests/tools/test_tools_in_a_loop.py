"""Tools in a send: what the model gets to read when a call goes well, and when it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from power_loop.contracts.errors import ModelRetry
from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
from power_loop.loop import StatefulAgentLoop
from power_loop.testing import ScriptedLLM, call, calls, say
from power_loop.tools.define import tool


@dataclass
class Order:
    number: int
    euros: float


class Bank:
    """What the handlers did."""

    def __init__(self) -> None:
        self.paid: list[Any] = []

    @tool(effects="once")
    async def refund(self, run: ToolRun, order: Order) -> dict[str, Any]:
        """Pay a customer back."""
        self.paid.append((order, run.deps))
        return {"gezahlt": order.euros, "für": order.number}

    def broken(self, number: int) -> str:
        self.paid.append(number)
        return number + "1"  # type: ignore[operator]  # the fault of this handler

    def choosy(self, number: int) -> str:
        raise ModelRetry("choose another number")

    def unshowable(self) -> object:
        return object()

    def refused(self) -> ToolHandlerResult:
        return ToolHandlerResult(False, "not today", {"until": "tomorrow"})


async def results(folder: Path, bank: Bank, *steps: Any, tools: list[Any] | None = None, deps: Any = None) -> list[Any]:
    """What the model read of each call, from a send that ends well."""
    model = ScriptedLLM([*steps, say("done")])
    offered = tools or [bank.refund, bank.broken, bank.choosy, bank.unshowable, bank.refused]
    async with StatefulAgentLoop(llm=model, dsn=str(folder / "bank.db"), tools=offered, deps=deps) as loop:
        session = await loop.new_session()
        result = await loop.send("go", session)
        assert (result.status, result.final_text) == ("completed", "done")
        return [message["content"] for message in await loop.get_messages(session) if message["role"] == "tool"]


# acceptance: 40
async def test_arguments_that_break_the_schema_are_told_to_the_model_and_the_handler_is_not_called(tmp_path: Path) -> None:
    bank = Bank()
    wrong = call("refund", order={"number": "7", "more": 1}, extra=True)
    (text,) = await results(tmp_path, bank, wrong)
    assert text.splitlines()[1:] == [
        '/order/number: must be an integer, not "7"',
        "/order/euros: is required, and missing",
        "/order/more: is not allowed here; known are: number, euros",
        "/extra: is not allowed here; known are: order",
    ]
    assert bank.paid == []


# acceptance: 41
async def test_an_unknown_tool_and_invalid_arguments_are_results_and_no_errors(tmp_path: Path) -> None:
    bank = Bank()
    unknown, invalid = await results(tmp_path, bank, calls(call("refudn", order=1), call("broken")))
    assert "'refudn'" in unknown
    assert "refund, broken, choosy" in unknown
    assert "/number: is required, and missing" in invalid
    assert bank.paid == []


# acceptance: 117 (in a send)
async def test_typed_arguments_arrive_as_instances_and_results_as_json(tmp_path: Path) -> None:
    bank = Bank()
    (text,) = await results(tmp_path, bank, call("refund", order={"number": 7.0, "euros": 12}))
    assert text == '{"gezahlt": 12, "für": 7}'
    assert bank.paid == [(Order(7, 12), None)]


class Secrets:
    """A dependency that would show in the database if anybody wrote it."""

    def __init__(self) -> None:
        self.password = "open-sesame-1742"

    def __repr__(self) -> str:
        return self.password


def everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


# acceptance: 118
async def test_deps_reach_the_handler_and_are_never_stored(tmp_path: Path) -> None:
    bank, deps = Bank(), Secrets()
    await results(tmp_path, bank, call("refund", order={"number": 7, "euros": 12}), deps=deps)
    ((_, seen),) = bank.paid
    assert seen is deps
    stored = everything_in(tmp_path)
    assert b"refund" in stored
    assert deps.password.encode() not in stored


# acceptance: 119
async def test_a_type_error_inside_a_handler_is_told_and_the_handler_ran_once(tmp_path: Path) -> None:
    bank = Bank()
    (text,) = await results(tmp_path, bank, call("broken", number=3))
    assert text == "Error: TypeError: unsupported operand type(s) for +: 'int' and 'str'"
    assert bank.paid == [3]


# acceptance: 119 (the dict convention)
async def test_a_handler_of_one_dict_gets_the_arguments_as_they_are(tmp_path: Path) -> None:
    definition = ToolDefinition(
        "note", "Note it.", {"type": "object", "properties": {"text": {"type": "string"}}}, required_params=("text",)
    )
    taken: list[Any] = []
    (text,) = await results(tmp_path, Bank(), call("note", text="a"), tools=[(definition, taken.append)])
    assert (text, taken) == ("", [{"text": "a"}])


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (call("choosy", number=1), "choose another number"),
        (call("unshowable"), "Error: the tool ran, but its result of type object has no JSON: object is no JSON value"),
        (call("refused"), "not today"),
    ],
)
async def test_a_result_that_failed_says_why(step: Any, text: str, tmp_path: Path) -> None:
    assert await results(tmp_path, Bank(), step) == [text]
