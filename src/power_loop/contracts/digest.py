"""What a request was, as 16 characters: the same request has the same digest, in any process.

The messages come first, because they are the growing prefix: whoever keeps the chain over them adds one message
and copies the chain, instead of hashing the history again. Then the head (system prompt, model, tools), which
seldom changes, then what differs from call to call. Bookkeeping (ids, reason, callbacks) does not count.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

from power_loop.contracts.json_text import writer
from power_loop.contracts.messages import Message
from power_loop.contracts.model import LLMRequest

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_BYTES = 12  # 16 characters of base64, without padding


def _type_name(value: object) -> str:
    # An output type in `response_format` has no JSON; its name is the same in every process, its repr is not.
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


_encode = writer(sort_keys=True, default=_type_name)


def _bytes_of(value: Any) -> bytes:
    # Lone surrogates come out of models' JSON; they have no UTF-8, but a digest needs only the same bytes each time.
    return _encode(value).encode("utf-8", "surrogatepass")


def closing(request: LLMRequest) -> bytes:
    """What closes the chain over the messages; a caller may keep it for requests that differ in nothing else."""
    head = [request.system_prompt, request.model, request.tools or None]
    temperature = None if request.temperature is None else float(request.temperature)  # 0 and 0.0 ask the same
    settings = [temperature, request.max_tokens, request.tool_choice, request.response_format, request.extra]
    return blake2b(_bytes_of([head, settings]), digest_size=_BYTES).digest()


class RequestDigest:
    """A chain over the messages, closed by what else is in the request."""

    __slots__ = ("_chain",)

    def __init__(self) -> None:
        self._chain = blake2b(digest_size=_BYTES)

    def add(self, messages: Iterable[Message]) -> None:
        """Add the next messages."""
        _lengthen(self._chain, messages)

    def text(self, tail: Sequence[Message] = (), closing: bytes = b"") -> str:
        """The digest of what was added so far, with ``tail`` behind and ``closing`` at the end; the chain goes on without them."""
        chain = self._chain.copy()
        if tail:
            _lengthen(chain, tail)
        chain.update(closing)
        return b2a_base64(chain.digest(), newline=False).translate(_URL_SAFE).decode("ascii")


def _lengthen(chain: blake2b, messages: Iterable[Message]) -> None:
    for message in messages:
        content = message.get("content")
        if len(message) == 2 and isinstance(content, str):  # the common one, in a form that no JSON text begins with
            chain.update(f"{message.get('role')}:{len(content)}:{content}".encode("utf-8", "surrogatepass"))
        else:
            chain.update(_bytes_of(message))


def request_digest(request: LLMRequest) -> str:
    """The digest of ``request``; the same as of a chain kept over its messages, with head and settings added."""
    return RequestDigest().text(request.messages, closing(request))
