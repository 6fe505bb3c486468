"""Events of a loop as AG-UI events: text as it comes, tool calls, steps, reasoning, and how the run finished.

What is durable decides: messages, tool calls, steps and the end follow from records alone, so they come out the same
for whoever watches, live or later. A text that is still being written is shown before its record, and the record adds
what is missing of it, or takes it back when another attempt made it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from power_loop.contracts.events import AgentEvent
from power_loop.contracts.messages import is_content, readable
from power_loop.contracts.redact import redact_text
from power_loop.contrib.ag_ui_finish import finished, run_error
from power_loop.contrib.ag_ui_ids import Open

Json = dict[str, Any]

PROTOCOL_VERSION = "1.0"
# Shown as they are, for interfaces that know this package: name ``power_loop.TYPE``, value the payload.
CUSTOM = (
    "todo_updated", "user_notification", "tool_progress", "status_changed", "timer_fired", "approval_requested", "approval_decided",
    "subagent_task_start", "subagent_task_text", "subagent_task_limit", "subagent_task_completed", "llm_retry_attempted", "llm_fallback",
)  # fmt: skip


class AgUiEncoder:
    """Encodes the events of one run, in order. ``encode`` gives the AG-UI events of each, often none.

    The first gives RUN_STARTED too. The first user message is the interface's own, and not told again, unless
    ``own_input`` is False. Events of sub-agents are left out: they tell on their parent's stream what concerns it.
    """

    finished: bool
    run_id: str
    started: bool
    thread_id: str

    def __init__(self, thread_id: str, run_id: str, *, own_input: bool = True) -> None:
        self.thread_id, self.run_id = thread_id, run_id
        self.started = self.finished = False
        self.open: Open = Open()
        """What the interface was told of and not yet told the end of."""
        self._own_input = own_input
        self._live = False
        """The text in hand was heard from its beginning."""
        self._error: Json | None = None
        self._encoders: Mapping[str, Callable[[AgentEvent, Mapping[str, Any]], Iterator[Json]]] = {
            "stream_started": self._stream_started,
            "stream_delta": self._delta,
            "stream_think_delta": self._delta,
            "stream_completed": self._stream_completed,
            "message_appended": self._message,
            "tool_call_completed": self._tool_result,
            "agent_error": self._agent_error,
            "session_ended": self._session_ended,
            "result": self._result,
            **dict.fromkeys(CUSTOM, self._custom),
        }

    def encode(self, event: AgentEvent) -> list[Json]:
        """The AG-UI events that ``event`` gives; none once the run has finished."""
        return [each for each, _ in self.encode_with_tokens(event)]

    def encode_with_tokens(self, event: AgentEvent) -> list[tuple[Json, str]]:
        """The same, each with what is open behind it, as an id says it."""
        given: list[tuple[Json, str]] = []
        encode = self._encoders.get(str(event.type))
        if self.finished or event.depth or encode is None:
            return given
        for each in encode(event, event.payload):
            if not self.started:
                given.append((self.start(), self.open.token()))
            if "timestamp" not in each:
                each["timestamp"] = int(event.ts * 1000)
            given.append((each, self.open.token()))
        return given

    def start(self) -> Json:
        """RUN_STARTED."""
        self.started = True
        return {"type": "RUN_STARTED", "threadId": self.thread_id, "runId": self.run_id, "protocolVersion": PROTOCOL_VERSION}

    def fail(self, message: str, code: str | None = None) -> Iterator[Json]:
        """The run failed where no event tells of it."""
        yield from self._close()
        yield from self._over(run_error(message, code))

    def finish(self, result: Mapping[str, Any]) -> Iterator[Json]:
        """The run finished with ``result``, the fields of a `StatefulResult`, where no event tells of it."""
        yield from self._close()
        yield from self._over(finished(self.thread_id, self.run_id, result))

    # --- text as it comes --------------------------------------------------------------------------------

    def _stream_started(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        yield from self._withdraw()
        self._live = not str(told["call_id"]).startswith("fold")  # a summary for the model is nothing that it says
        self.open.call_id = f"{event.send_index}.{told['call_id']}"

    def _delta(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        if not self._live or not told["text"]:
            return  # its beginning was missed: the record will tell it whole
        yield from self._step(event.round_index)
        if told["is_think"]:
            yield from self._open_thought(event)
            yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": self._thought_id(event), "delta": told["text"]}
            return
        yield from self._close_thought(event)
        yield from self._open_text(event)
        yield self._content(event, told["text"])

    def _stream_completed(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        self._live = False
        yield from self._close_thought(event)
        if told["aborted"]:
            yield from self._withdraw()

    def _open_text(self, event: AgentEvent) -> Iterator[Json]:
        if not self.open.text:
            self.open.text, self.open.chars, self.open.crc = True, 0, 0
            yield {"type": "TEXT_MESSAGE_START", "messageId": self._text_id(event), "role": "assistant"}

    def _content(self, event: AgentEvent, piece: str) -> Json:
        self.open.show(piece)
        return {"type": "TEXT_MESSAGE_CONTENT", "messageId": self._text_id(event), "delta": piece}

    def _open_thought(self, event: AgentEvent) -> Iterator[Json]:
        id = self._thought_id(event)
        if not self.open.span:
            self.open.span = True
            yield {"type": "REASONING_START", "messageId": id}
        if not self.open.thought:
            self.open.thought = True
            yield {"type": "REASONING_MESSAGE_START", "messageId": id, "role": "reasoning"}

    def _close_thought(self, event: AgentEvent | None) -> Iterator[Json]:
        id = self._thought_id(event)
        if self.open.thought:
            self.open.thought = False
            yield {"type": "REASONING_MESSAGE_END", "messageId": id}
        if self.open.span:
            self.open.span = False
            yield {"type": "REASONING_END", "messageId": id}

    def _withdraw(self) -> Iterator[Json]:
        """The open text does not count: another attempt, or none, says what stands."""
        if self.open.text:
            id = self._text_id(None)
            yield {"type": "CUSTOM", "name": "power_loop.withdrawn", "value": {"messageId": id}}
            self.open.text = False
            yield {"type": "TEXT_MESSAGE_END", "messageId": id}

    def _text_id(self, event: AgentEvent | None) -> str:
        return f"{self.thread_id}/{self.open.call_id}"

    def _thought_id(self, event: AgentEvent | None) -> str:
        return f"{self.thread_id}/{self.open.call_id}/thought"

    # --- what is durable ---------------------------------------------------------------------------------

    def _message(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        if told["role"] == "user":
            yield from self._user_message(event, told)
        elif told["role"] == "assistant":
            yield from self._step(event.round_index)
            yield from self._reply(event, told)

    def _user_message(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        own, self._own_input = self._own_input, False
        text = text_of(told["content"])
        if own or not text:
            return
        id = f"{self.thread_id}/{told['seq']}"
        yield {"type": "TEXT_MESSAGE_START", "messageId": id, "role": "user"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": text}
        yield {"type": "TEXT_MESSAGE_END", "messageId": id}

    def _reply(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        """The reply as it is stored: what of its text was not shown, then its tool calls."""
        self._live = False
        yield from self._close_thought(event)
        if not self.open.done:
            yield from self._rest_of_text(event, told)
        for call in cast("Sequence[Mapping[str, Any]]", told["tool_calls"] or ()):
            yield from self._tool_call(event, call)
        self.open.done = False

    def _rest_of_text(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        whole = text_of(told["content"])
        if self.open.text and not self.open.fits(whole):
            yield from self._withdraw()
        if not self.open.text:
            self.open.call_id = f"{event.send_index}.{told['seq']}"
            if whole:
                yield from self._open_text(event)
        if self.open.text:
            if rest := whole[self.open.chars :]:
                yield self._content(event, rest)
            self.open.text, self.open.done = False, True
            yield {"type": "TEXT_MESSAGE_END", "messageId": self._text_id(event)}

    def _tool_call(self, event: AgentEvent, call: Mapping[str, Any]) -> Iterator[Json]:
        function, id = call["function"], call["id"]
        start = {"type": "TOOL_CALL_START", "toolCallId": id, "toolCallName": function["name"], "parentMessageId": self._text_id(event)}
        yield start
        if function.get("arguments"):
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": id, "delta": function["arguments"]}
        yield {"type": "TOOL_CALL_END", "toolCallId": id}

    def _tool_result(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        yield from self._step(event.round_index)
        yield {
            "type": "TOOL_CALL_RESULT",
            "messageId": f"{self.thread_id}/{event.record_seq}",
            "toolCallId": told["tool_call_id"],
            "content": text_of(told["output"]),
            "role": "tool",
        }

    def _custom(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        if event.type == "status_changed" and told.get("kind") == "round_usage":
            return
        yield {"type": "CUSTOM", "name": f"power_loop.{event.type}", "value": json.loads(json.dumps(dict(told), default=str))}

    def _step(self, round_index: int | None) -> Iterator[Json]:
        """A round is a step; it lasts until the next one begins, or the run ends."""
        if round_index is None or round_index == self.open.step:
            return
        yield from self._close_step()
        self.open.step = round_index
        yield {"type": "STEP_STARTED", "stepName": f"round {round_index}"}

    def _close_step(self) -> Iterator[Json]:
        if self.open.step is not None:
            step, self.open.step = self.open.step, None
            yield {"type": "STEP_FINISHED", "stepName": f"round {step}"}

    # --- the end --------------------------------------------------------------------------------------------

    def _agent_error(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        self._error = run_error(redact_text(told["error"]), told["code"] or told["error_type"])
        yield from ()

    def _session_ended(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        """The run is over. A result follows, unless it failed; one that was cut off is gone on with."""
        self._live = False
        yield from self._close()
        if told["reason"] == "error":
            yield from self._over(self._error or run_error("the run failed", "error"))

    def _result(self, event: AgentEvent, told: Mapping[str, Any]) -> Iterator[Json]:
        yield from self._close()
        yield from self._over(finished(self.thread_id, self.run_id, told))

    def _close(self) -> Iterator[Json]:
        yield from self._close_thought(None)
        yield from self._withdraw()
        yield from self._close_step()

    def _over(self, last: Json) -> Iterator[Json]:
        self.finished = True
        yield last


def text_of(content: Any) -> str:
    """Message content as text: the text blocks of a list, a note for each other one."""
    return readable(content) if content is None or is_content(content) else json.dumps(content, ensure_ascii=False, default=str)
