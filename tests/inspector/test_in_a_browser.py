"""The inspector in a real browser: from page to page, live, by keys, harmless whatever was said, and with a person's decisions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from browsers import go, opened
from inspected_runs import agent, answer, begun
from parked import waiting

from power_loop import StatefulAgentLoop, tool
from power_loop.contracts.store import Statement
from power_loop.inspector.lines import SLICE
from power_loop.testing import FunctionLLM, ScriptedLLM, call, say

playwright = pytest.importorskip("playwright.async_api")
pytestmark = pytest.mark.asyncio(loop_scope="session")


@tool(needs_approval=True)
def deploy(password: str) -> str:
    """Deploy."""
    return "deployed"


@pytest.fixture
def file_place(browsed_place: Any) -> Any:
    return browsed_place


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Any, file_place: Any) -> AsyncIterator[Any]:
    async with opened(browser, file_place.dsn, "--allow-actions") as page:
        yield page


# acceptance: 180
async def test_from_the_list_to_a_session_to_a_request_and_back(tab: Any) -> None:
    assert "token" not in tab.url
    await tab.get_by_role("searchbox").fill("acme")
    await tab.keyboard.press("Enter")
    await tab.locator("tr", has_text="demo").get_by_role("link").click()
    await playwright.expect(tab.locator("#send-2[open]")).to_be_visible()
    await tab.locator("#send-2").get_by_text("book").first.click()
    await playwright.expect(tab.locator("#send-2")).to_contain_text("no such city")
    await tab.locator("#send-2").get_by_role("link", name="request").last.click()
    await playwright.expect(tab.get_by_text("a cache may serve them")).to_be_visible()
    await playwright.expect(tab.locator("li.fresh")).to_have_count(3)
    await tab.get_by_role("link", name="back to the timeline").click()
    await playwright.expect(tab.locator("#send-2[open]")).to_be_visible()


# acceptance: 180
async def test_a_hostile_transcript_is_text_and_nothing_else(tab: Any) -> None:
    await go(tab, "session?id=demo&send=1")
    await tab.locator("#send-1 .call summary").first.click()
    shown = await tab.locator("main").inner_text()
    assert "<img src=x onerror=alert(1)>" in shown
    assert not set("\x1b\u202e") & set(shown)
    assert "⟨U+202E⟩" in shown
    assert await tab.locator("main img, main script, main iframe").count() == 0


async def test_a_long_text_is_fetched_whole_when_somebody_wants_it(tab: Any) -> None:
    await go(tab, "session?id=demo&send=1")
    await tab.locator("#send-1 .call summary").first.click()
    await tab.get_by_role("button", name=re.compile("show all 9,0")).first.click()
    await playwright.expect(tab.get_by_text("x" * 9_000).first).to_be_attached()


# acceptance: 180
async def test_a_send_of_another_process_appears_as_it_runs(tab: Any, file_place: Any) -> None:
    await go(tab, "session?id=demo")
    await tab.wait_for_selector("#send-2")
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda request: "an answer that just came"), store=file_place.store)
    await loop.send("and now?", "demo")
    await loop.aclose()
    await playwright.expect(tab.locator("#send-3")).to_contain_text("an answer that just came")
    await playwright.expect(tab.locator("#send-3 > summary")).to_contain_text("completed")


async def test_the_keys_move_through_the_list_and_open_what_they_stand_on(tab: Any, file_place: Any) -> None:
    await tab.keyboard.press("/")
    assert await tab.evaluate("document.activeElement.type") == "search"
    await tab.keyboard.press("Escape")
    await tab.keyboard.press("j")
    await tab.keyboard.press("Enter")
    await playwright.expect(tab.locator(".standing .id")).to_have_text("demo")
    await tab.keyboard.press("u")
    await playwright.expect(tab.get_by_role("heading", name="Sessions")).to_be_visible()


async def test_a_page_that_cannot_be_shown_says_why(tab: Any) -> None:
    await go(tab, "session?id=nobody")
    await playwright.expect(tab.get_by_text("no session 'nobody' in this store")).to_be_visible()
    await go(tab, "")
    await playwright.expect(tab.get_by_role("heading", name="Sessions")).to_be_visible()


async def test_a_person_decides_on_an_approval_and_answers_a_question(tab: Any, file_place: Any) -> None:
    loop = await waiting(file_place)
    await go(tab, "session?id=asked")
    await tab.get_by_role("textbox", name="Note").fill("up to 10 euros")
    await tab.get_by_role("button", name="Approve").click()
    await tab.get_by_role("textbox", name="Answer").fill("Oslo")
    await tab.get_by_role("button", name="Answer", exact=True).click()
    await playwright.expect(tab.get_by_text("goes on with it")).to_have_count(2)
    result = await loop.resume("asked")
    assert (result.status, result.final_text) == ("completed", "done")
    assert [message["content"] for message in await loop.get_messages("asked") if message["role"] == "tool"] == ["paid 5", "Oslo"]
    await loop.aclose()


async def test_an_approval_whose_arguments_are_hidden_is_given_once_they_were_shown(tab: Any, file_place: Any) -> None:
    loop = StatefulAgentLoop(llm=ScriptedLLM([call("deploy", password="hunter2-hunter2")]), store=file_place.store, tools=[deploy])
    await loop.new_session(session_id="deploys")
    await loop.send("Deploy", "deploys")
    await go(tab, "session?id=deploys")
    asked = tab.locator(".asked")
    await playwright.expect(asked).to_contain_text('"password": "***"')
    await playwright.expect(asked.get_by_role("button", name="Approve")).to_be_disabled()
    await playwright.expect(asked.get_by_role("button", name="Deny")).to_be_enabled()
    await asked.get_by_role("button", name="Show all of it").click()
    await playwright.expect(asked).to_contain_text('"password": "hunter2-hunter2"')
    await asked.get_by_role("button", name="Approve").click()
    await playwright.expect(tab.get_by_text("goes on with it")).to_be_visible()
    assert "hunter2" not in await tab.locator(".sends").inner_text()
    await loop.aclose()


async def test_a_search_among_many_sessions_puts_its_slices_in_order(tab: Any, file_place: Any) -> None:
    names = [f"s{n * 7_919 % SLICE:05}" for n in range(SLICE)]  # the order of time is not that of ids
    kinds = {"sessions": ("session_id, created_at, updated_at", range(SLICE)), "session_info": ("session_id, kind", None)}
    for table, (columns, times) in kinds.items():
        rows = [(name, 1, at) for name, at in zip(names, times, strict=True)] if times else [(name, "root") for name in names]
        marks = ", ".join([f"({', '.join('?' * len(rows[0]))})"] * len(rows))
        sql = f"INSERT INTO pl_{table} ({columns}) VALUES {marks}"
        await file_place.store.database.write([Statement(sql, [value for row in rows for value in row])])
    await go(tab, "?kind=root")
    lines = tab.locator("tbody .id, tbody td:first-child > a")
    await playwright.expect(lines.nth(1)).to_have_text("demo")
    await playwright.expect(tab.get_by_role("status").first).to_have_text("")
    assert (await lines.all_inner_texts())[2:] == names[:-50:-1]
    await tab.get_by_role("button", name="Older sessions").click()
    await playwright.expect(lines.nth(60)).to_have_text(names[-59])


async def test_a_line_of_five_million_characters_does_not_stop_the_page(tab: Any, file_place: Any) -> None:
    @tool(effects="pure")
    def dump() -> str:
        """Dump."""
        return "<b>" + "0123456789" * 500_000

    loop = StatefulAgentLoop(llm=ScriptedLLM([call("dump"), say("w" * 5_000_000)]), store=file_place.store, tools=[dump])
    await loop.new_session(session_id="long")
    await loop.send("dump", "long")
    await loop.aclose()
    await go(tab, "session?id=long&send=1")
    shown = tab.locator("#send-1 .item.model .text").last
    await playwright.expect(shown).to_contain_text("wwww")
    assert len(await shown.inner_text()) < 5_000
    await tab.get_by_role("button", name="show all 5,000,000").click()
    for left in ("4,800,000 more", "4,600,000 more"):
        await tab.get_by_role("button", name=left).click()
    await playwright.expect(tab.get_by_role("button", name="4,400,000 more")).to_be_visible()
    assert await tab.evaluate("Math.max(...[...document.querySelectorAll('.text')].map((one) => one.textContent.length))") == 600_000


async def test_a_workflow_is_drawn_with_the_state_of_each_step_and_its_question_answered(tab: Any, file_place: Any) -> None:
    loop, result = await begun(file_place.store)
    await go(tab, f"session?id=wf_{result.run_id}")
    picture = tab.get_by_role("region", name="Picture of the workflow")
    await playwright.expect(picture.get_by_role("link", name="plan completed")).to_be_visible()
    await playwright.expect(picture.get_by_role("link", name="r 2 completed")).to_be_visible()
    await playwright.expect(picture.get_by_role("link", name="tone? waiting")).to_be_visible()
    await playwright.expect(picture.locator("text", has_text="not reached")).to_have_count(2)
    assert await picture.locator("svg title").first.text_content() == "The workflow report"
    colour = "(one) => getComputedStyle(one.querySelector('rect')).stroke"
    colours = {name: await picture.get_by_role("link", name=name).evaluate(colour) for name in ("plan completed", "tone? waiting")}
    assert len(set(colours.values())) == 2
    await picture.get_by_role("link", name="r 2 completed").click()
    await playwright.expect(tab.locator("#step-r")).to_be_focused()
    await tab.get_by_role("button", name="long").click()
    await playwright.expect(tab.get_by_text("goes on with it")).to_be_visible()
    await loop.resume(f"wf_{result.run_id}")
    await playwright.expect(picture.get_by_role("link", name="essay completed")).to_be_visible()
    await loop.aclose()


# acceptance: 180
async def test_a_leaf_is_seen_to_run_and_leads_to_its_session(tab: Any, file_place: Any) -> None:
    let_go: list[bool] = []

    async def model(request: Any) -> str:
        if str(request.system_prompt).startswith("Stay"):
            while not let_go:
                await asyncio.sleep(0.01)
        return answer(request)

    spec = {"name": "two", "input": "x", "root": {"type": "sequence", "steps": [agent("first", "Go."), agent("second", "Stay.")]}}
    task = asyncio.ensure_future(begun(file_place.store, spec, model))
    await tab.reload()
    line = tab.locator("tr", has_text="workflow=two").first
    await playwright.expect(line.locator("[data-label=Tokens]")).to_have_text("–")  # its steps' sessions count them
    await line.get_by_role("link").click()
    picture = tab.get_by_role("region", name="Picture of the workflow")
    await playwright.expect(picture.get_by_role("link", name="second running")).to_be_visible()
    leaf = await picture.get_by_role("link", name="second running").get_attribute("href")
    assert "id=sess_" in leaf
    let_go.append(True)
    loop, _ = await task
    await playwright.expect(picture.get_by_role("link", name="second completed")).to_be_visible()
    await loop.aclose()
