"""Old tool results out of requests and into files. The transcript keeps them; the files are for the model to read again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from power_loop.context.spill import Spilled, pointed, spilled
from power_loop.contracts.log import log
from power_loop.contracts.model import LLMRequest
from power_loop.runtime.send import Send

FOLDER = ".spill"


async def spill(send: Send, request: LLMRequest) -> None:
    """Put pointers in place of the old, long results of ``request``. Their files are there when this returns."""
    policy = send.terms.settings.spill
    moved = spilled(request.messages, policy) if policy is not None else []
    if policy is None or not moved:
        return
    folder = folder_of(send.session_id, policy.dir, workspace_of(send))
    try:
        await send.ports.threads.run(lambda: write(folder, moved))
    except OSError as error:  # a full disk fails no send: the results are shown as they are
        log.warning("session %s: results could not be moved to %s: %s", send.session_id, folder, error)
        return
    messages = list(request.messages)
    for each in moved:
        messages[each.at] = pointed(messages[each.at], str(folder / file_name(each.text)))
    request.messages = messages


def workspace_of(send: Send) -> Any:
    """Where the tools of this send work, if anybody said so."""
    base = send.terms.tool_run
    return getattr(base.env, "workspace_dir", None) if base is not None else None


def folder_of(session_id: str, folder: Any, workspace: Any) -> Path:
    """The session's own folder: two sessions never share one, whatever their names."""
    place = Path(folder) if folder is not None else Path(workspace or os.getcwd()) / FOLDER
    return place / quote(session_id, safe="").replace(".", "%2E")


def file_name(text: str) -> str:
    """Made of the content: the same content is the same file, and no other one is overwritten."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() + ".txt"


def write(folder: Path, moved: Sequence[Spilled]) -> None:
    """Write what is not there yet; a file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in moved:
        path = folder / file_name(each.text)
        if path.exists():
            continue
        draft = folder / f".{path.name}.{os.getpid()}"
        draft.write_bytes(each.text.encode("utf-8", "surrogatepass"))
        os.replace(draft, path)
