"""Results as they are kept: files with their bytes; of text that is too long for the model head and tail, the whole beside it."""

from __future__ import annotations

from power_loop.contracts.attachments import kept
from power_loop.contracts.records import ToolReturned
from power_loop.runtime.send import Send

RECALL = "recall_output"


async def as_kept(send: Send, record: ToolReturned) -> ToolReturned:
    """``record`` as it is kept, and the model shall read it.

    The whole of a long text is written before the record is, so that no record points at nothing; ``data["uncut"]`` names it.
    """
    if not isinstance(record.output, str):
        return record._replace(output=await kept(record.output))
    return record if len(record.output) <= send.terms.settings.result_max_chars else await _cut(send, record, record.output)


async def _cut(send: Send, record: ToolReturned, text: str) -> ToolReturned:
    limit = send.terms.settings.result_max_chars
    digest = await send.ports.log.keep_blob(send.session_id, text.encode("utf-8", "surrogatepass"))
    tools = send.terms.tools
    way = f"; {RECALL}(call_id={record.call_id!r}) reads them" if tools is not None and tools.get(RECALL) is not None else ""
    data = {**(record.data or {}), "uncut": {"digest": digest, "chars": len(text)}}
    return record._replace(output=head_and_tail(text, limit, way), data=data)


def head_and_tail(text: str, limit: int, way: str = "") -> str:
    """At most ``limit`` characters of ``text``, half of them its end, with a marker between; more only where that has no room."""
    marker = _marker(len(text), way)
    room = limit - len(marker)
    if room < limit // 2:
        room = limit
    tail = room // 2
    head = room - tail
    return text[:head] + _marker(len(text) - room, way) + text[len(text) - tail :]


def _marker(missing: int, way: str) -> str:
    return f"\n[… {missing} characters are left out here{way} …]\n"
