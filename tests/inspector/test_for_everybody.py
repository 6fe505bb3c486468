"""Every page can be read: on a telephone, in the dark, by keyboard, and by whoever does not see it."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from typing import Any

import npm
import pytest
import pytest_asyncio
from browsers import go, opened, photographed
from inspected_runs import begun
from parked import waiting

from power_loop.testing.hand import Hand

pytestmark = pytest.mark.asyncio(loop_scope="session")

# What judges pages by the rules of WCAG 2.2, levels A and AA, as far as a program can.
AXE = "axe-core@4.14.1"
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast"]},  # nothing else depends on colours
}
PAGES = {
    "list": "", "nothing": "?q=nothing-like-it", "session": "session?id=demo&send=1", "asked": "session?id=asked",
    "workflow": "session?id={run}",
    "request": "request?id=demo&seq=6", "charts": "charts", "error": "session?id=nobody",
}  # fmt: skip


@pytest.fixture
def file_place(browsed_place: Any) -> Any:
    return browsed_place


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Any, file_place: Any) -> AsyncIterator[Any]:
    """A tab on a database that has something of everything."""
    asked, (runs, result) = await waiting(file_place), await begun(file_place.store)
    await file_place.loop.schedule_timer("demo", delay_s=3_600, note="Look at it again")
    await file_place.loop.enqueue("One more thing", "demo")
    await file_place.store.add_note("demo", "She prefers window seats")
    await file_place.store.create_session(session_id="helper", parent_session_id="demo", kind="subagent", lifecycle="linked")
    await file_place.store.begin_job("demo", "bg_1", kind="command", command="make test", holder=None, timeout_s=None)
    await file_place.store.end_job("demo", "bg_1", status="failed", return_code=2)
    await file_place.store.begin_job("demo", "helper", kind="agent", command="a helper", holder=None, timeout_s=None)
    async with opened(browser, file_place.dsn, "--allow-actions") as page:
        page.pages = {name: place.format(run=f"wf_{result.run_id}") for name, place in PAGES.items()}
        yield page
    for loop in (asked, runs):
        await loop.aclose()


async def everything_open(tab: Any, place: str) -> None:
    await go(tab, place)
    if await tab.locator(".doctor").count():
        await tab.wait_for_selector(".doctor h2")
    for _ in ("sends", "the calls in them"):
        await tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        await tab.wait_for_timeout(20)


async def test_every_page_fits_a_telephone_in_light_and_dark(tab: Any) -> None:
    await tab.set_viewport_size({"width": 360, "height": 740})
    for name, place in tab.pages.items():
        await go(tab, place)
        for scheme in ("light", "dark"):
            await tab.emulate_media(color_scheme=scheme)
            await photographed(tab, f"telephone-{scheme}-{name}")
        await everything_open(tab, place)
        assert await tab.evaluate("document.documentElement.scrollWidth") == 360, name


async def test_no_page_breaks_a_rule_of_accessibility(tab: Any) -> None:
    try:
        axe = npm.installed(AXE, "axe-core/axe.min.js")
    except LookupError as why:
        warnings.warn(f"NO AXE: {why}", stacklevel=1)
        pytest.skip(str(why))
    # The page's own policy lets no script in but its own; this one stands outside of the page's world.
    judge = axe.read_text(encoding="utf-8")
    for scheme in ("light", "dark"):
        await tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for name, place in tab.pages.items():
            await everything_open(tab, place)
            await photographed(tab, f"{scheme}-{name}")
            assert await tab.locator("main .error").count() == (name == "error")
            await tab.evaluate(f"() => {{ {judge} }}")
            found = await tab.evaluate("(rules) => axe.run(document, { runOnly: rules })", RULES[scheme])
            told = [(each["id"], each["help"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found["violations"]]
            assert not told, (scheme, name, told)
            assert len(found["passes"]) > (10 if scheme == "light" else 0)


async def test_what_belongs_to_a_session_stands_beside_its_timeline(tab: Any) -> None:
    await go(tab, "session?id=demo")
    await tab.wait_for_selector(".doctor h2")
    beside = await tab.get_by_role("complementary", name="About this session").inner_text()
    wanted = [
        "inbox waiting",
        "helper",
        "One more thing",
        "Look at it again",
        "armed",
        "make test",
        "code 2",
        "She prefers window seats",
        "free",
    ]
    assert [each for each in wanted if each not in beside] == []
    await tab.get_by_role("link", name="a helper").click()
    await tab.get_by_role("link", name="parent session").click()
    await tab.wait_for_selector("#send-2[open]")


async def test_by_tab_everything_is_reached_in_the_order_of_the_page_and_is_seen_to_be(tab: Any) -> None:
    await go(tab, "session?id=asked")
    await tab.wait_for_selector(".doctor h2")
    await tab.evaluate("document.body.focus()")
    order, seen = [], "getComputedStyle(document.activeElement).outlineStyle"
    for _ in range(40):
        await tab.keyboard.press("Tab")
        if await tab.evaluate("document.activeElement === document.body"):
            break
        assert await tab.evaluate(f"document.activeElement.matches('.skip') || {seen} !== 'none'")
        order.append(await tab.evaluate("document.activeElement.innerText || document.activeElement.getAttribute('aria-label') || ''"))
    wanted = ["Skip to the content", "Sessions", "Charts", "all sessions", "Note", "Approve", "Deny", "Answer"]
    assert [each for each in order if each in wanted][: len(wanted)] == wanted


async def test_the_help_names_the_keys_and_gives_the_focus_back(tab: Any) -> None:
    await tab.keyboard.press("?")
    assert await tab.get_by_role("dialog", name="Keys").is_visible()
    await tab.keyboard.press("Escape")
    assert not await tab.get_by_role("dialog", name="Keys").is_visible()


async def test_what_is_empty_says_so_and_shows_the_way_on(tab: Any, file_place: Any) -> None:
    await go(tab, "?q=nothing-like-it")
    await tab.get_by_role("link", name="Show all sessions").click()
    await tab.wait_for_selector("tbody tr")
    await Hand.of(file_place.store, await file_place.loop.new_session(session_id="fresh"), "me")
    await go(tab, "session?id=fresh")
    assert await tab.get_by_text("Nothing was said yet").is_visible()
