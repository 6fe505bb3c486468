"""Histories that no run of ours can have left: what stands in for them where they shall be sound in the store too."""

from __future__ import annotations

from power_loop.context.summary import as_text
from power_loop.contracts.records import ContextFolded
from power_loop.runtime.send import Send
from power_loop.runtime.session import Session

# What stands in for messages that do not fit together: their text, as far as a summary may go.
UNREADABLE_CHARS = 20_000


def folded_away(session: Session) -> ContextFolded:
    """All that is shown now as one text, in place of messages that do not fit together."""
    window = session.window
    return ContextFolded(session.head.head, as_text(window.messages, UNREADABLE_CHARS), session.head.send_index, window.tokens)


def mend(send: Send) -> None:
    """Note what the doctor would: what requests only show as sound is sound from now on."""
    if send.session.window.mended:
        send.note(folded_away(send.session))
