"""With ``--allow-actions`` a person at the screen may decide and answer, once each; no model is called from there."""

from __future__ import annotations

from typing import Any

import pytest
from parked import waiting


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
    ],
)
async def test_nonsense_is_refused(file_place: Any, body: Any) -> None:
    loop = await waiting(file_place)
    answer = await file_place.browser.post("/api/decide", body)
    assert answer.status in (400, 409)
    await loop.aclose()
