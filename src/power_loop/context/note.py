"""The message that stands for what was folded. Pure."""

from __future__ import annotations

from power_loop.contracts.messages import Message

SUMMARY_NAME = "compact_note"


def summary_message(summary: str, through_send: int, rounds: int = 0) -> Message:
    """The summary of the sends up to ``through_send``; of that one only the first ``rounds`` rounds, where these are given."""
    return {"role": "user", "name": SUMMARY_NAME, "content": note_text(summary, through_send, rounds)}


def note_text(summary: str, through_send: int, rounds: int = 0) -> str:
    """The summary as the model reads it: what it covers, and how to get at the rest."""
    covers = f"sends 1 to {through_send}" if through_send else "the conversation so far"
    if rounds:
        earlier = f"sends 1 to {through_send - 1} and " if through_send > 1 else ""
        covers = f"{earlier}the first {rounds} rounds of send {through_send}, whose request follows"
    return f"[Summary of {covers}; the originals are kept and can be recalled with recall_compacted.]\n{summary}"
