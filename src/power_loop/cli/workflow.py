"""``power-loop workflow``: runs of workflows: begun, gone on with, listed, drawn."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from power_loop.cli.agent import add_agent_options, agent_loop, refuse_two_loops
from power_loop.cli.exits import BUSY_OR_PENDING, FAILED, NOT_FOUND, OK, USAGE, CommandFailed
from power_loop.cli.place import add_options, opened, tell
from power_loop.cli.screen import one_line, seen
from power_loop.cli.words import piped, when
from power_loop.contracts.errors import SessionNotFoundError, WorkflowRunError, WorkflowSpecError
from power_loop.contracts.events import AgentEvent
from power_loop.loop import StatefulAgentLoop
from power_loop.providers.echo import EchoLLM
from power_loop.workflow.draw import mermaid
from power_loop.workflow.journal import driver_id
from power_loop.workflow.look import get_workflow, list_workflows
from power_loop.workflow.results import WorkflowResult
from power_loop.workflow.run import create_workflow, resume_run
from power_loop.workflow.spec import WorkflowSpec

ABOUT = (
    "run: begin the workflow of a file. resume: go on with a run; what is finished is read, not paid again. list: the runs of a session, "
    "or those of none. graph: a flowchart (Mermaid) of a file, or of a run with the state of each step."
)
RUN_ID_CHARS = 16


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("workflow", help="run, resume, list and draw workflows", description=ABOUT)
    parser.add_argument("verb", choices=("run", "resume", "list", "graph"))
    parser.add_argument("target", nargs="?", metavar="FILE|RUN", help="run: a file, - is standard input; resume: a run; graph: either")
    parser.add_argument("--input", metavar="TEXT", help="run: what {{input}} stands for, instead of that of the file")
    parser.add_argument("--session", metavar="SESSION", help="run: the session that it belongs to; list: of which session")
    parser.add_argument("--on-change", choices=("error", "keep", "rerun"), default="error", help="resume: finished steps that were changed")
    parser.add_argument("--file", metavar="FILE", help="resume: the workflow as it is now")
    add_agent_options(parser, app=True)
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do it; the exit code."""
    refuse_two_loops(args)
    if args.verb != "list" and args.target is None:
        raise CommandFailed(f"workflow {args.verb} needs a {'FILE' if args.verb == 'run' else 'RUN'}", USAGE)
    if args.verb == "list" and args.target:
        raise CommandFailed(f"workflow list shows all runs of a session, not one: did you mean --session {args.target}?", USAGE)
    if args.verb == "graph" and not _is_run(args.target):
        drawing = mermaid(_spec_in(args.target))
        tell(args, {"mermaid": drawing}, seen(drawing))
        return OK
    try:
        return asyncio.run(VERBS[args.verb](args))
    except WorkflowRunError as error:
        raise CommandFailed(str(error), BUSY_OR_PENDING if error.code == "workflow.busy" else FAILED) from error


async def _run(args: argparse.Namespace) -> int:
    spec = _spec_in(args.target)
    spec = spec if args.input is None else replace(spec, input=args.input)
    async with agent_loop(args, "workflow", session=args.session) as loop:
        _show_progress(loop)
        if args.session is not None:
            await (await loop.ensure_store()).get_session(args.session)
        try:
            result = await create_workflow(spec, parent_loop=loop, parent_session_id=args.session).run()
        except ValueError as error:  # the session can have no run below it
            raise CommandFailed(str(error), USAGE) from error
        return _told(args, result)


async def _resume(args: argparse.Namespace) -> int:
    changed = None if args.file is None else _spec_in(args.file)
    async with agent_loop(args, "workflow", session=args.target) as loop:
        _show_progress(loop)
        parent = await _parent_of(loop, args.target)
        return _told(args, await resume_run(loop, parent, args.target, on_change=args.on_change, spec=changed))


async def _list(args: argparse.Namespace) -> int:
    async with _looking(args) as loop:
        if args.session is not None:
            await (await loop.ensure_store()).get_session(args.session)
        runs = await list_workflows(loop, args.session)
    lines = ["  ".join([each["run_id"], when(each["updated_at"]), each["status"], one_line(each["name"])]) for each in runs]
    tell(args, runs, "\n".join(lines) or "no runs")
    return OK


async def _graph(args: argparse.Namespace) -> int:
    async with _looking(args) as loop:
        found = await get_workflow(loop, await _parent_of(loop, args.target), args.target, detail=True)
    tell(args, found, seen(found["mermaid"]))
    return OK


@asynccontextmanager
async def _looking(args: argparse.Namespace) -> AsyncGenerator[StatefulAgentLoop]:
    """A loop that asks no model."""
    async with opened(args) as store, StatefulAgentLoop(llm=EchoLLM(), store=store, name="workflow") as loop:
        yield loop


VERBS = {"run": _run, "resume": _resume, "list": _list, "graph": _graph}


def _told(args: argparse.Namespace, result: WorkflowResult) -> int:
    """Show what a run came to; the exit code."""
    tell(args, result.to_dict(), seen(result.summary()))
    return OK if result.status == "completed" else BUSY_OR_PENDING if result.status == "waiting_for_input" else FAILED


async def _parent_of(loop: StatefulAgentLoop, run_id: str) -> str | None:
    try:
        return (await (await loop.ensure_store()).get_session(driver_id(run_id))).parent_session_id
    except (SessionNotFoundError, ValueError) as error:
        raise CommandFailed(f"there is no run {run_id!r}", NOT_FOUND) from error


def _show_progress(loop: StatefulAgentLoop) -> None:
    """Each step on standard error, where somebody looks."""

    def show(event: AgentEvent) -> None:
        print(one_line(str(event.payload["message"])), file=sys.stderr, flush=True)

    if sys.stderr.isatty():
        loop.event_bus.subscribe("system_log", show)


def _is_run(target: str) -> bool:
    return len(target) == RUN_ID_CHARS and all(char in "0123456789abcdef" for char in target) and not Path(target).exists()


def _spec_in(path: str) -> WorkflowSpec:
    """The workflow in a file. Raises `CommandFailed` with everything that is wrong with it."""
    try:
        text = piped() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}", USAGE) from error
    try:
        return WorkflowSpec.from_json(text)
    except WorkflowSpecError as error:
        for problem in error.problems:
            print(f"- {seen(problem)}", file=sys.stderr)
        raise CommandFailed(f"{path} is no workflow that can run", USAGE) from error
