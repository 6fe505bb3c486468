"""The tool port: what a tool says of itself, what it is handed when it runs, and what runtime asks of a toolbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.json_text import writer
from power_loop.contracts.store import Post
from power_loop.contracts.usage import Usage
from power_loop.contracts.when_seen import made_when_seen

if TYPE_CHECKING:
    from power_loop.contracts.late import LateResult

Effects = Literal["pure", "idempotent", "once"]
"""``pure`` and ``idempotent`` calls run again after a crash (with the same key); ``once`` calls never do."""


def no_parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {}}


@dataclass(frozen=True)
class ToolDefinition:
    """What the model and the loop must know of a tool; the handler is registered beside it."""

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=no_parameters)
    required_params: tuple[str, ...] = ()
    """Required besides those that the schema itself requires."""
    project: Callable[[Mapping[str, Any], str | None], Any] | None = None
    """``(args, result | None) → dict | str``: one line about a call for projection mode."""
    effects: Effects | None = None
    """None: `tooling.default_effects`."""
    parallel: bool | None = None
    timeout_s: float | None = None
    needs_approval: bool | Callable[..., Any] = False
    retries: int = 1
    reconcile: Callable[..., Awaitable[Any]] | None = None
    """``async (run, args) → result | None``: did the call that was cut off take effect?"""

    def parameters(self) -> dict[str, Any]:
        """The schema with both lists of required names joined."""
        schema = dict(self.input_schema)
        required = [*cast("Sequence[str]", schema.get("required", ())), *self.required_params]
        if required:
            schema["required"] = list(dict.fromkeys(required))
        return schema

    def to_openai_tool(self) -> dict[str, Any]:
        function = {"name": self.name, "description": self.description, "parameters": self.parameters()}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolHandlerResult:
    """What a handler may return to say whether it worked; ``data`` goes to the event and the record, not to the model."""

    ok: bool
    content: Any = ""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class ToolRun:
    """Where a handler runs: handed to a first parameter that is annotated with this class."""

    session_id: str | None = None
    call_id: str = ""
    tool_name: str = ""
    send_index: int = 0
    round_index: int = 0
    attempt: int = 1
    idempotency_key: str = ""
    """Equal over retries, restarts, resumes and take-overs of this call; different for every other call."""
    depth: int = 0
    deps: Any = None
    cancel: CancellationToken = field(default_factory=CancellationToken)
    usage: Usage = field(default_factory=Usage)
    """What the send has used until now."""
    env: Any = None
    """The `RuntimeEnv` of the call: that of its registry, else of the context, else of the variables."""
    store: Any = None
    loop: Any = None
    config: Any = None
    tell: Callable[[str, Mapping[str, Any]], None] | None = None
    """Publishes a passing event; None where nobody listens."""
    look: Callable[[str], Awaitable[Any]] | None = None
    """``(session id)``: raises where no word can be left for it."""
    holder: str = ""
    """Under which name the session is driven: what is started beside it is written down under that name."""
    is_dead: Callable[[str], bool] | None = None
    """``(holder)``: that holder provably died."""
    answered: Sequence[Mapping[str, Any]] = ()
    """What this call asked with a ``state`` and was answered, in order: ``state`` and ``answer`` of each."""
    late: Sequence[LateResult] = ()
    """For ``reconcile``: what this attempt gave after nobody waited for it any more."""
    env_of: Callable[[Toolbox | None], Any] | None = None
    """``(tools)``: where ``env`` of a call is asked for when somebody first looks at it."""
    tools: Toolbox | None = None
    """What the model of this send may call."""
    closes: list[str] = field(default_factory=list[str])
    """Sessions to be deleted in the batch that stores this call's result."""
    posts: list[Post] = field(default_factory=list[Post])
    """What this attempt leaves for sessions, in the batch that stores what came of it."""

    def of_call(self, **own: Any) -> ToolRun:
        """The run of one call: what stands here, and ``own`` in the place of what it names; its ``env`` is asked for anew."""
        run = object.__new__(ToolRun)
        run.__dict__ = {**self.__dict__, **own}  # `dataclasses.replace` would look at every field
        if run.env_of is not None and "env" not in own:
            run.__dict__.pop("env", None)
        return run

    @property
    def has_session_store(self) -> bool:
        return self.store is not None and self.session_id is not None

    async def progress(self, text: str, fraction: float | None = None) -> None:
        """Tell listeners how far the call is; ``fraction`` from 0 to 1."""
        if self.tell is not None:
            self.tell("tool_progress", {"tool_call_id": self.call_id, "text": text, "fraction": fraction})

    async def notify(self, text: str) -> None:
        """Say something to the user's interface; the model does not see it."""
        if self.tell is not None:
            self.tell("user_notification", {"message": text})

    async def enqueue(self, text: str, session_id: str) -> None:
        """Leave ``text`` for a session: it stands in the inbox there once the result of this call, or its question, is stored.

        So a call that is cut off has left nothing, and one that runs again leaves it once.
        Raises `SessionNotFoundError` and `SessionArchivedError`.
        """
        if self.look is None:
            raise RuntimeError("enqueue() needs a running loop; this ToolRun was made outside of one")
        await self.look(session_id)
        self.posts.append(Post(session_id, f"tool:{self.idempotency_key}:{len(self.answered)}.{len(self.posts) + 1}", text))


def _env_of(run: ToolRun) -> Any:
    return None if run.env_of is None else run.env_of(run.tools)


made_when_seen(ToolRun, "env", _env_of)

ToolRuntimeContext = ToolRun
"""Its name in the 3.x line."""


class Tool(Protocol):
    """A definition with its handler, ready to be called."""

    @property
    def definition(self) -> ToolDefinition: ...

    @property
    def is_async(self) -> bool: ...

    def violations(self, arguments: Mapping[str, Any]) -> str | None:
        """Everything in which ``arguments`` break the schema, each with its path; None when they keep it."""
        ...

    def call(self, run: ToolRun, arguments: Mapping[str, Any]) -> Any:
        """Call the handler once, as its signature wants it. An async handler gives an awaitable."""
        ...


class Toolbox(Protocol):
    """What runtime asks of the tools on offer."""

    def get(self, name: str) -> Tool | None: ...

    def names(self) -> list[str]: ...

    def to_openai_tools(self) -> list[dict[str, Any]]:
        """Sorted by name, so that the same tools give the same bytes."""
        ...


_spell = writer(sort_keys=True, default=str)


def canonical(arguments: Any) -> str:
    """JSON in one spelling: sorted keys, no blanks. Equal arguments have equal text."""
    return _spell(arguments)
