"""A request shows the window as it was when it was made, and copies it only for who looks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from power_loop import LLMRequest, LLMResponse, LLMService, LLMTokenUsage, StatefulAgentLoop


class Keeps(LLMService):
    """Keeps every request; looks into those that it is told to."""

    def __init__(self, *, looks: bool) -> None:
        self.looks = looks
        self.requests: list[LLMRequest] = []
        self.seen: list[list[object]] = []

    async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
        self.requests.append(request)
        if self.looks:
            self.seen.append([message["content"] for message in request.messages])
        return LLMResponse(content_text=f"answer {len(self.requests)}", token_usage=LLMTokenUsage(prompt=9, completion=2))


async def talked(model: Keeps) -> None:
    async with StatefulAgentLoop(llm=model, dsn=":memory:") as loop:
        session_id = await loop.new_session()
        for word in ("one", "two", "three"):
            await loop.send(word, session_id)


# acceptance: 187 (a request that nobody looks into copies no history)
async def test_history_is_not_copied_for_a_model_that_does_not_look():
    model = Keeps(looks=False)
    await talked(model)
    assert all(request.unseen for request in model.requests)


async def test_a_request_that_is_looked_into_late_shows_what_was_sent():
    early, late = Keeps(looks=True), Keeps(looks=False)
    await talked(early)
    await talked(late)
    assert [[message["content"] for message in request.messages] for request in late.requests] == early.seen
    assert early.seen[1] == ["one", "answer 1", "two"]


async def test_what_a_model_does_to_its_request_reaches_no_later_one():
    class Rude(Keeps):
        async def complete(self, request: LLMRequest, **callbacks: object) -> LLMResponse:
            request.messages.insert(0, {"role": "system", "content": "mine"})
            request.messages.clear() if len(self.requests) == 1 else None
            return await super().complete(request)

    model = Rude(looks=True)
    await talked(model)
    assert model.seen == [["mine", "one"], [], ["mine", "one", "answer 1", "two", "answer 2", "three"]]


def test_a_request_made_late_can_be_copied_replaced_and_compared():
    request = LLMRequest([], model="m").showing(lambda: [{"role": "user", "content": "hello"}])
    assert copy.deepcopy(request) == replace(request, model="m") == LLMRequest([{"role": "user", "content": "hello"}], model="m")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = LLMRequest([]).nothing
