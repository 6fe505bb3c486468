"""`with_retry`: how often, how long, and what its caller gets in the end. No test waits: the clock is handed in."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from times import FakeClock, FixedIds

from power_loop import LLMRetryPolicy, with_retry
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import CancellationRequested, LLMError, LLMPermanentError, LLMRetryExhausted, LLMTimeout


class Model:
    """Fails with each of ``failures`` in turn, then answers; each attempt takes ``takes_s``."""

    def __init__(self, clock: FakeClock, *failures: BaseException, takes_s: float = 0.0) -> None:
        self.clock, self.failures, self.takes_s, self.calls = clock, list(failures), takes_s, 0

    async def __call__(self) -> str:
        self.calls += 1
        self.clock.now_s += self.takes_s
        if self.failures:
            raise self.failures.pop(0)
        return "yes"


def overloaded(retry_after_s: float | None = None) -> LLMError:
    return LLMError("overloaded", status_code=529, retry_after_s=retry_after_s)


async def tried(model: Model, *, chance: float = 0.0, token: CancellationToken | None = None, on_retry: Any = None, **policy: Any) -> str:
    ids = FixedIds(chance)
    return await with_retry(model, policy=LLMRetryPolicy(**policy), token=token, on_retry=on_retry, clock=model.clock, ids=ids)


# --- how often and how long -----------------------------------------------------------------------


async def test_what_works_is_called_once() -> None:
    model = Model(FakeClock())
    assert await tried(model) == "yes"
    assert (model.calls, model.clock.slept) == (1, [])


@pytest.mark.parametrize(
    ("failures", "policy", "waits"),
    [
        (2, {}, [0.5, 1.0]),
        (6, {"max_attempts": 7, "total_timeout": None}, [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]),
        (3, {"max_attempts": 4, "backoff_initial": 0.0, "backoff_max": 0.0}, [0.0, 0.0, 0.0]),
        (2, {"backoff_initial": 3.0, "backoff_max": 4.0}, [3.0, 4.0]),
    ],
)
async def test_the_wait_doubles_up_to_its_bound(failures: int, policy: dict[str, Any], waits: list[float]) -> None:
    model = Model(FakeClock(), *(overloaded() for _ in range(failures)))
    assert await tried(model, **policy) == "yes"
    assert model.clock.slept == waits


@pytest.mark.parametrize("attempt", [1024, 1025, 5000])
def test_the_wait_keeps_its_bound_after_any_number_of_attempts(attempt: int) -> None:
    policy = LLMRetryPolicy(max_attempts=5001, total_timeout=None)
    assert policy.wait_s(attempt, retry_after_s=None, chance=0.0) == 8.0


@pytest.mark.parametrize(("chance", "jitter", "waits"), [(1.0, 0.2, [0.6, 1.2]), (-1.0, 0.2, [0.4, 0.8]), (1.0, 0.0, [0.5, 1.0])])
async def test_the_wait_is_spread_by_the_jitter(chance: float, jitter: float, waits: list[float]) -> None:
    model = Model(FakeClock(), overloaded(), overloaded())
    await tried(model, chance=chance, jitter=jitter)
    assert model.clock.slept == pytest.approx(waits)


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (0.1, 0.5), (30.0, 30.0), (None, 0.5)])
async def test_a_provider_that_says_how_long_to_wait_is_believed(asked: float | None, waited: float) -> None:
    model = Model(FakeClock(), overloaded(asked))
    assert await tried(model) == "yes"
    assert model.clock.slept == [waited]


async def test_each_failure_but_the_last_is_told() -> None:
    told: list[Any] = []
    first, second, third = overloaded(), TimeoutError("read"), overloaded()
    with pytest.raises(LLMRetryExhausted):
        await tried(Model(FakeClock(), first, second, third), on_retry=lambda *heard: told.append(heard))
    assert told == [(1, first, 0.5), (2, second, 1.0)]


# --- what the caller gets -----------------------------------------------------------------------------


async def test_when_every_attempt_failed_the_last_error_is_carried() -> None:
    model = Model(FakeClock(), *(overloaded() for _ in range(9)))
    last = model.failures[2]
    with pytest.raises(LLMRetryExhausted, match="3 attempts failed") as raised:
        await tried(model)
    assert (raised.value.attempts, raised.value.last_error, raised.value.__cause__) == (3, last, last)
    assert model.calls == 3


class RefusedBySDK(Exception):
    status_code = 401


@pytest.mark.parametrize(
    "refusal", [RefusedBySDK("no such key"), LLMError("bad", status_code=400), ImportError("no extra"), AssertionError()]
)
async def test_what_is_permanent_is_tried_once(refusal: Exception) -> None:
    model = Model(FakeClock(), refusal)
    with pytest.raises(LLMPermanentError) as raised:
        await tried(model)
    assert raised.value.__cause__ is refusal
    assert raised.value.status_code == getattr(refusal, "status_code", None)
    assert (model.calls, model.clock.slept) == (1, [])


async def test_a_permanent_error_keeps_the_cause_that_it_came_with() -> None:
    refusal, sdk = LLMPermanentError("bad key", status_code=401), RefusedBySDK("no such key")
    refusal.__cause__ = sdk
    with pytest.raises(LLMPermanentError) as raised:
        await tried(Model(FakeClock(), refusal))
    assert raised.value is refusal
    assert raised.value.__cause__ is sdk


async def test_what_the_policy_does_not_cover_is_tried_once_and_never_escapes_raw() -> None:
    model = Model(FakeClock(), ValueError("odd"))
    with pytest.raises(LLMRetryExhausted) as raised:
        await tried(model, retry_on=(ConnectionError,))
    assert isinstance(raised.value.__cause__, ValueError)
    assert model.calls == 1
    assert await tried(Model(FakeClock(), ConnectionError()), retry_on=(ConnectionError,)) == "yes"


async def test_the_policy_covers_an_error_by_what_it_was_raised_from() -> None:
    def wrapped(cause: Exception) -> LLMError:
        error, between = LLMError("the model did not answer"), RefusedBySDK("connection error")
        error.__cause__, between.__cause__ = between, cause
        return error

    assert await tried(Model(FakeClock(), wrapped(ConnectionError())), retry_on=(ConnectionError,)) == "yes"
    of_itself = LLMError("odd")
    of_itself.__cause__ = of_itself
    for other in (wrapped(ValueError()), of_itself):
        model = Model(FakeClock(), other)
        with pytest.raises(LLMRetryExhausted):
            await tried(model, retry_on=(ConnectionError,))
        assert model.calls == 1


async def test_the_host_says_what_is_worth_giving_up_on() -> None:
    model = Model(FakeClock(), ValueError("odd"))
    with pytest.raises(LLMPermanentError, match="ValueError: odd"):
        await tried(model, give_up_on=lambda error: isinstance(error, ValueError))
    assert model.calls == 1


# --- time -------------------------------------------------------------------------------------------------


async def test_the_time_covers_calls_and_waits_together() -> None:
    model = Model(FakeClock(), *(overloaded() for _ in range(9)), takes_s=4.0)
    last = model.failures[1]
    with pytest.raises(LLMTimeout, match=r"no reply within 9.0 s \(2 attempts, 8.5 s\)") as raised:
        await tried(model, max_attempts=9, total_timeout=9.0)
    assert (raised.value.attempts, raised.value.elapsed, raised.value.total_timeout) == (2, 8.5, 9.0)
    assert raised.value.__cause__ is last
    assert model.clock.slept == [0.5], "there is no sense in a wait that nothing can come after"


async def test_a_wait_that_the_provider_asks_for_must_fit_the_time() -> None:
    model = Model(FakeClock(), overloaded(61.0))
    with pytest.raises(LLMTimeout):
        await tried(model)
    assert model.clock.slept == []
    assert await tried(Model(FakeClock(), overloaded(61.0)), total_timeout=None) == "yes"


async def test_an_attempt_that_never_ends_is_cut_off() -> None:
    cut = False

    async def hangs() -> str:
        nonlocal cut
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cut = True
            raise

    with pytest.raises(LLMTimeout) as raised:
        await with_retry(hangs, policy=LLMRetryPolicy(total_timeout=0.001), clock=FakeClock(), ids=FixedIds())
    assert cut
    assert (raised.value.attempts, raised.value.__cause__) == (1, None)


async def test_a_later_attempt_has_what_the_earlier_ones_left_and_the_failure_before_is_the_cause() -> None:
    clock, failure = FakeClock(), overloaded()

    async def fails_then_hangs() -> str:
        if not clock.now_s:
            clock.now_s = 59.499
            raise failure
        return await asyncio.get_running_loop().create_future()

    with pytest.raises(LLMTimeout) as raised:
        await with_retry(fails_then_hangs, policy=LLMRetryPolicy(total_timeout=60.0), clock=clock, ids=FixedIds())
    assert (raised.value.attempts, raised.value.__cause__) == (2, failure)


async def test_a_timeout_of_the_model_itself_is_a_failure_like_others() -> None:
    assert await tried(Model(FakeClock(), TimeoutError("read"))) == "yes"


# --- cancelling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passing", [asyncio.CancelledError(), CancellationRequested("stop"), KeyboardInterrupt(), SystemExit()])
async def test_a_cancel_passes_at_once(passing: BaseException) -> None:
    model = Model(FakeClock(), passing)
    with pytest.raises(type(passing)):
        await tried(model, retry_on=(BaseException,))
    assert (model.calls, model.clock.slept) == (1, [])


async def test_a_token_stops_it_before_an_attempt_and_between_two() -> None:
    token = CancellationToken()
    model = Model(FakeClock(), overloaded(), overloaded())

    with pytest.raises(CancellationRequested, match="enough"):
        await tried(model, token=token, on_retry=lambda *_: token.cancel("enough"))
    assert model.calls == 1
    with pytest.raises(CancellationRequested, match="enough"):
        await tried(model, token=token)
    assert model.calls == 1


# --- the policy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonsense",
    [
        {"max_attempts": 0}, {"backoff_initial": -1.0}, {"backoff_initial": 9.0}, {"jitter": -0.1}, {"jitter": 1.1},
        {"total_timeout": 0.0}, {"total_timeout": -1.0}, {"total_timeout": float("nan")}, {"max_attempts": 1.5}, {"retry_on": 5},
        {"retry_on": [OSError]}, {"retry_on": (OSError, "busy")}, {"give_up_on": 5},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        LLMRetryPolicy(**nonsense)


@pytest.mark.parametrize(
    "sound",
    [{"max_attempts": math.inf}, {"max_attempts": 2.0}, {"retry_on": TimeoutError | OSError}, {"retry_on": OSError}, {"retry_on": ()}],
)
def test_a_policy_that_makes_sense_is_taken(sound: dict[str, Any]) -> None:
    assert isinstance(LLMRetryPolicy(**sound).tries_again(OSError(), 1), bool)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (overloaded(), True),
        (LLMError("rate", status_code=429), True),
        (TimeoutError(), True),
        (ConnectionError(), True),
        (RefusedBySDK(), False),
        (LLMPermanentError(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_the_policy_is_a_decision(error: BaseException, again: bool) -> None:
    policy = LLMRetryPolicy(max_attempts=3)
    asks: Callable[[int], bool] = lambda attempt: policy.tries_again(error, attempt)  # noqa: E731  # one line says it
    assert [asks(1), asks(2), asks(3)] == [again, again, False]


async def test_a_token_cuts_off_the_attempt_and_the_wait_behind_one() -> None:
    token, begun = CancellationToken(), asyncio.Event()

    async def hangs() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def fails() -> None:
        raise overloaded()

    async def stop() -> None:
        await begun.wait()
        token.cancel("enough")

    patient = LLMRetryPolicy(total_timeout=None, backoff_initial=60.0, backoff_max=60.0)
    stopping = asyncio.create_task(stop())
    with pytest.raises(CancellationRequested, match="enough"):
        await asyncio.wait_for(with_retry(hangs, policy=patient, token=token), 5)
    await stopping
    waiting = CancellationToken()

    def soon_enough(*_: Any) -> None:
        asyncio.get_running_loop().call_soon(waiting.cancel, "not so long")

    with pytest.raises(CancellationRequested, match="not so long"):
        await asyncio.wait_for(with_retry(fails, policy=patient, token=waiting, on_retry=soon_enough), 5)


async def test_the_clock_runs_out_under_a_token_as_without_one() -> None:
    with pytest.raises(LLMTimeout):
        await with_retry(asyncio.Event().wait, policy=LLMRetryPolicy(total_timeout=0.001), token=CancellationToken())
