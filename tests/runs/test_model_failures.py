"""A model that fails: what is tried again and how long after, and what its caller, the session and the next request see of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from power_loop import AgentLoopConfig, LLMError, LLMPermanentError, LLMRetryExhausted, LLMRetryPolicy, LLMTimeout, with_retry
from power_loop.testing import call, fail, hang, say

TRANSIENT = [408, 409, 425, 429, 500, 503, 529]
PERMANENT = [400, 401, 403, 404, 422]


def refused(status: int) -> LLMError:
    kind = LLMPermanentError if status in PERMANENT else LLMError
    return kind(f"the provider answered {status}", status_code=status)


class SDKError(Exception):
    """Of a client that somebody's own model lets through."""

    def __init__(self, status: Any) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


def policy(**settings: Any) -> AgentLoopConfig:
    return AgentLoopConfig(retry_policy=LLMRetryPolicy(**settings))


# acceptance: 70 (growing, jittered delay)
async def test_a_transient_failure_is_tried_again_after_growing_uneven_waits(house: Any) -> None:
    loop = house.loop(*[fail(ConnectionError("reset"))] * 5, "back", config=policy(max_attempts=6, total_timeout=None))
    result = await loop.run("go")
    assert (result.status, result.final_text) == ("completed", "back")
    assert len(house.clock.waits) == 5
    for wait, nominal in zip(house.clock.waits, (0.5, 1.0, 2.0, 4.0, 8.0), strict=True):
        assert nominal * 0.8 <= wait <= nominal * 1.2
    assert house.clock.waits != [0.5, 1.0, 2.0, 4.0, 8.0]
    assert [told["next_sleep_seconds"] for told in house.told("llm_retry_attempted")] == house.clock.waits


# acceptance: 70 (which failures)
@pytest.mark.parametrize("status", TRANSIENT)
async def test_a_status_that_may_pass_is_tried_again(house: Any, status: int) -> None:
    loop = house.loop(fail(refused(status)), "back", config=policy())
    assert (await loop.run("go")).final_text == "back"


# acceptance: 70 (exactly one attempt), 71 (permanent)
@pytest.mark.parametrize("status", PERMANENT)
async def test_a_refused_request_is_made_once(house: Any, status: int) -> None:
    loop = house.loop(fail(refused(status)), config=policy(max_attempts=9))
    result = await loop.run("go")
    assert (result.status, len(loop.llm.requests), house.clock.waits) == ("degraded", 1, [])
    assert result.final_text == f"[degraded: LLM permanent — LLMPermanentError: the provider answered {status}]"


# acceptance: 70 (the limit of attempts), 71
async def test_a_model_that_keeps_failing_degrades_the_send_with_a_text_that_says_why(house: Any) -> None:
    loop = house.loop(*[fail(ConnectionError("reset by peer"))] * 3, config=policy(max_attempts=3))
    result = await loop.run("go")
    assert (result.status, len(loop.llm.requests)) == ("degraded", 3)
    assert result.final_text == "[degraded: LLM retry_exhausted — ConnectionError: reset by peer]"
    assert result.error is not None
    assert (result.error["code"], result.error["type"]) == ("llm.retry_exhausted", "LLMRetryExhausted")
    with pytest.raises(Exception, match="reset by peer"):
        result.raise_for_status()
    assert house.told("llm_degraded") == [
        {"reason": "retry_exhausted", "attempts": 3, "error_type": "ConnectionError", "error_message": "reset by peer"}
    ]


# acceptance: 70 (the limit of time), 71
async def test_a_provider_that_wants_more_time_than_there_is_degrades_the_send_at_once(house: Any) -> None:
    slow = LLMError("come back later", status_code=429, retry_after_s=3600)
    loop = house.loop(fail(slow), config=policy(total_timeout=60.0))
    result = await loop.run("go")
    assert (result.status, house.clock.waits) == ("degraded", [])
    assert result.final_text.startswith("[degraded: LLM timeout — LLMError: come back later")
    assert result.error is not None
    assert result.error["code"] == "llm.timeout"


# acceptance: 70 (a call that never ends)
async def test_an_attempt_that_hangs_is_cut_off_when_the_policys_time_is_up(house: Any) -> None:
    loop = house.loop(hang(after="half a "), config=policy(total_timeout=0.02))
    result = await loop.run("go")
    assert result.status == "degraded"
    assert result.final_text.startswith("[degraded: LLM timeout")
    (told,) = house.told("llm_call_completed")
    assert (told["success"], told["error_type"]) == (False, "TimeoutError")


async def test_a_providers_own_waiting_time_is_kept(house: Any) -> None:
    loop = house.loop(fail(LLMError("slow down", status_code=429, retry_after_s=17.0)), "back", config=policy())
    await loop.run("go")
    assert house.clock.waits == [17.0]


async def test_what_the_policy_does_not_name_is_not_tried_again(house: Any) -> None:
    loop = house.loop(fail(KeyError("odd")), config=policy(retry_on=(ConnectionError,)))
    result = await loop.run("go")
    assert (result.status, len(loop.llm.requests)) == ("degraded", 1)


