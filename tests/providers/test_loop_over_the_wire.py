"""A whole loop over real transports: how often the wire is reached, and what of a session goes over it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentEvent, AgentLoopConfig, CancellationToken, LLMRetryPolicy, StatefulAgentLoop, UsageLimits
from power_loop.errors import LLMError

POLICIES = [None, LLMRetryPolicy(max_attempts=5, backoff_initial=0.001, backoff_max=0.002)]


def loop_over(llm: Any, folder: Path, **config: Any) -> StatefulAgentLoop:
    return StatefulAgentLoop(llm=llm, dsn=str(folder / "app.db"), config=AgentLoopConfig(**config))


# acceptance: 70 (whatever the policy)
@pytest.mark.parametrize("policy", POLICIES, ids=["no policy", "five attempts"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refused_request_reaches_the_wire_once_whatever_the_policy(
    wire: Any, server: Any, tmp_path: Path, status: int, policy: LLMRetryPolicy | None
) -> None:
    server.refuse(status, {"message": "no"})
    async with loop_over(wire.llm(), tmp_path, retry_policy=policy) as loop:
        if policy is None:
            with pytest.raises(LLMError):
                await loop.run("hello")
        else:
            assert (await loop.run("hello")).status == "degraded"
    assert len(server.asked) == 1


@pytest.mark.parametrize("policy", POLICIES, ids=["no policy", "five attempts"])
async def test_attempts_of_loop_and_transport_never_multiply(wire: Any, server: Any, tmp_path: Path, policy: LLMRetryPolicy | None) -> None:
    for _ in range(20):
        server.refuse(503, {"message": "busy"})
    async with loop_over(wire.llm(max_retries=2), tmp_path, retry_policy=policy) as loop:
        if policy is None:
            with pytest.raises(LLMError):
                await loop.run("hello")
        else:
            assert (await loop.run("hello")).status == "degraded"
    assert len(server.asked) == (3 if policy is None else 5)


async def test_attempts_of_the_transport_end_with_the_budget(wire: Any, server: Any, tmp_path: Path) -> None:
    for _ in range(5):
        server.refuse(503, {"message": "busy"})
    async with loop_over(wire.llm(max_retries=4), tmp_path) as loop:
        result = await loop.run("hello", limits=UsageLimits(requests=2))
    assert (result.status, result.usage["calls"], len(server.asked)) == ("budget_exceeded", 2, 2)


async def test_a_cancel_between_two_attempts_of_the_transport_charges_the_one_that_was_made(wire: Any, server: Any, tmp_path: Path) -> None:
    server.refuse(503, {"message": "busy"}, **{"retry-after": "30"})
    token, told = CancellationToken(), list[AgentEvent]()

    async def never_ends() -> None:
        token.cancel("enough")
        await asyncio.Event().wait()

    async with loop_over(wire.llm(wait=never_ends), tmp_path) as loop:
        loop.event_bus.subscribe(None, told.append)
        result = await loop.run("hello", stop_event=token)
        rows = await (await loop.ensure_store()).list_usage(result.session_id)
    assert (result.status, result.usage["calls"], len(rows), len(server.asked)) == ("cancelled", 1, 1, 1)
    assert [event.payload["error_type"] for event in told if event.type == "llm_call_completed"] == ["LLMError"]
    assert [event.payload["next_sleep_seconds"] for event in told if event.type == "llm_retry_attempted"] == [30.0]


# acceptance: 166 (config)
async def test_settings_of_none_are_absent_from_the_wire(wire: Any, server: Any, tmp_path: Path) -> None:
    async with loop_over(wire.llm(), tmp_path, temperature=None, max_tokens=None) as loop:
        await loop.run("hello")
    body = server.asked[0].body
    assert not {"temperature", "tool_choice", "tools", "max_completion_tokens"} & set(body)
    assert body.get("max_tokens") == (None if wire.name == "openai" else 64_000)


# acceptance: 167 (this send, the next, after a restart)
async def test_a_picture_is_sent_as_a_picture_in_this_send_and_later_ones(wire: Any, server: Any, tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    async with loop_over(wire.llm(), tmp_path) as loop:
        session = await loop.new_session()
        await loop.send([{"type": "text", "text": "what is this?"}, picture], session)
        await loop.send("and now?", session)
    async with loop_over(wire.llm(), tmp_path) as loop:
        await loop.send("still?", session)
    first = [asked.body["messages"][1 if wire.name == "openai" else 0]["content"] for asked in server.asked]
    shown = [[{key: block[key] for key in block if key != "cache_control"} for block in content] for content in first]
    assert len(shown) == 3
    assert shown[0] == shown[1] == shown[2]
    assert [block["type"] for block in shown[0]] == ["text", "image_url" if wire.name == "openai" else "image"]


async def test_a_loop_closes_the_model_that_it_made_of_a_string(
    wire: Any, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PROVIDER": wire.name, "BASE_URL": wire.llm().config.base_url, "API_KEY": "key"}.items():
        monkeypatch.setenv(f"POWER_LOOP_{name}", value)
    async with loop_over(f"{wire.name}:model", tmp_path) as loop:
        await loop.run("hello")
    async with asyncio.timeout(5):
        await server.client_left.wait()


async def test_a_model_that_was_given_to_a_loop_goes_on_without_it(wire: Any, server: Any, tmp_path: Path) -> None:
    llm = wire.llm()
    for _ in range(2):
        async with loop_over(llm, tmp_path) as loop:
            await loop.run("hello")
    assert len(server._tasks) == 1
