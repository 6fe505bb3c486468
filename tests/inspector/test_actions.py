"""With ``--allow-actions`` a person at the screen may decide and answer, once each; no model is called from there."""

from __future__ import annotations

from typing import Any

import pytest
from parked import waiting

from power_loop import StatefulAgentLoop, ToolRegistry, register_spawn_agent, tool
from power_loop.errors import HumanInputRequired
from power_loop.testing import ScriptedLLM, call, say


async def interactions(place: Any) -> dict[str, Any]:
    session = (await place.browser.get("/api/session?id=asked")).json
    return {asked["kind"]: asked for asked in session["waiting"]}


async def test_an_approval_and_an_answer_let_the_send_go_on(file_place: Any) -> None:
    loop = await waiting(file_place)
    asked = await interactions(file_place)
    about = {"session_id": "asked", "interaction_id": asked["approval"]["interaction_id"]}
    decided = await file_place.browser.post("/api/decide", {**about, "approved": True, "digest": asked["approval"]["digest"]})
    answered = await file_place.browser.post(
        "/api/decide", {"session_id": "asked", "interaction_id": asked["text"]["interaction_id"], "answer": "Oslo"}
    )
    assert (decided.status, answered.status) == (200, 200)
    assert len(loop.llm.requests) == 1
    result = await loop.resume("asked")
    assert (result.status, result.final_text) == ("completed", "done")
    await loop.aclose()


async def test_a_denial_is_read_by_the_model_and_says_who_denied(file_place: Any) -> None:
    loop = await waiting(file_place)
    asked = await interactions(file_place)
    about = {"session_id": "asked", "interaction_id": asked["approval"]["interaction_id"], "digest": asked["approval"]["digest"]}
    assert (await file_place.browser.post("/api/decide", {**about, "approved": False, "note": "too much"})).status == 200
    await loop.resume("asked")
    page = (await file_place.browser.get("/api/timeline?id=asked")).json
    call = next(item for item in page["sends"][-1]["items"] if item.get("calls"))["calls"][0]
    assert (call["outcome"], call["decided"]["by"], call["decided"]["note"], call["ran"]) == ("denied", "inspector", "too much", False)
    await loop.aclose()


async def test_an_answer_to_a_sub_agent_lets_those_above_it_go_on(file_place: Any) -> None:
    @tool(effects="pure")
    def ask(question: str) -> str:
        """Ask the user."""
        raise HumanInputRequired(question)

    registry = ToolRegistry([ask])
    register_spawn_agent(registry)
    model = ScriptedLLM([call("spawn_agent", task="x"), call("ask", question="Where to?"), say("seen"), say("done")])
    async with StatefulAgentLoop(llm=model, store=file_place.store, tool_registry=registry) as loop:
        await loop.new_session(session_id="above")
        assert (await loop.send("go", "above")).status == "waiting_for_input"
        (child,) = await file_place.store.list_children("above")
        (asked,) = (await file_place.browser.get(f"/api/session?id={child.session_id}")).json["waiting"]
        answer = {"session_id": child.session_id, "interaction_id": asked["interaction_id"], "answer": "Oslo"}
        assert (await file_place.browser.post("/api/decide", answer)).status == 200
        result = await loop.drivers.hear("above")
    assert (result.status, result.final_text) == ("completed", "done")


async def test_an_approval_is_decided_with_its_digest_and_not_answered(file_place: Any) -> None:
    loop = await waiting(file_place)
    asked = await interactions(file_place)
    answer = {"session_id": "asked", "interaction_id": asked["approval"]["interaction_id"], "answer": True}
    assert (await file_place.browser.post("/api/decide", answer)).status == 400
    await loop.aclose()


@tool(needs_approval=True)
def deploy(password: str, note: str = "") -> str:
    """Deploy."""
    return "deployed"


async def deploying(place: Any, **arguments: str) -> StatefulAgentLoop:
    """The loop of session ``deploys``, which waits for an approval of these arguments."""
    loop = StatefulAgentLoop(llm=ScriptedLLM([call("deploy", **arguments), say("done")]), store=place.store, tools=[deploy])
    await loop.new_session(session_id="deploys")
    await loop.send("Deploy", "deploys")
    return loop


@pytest.mark.parametrize("arguments", [{"password": "hunter2-hunter2"}, {"password": "", "note": "x" * 9_000}], ids=["secret", "long"])
async def test_what_an_approval_has_to_name_is_handed_out_with_the_whole_of_it_alone(file_place: Any, arguments: Any) -> None:
    loop = await deploying(file_place, **arguments)
    (approval,) = await loop.list_approvals("deploys")
    head = (await file_place.store.look("deploys")).head
    pages = [f"/api/{name}?id=deploys" for name in ("session", "timeline", "doctor", "charts", "workflow")]
    pages += [f"/api/{name}?id=deploys&seq={seq}" for name in ("record", "request") for seq in range(1, head + 1)]
    for page in ("/api/sessions", *pages):
        assert approval.digest.encode() not in (await file_place.browser.get(page)).body, page
    about = {"session_id": "deploys", "interaction_id": approval.interaction_id}
    assert (await file_place.browser.post("/api/decide", {**about, "approved": True})).status == 400
    shown = (await file_place.browser.get(f"/api/asked?id=deploys&interaction_id={approval.interaction_id}")).json
    assert (shown["arguments"], shown["digest"]) == (arguments, approval.digest)
    assert (await file_place.browser.post("/api/decide", {**about, "approved": True, "digest": shown["digest"]})).status == 200
    assert (await loop.resume("deploys")).status == "completed"
    await loop.aclose()


async def test_a_denial_need_not_have_seen_what_it_denies(file_place: Any) -> None:
    loop = await deploying(file_place, password="hunter2-hunter2")
    (approval,) = await loop.list_approvals("deploys")
    about = {"session_id": "deploys", "interaction_id": approval.interaction_id, "approved": False}
    assert (await file_place.browser.post("/api/decide", {**about, "interaction_id": "another"})).status == 400
    assert (await file_place.browser.post("/api/decide", about)).status == 200
    assert (await loop.resume("deploys")).status == "completed"
    assert next(message["content"] for message in await loop.get_messages("deploys") if message["role"] == "tool").startswith("Denied")
    await loop.aclose()


@pytest.mark.parametrize("wrong", ["digest", "interaction", "twice"])
async def test_what_does_not_fit_is_refused_with_a_reason(file_place: Any, wrong: str) -> None:
    loop = await waiting(file_place)
    asked = (await interactions(file_place))["approval"]
    told = {"session_id": "asked", "interaction_id": asked["interaction_id"], "approved": True, "digest": asked["digest"]}
    if wrong == "twice":
        await file_place.browser.post("/api/decide", told)
    else:
        told[{"digest": "digest", "interaction": "interaction_id"}[wrong]] = "another"
    answer = await file_place.browser.post("/api/decide", told)
    assert (answer.status in (400, 409), bool(answer.json["error"])) == (True, True)
    await loop.aclose()


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"session_id": "asked"},
        {"session_id": 1, "interaction_id": "x"},
        {"session_id": "asked", "interaction_id": "x", "answer": "y"},
        {"session_id": "asked", "interaction_id": "x", "approved": True, "digest": "d", "note": 5},
        {"session_id": "asked", "interaction_id": "x", "approved": True, "digest": ["d"]},
    ],
)
async def test_nonsense_is_refused(file_place: Any, body: Any) -> None:
    loop = await waiting(file_place)
    answer = await file_place.browser.post("/api/decide", body)
    assert answer.status in (400, 409)
    await loop.aclose()
