"""A process dies while an answer is looked at: another goes on, pays for no answer again, and holds to the same form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from power_loop import AgentLoopConfig, ModelRetry, RunPolicy, SessionStore, StatefulAgentLoop, open_store
from power_loop.testing import Died, DyingStore, ScriptedLLM, check_invariants, say
from power_loop.testing.faults import kill
from power_loop.testing.outside import FORM
from power_loop.testing.sweep import STRIKES, at_every_gap
from power_loop.testing.talk import HOOK_POINTS

GOOD, BAD = '{"name": "Rome", "people": 3}', '{"name": "Rome"}'


@dataclass
class City:
    name: str
    people: int


@dataclass
class Mayor:
    name: str


@pytest.fixture
async def store() -> AsyncIterator[SessionStore]:
    store = await open_store(":memory:")
    yield store
    await store.close()


def loop_on(store: SessionStore, *script: Any, **config: Any) -> StatefulAgentLoop:
    # The dead one cannot give its lease back; a short one is soon over.
    settings = AgentLoopConfig(running=RunPolicy(lease_ttl_s=0.1), **config)
    return StatefulAgentLoop(llm=ScriptedLLM(script), store=store, config=settings)


async def replies(store: SessionStore, session: str) -> int:
    return sum(row.cells.kind == "model_replied" for row in await store.rows(session, after=0))


# --- at every commit, and at every gap -------------------------------------------------------------


@pytest.mark.parametrize("validated", [False, True], ids=["", "with a validator"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3])
async def test_no_answer_that_is_stored_is_paid_for_again(store: SessionStore, at: int, when: Any, validated: bool) -> None:
    config: dict[str, Any] = {"output_validators": (lambda value: value,)} if validated else {}
    session, script = await store.create_session(), [say(BAD), say(GOOD)]
    with pytest.raises(Died):
        await loop_on(DyingStore(store, at, when), *script, **config).send("go", session, output_type=City)
    kept = await replies(store, session)
    async with loop_on(store, *script[kept:], **config) as loop:
        if (await store.look(session)).head == 0:
            result = await loop.send("go", session, output_type=City)
        else:
            result = await loop.resume(session, output_type=City)
        loop.llm.assert_complete()
        names = [row.get("name") for row in await loop.get_messages(session)]
    assert (result.status, result.output) == ("completed", City("Rome", 3))
    assert names == [None, None, "schema", "output_retry"]
    assert await check_invariants(store, at_rest=True) == []


# acceptance: 148 (whatever happens to the process)
@pytest.mark.parametrize("strike", STRIKES, ids=lambda strike: strike.__name__)
@pytest.mark.parametrize("wrong", [1, 3])
def test_a_typed_send_that_is_struck_at_any_gap_comes_to_rest_with_everything_in_its_place(strike: Any, wrong: int) -> None:
    word = f"m{{}} rounds=1 calls=1 tools=look wrong={wrong}"
    assert at_every_gap(strike, word=word, output_type=FORM).check().seeds > 20


def test_the_same_with_a_handler_at_every_hook() -> None:
    word = "m{} rounds=0 calls=1 tools=look wrong=1"
    assert at_every_gap(kill, HOOK_POINTS, word=word, output_type=FORM).check().seeds > 30


# --- another process ----------------------------------------------------------------------------------


async def cut_off(store: SessionStore, session: str, text: str, **asked: Any) -> None:
    """A process that dies once the model has answered ``text``: right behind the commit that stores it."""

    def dies(value: Any) -> Any:
        raise Died

    loop = loop_on(DyingStore(store, 2, "after"), say(text), say("?"), output_validators=(dies,))
    with pytest.raises(Died):
        await loop.send("go", session, **asked)
    assert await replies(store, session) == 1


async def test_another_process_holds_the_answer_against_the_stored_schema(store: SessionStore) -> None:
    session = await store.create_session()
    await cut_off(store, session, BAD, output_type=City)
    async with loop_on(store, say(GOOD)) as loop:
        result = await loop.resume(session)
        asked = loop.llm.requests[0].response_format
    assert (result.status, result.output) == ("completed", {"name": "Rome", "people": 3})
    assert asked["json_schema"]["name"] == "City", "the request is what the first process would have sent"


async def test_an_answer_that_was_right_is_only_looked_at(store: SessionStore) -> None:
    session = await store.create_session()
    await cut_off(store, session, GOOD, output_type=City)
    async with loop_on(store) as loop:
        result = await loop.resume(session, output_type=City)
    assert (result.status, result.output, result.rounds) == ("completed", City("Rome", 3), 0)


async def test_instances_come_back_where_the_configuration_has_the_type(store: SessionStore) -> None:
    session = await store.create_session()
    await cut_off(store, session, GOOD, output_type=City)
    async with loop_on(store, output_type=City) as loop:
        assert (await loop.resume(session)).output == City("Rome", 3)


async def test_a_send_keeps_its_own_form_where_the_configuration_asks_for_another(store: SessionStore) -> None:
    session = await store.create_session()
    await cut_off(store, session, GOOD, output_type=City)
    async with loop_on(store, say('{"name": "R"}'), output_type=Mayor) as loop:
        assert (await loop.resume(session)).output == {"name": "Rome", "people": 3}
        assert (await loop.send("go", session)).output == Mayor("R")


async def test_a_resume_may_ask_for_another_form(store: SessionStore) -> None:
    session = await store.create_session()
    await cut_off(store, session, GOOD, output_type=Mayor)
    async with loop_on(store) as loop:
        assert (await loop.resume(session, output_type=City)).output == City("Rome", 3)
        assert (await loop.resume(session)).output == {"name": "Rome", "people": 3}


async def test_re_asks_of_before_the_crash_count(store: SessionStore) -> None:
    session = await store.create_session()
    with pytest.raises(Died):
        await loop_on(DyingStore(store, 4, "before"), say(BAD), say(BAD), say(BAD)).send("go", session, output_type=City)
    assert await replies(store, session) == 2
    async with loop_on(store, say(BAD)) as loop:
        assert (await loop.resume(session)).status == "invalid_output"
        loop.llm.assert_complete()


# --- stored outcomes ------------------------------------------------------------------------------------


async def test_a_stored_outcome_has_its_output_again(store: SessionStore) -> None:
    session = await store.create_session()
    async with loop_on(store, say(GOOD), say("And now?")) as loop:
        first = await loop.send("go", session, key="k", output_type=City)
        await loop.send("more", session)
    async with loop_on(store) as loop:
        again = await loop.send("go", session, key="k", output_type=City)
        bare = await loop.send("go", session, key="k")
        last = await loop.resume(session)
    assert (first.output, again.output, again.rounds) == (City("Rome", 3), City("Rome", 3), 0)
    assert bare.output == {"name": "Rome", "people": 3}
    assert (last.final_text, last.output) == ("And now?", None)


async def test_a_stored_outcome_is_not_judged_again(store: SessionStore) -> None:
    session = await store.create_session()
    async with loop_on(store, say(GOOD), output_type=City, output_validators=(lambda city: city.name,)) as loop:
        assert (await loop.send("go", session)).output == "Rome"

    def stricter(city: City) -> City:
        raise ModelRetry("not any more")

    async with loop_on(store, output_type=City, output_validators=(stricter,)) as loop:
        result = await loop.resume(session)
        assert (result.status, result.output) == ("completed", City("Rome", 3))
    async with loop_on(store, output_type=Mayor) as loop:
        result = await loop.resume(session)
        assert (result.status, result.output) == ("completed", None)


# --- what it costs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "batches"), [((GOOD,), 2), ((BAD, GOOD), 3)])
async def test_a_typed_send_is_two_batches_and_each_re_ask_one_more(store: SessionStore, script: tuple[str, ...], batches: int) -> None:
    counted = DyingStore(store, at=1000)
    session = await store.create_session()
    await loop_on(counted, *map(say, script)).send("go", session, output_type=City)
    assert counted.dying.commits == batches
