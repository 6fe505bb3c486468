"""An AG-UI interface, as far as tests need one: reads frames, holds events against the published models, keeps the conversation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ag_ui.core import Event
from pydantic import TypeAdapter

EVENT = TypeAdapter(Event)
ENDS = ("RUN_FINISHED", "RUN_ERROR")


@dataclass
class Interface:
    """What a user interface knows after the frames it was given. Raises where the protocol forbids what comes."""

    last_id: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    open: set[tuple[str, str]] = field(default_factory=set)

    def read(self, frame: bytes) -> None:
        lines = frame.decode().split("\n")
        assert lines[-2:] == ["", ""], frame
        data = [line[6:] for line in lines if line.startswith("data: ")]
        if not data:
            return
        (text,) = data
        event = json.loads(text)
        EVENT.validate_python(event)
        self.see(event)
        for line in lines:
            if line.startswith("id: "):
                self.last_id = line[4:]

    def see(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert self.events or kind == "RUN_STARTED"
        assert not self.events or kind != "RUN_STARTED"
        assert not (self.events and self.events[-1]["type"] in ENDS), "nothing follows the end"
        self.events.append(event)
        if kind.endswith("_START") or kind == "STEP_STARTED":
            self._begin(event)
        elif kind.endswith("_END") or kind == "STEP_FINISHED":
            self.open.remove(self._key(event))
        elif kind == "TEXT_MESSAGE_CONTENT":
            assert self._key(event) in self.open
            assert event["delta"]
            self.messages[event["messageId"]] += event["delta"]
        elif kind == "TOOL_CALL_ARGS":
            self.arguments[event["toolCallId"]] += event["delta"]
        elif kind == "TOOL_CALL_RESULT":
            assert event["toolCallId"] not in self.results, "a call has one result"
            self.results[event["toolCallId"]] = event["content"]
        elif kind == "CUSTOM" and event["name"] == "power_loop.withdrawn":
            self.withdrawn.add(event["value"]["messageId"])
        elif kind == "RUN_FINISHED":
            assert not self.open, f"still open: {self.open}"

    def _begin(self, event: dict[str, Any]) -> None:
        key = self._key(event)
        assert key not in self.open, f"{key} begins twice"
        self.open.add(key)
        if event["type"] == "TEXT_MESSAGE_START":
            assert event["messageId"] not in self.messages, "a message begins once"
            self.messages[event["messageId"]], self.roles[event["messageId"]] = "", event["role"]
        if event["type"] == "TOOL_CALL_START":
            assert event["toolCallId"] not in self.arguments
            self.arguments[event["toolCallId"]] = ""

    @staticmethod
    def _key(event: dict[str, Any]) -> tuple[str, str]:
        kind = event["type"].removesuffix("_START").removesuffix("_STARTED").removesuffix("_END").removesuffix("_FINISHED")
        kind = kind.removesuffix("_CONTENT")
        return kind, event.get("messageId") or event.get("toolCallId") or event.get("stepName") or ""

    @property
    def said(self) -> list[str]:
        """What the agent said, without what was taken back."""
        return [text for id, text in self.messages.items() if id not in self.withdrawn and self.roles[id] == "assistant"]

    @property
    def kinds(self) -> list[str]:
        """The events in order, each text once however it was cut."""
        kinds = [event["type"] for event in self.events]
        return [kind for n, kind in enumerate(kinds) if not (kind.endswith("_CONTENT") and n and kinds[n - 1] == kind)]

    @property
    def end(self) -> dict[str, Any]:
        return self.events[-1]


def run_input(text: str | None = "What is there?", run_id: str = "run-1", **more: Any) -> dict[str, Any]:
    messages = [] if text is None else [{"id": "m1", "role": "user", "content": text}]
    return {
        "threadId": "thread-1",
        "runId": run_id,
        "messages": messages,
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {},
        **more,
    }
