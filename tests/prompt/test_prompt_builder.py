"""Prompts of sections: which there are, where they stand, and what is left out."""

from __future__ import annotations

import pytest

from power_loop import (
    BUILTIN_SECTIONS,
    DEFAULT_AGENT_SYSTEM_PROMPT,
    DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT,
    DEFAULT_SUBAGENT_SYSTEM_PROMPT,
    SystemPromptBuilder,
    SystemPromptContext,
    ToolDefinition,
    build_agent_system_prompt,
    build_explore_subagent_system_prompt,
    build_subagent_system_prompt,
    format_tool_catalog,
)

EMPTY = SystemPromptContext()
FULL = SystemPromptContext(
    model="m-1",
    workspace_dir="/w",
    agent_dir="/h",
    skills_dir="/h/skills",
    skill_descriptions="- pdf: Read PDF files",
    tool_names=("bash", "edit_file", "read_file", "todo"),
    extra="Talk like a pirate.",
    tool_definitions=[ToolDefinition("ping", "Say pong.")],
    tool_catalog_header="# What you have",
)
WEATHER = ToolDefinition(
    "weather",
    "Tell\nthe weather.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "array", "items": {"type": "integer"}},
            "at": {"type": ["string", "null"]},
            "any": {},
        },
        "required": ["city"],
    },
)


def test_the_built_in_sections_stand_in_this_order() -> None:
    names = ["identity", "style", "workflow", "security", "tool_guide", "tool_catalog", "paths", "todo_discipline", "skills"]
    assert list(BUILTIN_SECTIONS) == names == SystemPromptBuilder().section_names


def test_sections_with_nothing_to_say_are_left_out() -> None:
    assert SystemPromptBuilder().build(EMPTY) == f"{BUILTIN_SECTIONS['identity'](EMPTY)}\n\n{BUILTIN_SECTIONS['style'](EMPTY)}"
    assert SystemPromptBuilder(use_defaults=False).build(EMPTY) == ""


def test_each_section_speaks_of_what_the_context_has() -> None:
    text = SystemPromptBuilder().build(FULL)
    assert text.startswith(DEFAULT_AGENT_SYSTEM_PROMPT)
    for said in (
        "m-1",
        "- Workspace: /w",
        "- Home: /h",
        "- Skills: /h/skills",
        "- pdf: Read PDF files",
        "# What you have\n- ping: Say pong.",
    ):
        assert said in text, said
    assert "Read a file before you edit" in text
    assert "exactly one in progress" in text
    assert text.endswith("\n\nTalk like a pirate.")
    assert "\n\n\n" not in text


def test_a_section_may_be_put_anywhere_replaced_and_removed() -> None:
    builder = SystemPromptBuilder(use_defaults=False).use("identity", "style")
    builder.add("last", lambda context: f"model {context.model}").add("first", "Hello.", before="identity").add(
        "third", "3", after="identity"
    )
    assert builder.section_names == ["first", "identity", "third", "style", "last"]
    builder.add("identity", "I am Ada.").add("first", "moved", after="last").remove("style")
    assert builder.build(SystemPromptContext(model="m")) == "I am Ada.\n\n3\n\nmodel m\n\nmoved"
    assert builder.use("style", "identity").section_names == ["identity", "third", "last", "first", "style"]
    assert builder.build(EMPTY).startswith(DEFAULT_AGENT_SYSTEM_PROMPT)


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda b: b.use("identty"), "no built-in section 'identty'"),
        (lambda b: b.remove("nobody"), "no section 'nobody'"),
        (lambda b: b.add("x", "y", before="nobody"), "beside 'nobody'"),
        (lambda b: b.add("style", "y", after="style"), "beside 'style'"),
        (lambda b: b.add("x", "y", before="style", after="identity"), "both before 'style' and after 'identity'"),
    ],
)
def test_a_place_or_a_section_that_is_none_is_refused_by_name(misuse: object, words: str) -> None:
    builder = SystemPromptBuilder()
    with pytest.raises(ValueError, match=words):
        misuse(builder)  # type: ignore[operator]  # one of the functions above
    assert builder.section_names == list(BUILTIN_SECTIONS)


def test_a_section_is_text_or_a_function() -> None:
    with pytest.raises(TypeError, match="must be text or a function"):
        SystemPromptBuilder().add("x", 3)  # type: ignore[arg-type]  # the misuse


def test_two_builders_share_nothing() -> None:
    SystemPromptBuilder().remove("style").add("mine", "x")
    assert SystemPromptBuilder().section_names == list(BUILTIN_SECTIONS)


def test_the_prompts_of_kinds_of_agents_begin_with_what_they_are_and_end_with_what_is_added() -> None:
    for build, begins in (
        (build_agent_system_prompt, DEFAULT_AGENT_SYSTEM_PROMPT),
        (build_subagent_system_prompt, DEFAULT_SUBAGENT_SYSTEM_PROMPT),
        (build_explore_subagent_system_prompt, DEFAULT_EXPLORE_SUBAGENT_SYSTEM_PROMPT),
    ):
        text = build(FULL, "Be quick.")
        assert text.startswith(begins)
        assert text.endswith("Talk like a pirate.\n\nBe quick.")
        assert "- Workspace: /w" in text
    own = SystemPromptBuilder(use_defaults=False).add("only", "This.")
    assert build_agent_system_prompt(EMPTY, builder=own) == "This."


def test_a_catalogue_names_each_tool_and_what_it_takes() -> None:
    text = format_tool_catalog([WEATHER, ToolDefinition("ask")], header="# Tools")
    assert text == (
        "# Tools\n"
        "- ask\n"
        "- weather: Tell the weather.\n"
        "  - city (string): Where\n"
        '  - unit (one of "C", "F", optional)\n'
        "  - days (array of integer, optional)\n"
        "  - at (string or null, optional)\n"
        "  - any (optional)"
    )
    assert format_tool_catalog([WEATHER.to_openai_tool(), ToolDefinition("ask").to_openai_tool()], header="# Tools") == text
