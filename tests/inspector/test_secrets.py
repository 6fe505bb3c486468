"""What looks like a secret is hidden in whatever the inspector serves, until somebody asks for it by a flag."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from asgi import Browser

from power_loop import AgentLoopConfig, RunPolicy, StatefulAgentLoop, open_store, tool
from power_loop.contracts.events import AgentEvent
from power_loop.inspector.app import inspector_app
from power_loop.inspector.shown import ANSWER_CHARS, LEAST_CHARS, LIVE_CHARS, Given, LiveText, Passage, Shown
from power_loop.testing import ScriptedLLM, call, say

TOKEN = "the-token-of-the-link"
KEY, PASSWORD = "sk-" + "a1B2c3D4" * 5, "hunter2-hunter2"
TALK = f'my key is {KEY}, and {{"password": "{PASSWORD}"}}'


@tool(effects="pure")
def look_up(password: str, about: str) -> str:
    """Look it up."""
    return TALK


@tool(needs_approval=True)
def deploy(password: str, command: str) -> str:
    """Deploy."""
    return "deployed"


class Told:
    """A database in which secrets stand wherever a user, a model or a tool may leave them."""

    async def open(self, folder: Path) -> None:
        self.store = await open_store(str(folder / "told.db"))
        asks = call("deploy", password=PASSWORD, command=f"deploy --token {KEY}")
        replies = [call("look_up", password=PASSWORD, about=f"{'x' * 3_980} {KEY}"), say(f"{TALK} {'y' * 9_000} {KEY}"), asks]
        config = AgentLoopConfig(running=RunPolicy(keep_requests=True))
        self.loop = StatefulAgentLoop(llm=ScriptedLLM(replies), store=self.store, tools=[look_up, deploy], config=config)
        await self.loop.new_session(session_id="told", metadata={"api_key": PASSWORD, "about": TALK, "tenant": "acme"}, system_prompt=TALK)
        await self.loop.send(TALK, "told", metadata={"secret": PASSWORD})
        await self.loop.send("deploy", "told")
        await self.loop.enqueue(TALK, "told")
        await self.loop.schedule_timer("told", delay_s=3_600, note=TALK)
        await self.store.add_note("told", TALK)
        await self.store.begin_job("told", "bg_1", kind="command", command=f"deploy --token {KEY}", holder=None, timeout_s=None)

    async def browser(self, **how: bool) -> Browser:
        browser = Browser(inspector_app(self.loop, self.store, token=TOKEN, **how))
        await browser.get(f"/?token={TOKEN}")
        return browser

    async def pages(self, browser: Browser) -> dict[str, str]:
        """Every page, as it is served."""
        rows = await self.store.rows("told", after=0)
        wanted = [
            "sessions",
            "sessions?q=acme",
            "session?id=told",
            "timeline?id=told",
            "doctor?id=told",
            "charts",
            "charts?id=told",
            "days",
        ]
        wanted += [f"record?id=told&seq={row.seq}" for row in rows]
        wanted += [f"{page}?id=told&seq={row.seq}" for row in rows if row.cells.kind == "model_replied" for page in ("request", "record")]
        served = {page: await browser.get(f"/api/{page}") for page in [*wanted, "record?id=told&seq=2&part=0"]}
        assert {answer.status for answer in served.values()} == {200}
        return {page: answer.body.decode() for page, answer in served.items()}


@pytest.fixture
async def told(tmp_path: Path) -> Any:
    made = Told()
    await made.open(tmp_path)
    yield made
    await made.loop.aclose()
    await made.store.close()


async def test_no_page_shows_a_secret(told: Told) -> None:
    for page, body in (await told.pages(await told.browser(allow_actions=True))).items():
        assert [secret for secret in (KEY, KEY[:20], PASSWORD) if secret in body] == [], page


async def test_a_flag_shows_them(told: Told) -> None:
    served = await told.pages(await told.browser(show_secrets=True))
    shown = {page for page, body in served.items() if KEY in body or PASSWORD in body}
    assert {"sessions", "session?id=told", "timeline?id=told", "doctor?id=told", "record?id=told&seq=2&part=0"} <= shown


async def test_what_is_no_secret_stays(told: Told) -> None:
    (line,) = (await (await told.browser()).get("/api/sessions")).json["sessions"]
    assert line["metadata"] == {"api_key": "***", "about": 'my key is ***, and {"password": "***"}', "tenant": "acme"}


# --- approvals --------------------------------------------------------------------------------------------


async def test_whoever_may_decide_sees_that_something_is_hidden_and_may_look_at_it(told: Told) -> None:
    browser = await told.browser(allow_actions=True)
    (asked,) = (await browser.get("/api/session?id=told")).json["waiting"]
    assert (asked["arguments"], asked["hidden"]) == ({"password": "***", "command": "deploy --token ***"}, True)
    exact = (await browser.get(f"/api/asked?id=told&interaction_id={asked['interaction_id']}")).json
    assert exact["arguments"] == {"password": PASSWORD, "command": f"deploy --token {KEY}"}
    assert (len(exact["digest"]), exact["interaction_id"], "digest" in asked) == (64, asked["interaction_id"], False)


async def test_a_decision_is_upon_the_arguments_as_they_are(told: Told) -> None:
    browser = await told.browser(allow_actions=True)
    (asked,) = (await browser.get("/api/session?id=told")).json["waiting"]
    exact = (await browser.get(f"/api/asked?id=told&interaction_id={asked['interaction_id']}")).json
    decision = {"session_id": "told", "interaction_id": asked["interaction_id"], "digest": exact["digest"], "approved": True}
    assert (await browser.post("/api/decide", decision)).status == 200


async def test_nobody_else_is_told_the_arguments(told: Told) -> None:
    (asked,) = (await (await told.browser()).get("/api/session?id=told")).json["waiting"]
    for actions, name in ((False, asked["interaction_id"]), (True, "another")):
        answer = await (await told.browser(allow_actions=actions)).get(f"/api/asked?id=told&interaction_id={name}")
        assert (answer.status, PASSWORD in answer.body.decode()) == (404, False)


# --- pieces -----------------------------------------------------------------------------------------------

PEM = f"-----BEGIN PRIVATE KEY-----\n{'abcdEFGH0123' * 30}\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize("secret", [KEY, PEM, f'{{"token": "{PASSWORD}", "n": 1}}', f"https://me:{PASSWORD}@host/"])
def test_pieces_side_by_side_are_the_whole_and_no_border_lets_a_secret_through(secret: str) -> None:
    text = f"before it {secret} and behind it"
    whole = Shown().piece(text, 0, len(text))
    assert secret not in whole
    for border in range(1, len(text)):
        first, second = Shown().piece(text, 0, border), Shown().piece(text, border, len(text))
        assert first + second == whole, border


def test_with_the_flag_a_piece_is_what_was_asked_for() -> None:
    assert Shown(secrets=True).piece(TALK, 3, 30) == TALK[3:33]


def test_text_that_is_being_written_shows_no_beginning_of_a_secret() -> None:
    text, chance = f"It is {KEY} indeed, or {PASSWORD.join(['password: ', chr(10)])} as you like. ", random.Random(7)
    for _ in range(50):
        live, left, shown = LiveText(Shown()), text, ""
        while left:
            size = chance.randint(1, 9)
            shown = live.told(AgentEvent("stream_delta", {"text": left[:size]}))["text"]
            left = left[size:]
            assert [secret for secret in (KEY[:6], PASSWORD[:4]) if secret in shown] == []
        assert shown == text.replace(KEY, "***").replace(PASSWORD, "***")


def test_of_a_long_text_that_is_being_written_the_end_is_shown_and_nothing_once_it_is_written() -> None:
    live = LiveText(Shown())
    for _ in range(100):
        shown = live.told(AgentEvent("stream_delta", {"text": "a word " * 40}))["text"]
    assert (len(shown), shown[-7:]) == (LIVE_CHARS, "a word ")
    live.told(AgentEvent("message_appended", record_seq=3))
    assert live.told(AgentEvent("stream_delta", {"text": "anew "}))["text"] == "anew "


# --- what an answer holds ---------------------------------------------------------------------------------


def test_an_answer_shows_a_bounded_number_of_characters_and_short_texts_leave_theirs_to_the_long() -> None:
    answer = Shown().answer({"items": [Passage("ab " * 5_000) for _ in range(100)] + [Passage("short")]})
    shown = [each["shown"] for each in answer["items"]]
    assert ANSWER_CHARS - 200 < sum(map(len, shown)) <= ANSWER_CHARS
    assert (shown[-1], {each["chars"] for each in answer["items"]}) == ("short", {15_000, 5})


def test_however_many_texts_there_are_each_is_seen() -> None:
    answer = Shown().answer([Passage("ab " * 5_000) for _ in range(2_000)])
    assert {each["upto"] for each in answer} == {LEAST_CHARS}


@pytest.mark.parametrize("value", [None, 5, "text", ["a"], {"a": {"b": 1}}])
def test_a_small_value_is_shown_as_it_is(value: Any) -> None:
    assert Shown().answer(Given(value)) == value


def test_of_a_large_value_the_beginning_is_shown_and_of_a_mapping_the_fields() -> None:
    large = {"token": PASSWORD * 1_000, "list": list(range(5_000)), "text": "t" * 9_000, "n": 1}
    told = Shown().answer(Given(large))
    assert (told["token"], told["n"], list(told)) == ("***", 1, list(large))
    assert told["text"].endswith("… (9000 characters)")
    assert len(told["list"]) < 5_000
