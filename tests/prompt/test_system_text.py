"""The system text of requests: the prompt, the catalogue where a model needs one, the skills that can be loaded."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from power_loop import (
    LOAD_SKILL_DEFINITION,
    AgentLoopConfig,
    ModelCapabilities,
    RuntimeEnv,
    StatefulAgentLoop,
    ToolPolicy,
    ToolRegistry,
    create_default_tool_registry,
    format_tool_catalog,
    register_skill_tools,
    runtime_env_context,
)
from power_loop.testing import ScriptedLLM, call, fail, say
from power_loop.tools import skills as skills_module

TEXT_ONLY = ModelCapabilities(tools=False)
SECTION = "# Skills\nBefore you begin a task that one of these is for, read how to go about it with load_skill.\n"


def put(folder: Path, name: str, description: str | None = None) -> Path:
    path = folder / name / "SKILL.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\nname: {name}\ndescription: {description or f'How to {name}'}\n---\nBe brief.\n", "utf-8")
    return path


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    put(tmp_path / "skills", "bake")
    put(tmp_path / "skills", "write")
    return tmp_path / "skills"


def loader_of(skills: Path | None, **more: Any) -> ToolRegistry:
    return create_default_tool_registry(include=["load_skill"], skills_dir=skills, **more)


def ping() -> str:
    """Say pong."""
    return "pong"


async def system_texts(model: ScriptedLLM, *sends: Any, config: AgentLoopConfig | None = None, **settings: Any) -> list[str | None]:
    """What the model was told, send by send; resolve_system_prompt said the same just before each first request of a send."""
    async with StatefulAgentLoop(llm=model, dsn=":memory:", config=config, **settings) as loop:
        session = await loop.new_session()
        for change in sends or (None,):
            if change is not None:
                change()
            promised, before = await loop.resolve_system_prompt(session_id=session), len(model.requests)
            await loop.send("go", session)
            assert {request.system_prompt for request in model.requests[before:]} == {promised}
        return [request.system_prompt for request in model.requests]


# --- the three parts ----------------------------------------------------------------------------


# acceptance: 96
# acceptance: 47 (listed in the prompt)
async def test_the_text_that_is_promised_is_the_text_of_the_next_request(skills: Path) -> None:
    model = ScriptedLLM([say("1"), call("ping"), say("2")], capabilities=TEXT_ONLY)
    registry = loader_of(skills)
    registry.add(ping)
    config = AgentLoopConfig(system_prompt="  You bake.\n", tooling=ToolPolicy(catalog_header="# Tools here"))
    texts = await system_texts(model, lambda: None, lambda: None, config=config, tool_registry=registry)
    catalog = format_tool_catalog(registry.definitions(), header="# Tools here")
    assert texts == ["You bake.\n\n" + catalog + "\n\n" + SECTION + "- bake: How to bake\n- write: How to write"] * 3
    assert [request.tools for request in model.requests] == [None] * 3, "what is described is not sent as well"


# acceptance: 96
async def test_a_promise_is_kept_for_sessions_with_a_prompt_of_their_own(skills: Path) -> None:
    model = ScriptedLLM([say("1")])
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=loader_of(skills)) as loop:
        session = await loop.new_session(system_prompt="Mine.")
        promised = await loop.resolve_system_prompt(session_id=session)
        await loop.send("go", session)
        assert promised == model.requests[0].system_prompt == "Mine.\n\n" + SECTION + "- bake: How to bake\n- write: How to write"
        assert promised != await loop.resolve_system_prompt()


@pytest.mark.parametrize(
    ("catalog", "capabilities", "listed"),
    [
        (None, None, False),
        (None, TEXT_ONLY, True),
        (True, None, True),
        (False, TEXT_ONLY, False),
        (None, ModelCapabilities(tools=True), False),
    ],
)
async def test_tools_are_listed_for_models_that_cannot_take_them_unless_the_host_says_otherwise(
    catalog: bool | None, capabilities: ModelCapabilities | None, listed: bool
) -> None:
    model = ScriptedLLM([say("1")], capabilities=capabilities)
    [text] = await system_texts(model, config=AgentLoopConfig(system_prompt="Hi.", inject_tool_descriptions=catalog), tools=[ping])
    assert text == ("Hi.\n\n# Available Tools\n- ping: Say pong." if listed else "Hi.")
    assert (model.requests[0].tools is None) is (capabilities is TEXT_ONLY)


async def test_a_send_lists_the_tools_that_it_offers_and_no_others() -> None:
    def other() -> str:
        """Something else."""
        return ""

    model = ScriptedLLM([say("1"), say("2"), say("3")], capabilities=TEXT_ONLY)
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tools=[ping, other], config=AgentLoopConfig(system_prompt="Hi.")) as loop:
        session = await loop.new_session()
        await loop.send("go", session, tools=["ping"])
        await loop.send("go", session, tools=[])
        await loop.send("go", session)
    some, none, both = [request.system_prompt for request in model.requests]
    assert (some, none) == ("Hi.\n\n# Available Tools\n- ping: Say pong.", "Hi.")
    assert both == "Hi.\n\n# Available Tools\n- other: Something else.\n- ping: Say pong."


# --- skills --------------------------------------------------------------------------------------------


async def test_skills_are_listed_only_where_they_can_be_loaded(skills: Path) -> None:
    model = ScriptedLLM([say("1"), say("2"), say("3")])
    registry = loader_of(skills)
    registry.add(ping)
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry, config=AgentLoopConfig(system_prompt="Hi.")) as loop:
        session = await loop.new_session()
        for tools in (["ping"], [], ["load_skill"]):
            await loop.send("go", session, tools=tools)
    assert ["# Skills" in (request.system_prompt or "") for request in model.requests] == [False, False, True]


async def test_a_resume_lists_what_its_send_was_offered(skills: Path) -> None:
    model = ScriptedLLM([fail(RuntimeError("away")), say("1")])
    registry = loader_of(skills)
    registry.add(ping)
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry) as loop:
        session = await loop.new_session()
        with pytest.raises(Exception, match="away"):
            await loop.send("go", session, tools=["ping"], system_prompt="Once.")
        await loop.resume(session)
    assert [request.system_prompt for request in model.requests] == ["Once.", "Once."]


async def test_a_skill_that_comes_changes_or_goes_shows_in_the_next_send(skills: Path) -> None:
    model = ScriptedLLM([say(str(n)) for n in range(4)])
    steps = [
        lambda: None,
        lambda: put(skills, "swim"),
        lambda: put(skills, "bake", "How to bake bread"),
        lambda: (skills / "write" / "SKILL.md").unlink(),
    ]
    texts = await system_texts(model, *steps, config=AgentLoopConfig(system_prompt="Hi."), tool_registry=loader_of(skills))
    lists = [(text or "").partition(SECTION)[2].splitlines() for text in texts]
    assert lists == [
        ["- bake: How to bake", "- write: How to write"],
        ["- bake: How to bake", "- swim: How to swim", "- write: How to write"],
        ["- bake: How to bake bread", "- swim: How to swim", "- write: How to write"],
        ["- bake: How to bake bread", "- swim: How to swim"],
    ]


# acceptance: 47 (a broken one removes only itself)
async def test_a_broken_skill_is_left_out_of_the_prompt_with_a_warning(skills: Path, caplog: pytest.LogCaptureFixture) -> None:
    (skills / "swim").mkdir()
    (skills / "swim" / "SKILL.md").write_text("no front matter", "utf-8")
    model = ScriptedLLM([say("1"), say("2")])
    texts = await system_texts(model, None, None, config=AgentLoopConfig(system_prompt="Hi."), tool_registry=loader_of(skills))
    assert texts == ["Hi.\n\n" + SECTION + "- bake: How to bake\n- write: How to write"] * 2
    warned = [record.message for record in caplog.records if "left out" in record.message]
    assert len(warned) == 1
    assert "swim" in warned[0]


async def test_files_of_skills_are_read_once_and_never_on_the_event_loop(skills: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, threads, looks = threading.get_ident(), list[int](), list[int]()
    read, scan = skills_module.read_skill, os.scandir

    def reading(name: str, path: str) -> Any:
        threads.append(threading.get_ident())
        return read(name, path)

    def scanning(path: Any) -> Any:
        looks.append(threading.get_ident())
        return scan(path)

    monkeypatch.setattr(skills_module, "read_skill", reading)
    monkeypatch.setattr(skills_module.os, "scandir", scanning)
    model = ScriptedLLM([say("1"), call("load_skill", name="bake"), say("2"), say("3")])
    await system_texts(model, None, None, None, tool_registry=loader_of(skills))
    assert len(threads) == 2, "each file once"
    assert here not in threads
    assert here not in looks


async def test_a_loop_without_load_skill_looks_at_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def scanning(path: Any) -> Any:
        raise AssertionError(f"looked at {path}")

    monkeypatch.setattr(skills_module.os, "scandir", scanning)
    assert len(await system_texts(ScriptedLLM([call("ping"), say("1")]), tools=[ping])) == 2


async def test_the_configuration_names_the_folder_where_the_registry_names_none(tmp_path: Path, skills: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("POWER_LOOP_SKILLS_DIR", raising=False)
    put(tmp_path / "others", "swim")
    model = ScriptedLLM([call("load_skill", name="swim"), say("1")])
    config = AgentLoopConfig(system_prompt="Hi.", skills_dir=tmp_path / "others")
    registry = loader_of(None, home_dir=tmp_path / "home")
    assert (await system_texts(model, config=config, tool_registry=registry))[0] == "Hi.\n\n" + SECTION + "- swim: How to swim"
    assert "Be brief." in str(model.requests[1].messages[-1]["content"]), "the tool loads what the prompt lists"
    model = ScriptedLLM([say("1")])
    [text] = await system_texts(model, config=config, tool_registry=loader_of(skills, home_dir=tmp_path / "home"))
    assert text == "Hi.\n\n" + SECTION + "- bake: How to bake\n- write: How to write"


async def test_a_registry_put_together_by_hand_lists_its_skills(skills: Path) -> None:
    registry = ToolRegistry([ping])
    register_skill_tools(registry, skills_dir=skills)
    model = ScriptedLLM([call("load_skill", name="bake"), say("1")])
    [text, _] = await system_texts(model, config=AgentLoopConfig(system_prompt="Hi."), tool_registry=registry)
    assert text == "Hi.\n\n" + SECTION + "- bake: How to bake\n- write: How to write"


# acceptance: 27 (skills)
async def test_two_tenants_at_once_are_told_of_their_own_skills(tmp_path: Path) -> None:
    model = ScriptedLLM([say("x"), say("y")], strict=False)
    registry = create_default_tool_registry(include=["load_skill"], bind=False)
    config = AgentLoopConfig(system_prompt="Hi.")
    async with StatefulAgentLoop(llm=model, dsn=":memory:", tool_registry=registry, config=config) as loop:

        async def ask(tenant: str) -> str:
            put(tmp_path / tenant, f"skill-of-{tenant}")
            with runtime_env_context(RuntimeEnv(skills_dir=tmp_path / tenant, home_dir=tmp_path / "home")):
                await loop.send(tenant, await loop.new_session())
                return await loop.resolve_system_prompt()

        promised = await asyncio.gather(ask("ada"), ask("bob"))
    told = {request.messages[0]["content"]: request.system_prompt for request in model.requests}
    assert told == {who: "Hi.\n\n" + SECTION + f"- skill-of-{who}: How to skill-of-{who}" for who in ("ada", "bob")}
    assert promised == [told["ada"], told["bob"]]


async def test_a_tool_of_the_host_may_speak_for_its_own_skills_and_fail_at_it(caplog: pytest.LogCaptureFixture) -> None:
    class Shelf:
        said = "# Skills\n- knit"

        def __call__(self, name: str) -> str:
            return name

        def prompt_section(self, run: Any) -> str:
            if not self.said:
                raise OSError("the shelf fell down")
            return self.said

    shelf = Shelf()

    def break_it() -> None:
        shelf.said = ""

    model = ScriptedLLM([say("1"), say("2")])
    registry = ToolRegistry([(LOAD_SKILL_DEFINITION, shelf)])
    texts = await system_texts(model, lambda: None, break_it, config=AgentLoopConfig(system_prompt="Hi."), tool_registry=registry)
    assert texts == ["Hi.\n\n# Skills\n- knit", "Hi."]
    assert "the shelf fell down" in caplog.text
