"""Attachments and pictures, as blocks that a given model can take; where it cannot, a visible note stands in.

An attachment block holds ``path``, ``filename``, ``mime_type``, ``kind`` (``image``, ``pdf``, ``other``) and, once its bytes
were read, ``data`` (base64); a PDF may also hold its ``text``. A type or kind that is left out is told by the name. Whoever
stores a block has its bytes read with it (`with_data`, `kept`). Reading and extracting block, so call it off the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from power_loop.contracts.messages import Content, Message

if TYPE_CHECKING:
    from power_loop.contracts.model import ModelCapabilities

# Longer extracts crowd out the conversation; the note says how much is missing.
PDF_TEXT_CHARS = 24_000

UNREADABLE = "the file cannot be read"

Block = dict[str, Any]


def render(message: Message, capabilities: ModelCapabilities) -> Message:
    """``message`` with every block in a form for this model; the same object when there is nothing to do."""
    content: Content | None = message.get("content")
    if content is None or isinstance(content, str) or not needs_rendering(message):
        return message
    return {**message, "content": [_block(block, capabilities) for block in content]}


def needs_rendering(message: Mapping[str, Any]) -> bool:
    """Whether ``message`` holds anything but text."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return False
    return any(block.get("type") in ("attachment", "image_url") for block in cast("Sequence[Block]", content))


# --- when it is said ---------------------------------------------------------------------


def with_data(attachment: Mapping[str, Any]) -> Block:
    """``attachment`` with its bytes, read now unless it has them. Raises `ValueError` naming a file that cannot be read."""
    if isinstance(attachment.get("data"), str) or not attachment.get("path"):
        return dict(attachment)
    path = attachment["path"]
    try:
        data = Path(str(path)).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise ValueError(f"the attachment {path!r} cannot be read: {why or error}") from error
    return {**attachment, "data": base64.b64encode(data).decode("ascii")}


async def kept(content: Content) -> Content:
    """``content`` with the bytes of its files, so that one that moves later changes nothing; a note for one that cannot be read."""
    if isinstance(content, str) or all(block.get("type") != "attachment" for block in content):
        return content
    return await asyncio.to_thread(lambda: [_kept(block) for block in content])


def _kept(block: Block) -> Block:
    attachment: Any = block.get("attachment")
    if block.get("type") != "attachment" or not isinstance(attachment, Mapping):
        return block
    try:
        return {**block, "attachment": with_data(cast("Mapping[str, Any]", attachment))}
    except ValueError:
        return note(cast("Mapping[str, Any]", attachment), UNREADABLE)


# --- when it is shown --------------------------------------------------------------------


def _block(block: Block, capabilities: ModelCapabilities) -> Block:
    match block.get("type"):
        case "attachment":
            return _attachment(cast("Mapping[str, Any]", block.get("attachment") or {}), capabilities)
        case "image_url":
            return _image_url(block, capabilities)
        case _:
            return block


def _attachment(attachment: Mapping[str, Any], capabilities: ModelCapabilities) -> Block:
    match attachment.get("kind") or _kind_of(mime_type(attachment)):
        case "image":
            return _image(attachment, capabilities)
        case "pdf":
            return _pdf(attachment, capabilities)
        case _:
            return note(attachment, "this kind of file is not shown to the model")


def mime_type(attachment: Mapping[str, Any]) -> str | None:
    """As it says, else by its name."""
    given = attachment.get("mime_type")
    if isinstance(given, str) and given:
        return given
    from mimetypes import guess_type  # slow to import, and most conversations hold no files

    return guess_type(_name_of(attachment))[0]


def _kind_of(mime_type: str | None) -> str:
    if mime_type == "application/pdf":
        return "pdf"
    return "image" if (mime_type or "").startswith("image/") else "other"


# --- pictures --------------------------------------------------------------------------


def _image_url(block: Block, capabilities: ModelCapabilities) -> Block:
    inner: Any = block.get("image_url")
    url = str(cast("Mapping[str, Any]", inner).get("url", "") if isinstance(inner, Mapping) else inner or "")
    inline = url.startswith("data:")
    if capabilities.image_input is not False and not (inline and capabilities.data_url is False):
        return block
    shown = f"{url.partition(';')[0].removeprefix('data:')}, {len(url) * 3 // 4} bytes" if inline else url
    return _text(f"[image ({shown}): not shown, this model takes no {'inline ' if capabilities.image_input is not False else ''}images]")


def _image(attachment: Mapping[str, Any], capabilities: ModelCapabilities) -> Block:
    if capabilities.image_input is False:
        return note(attachment, "not shown, this model takes no images")
    if capabilities.data_url is False:
        return note(attachment, "not shown, this model takes images by address only")
    data = _base64_of(attachment)
    if data is None:
        return note(attachment, UNREADABLE)
    return {"type": "image_url", "image_url": {"url": f"data:{mime_type(attachment) or 'image/png'};base64,{data}"}}


# --- PDF -------------------------------------------------------------------------------


def _pdf(attachment: Mapping[str, Any], capabilities: ModelCapabilities) -> Block:
    text: Any = attachment.get("text")
    data = _base64_of(attachment) if capabilities.pdf_input or not text else None
    if capabilities.pdf_input and data is not None:
        name = attachment.get("filename") or "document.pdf"
        return {"type": "file", "file": {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}}
    document = _decoded(data)
    if not text and document is None:
        return note(attachment, UNREADABLE)
    text = text or pdf_text(document or b"")
    if not text:
        return note(attachment, "its text cannot be extracted (pip install 'power-loop[pdf]' for PDF with a text layer)")
    return _text(f"[{_named(attachment)}: text]\n{_bounded(text)}")


def _decoded(data: str | None) -> bytes | None:
    """The bytes; None where there are none, or what is there is no base64."""
    try:
        return None if data is None else base64.b64decode(data)
    except ValueError:
        return None


def pdf_text(data: bytes) -> str | None:
    """The text of a PDF, None where there is none or the extra ``pdf`` is missing."""
    try:
        from pypdf import PdfReader
    except ImportError:
        return None
    try:
        return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(data)).pages).strip() or None
    except Exception:  # pypdf on a file from anywhere: a broken document is shown as a note
        return None


def _bounded(text: str) -> str:
    if len(text) <= PDF_TEXT_CHARS:
        return text
    return f"{text[:PDF_TEXT_CHARS]}\n[… {len(text) - PDF_TEXT_CHARS} more characters are not shown]"


# --- notes and bytes ---------------------------------------------------------------------


def note(attachment: Mapping[str, Any], why: str) -> Block:
    """A text block that stands for a file the model does not see."""
    return _text(f"[{_named(attachment)}: {why}]")


def _named(attachment: Mapping[str, Any]) -> str:
    size = _size(attachment)
    details = [mime_type(attachment) or "unknown type", *([] if size is None else [f"{size} bytes"])]
    return f"attachment {_name_of(attachment)} ({', '.join(details)})"


def _name_of(attachment: Mapping[str, Any]) -> str:
    return str(attachment.get("filename") or Path(str(attachment.get("path") or "file")).name)


def _size(attachment: Mapping[str, Any]) -> int | None:
    data: Any = attachment.get("data")
    if isinstance(data, str):
        return len(data) * 3 // 4 - data[-2:].count("=")
    try:
        return Path(str(attachment["path"])).stat().st_size
    except (KeyError, OSError):
        return None


def _base64_of(attachment: Mapping[str, Any]) -> str | None:
    try:
        data = with_data(attachment).get("data")
    except ValueError:
        return None
    return data if isinstance(data, str) else None


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
