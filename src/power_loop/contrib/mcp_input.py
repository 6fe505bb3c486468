"""What an MCP server asks before it goes on with a call, as questions that wait in the store, and the answers it gets.

By the stateless protocol a server answers a call with requests for input and a state that it wants back; the call is made
again with both. Here each request parks the call as one question, for as long as it takes; when all are answered the server
hears of it. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, cast

from power_loop.contracts.errors import HumanInputRequired
from power_loop.contracts.tool import ToolRun
from power_loop.contrib.mcp_source import Wire

YES, NO = ("yes", "y", "true", "1", "ok"), ("no", "n", "false", "0")
ACTIONS = ("accept", "decline", "cancel")


class Continued(NamedTuple):
    """What a call that is made again brings along."""

    answers: Wire | None = None
    state: str | None = None


def asks_for_input(result: Mapping[str, Any]) -> bool:
    return result.get("resultType") == "input_required"


def continued(run: ToolRun) -> Continued:
    """What this call was answered since it began. Raises `HumanInputRequired` for what is still to be asked."""
    if not run.answered:
        return Continued()
    last = run.answered[-1]
    state: Wire = dict(last["state"])
    request = state["requests"][state["asking"]]
    try:
        response = response_to(request, last["answer"])
    except ValueError as error:
        _ask(state, state["asking"], f"{error}\n")
    state["responses"] = {**state["responses"], state["asking"]: response}
    if left := [key for key in state["requests"] if key not in state["responses"]]:
        _ask(state, left[0])
    return Continued(state["responses"], state["requestState"])


def ask_for(result: Mapping[str, Any]) -> NoReturn:
    """Park the call with the first question of ``result``. Raises `RuntimeError` when it asks what only a client could do."""
    requests: Wire = result["inputRequests"]
    for request in requests.values():
        if request.get("method") != "elicitation/create":
            raise RuntimeError(f"the MCP server asks for {request.get('method')}, which this client does not offer")
    _ask({"requests": requests, "requestState": result.get("requestState"), "responses": {}}, next(iter(requests)))


def _ask(state: Wire, key: str, remark: str = "") -> NoReturn:
    params: Wire = state["requests"][key].get("params") or {}
    kind, options = _kind(params)
    about = {name: params[given] for name, given in (("schema", "requestedSchema"), ("url", "url")) if given in params}
    prompt = remark + "\n".join(str(params[name]) for name in ("message", "url") if params.get(name))
    raise HumanInputRequired(prompt, kind=kind, options=options, metadata={"mcp": about}, state={**state, "asking": key})


def _kind(params: Mapping[str, Any]) -> tuple[str, list[Wire]]:
    """The kind of question, as `request_user_input` knows them, and what there is to choose from."""
    fields = fields_of(params)
    if not fields:
        return "confirm", []
    if len(fields) > 1:
        return "form", []
    (field,) = fields.values()
    if field.get("type") == "boolean":
        return "confirm", []
    options = _choices(field)
    return ("choice", options) if options else ("text", [])


def fields_of(params: Mapping[str, Any]) -> dict[str, Wire]:
    schema = params.get("requestedSchema")
    fields = cast("Wire", schema).get("properties") if isinstance(schema, Mapping) else None
    return {name: field for name, field in cast("Wire", fields).items() if isinstance(field, dict)} if isinstance(fields, dict) else {}


def _choices(field: Mapping[str, Any]) -> list[Wire]:
    if isinstance(values := field.get("enum"), list):
        ids, labels = cast("list[Any]", values), cast("list[Any]", field.get("enumNames") or values)
        return [{"id": str(value), "label": str(label)} for value, label in zip(ids, labels, strict=False)]
    titled = cast("Sequence[Any]", field.get("oneOf") or ())
    return [{"id": str(each["const"]), "label": str(each.get("title", each["const"]))} for each in titled if "const" in each]


def response_to(request: Mapping[str, Any], answer: Any) -> Wire:
    """An answer as the server wants it. Raises `ValueError` for one that does not fit the question.

    An object fills the fields of a form; ``{"action": "decline"}`` and ``{"action": "cancel"}`` refuse. For a single field its
    value is enough.
    """
    if answer is None:
        return {"action": "cancel"}
    if isinstance(answer, str) and answer.lstrip().startswith("{"):
        answer = _json(answer)
    if isinstance(answer, dict) and cast("Wire", answer).get("action") in ACTIONS:
        return cast("Wire", answer)
    fields = fields_of(request.get("params") or {})
    if not fields:
        return {"action": "accept" if _yes(answer) else "decline"}
    if not isinstance(answer, dict):
        if len(fields) > 1:
            raise ValueError(f"Answer with a JSON object that has {', '.join(fields)}.")
        answer = {name: _value(field, answer) for name, field in fields.items()}
    return {"action": "accept", "content": answer}


def _value(field: Mapping[str, Any], answer: Any) -> Any:
    """One field from what somebody typed."""
    if options := _choices(field):
        return next((each["id"] for each in options if answer in (each["id"], each["label"])), answer)
    match field.get("type"):
        case "boolean":
            return _yes(answer)
        case "integer" | "number" if isinstance(answer, str):
            return _json(answer)
        case "array" if isinstance(answer, str):
            return [each.strip() for each in answer.split(",")]
        case _:
            return answer


def _yes(answer: Any) -> bool:
    if isinstance(answer, bool):
        return answer
    said = str(answer).strip().lower()
    if said not in YES + NO:
        raise ValueError("Answer yes or no.")
    return said in YES


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"That is no JSON: {error}.") from error
