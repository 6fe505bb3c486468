"""``power-loop tail``: what happens in a session, as it happens, whichever process drives it.

`StatefulAgentLoop.watch` does the work; this file prints what it gives, for people or as JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from power_loop.cli.exits import OK, USAGE, CommandFailed
from power_loop.cli.place import add_options, opened
from power_loop.cli.screen import Screen, as_json, call_line, message_line, one_line
from power_loop.contracts.events import AgentEvent
from power_loop.loop import StatefulAgentLoop
from power_loop.providers.echo import EchoLLM

# What is shown as it comes, as in a chat.
LIVE = ("stream_started", "stream_delta", "stream_completed", "llm_retry_attempted", "tool_progress", "user_notification")


def add(commands: Any) -> None:
    """Offer the command to the parser."""
    about = "What happened in a session, and what happens, from any process. Ctrl-C ends it."
    parser: argparse.ArgumentParser = commands.add_parser("tail", help="show what happens in a session", description=about)
    parser.add_argument("session", metavar="SESSION")
    parser.add_argument(
        "--after", metavar="CURSOR", default="0", help="go on after this event: the cursor in --json, or a message's number"
    )
    parser.add_argument("--no-follow", action="store_true", help="stop at the end of what is there")
    add_options(parser, json="one event a line, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show events until the session is deleted, or there are no more; the exit code."""
    return asyncio.run(_tail(args, _show_json if args.json else Tail().show))


async def _tail(args: argparse.Namespace, show: Callable[[AgentEvent], None]) -> int:
    # A model is none of its business: nothing is sent.
    async with opened(args) as store, StatefulAgentLoop(llm=EchoLLM(), store=store, name="tail") as loop:
        try:
            async for event in loop.watch(args.session, after=args.after, follow=not args.no_follow):
                show(event)
        except ValueError as error:
            raise CommandFailed(f"--after: {error}", USAGE) from error
    return OK


def _show_json(event: AgentEvent) -> None:
    Screen().line(as_json(event.to_dict()))


class Tail:
    """The events of a session as a conversation on a terminal."""

    def __init__(self, screen: Screen | None = None) -> None:
        self._screen = screen or Screen()
        self._streamed = False

    def show(self, event: AgentEvent) -> None:
        told = event.payload
        match event.type:
            case "message_appended":
                self._message(told)
            case "session_ended" if told["reason"] != "completed":
                self._screen.line(f"[{one_line(str(told['reason']))}]")
            case "approval_requested":
                self._screen.line(f"     [waits for an approval of {one_line(str(told['name']))}]")
            case _ if event.type in LIVE:
                self._streamed = event.type == "stream_delta" or (self._streamed and event.type != "stream_started")
                self._screen.hear(event)
            case _:
                return

    def _message(self, message: Mapping[str, Any]) -> None:
        """A message, but for the text of it that was streamed already."""
        if message["role"] == "assistant" and self._streamed:
            self._screen.end_line()
            lines = [f"  -> {call_line(call)}" for call in message["tool_calls"] or ()]
        else:
            lines = [message_line(message)]
        self._streamed = False
        for line in filter(None, lines):
            self._screen.line(line)
