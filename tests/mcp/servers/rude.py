"""An MCP server without an SDK that behaves badly: ``rude.py HOW [NOTES]``. What it did is appended to the file NOTES, a word a line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HOW = sys.argv[1]
NOTES = Path(sys.argv[2]) if len(sys.argv) > 2 else None
ODD = [
    {"name": "fine", "inputSchema": {"type": "object"}},
    {"name": "no object", "inputSchema": {"type": "string"}},
    {"name": "unknown type", "inputSchema": {"type": "object", "properties": {"x": {"type": "strnig"}}}},
    {"name": "far away", "inputSchema": {"type": "object", "properties": {"x": {"$ref": "https://example.com/schema.json"}}}},
    {"name": "fine", "description": "again", "inputSchema": {"type": "object"}},
]
UNFIT: list[Any] = [
    {"name": "fine", "inputSchema": {"type": "object"}},
    {"name": "promises a list", "inputSchema": {"type": "object"}, "outputSchema": {"type": "array"}},
    {"name": "a list", "inputSchema": {"type": "object", "properties": [1]}},
    {"name": "a word", "inputSchema": {"type": "object", "properties": {"x": "string"}}},
    {"name": "none", "inputSchema": {"type": "object", "required": "x"}},
    {"name": "", "inputSchema": {"type": "object"}},
    {"inputSchema": {"type": "object"}},
    5,
]


def note(word: str) -> None:
    if NOTES is not None:
        with NOTES.open("a") as file:
            file.write(f"{word}\n")


def say(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def tools() -> Any:
    if HOW in ("odd", "unfit", "no-list"):
        return {"odd": ODD, "unfit": UNFIT, "no-list": "none"}[HOW]
    grown = NOTES is not None and NOTES.exists() and "grow" in NOTES.read_text()
    return [{"name": name, "inputSchema": {"type": "object"}} for name in ("work", "grow", *(["more"] if grown else []))]


def call(number: Any, name: str) -> None:
    note(name)
    match HOW:
        case "hangs":
            return
        case "dies":
            os._exit(3)
        case "dies-at-third" if NOTES is not None and NOTES.read_text().split().count("work") < 3:
            return
        case "dies-at-third" if NOTES is not None and NOTES.read_text().split().count("work") == 3:
            os._exit(3)
        case "dies-once" if NOTES is not None and NOTES.read_text().split().count("work") == 1:
            os._exit(3)
        case "wrong":
            say(id=number, result={"content": "not a list"})
            return
        case "lies":
            say(id=99999, result={})
    if name == "grow":
        say(method="notifications/tools/list_changed")
    say(id=number, result={"content": [{"type": "text", "text": f"{name} done"}]})
    if HOW == "dies-after":
        os._exit(3)


def main() -> None:
    note("started")
    if HOW == "no-start":
        print("licence missing", file=sys.stderr)
        raise SystemExit(3)
    for line in sys.stdin:
        message = json.loads(line)
        if HOW == "silent":
            continue
        if HOW == "garbage":
            print("warming up… {not json", flush=True)
        match message:
            case {"method": "initialize", "id": number, "params": {"protocolVersion": version}}:
                info = {"name": "rude", "version": "1"}
                say(id=number, result={"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info})
            case {"method": "tools/list", "id": number}:
                note("listed")
                say(id=number, result={"tools": tools()})
            case {"method": "tools/call", "id": number, "params": {"name": name}}:
                call(number, name)
            case {"method": "notifications/cancelled"}:
                note("cancelled")
            case {"id": number}:
                say(id=number, error={"code": -32601, "message": "no such method"})


main()
