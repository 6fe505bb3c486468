"""The errors are a contract: their codes, what they carry, who catches them, what their texts say."""

from __future__ import annotations

import ast
import builtins
import inspect
import pickle
from typing import Any, TypeGuard

import pytest

from baseline import load
from power_loop.contracts import errors
from power_loop.contracts.errors import (
    ApprovalError,
    CancellationRequested,
    CompactionFailed,
    ContextOverflow,
    LLMError,
    LLMPermanentError,
    LLMRetryExhausted,
    LLMTimeout,
    PowerLoopError,
    RecordFromTheFuture,
    SessionArchivedError,
    SessionBusyError,
    SessionLeaseLost,
    SessionNotFoundError,
    SessionPendingError,
    SpecValidationError,
    StoreSchemaError,
    StructuredOutputError,
    ToolNotFound,
    ToolTimeout,
    ToolValidationError,
    WorkflowRunError,
    WorkflowSpecError,
)

CODES: dict[str, str] = load()["error_codes"]
BUILTIN_BASES = {
    "WorkflowRunError": RuntimeError,
    "StoreSchemaError": RuntimeError,
    "RuntimeEnvError": RuntimeError,
    "BlackboardError": ValueError,
    "AsyncToolInSyncContext": TypeError,
}
# What tools raise to say something; and what one part of the house tells another and no caller sees.
SIGNALS = {"ModelRetry", "HumanInputRequired"}
INTERNAL = {
    *("Conflict", "CommitUnknown", "Cut", "KeyTaken", "CommandFailed"),
    # What the built-in tools tell each other of a file, a patch or a command; the model reads it as a failed result.
    *("Broken", "NotText", "EditError", "PatchError", "TooDeep", "TookTooLong", "TooMuch", "Refused"),
    "Unreached",  # carries an error of the store through a call
    "Lost",  # a connection to an MCP server, which its client makes anew
}
CALLS = [{"id": "c1", "type": "function", "function": {"name": "refund", "arguments": "{}"}}, {"id": "c2", "name": "write"}]
TOO_SLOW = TimeoutError("too slow")

EXAMPLES: list[tuple[PowerLoopError, dict[str, Any]]] = [
    (SessionNotFoundError("s1"), {"session_id": "s1"}),
    (
        SessionPendingError("s1", assistant_seq=7, pending_tool_calls=CALLS, pending_interactions=[{"id": "i1"}]),
        {"session_id": "s1", "assistant_seq": 7, "pending_tool_calls": CALLS, "pending_interactions": [{"id": "i1"}]},
    ),
    (SessionBusyError("s1", holder="web-1", expires_at=5), {"session_id": "s1", "holder": "web-1", "expires_at": 5}),
    (SessionLeaseLost("s1", epoch=3), {"session_id": "s1", "epoch": 3}),
    (SessionArchivedError("s1"), {"session_id": "s1"}),
    (LLMError("no", status_code=503, provider="openai"), {"status_code": 503, "provider": "openai"}),
    (LLMPermanentError("no", status_code=401), {"status_code": 401, "provider": None}),
    (ContextOverflow("too long"), {"code": "llm.permanent"}),
    (LLMTimeout(elapsed=61.0, attempts=3, total_timeout=60.0), {"elapsed": 61.0, "attempts": 3, "total_timeout": 60.0}),
    (LLMRetryExhausted(attempts=3), {"attempts": 3, "last_error": None}),
    (CancellationRequested("the user left"), {"reason": "the user left"}),
    (CompactionFailed("the summary is longer"), {"reason": "the summary is longer"}),
    (ToolNotFound("fly"), {"tool_name": "fly"}),
    (ToolValidationError("add", "a: not a number"), {"tool_name": "add", "message": "a: not a number"}),
    (ToolTimeout("add", 2.5), {"tool_name": "add", "timeout_s": 2.5}),
    (SpecValidationError("no name", field="name"), {"field": "name", "problems": []}),
    (WorkflowSpecError(problems=["a", "b"]), {"field": None, "problems": ["a", "b"]}),
    (WorkflowRunError("taken", run_id="r1", code="workflow.busy"), {"run_id": "r1", "code": "workflow.busy"}),
    (StructuredOutputError("not JSON", "text", "line 1"), {"reason": "not JSON", "raw_text": "text", "detail": "line 1"}),
    (StoreSchemaError("empty", ddl="CREATE TABLE t"), {"ddl": "CREATE TABLE t"}),
    (RecordFromTheFuture("wish", 9), {"kind": "wish", "version": 9}),
    (ApprovalError(interaction_id="i1", reason="expired"), {"interaction_id": "i1", "reason": "expired"}),
]


def public_errors() -> dict[str, type[PowerLoopError]]:
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: each for name, each in classes if issubclass(each, PowerLoopError) and each.__module__ == errors.__name__}


# acceptance: 66
def test_every_public_error_has_its_frozen_code() -> None:
    found = {name: error.code for name, error in public_errors().items()}
    overflow = found.pop("ContextOverflow")  # not public: the transports tell the loop with it
    assert found == CODES
    assert overflow == "llm.permanent"


# acceptance: 66, 67, 68
@pytest.mark.parametrize(("error", "attributes"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_an_error_carries_what_its_constructor_was_given(error: PowerLoopError, attributes: dict[str, Any]) -> None:
    assert {name: getattr(error, name) for name in attributes} == attributes


@pytest.mark.parametrize(("error", "attributes"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_an_error_goes_through_pickle_whole(error: PowerLoopError, attributes: dict[str, Any]) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, again.code) == (str(error), error.args, error.code)
    assert {name: getattr(again, name) for name in attributes} == attributes


# acceptance: 67
def test_the_last_error_is_also_the_cause() -> None:
    error = LLMRetryExhausted(attempts=3, last_error=TOO_SLOW)
    assert error.last_error is error.__cause__ is TOO_SLOW
    assert "3 attempts" in str(error)
    assert "TimeoutError" in str(error)


# acceptance: 68
def test_a_pending_session_names_its_tools_and_the_three_ways_out() -> None:
    error = SessionPendingError("s1", assistant_seq=7, pending_tool_calls=CALLS)
    for word in ("refund", "write", "resume()", "abort_pending()", "heal_pending=True"):
        assert word in str(error)
    assert error.pending_tool_calls == CALLS


# acceptance: 69
def test_one_except_clause_catches_every_error_of_the_package(sources: list[Any]) -> None:
    nodes = [node for source in sources if source.room != "testing" for node in ast.walk(source.tree)]
    bases = {node.name: [ast.unparse(base) for base in node.bases] for node in nodes if is_class(node) and not node.name.startswith("_")}
    foreign = {name for name, its in bases.items() if any(is_exception(base) for base in its) and not any(base in CODES for base in its)}
    assert foreign <= SIGNALS | INTERNAL | {"PowerLoopError"}


def is_class(node: ast.AST) -> TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef)


def is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


# acceptance: 69
@pytest.mark.parametrize(("name", "base"), BUILTIN_BASES.items())
def test_older_except_clauses_still_catch(name: str, base: type[Exception]) -> None:
    assert issubclass(public_errors()[name], base)


def test_no_other_error_is_caught_by_a_builtin_name() -> None:
    caught = {
        name for name, error in public_errors().items() if issubclass(error, (RuntimeError, ValueError, TypeError, OSError, LookupError))
    }
    assert caught == set(BUILTIN_BASES)


@pytest.mark.parametrize("name", CODES)
def test_every_error_says_in_its_docstring_what_happened(name: str) -> None:
    assert (public_errors()[name].__doc__ or "").strip().endswith((".", "``"))
