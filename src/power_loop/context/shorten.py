"""Tool results shown shorter than they are stored: head and tail, and how to get at the rest. Pure."""

from __future__ import annotations

from power_loop.contracts.messages import Content, Message, text_of

LEFT_OUT = "\n[… {missing} characters of this result are not shown any more; recall_output or recall_compacted reads them …]\n"
NOT_SHOWN = "[a picture or file of this result is not shown any more]"


def shortened(message: Message, chars: int) -> Message:
    """``message`` with a tool result of at most ``chars`` characters of text; all other messages as they are."""
    if message.get("role") != "tool" or not is_longer(message["content"], chars):
        return message
    text = text_of(message["content"])
    if not isinstance(message["content"], str) and any(block.get("type") != "text" for block in message["content"]):
        text = f"{text}\n{NOT_SHOWN}".lstrip("\n")
    return {**message, "content": ends_of(text, chars)}


def is_longer(content: Content, chars: int) -> bool:
    """There is more in it than ``chars`` characters of text. A short text with its marker would be no shorter."""
    return len(content) > chars + len(LEFT_OUT) + 8 if isinstance(content, str) else bool(content)


def ends_of(text: str, chars: int) -> str:
    """About ``chars`` characters of ``text``, two thirds of them its head, with a marker in place of the rest."""
    missing = len(text) - chars
    if missing <= len(LEFT_OUT):
        return text
    tail = chars // 3
    return text[: chars - tail] + LEFT_OUT.format(missing=missing) + text[len(text) - tail :]


def one_line(value: object, chars: int) -> str:
    """``value`` on one line of at most ``chars`` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= chars else text[: max(0, chars - 1)] + "…"
