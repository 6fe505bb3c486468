"""Watching from a process of its own, cut off at random and gone on with in the next one."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from power_loop import StatefulAgentLoop, tool
from power_loop.testing import ScriptedLLM, call, calls

READER = """
import asyncio, json, sys
from power_loop import StatefulAgentLoop
from power_loop.llm import EchoLLM

async def main(dsn, session, after, cuts):
    async with StatefulAgentLoop(llm=EchoLLM(), dsn=dsn) as loop:
        for cut in cuts:
            async for event in loop.watch(session, after=after):
                print(json.dumps([event.cursor, event.type, dict(event.payload)]), flush=True)
                after, cut = event.cursor, cut - 1
                if event.payload.get("final_text") == "done 3":
                    return
                if cut == 0:
                    break

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
"""
SENDS = 4


@tool(effects="pure")
def add(a: int) -> str:
    """Add up."""
    return f"sum {a}"


def reader(dsn: str, session: str, after: str, cuts: list[int]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READER, dsn, session, after, json.dumps(cuts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def lines_of(process: subprocess.Popen[str]) -> list[list[Any]]:
    out, _ = await asyncio.get_running_loop().run_in_executor(None, process.communicate)
    assert process.returncode == 0
    return [json.loads(line) for line in out.splitlines()]


# acceptance: 133 (from another process, at random points)
async def test_a_watch_from_other_processes_cut_at_random_points_is_the_uncut_one(tmp_path: Path) -> None:
    chance = random.Random(133)
    dsn = str(tmp_path / "app.db")
    script = [step for n in range(SENDS) for step in (calls(call("add", a=n), call("add", a=n + 10)), f"done {n}")]
    async with StatefulAgentLoop(llm=ScriptedLLM(script), dsn=dsn, tools=[add]) as loop:
        session = await loop.new_session()
        uncut = reader(dsn, session, "0", [10_000])
        first = reader(dsn, session, "0", [chance.randint(1, 9) for _ in range(4)])
        for n in range(SENDS):
            await loop.send(f"go {n}", session)
        seen = await lines_of(first)
        while seen[-1][2].get("final_text") != f"done {SENDS - 1}":
            seen += await lines_of(reader(dsn, session, seen[-1][0], [chance.randint(1, 9) for _ in range(8)]))
        assert seen == await lines_of(uncut)
        here = [[event.cursor, event.type, dict(event.payload)] async for event in loop.watch(session, follow=False)]
    assert seen == json.loads(json.dumps(here))
