"""A run of a workflow is shown with the state of each step, whoever drives it, on every engine."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from asgi import Browser
from inspected_runs import REPORT, agent, answer, begun

from power_loop.errors import LLMPermanentError
from power_loop.inspector import journals, runs
from power_loop.inspector.app import inspector_app
from power_loop.inspector.reads import Reads
from power_loop.workflow import WorkflowSpec, get_workflow
from power_loop.workflow.run import resume_run


async def shown(place: Any, session_id: str) -> dict[str, Any]:
    while True:
        found = await place.browser.get(f"/api/workflow?id={session_id}")
        assert found.status == 200, found.body
        if found.json["further"] is None:
            return found.json


def boxes(run: dict[str, Any]) -> dict[str, str]:
    return {box["label"]: box["state"] for box in run["picture"]["boxes"] if box["label"]}


async def test_a_run_that_waits_shows_what_is_done_what_waits_and_what_was_not_reached(place: Any) -> None:
    loop, result = await begun(place.store)
    run = await shown(place, f"wf_{result.run_id}")
    assert boxes(run) == {
        "plan": "completed", "history": "completed", "numbers": "completed", "research (topic)": "completed", "r": "completed",
        "tone?": "waiting", "tone": "", "brief": "", "essay": "",
    }  # fmt: skip
    assert (run["status"], run["waiting"][0]["options"], run["usage"]) == ("waiting_for_input", ["short", "long"], dict(result.usage))
    assert [step["step"] for step in run["steps"]] == ["tone", "plan", "history", "numbers", "research", "research[0].r", "research[1].r"]
    assert next(box for box in run["picture"]["boxes"] if box["label"] == "r")["counts"] == {"completed": 2}
    assert run["mermaid"] == (await get_workflow(loop, None, result.run_id, detail=True))["mermaid"]
    await loop.aclose()


async def test_a_failure_is_named_and_leads_to_the_session_of_its_leaf(place: Any) -> None:
    def model(request: Any) -> str:
        if str(request.system_prompt).startswith("Find"):
            raise LLMPermanentError("the provider said no")
        return answer(request)

    loop, result = await begun(place.store, model=model)
    run = await shown(place, f"wf_{result.run_id}")
    assert (run["status"], boxes(run)["numbers"], boxes(run)["plan"]) == ("failed", "failed", "completed")
    assert (run["steps"][0]["step"], "the provider said no" in run["steps"][0]["error"]) == ("numbers", True)
    assert [error["node_id"] for error in run["errors"]] == ["numbers"]
    await loop.aclose()


async def test_a_leaf_that_runs_is_told_from_one_that_might_and_has_its_session(place: Any) -> None:
    seen: list[dict[str, Any]] = []
    runs_now = asyncio.Event()

    async def model(request: Any) -> str:
        runs_now.set()
        while not seen:
            await asyncio.sleep(0)
        return "done"

    one = {"name": "one", "input": "x", "root": {"type": "sequence", "steps": [agent("first", "Do it."), agent("second", "Do more.")]}}
    task = asyncio.ensure_future(begun(place.store, one, model))
    await runs_now.wait()
    ((session_id,),) = await place.store.database.read("SELECT session_id FROM pl_session_info WHERE kind = 'workflow'", ())
    seen.append(await shown(place, session_id))
    loop, _ = await task
    assert boxes(seen[0]) == {"first": "running", "second": ""}
    (leaf,) = next(box for box in seen[0]["picture"]["boxes"] if box["label"] == "first")["sessions"]
    assert (seen[0]["steps"][0]["session_id"], leaf.startswith("sess_")) == (leaf, True)
    assert boxes(await shown(place, session_id)) == {"first": "completed", "second": "completed"}
    await loop.aclose()


async def test_the_journal_is_told_in_the_timeline_and_what_its_leaves_spent(place: Any) -> None:
    loop, result = await begun(place.store)
    (send,) = (await place.browser.get(f"/api/timeline?id=wf_{result.run_id}")).json["sends"]
    told = [(item["step"], item["state"]) for item in send["items"] if item["kind"] == "step_changed"]
    assert told[:2] == [("", "started"), ("plan", "completed")]
    assert (send["status"], send["prompt_tokens"]) == ("waiting_for_input", result.usage["prompt_tokens"])
    await loop.aclose()


async def test_of_thousands_of_steps_a_page_shows_some_those_that_are_not_completed_first(file_place: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(runs, "STEPS_SHOWN", 3)
    loop, result = await begun(file_place.store)
    run = await shown(file_place, f"wf_{result.run_id}")
    assert ([step["state"] for step in run["steps"]], run["more_steps"]) == (["waiting", "completed", "completed"], 4)
    await loop.aclose()


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
async def test_a_long_run_is_read_slice_by_slice_and_comes_to_the_same(place: Any, monkeypatch: Any, size: int) -> None:
    loop, result = await begun(place.store)
    session_id = f"wf_{result.run_id}"
    whole = await shown(place, session_id)
    monkeypatch.setattr(journals, "SLICE_ROWS", size)
    head, answers, read = (await place.store.look(session_id)).head, [], []
    again = Browser(inspector_app(place.watcher, place.store, token="t"))
    await again.get("/?token=t")
    monkeypatch.setattr(Reads, "rows", _counting(Reads.rows, read))
    while not answers or answers[-1]["further"] is not None:
        answers.append((await again.get(f"/api/workflow?id={session_id}")).json)
    assert answers[-1] == whole
    assert [answer["further"] for answer in answers[:-1]] == [min(head, size * n) for n in range(1, len(answers))]
    assert max(read) <= size
    read.clear()
    assert (await again.get(f"/api/workflow?id={session_id}")).json == whole
    assert read == []
    await loop.aclose()


def _counting(rows: Any, read: list[int]) -> Any:
    async def counted(*given: Any) -> Any:
        found = await rows(*given)
        read.append(len(found))
        return found

    return counted


@pytest.mark.parametrize("size", [2, 1_000])
async def test_a_run_that_goes_on_and_one_that_is_resumed_otherwise_are_shown_as_they_then_are(
    file_place: Any, monkeypatch: Any, size: int
) -> None:
    monkeypatch.setattr(journals, "SLICE_ROWS", size)
    loop, result = await begun(file_place.store)
    session_id = f"wf_{result.run_id}"
    assert (await shown(file_place, session_id))["status"] == "waiting_for_input"
    changed = copy.deepcopy(REPORT)
    changed["root"]["steps"][1]["branches"][0]["spec"]["system_prompt"] = "Write the history anew."
    await resume_run(loop, None, result.run_id, on_change="rerun", spec=WorkflowSpec.from_json(changed))
    run = await shown(file_place, session_id)
    found = await get_workflow(loop, None, result.run_id, detail=True)
    assert (run["mermaid"], run["status"], run["usage"]) == (found["mermaid"], found["status"], found["usage"])
    texts = {step["step"]: step["text"]["shown"] for step in run["steps"]}
    assert texts["history"] == "(Write the history anew.)"
    await loop.aclose()


async def test_what_is_no_workflow_has_no_picture(file_place: Any) -> None:
    assert (await file_place.browser.get("/api/workflow?id=demo")).status == 404
    assert (await file_place.browser.get("/api/workflow?id=nobody")).status == 404


@pytest.mark.parametrize("choice", ["short", "long"])
async def test_the_question_of_a_run_is_answered_at_the_screen(file_place: Any, choice: str) -> None:
    loop, result = await begun(file_place.store)
    session_id = f"wf_{result.run_id}"
    (asked,) = (await shown(file_place, session_id))["waiting"]
    told = {"session_id": session_id, "interaction_id": asked["interaction_id"], "answer": choice}
    assert (await file_place.browser.post("/api/decide", told)).status == 200
    done = await loop.resume(session_id)
    assert (done.status, done.final_text) == ("completed", f"(Write it {choice}.)")
    run = await shown(file_place, session_id)
    assert {label: boxes(run)[label] for label in ("brief", "essay")} == {
        "brief": "completed" if choice == "short" else "", "essay": "completed" if choice == "long" else "",
    }  # fmt: skip
    await loop.aclose()


def test_the_workflow_of_these_tests_has_every_kind_of_step_but_a_loop() -> None:
    assert {step["type"] for step in REPORT["root"]["steps"]} == {"agent", "parallel", "foreach", "human", "branch"}
