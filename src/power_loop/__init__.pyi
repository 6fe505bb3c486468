"""The public names, for type checkers; `__init__.py` loads them lazily. `make map` writes this file."""

from power_loop.agents.spawn import (
    run_agent_spec as run_agent_spec,
)
from power_loop.agents.tools import (
    RUN_AGENT_DEFINITION as RUN_AGENT_DEFINITION,
    SPAWN_AGENT_DEFINITION as SPAWN_AGENT_DEFINITION,
    register_spawn_agent as register_spawn_agent,
)
from power_loop.compat import (
    AgentRunner as AgentRunner,
    PhaseContext as PhaseContext,
    PhaseEventPayload as PhaseEventPayload,
    PhaseResult as PhaseResult,
    phase as phase,
)
from power_loop.config import (
    AgentLoopConfig as AgentLoopConfig,
    ContextPolicy as ContextPolicy,
    MemoryPolicy as MemoryPolicy,
    RunPolicy as RunPolicy,
    ToolPolicy as ToolPolicy,
)
from power_loop.context.agentic import (
    AgenticFold as AgenticFold,
)
from power_loop.context.fold_context import (
    FoldContext as FoldContext,
)
from power_loop.context.prompt import (
    DEFAULT_AGENT_SYSTEM_PROMPT as DEFAULT_AGENT_SYSTEM_PROMPT,
    format_tool_catalog as format_tool_catalog,
)
from power_loop.context.prompt_builder import (
    BUILTIN_SECTIONS as BUILTIN_SECTIONS,
    DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT as DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT,
    DEFAULT_SUBAGENT_SYSTEM_PROMPT as DEFAULT_SUBAGENT_SYSTEM_PROMPT,
    SystemPromptBuilder as SystemPromptBuilder,
    SystemPromptContext as SystemPromptContext,
    build_agent_system_prompt as build_agent_system_prompt,
    build_explore_subagent_system_prompt as build_explore_subagent_system_prompt,
    build_subagent_system_prompt as build_subagent_system_prompt,
)
from power_loop.context.represent import (
    ProjectedRepresentation as ProjectedRepresentation,
    ProjectedRow as ProjectedRow,
    ProjectedSend as ProjectedSend,
    Representation as Representation,
    VerbatimRepresentation as VerbatimRepresentation,
)
from power_loop.context.spill import (
    SpillPolicy as SpillPolicy,
)
from power_loop.context.strategy import (
    FoldResult as FoldResult,
    FoldStrategy as FoldStrategy,
    LLMSummaryFold as LLMSummaryFold,
    NeverFold as NeverFold,
    NoteOp as NoteOp,
)
from power_loop.context.trim import (
    trim_history as trim_history,
)
from power_loop.contracts.agents import (
    AgentSpec as AgentSpec,
    SubagentResult as SubagentResult,
)
from power_loop.contracts.approvals import (
    Approval as Approval,
)
from power_loop.contracts.boards import (
    Blackboard as Blackboard,
    BlackboardEntry as BlackboardEntry,
    render_entries as render_entries,
)
from power_loop.contracts.cancel import (
    CancellationLike as CancellationLike,
    CancellationToken as CancellationToken,
)
from power_loop.contracts.diagnosis import (
    Diagnosis as Diagnosis,
    Finding as Finding,
)
from power_loop.contracts.errors import (
    AgentSpecError as AgentSpecError,
    ApprovalError as ApprovalError,
    AsyncToolInSyncContext as AsyncToolInSyncContext,
    BlackboardError as BlackboardError,
    CancellationRequested as CancellationRequested,
    CompactionFailed as CompactionFailed,
    HumanInputRequired as HumanInputRequired,
    LLMError as LLMError,
    LLMPermanentError as LLMPermanentError,
    LLMRetryExhausted as LLMRetryExhausted,
    LLMTimeout as LLMTimeout,
    ModelRetry as ModelRetry,
    NotesFullError as NotesFullError,
    PowerLoopError as PowerLoopError,
    RecordFromTheFuture as RecordFromTheFuture,
    RuntimeEnvError as RuntimeEnvError,
    SessionArchivedError as SessionArchivedError,
    SessionBusyError as SessionBusyError,
    SessionLeaseLost as SessionLeaseLost,
    SessionNotFoundError as SessionNotFoundError,
    SessionPendingError as SessionPendingError,
    SpecValidationError as SpecValidationError,
    StoreRefused as StoreRefused,
    StoreSchemaError as StoreSchemaError,
    StoreUnavailable as StoreUnavailable,
    StructuredOutputError as StructuredOutputError,
    ToolNotFound as ToolNotFound,
    ToolTimeout as ToolTimeout,
    ToolValidationError as ToolValidationError,
    WorkerBootstrapError as WorkerBootstrapError,
    WorkflowRunError as WorkflowRunError,
    WorkflowSpecError as WorkflowSpecError,
)
from power_loop.contracts.events import (
    AgentEvent as AgentEvent,
    AgentEventType as AgentEventType,
    BaseEventPayload as BaseEventPayload,
    EventBusProtocol as EventBusProtocol,
    EventHandler as EventHandler,
    EventSubscriber as EventSubscriber,
)
from power_loop.contracts.hooks import (
    BaseHookCtx as BaseHookCtx,
    HookContext as HookContext,
    HookDirective as HookDirective,
    HookHandler as HookHandler,
    HookManagerProtocol as HookManagerProtocol,
    HookPoint as HookPoint,
    HookResult as HookResult,
)
from power_loop.contracts.jobs import (
    Job as Job,
)
from power_loop.contracts.kept_rows import (
    BackgroundTaskRow as BackgroundTaskRow,
    CompactionRow as CompactionRow,
    NoteRow as NoteRow,
    ProjectMessageRow as ProjectMessageRow,
    TimerRow as TimerRow,
    UsageRow as UsageRow,
)
from power_loop.contracts.memory import (
    MemoryProvider as MemoryProvider,
    MemorySnapshot as MemorySnapshot,
    tag_as_memory as tag_as_memory,
)
from power_loop.contracts.messages import (
    AgentMessage as AgentMessage,
    LoopMessage as LoopMessage,
    MessageRole as MessageRole,
    RuntimeMessage as RuntimeMessage,
    ToolCall as ToolCall,
    estimate_text_tokens as estimate_text_tokens,
    estimate_tokens as estimate_tokens,
)
from power_loop.contracts.model import (
    LLMRequest as LLMRequest,
    LLMResponse as LLMResponse,
    LLMService as LLMService,
    LLMStreamChunk as LLMStreamChunk,
    LLMTokenUsage as LLMTokenUsage,
    ModelCapabilities as ModelCapabilities,
)
from power_loop.contracts.notes import (
    DEFAULT_NOTES_POLICY as DEFAULT_NOTES_POLICY,
    NotesPolicy as NotesPolicy,
    render_notes as render_notes,
)
from power_loop.contracts.outcome import (
    AgentLoopResult as AgentLoopResult,
    FollowUpQueued as FollowUpQueued,
    RunStatus as RunStatus,
    StatefulResult as StatefulResult,
)
from power_loop.contracts.partial_json import (
    partial_json as partial_json,
)
from power_loop.contracts.projection import (
    ProjectionContext as ProjectionContext,
    RuntimeProjector as RuntimeProjector,
)
from power_loop.contracts.retry import (
    LLMRetryPolicy as LLMRetryPolicy,
)
from power_loop.contracts.rows import (
    MessageRow as MessageRow,
    MessageState as MessageState,
    SessionKind as SessionKind,
    SessionRow as SessionRow,
    SessionStatsRow as SessionStatsRow,
    SessionStatus as SessionStatus,
    SubagentLifecycle as SubagentLifecycle,
)
from power_loop.contracts.store import (
    InboxItem as InboxItem,
    SchemaPolicy as SchemaPolicy,
)
from power_loop.contracts.structured import (
    StructuredOutputSpec as StructuredOutputSpec,
)
from power_loop.contracts.tool import (
    ToolDefinition as ToolDefinition,
    ToolHandlerResult as ToolHandlerResult,
    ToolRun as ToolRun,
    ToolRuntimeContext as ToolRuntimeContext,
)
from power_loop.contracts.usage import (
    Price as Price,
    Usage as Usage,
    UsageLimits as UsageLimits,
)
from power_loop.loop import (
    DEFAULT_DB_PATH as DEFAULT_DB_PATH,
    MAX_SPAWN_DEPTH as MAX_SPAWN_DEPTH,
    StatefulAgentLoop as StatefulAgentLoop,
)
from power_loop.memory.notes import (
    NoteMemory as NoteMemory,
    SQLiteNoteMemory as SQLiteNoteMemory,
)
from power_loop.providers.config import (
    LLMProviderConfig as LLMProviderConfig,
)
from power_loop.providers.fallback import (
    FallbackLLM as FallbackLLM,
)
from power_loop.providers.open import (
    create_llm as create_llm,
    create_llm_service_from_config as create_llm_service_from_config,
    create_llm_service_from_env as create_llm_service_from_env,
)
from power_loop.providers.routed import (
    RoutedLLM as RoutedLLM,
)
from power_loop.runtime.bus import (
    AgentEventBus as AgentEventBus,
)
from power_loop.runtime.hooks import (
    AgentHooks as AgentHooks,
)
from power_loop.runtime.memory_recall import (
    MemoryRecallHook as MemoryRecallHook,
)
from power_loop.runtime.retry import (
    with_retry as with_retry,
)
from power_loop.store.boards import (
    SqliteBlackboard as SqliteBlackboard,
)
from power_loop.store.sql_store import (
    SessionStore as SessionStore,
    open_store as open_store,
)
from power_loop.store.values import (
    MUTATE_SKIP as MUTATE_SKIP,
)
from power_loop.timer_runner import (
    TimerRunner as TimerRunner,
)
from power_loop.tools.builtin.ask import (
    request_user_input as request_user_input,
)
from power_loop.tools.builtin.board import (
    register_blackboard_tools as register_blackboard_tools,
)
from power_loop.tools.current import (
    get_tool_runtime_context as get_tool_runtime_context,
)
from power_loop.tools.define import (
    tool as tool,
)
from power_loop.tools.env import (
    RuntimeEnv as RuntimeEnv,
    runtime_env_context as runtime_env_context,
)
from power_loop.tools.presets import (
    CORE_TOOL_NAMES as CORE_TOOL_NAMES,
    DEFAULT_TOOL_HANDLERS as DEFAULT_TOOL_HANDLERS,
    EXPLORE_TOOL_NAMES as EXPLORE_TOOL_NAMES,
    FULL_TOOL_NAMES as FULL_TOOL_NAMES,
    TOOL_PRESETS as TOOL_PRESETS,
    create_default_tool_registry as create_default_tool_registry,
    get_tool_definitions as get_tool_definitions,
    validate_tool_args as validate_tool_args,
)
from power_loop.tools.projectors import (
    BackgroundRuntimeProjector as BackgroundRuntimeProjector,
    TodoRuntimeProjector as TodoRuntimeProjector,
    default_runtime_projectors as default_runtime_projectors,
)
from power_loop.tools.shell.backend import (
    DEFAULT_SHELL_BACKEND as DEFAULT_SHELL_BACKEND,
    LocalShellBackend as LocalShellBackend,
    ShellBackend as ShellBackend,
)
from power_loop.tools.shell.bubblewrap import (
    BubblewrapShellBackend as BubblewrapShellBackend,
)
from power_loop.tools.shell.table import (
    close_all_bash_sessions as close_all_bash_sessions,
)
from power_loop.tools.skills import (
    LOAD_SKILL_DEFINITION as LOAD_SKILL_DEFINITION,
    SkillLoader as SkillLoader,
    get_default_loader as get_default_loader,
    register_skill_tools as register_skill_tools,
)
from power_loop.tools.structured import (
    parse_structured as parse_structured,
)
from power_loop.tools.toolbox import (
    ToolArgsValidator as ToolArgsValidator,
    ToolHandler as ToolHandler,
    ToolHandlerMap as ToolHandlerMap,
    ToolRegistry as ToolRegistry,
    build_registry as build_registry,
)
from power_loop.version import (
    __version__ as __version__,
)
from power_loop.worker import (
    Worker as Worker,
)
from power_loop.contracts.hook_contexts import *
from power_loop.contracts.payload_classes import *

STABLE_API: tuple[str, ...]
__all__: list[str]
