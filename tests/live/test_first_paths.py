"""What a newcomer does first, as they do it: in processes, in an empty folder, with either wire and with any database."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import engines
import pytest

MODEL_VARIABLES = ("POWER_LOOP_", "OPENAI_", "ANTHROPIC_")


async def told(folder: Path, *command: str, says: str = "", **settings: str) -> str:
    """What ``python COMMAND`` prints; it must end well."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(MODEL_VARIABLES)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env={**env, **settings}, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate(says.encode())
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.parametrize("how", ["the environment", "an argument"])
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_the_demo_and_the_chat_after_it_ask_the_model_that_was_named(
    repo: Path, tmp_path: Path, rehearsal: str, wire: str, how: str
) -> None:
    address = rehearsal + ("/v1" if wire == "openai" else "")
    named = [f"{wire}:m"] if how == "an argument" else []
    prefix = wire.upper() if named else "POWER_LOOP"
    settings = {f"{prefix}_BASE_URL": address, f"{prefix}_API_KEY": "k"}
    settings |= {} if named else {"POWER_LOOP_PROVIDER": wire, "POWER_LOOP_MODEL": "m"}
    shown = await told(tmp_path, str(repo / "examples" / "demo.py"), *named, **settings)
    assert "Offline" not in shown
    assert "convert {'value': 5, 'unit': 'mile', 'to': 'km'} -> 8.05 km" in shown
    assert "Done: it is on your note pad." in shown
    assert (tmp_path / "demo-notes.txt").read_text() == "ran 8.05 km\n"
    follow_up = shown.splitlines()[-1].split()[1:]
    assert "You ran five miles." in await told(tmp_path, "-m", "power_loop", *follow_up, says="How many miles did I run?\n", **settings)


@pytest.mark.parametrize("engine", engines.FILES_AND_SERVERS)
async def test_a_conversation_on_any_database_goes_on_in_another_process(engine: str, tmp_path: Path) -> None:
    async with engines.fresh(engine, tmp_path) as dsn:
        chat, echo = ("-m", "power_loop", "chat", "--dsn", dsn), {"POWER_LOOP_PROVIDER": "echo"}
        begun = re.search("session ([^ ,]+)", await told(tmp_path, *chat, says="My name is Ada.\n", **echo))
        assert begun is not None
        shown = await told(tmp_path, *chat, begun[1], says="Do you remember?\n", **echo)
    assert "My name is Ada." in shown
    assert "echo: Do you remember?" in shown
