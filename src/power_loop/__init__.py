"""power_loop: an embeddable agent execution kernel, durable, observable and safe.

The names that users write against. Importing this costs next to nothing: a name loads its module when it is used.
Type checkers read the same list in `__init__.pyi`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Names that change only with a major version.
STABLE_API = tuple(
    """
    StatefulAgentLoop StatefulResult FollowUpQueued AgentLoopConfig AgentLoopResult SessionStore SubagentLifecycle PowerLoopError
    SessionPendingError SessionNotFoundError LLMTimeout LLMRetryExhausted CancellationRequested LLMRetryPolicy CancellationToken
    AgentHooks AgentEventBus HookPoint HookDirective ToolRegistry ToolDefinition LLMService LLMRequest LLMResponse LLMStreamChunk
    LLMProviderConfig create_llm_service_from_env create_llm_service_from_config tool ToolRun ModelRetry UsageLimits Usage
    Worker open_store SchemaPolicy SessionBusyError
    """.split()
)

# Module → the names that live there.
_HOMES = {
    "compat": "AgentRunner PhaseContext PhaseEventPayload PhaseResult phase",
    "config": "AgentLoopConfig ContextPolicy MemoryPolicy RunPolicy ToolPolicy",
    "context.agentic": "AgenticFold",
    "context.fold_context": "FoldContext",
    "context.represent": "ProjectedRepresentation ProjectedRow ProjectedSend Representation VerbatimRepresentation",
    "context.spill": "SpillPolicy",
    "context.strategy": "FoldResult FoldStrategy LLMSummaryFold NeverFold NoteOp",
    "context.trim": "trim_history",
    "context.prompt": "DEFAULT_AGENT_SYSTEM_PROMPT format_tool_catalog",
    "context.prompt_builder": """
        BUILTIN_SECTIONS DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT DEFAULT_SUBAGENT_SYSTEM_PROMPT SystemPromptBuilder SystemPromptContext
        build_agent_system_prompt build_explore_subagent_system_prompt build_subagent_system_prompt
    """,
    "contracts.approvals": "Approval",
    "agents.spawn": "run_agent_spec",
    "agents.tools": "RUN_AGENT_DEFINITION SPAWN_AGENT_DEFINITION register_spawn_agent",
    "contracts.agents": "AgentSpec SubagentResult",
    "contracts.boards": "Blackboard BlackboardEntry render_entries",
    "contracts.cancel": "CancellationLike CancellationToken",
    "contracts.diagnosis": "Diagnosis Finding",
    "contracts.errors": """
        AgentSpecError ApprovalError AsyncToolInSyncContext BlackboardError CancellationRequested CompactionFailed HumanInputRequired
        LLMError LLMPermanentError LLMRetryExhausted LLMTimeout ModelRetry NotesFullError PowerLoopError RecordFromTheFuture
        RuntimeEnvError SessionArchivedError SessionBusyError SessionLeaseLost SessionNotFoundError SessionPendingError
        SpecValidationError StoreRefused StoreSchemaError StoreUnavailable StructuredOutputError ToolNotFound ToolTimeout
        ToolValidationError WorkerBootstrapError WorkflowRunError WorkflowSpecError
    """,
    "contracts.events": "AgentEvent AgentEventType BaseEventPayload EventBusProtocol EventHandler EventSubscriber",
    "contracts.hooks": "BaseHookCtx HookContext HookDirective HookHandler HookManagerProtocol HookPoint HookResult",
    "contracts.jobs": "Job",
    "contracts.kept_rows": "BackgroundTaskRow CompactionRow NoteRow ProjectMessageRow TimerRow UsageRow",
    "contracts.memory": "MemoryProvider MemorySnapshot tag_as_memory",
    "contracts.messages": "AgentMessage LoopMessage MessageRole RuntimeMessage ToolCall estimate_text_tokens estimate_tokens",
    "contracts.model": "LLMRequest LLMResponse LLMService LLMStreamChunk LLMTokenUsage ModelCapabilities",
    "contracts.notes": "DEFAULT_NOTES_POLICY NotesPolicy render_notes",
    "contracts.outcome": "AgentLoopResult FollowUpQueued RunStatus StatefulResult",
    "contracts.projection": "ProjectionContext RuntimeProjector",
    "contracts.partial_json": "partial_json",
    "contracts.retry": "LLMRetryPolicy",
    "contracts.rows": "MessageRow MessageState SessionKind SessionRow SessionStatsRow SessionStatus SubagentLifecycle",
    "contracts.store": "InboxItem SchemaPolicy",
    "contracts.structured": "StructuredOutputSpec",
    "contracts.tool": "ToolDefinition ToolHandlerResult ToolRun ToolRuntimeContext",
    "contracts.usage": "Price Usage UsageLimits",
    "loop": "DEFAULT_DB_PATH MAX_SPAWN_DEPTH StatefulAgentLoop",
    "memory.notes": "NoteMemory SQLiteNoteMemory",
    "providers.config": "LLMProviderConfig",
    "providers.fallback": "FallbackLLM",
    "providers.open": "create_llm create_llm_service_from_config create_llm_service_from_env",
    "providers.routed": "RoutedLLM",
    "runtime.bus": "AgentEventBus",
    "runtime.hooks": "AgentHooks",
    "runtime.memory_recall": "MemoryRecallHook",
    "runtime.retry": "with_retry",
    "store.boards": "SqliteBlackboard",
    "store.sql_store": "SessionStore open_store",
    "store.values": "MUTATE_SKIP",
    "timer_runner": "TimerRunner",
    "tools.builtin.ask": "request_user_input",
    "tools.builtin.board": "register_blackboard_tools",
    "tools.current": "get_tool_runtime_context",
    "tools.define": "tool",
    "tools.env": "RuntimeEnv runtime_env_context",
    "tools.presets": """
        CORE_TOOL_NAMES DEFAULT_TOOL_HANDLERS EXPLORE_TOOL_NAMES FULL_TOOL_NAMES TOOL_PRESETS create_default_tool_registry
        get_tool_definitions validate_tool_args
    """,
    "tools.projectors": "BackgroundRuntimeProjector TodoRuntimeProjector default_runtime_projectors",
    "tools.shell.backend": "DEFAULT_SHELL_BACKEND LocalShellBackend ShellBackend",
    "tools.shell.bubblewrap": "BubblewrapShellBackend",
    "tools.shell.table": "close_all_bash_sessions",
    "tools.skills": "LOAD_SKILL_DEFINITION SkillLoader get_default_loader register_skill_tools",
    "tools.structured": "parse_structured",
    "tools.toolbox": "ToolArgsValidator ToolHandler ToolHandlerMap ToolRegistry build_registry",
    "version": "__version__",
    "worker": "Worker",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

# Typed payloads and hook contexts are many; their names tell where they live.
_BY_SUFFIX = {"Payload": "contracts.payload_classes", "Ctx": "contracts.hook_contexts"}

__all__ = sorted([*_HOME_OF, "STABLE_API"])  # pyright: ignore[reportUnsupportedDunderAll]  # the stub lists them


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name) or next((module for suffix, module in _BY_SUFFIX.items() if name.endswith(suffix)), None)
    value = getattr(import_module(f"{__name__}.{home}"), name, None) if home is not None else None
    if value is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
