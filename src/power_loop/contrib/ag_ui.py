"""The door to AG-UI, the protocol between agents and user interfaces: events as its dicts, and as server-sent events.

https://docs.ag-ui.com; nothing of it is needed here. A loop is served by one route:

    async def agent(request):
        run_input, session_id = await request.json(), ...      # the host maps threadId to a session that this user may see
        last = request.headers.get("last-event-id")
        return StreamingResponse(run_sse(loop, run_input, session_id=session_id, last_event_id=last), media_type="text/event-stream")
"""

from power_loop.contrib.ag_ui_encoder import AgUiEncoder
from power_loop.contrib.ag_ui_ids import sse
from power_loop.contrib.ag_ui_run import run_sse

__all__ = ["AgUiEncoder", "run_sse", "sse"]
