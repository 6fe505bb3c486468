"""The diagrams of docs/how-it-works, drawn from what the code says: its rules, its tables, its statements, and runs of it.

Nothing in them is written by hand but their headings, so a diagram that is wrong is a program that changed.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from drawing import AMBER, BLUE, GREEN, GREY, LINE, PAD, PLAIN, Drawing, wrapped
from power_loop.contracts.records import Record
from power_loop.contracts.store import Append, Conflict
from power_loop.kernel import decide as rules
from power_loop.loop import StatefulAgentLoop
from power_loop.runtime.perform import PERFORMERS
from power_loop.store.log import APPEND, FENCE
from power_loop.store.sql_store import SessionStore
from power_loop.store.sqlite_commit import commit_group
from power_loop.store.tables import SCHEMA
from power_loop.testing import ScriptedLLM, call, say
from power_loop.tools.define import tool

FOLDER = Path(__file__).parent.parent / "docs" / "how-it-works"


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring, without the marks around code."""
    words = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("`", "")
    sentence = re.split(r"(?<=\.) ", words)[0].rstrip(".")
    return sentence[:1].upper() + sentence[1:]


# --- facts ------------------------------------------------------------------------------------


def records() -> Drawing:
    """The union of records: what can be durably true."""
    drawing, y = Drawing("The records: everything that can be durably true of a session"), 10.0
    for kind in get_args(Record):
        has = ", ".join(kind._fields)
        drawing.text(10, y, kind.__name__, bold=True)
        lines = [*wrapped(first_sentence(kind), 92), *(wrapped(f"({has})", 92) if has else [])]
        for place, line in enumerate(lines):
            drawing.text(150, y + LINE * place, line, faint=line.startswith("(") or place > 0)
        y += LINE * len(lines) + 7
    return drawing


# --- decide -----------------------------------------------------------------------------------

NAMED = {name: ast.unparse(ast.parse(f"{value!r}")) for name, value in vars(rules).items() if name.isupper()}


def decide() -> Drawing:
    """The rules of `decide`, in their order."""
    body = ast.parse(inspect.getsource(rules.decide)).body[0]
    assert isinstance(body, ast.FunctionDef)
    drawing, y = Drawing("decide: the rules, from the top; the first that holds gives the effect"), 10.0
    for node in body.body:
        match node:
            case ast.If(test=test, body=[ast.Return(value=value)]) if value is not None:
                asked, given = wrapped(said(test), 48), wrapped(effect(value), 52)
                lower = drawing.box(10, y, asked, width=370, fill=BLUE)
                drawing.arrow(380, y + PAD + LINE / 2, 438, y + PAD + LINE / 2, "yes")
                next_y = max(lower, drawing.box(440, y, given, width=400, fill=GREEN)) + 20
                drawing.arrow(60, lower, 60, next_y - 2, "no")
                y = next_y
            case ast.Return(value=value) if value is not None:
                drawing.box(10, y, [effect(value)], width=370, fill=GREEN)
            case _:
                continue
    return drawing


def said(test: ast.expr) -> str:
    """A condition as Python has it, shorter."""
    words = ast.unparse(test).replace("state.", "").replace("limits.", "limit: ")
    return re.sub(r"\(?(\w+) := ([^)]*\))\)?", r"\1 = \2", words)


def effect(value: ast.expr) -> str:
    """What a rule returns, with constants of the module by their value."""
    words = ast.unparse(value)
    for name, stands_for in NAMED.items():
        if stands_for[0].isupper():
            words = re.sub(rf"\b{name}\b", stands_for, words)
    return words.replace("state.", "").replace("limits.", "").replace("reason='')", ")").replace(", )", ")").replace("status=", "")


def effects() -> Drawing:
    """Who performs which effect."""
    drawing, y = Drawing("Each effect has one performer"), 10.0
    for kind, perform in PERFORMERS.items():
        drawing.box(10, y, [kind.__name__], width=150, fill=GREEN)
        home = (getattr(perform, "__module__", "") or "").removeprefix("power_loop.").replace(".", "/")
        drawing.box(220, y, [f"{home}.py"], width=220, fill=GREY)
        drawing.arrow(160, y + PAD + LINE / 2, 218, y + PAD + LINE / 2)
        for place, line in enumerate(wrapped(first_sentence(kind), 62)):
            drawing.text(455, y + PAD + LINE * place, line, faint=True)
        y += 2 * PAD + LINE + 8
    return drawing


# --- leases -----------------------------------------------------------------------------------


def lease() -> Drawing:
    """The statement that fences, taken apart, and the row that it needs."""
    change, guard = FENCE.split(" WHERE ")
    sets = re.sub(r"\s+", " ", change.split(" SET ")[1])
    parts = re.findall(r"(\w+) = ((?:[^,(]|\([^)]*\))+)", sets)
    conditions = [re.sub(r"\{t\d?\}", "now, or ?", each.strip()) for each in guard.split(" AND ")]
    drawing = Drawing("Every batch begins with one guarded UPDATE of the session's row")
    bottom = drawing.box(
        10, 10, ["only if the row still has", *(f"  {each}" for each in conditions)], width=330, fill=AMBER, bold_first=True
    )
    columns = [name for name, _ in parts]
    row = ["then it becomes", *(f"  {line}" for line in wrapped(", ".join(columns), 52))]
    drawing.box(420, 10, row, width=420, fill=GREEN, bold_first=True)
    drawing.arrow(340, 40, 418, 40, "1 row")
    drawing.arrow(80, bottom, 80, bottom + 40, "0 rows: Conflict")
    drawing.box(10, bottom + 42, ["nothing of the batch is written"], width=330, fill=GREY)
    kept = ", ".join(re.findall(r"\((.*?)\)", APPEND.replace("\n", " "))[0].split(", ")[:6])
    drawing.box(420, bottom + 42, ["the records, in the same transaction:", f"  {kept}, ..."], width=420, fill=GREEN)
    drawing.arrow(600, 10 + 2 * PAD + LINE * len(row), 600, bottom + 40)
    return drawing


