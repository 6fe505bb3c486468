"""What a page of the inspector costs where there is much to look at: 100,000 sessions, and one of 10,000 sends.

    python bench/inspector.py [engine ...]      (SQLite, PostgreSQL, MariaDB, MySQL; without a name all of them)

Of each page: the CPU of this process, the CPU of the server, and the time that passed, each the median of some looks. The
bars are about CPU: what passes besides depends on what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from asgi import Browser
from report import Report
from started import START, on_each

from power_loop import AgentLoopConfig, StatefulAgentLoop, open_store
from power_loop.contracts.codec import to_cells
from power_loop.contracts.messages import ToolCall
from power_loop.contracts.records import ModelReplied, Record, SendEnded, ToolReturned, UserSaid
from power_loop.contracts.store import Cells, Statement
from power_loop.contracts.usage import CallUsage
from power_loop.inspector.app import inspector_app
from power_loop.store.sql_store import SessionStore
from power_loop.testing import FunctionLLM
from power_loop.workflow import create_workflow

SESSIONS, SENDS, LEAVES, LOOKS = 100_000, 10_000, 300, 9
OURS_MS, SERVERS_MS = 60, 100
TOKEN = "bench"
# A session whose every text is long, and has to be looked through for secrets.
WIDE, PAGE_OF_CODE = 200, "def token_of(request):\n    return request.headers['authorization']  # the key\n" * 60
QUESTION, ANSWER = "A question of some length, as they are.", "An answer of some length, as they are."
PAID = CallUsage(4_000, 12, 3_500, calls=1)
# PostgreSQL takes no more in one batch (its protocol counts them in 15 bits).
PARAMETERS = 32_000

SESSION = (
    "session_id", "agent", "head", "send_index", "send_seq", "sends", "llm_calls", "tool_calls", "prompt_tokens",
    "completion_tokens", "first_send_at", "last_send_at", "created_at", "updated_at",
)  # fmt: skip
INFO = ("session_id", "metadata", "kind")
RECORD = ("session_id", "seq", "epoch", "send_index", "round_index", "created_at", *Cells._fields)
CALL = "the-call"
SEND: tuple[Record, ...] = (
    UserSaid(QUESTION),
    ModelReplied("", (ToolCall(CALL, "look_up", '{"city": "Oslo"}'),), usage=PAID, finish_reason="tool_calls"),
    ToolReturned(CALL, ANSWER, name="look_up"),
    ModelReplied(ANSWER, usage=PAID),
    SendEnded("completed"),
)
CELLS = [to_cells(record) for record in SEND]

Clock = Callable[[], float]
"""Seconds of CPU that somebody has used so far."""


async def pages(report: Report, engine: str, dsn: str, server: Clock = lambda: 0.0) -> None:
    """Add the cost of each page to ``report``; ``dsn`` is of an empty database, ``server`` the clock of its server."""
    store = await open_store(dsn)
    loop = StatefulAgentLoop(llm=FunctionLLM(lambda request: ANSWER), store=store, config=AgentLoopConfig(context_tokens=100_000))
    await fill(store)
    run = f"wf_{(await create_workflow(_many_leaves(), parent_loop=loop).run()).run_id}"
    browser = Browser(inspector_app(loop, store, token=TOKEN))
    await browser.get(f"/?token={TOKEN}")
    last = len(SEND) * SENDS - 1
    for name, url in {
        "sessions": "sessions", "older sessions": f"sessions?at={_time(SESSIONS // 2)}&id=x",
        "a slice of a search": "sessions?q=tenant-7", "a slice of one in vain": "sessions?q=no+such+thing",
        "a slice of those of a kind": "sessions?kind=workflow", "those of an agent": "sessions?agent=other",
        "those archived": "sessions?archived=1", "those that run": "sessions?running=1", "charts": "charts",
        "a slice of the days": "days", "a session": "session?id=long", "what its doctor says": "doctor?id=long",
        "its timeline": "timeline?id=long", "a send in its midst": f"timeline?id=long&send={SENDS // 2}",
        "one of long texts": "timeline?id=wide", "its request": f"request?id=wide&seq={len(SEND) * WIDE - 1}",
        "its charts": "charts?id=long", "a record": f"record?id=long&seq={last}", "a request": f"request?id=long&seq={last}",
        "a run of a workflow": f"workflow?id={run}", "the session of a run": f"session?id={run}",
    }.items():  # fmt: skip
        ours, servers, wall = await measured(browser, f"/api/{url}", server)
        report.add(
            f"inspector, {engine}: {name}", f"{ours:.0f} ms of CPU", f"server {servers:.0f} ms, wall {wall:.0f} ms",
            f"<= {OURS_MS} ms, server <= {SERVERS_MS} ms", ours <= OURS_MS and servers <= SERVERS_MS,
        )  # fmt: skip
    await loop.aclose()
    await store.close()


async def measured(browser: Browser, url: str, server: Clock) -> tuple[float, float, float]:
    """Milliseconds of ours, of the server's, and by the clock on the wall: the median of some looks, after a first one."""
    looks: list[tuple[float, float, float]] = []
    for _ in range(1 + LOOKS):
        before = (time.process_time(), server(), time.perf_counter())
        answer = await browser.get(url)
        after = (time.process_time(), server(), time.perf_counter())
        assert answer.status == 200, (url, answer.body)
        looks.append(tuple((end - begin) * 1000 for begin, end in zip(before, after, strict=True)))  # type: ignore[arg-type] - three
    ours, servers, wall = (statistics.median(column) for column in zip(*looks[1:], strict=True))
    return ours, servers, wall


