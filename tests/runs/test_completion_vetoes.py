"""`complete.decide`: an answer that is not one yet, a bounded number of times."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import AgentLoopConfig, HookDirective, ModelRetry, RunPolicy
from power_loop.testing import FunctionLLM

SKIP = HookDirective.SKIP


def answers() -> FunctionLLM:
    """A model whose n-th answer is n."""
    count = [0]

    def answer(_: Any) -> str:
        count[0] += 1
        return str(count[0])

    return FunctionLLM(answer)


def unsatisfied(ctx: Any) -> HookDirective:
    ctx.message = f"not {ctx.final_text} yet"
    return SKIP


def unsatisfied_by_signal(ctx: Any) -> None:
    raise ModelRetry(f"not {ctx.final_text} yet")


@pytest.mark.parametrize("handler", [unsatisfied, unsatisfied_by_signal])
@pytest.mark.parametrize("most", [0, 1, 3])
async def test_vetoes_are_bounded_and_the_last_answer_stands(house: Any, handler: Any, most: int) -> None:
    config = AgentLoopConfig(running=RunPolicy(max_completion_vetoes=most))
    loop = house.loop(llm=answers(), config=config, on={"complete.decide": handler})
    result = await loop.run("go")
    assert (result.status, result.final_text, result.rounds) == ("completed", str(most + 1), most + 1)
    rows = await loop.get_messages(result.session_id)
    assert [row["content"] for row in rows if row["role"] == "user"] == ["go", *(f"not {n} yet" for n in range(1, most + 1))]
    assert [row.get("name") for row in rows if row["role"] == "user"][1:] == ["hook"] * most


async def test_a_handler_sees_how_often_it_said_no(house: Any) -> None:
    seen: list[tuple[str, int]] = []

    def handler(ctx: Any) -> HookDirective | None:
        seen.append((ctx.final_text, ctx.vetoes))
        ctx.message = "again"
        return SKIP if len(seen) < 3 else None

    result = await house.loop(llm=answers(), on={"complete.decide": handler}).run("go")
    assert (seen, result.final_text) == ([("1", 0), ("2", 1), ("3", 2)], "3")


async def test_vetoes_count_anew_in_the_next_send_and_not_in_a_resume(house: Any) -> None:
    config = AgentLoopConfig(running=RunPolicy(max_completion_vetoes=1))
    loop = house.loop(llm=answers(), config=config, on={"complete.decide": unsatisfied})
    session = await loop.new_session()
    assert (await loop.send("go", session)).final_text == "2"
    assert (await loop.send("on", session)).final_text == "4"
    assert (await loop.resume(session)).final_text == "4"
    cold = house.loop(llm=answers(), config=config, on={"complete.decide": unsatisfied})
    assert (await cold.send("more", session)).final_text == "2"


async def test_a_veto_does_not_outrun_the_limit_of_rounds(house: Any) -> None:
    config = AgentLoopConfig(max_rounds=2, running=RunPolicy(max_completion_vetoes=9))
    result = await house.loop(llm=answers(), config=config, on={"complete.decide": unsatisfied}).run("go")
    assert (result.status, result.rounds) == ("hit_round_limit", 2)


async def test_a_veto_without_words_is_none(house: Any) -> None:
    result = await house.loop(llm=answers(), on={"complete.decide": lambda ctx: SKIP}).run("go")
    assert (result.status, result.final_text) == ("completed", "1")


async def test_a_veto_whose_message_another_handler_drops_is_none(house: Any) -> None:
    def drops(ctx: Any) -> HookDirective | None:
        return SKIP if ctx.message["name"] == "hook" else None

    result = await house.loop(llm=answers(), on={"complete.decide": unsatisfied, "message.append": drops}).run("go")
    assert (result.status, result.final_text) == ("completed", "1")


async def test_only_an_answer_is_asked_about(house: Any) -> None:
    asked: list[str] = []
    on = {"complete.decide": lambda ctx: asked.append(ctx.final_text), "round.start": lambda ctx: HookDirective.BREAK}
    result = await house.loop(llm=answers(), on=on).run("go")
    assert (result.status, asked) == ("completed", [])
