"""The public names, for type checkers; `__init__.py` loads them lazily. `make map` writes this file."""

from power_loop.compat import (
    AgentRunner as AgentRunner,
    PhaseContext as PhaseContext,
    PhaseResult as PhaseResult,
    phase as phase,
)
from power_loop.config import (
    AgentLoopConfig as AgentLoopConfig,
    ContextPolicy as ContextPolicy,
    RunPolicy as RunPolicy,
    ToolPolicy as ToolPolicy,
)
from power_loop.context.prompt import (
    DEFAULT_AGENT_SYSTEM_PROMPT as DEFAULT_AGENT_SYSTEM_PROMPT,
    format_tool_catalog as format_tool_catalog,
)
from power_loop.context.strategy import (
    FoldStrategy as FoldStrategy,
    LLMSummaryFold as LLMSummaryFold,
    NeverFold as NeverFold,
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
from power_loop.contracts.messages import (
    MessageRole as MessageRole,
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
from power_loop.contracts.outcome import (
    AgentLoopResult as AgentLoopResult,
    FollowUpQueued as FollowUpQueued,
    RunStatus as RunStatus,
    StatefulResult as StatefulResult,
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
from power_loop.contracts.tool import (
    ToolDefinition as ToolDefinition,
    ToolHandlerResult as ToolHandlerResult,
    ToolRun as ToolRun,
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
from power_loop.runtime.bus import (
    AgentEventBus as AgentEventBus,
)
from power_loop.runtime.hooks import (
    AgentHooks as AgentHooks,
)
from power_loop.runtime.retry import (
    with_retry as with_retry,
)
from power_loop.store.sql_store import (
    SessionStore as SessionStore,
    open_store as open_store,
)
from power_loop.store.values import (
    MUTATE_SKIP as MUTATE_SKIP,
)
from power_loop.tools.builtin.ask import (
    request_user_input as request_user_input,
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
from power_loop.tools.toolbox import (
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
