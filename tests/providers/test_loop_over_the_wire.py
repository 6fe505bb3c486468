"""A whole loop over real transports: how often the wire is reached, and what of a session goes over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMRetryPolicy, StatefulAgentLoop
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
