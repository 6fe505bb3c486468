"""`AgentSpec`: an agent as a document. Its own prompt, tools and limits, for whoever runs it as a part of something larger.

Used by sub-agents and by the leaves of workflows. Which tools exist is known only where it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.documents import Problem, below, plain, read
from power_loop.contracts.errors import AgentSpecError
from power_loop.contracts.grammar import Anything, Field, Flag, ListOf, MapOf, Nullable, Number, OneOf, Record, Text
from power_loop.contracts.rows import SubagentLifecycle
from power_loop.contracts.schema.compile import compile_schema
from power_loop.contracts.tool import Toolbox
from power_loop.contracts.usage import Usage, UsageLimits

MAX_ROUNDS = 50
# In the metadata of every session that was made of a spec, whatever the spec says: the spec's name.
SPEC_NAME = "agent_spec"
# Closed by what every dialect of expressions takes for the end of the text; some take $ for the end of a line.
NAME_OF_SCHEMA = r"^[A-Za-z0-9_-]{1,64}(?![\s\S])"

_AMOUNT = Number(above=0)
LIMITS = Record("usage limits", {name: Field(_AMOUNT) for name in UsageLimits.__slots__})
OUTPUT = Record(
    "an output schema",
    {
        "name": Field(Text("a name of letters, digits, _ and -", NAME_OF_SCHEMA), about="what the answer is called"),
        "schema": Field(
            MapOf(Anything(), hint='a JSON Schema is an object: {"type": "object", "properties": {…}}'),
            required=True,
            hint='give a JSON Schema, such as {"type": "object", "properties": {…}}',
            about="JSON Schema of the answer",
        ),
        "strict": Field(Flag()),
        "description": Field(Text()),
    },
)
SPEC = Record(
    "an agent spec",
    {
        "name": Field(Text("a name", r"\S"), required=True, about="who this agent is"),
        "system_prompt": Field(Text("a prompt", r"\S"), required=True, about="what it is told to be; may hold {{names}} in workflows"),
        "tools": Field(
            Nullable(ListOf(Text("a tool's name", r"\S"), hint='give a list of names, such as ["read_file"]; [] is none, null all')),
            about="names of tools; null: all that the parent has",
        ),
        "max_rounds": Field(Number(1, MAX_ROUNDS, whole=True), about="model calls at most (8)"),
        "max_tokens": Field(Nullable(Number(1, whole=True)), about="tokens of one reply (4000)"),
        "temperature": Field(Nullable(Number(0))),
        "model": Field(Nullable(Text("a model's name", r"\S")), about="null: the parent's"),
        "output_schema": Field(Nullable(OUTPUT), about="the answer must be JSON of this shape"),
        "lifecycle": Field(OneOf([each.value for each in SubagentLifecycle])),
        "metadata": Field(MapOf(Anything())),
        "limits": Field(Nullable(LIMITS), about="what it may use up"),
        "memory": Field(OneOf(["none", "inherit"])),
        "inherit_context": Field(Flag()),
    },
)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True)
class AgentSpec:
    """An agent: who it is, what it may use, how far it may go. Checked when it is made: `AgentSpecError` names the field."""

    name: str
    system_prompt: str
    tools: Sequence[str] | None = None
    """Names; None is all of the parent's tools, empty is none."""
    max_rounds: int = 8
    max_tokens: int | None = 4000
    """Of one reply; None is not sent to the model."""
    temperature: float | None = 0.0
    model: str | None = None
    output_schema: Mapping[str, Any] | None = None
    """``{"name", "schema"}``: the answer is JSON that this schema takes."""
    lifecycle: str = "ephemeral"
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    limits: UsageLimits | None = None
    memory: str = "none"
    inherit_context: bool = True

    def __post_init__(self) -> None:
        document, problems = plain(self._given())
        complain(problems or problems_of(document))
        for name in ("max_rounds", "max_tokens"):
            if isinstance(getattr(self, name), float):
                object.__setattr__(self, name, int(getattr(self, name)))
        if isinstance(self.limits, Mapping):
            object.__setattr__(self, "limits", UsageLimits(**cast("dict[str, Any]", self.limits)))

    @classmethod
    def from_json(cls, source: str | Mapping[str, Any]) -> AgentSpec:
        """The spec that JSON text or an object describes. Raises `AgentSpecError`, which names the first wrong field, and tells all."""
        document, problems = read(source, "an agent spec")
        complain(problems)
        return cls.from_dict(document)

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> AgentSpec:
        """As `from_json`, for an object."""
        document, problems = read(members, "an agent spec")
        complain(problems or problems_of(document))
        return cls(**document)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON that `from_dict` makes this spec of again; what is as by default is left out."""
        document, _ = plain({name: value for name, value in self._given().items() if name in _REQUIRED or value != _DEFAULTS[name]})
        return document

    def _given(self) -> dict[str, Any]:
        members = {each.name: getattr(self, each.name) for each in fields(self)}
        if isinstance(self.limits, UsageLimits):
            members["limits"] = self.limits.to_dict()
        if isinstance(self.lifecycle, SubagentLifecycle):
            members["lifecycle"] = self.lifecycle.value
        return members


_REQUIRED = ("name", "system_prompt")
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {each.name: _NOTHING if each.name == "metadata" else each.default for each in fields(AgentSpec)}
)


def problems_of(document: Any, path: str = "") -> list[Problem]:
    """Everything that is wrong with ``document`` as an agent spec; its fields are named from ``path`` on."""
    found: list[Problem] = []
    SPEC.check(document, path, found)
    output = cast("dict[str, Any]", document).get("output_schema") if isinstance(document, dict) else None
    found += schema_problems(output, below(path, "output_schema"))
    return found


def schema_problems(output: Any, path: str) -> list[Problem]:
    """Why the JSON Schema inside of an output schema is none; a wrong shape around it is `OUTPUT`'s business."""
    schema = cast("dict[str, Any]", output).get("schema") if isinstance(output, dict) else None
    if not isinstance(schema, dict):
        return []
    try:
        compile_schema(cast("dict[str, Any]", schema))
    except ValueError as error:
        return [Problem(below(path, "schema"), str(error))]
    return []


def complain(problems: Sequence[Problem]) -> None:
    """Raise `AgentSpecError` when there are any."""
    if problems:
        texts = [str(problem) for problem in problems]
        raise AgentSpecError(f"this agent spec cannot be used: {'; '.join(texts)}", field=problems[0].path or None, problems=texts)


class ChildRun(NamedTuple):
    """One run of a sub-agent's session, as its parent wants it."""

    session_id: str
    key: str
    """The same key again is the same run: it is waited for, or gone on with."""
    spec: AgentSpec
    said: Any
    tools: Toolbox | None
    depth: int
    cancel: CancellationToken | None = None
    deps: Any = None
    memory_of: str | None = None
    """The session whose memory it is shown; None: nobody's."""


@dataclass(frozen=True)
class SubagentResult(Mapping[str, Any]):
    """What a sub-agent came to; its fields are keys as well."""

    session_id: str | None
    """None where there is no session: it was rejected, or an ephemeral one has completed."""
    status: str
    """As of a send; ``rejected`` when nothing was begun."""
    final_text: str = ""
    rounds: int = 0
    depth: int = 0
    usage: Usage = field(default_factory=Usage)
    output: Any = None
    error: dict[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        if key in self.__dataclass_fields__:
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)
