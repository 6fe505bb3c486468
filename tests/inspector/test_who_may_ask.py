"""The inspector answers its own page on this machine, after the link was opened, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from asgi import Browser

from power_loop.inspector.guard import Guard

TOKEN = "the-token-of-the-link"


async def page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


@pytest.fixture
def browser() -> Browser:
    return Browser(Guard(page, TOKEN))


async def opened(browser: Browser) -> Browser:
    answer = await browser.get(f"/?token={TOKEN}")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    return browser


async def test_the_first_visit_turns_the_token_into_a_cookie_that_no_script_reads(browser: Browser) -> None:
    answer = await browser.get(f"/?token={TOKEN}")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in answer.headers["set-cookie"].split(";")}
    assert TOKEN not in answer.headers["set-cookie"]
    assert (await browser.get("/")).body == b"page"


async def test_the_link_works_once(browser: Browser) -> None:
    await opened(browser)
    stranger = Browser(browser._app)
    answer = await stranger.get(f"/?token={TOKEN}")
    assert (answer.status, answer.headers.get("set-cookie")) == (401, None)
    assert (await browser.get("/")).status == 200


@pytest.mark.parametrize("url", ["/", "/api/sessions", "/static/app.js", "/?token=", "/?token=wrong", f"/api/sessions?token={TOKEN}"])
async def test_nothing_is_shown_without_the_cookie(browser: Browser, url: str) -> None:
    assert (await browser.get(url)).status == 401


@pytest.mark.parametrize("cookie", ["", "power_loop_inspector=", "power_loop_inspector=wrong", "x", "power_loop_inspector=\xfc", "=;;="])
async def test_a_wrong_cookie_opens_nothing(browser: Browser, cookie: str) -> None:
    await opened(browser)
    browser.cookie = cookie
    assert (await browser.get("/")).status == 401


@pytest.mark.parametrize("other", ['seen={"a": "b"}', "x", "=;;=", "a b=c", 'q="open'])
async def test_cookies_of_other_programs_on_this_machine_do_not_stand_in_the_way(browser: Browser, other: str) -> None:
    await opened(browser)
    browser.cookie = f"{other}; {browser.cookie}"
    assert (await browser.get("/")).status == 200


async def test_two_inspectors_side_by_side_do_not_shut_each_other_out(browser: Browser) -> None:
    await opened(browser)
    second = await opened(Browser(Guard(page, TOKEN)))
    browser.cookie = second.cookie = f"{browser.cookie}; {second.cookie}" if not _alike(browser, second) else second.cookie
    assert ((await browser.get("/")).status, (await second.get("/")).status) == (200, 200)


def _alike(one: Browser, other: Browser) -> bool:
    """A browser keeps one cookie of each name for this machine, whatever the port."""
    return one.cookie.partition("=")[0] == other.cookie.partition("=")[0]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "10.0.0.1:8000"]
)
async def test_a_name_that_was_made_to_point_here_is_refused(browser: Browser, host: str) -> None:
    await opened(browser)
    browser.host = host
    assert (await browser.get("/")).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
async def test_the_loopback_has_several_names(browser: Browser, host: str) -> None:
    browser.host = host
    assert (await (await opened(browser)).get("/")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_a_page_of_another_origin_is_refused(browser: Browser, headers: dict[str, str]) -> None:
    await opened(browser)
    assert (await browser.get("/api/sessions", **headers)).status == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_can_be_written_without_the_flag(browser: Browser, method: str) -> None:
    await opened(browser)
    answer = await browser.ask(method, "/api/decide", b"{}", content_type="application/json")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_with_the_flag_only_json_is_taken(browser: Browser) -> None:
    writer = Browser(Guard(page, TOKEN, writes=True))
    await opened(writer)
    assert (await writer.post("/api/decide", {})).status == 200
    assert (await writer.ask("POST", "/api/decide", b"a=b", content_type="application/x-www-form-urlencoded")).status == 415
    assert (await writer.ask("POST", "/api/decide", b"{}")).status == 415
    assert (await writer.post("/api/decide", {}, origin="http://evil.example")).status == 403


@pytest.mark.parametrize("url", ["/", "/?token=wrong"])
async def test_every_answer_says_what_a_browser_may_do_with_it(browser: Browser, url: str) -> None:
    for answer in (await browser.get(url), await (await opened(browser)).get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        browser = Browser(Guard(page, TOKEN))
