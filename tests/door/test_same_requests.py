"""A loop holds nothing that counts: long-lived, rebuilt before every send, or by turns with another, it asks the same bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    ContextPolicy,
    LLMRequest,
    LLMRetryPolicy,
    LLMSummaryFold,
    StatefulAgentLoop,
    UsageLimits,
    tool,
)
from power_loop.testing import FunctionLLM, call, calls, fail, raw_call, say

SESSION = "sess_the_same"
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LONG = "All work and no play makes Jack a dull boy. " * 30


@dataclass
class Conversation:
    """One session under a way of making loops; the model is outside and answers by what it is asked."""

    home: Any
    new_loop_each_time: bool
    loops: int
    cache: int
    prompt: str = "You are the first."
    memory: Any = None
    requests: list[bytes] = field(default_factory=list)
    _made: list[StatefulAgentLoop] = field(default_factory=list)
    _steps: list[Any] = field(default_factory=list)
    _turn: int = 0

    def __post_init__(self) -> None:
        self.model = FunctionLLM(self.answer)

    async def answer(self, request: LLMRequest) -> Any:
        self.requests.append(as_bytes(request))
        if request.reason == "fold":
            return say(f"<summary>summary number {len(self.requests)}</summary>")
        step = self._steps.pop(0)
        return await step() if iscoroutinefunction(step) else step

    def loop(self) -> StatefulAgentLoop:
        """The loop whose turn it is."""
        if self.new_loop_each_time or len(self._made) < self.loops:
            self._made.append(self.fresh())
        self._turn += 1
        loop = self._made[-1] if self.new_loop_each_time else self._made[self._turn % len(self._made)]
        loop.config.system_prompt, loop.config.memory = self.prompt, self.memory
        return loop

    def fresh(self) -> StatefulAgentLoop:
        fold = ContextPolicy(fold_strategy=LLMSummaryFold(keep_last_sends=1, trigger_ratio=0.75), fold_target_ratio=0.3)
        retry = LLMRetryPolicy(max_attempts=1)
        config = AgentLoopConfig(context_tokens=3000, context=fold, retry_policy=retry, system_prompt=self.prompt)
        return self.home.loop(llm=self.model, config=config, tools=[first, second, broken], session_cache_size=self.cache)

    async def say(self, text: Any, *steps: Any, **how: Any) -> Any:
        self._steps += steps
        return await self.loop().send(text, SESSION, **how)

    def expect(self, *steps: Any) -> None:
        self._steps += steps


def as_bytes(request: LLMRequest) -> bytes:
    """All of a request that reaches a provider."""
    asked = [
        request.system_prompt, request.messages, request.tools, request.tool_choice, request.model, request.temperature, request.max_tokens,
        request.response_format, request.extra,
    ]  # fmt: skip
    return json.dumps(asked).encode()


@tool(effects="pure")
async def first(word: str) -> str:
    """Come in after the other one."""
    for _ in range(5):
        await asyncio.sleep(0)
    return f"first {word}"


@tool(effects="pure")
def second(word: str) -> str:
    """Come in soon."""
    return f"second {word} \0 \ud800"


@tool
def broken() -> str:
    """Fail."""
    raise RuntimeError("no \udcff luck")


async def plain_sends(talk: Conversation) -> None:
    for n in range(4):
        await talk.say(f"question {n}", f"answer {n}")


async def tools(talk: Conversation) -> None:
    both = calls(call("first", word="a"), call("second", word="b"), call("broken"), text="Let me look.", think="hm")
    await talk.say("go", both, say("It is so."))
    await talk.say("again", raw_call("second", '{"word": "x"'), raw_call("nothing", "{}"), say("Well."))
    await talk.say("and?", "Nothing.")


async def folds(talk: Conversation) -> None:
    for n in range(6):
        await talk.say(f"{n}: {LONG}", calls(call("first", word=str(n))), f"answer {n}: {LONG}")
    await talk.say("What was said?", "This and that.")


async def a_changed_prompt(talk: Conversation) -> None:
    await talk.say("one", "1")
    talk.prompt = "You are the second."
    await talk.say("two", "2")
    await talk.say("three", "3", system_prompt="Only now.")
    await (await talk.loop().ensure_store()).update_session_prompt(SESSION, "You belong to this session.")
    await talk.say("four", "4")
    await talk.say("five", call("second", word="x"), "5", tools=["second"])
    await talk.say("six", "6")


async def odd_endings(talk: Conversation) -> None:
    await talk.say("one", fail(RuntimeError("overloaded")))
    await talk.say("two", call("first", word="a"), call("first", word="b"), say("so far"), max_rounds=2)
    await talk.say("three", call("first", word="c"), limits=UsageLimits(requests=1))
    await talk.say("four", say(""), say(""))
    await talk.say("five", say("cut o", finish_reason="length"))
    await talk.say("six", "6")


async def resumed_and_healed(talk: Conversation) -> None:
    await talk.say("one", call("first", word="a"), call("first", word="b"), say("used up"), max_rounds=2)
    talk.expect(call("second", word="c"), "done after all")
    await talk.loop().resume(SESSION, extra_rounds=2)
    await talk.say("two", calls(call("first", word="x"), call("second", word="y")), tools=[])
    await talk.say("three", "healed", heal_pending=True)
    await talk.say("four", calls(call("first", word="x")), tools=[])
    await talk.loop().abort_pending(SESSION)
    await talk.say("five", "5")


async def what_was_left_and_blocks(talk: Conversation) -> None:
    await talk.say([{"type": "text", "text": "look:"}, PIXEL], "a pixel")
    await talk.loop().enqueue("by the way", SESSION)
    await talk.loop().enqueue([PIXEL], SESSION)
    await talk.say({"role": "user", "name": "ann", "content": "and \0 now \ud800?"}, "now")
    signed = [{"type": "thinking", "thinking": "deep", "signature": "abc"}]
    await talk.say("think", calls(call("first", word="a"), provider_blocks=signed), say("thought", provider_blocks=signed))
    await talk.say("go on", "on")


async def follow_ups(talk: Conversation) -> None:
    async def overheard() -> Any:
        await talk.loop().follow_up("and by the way", SESSION)
        return calls(call("first", word="a"), call("second", word="b"))

    async def at_the_end() -> str:
        await talk.loop().follow_up("one more", SESSION)
        await talk.loop().follow_up([PIXEL], SESSION)
        return "done?"

    await talk.say("go", overheard, at_the_end, "done.")
    talk.expect("of course")
    await talk.loop().follow_up("thanks", SESSION)
    await talk.say("bye", "bye")


class Diary:
    """Recalls what the last words bring to mind, and how much was said by then."""

    async def recall(self, *, messages: Sequence[Any], session_id: str, budget_tokens: int = 1500) -> list[Any]:
        return [{"role": "user", "content": f"{messages[-1]['content'][:9]} reminds me of {len(messages)} things"}]

    async def remember(self, *, snapshot: Any, session_id: str) -> None:
        return


async def what_is_recalled(talk: Conversation) -> None:
    talk.memory = Diary()
    await talk.say("one", calls(call("first", word="a")), "1")
    await talk.say("two", "2")
    talk.memory = None
    await talk.say("three", "3")
    talk.memory = Diary()
    for n in range(4):
        await talk.say(f"{n}: {LONG}", f"answer {n}: {LONG}")
    await talk.say("What was said?", "This and that.")
    assert sum(b"reminds me" in request for request in talk.requests) == 8


SCENES = [
    *(plain_sends, tools, folds, a_changed_prompt, odd_endings, resumed_and_healed, what_was_left_and_blocks, follow_ups),
    what_is_recalled,
]
# new loop before every send, how many loops by turns, size of their cache
LIVES = {"rebuilt before every send": (True, 1, 256), "two by turns": (False, 2, 256), "without a cache": (False, 1, 0)}


async def requests_of(home: Any, scene: Callable[[Conversation], Any], *life: Any) -> list[bytes]:
    talk = Conversation(home, *life)
    await home.loop().new_session(session_id=SESSION)
    await scene(talk)
    assert not talk._steps, "the whole script was played"
    await home.loop().close_session(SESSION)
    return talk.requests


# acceptance: 18
@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_every_loop_asks_what_a_long_lived_one_asks(home: Any, scene: Any, life: str) -> None:
    long_lived = await requests_of(home, scene, False, 1, 256)
    assert await requests_of(home, scene, *LIVES[life]) == long_lived
    if scene is folds:
        assert sum(b"summary number" in request for request in long_lived) > 1, "the scene does fold"


# acceptance: 12
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_all_engines_show_the_model_and_the_host_the_same(all_homes: list[Any], scene: Any) -> None:
    seen = []
    for place in all_homes:
        talk = Conversation(place, True, 1, 256)
        loop = place.loop()
        await loop.new_session(session_id=SESSION)
        await scene(talk)
        messages = await loop.get_messages(SESSION, include_compacted=True)
        stats = await loop.get_session_stats(SESSION)
        seen.append((talk.requests, messages, stats._replace(first_send_at=0, last_send_at=0, updated_at=0)))
    assert all(each == seen[0] for each in seen)
