"""The configuration: nonsense never stands, copies keep everything, and the flat names of the 3.x line still lead home."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest

from power_loop import (
    AgentLoopConfig,
    ContextPolicy,
    LLMRetryPolicy,
    LLMSummaryFold,
    NeverFold,
    Price,
    ProjectedRepresentation,
    RunPolicy,
    ToolPolicy,
    UsageLimits,
    VerbatimRepresentation,
)
from power_loop.testing import call, say

NONSENSE = [
    *[("max_rounds", value) for value in (0, -1, 1.5, "24", None, True)],
    *[("max_tokens", value) for value in (0, -5, 1.5, "8000", True)],
    *[("context_tokens", value) for value in (0, -1, "64000", 1.5)],
    *[("temperature", value) for value in (-0.1, "hot", float("nan"), True)],
    *[("system_prompt", value) for value in (3, ["x"])],
    *[("model", value) for value in (3, ["x"])],
    *[("limits", value) for value in (3, {"total_tokens": 5})],
    *[(name, value) for name in ("output_type", "response_format") for value in (5, True, b"{}")],
    *[("retry_policy", value) for value in (3, "often")],
    *[("context", value) for value in (3, None)],
    *[("tooling", value) for value in (3, None, ToolPolicy(concurrency=0), ToolPolicy(timeout_s=-1), ToolPolicy(default_effects="maybe"))],
    *[("tooling", value) for value in (ToolPolicy(sync_threads=0), ToolPolicy(result_max_chars=0), ToolPolicy(approval_ttl_s=-1))],
    *[("running", value) for value in (3, None, RunPolicy(lease_ttl_s=0), RunPolicy(on_busy="queue"), RunPolicy(busy_timeout_s=-1))],
    *[("running", value) for value in (RunPolicy(cancel_grace_s=-1), RunPolicy(empty_reply_retries=-1))],
    ("running", RunPolicy(max_completion_vetoes=-1)),
    *[("context", value) for value in (ContextPolicy(fold_timeout_s=0), ContextPolicy(fold_target_ratio=0))],
    ("context", ContextPolicy(fold_target_ratio=1.5)),
    *[("context", value) for value in (ContextPolicy(fold_strategy="llm"), ContextPolicy(fold_strategy=None))],
    *[("fold_timeout_s", value) for value in (0, -1, "2")],
    *[("max_tokens_per_run", value) for value in (0, -1, "many")],
    *[("prices", value) for value in (3, {"model": 3})],
]  # fmt: skip


def ids(value: Any) -> str:
    return str(value)[:50]


@pytest.mark.parametrize(("name", "value"), NONSENSE, ids=ids)
def test_nonsense_is_refused_at_construction_by_name(name: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"\w+") as refused:
        AgentLoopConfig(**{name: value})
    assert type(refused.value) in (ValueError, TypeError)


@pytest.mark.parametrize(("name", "value"), NONSENSE, ids=ids)
def test_an_assignment_of_nonsense_is_rolled_back(name: str, value: Any) -> None:
    config = AgentLoopConfig(max_rounds=5, max_tokens=100, system_prompt="x", limits=UsageLimits(total_tokens=9))
    before = dataclasses.asdict(config)
    with pytest.raises((ValueError, TypeError)):
        setattr(config, name, value)
    after = dataclasses.asdict(config)
    assert {**after, "context": None} == {**before, "context": None}
    assert type(config.context) is ContextPolicy


async def test_a_loop_goes_on_with_what_stood_before_the_nonsense(home: Any) -> None:
    loop = home.loop("a", config=AgentLoopConfig(max_tokens=100))
    with pytest.raises(ValueError, match="max_tokens"):
        loop.config.max_tokens = -1
    await loop.run("x")
    assert loop.llm.requests[0].max_tokens == 100


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match=r"max_round.*max_rounds"):
        AgentLoopConfig(max_round=3)
    with pytest.raises(AttributeError, match="max_round"):
        AgentLoopConfig().max_round = 3
    with pytest.raises(AttributeError, match="max_round"):
        _ = AgentLoopConfig().max_round


FULL: dict[str, Any] = {
    "system_prompt": "x",
    "model": "m",
    "max_rounds": 3,
    "temperature": 0.5,
    "max_tokens": 7,
    "context_tokens": 5000,
    "response_format": {"type": "json_object"},
    "limits": UsageLimits(total_tokens=9),
    "retry_policy": LLMRetryPolicy(max_attempts=7),
    "context": ContextPolicy(fold_strategy=NeverFold(), fold_timeout_s=3.0, fold_target_ratio=0.4),
    "tooling": ToolPolicy(concurrency=2, timeout_s=4.0, catalog=True),
    "running": RunPolicy(on_busy="raise"),
    "prices": {"m": Price(1, 2)},
}


def test_replace_keeps_every_setting_but_the_one_that_is_given() -> None:
    config = AgentLoopConfig(**FULL)
    for name, value in {"max_rounds": 9, "fold_timeout_s": 8.0, "inject_tool_descriptions": False, "model": "other"}.items():
        changed = dataclasses.replace(config, **{name: value})
        assert getattr(changed, name) == value
        for other in FULL:
            if other not in (name, {"fold_timeout_s": "context", "inject_tool_descriptions": "tooling"}.get(name)):
                assert getattr(changed, other) == FULL[other] == getattr(config, other), (name, other)
    assert dataclasses.replace(config, fold_timeout_s=8.0).context.fold_target_ratio == 0.4
    assert dataclasses.replace(config) == config


@pytest.mark.parametrize(
    ("flat", "group", "inner", "value"),
    [
        ("fold_timeout_s", "context", "fold_timeout_s", 5.0),
        ("fold_strategy", "context", "fold_strategy", NeverFold()),
        ("inject_tool_descriptions", "tooling", "catalog", True),
        ("tool_catalog_header", "tooling", "catalog_header", "# Tools"),
        ("max_tokens_per_run", "limits", "total_tokens", 1234),
    ],
)
def test_flat_names_are_read_written_constructed_and_replaced(flat: str, group: str, inner: str, value: Any) -> None:
    constructed = AgentLoopConfig(**{flat: value})
    written = AgentLoopConfig()
    setattr(written, flat, value)
    replaced = dataclasses.replace(AgentLoopConfig(), **{flat: value})
    for config in (constructed, written, replaced):
        assert getattr(config, flat) == value
        assert getattr(getattr(config, group), inner) == value


def test_a_flat_token_cap_may_be_changed_and_taken_away_again() -> None:
    config = AgentLoopConfig(max_tokens_per_run=100)
    config.max_tokens_per_run = 200
    assert config.limits == UsageLimits(total_tokens=200)
    config.max_tokens_per_run = None
    assert config.limits is None
    config.limits = UsageLimits(total_tokens=5, requests=3)
    config.max_tokens_per_run = None
    assert config.limits == UsageLimits(requests=3)
    assert AgentLoopConfig().max_tokens_per_run is None


def test_both_spellings_of_the_token_cap_must_agree() -> None:
    assert AgentLoopConfig(max_tokens_per_run=5, limits=UsageLimits(total_tokens=5)).max_tokens_per_run == 5
    kept = AgentLoopConfig(max_tokens_per_run=5, limits=UsageLimits(requests=3)).limits
    assert (kept.total_tokens, kept.requests) == (5, 3)
    with pytest.raises(ValueError, match=r"max_tokens_per_run=6.*5"):
        AgentLoopConfig(max_tokens_per_run=6, limits=UsageLimits(total_tokens=5))


def test_a_flat_token_cap_is_replaced_like_any_other_setting() -> None:
    config = AgentLoopConfig(max_tokens_per_run=5)
    assert dataclasses.replace(config, max_tokens_per_run=9).limits == UsageLimits(total_tokens=9)
    assert dataclasses.replace(config, max_tokens_per_run=None).limits is None
    assert dataclasses.replace(config, limits=None, max_tokens_per_run=7).limits == UsageLimits(total_tokens=7)
    limited = AgentLoopConfig(limits=UsageLimits(total_tokens=5, requests=2))
    assert dataclasses.replace(limited, max_tokens_per_run=9).limits == UsageLimits(total_tokens=9, requests=2)
    with pytest.raises(ValueError, match=r"max_tokens_per_run=9.*7"):
        dataclasses.replace(config, limits=UsageLimits(total_tokens=7), max_tokens_per_run=9)
    assert dataclasses.replace(config, max_rounds=3).limits == config.limits


def test_the_deprecated_history_projector_is_the_representation_and_says_so() -> None:
    shown = ProjectedRepresentation()
    with pytest.warns(DeprecationWarning, match="representation"):
        config = AgentLoopConfig(history_projector=shown)
    assert config.context.representation is shown
    with pytest.warns(DeprecationWarning, match="representation"):
        assert isinstance(dataclasses.replace(config, history_projector=None).context.representation, VerbatimRepresentation)
    with pytest.warns(DeprecationWarning, match="representation"), pytest.raises(TypeError, match="project_send"):
        AgentLoopConfig(history_projector=object())


def test_the_deprecated_compactor_means_never_to_fold_and_says_so() -> None:
    with pytest.warns(DeprecationWarning, match="fold_strategy"):
        config = AgentLoopConfig(compactor=None)
    assert isinstance(config.context.fold_strategy, NeverFold)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AgentLoopConfig(fold_strategy=LLMSummaryFold())


@pytest.mark.parametrize(("cap", "budget"), [(8000, 64_000), (100_000, 100_000), (None, 64_000)])
def test_the_context_budget_leaves_a_raised_output_cap_its_room(cap: int | None, budget: int) -> None:
    assert AgentLoopConfig(max_tokens=cap).effective_context_budget() == budget
    assert AgentLoopConfig(max_tokens=cap, context_tokens=5000).effective_context_budget() == 5000


async def test_one_configuration_may_be_shared_and_is_read_at_the_start_of_each_send(home: Any) -> None:
    config = AgentLoopConfig(system_prompt="one")

    def change() -> str:
        """Change the configuration in the middle of a send."""
        config.system_prompt, config.max_tokens = "two", 5
        return "changed"

    loops = [home.loop(call("change"), say("a"), tools=[change], config=config), home.loop("b", config=config)]
    for loop in loops:
        await loop.run("x")
    asked = [(request.system_prompt, request.max_tokens) for loop in loops for request in loop.llm.requests]
    assert asked == [("one", 8000), ("one", 8000), ("two", 5)]


def test_groups_are_frozen() -> None:
    config = AgentLoopConfig()
    for group in (config.context, config.tooling, config.running):
        with pytest.raises(dataclasses.FrozenInstanceError):
            group.anything = 3


async def test_a_tool_list_stands_in_the_prompt_only_when_it_is_asked_for(home: Any) -> None:
    def look() -> str:
        """Look around."""
        return ""

    loop = home.loop("a", "b", tools=[look])
    await loop.run("x")
    loop.config.inject_tool_descriptions = True
    loop.config.tool_catalog_header = "# What you can do"
    await loop.run("y")
    first, second = (request.system_prompt for request in loop.llm.requests)
    assert "look" not in first
    assert "# What you can do\n- look: Look around." in second
    assert second == await loop.resolve_system_prompt()
