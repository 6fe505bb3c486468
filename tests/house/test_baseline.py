"""Programs written against an earlier release still find what they use."""

from __future__ import annotations

import power_loop
from baseline import current, extended, load, lost

OWN_MODEL = (
    *("LLMService", "LLMRequest", "LLMResponse", "LLMStreamChunk", "LLMProviderConfig"),
    *("create_llm_service_from_env", "create_llm_service_from_config"),
)


# acceptance: 8
def test_nothing_that_programs_rely_on_has_disappeared() -> None:
    missing = list(lost(load(), current()))
    assert not missing, "\n".join(missing)


# acceptance: 8
def test_every_stable_name_can_be_imported_from_the_top_level() -> None:
    missing = [name for name in load()["names"] if not hasattr(power_loop, name)]
    assert not missing
    assert set(power_loop.STABLE_API) <= set(power_loop.__all__) <= set(dir(power_loop))


def test_what_is_new_is_frozen_too() -> None:
    assert load() == extended(load(), current()), "run `make baseline` to freeze what is new"


# acceptance: 8
def test_a_name_a_parameter_a_code_an_event_or_a_point_that_disappears_is_noticed() -> None:
    frozen = load()
    less = {
        "names": frozen["names"][1:],
        "parameters": {**frozen["parameters"], "StatefulAgentLoop": ["llm"]},
        "error_codes": {**frozen["error_codes"], "SessionBusyError": "busy"},
        "event_types": frozen["event_types"][1:],
        "hook_points": frozen["hook_points"][1:],
    }
    assert [line.split(":")[0] for line in lost(frozen, less)] == ["names", "event_types", "hook_points", "error_codes", "parameters"]
    assert extended(frozen, less) == frozen


# acceptance: 9
def test_a_loop_with_an_own_model_needs_only_stable_names() -> None:
    assert set(OWN_MODEL) <= set(power_loop.STABLE_API)
    assert all(hasattr(power_loop, name) for name in OWN_MODEL)