# --- what there is to look at -----------------------------------------------------------------------------


async def fill(store: SessionStore) -> None:
    """The sessions, in bulk, as sends would leave them: one of `SENDS` sends, the others of one."""
    await _insert(store, "sessions", SESSION, _sessions())
    await _insert(store, "session_info", INFO, _described())
    await _insert(store, "records", RECORD, _records())


def _time(n: int) -> int:
    return 1_700_000_000_000 + n * 60_000


def _name(n: int) -> str:
    """As good as random, as ids are."""
    return f"sess_{n * 2_654_435_761 % 2**32:08x}"


def _all() -> Iterator[tuple[str, int, int]]:
    """Each session: its id, when it was active, how many sends it has."""
    yield "long", 0, SENDS
    yield "wide", 0, WIDE
    yield from ((_name(n), n, 1) for n in range(SESSIONS))


def _sessions() -> Iterator[Sequence[Any]]:
    for name, n, sends in _all():
        head = sends * len(SEND)
        yield name, "agent", head, sends, head - len(SEND) + 1, sends, 2 * sends, sends, 8_000 * sends, 24 * sends, *[_time(n)] * 4


def _described() -> Iterator[Sequence[Any]]:
    for name, n, _ in _all():
        yield name, json.dumps({"tenant": f"tenant-{n % 97}"}), "root"


def _records() -> Iterator[Sequence[Any]]:
    for name, n, sends in _all():
        for send in range(sends):
            call = f"call_{send}"
            for at, cells in enumerate(CELLS, 1):
                named = cells._replace(tool_calls=cells.tool_calls and cells.tool_calls.replace(CALL, call), call_id=cells.call_id and call)
                if name == "wide" and cells.content:
                    named = named._replace(content=PAGE_OF_CODE)
                yield name, send * len(SEND) + at, 1, send + 1, at // 4, _time(n) + at * 100, *named


async def _insert(store: SessionStore, table: str, columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> None:
    one = f"({', '.join('?' * len(columns))})"
    while some := list(islice(rows, PARAMETERS // len(columns))):
        sql = f"INSERT INTO pl_{table} ({', '.join(columns)}) VALUES {', '.join([one] * len(some))}"
        await store.database.write([Statement(sql, [value for row in some for value in row])])


def _many_leaves() -> dict[str, Any]:
    leaf = {"type": "agent", "id": "r", "spec": {"name": "r", "system_prompt": "Be brief."}, "input": "{{item}}"}
    return {"name": "many", "root": {"type": "foreach", "id": "each", "as": "item", "items": list(range(LEAVES)), "body": leaf}}


# --- servers ----------------------------------------------------------------------------------------------


def cpu_of(server: Any) -> Clock:
    """The CPU of a server: of its process with all its threads, and of the processes that it started."""

    def seconds() -> float:
        return sum(_used(place) for pid in (server.pid, *_children(server.pid)) for place in Path(f"/proc/{pid}/task").glob("*/schedstat"))

    return seconds


def _used(place: Path) -> float:
    try:
        return int(place.read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return 0.0  # it ended meanwhile


def _children(pid: int) -> list[int]:
    return [int(child) for place in Path(f"/proc/{pid}/task").glob("*/children") for child in place.read_text().split()]


async def pages_on(report: Report, engine: str, server: Any) -> None:
    """The same, in a database of that server."""
    await server.create("inspector")
    await pages(report, engine, server.dsn("inspector"), cpu_of(server))


async def main() -> None:
    report = Report()
    engines = sys.argv[1:] or ("SQLite", *START)
    if "SQLite" in engines:
        with tempfile.TemporaryDirectory(prefix="power-loop-bench-") as folder:
            await pages(report, "SQLite", f"sqlite:///{folder}/inspect.db?synchronous=normal")
    servers = [engine for engine in engines if engine in START]
    await on_each(report, servers, lambda engine, server: pages_on(report, engine, server), fsync=False)
    print(report.text())


if __name__ == "__main__":
    asyncio.run(main())