# acceptance: 71 (for people, not for the model)
async def test_a_degraded_text_is_stored_and_left_out_of_every_later_request(house: Any) -> None:
    loop = house.loop(fail(refused(400)), "fine", "good", config=policy())
    session = await loop.new_session()
    degraded = await loop.send("first", session)
    assert (await loop.get_messages(session))[-1]["content"] == degraded.final_text
    await loop.send("second", session)
    cold = house.loop("indeed", config=policy())
    await cold.send("third", session)
    for request in [*loop.llm.requests, *cold.llm.requests]:
        assert all("[degraded" not in str(message["content"]) for message in request.messages)
    said = [message["content"] for message in loop.llm.requests[1].messages if message["role"] == "user"]
    assert "".join(said).index("first") < "".join(said).index("second")


async def test_a_degraded_send_may_be_continued(house: Any) -> None:
    loop = house.loop(fail(refused(400)), "fine", config=policy())
    session = await loop.new_session()
    await loop.send("first", session)
    result = await loop.resume(session)
    assert (result.status, result.final_text, result.send_index) == ("completed", "fine", 1)
    assert [message["content"] for message in loop.llm.requests[1].messages] == ["first"]


async def test_a_model_that_fails_after_a_tool_round_leaves_the_round_whole(house: Any) -> None:
    def add(a: int) -> str:
        """Add."""
        return f"sum {a}"

    loop = house.loop(call("add", a=1), fail(refused(400)), "so it is one", tools=[add], config=policy())
    session = await loop.new_session()
    assert (await loop.send("go", session)).status == "degraded"
    assert (await loop.resume(session)).final_text == "so it is one"
    assert [message["role"] for message in loop.llm.requests[2].messages] == ["user", "assistant", "tool"]


# acceptance: 71 (without a policy)
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *[(ConnectionError("reset"), LLMError), (refused(401), LLMPermanentError), (refused(503), LLMError)],
        *[(SDKError(401), LLMPermanentError), (SDKError(503), LLMError), (SDKError("unauthorized"), LLMError)],
    ],
    ids=str,
)
async def test_without_a_policy_the_failure_is_raised_with_its_cause(house: Any, error: Exception, kind: type[LLMError]) -> None:
    loop = house.loop(fail(error))
    with pytest.raises(LLMError) as caught:
        await loop.run("go")
    assert type(caught.value) is kind
    status = getattr(error, "status_code", None)
    assert caught.value.status_code == (status if isinstance(status, int) else None)
    assert caught.value is error or caught.value.__cause__ is error
    assert len(loop.llm.requests) == 1
    assert house.types()[-2:] == ["agent_error", "session_ended"]
    assert house.told("session_ended") == [{"reason": "error"}]


# acceptance: 71 (what is left)
async def test_after_a_raised_failure_the_user_row_stays_and_resume_tries_again(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("reset")), "fine")
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("first", session)
    assert [message["content"] for message in await loop.get_messages(session)] == ["first"]
    cold = house.loop("fine")
    result = await cold.resume(session)
    assert (result.status, result.final_text, result.send_index) == ("completed", "fine", 1)
    assert [message["content"] for message in await loop.get_messages(session)] == ["first", "fine"]


# acceptance: 71 (both texts)
async def test_after_a_raised_failure_a_later_send_shows_both_texts(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("reset")), "fine")
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("first", session)
    await loop.send("second", session)
    assert [message["content"] for message in loop.llm.requests[1].messages] == ["first", "second"]


async def test_a_failed_send_counts_its_tokens_and_no_send(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("reset")), "fine")
    session = await loop.new_session()
    with pytest.raises(LLMError):
        await loop.send("first", session)
    (counted,) = await house.look("SELECT sends, llm_calls, prompt_tokens > 0 FROM pl_sessions WHERE session_id = ?", session)
    assert counted == (0, 1, 1)


# acceptance: 67 (from a call)
async def test_the_errors_say_what_was_tried() -> None:
    async def never() -> None:
        raise ConnectionError("reset")

    with pytest.raises(LLMRetryExhausted) as exhausted:
        await with_retry(never, policy=LLMRetryPolicy(max_attempts=2, backoff_initial=0.0), token=None)
    assert (exhausted.value.attempts, exhausted.value.last_error) == (2, exhausted.value.__cause__)
    with pytest.raises(LLMTimeout) as late:
        await with_retry(never, policy=LLMRetryPolicy(max_attempts=2, backoff_initial=8.0, total_timeout=1.0), token=None)
    assert (late.value.attempts, late.value.total_timeout) == (1, 1.0)
    assert 0 < late.value.elapsed < 1


async def test_a_client_that_cancels_its_own_call_has_failed_and_cancels_nobody(house: Any) -> None:
    loop = house.loop(fail(asyncio.CancelledError()), "back", config=policy())
    assert (await loop.run("go")).final_text == "back"
    with pytest.raises(LLMError, match="cancelled its own call"):
        await house.loop(fail(asyncio.CancelledError())).run("go")


async def test_the_text_of_a_long_error_is_cut(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("x" * 900)), config=policy(max_attempts=1))
    result = await loop.run("go")
    assert len(result.final_text) < 300
    assert len(house.told("llm_degraded")[0]["error_message"]) == 500


async def test_a_model_that_answers_after_a_retry_leaves_no_partial_text(house: Any) -> None:
    loop = house.loop(fail(ConnectionError("reset"), after="half a"), say("whole"), config=policy())
    result = await loop.run("go")
    assert (result.final_text, result.partial_text) == ("whole", "")
