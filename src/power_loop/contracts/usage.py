"""What model calls cost: the provider's numbers for one call, sums of them, and the limits on the sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class CallUsage(NamedTuple):
    """The tokens of one model call, or of many together."""

    prompt: int = 0
    """All input tokens, those read from a cache included."""
    completion: int = 0
    """All output tokens, reasoning included."""
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    calls: int = 0
    cost: float | None = None
    """In the currency of the price table; None where the model has no price."""
    estimated: bool = False
    """The provider reported nothing (or the call was cut off), so these are our estimates."""

    def plus(self, other: CallUsage) -> CallUsage:
        if self is NO_USAGE:
            return other
        cost = other.cost if self.cost is None else self.cost + (other.cost or 0.0)
        return CallUsage(
            self.prompt + other.prompt, self.completion + other.completion, self.cache_read + other.cache_read,
            self.cache_write + other.cache_write, self.reasoning + other.reasoning, self.calls + other.calls,
            cost, self.estimated or other.estimated,
        )  # fmt: skip

    @property
    def total(self) -> int:
        return self.prompt + self.completion


NO_USAGE = CallUsage()
# What `Usage` says beside its six keys where there is nothing to say.
NOTHING_MORE = (None, False, 0, 0)


class Usage(dict[str, int]):
    """Token sums as plain data: `prompt_tokens`, `completion_tokens`, `cache_read_tokens`, `reasoning_tokens`, `total_tokens`, `calls`.

    Empty when no model was reached. ``a + b`` adds; the attributes give what the six keys leave out.
    """

    cost: float | None = None
    cache_write_tokens: int = 0
    tool_calls: int = 0
    estimated: bool = False

    @classmethod
    def of(cls, sums: CallUsage, tool_calls: int = 0) -> Usage:
        prompt, completion, cache_read, cache_write, reasoning, calls, cost, estimated = sums
        usage = cls() if not calls else cls({
            "prompt_tokens": prompt, "completion_tokens": completion, "cache_read_tokens": cache_read,
            "reasoning_tokens": reasoning, "total_tokens": prompt + completion, "calls": calls,
        })  # fmt: skip
        if (cost, estimated, cache_write, tool_calls) != NOTHING_MORE:
            usage.cost, usage.estimated = cost, estimated
            usage.cache_write_tokens, usage.tool_calls = cache_write, tool_calls
        return usage

    def __add__(self, other: Mapping[str, int]) -> Usage:
        total = Usage({key: self.get(key, 0) + other.get(key, 0) for key in {**self, **other}})
        total.tool_calls, total.cache_write_tokens = self.tool_calls, self.cache_write_tokens
        total.cost, total.estimated = self.cost, self.estimated
        if isinstance(other, Usage):
            total.tool_calls += other.tool_calls
            total.cache_write_tokens += other.cache_write_tokens
            total.estimated |= other.estimated
            total.cost = other.cost if self.cost is None else self.cost + (other.cost or 0.0)
        return total

    @property
    def input_tokens(self) -> int:
        return self.get("prompt_tokens", 0)

    @property
    def output_tokens(self) -> int:
        return self.get("completion_tokens", 0)

    @property
    def cache_read_tokens(self) -> int:
        return self.get("cache_read_tokens", 0)

    @property
    def reasoning_tokens(self) -> int:
        return self.get("reasoning_tokens", 0)

    @property
    def total_tokens(self) -> int:
        return self.get("total_tokens", 0)

    @property
    def requests(self) -> int:
        return self.get("calls", 0)


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """What one send, with everything that it sets going, may use up. None is no limit."""

    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    requests: int | None = None
    tool_calls: int | None = None
    cost: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"UsageLimits.{name} is {value!r}; give a number above 0, or None for no limit")

    def to_dict(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}

    def over(self, base: UsageLimits | None) -> UsageLimits:
        """These limits, and where one is not set, that of ``base``."""
        return self if base is None else UsageLimits(**{**base.to_dict(), **self.to_dict()})


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of a model cost, in one currency for the whole table."""

    input: float
    output: float
    cache_read: float | None = None
    """None: as dear as `input`."""
    cache_write: float | None = None

    def of(self, usage: CallUsage) -> float:
        fresh = max(0, usage.prompt - usage.cache_read - usage.cache_write)
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        million = fresh * self.input + usage.cache_read * read + usage.cache_write * write + usage.completion * self.output
        return million / 1_000_000
