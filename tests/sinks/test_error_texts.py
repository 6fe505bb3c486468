"""Error texts and debug logs have no secrets, wherever they go: to the caller, into the store, to listeners."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from power_loop import AgentEvent, AgentEventBus, AgentLoopConfig, LLMError, LLMRetryPolicy
from power_loop.contrib.metrics_sink import attach_metrics_sink
from power_loop.providers.errors import as_llm_error, error_from, refusal_in_body
from power_loop.testing import fail

KEY = "sk" + "-proj-" + "Ab12" * 8
REFUSED = f"401: Incorrect API key provided: {KEY}"
NO_WAIT = LLMRetryPolicy(max_attempts=2, backoff_initial=0.0001, backoff_max=0.0001)


# acceptance: 178 (error texts)
@pytest.mark.parametrize("policy", [None, NO_WAIT])
async def test_a_key_that_a_service_repeats_reaches_neither_caller_nor_store_nor_listeners(
    stage: Any, policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    loop = stage.loop(*[fail(ConnectionError(REFUSED))] * 2, config=AgentLoopConfig(retry_policy=policy))
    session = await loop.new_session()
    told: list[str] = []
    try:
        told.append(str(await loop.send("go", session)))
    except LLMError as error:
        told.append(str(error))
    told += [str(event.to_dict()) for event in stage.heard]
    told += map(str, await loop.get_messages(session))
    assert any("Incorrect API key" in text for text in told)
    assert not [text for text in told if KEY in text]
    assert KEY not in caplog.text


# acceptance: 178 (providers)
@pytest.mark.parametrize("error", [
    as_llm_error(ConnectionError(REFUSED), "openai"), error_from(refusal_in_body({"error": {"message": REFUSED}}, 401), "openai"),
])  # fmt: skip
def test_a_providers_words_are_repeated_without_the_key(error: LLMError) -> None:
    assert "Incorrect API key" in str(error)
    assert KEY not in str(error)


# acceptance: 178 (logs)
def test_why_a_sink_failed_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    class Backend:
        def gauge(self, name: str, value: float, labels: object) -> None:
            raise ConnectionError(f"no answer from https://me:{KEY}@metrics.example")

        incr = observe = gauge

    bus = AgentEventBus()
    sink = attach_metrics_sink(bus, Backend())
    bus.publish(AgentEvent("round_completed", {"round_index": 1}))
    assert sink.errors == 1
    assert "no answer from https://me:***@metrics.example" in caplog.text
    assert KEY not in caplog.text
