"""Where an MCP server is: a child process of ours, or an address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from power_loop.contrib.mcp_client import McpClient, Streams
from power_loop.tools.shell.backend import shell_environment


class StdioMCPClient(McpClient):
    """A server as a child process: ``command`` with ``args``, its environment allow-listed, plus ``env``.

    ``protocol``: ``auto``, ``legacy`` (with a session) or a version of the stateless one, such as ``2026-07-28``.
    ``timeout_s`` is for connecting, and for each call. ``on_tools_changed`` is called when the server says so. Raises `TypeError`
    for ``args`` in one text.
    """

    def __init__(
        self, command: str, args: Sequence[str] | None = None, *, env: Mapping[str, str] | None = None, cwd: str | None = None,
        timeout_s: float | None = 60.0, protocol: str = "auto", on_tools_changed: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        if isinstance(args, str):
            raise TypeError(f"args={args!r}: give a list with a text for each argument; no shell takes them apart")
        super().__init__(f"MCP server {command!r}", timeout_s=timeout_s, protocol=protocol, on_tools_changed=on_tools_changed)
        self._command, self._args, self._env, self._cwd = command, list(args or ()), dict(env or {}), cwd
        self._words: object = ""

    def _transport(self) -> Streams:
        from power_loop.contrib import mcp_transport  # with the SDK

        self._words = words = mcp_transport.LastWords()
        return mcp_transport.stdio(self._command, self._args, shell_environment(extra=self._env), self._cwd, words)

    def _last_words(self) -> str:
        return str(self._words)


class HttpMCPClient(McpClient):
    """A server at ``url``: streamable HTTP, or SSE where the address ends in ``/sse``.

    ``headers`` go with every request; ``auth`` is what httpx takes, such as the SDK's OAuth providers. The rest as in
    `StdioMCPClient`; ``protocol="sse"`` says so of an address that does not show it.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, auth: Any = None, timeout_s: float | None = 60.0,
        protocol: str = "auto", on_tools_changed: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        label = f"MCP server {url.partition('?')[0].rpartition('@')[2]!r}"  # an address may hold secrets on both sides
        self._sse = protocol == "sse" or url.partition("?")[0].rstrip("/").endswith("/sse")
        spoken = "legacy" if self._sse else protocol
        super().__init__(label, timeout_s=timeout_s, protocol=spoken, on_tools_changed=on_tools_changed)
        self._url, self._headers, self._auth = url, dict(headers or {}), auth

    def _transport(self) -> Streams:
        from power_loop.contrib import mcp_transport  # with the SDK

        return mcp_transport.http(self._url, self._headers, self._auth, self._timeout_s, sse=self._sse)