# --- group commit -----------------------------------------------------------------------------


def group_commit() -> Drawing:
    """What SQLite is told when three batches wait and the second one is out of date."""
    told: list[str] = []
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        connection.execute("CREATE TABLE sessions (id, epoch)")
        connection.executemany("INSERT INTO sessions VALUES (?, 1)", [("a",), ("b",), ("c",)])
        connection.set_trace_callback(told.append)
        guarded = "UPDATE sessions SET epoch = 2 WHERE id = ? AND epoch = ?"
        outcomes = commit_group(connection, [((guarded, (name, epoch), 1),) for name, epoch in (("a", 1), ("b", 0), ("c", 1))], ":memory:")
        connection.set_trace_callback(None)
    connection.close()
    drawing, y = Drawing("Three batches wait: one transaction, and each learns its own outcome"), 10.0
    for name, outcome in zip("abc", outcomes, strict=True):
        fate = "refused: Conflict" if isinstance(outcome, Conflict) else "written"
        y = drawing.box(10, y, [f"batch of session {name}", fate], width=190, fill=AMBER if outcome else BLUE, bold_first=True) + 12
        drawing.arrow(200, y - 12 - PAD - LINE, 268, y - 12 - PAD - LINE)
    drawing.box(270, 10, ["what the one thread tells SQLite", *(f"  {each}" for each in told)], width=560, fill=GREY, bold_first=True)
    return drawing


# --- what a send costs ------------------------------------------------------------------------


class Listening(SessionStore):
    """A real store that remembers what each batch held."""

    def listen(self) -> list[list[str]]:
        self.heard: list[list[str]] = []
        return self.heard

    async def append(self, batch: Append) -> None:
        await super().append(batch)
        words = ["lease taken"] if batch.take_id is not None else []
        words += ["".join(part.title() for part in row.cells.kind.split("_")) for row in batch.rows]
        self.heard.append([*words, "lease given back"] if batch.next.holder is None else words)


@tool(effects="pure")
async def look(city: str) -> str:
    """Look at something."""
    return city


@tool(effects="once")
async def pay(euros: int) -> str:
    """Pay."""
    return f"{euros} paid"


async def batches(*script: Any) -> list[list[str]]:
    """What one send with this script wrote, batch by batch."""
    store = await Listening.open(":memory:")
    async with StatefulAgentLoop(llm=ScriptedLLM(script), store=store, tools=[look, pay]) as loop:
        session = await loop.new_session()
        heard = store.listen()
        await loop.send("Go.", session)
    await store.close()
    return heard


async def sends() -> Iterator[tuple[str, list[list[str]]]]:
    pure, once = call("look", city="Rome"), call("pay", euros=5)
    found = [
        ("a plain send", await batches(say("Yes."))),
        ("one round with a pure tool", await batches(pure, say("Yes."))),
        ("one round with a once tool", await batches(once, say("Yes."))),
        ("two rounds", await batches(pure, pure, say("Yes."))),
    ]
    return iter(found)


def send() -> Drawing:
    """Batches of four sends, as a store saw them."""
    drawing, y = Drawing("What a send writes: a box is one batch, which is one transaction"), 10.0
    for title, written in asyncio.run(sends()):
        drawing.text(10, y, f"{title}: {len(written)} batches", bold=True)
        x, bottom = 10.0, y
        for place, words in enumerate(written):
            bottom = max(bottom, drawing.box(x, y + 22, words, width=150, fill=BLUE if place % 2 else GREEN))
            x += 172
            if place + 1 < len(written):
                drawing.arrow(x - 22, y + 40, x - 2, y + 40)
        y = bottom + 22
    return drawing


# --- tables -----------------------------------------------------------------------------------


def tables() -> Drawing:
    """The tables, from the migrations that make them."""
    drawing, columns = Drawing(f"The tables of schema version {SCHEMA.version}; key columns are marked *"), [10.0] * 4
    drawn = [table for step in SCHEMA.migrations for table in step.tables]
    added = [each for step in SCHEMA.migrations for each in step.columns]
    for table in drawn:
        later = [column for name, column in added if name == table.name]
        names = [each.name + ("*" if each.name in table.key else "") for each in (*table.columns, *later)]
        lines = [table.name, *(f" {line}" for line in wrapped(", ".join(names), 26))]
        place = min(range(4), key=lambda each: columns[each])
        columns[place] = drawing.box(10 + 232 * place, columns[place], lines, width=220, fill=PLAIN, bold_first=True) + 12
    return drawing


DRAWN: dict[str, Callable[[], Drawing]] = {
    "records.svg": records, "decide.svg": decide, "effects.svg": effects, "lease.svg": lease, "group-commit.svg": group_commit,
    "send.svg": send, "tables.svg": tables,
}  # fmt: skip


def files() -> dict[Path, str]:
    return {FOLDER / name: draw().svg() for name, draw in DRAWN.items()}
