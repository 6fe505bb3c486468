"""The two experiments: a process killed between the ends of two parallel tools, and two processes that send to one session."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import script
from environments import Environment
from work import measure, outcome, start

REACHED_S = 60
SETTLE_S = 1.0
"""Between the end of the fast tool and the kill: time enough to write a result down."""


def killed(environment: Environment, folder: Path) -> dict[str, str]:
    """Kill the process when `fast` has ended and `slow` is running; go on in a new one, then send the next message."""
    ledger = folder / "ledger.txt"
    process = start(environment, "two", folder, PEERS_HANG="1")
    _wait(lambda: ledger.exists() and {"fast ran", "slow began"} <= set(ledger.read_text().splitlines()))
    time.sleep(SETTLE_S)
    process.kill()
    process.wait()
    found = measure(environment, "resume", folder)
    ran = Counter(ledger.read_text().splitlines())
    texts, roles = [text for _, text in found["history"]], Counter(role for role, _ in found["history"])
    return {
        "`fast` ran (it had ended before the kill)": _times(ran["fast ran"]),
        "`slow` was begun (it was cut off)": _times(ran["slow began"]),
        "going on in the documented way gives": _words(found["resumed"], found.get("resumed_error")),
        "the next message gives": _words(found["next"], found.get("next_error")),
        "afterwards the history has the message of the killed send": _yes(any(text.startswith("two") for text in texts)),
        "… and the result of `fast`": _yes(any("fast 1 is done" in text for text in texts)),
        "… and calls that have no result": str(roles["call"] - roles["tool"]),
    }


def raced(environment: Environment, folder: Path) -> dict[str, str]:
    """Have two processes send 20 messages each to one session at the same time; compare what they were told with what is stored."""
    measure(environment, "begin", folder)
    processes = [start(environment, "race", folder, PEERS_NAME=name) for name in ("A", "B")]
    _wait(lambda: all((folder / f"ready-{name}").exists() for name in ("A", "B")))
    (folder / "go").touch()
    told = [outcome(process) for process in processes]
    answered: list[str] = [text for each in told for text in each["answered"]]
    errors: list[str] = [error for each in told for error in each["errors"]]
    history: list[Any] = measure(environment, "history", folder)["history"]
    said = {text for role, text in history if role == "user"}
    replied = {text.rpartition(" ")[0] for role, text in history if role == "assistant"}
    pairs = [(text, after) for (role, text), (_, after) in pairwise([*history, ("", "")]) if role == "user"]
    apart = sum(text.startswith("race") and not after.startswith(script.reply_to(text)) for text, after in pairs)
    stale = sum(
        after.startswith(script.reply_to(text)) and after != f"{script.reply_to(text)} {n}" for n, (text, after) in enumerate(pairs, 1)
    )
    return {
        "sends that returned an answer": f"{len(answered)} of 40",
        "sends that raised": f"{len(errors)} ({Counter(errors).most_common(1)[0][0][:80]})" if errors else "0",
        "answered messages that are not in the history": str(sum(text not in said for text in answered)),
        "answers that are not in the history": str(sum(script.reply_to(text) not in replied for text in answered)),
        "stored messages that their answer does not follow at once": str(apart),
        "answers of a model that was shown other messages than stand before it": str(stale),
    }


def _wait(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + REACHED_S
    while not reached():
        if time.monotonic() > until:
            raise TimeoutError("the experiment was not reached")
        time.sleep(0.005)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _yes(found: bool) -> str:
    return "yes" if found else "no"


def _words(text: str | None, error: str | None) -> str:
    if error:
        return f"`{error[:100]}`".replace("|", "/").replace("\n", " ")
    return "—" if text is None else "an answer"
