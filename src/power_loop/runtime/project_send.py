"""What a finished send looks like from now on: made once, when it ends, and written in the batch that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from power_loop.context.projected import ProjectedWindow, message_rows
from power_loop.context.represent import ProjectedSend
from power_loop.contracts.codec import dumps
from power_loop.contracts.log import log
from power_loop.contracts.records import SendProjected
from power_loop.contracts.store import RecordRow
from power_loop.runtime.cancel import failing_when_cancelled_by_itself

if TYPE_CHECKING:
    from power_loop.runtime.send import Send


def projection_of(send: Send) -> SendProjected | None:
    """The send that ends, as it is shown once another one begins; None where its representation fails: then word for word."""
    window = send.session.window
    own = window.own_rows if isinstance(window, ProjectedWindow) else []
    rows = [row for row in (*own, *(noted.row for noted in send.noted)) if row.send_index == send.send_index and row.cells.role]
    return projected(send, send.send_index, rows)


async def migrate(send: Send) -> None:
    """Note how the sends are shown that ended before the representation was chosen."""
    window = send.session.window
    if not isinstance(window, ProjectedWindow) or not send.terms.settings.migrate_history:
        return
    bare = window.unprojected(idle=send.session.state.idle)
    if not bare:
        return
    first = next(border.seq for border in window.borders if border.send_index == bare[0])
    rows = await send.ports.log.rows(send.session_id, after=first - 1)
    for index in bare:
        of_send = [row for row in rows if row.send_index == index and row.cells.role]
        if (record := projected(send, index, of_send)) is not None:
            send.note(record)


def projected(send: Send, index: int, rows: Sequence[RecordRow]) -> SendProjected | None:
    """The send ``index``, of which ``rows`` are the messages."""
    shown_as: Any = send.session.shown_as
    if not rows:
        return None
    try:
        with failing_when_cancelled_by_itself():
            made: Any = shown_as.project_send(message_rows(send.session_id, rows), send_index=index, tool_registry=send.terms.tools)
        told = pieces(made)
    except Exception:  # the representation's own code
        log.warning("session %s: send %d stays as it was said, its projection failed", send.session_id, index, exc_info=True)
        return None
    scale = round(send.session.window.scale(send.terms.head_tokens), 3)
    return SendProjected(index, shown_as.kind, shown_as.version, told, rows[0].seq, rows[-1].seq, 0.0 if scale == 1.0 else scale)


def pieces(made: Any) -> tuple[dict[str, Any], ...]:
    """The rows of a projected send as they are stored. Raises `TypeError` or `ValueError` for what cannot be."""
    if not isinstance(made, ProjectedSend) or not made.rows:
        raise TypeError(f"project_send() gives a ProjectedSend with rows, not {type(made).__name__}")
    told = tuple({"kind": row.kind, "content": row.content, "text": row.rendered_text} for row in made.rows)
    if strange := [text for row in told for text in (row["kind"], row["text"] or "") if not isinstance(text, str)]:
        raise TypeError(f"kind and rendered_text of a ProjectedRow are text, not {strange[0]!r:.100}")
    dumps(told)
    return told
