"""``power-loop chat``: a durable conversation on a terminal, or from a pipe.

The loop does the work; this file reads lines, hands them on, and explains what a session needs before it can hear
the next one. What it looks like is `screen`'s business.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from power_loop.cli.agent import add_agent_options, refuse_unusable, system_of, tools_of
from power_loop.cli.ctrl_c import CtrlC
from power_loop.cli.exits import BUSY_OR_PENDING, OK, USAGE, CommandFailed, complain
from power_loop.cli.model import Chosen, chosen_model
from power_loop.cli.place import add_options, dsn_of
from power_loop.cli.screen import JsonLines, Screen, as_json, call_line, message_line, seen
from power_loop.config import AgentLoopConfig, RunPolicy
from power_loop.contracts.cancel import CancellationToken
from power_loop.contracts.errors import ApprovalError, PowerLoopError
from power_loop.contracts.options import chosen, option_line
from power_loop.contracts.outcome import StatefulResult
from power_loop.loop import StatefulAgentLoop
from power_loop.store.dsn import parse_dsn

# For its effect: input() then edits and remembers lines. A Python without it still chats.
with contextlib.suppress(ImportError):
    import_module("readline")

HISTORY_MESSAGES = 6
HELP = "Ctrl-C cancels the answer, twice leaves; /quit or end of input leaves; /resume goes on with what was cut off; /abort gives it up"
UNKNOWN = "\n     it began: it may or may not have taken effect, and is not repeated"
LEAVE_WITHIN_S = 1.0

Drive = Callable[[CancellationToken], Coroutine[Any, Any, StatefulResult]]


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "chat", help="talk to an agent; the conversation is kept", description=f"A durable conversation. {HELP}."
    )
    parser.add_argument("session", nargs="?", metavar="SESSION", help="the session to go on with; none: a new one")
    add_agent_options(parser)
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Talk until the user leaves; the exit code."""
    dsn = dsn_of(args)
    refuse_unusable(dsn, args.session)
    system, tools = system_of(args), tools_of(args)
    chosen = chosen_model(args.model)
    config = AgentLoopConfig(running=RunPolicy(on_busy="raise"))
    loop = StatefulAgentLoop(llm=chosen.llm, dsn=dsn, table_prefix=args.prefix, config=config, tool_registry=tools, name="chat")
    with asyncio.Runner() as runner:
        try:
            session_id = runner.run(_session(loop, args.session, system))
            screen = JsonLines() if args.json else Screen()
            screen.opens(session_id, str(parse_dsn(dsn)))
            chat = Chat(loop, session_id, runner, system if args.session is not None else None, screen)
            return chat.talk(_greeting(chosen, session_id, str(parse_dsn(dsn))))
        finally:
            runner.run(_leave(loop, chosen))


async def _session(loop: StatefulAgentLoop, session_id: str | None, system: str | None) -> str:
    try:
        store = await loop.ensure_store()
    except ValueError as error:  # the table prefix
        raise CommandFailed(str(error), USAGE) from error
    if session_id is None:
        return await loop.new_session(system_prompt=system)
    return (await store.get_session(session_id)).session_id


async def _leave(loop: StatefulAgentLoop, chosen: Chosen) -> None:
    await loop.aclose(drain_timeout_s=LEAVE_WITHIN_S)
    await chosen.llm.close()


