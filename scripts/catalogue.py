"""The table of docs/guides/errors.md: every public error, its code, what happened, and the way out.

What happened is the docstring; the ways out stand here, one for each class, and a class without one fails the house test.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import marked
import power_loop
from power_loop.contracts.errors import PowerLoopError

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "errors.md"
BEGIN, END = "<!-- errors: written by `make map` -->", "<!-- end of the errors -->"

WAYS_OUT = {
    "PowerLoopError": "catch it last, and look at `code`",
    "SessionNotFoundError": "`new_session()`, or look at the DSN: another file or database is the usual reason",
    "SessionPendingError": (
        "`resume()` goes on, `abort_pending()` gives the calls up, `send(…, heal_pending=True)` does that and sends. "
        "`pending_tool_calls` and `pending_interactions` say what is open"
    ),
    "SessionBusyError": (
        '`on_busy="wait"` waits in line; `enqueue()` or `follow_up()` leave the text; `holder` and `expires_at` say who '
        "has it. Nothing was written, no model was asked"
    ),
    "SessionLeaseLost": ("look at the session (`get_messages`, `doctor`) before you repeat anything: its new holder goes on with it"),
    "SessionArchivedError": "`store.unarchive_session()`, or a [fork](operations.md#forks)",
    "LLMError": (
        "`resume()` tries the same send again; a [retry policy](limits.md#models-that-fail) makes it a status. "
        "`status_code`, `provider` and `__cause__` say more"
    ),
    "LLMPermanentError": ("the key, the account, the model's name or the request; `__cause__` has the provider's words. Then `resume()`"),
    "LLMTimeout": "a longer `total_timeout`, another model, `FallbackLLM`; then `resume()`",
    "LLMRetryExhausted": "`last_error` says why; later, `resume()`",
    "CancellationRequested": "somebody asked for it, `reason` says why; `resume()` goes on after all",
    "CompactionFailed": "a larger `context_tokens`, another [fold](memory.md), or a new session; the history is as it was",
    "ToolNotFound": "register the tool, or correct the name in `tools=[…]`. Inside a send the model reads it instead",
    "ToolValidationError": "correct the arguments; `message` names the place. Inside a send the model reads it instead",
    "ToolTimeout": "a longer `timeout_s` of the tool. Inside a send the model reads it instead",
    "AsyncToolInSyncContext": "`await registry.invoke_async(…)`",
    "SpecValidationError": "`problems` lists every place, `field` is the first",
    "AgentSpecError": "`problems` lists every place of the agent's document",
    "WorkflowSpecError": "`problems` lists every place of the [workflow](workflows.md)",
    "WorkflowRunError": (
        "`code` says which: `workflow.busy` runs elsewhere, wait or watch it; `workflow.changed` has another document "
        "than the run that is resumed; else look at the run `run_id`"
    ),
    "WorkerBootstrapError": "what the worker process is told to import must be importable there",
    "StructuredOutputError": (
        "`reason`, `detail` and `raw_text` say what came instead; a simpler type, more `output_retries`, another model"
    ),
    "StoreSchemaError": (
        "`ddl` is the script that makes it right, `power-loop schema apply` runs it; a *newer* database needs a newer `power-loop`"
    ),
    "StoreRefused": (
        "the text says what of it: a longer `max_allowed_packet`, a database in UTF8, or shorter results help. The send is over or rests; "
        "a reply was charged and is gone, a tool's result is told to the model as lost, and `resume` goes on behind it"
    ),
    "StoreUnavailable": (
        "the text says what, where, and whether anything was written. Repeat with the same `key` when it is back: that is safe"
    ),
    "RecordFromTheFuture": "upgrade this process; the record is left as it is",
    "RuntimeEnvError": "give the registry a `workspace_dir`, or set `POWER_LOOP_WORKSPACE`; the text names what is missing",
    "NotesFullError": 'delete notes, raise `NotesPolicy(max_notes=…)`, or `eviction="fifo"`',
    "BlackboardError": "the text names the bound, or the entry that is not there",
    "ApprovalError": ("`reason` is `decided`, `expired`, `digest` or `unknown`; `list_approvals()` says what waits [now](approvals.md)"),
}


def errors() -> list[type[PowerLoopError]]:
    """The public error classes, each below the one that it extends."""
    named = [getattr(power_loop, name) for name in power_loop.__all__]
    found = [each for each in named if isinstance(each, type) and issubclass(each, PowerLoopError)]
    order = list(WAYS_OUT)
    return sorted(found, key=lambda each: order.index(each.__name__) if each.__name__ in order else len(order))


def missing() -> list[str]:
    """Classes without a way out, and ways out of what is no class."""
    return sorted({each.__name__ for each in errors()} ^ set(WAYS_OUT))


def table() -> str:
    rows = [f"| `{each.__name__}` | {codes(each)} | {happened(each)} | {WAYS_OUT.get(each.__name__, '')} |" for each in errors()]
    return "\n".join(["| class | code | what happened | the way out |", "|---|---|---|---|", *rows])


def codes(error: type[PowerLoopError]) -> str:
    """The code of the class, and those that its docstring says single errors may have."""
    more = re.findall(r"``(\w+\.\w+)``", inspect.getdoc(error) or "")
    return ", ".join(f"`{code}`" for code in [error.code, *more])


def happened(error: type[PowerLoopError]) -> str:
    """The docstring's first paragraph in one line."""
    first = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")
    return first.replace("``", "`").replace("|", "\\|")


def files() -> dict[Path, str]:
    return {PAGE: marked.renewed(PAGE.read_text(encoding="utf-8"), BEGIN, table(), END)}
