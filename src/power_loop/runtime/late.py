"""Results that come after nobody waits for them any more: kept beside the transcript, and found again when the call is in doubt.

A handler in a thread cannot be stopped. What it gives after a cancel, a timeout or the loss of the lease says what became of
a call that the transcript calls unknown.
"""

from __future__ import annotations

from power_loop.contracts.errors import PowerLoopError
from power_loop.contracts.late import LateResult
from power_loop.contracts.log import log
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ToolReturned
from power_loop.kernel.call_keys import key_of
from power_loop.runtime.long_results import as_kept
from power_loop.runtime.send import Send


async def keep_late(send: Send, record: ToolReturned, key: str) -> None:
    """Keep ``record``, of the attempt with this idempotency key. A store that is away, or closed, is only logged."""
    try:
        record = await as_kept(send, record)
        late = LateResult(record.call_id, send.send_index, key, record.outcome, record.output, record.name)
        await send.ports.log.keep_late_result(send.session_id, late, epoch=send.session.head.epoch)
    except PowerLoopError as error:
        log.warning("session %s: the late result of %s was not kept: %s", send.session_id, record.name, error)


async def keep_unwritten(send: Send) -> None:
    """The lease is lost: keep what handlers gave and no record will hold. Not without the words that were to go with it."""
    for noted in send.noted:
        match noted.record:
            case ToolReturned(call_id=call_id) if call_id in send.posts:
                continue
            case ToolReturned(ran=True, outcome="ok" | "failed") as record if (call := noted.before.call(record.call_id)) is not None:
                await keep_late(send, record, key_of(send.session_id, send.send_index, noted.before, call))
            case _:
                continue


async def late_results_of(send: Send, call: ToolCall, key: str) -> tuple[LateResult, ...]:
    """What came late of this attempt, oldest first."""
    return tuple(late for late in await send.ports.log.late_results(send.session_id) if late.key == key and late.call_id == call.id)


def adopted(call: ToolCall, late: LateResult) -> ToolReturned:
    """The answer of a call in doubt: what its own attempt came to after all."""
    record = ToolReturned(call.id, late.output, "failed", late.name or call.name, ran=False)
    return record._replace(outcome="ok") if late.outcome == "ok" else record