def _user() -> str | None:
    """Who decides; None where the system has no name for that."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def _greeting(chosen: Chosen, session_id: str, dsn: str) -> list[str]:
    model = getattr(chosen.llm, "model", None) or chosen.llm.provider_name
    return [f"session {session_id} in {dsn}, model {model}", *([chosen.remark] if chosen.remark else []), HELP]


class Chat:
    """One conversation: a session, and someone who types."""

    def __init__(
        self, loop: StatefulAgentLoop, session_id: str, runner: asyncio.Runner, system: str | None, screen: Screen
    ) -> None:  # fmt: skip
        self._loop, self._session_id, self._runner, self._system = loop, session_id, runner, system
        self._screen = screen
        self._ctrl_c = CtrlC()
        self._by_hand = sys.stdin.isatty()
        self._code = OK
        loop.event_bus.subscribe(None, self._screen.hear)

    def talk(self, greeting: list[str]) -> int:
        """Read and answer until the user leaves; the exit code: that of the last failure, and 4 when calls are left open."""
        for line in greeting:
            self._screen.line(line)
        self._show_history()
        stays = self._settle()
        while stays and not self._ctrl_c.leaves:
            try:
                stays = self._next_line()
            except KeyboardInterrupt:
                self._ctrl_c.pressed += 1
                self._screen.line("" if self._ctrl_c.leaves else "\n(Ctrl-C again, Ctrl-D or /quit leaves)")
        self._screen.end_line()
        return self._code

    # --- lines ------------------------------------------------------------------------------------

    def _next_line(self) -> bool:
        """Read a line and do what it says; False when the user leaves."""
        line = self._read("> ")
        match line.strip() if line is not None else "/quit":
            case "":
                return True
            case "/quit" | "/exit":
                return False
            case "/help":
                self._screen.line(HELP)
                return True
            case "/resume":
                return self._do(lambda token: self._loop.resume(self._session_id, stop_event=token)) and self._settle()
            case "/abort":
                self._abort()
                return True
            case said:
                return self._say(said)

    def _say(self, text: str) -> bool:
        send = self._loop.send
        return self._do(lambda token: send(text, self._session_id, stop_event=token, system_prompt=self._system)) and self._settle()

    def _read(self, prompt: str) -> str | None:
        """The next line; None at the end of input. What comes from a pipe is shown as if it had been typed."""
        try:
            line = input(prompt if self._by_hand else "")
        except EOFError:
            self._screen.line()
            return None
        self._ctrl_c.pressed = 0
        if not self._by_hand:
            self._screen.line(f"{prompt}{seen(line)}")
        return line

    # --- what a line sets going ---------------------------------------------------------------------

    def _do(self, drive: Drive) -> bool:
        """Drive the session and show what comes of it; False when the user leaves meanwhile."""
        token = CancellationToken()
        try:
            result = self._runner.run(self._ctrl_c.guards(drive(token), token))
        except asyncio.CancelledError:
            self._screen.line("[left; the session can be resumed]")
            return False
        except (PowerLoopError, ValueError, ImportError) as error:
            self._fail(error)
            return True
        self._screen.result(result)
        return not self._ctrl_c.leaves

    def _fail(self, error: Exception) -> None:
        self._screen.end_line()
        self._code = complain(error)

    def _abort(self) -> None:
        try:
            count = self._runner.run(self._loop.abort_pending(self._session_id))
        except PowerLoopError as error:
            self._fail(error)
        else:
            self._screen.line(f"({count} calls were answered as aborted)" if count else "(no call waits for a result)")

    # --- what a session needs before it hears the next word -----------------------------------------------

    def _settle(self) -> bool:
        """Ask about calls without a result until there are none; False when the user leaves them as they are."""
        while (pending := self._runner.run(self._loop.get_pending(self._session_id))) is not None:
            questions = pending["pending_interactions"]
            if not (self._answer(questions[0]) if questions else self._decide(pending)):
                self._code = BUSY_OR_PENDING
                return False
        return True

    def _answer(self, question: dict[str, Any]) -> bool:
        if "digest" in question:
            return self._approve(question)
        self._screen.line(f"{seen(question['tool_name'])} asks: {seen(question['prompt'])}")
        options = question.get("options") or ()
        for option in options:
            self._screen.line(f"  - {seen(option_line(option))}")
        answer = self._read("answer> ")
        if answer is None or answer.strip() == "/quit":
            return False
        submit = self._loop.submit_input
        return self._do(lambda token: submit(self._session_id, question["interaction_id"], chosen(options, answer), stop_event=token))

    def _approve(self, question: dict[str, Any]) -> bool:
        """Show exactly what would run, and let it or not; False when the user leaves that open."""
        self._screen.line(f"{seen(question['tool_name'])} waits for your approval, with these arguments:")
        self._screen.line(as_json(question["arguments"], 2))
        chosen = self._choice("[y]es, [n]o or [q]uit? ", "ynq")
        if chosen == "q":
            return False
        note = (self._read("why not? (for the model) ") or "").strip() if chosen == "n" else ""
        verb = self._loop.approve if chosen == "y" else self._loop.deny
        asked, digest = question["interaction_id"], question["digest"]
        try:
            self._runner.run(verb(self._session_id, asked, digest=digest, by=_user(), note=note or None))
        except ApprovalError as error:  # decided elsewhere meanwhile, or too late: going on says so to the model
            self._fail(error)
        return self._do(lambda token: self._loop.resume(self._session_id, stop_event=token))

    def _choice(self, question: str, letters: str) -> str:
        """One of ``letters``; the last one at the end of input."""
        while True:
            answer = self._read(question)
            chosen = answer.strip().lower().removeprefix("/")[:1] if answer is not None else letters[-1]
            if chosen and chosen in letters:
                return chosen

    def _decide(self, pending: dict[str, Any]) -> bool:
        """Explain calls that were cut off, or approved and not run yet, and do with them what the user wants."""
        unknown = pending["unknown_call_ids"]
        self._screen.line("These calls have no result yet:")
        for call in pending["tool_calls"]:
            self._screen.line(f"  -> {call_line(call)}{UNKNOWN if call['id'] in unknown else ''}")
        if len(unknown) < len(pending["tool_calls"]):
            missing = self._missing(pending)
            if missing:
                self._screen.line(f"This chat has no {missing} to run them with: resume in the program that has them, or abort them here.")
            can, question = ("aq", "[a]bort or [q]uit? ") if missing else ("raq", "[r]esume, [a]bort or [q]uit? ")
        else:
            can, question = "raq", "[r]esume, [a]bort or [q]uit? "
        chosen = self._choice(question, can)
        if chosen == "r":
            return self._do(lambda token: self._loop.resume(self._session_id, stop_event=token))
        if chosen == "a":
            self._abort()
        return chosen == "a"

    def _missing(self, pending: dict[str, Any]) -> str:
        """Which of the tools that are waited for this chat does not have; empty when it has them all."""
        registry = self._loop.tool_registry
        if registry is None:
            return "tools"
        names = sorted({call["function"]["name"] for call in pending["tool_calls"]})
        return ", ".join(seen(name) for name in names if name not in registry)

    def _show_history(self) -> None:
        messages = self._runner.run(self._loop.get_messages(self._session_id))
        if len(messages) > HISTORY_MESSAGES:
            self._screen.line(f"… {len(messages) - HISTORY_MESSAGES} earlier messages")
        for message in messages[-HISTORY_MESSAGES:]:
            self._screen.line(message_line(message))
        if messages and messages[-1]["role"] == "user":
            self._screen.line("(this message has no answer; /resume asks for one)")
