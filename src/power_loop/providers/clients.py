"""One SDK client for each event loop: its connections belong to the loop that opened them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary


class Closable(Protocol):
    async def close(self) -> None: ...


Client = TypeVar("Client", bound=Closable)


class PerLoop(Generic[Client]):
    """Makes a client when a loop first asks, and forgets it together with its loop.

    The making runs on a thread: an SDK takes a second to import and its TLS context some milliseconds.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Client] = WeakKeyDictionary()

    async def get(self) -> Client:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        with self._lock:
            client = self._clients.get(loop)
        if client is not None:
            return client
        client = await asyncio.to_thread(self._make)
        with self._lock:
            return self._clients.setdefault(loop, client)

    async def close(self) -> None:
        """Close every client: the running loop's now, those of loops in other threads in their own time."""
        here = asyncio.get_running_loop()
        with self._lock:
            clients = list(self._clients.items())
            self._clients.clear()
        for loop, client in clients:
            if loop is here:
                await client.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(_close(client), loop)


async def _close(client: Closable) -> None:
    await client.close()


def http_client(sdk_default: type[Any], base_url: str) -> Any:
    """An HTTP client for an SDK whose own one (``sdk_default``) would stumble over the proxy variables; None where it would not."""
    settings = proxy_settings(base_url)
    if settings is None:
        return None
    # The HTTP library's class, which the SDK derives its own from: an SDK's may read the variables whatever it is told.
    library_client = sdk_default.__mro__[1]
    return library_client(follow_redirects=True, **settings)


def proxy_settings(base_url: str) -> dict[str, Any] | None:
    """Arguments for an HTTP client where the proxy variables name ``socks://``, which HTTP clients refuse; else None.

    The clients read ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` themselves; desktops write ``socks://``
    into them and mean ``socks5://``. The environment is only read.
    """
    proxies = getproxies()
    if not any(url.startswith("socks://") for url in proxies.values()):
        return None
    address = urlsplit(base_url)
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(address.hostname or ""):
        return {"trust_env": False}
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    return {"proxy": proxy.replace("socks://", "socks5://", 1) if proxy.startswith("socks://") else proxy}
