"""`power-loop chat` asks in place: what waits for an approval, and what a tool asked."""

from __future__ import annotations

import asyncio
import getpass
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from power_loop.contracts.records import Decided
from power_loop.testing import call, calls


def chat(folder: Path, session: str, lines: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POWER_LOOP_", "OPENAI_", "ANTHROPIC_"))}
    command = [sys.executable, "-m", "power_loop", "chat", session, "--dsn", "app.db"]
    env = {**kept, "POWER_LOOP_PROVIDER": "echo"}
    return subprocess.run(command, input=lines, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


async def test_a_denial_in_the_chat_goes_on_at_once(till_bank: Any, till: Any, tmp_path: Path) -> None:
    loop, session, _ = await till_bank.waiting(till, call("pay", euros=5))
    done = await asyncio.to_thread(chat, tmp_path, session, "maybe\nn\ntoo dear\nthanks\n")
    assert done.returncode == 0, done.stderr
    assert 'pay waits for your approval, with these arguments:\n{\n  "euros": 5\n}\n[y]es, [n]o or [q]uit? maybe\n' in done.stdout
    assert "why not? (for the model) too dear\n" in done.stdout
    assert "  <- [denied] Denied: pay was not run. Note: too dear\n" in done.stdout
    assert "echo: thanks" in done.stdout
    (made,) = await till_bank.records(loop, session, Decided)
    assert (made.approved, made.by, made.note, till.paid) == (False, getpass.getuser(), "too dear", [])


async def test_an_approval_in_the_chat_is_kept_for_the_program_that_has_the_tool(till_bank: Any, till: Any, tmp_path: Path) -> None:
    loop, session, _ = await till_bank.waiting(till, call("pay", euros=5))
    done = await asyncio.to_thread(chat, tmp_path, session, "y\nq\n")
    assert done.returncode == 4
    assert "This chat has no tools to run them with" in done.stdout
    assert (await loop.resume(session)).final_text == "so: paid 5"


async def test_several_are_asked_one_after_the_other_and_quitting_leaves_the_rest_open(till_bank: Any, till: Any, tmp_path: Path) -> None:
    loop = await till_bank.loop(till, calls(call("pay", euros=1), call("pay", euros=2)))
    session = await loop.new_session()
    await loop.send("pay both", session)
    done = await asyncio.to_thread(chat, tmp_path, session, "n\n\n")
    assert done.returncode == 4
    assert done.stdout.count("waits for your approval") == 2
    (left,) = await loop.list_approvals(session)
    assert left.arguments == {"euros": 2}
