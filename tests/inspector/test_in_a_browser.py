"""The inspector in a real browser: from page to page, live, by keys, harmless whatever was said, and with a person's decisions."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from browsers import go, opened
from inspected_runs import agent, answer, begun
from parked import waiting

from power_loop import HumanInputRequired, StatefulAgentLoop, tool
from power_loop.contracts.store import Statement
from power_loop.inspector.lines import SLICE
from power_loop.testing import FunctionLLM, ScriptedLLM, call, say

playwright = pytest.importorskip("playwright.async_api")
pytestmark = pytest.mark.asyncio(loop_scope="session")


@tool(needs_approval=True)
def deploy(password: str, to: str = "") -> str:
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


def asking(place: Any, *options: Any, **more: Any) -> StatefulAgentLoop:
    """A loop whose tool asks somebody to choose."""

    @tool
    def choose() -> str:
        """Let somebody choose."""
        raise HumanInputRequired("Which one?", kind="choice", options=list(options), **more)

    return StatefulAgentLoop(llm=ScriptedLLM([call("choose"), say("done")]), store=place.store, tools=[choose])


@pytest.mark.parametrize(
    ("option", "button", "answered"),
    [
        ({"id": "p", "label": "Production", "description": "irreversible"}, "Production", "p"),
        ({"label": "one"}, "one", "one"),
        ({"id": "r", "label": ""}, "r", "r"),
        ("plain", "plain", "plain"),
        (7, "7", "7"),
    ],
)
async def test_what_is_chosen_is_answered_with_its_id_or_else_its_name(
    tab: Any, file_place: Any, option: Any, button: str, answered: str
) -> None:
    async with asking(file_place, option, "another") as loop:
        session = await loop.new_session()
        await loop.send("go", session)
        await go(tab, f"session?id={session}")
        if isinstance(option, dict) and "description" in option:
            await playwright.expect(tab.locator(".asked")).to_contain_text("irreversible")
        await tab.get_by_role("button", name=button, exact=True).click()
        await playwright.expect(tab.get_by_text("goes on with it")).to_be_visible()
        assert (await loop.resume(session)).status == "completed"
        assert [row["content"] for row in await loop.get_messages(session) if row["role"] == "tool"] == [answered]


async def test_options_that_look_like_secrets_are_chosen_once_they_were_shown(tab: Any, file_place: Any) -> None:
    async with asking(file_place, "password=hunter2hunter2", "none") as loop:
        session = await loop.new_session()
        await loop.send("go", session)
        await go(tab, f"session?id={session}")
        asked = tab.locator(".asked")
        await asked.get_by_role("button", name="Show all of it").wait_for()
        assert "hunter2" not in await tab.content()
        assert await asked.get_by_role("button").count() == 1
        await asked.get_by_role("button", name="Show all of it").click()
        await asked.get_by_role("button", name="password=hunter2hunter2").click()
        await playwright.expect(tab.get_by_text("goes on with it")).to_be_visible()


async def test_what_shows_as_nothing_is_named_before_it_is_approved_but_for_what_emoji_are_joined_of(tab: Any, file_place: Any) -> None:
    unseen, family = (
        "".join(map(chr, (0xAD, 0x34F, 0x3164, 0x2800, 0xE0062, 0xE0101))),
        "\N{HEAVY BLACK HEART}\ufe0f\N{WOMAN}\u200d\N{GIRL}",
    )
    loop = StatefulAgentLoop(
        llm=ScriptedLLM([call("deploy", password="", to=f"bob{unseen}\ufe0f {family}")]), store=file_place.store, tools=[deploy]
    )
    session = await loop.new_session()
    await loop.send("Deploy", session)
    await go(tab, f"session?id={session}")
    named = "".join(f"\u27e8U+{code}\u27e9" for code in ("00AD", "034F", "3164", "2800", "E0062", "E0101", "FE0F"))
    await playwright.expect(tab.locator(".asked")).to_contain_text(f"bob{named} {family}")
    await loop.aclose()


async def test_two_clicks_decide_once(tab: Any, file_place: Any) -> None:
    loop = await waiting(file_place)
    await go(tab, "session?id=asked")
    await tab.get_by_role("button", name="Approve").dblclick()
    await playwright.expect(tab.get_by_text("goes on with it")).to_be_visible()
    await playwright.expect(tab.locator(".asked .bad")).to_have_count(0)
    await loop.aclose()


async def test_a_note_that_is_being_written_outlives_what_happens_meanwhile(tab: Any, file_place: Any) -> None:
    loop = await waiting(file_place)
    await go(tab, "session?id=asked")
    await tab.get_by_role("textbox", name="Note").fill("up to 10 euros")
    await tab.get_by_role("heading", level=1).click()
    await loop.enqueue("and there is something else", "asked")
    await file_place.store.add_note("asked", "looked at")
    await tab.evaluate("document.querySelector('#said').textContent = ''")
    assert (await loop.resume("asked")).status == "waiting_for_input"
    await playwright.expect(tab.locator("#said")).not_to_be_empty()
    await playwright.expect(tab.get_by_role("textbox", name="Note")).to_have_value("up to 10 euros")
    await loop.aclose()


async def test_a_page_that_hears_nothing_any_more_says_so(tab: Any, file_place: Any) -> None:
    await tab.route("**/api/events*", lambda route: route.abort())
    await go(tab, "session?id=demo")
    await playwright.expect(tab.locator("#said")).to_contain_text("The inspector does not answer: start it again")


async def test_more_than_a_page_that_was_said_unheard_leaves_no_hole(tab: Any, file_place: Any) -> None:
    async with StatefulAgentLoop(llm=FunctionLLM(lambda request: "yes"), store=file_place.store) as loop:
        session = await loop.new_session()
        await loop.send("one", session)
        await go(tab, f"session?id={session}")
        await tab.locator("#send-1").wait_for()
        tab.inspector.send_signal(signal.SIGSTOP)
        for n in range(200):
            await loop.send(f"{n}", session)
        tab.inspector.send_signal(signal.SIGCONT)
        await tab.locator("#send-201").wait_for()
        earlier, sends = tab.get_by_role("button", name="Earlier sends"), tab.locator(".sends > *")
        while await earlier.is_visible():
            there = await sends.count()
            await earlier.click()
            await playwright.expect(sends).not_to_have_count(there)
        assert await sends.evaluate_all("each => each.map((one) => one.id)") == [f"send-{n}" for n in range(1, 202)]


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
