"""What each command looks like in use, for its ``--help`` and the reference; and how help is laid out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

HEADING = "examples:"

# (what is typed, what it does)
EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "chat": (
        ("power-loop chat", "a new session in ./power_loop_sessions.db"),
        ("power-loop chat sess_0123 --dsn app.db", "go on with a session of app.db"),
        ("power-loop chat --model openai:gpt-4o-mini --tools core --workspace .", "with tools that work in this folder"),
        ('echo "Name a colour." | power-loop chat --json', "from a pipe, one event a line"),
    ),
    "run": (
        ('power-loop run "Name a colour."', "the outcome as JSON"),
        ('power-loop run "And another?" --session sess_0123 --text', "the answer alone, in a session that goes on"),
        ("power-loop run - --key job-42 < prompt.txt", "may be repeated: said and paid once"),
    ),
    "tail": (
        ("power-loop tail sess_0123 --dsn app.db", "as a conversation"),
        ("power-loop tail sess_0123 --json --after 7.2", "one event a line, behind that cursor"),
    ),
    "sessions": (
        ("power-loop sessions --limit 5", "the five newest"),
        ("power-loop sessions --all --json", "archived ones and children too, for a program"),
    ),
    "show": (
        ("power-loop show sess_0123", "what was said"),
        ("power-loop show sess_0123 --send 3 --records", "one send, as it is stored"),
    ),
    "inspect": (("power-loop inspect --dsn app.db --open", "in the browser"),),
    "export": (
        ("power-loop export sess_0123 -o talk.json", "into a file"),
        ("power-loop export sess_0123 --children | gzip > talk.json.gz", "with its sub-agents"),
    ),
    "import": (("power-loop import talk.json --dsn postgresql://app@db/app", "into another database"),),
    "fork": (("power-loop fork sess_0123 --at 2", "a branch behind the second send"),),
    "doctor": (
        ("power-loop doctor sess_0123", "why it does not go on"),
        ("power-loop doctor sess_0123 --repair", "and what can be put right without asking"),
    ),
    "schema": (
        ("power-loop schema show --dsn postgresql://db/app | psql app", "create the tables by hand"),
        ("power-loop schema check --dsn postgresql://db/app", "are they right?"),
    ),
    "worker": (
        ("power-loop worker --app shop.agent:make_loop", "drive what waits, until SIGTERM"),
        ("power-loop worker --dsn app.db --concurrency 2 --agent '*'", "sessions of every agent, two at a time"),
    ),
    "timers": (
        ("power-loop timers", "what is armed"),
        ('power-loop timers sess_0123 --add "Look at the build" --in 600', "in ten minutes"),
        ('power-loop timers sess_0123 --add "Write the report" --cron "0 7 * * 1-5" --tz Europe/Berlin', "each working day at seven"),
        ("power-loop timers --fire", "from cron or systemd, in place of a runner"),
    ),
    "workflow": (
        ('power-loop workflow run report.json --input "electric bicycles" --model openai:gpt-4o-mini', "begin, and wait for the end"),
        ("power-loop workflow list; power-loop workflow resume 0123456789abcdef", "go on with one that was cut off"),
        ("power-loop workflow graph report.json", "as a Mermaid flowchart"),
    ),
    "mcp-serve": (("power-loop mcp-serve --app shop.agent:make_loop", "the agent as an MCP server"),),
    "completion": (("source <(power-loop completion bash)", "in ~/.bashrc"),),
}


class Help(argparse.HelpFormatter):
    """Wraps what a command says of itself, and leaves its examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(HEADING) else super()._fill_text(text, width, indent)


def give_examples(parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Show each command's examples at the end of its ``--help``."""
    for name, parser in parsers.items():
        parser.formatter_class = Help
        parser.epilog = "\n".join([HEADING, *(f"  {typed}\n      {does}" for typed, does in EXAMPLES.get(name, ()))])
