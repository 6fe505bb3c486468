"""The inspector on a socket: uvicorn in front of the application, until Ctrl-C. Extra ``inspect``."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from power_loop.contracts.store import SchemaPolicy
from power_loop.inspector.app import inspector_app
from power_loop.loop import StatefulAgentLoop
from power_loop.providers.echo import EchoLLM
from power_loop.store.sql_store import open_store


async def serve(
    dsn: str, door: socket.socket, *, table_prefix: str, allow_actions: bool, show_secrets: bool, told: Callable[[str], None]
) -> None:  # fmt: skip
    """Answer at ``door`` until the process is interrupted; ``told`` gets the link. Raises `StoreSchemaError` or `StoreUnavailable`."""
    # Whoever looks on creates and migrates nothing.
    store = await open_store(dsn, table_prefix=table_prefix, schema=SchemaPolicy.VERIFY)
    token = secrets.token_urlsafe(24)
    try:
        async with StatefulAgentLoop(llm=EchoLLM(), store=store, name="inspector") as loop:
            app = inspector_app(loop, store, token=token, allow_actions=allow_actions, show_secrets=show_secrets)
            # A page that follows a session keeps its connection; it must not hold up Ctrl-C.
            config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1)
            told(f"http://127.0.0.1:{door.getsockname()[1]}/?token={token}")
            await uvicorn.Server(config).serve(sockets=[door])
    finally:
        await store.close()
