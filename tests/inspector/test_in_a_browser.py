"""The inspector as a person meets it: the command, its link, and every page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from parked import waiting

from power_loop import StatefulAgentLoop
from power_loop.testing import FunctionLLM

playwright = pytest.importorskip("playwright.async_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# An answer that is an error; the page shows it, and the browser mentions it besides.
REFUSED = "Failed to load resource"
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Inspector:
    """The command in a process of its own."""

    def __init__(self, dsn: str, *options: str) -> None:
        command = [sys.executable, "-m", "power_loop", "inspect", "--dsn", dsn, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = re.search(r"http://\S+", self.process.stdout.readline())
        assert said is not None
        self.link = said[0]

    def close(self) -> int:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture
async def tab(file_place: Any) -> AsyncIterator[Any]:
    """A tab in which the inspector was opened; scripts that fail, and everything that a policy stopped, fail the test."""
    if CHROMIUM is None:
        warnings.warn("NO BROWSER: install chromium (make servers) to try the inspector's pages", stacklevel=1)
        pytest.skip("there is no chromium")
    inspector = Inspector(file_place.dsn, "--allow-actions")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = await browser.new_page(viewport={"width": 1200, "height": 900})
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" and REFUSED not in message.text else None)
        await page.goto(inspector.link)
        await page.wait_for_selector("tbody tr")
        yield page
        if folder := os.environ.get("POWER_LOOP_SCREENSHOTS"):
            await page.screenshot(path=f"{folder}/{os.environ['PYTEST_CURRENT_TEST'].split('::')[1].split(' ')[0]}.png", full_page=True)
        await browser.close()
    assert inspector.close() in (0, 130)
    assert not wrong


async def go(tab: Any, place: str) -> None:
    await tab.goto(re.sub(r"#.*|$", f"#/{place}", tab.url, count=1))


# acceptance: 180
async def test_from_the_list_to_a_session_to_a_request_and_back(tab: Any) -> None:
    assert "token" not in tab.url
    await tab.get_by_role("searchbox").fill("acme")
    await tab.keyboard.press("Enter")
    await tab.get_by_role("link", name="demo").click()
    await tab.locator("#send-2 > summary").click()
    await tab.locator("#send-2").get_by_text("book").first.click()
    await playwright.expect(tab.locator("#send-2")).to_contain_text("no such city")
    await tab.locator("#send-2").get_by_role("link", name="request").last.click()
    await playwright.expect(tab.get_by_text("a cache may serve them")).to_be_visible()
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
    await playwright.expect(tab.get_by_role("heading", name="demo")).to_be_visible()
    await tab.keyboard.press("u")
    await playwright.expect(tab.get_by_role("heading", name="Sessions")).to_be_visible()


PAGES = ("", "session?id=demo&send=1", "request?id=demo&seq=2", "charts")


async def test_every_page_fits_a_telephone_and_can_be_read_in_the_dark(tab: Any) -> None:
    await tab.set_viewport_size({"width": 360, "height": 740})
    for page, scheme in [(page, scheme) for page in PAGES for scheme in ("light", "dark")]:
        await tab.emulate_media(color_scheme=scheme)
        await go(tab, page)
        await tab.wait_for_selector("main h1")
        assert await tab.evaluate("document.documentElement.scrollWidth") == 360
        ink, paper = await tab.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        assert contrast(ink, paper) > 7


async def test_every_page_has_names_for_those_who_cannot_see_it(tab: Any) -> None:
    for page in PAGES:
        await go(tab, page)
        await tab.wait_for_selector("main h1")
        nameless = """[...document.querySelectorAll('button, a, input, select, svg, meter')].filter((one) =>
          !(one.textContent.trim() || one.getAttribute('aria-label') || one.placeholder || one.closest('label')))
          .map((one) => one.outerHTML)"""
        assert await tab.evaluate(nameless) == []


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


def contrast(ink: str, paper: str) -> float:
    """Of two CSS colours, as WCAG defines it."""
    light = sorted((_light([int(part) for part in re.findall(r"\d+", colour)[:3]]) for colour in (ink, paper)), reverse=True)
    return (light[0] + 0.05) / (light[1] + 0.05)


def _light(rgb: list[int]) -> float:
    parts = [value / 255 / 12.92 if value / 255 <= 0.03928 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
