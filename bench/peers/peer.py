"""What one library has to offer to be measured, and the measurements: each is one process that prints one line of JSON.

    python with_NAME.py MEASUREMENT FOLDER

Only the standard library and `script` are imported here; a ``with_NAME.py`` is run by the Python of that library's own environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

TEXT = "What is the weather in Lisbon?"
LONG = int(os.environ.get("PEERS_LONG", "1000"))
RACES = 20
RESUME_S = 60.0


class Peer(Protocol):
    """A library with its durable session in a folder, the scripted model and the three tools. Written as its own documentation advises."""

    async def open(self, folder: Path) -> None: ...

    async def send(self, session: str, text: str) -> str:
        """The final text of one user message in ``session``, which comes into being when it is new."""
        ...

    async def resume(self, session: str) -> str | None:
        """Go on with what a process left when it died, in the documented way; None where nothing is documented."""
        ...

    async def history(self, session: str) -> list[tuple[str, str]]:
        """All messages that are stored, oldest first: (``user``, ``assistant`` or ``tool``; text), (``call``; name) for a call."""
        ...

    async def close(self) -> None: ...


async def _timed(peer: Peer, session: str, times: int, text: str = TEXT) -> list[float]:
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await peer.send(session, text)
        took.append((time.perf_counter() - began) * 1000)
    return took


async def _short(peer: Peer, folder: Path, text: str = TEXT) -> dict[str, object]:
    """The median of the sends after the tenth, over ten sessions."""
    took: list[float] = []
    for n in range(10):
        await _timed(peer, f"short-{n}", 10)
        took += await _timed(peer, f"short-{n}", 3, text)
    return {"ms": statistics.median(took)}


async def _round(peer: Peer, folder: Path) -> dict[str, object]:
    return await _short(peer, folder, "look at it")


async def _hundred(peer: Peer, folder: Path) -> dict[str, object]:
    """A folder in which one session of 100 sends is all there is: its size is the figure."""
    await _timed(peer, "hundred", 100)
    return {"sends": 100}


async def _long(peer: Peer, folder: Path) -> dict[str, object]:
    built = await _timed(peer, "long", LONG)
    return {"sends": LONG, "built_s": sum(built) / 1000, "ms": statistics.median(await _timed(peer, "long", 10))}


async def _cold(peer: Peer, folder: Path) -> dict[str, object]:
    """The clock at the first reply in a session that another process left; whoever started this process knows when."""
    await peer.send("long", TEXT)
    return {"at": time.time()}


async def _fifty(peer: Peer, folder: Path) -> dict[str, object]:
    """Sends per second of 50 sessions at once, ten sends each."""
    for n in range(50):
        await peer.send(f"one-of-fifty-{n}", TEXT)
    began = time.perf_counter()
    await asyncio.gather(*(_timed(peer, f"one-of-fifty-{n}", 10) for n in range(50)))
    return {"per_s": 500 / (time.perf_counter() - began)}


async def _two(peer: Peer, folder: Path) -> dict[str, object]:
    """One send whose second tool never ends; the process is killed in it."""
    return {"text": await peer.send("killed", "two things, please")}


async def _resume(peer: Peer, folder: Path) -> dict[str, object]:
    """What comes of the killed send in a new process, and then of the next message."""
    outcome: dict[str, object] = {"resumed": None, "next": None}
    for key, work in (("resumed", lambda: peer.resume("killed")), ("next", lambda: peer.send("killed", "And now?"))):
        try:
            outcome[key] = await asyncio.wait_for(work(), RESUME_S)
        except Exception as error:
            outcome[f"{key}_error"] = f"{type(error).__name__}: {error}"[:200]
    return {**outcome, "history": await peer.history("killed")}


async def _race(peer: Peer, folder: Path) -> dict[str, object]:
    """Sends to a session that another process sends to as well; begins when the file ``go`` is there."""
    name, answered, errors = os.environ["PEERS_NAME"], [], []
    (folder / f"ready-{name}").touch()
    while not (folder / "go").exists():
        await asyncio.sleep(0.001)
    for n in range(RACES):
        text = f"race {name} {n}"
        try:
            await peer.send("raced", text)
            answered.append(text)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}"[:200])
    return {"answered": answered, "errors": errors}


async def _begin(peer: Peer, folder: Path) -> dict[str, object]:
    return {"text": await peer.send("raced", "Hello.")}


async def _history(peer: Peer, folder: Path) -> dict[str, object]:
    return {"history": await peer.history("raced")}


MEASUREMENTS = {
    "short": _short, "round": _round, "hundred": _hundred, "long": _long, "cold": _cold, "fifty": _fifty,
    "two": _two, "resume": _resume, "begin": _begin, "race": _race, "history": _history,
}  # fmt: skip


async def _measure(peer: Peer, measurement: str, folder: Path) -> dict[str, object]:
    await peer.open(folder)
    try:
        return await MEASUREMENTS[measurement](peer, folder)
    finally:
        await peer.close()


def main(make: Callable[[], Peer]) -> None:
    measurement, folder = sys.argv[1], Path(sys.argv[2])
    outcome = asyncio.run(_measure(make(), measurement, folder))
    print(json.dumps(outcome), flush=True)
