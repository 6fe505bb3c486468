"""The inspector as a person meets it: the command in a process of its own, its link, and a tab in which it was opened."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# An answer that is an error; the page shows it, and the browser mentions it besides.
REFUSED = "Failed to load resource"
# Far beyond what anything takes: a machine may be busy.
LIMIT_MS = 100_000
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
        return self.process.wait()


@asynccontextmanager
async def running() -> AsyncIterator[Any]:
    """One browser, in which every test has a window of its own."""
    playwright = pytest.importorskip("playwright.async_api")
    if CHROMIUM is None:
        warnings.warn("NO BROWSER: install chromium (make servers) to try the inspector's pages", stacklevel=1)
        pytest.skip("there is no chromium")
    playwright.expect.set_options(timeout=LIMIT_MS)
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(browser: Any, dsn: str, *options: str) -> AsyncIterator[Any]:
    """A tab in which the inspector was opened, a process that it knows; scripts that fail, and what a policy stopped, fail the test."""
    inspector = Inspector(dsn, *options)
    window = await browser.new_context(viewport={"width": 1200, "height": 900})
    page = await window.new_page()
    page.inspector = inspector.process
    page.set_default_timeout(LIMIT_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" and REFUSED not in message.text else None)
    await page.goto(inspector.link)
    await page.wait_for_selector("main h1")
    yield page
    await photographed(page, os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0])
    await window.close()
    assert inspector.close() in (0, 130)
    assert not wrong


async def photographed(tab: Any, name: str) -> None:
    """Keep what the tab shows, where `POWER_LOOP_SCREENSHOTS` names a folder for it."""
    if folder := os.environ.get("POWER_LOOP_SCREENSHOTS"):
        await tab.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def go(tab: Any, place: str) -> None:
    """Open the page at ``place``, and wait until it is shown."""
    await tab.evaluate("document.querySelector('main h1')?.remove()")
    there = tab.url.endswith(f"#/{place}")
    await tab.goto(re.sub(r"#.*|$", f"#/{place}", tab.url, count=1))
    await (tab.reload() if there else tab.wait_for_selector("main h1"))
    await tab.wait_for_selector("main:not([aria-busy]) h1")
