"""`power-loop workflow`: runs of a document, from a shell."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from power_loop import open_store

LEAF = {"type": "agent", "id": "write", "spec": {"name": "w", "system_prompt": "Write."}, "input": "About {{input}}."}
ASKS = {"type": "sequence", "steps": [{"type": "human", "id": "tone", "prompt": "Short or long?"}, LEAF]}


@pytest.fixture
def files(commands: Any) -> Any:
    for name, root in (("plain", LEAF), ("asks", ASKS)):
        (commands.folder / f"{name}.json").write_text(json.dumps({"name": name, "root": root, "input": "bells"}))
    (commands.folder / "wrong.json").write_text(json.dumps({"name": "", "root": {"type": "agent"}, "more": 1}))
    return commands


# acceptance: 179 (workflow)
def test_a_workflow_runs_is_listed_drawn_and_resumed(files: Any) -> None:
    result = files.json("workflow", "run", "plain.json", "--input", "bicycles")
    assert (result["status"], result["final"]) == ("completed", "echo: About bicycles.")
    [listed] = files.json("workflow", "list")
    assert (listed["run_id"], listed["status"], listed["name"]) == (result["run_id"], "completed", "plain")
    code, out, _ = files("workflow", "graph", result["run_id"])
    assert (code, out.startswith("flowchart"), "write" in out) == (0, True, True)
    assert files("workflow", "graph", "plain.json")[1].startswith("flowchart")
    again = files.json("workflow", "resume", result["run_id"])
    assert (again["final"], again["run_id"]) == (result["final"], result["run_id"])


def test_a_run_that_waits_says_4_and_belongs_to_its_session(files: Any) -> None:
    session = files.json("run", "hello")["session_id"]
    code, out, _ = files("workflow", "run", "asks.json", "--session", session, "--json")
    run = json.loads(out)
    assert (code, run["status"]) == (4, "waiting_for_input")
    assert [each["run_id"] for each in files.json("workflow", "list", "--session", session)] == [run["run_id"]]
    assert files("workflow", "list")[:2] == (0, "no runs\n")
    code, _, complaint = files("workflow", "list", session)
    assert code == 2
    assert f"--session {session}" in complaint
    assert files("workflow", "resume", run["run_id"])[0] == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run",), 2, "needs a FILE"),
        (("run", "missing.json"), 2, "cannot be read"),
        (("run", "wrong.json"), 2, "no workflow that can run"),
        (("run", "plain.json", "--session", "gone"), 3, "gone"),
        (("resume", "0123456789abcdef"), 3, "no run"),
        (("graph", "0123456789abcdef"), 3, "no run"),
        (("walk",), 2, "invalid choice"),
    ],
)
def test_wrong_usage_and_what_is_not_there(files: Any, words: tuple[str, ...], code: int, said: str) -> None:
    files.json("run", "hello")
    found, _, err = files("workflow", *words)
    assert (found, said in err) == (code, True), err


def test_a_session_that_stands_too_deep_has_no_run_below_it(files: Any) -> None:
    async def deepest() -> str:
        store, above = await open_store(files.dsn), None
        for _ in range(4):
            above = await store.create_session(parent_session_id=above)
        await store.close()
        return above or ""

    code, out, err = files("workflow", "run", "plain.json", "--session", asyncio.run(deepest()))
    assert (code, out) == (2, "")
    assert "would stand 4 levels deep; max_spawn_depth is 3" in err.splitlines()[-1]


def test_everything_that_is_wrong_with_a_document_is_listed(files: Any) -> None:
    _, _, err = files("workflow", "run", "wrong.json")
    assert len([line for line in err.splitlines() if line.startswith("- ")]) >= 3
