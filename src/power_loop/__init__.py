"""power_loop: an embeddable agent execution kernel, durable, observable and safe.

The names that users write against. Importing this costs next to nothing; a name loads its module when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from power_loop.config import AgentLoopConfig, ContextPolicy, RunPolicy, ToolPolicy
    from power_loop.context.fold import FoldStrategy, LLMSummaryFold, NeverFold
    from power_loop.context.prompt import DEFAULT_AGENT_SYSTEM_PROMPT, format_tool_catalog
    from power_loop.contracts.cancel import CancellationLike, CancellationToken
    from power_loop.contracts.errors import (
        AgentSpecError,
        ApprovalError,
        AsyncToolInSyncContext,
        BlackboardError,
        CancellationRequested,
        CompactionFailed,
        HumanInputRequired,
        LLMError,
        LLMPermanentError,
        LLMRetryExhausted,
        LLMTimeout,
        ModelRetry,
        NotesFullError,
        PowerLoopError,
        RecordFromTheFuture,
        RuntimeEnvError,
        SessionArchivedError,
        SessionBusyError,
        SessionLeaseLost,
        SessionNotFoundError,
        SessionPendingError,
        SpecValidationError,
        StoreSchemaError,
        StoreUnavailable,
        StructuredOutputError,
        ToolNotFound,
        ToolTimeout,
        ToolValidationError,
        WorkerBootstrapError,
        WorkflowRunError,
        WorkflowSpecError,
    )
    from power_loop.contracts.events import AgentEvent, AgentEventType
    from power_loop.contracts.hooks import HookDirective, HookPoint
    from power_loop.contracts.messages import MessageRole, ToolCall, estimate_text_tokens, estimate_tokens
    from power_loop.contracts.model import (
        LLMRequest,
        LLMResponse,
        LLMService,
        LLMStreamChunk,
        LLMTokenUsage,
        ModelCapabilities,
    )
    from power_loop.contracts.outcome import AgentLoopResult, FollowUpQueued, RunStatus, StatefulResult
    from power_loop.contracts.retry import LLMRetryPolicy
    from power_loop.contracts.rows import (
        MessageRow,
        MessageState,
        SessionKind,
        SessionRow,
        SessionStatsRow,
        SessionStatus,
        SubagentLifecycle,
    )
    from power_loop.contracts.store import InboxItem, SchemaPolicy
    from power_loop.contracts.tool import ToolDefinition, ToolHandlerResult, ToolRun
    from power_loop.contracts.usage import Price, Usage, UsageLimits
    from power_loop.loop import DEFAULT_DB_PATH, MAX_SPAWN_DEPTH, StatefulAgentLoop
    from power_loop.providers.config import LLMProviderConfig
    from power_loop.providers.fallback import FallbackLLM
    from power_loop.providers.open import create_llm, create_llm_service_from_config, create_llm_service_from_env
    from power_loop.runtime.bus import AgentEventBus
    from power_loop.runtime.hooks import AgentHooks
    from power_loop.runtime.retry import with_retry
    from power_loop.store.sql_store import SessionStore, open_store
    from power_loop.store.values import MUTATE_SKIP
    from power_loop.tools.define import tool
    from power_loop.tools.toolbox import ToolRegistry, build_registry
    from power_loop.version import __version__

STABLE_API = (
    "StatefulAgentLoop",
    "StatefulResult",
    "FollowUpQueued",
    "AgentLoopConfig",
    "AgentLoopResult",
    "SessionStore",
    "SubagentLifecycle",
    "PowerLoopError",
    "SessionPendingError",
    "SessionNotFoundError",
    "LLMTimeout",
    "LLMRetryExhausted",
    "CancellationRequested",
    "LLMRetryPolicy",
    "CancellationToken",
    "AgentHooks",
    "AgentEventBus",
    "HookPoint",
    "HookDirective",
    "ToolRegistry",
    "ToolDefinition",
    "LLMService",
    "LLMRequest",
    "LLMResponse",
    "LLMStreamChunk",
    "LLMProviderConfig",
    "create_llm_service_from_env",
    "create_llm_service_from_config",
    "tool",
    "ToolRun",
    "ModelRetry",
    "UsageLimits",
    "Usage",
    "open_store",
    "SchemaPolicy",
    "SessionBusyError",
)
"""Names that change only with a major version."""

__all__ = [
    "DEFAULT_AGENT_SYSTEM_PROMPT",
    "DEFAULT_DB_PATH",
    "MAX_SPAWN_DEPTH",
    "MUTATE_SKIP",
    "STABLE_API",
    "AgentEvent",
    "AgentEventBus",
    "AgentEventType",
    "AgentHooks",
    "AgentLoopConfig",
    "AgentLoopResult",
    "AgentSpecError",
    "ApprovalError",
    "AsyncToolInSyncContext",
    "BlackboardError",
    "CancellationLike",
    "CancellationRequested",
    "CancellationToken",
    "CompactionFailed",
    "ContextPolicy",
    "FallbackLLM",
    "FoldStrategy",
    "FollowUpQueued",
    "HookDirective",
    "HookPoint",
    "HumanInputRequired",
    "InboxItem",
    "LLMError",
    "LLMPermanentError",
    "LLMProviderConfig",
    "LLMRequest",
    "LLMResponse",
    "LLMRetryExhausted",
    "LLMRetryPolicy",
    "LLMService",
    "LLMStreamChunk",
    "LLMSummaryFold",
    "LLMTimeout",
    "LLMTokenUsage",
    "MessageRole",
    "MessageRow",
    "MessageState",
    "ModelCapabilities",
    "ModelRetry",
    "NeverFold",
    "NotesFullError",
    "PowerLoopError",
    "Price",
    "RecordFromTheFuture",
    "RunPolicy",
    "RunStatus",
    "RuntimeEnvError",
    "SchemaPolicy",
    "SessionArchivedError",
    "SessionBusyError",
    "SessionKind",
    "SessionLeaseLost",
    "SessionNotFoundError",
    "SessionPendingError",
    "SessionRow",
    "SessionStatsRow",
    "SessionStatus",
    "SessionStore",
    "SpecValidationError",
    "StatefulAgentLoop",
    "StatefulResult",
    "StoreSchemaError",
    "StoreUnavailable",
    "StructuredOutputError",
    "SubagentLifecycle",
    "ToolCall",
    "ToolDefinition",
    "ToolHandlerResult",
    "ToolNotFound",
    "ToolPolicy",
    "ToolRegistry",
    "ToolRun",
    "ToolTimeout",
    "ToolValidationError",
    "Usage",
    "UsageLimits",
    "WorkerBootstrapError",
    "WorkflowRunError",
    "WorkflowSpecError",
    "__version__",
    "build_registry",
    "create_llm",
    "create_llm_service_from_config",
    "create_llm_service_from_env",
    "estimate_text_tokens",
    "estimate_tokens",
    "format_tool_catalog",
    "open_store",
    "tool",
    "with_retry",
]

# Module → the names that live there.
_HOMES = {
    "power_loop.config": (
        "AgentLoopConfig",
        "ContextPolicy",
        "RunPolicy",
        "ToolPolicy",
    ),
    "power_loop.context.fold": (
        "FoldStrategy",
        "LLMSummaryFold",
        "NeverFold",
    ),
    "power_loop.context.prompt": (
        "DEFAULT_AGENT_SYSTEM_PROMPT",
        "format_tool_catalog",
    ),
    "power_loop.contracts.cancel": (
        "CancellationLike",
        "CancellationToken",
    ),
    "power_loop.contracts.errors": (
        "AgentSpecError",
        "ApprovalError",
        "AsyncToolInSyncContext",
        "BlackboardError",
        "CancellationRequested",
        "CompactionFailed",
        "HumanInputRequired",
        "LLMError",
        "LLMPermanentError",
        "LLMRetryExhausted",
        "LLMTimeout",
        "ModelRetry",
        "NotesFullError",
        "PowerLoopError",
        "RecordFromTheFuture",
        "RuntimeEnvError",
        "SessionArchivedError",
        "SessionBusyError",
        "SessionLeaseLost",
        "SessionNotFoundError",
        "SessionPendingError",
        "SpecValidationError",
        "StoreSchemaError",
        "StoreUnavailable",
        "StructuredOutputError",
        "ToolNotFound",
        "ToolTimeout",
        "ToolValidationError",
        "WorkerBootstrapError",
        "WorkflowRunError",
        "WorkflowSpecError",
    ),
    "power_loop.contracts.events": (
        "AgentEvent",
        "AgentEventType",
    ),
    "power_loop.contracts.hooks": (
        "HookDirective",
        "HookPoint",
    ),
    "power_loop.contracts.messages": (
        "MessageRole",
        "ToolCall",
        "estimate_text_tokens",
        "estimate_tokens",
    ),
    "power_loop.contracts.model": (
        "LLMRequest",
        "LLMResponse",
        "LLMService",
        "LLMStreamChunk",
        "LLMTokenUsage",
        "ModelCapabilities",
    ),
    "power_loop.contracts.outcome": (
        "AgentLoopResult",
        "FollowUpQueued",
        "RunStatus",
        "StatefulResult",
    ),
    "power_loop.contracts.retry": ("LLMRetryPolicy",),
    "power_loop.contracts.rows": (
        "MessageRow",
        "MessageState",
        "SessionKind",
        "SessionRow",
        "SessionStatsRow",
        "SessionStatus",
        "SubagentLifecycle",
    ),
    "power_loop.contracts.store": (
        "InboxItem",
        "SchemaPolicy",
    ),
    "power_loop.contracts.tool": (
        "ToolDefinition",
        "ToolHandlerResult",
        "ToolRun",
    ),
    "power_loop.contracts.usage": (
        "Price",
        "Usage",
        "UsageLimits",
    ),
    "power_loop.loop": (
        "DEFAULT_DB_PATH",
        "MAX_SPAWN_DEPTH",
        "StatefulAgentLoop",
    ),
    "power_loop.providers.config": ("LLMProviderConfig",),
    "power_loop.providers.fallback": ("FallbackLLM",),
    "power_loop.providers.open": (
        "create_llm",
        "create_llm_service_from_config",
        "create_llm_service_from_env",
    ),
    "power_loop.runtime.bus": ("AgentEventBus",),
    "power_loop.runtime.hooks": ("AgentHooks",),
    "power_loop.runtime.retry": ("with_retry",),
    "power_loop.store.sql_store": (
        "SessionStore",
        "open_store",
    ),
    "power_loop.store.values": ("MUTATE_SKIP",),
    "power_loop.tools.define": ("tool",),
    "power_loop.tools.toolbox": (
        "ToolRegistry",
        "build_registry",
    ),
    "power_loop.version": ("__version__",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
