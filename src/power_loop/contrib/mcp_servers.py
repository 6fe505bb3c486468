"""Several MCP servers from the configuration that many programs share.

``{"mcpServers": {name: {command, args, env} | {url, headers}}}``, in a file or as a dict.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from power_loop.contrib.mcp_client import McpClient
from power_loop.contrib.mcp_endpoints import HttpMCPClient, StdioMCPClient
from power_loop.contrib.mcp_names import McpName
from power_loop.contrib.mcp_register import register_mcp_tools
from power_loop.contrib.mcp_source import wire_field
from power_loop.tools.toolbox import ToolRegistry

if TYPE_CHECKING:
    from typing import Self

# ${NAME}, or ${NAME:-what stands in for it when it is not set, or empty}.
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class McpServers(Mapping[str, McpClient]):
    """Clients by the names of their servers. ``async with`` connects all of them, side by side, and closes them."""

    def __init__(self, clients: Mapping[str, McpClient]) -> None:
        self._clients = dict(clients)

    async def connect(self) -> Self:
        """All or none. Raises `ConnectionError` that names the server which could not be reached."""
        try:
            done = await asyncio.gather(*(client.connect() for client in self._clients.values()), return_exceptions=True)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        failed = [(name, error) for name, error in zip(self._clients, done, strict=True) if isinstance(error, BaseException)]
        if failed:
            await self.aclose()
            name, error = failed[0]
            if not isinstance(error, ConnectionError):
                raise error
            raise ConnectionError(f"{name}: {error}") from error
        return self

    async def aclose(self) -> None:
        await asyncio.gather(*(client.aclose() for client in self._clients.values()))

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def register(self, registry: ToolRegistry, *, prefix: str = "{server}_", **options: Any) -> list[McpName]:
        """The tools of every server in ``registry``; ``{server}`` in ``prefix`` is its name. Options as in `register_mcp_tools`."""
        names: list[McpName] = []
        for server, client in self._clients.items():
            names += await register_mcp_tools(registry, client, prefix=prefix.replace("{server}", server), **options)
        return names

    def __getitem__(self, name: str) -> McpClient:
        return self._clients[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)


def load_mcp_servers(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = 60.0,
) -> McpServers:
    """The servers of a file, or of what stood in one. Nothing is started or reached yet.

    ``env``: where ``${VAR}`` and ``${VAR:-default}`` are looked up (default: this process's environment). What a server is
    given of it stands in its own ``env``. A server with ``"disabled": true`` is left out.
    Raises `ValueError`, naming the server, for what is malformed and for a variable that is not set.
    """
    where = "the MCP configuration" if isinstance(source, Mapping) else str(source)
    given: Any = source if isinstance(source, Mapping) else _read(Path(source))
    servers = wire_field(given, "mcpServers")
    if not isinstance(servers, Mapping):
        raise ValueError(f'{where} has no "mcpServers" object')
    variables = os.environ if env is None else env
    clients: dict[str, McpClient] = {}
    for name, entry in cast("Mapping[str, Any]", servers).items():
        if not isinstance(entry, Mapping):
            raise ValueError(f"MCP server {name!r}: it must be an object with command or url, not {_kind(entry)}")
        if cast("Mapping[str, Any]", entry).get("disabled") is not True:
            clients[name] = _client(name, cast("Mapping[str, Any]", entry), variables, timeout_s)
    return McpServers(clients)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def _client(name: str, entry: Mapping[str, Any], variables: Mapping[str, str], timeout_s: float | None) -> McpClient:
    def fill(text: str) -> str:
        return filled(text, variables, name)

    match entry:
        case {"command": str(command)} if "url" not in entry:
            args = [fill(text) for text in _list_of_texts(name, entry)]
            env = {key: fill(text) for key, text in _object_of_texts(name, entry, "env").items()}
            cwd = fill(str(entry["cwd"])) if entry.get("cwd") else None
            return StdioMCPClient(fill(command), args, env=env, cwd=cwd, timeout_s=timeout_s)
        case {"url": str(url)} if "command" not in entry:
            headers = {key: fill(text) for key, text in _object_of_texts(name, entry, "headers").items()}
            protocol = "sse" if entry.get("type") == "sse" else "auto"
            return HttpMCPClient(fill(url), headers=headers, timeout_s=timeout_s, protocol=protocol)
        case _:
            raise ValueError(f"MCP server {name!r}: it has either a command or a url, as text; here are {', '.join(entry) or 'none'}")


def _list_of_texts(name: str, entry: Mapping[str, Any]) -> list[str]:
    given: Any = entry.get("args", [])
    if not isinstance(given, list) or not all(isinstance(text, str) for text in cast("list[Any]", given)):
        raise ValueError(f"MCP server {name!r}: args must be a list of texts{_wrong(given)}")
    return cast("list[str]", given)


def _object_of_texts(name: str, entry: Mapping[str, Any], field: str) -> dict[str, str]:
    given: Any = entry.get(field, {})
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in cast("dict[str, Any]", given).values()):
        raise ValueError(f"MCP server {name!r}: {field} must be an object of texts{_wrong(given)}")
    return cast("dict[str, str]", given)


# What is configured holds secrets, so a refusal says where the mistake is, and repeats no value.
def _wrong(given: Any) -> str:
    if isinstance(given, Mapping):
        named = [f"{name} is {_kind(value)}" for name, value in cast("Mapping[str, Any]", given).items() if not isinstance(value, str)]
    else:
        items = cast("list[Any]", given if isinstance(given, list) else [])
        named = [f"[{n}] is {_kind(value)}" for n, value in enumerate(items) if not isinstance(value, str)]
    return "; " + ", ".join(named) if named else f", not {_kind(given)}"


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def filled(text: str, variables: Mapping[str, str], server: str) -> str:
    """``text`` with its variables filled in. Raises `ValueError` for one that is not set and has no default."""

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if default is not None:
            return variables.get(name) or default
        if name not in variables:
            raise ValueError(f"MCP server {server!r}: {name} is not set; set it, or write ${{{name}:-default}}")
        return variables[name]

    return VARIABLE.sub(value, text)
