"""Everything that can go wrong, as one tree.

    PowerLoopError
     ├ SessionNotFoundError · SessionPendingError · SessionBusyError · SessionLeaseLost · SessionArchivedError
     ├ LLMError ─ LLMPermanentError · LLMTimeout · LLMRetryExhausted
     ├ CancellationRequested · CompactionFailed
     ├ ToolNotFound · ToolValidationError · ToolTimeout · AsyncToolInSyncContext (TypeError)
     ├ SpecValidationError ─ AgentSpecError · WorkflowSpecError
     ├ WorkflowRunError (RuntimeError) · WorkerBootstrapError
     ├ StructuredOutputError
     ├ StoreSchemaError (RuntimeError) · StoreUnavailable ─ StoreRefused · RecordFromTheFuture
     ├ RuntimeEnvError (RuntimeError) · NotesFullError · BlackboardError (ValueError)
     └ ApprovalError

`ModelRetry` and `HumanInputRequired` are signals that a tool raises to say something, not errors of ours.
Every text says what happened, to what, and the way out; every class carries a `code` that never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.options import checked_options


class PowerLoopError(Exception):
    """The base of all errors of this package."""

    code = "power_loop.error"

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take keywords of their own, so an error is rebuilt from its text and its attributes.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[PowerLoopError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PowerLoopError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


# --- sessions -------------------------------------------------------------------------


class SessionNotFoundError(PowerLoopError):
    """No session of this id is in the store. Create it with `new_session`, or check the DSN."""

    code = "session.not_found"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id!r} in this store; create one with new_session(), or check the DSN")
        self.session_id = session_id


class SessionPendingError(PowerLoopError):
    """The last send has tool calls without a result. Resume it, abort it, or send with ``heal_pending=True``."""

    code = "session.pending"

    def __init__(
        self,
        session_id: str,
        *,
        assistant_seq: int = 0,
        pending_tool_calls: Sequence[Mapping[str, Any]] = (),
        pending_interactions: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        names = ", ".join(sorted({_call_name(call) for call in pending_tool_calls})) or "none"
        super().__init__(
            f"session {session_id!r} has unresolved tool calls ({names}) of the assistant message {assistant_seq}: "
            "resume() runs them, abort_pending() answers them as aborted, send(..., heal_pending=True) does that and goes on"
        )
        self.session_id = session_id
        self.assistant_seq = assistant_seq
        self.pending_tool_calls: list[Mapping[str, Any]] = list(pending_tool_calls)
        self.pending_interactions: list[Mapping[str, Any]] = list(pending_interactions)


def _call_name(call: Mapping[str, Any]) -> str:
    named = cast("Mapping[str, Any]", call.get("function") or call)
    return str(named.get("name", "?"))


class SessionBusyError(PowerLoopError):
    """Another driver runs this session. Leave a message with `enqueue`, or wait until ``expires_at`` (ms, UTC)."""

    code = "session.busy"

    def __init__(self, session_id: str, *, holder: str | None = None, expires_at: int = 0) -> None:
        super().__init__(
            f"session {session_id!r} is held by {holder or 'another driver'} (its lease runs to {expires_at} ms): "
            "leave the text with enqueue(), or send again with on_busy='wait'"
        )
        self.session_id = session_id
        self.holder = holder
        self.expires_at = expires_at


class SessionLeaseLost(PowerLoopError):
    """Another driver took this session over; nothing more was written. Look at the session before you repeat."""

    code = "session.lease_lost"

    def __init__(self, session_id: str, *, epoch: int = 0) -> None:
        super().__init__(
            f"session {session_id!r} was taken over by another driver (our epoch {epoch} is past): "
            "nothing more was written here; its outcome is with the new holder, see get_messages() or resume()"
        )
        self.session_id = session_id
        self.epoch = epoch


class SessionArchivedError(PowerLoopError):
    """The session is archived: readable and exportable, but closed for sends. `unarchive_session` opens it."""

    code = "session.archived"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} is archived; store.unarchive_session() opens it for sends again")
        self.session_id = session_id


# --- models ---------------------------------------------------------------------------


class LLMError(PowerLoopError):
    """A model call failed. The provider's exception is the ``__cause__``."""

    code = "llm.error"

    def __init__(
        self, message: str = "", *, status_code: int | None = None, provider: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.provider = provider
        self.retry_after_s = retry_after_s


class LLMPermanentError(LLMError):
    """The provider refused the request; asking again changes nothing. Fix the request, the key or the account."""

    code = "llm.permanent"


class ContextOverflow(LLMPermanentError):
    """The request is longer than the model's context. A fold, or a smaller `context_tokens`, makes it fit."""


class LLMTimeout(LLMError):
    """The time for a model call, retries included, ran out."""

    code = "llm.timeout"

    def __init__(self, message: str = "", *, elapsed: float = 0.0, attempts: int = 0, total_timeout: float | None = None) -> None:
        super().__init__(message or f"no reply within {total_timeout} s ({attempts} attempts, {elapsed:.1f} s)")
        self.elapsed = elapsed
        self.attempts = attempts
        self.total_timeout = total_timeout


class LLMRetryExhausted(LLMError):
    """Every attempt that the retry policy allows has failed; ``last_error`` is the last of them."""

    code = "llm.retry_exhausted"

    def __init__(self, message: str = "", *, attempts: int = 0, last_error: BaseException | None = None) -> None:
        super().__init__(message or f"{attempts} attempts failed, the last with {type(last_error).__name__}: {last_error}")
        self.attempts = attempts
        self.last_error = last_error
        self.__cause__ = last_error


class CancellationRequested(PowerLoopError):
    """The work was asked to stop."""

    code = "cancelled"

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
        self.reason = reason


class CompactionFailed(PowerLoopError):
    """History could not be made shorter. What happened is in ``reason``; the stored history is as it was."""

    code = "compaction.failed"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


# --- tools ----------------------------------------------------------------------------


class ToolNotFound(PowerLoopError):
    """No tool of this name is registered here."""

    code = "tool.not_found"

    def __init__(self, tool_name: str, *, known: Sequence[str] = ()) -> None:
        has = f"; registered: {', '.join(known)}" if known else ""
        super().__init__(f"no tool named {tool_name!r} is registered{has}")
        self.tool_name = tool_name


class ToolValidationError(PowerLoopError):
    """The arguments of a call break the tool's schema."""

    code = "tool.invalid_args"

    def __init__(self, tool_name: str, message: str) -> None:
        super().__init__(f"{tool_name}: {message}")
        self.tool_name = tool_name
        self.message = message


class ToolTimeout(PowerLoopError):
    """The handler took longer than the tool's ``timeout_s``."""

    code = "tool.timeout"

    def __init__(self, tool_name: str, timeout_s: float) -> None:
        super().__init__(f"{tool_name} did not finish within {timeout_s:g} s")
        self.tool_name = tool_name
        self.timeout_s = timeout_s


class AsyncToolInSyncContext(PowerLoopError, TypeError):
    """`invoke` met an async handler; await `invoke_async` instead."""

    code = "tool.async_in_sync"


class ModelRetry(Exception):
    """Raised by a tool, a validator or a hook to tell the model what to change; the call counts as failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message: str = str(message)


class HumanInputRequired(Exception):
    """Raised inside a tool to park the call until someone outside answers; see `request_user_input`.

    The answer is the call's result. With ``state`` (JSON) it is the tool's instead: the call runs again, and finds state and
    answer in `ToolRun.answered`. ``options`` are texts, or mappings with ``id``, ``label`` and ``description``: chosen is the id,
    else the label. Raises `TypeError` for others.
    """

    def __init__(
        self,
        prompt: str,
        *,
        kind: str = "text",
        options: Sequence[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(prompt)
        self.prompt: str = str(prompt)  # shown to people, by whoever asks them
        self.kind: str = str(kind)
        self.options: list[Any] = checked_options(options)
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.state: dict[str, Any] | None = dict(state) if state is not None else None


class ApprovalError(PowerLoopError):
    """The decision does not fit the request: decided already, expired, or for other arguments."""

    code = "approval.invalid"

    def __init__(self, message: str = "", *, interaction_id: str = "", reason: str = "") -> None:
        super().__init__(message or f"approval {interaction_id!r}: {reason}")
        self.interaction_id = interaction_id
        self.reason = reason


# --- specs, workflows, structured output ------------------------------------------------


class SpecValidationError(PowerLoopError):
    """A document breaks its grammar; ``field`` names the first place, ``problems`` all of them."""

    code = "spec.invalid"

    def __init__(self, message: str = "", *, field: str | None = None, problems: Sequence[str] = ()) -> None:
        super().__init__(message or "; ".join(problems))
        self.field = field
        self.problems: list[str] = list(problems)


class AgentSpecError(SpecValidationError):
    """An agent spec is malformed."""


class WorkflowSpecError(SpecValidationError):
    """A workflow document is malformed."""


class WorkflowRunError(PowerLoopError, RuntimeError):
    """A workflow run cannot go on. ``code`` is ``workflow.busy``, ``workflow.changed`` or ``workflow.elsewhere`` where that is why."""

    code: str = "workflow.run"

    def __init__(self, message: str = "", *, run_id: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        if code is not None:
            self.code = code


class WorkerBootstrapError(PowerLoopError):
    """A worker process cannot be set up from this description."""

    code = "workflow.bootstrap"


class StructuredOutputError(PowerLoopError):
    """The model's text is not the document that was asked for."""

    code = "structured.invalid"

    def __init__(self, reason: str, raw_text: str = "", detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.raw_text: str = raw_text[:1000]
        self.detail = detail


# --- store and environment ----------------------------------------------------------------


class StoreSchemaError(PowerLoopError, RuntimeError):
    """The database's schema is missing, older or newer than this version needs; ``ddl`` is the script that makes it right."""

    code = "store.schema"

    def __init__(self, message: str = "", *, ddl: str = "") -> None:
        super().__init__(f"{message}\n{ddl}" if ddl else message)
        self.ddl = ddl


class StoreUnavailable(PowerLoopError):
    """The database cannot be reached or cannot write. Unless the text says otherwise, nothing of the batch was written."""

    code = "store.unavailable"


class StoreRefused(StoreUnavailable):
    """The database answers, but does not take this: a value is too long for it, or holds what it cannot keep. Nothing was written."""

    code = "store.refused"


class RecordFromTheFuture(PowerLoopError):
    """A newer version of this package wrote this record. Upgrade; the record is left as it is."""

    code = "store.newer_record"

    def __init__(self, kind: str, version: int) -> None:
        super().__init__(f"record {kind!r} version {version} was written by a newer power_loop; upgrade to read this session")
        self.kind = kind
        self.version = version


class RuntimeEnvError(PowerLoopError, RuntimeError):
    """A tool needs a workspace or another part of the environment that is not there."""

    code = "env.invalid"


class NotesFullError(PowerLoopError):
    """The session holds as many notes as its policy allows."""

    code = "notes.full"


class BlackboardError(PowerLoopError, ValueError):
    """An entry breaks the board's bounds."""

    code = "blackboard.invalid"
