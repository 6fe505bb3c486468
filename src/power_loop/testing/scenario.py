"""The scenario that this package is held against: clients in several processes talk to the same sessions while things go wrong.

Words, tools and models are numbered, so that at the end it can be told what became of each (`verdict`): what was
acknowledged is there, what was said is answered, what may happen once happened once, and nothing waits.
"""

from __future__ import annotations

import asyncio

from power_loop.contracts.errors import LLMError, StoreUnavailable
from power_loop.contracts.outcome import FollowUpQueued
from power_loop.contracts.records import UserSaid
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.session import Session
from power_loop.testing.clients import Deed, client
from power_loop.testing.faults import AN_HOUR_S
from power_loop.testing.outside import FORM
from power_loop.testing.talk import HOOK_POINTS, Talk
from power_loop.testing.verdict import leases_of_the_living, verdict
from power_loop.testing.world import NoFaults, World
from power_loop.worker import Worker


async def conversation(world: World) -> None:
    """Talk while faults strike; then let everything come to rest, and look."""
    faults, world.faults = world.faults, NoFaults()
    chance = world.chance
    points = [point for point in HOOK_POINTS if chance.random() < 0.25] if chance.random() < 0.4 else []
    talk = Talk(world, points, model_breaks=chance.random() < 0.2)
    first = talk.agent(world.process())
    talk.sessions = [await first.new_session(session_id=f"s{n}") for n in range(chance.choice((1, 1, 2)))]
    world.faults = faults
    await asyncio.gather(*(client(talk, DEEDS, chance.randint(1, 4), PAUSES_S) for _ in range(chance.randint(1, 3))))
    world.faults = NoFaults()
    await asyncio.sleep(5.0)
    forgotten = [] if world.database_was_away else leases_of_the_living(world)
    await come_to_rest(talk)
    await asyncio.sleep(2 * AN_HOUR_S)
    for text in [*forgotten, *await verdict(talk)]:
        world.violated(text)


# --- clients ---------------------------------------------------------------------------------------------


async def send(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    tag, text = talk.word()
    heal = talk.world.chance.random() < 0.3
    result = await loop.send(text, session_id, heal_pending=heal)
    talk.acknowledged[tag], talk.completed[tag] = session_id, result


async def send_when_free(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    tag, text = talk.word()
    result = await loop.send(text, session_id, on_busy="raise")
    talk.acknowledged[tag], talk.completed[tag] = session_id, result


async def send_for_a_form(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    """The answer must be of a form, and may be so after it was asked for again, or never."""
    tag, text = talk.word()
    result = await loop.send(f"{text} wrong={talk.world.chance.randint(0, 3)}", session_id, output_type=FORM, heal_pending=True)
    talk.acknowledged[tag], talk.completed[tag] = session_id, result


async def send_impatiently(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    tag, text = talk.word()
    talk.world.disturbances += 1
    async with asyncio.timeout(talk.world.chance.uniform(0.0, 0.2)):
        result = await loop.send(text, session_id, heal_pending=True)
        talk.acknowledged[tag], talk.completed[tag] = session_id, result


async def follow_up(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    tag, text = talk.word()
    result = await loop.follow_up(text, session_id)
    talk.acknowledged[tag] = session_id
    if not isinstance(result, FollowUpQueued):
        talk.completed[tag] = result


async def enqueue(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    tag, text = talk.word()
    key, mode = talk.world.chance.choice((None, tag)), talk.world.chance.choice(("queue", "queue", "steer"))
    talk.world.disturbances += mode == "steer"
    for _ in range(3 if key else 1):  # a client that does not trust its first answer repeats itself
        try:
            await loop.enqueue(text, session_id, key=key, mode=mode)
        except StoreUnavailable:
            continue
        talk.acknowledged[tag] = session_id


async def send_what_was_enqueued(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    """Enqueue, then wait for the outcome under the same key."""
    tag, text = talk.word()
    await loop.enqueue(text, session_id, key=tag)
    talk.acknowledged[tag] = session_id
    talk.completed[tag] = await loop.send(text, session_id, key=tag, heal_pending=True)


async def work(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    """A worker looks once after whatever is due."""
    await Worker(loop, concurrency=2).run_once()


async def cancel(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    talk.world.disturbances += 1
    await loop.cancel(session_id)


async def resume(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    await loop.resume(session_id)


async def answer(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    """Answer one question that is open."""
    waiting = await loop.get_pending(session_id)
    questions = (waiting or {}).get("pending_interactions", ())
    if questions:
        try:
            await loop.submit_input(session_id, questions[0]["interaction_id"], "yes")
        except ValueError:
            talk.world.note("somebody else answered meanwhile")


async def abort(talk: Talk, loop: StatefulAgentLoop, session_id: str) -> None:
    talk.world.disturbances += 1
    await loop.abort_pending(session_id)


PAUSES_S = (0.0, 0.0, 0.05)
DEEDS: tuple[Deed[Talk], ...] = (
    send, send, send, send_for_a_form, send_when_free, send_impatiently, send_what_was_enqueued, follow_up, follow_up, enqueue, enqueue,
    work, work, cancel, resume, resume, answer, abort,
)  # fmt: skip


# --- rest --------------------------------------------------------------------------------------------------


async def come_to_rest(talk: Talk) -> None:
    """What an operator does afterwards: resume what is unfinished, answer what is asked."""
    process = talk.world.process("rest")
    loop = talk.agent(process)
    for session_id in talk.sessions:
        for _ in range(20):
            if not await _goes_on(loop, session_id):
                break
    await loop.aclose()


async def _goes_on(loop: StatefulAgentLoop, session_id: str) -> bool:
    """One step towards rest; False when there is none to do."""
    session = await Session.load(await loop.ensure_store(), session_id)
    questions = ((await loop.get_pending(session_id)) or {}).get("pending_interactions", ())
    words = [item for item in session.waiting if isinstance(item.record, UserSaid)]
    if session.state.idle and not words:
        return bool(session.waiting) and await _drop_late_words(loop, session_id)
    try:
        if questions:
            await loop.submit_input(session_id, questions[0]["interaction_id"], "yes")
        else:
            await loop.resume(session_id)
    except LLMError:
        pass
    return True


async def _drop_late_words(loop: StatefulAgentLoop, session_id: str) -> bool:
    """What came too late for the last send (a cancel, say) is dropped by the next one."""
    try:
        await loop.send("m0 rounds=0 calls=1 tools=look", session_id)
    except LLMError:
        pass
    return True
