"""Bytes as text and back: which files are text, in which encoding, and their line endings.

What was not changed comes back byte for byte, valid or not.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

# A file is text unless this much of its beginning holds a NUL byte.
SNIFFED_BYTES = 8192

# The longer marks first: UTF-32's begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Encoding(NamedTuple):
    """How a file's text is written."""

    codec: str = "utf-8"
    mark: bytes = b""
    """Its byte-order mark, if it has one."""

    @property
    def errors(self) -> str:
        """How bytes that are no text survive the way to text and back."""
        return "surrogateescape" if self.codec == "utf-8" else "surrogatepass"


def encoding_of(head: bytes) -> Encoding | None:
    """How the file that begins with ``head`` is written; None when it is no text."""
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return Encoding(codec, mark)
    return None if b"\0" in head[:SNIFFED_BYTES] else Encoding()


class NotText(ValueError):
    """These bytes are no text that could be changed and written back as it was."""


class Text(NamedTuple):
    """A file's text, with everything that is needed to write it back."""

    body: str
    encoding: Encoding = Encoding()

    @classmethod
    def of(cls, data: bytes) -> Text:
        """Raises `NotText`."""
        encoding = encoding_of(data[:SNIFFED_BYTES])
        if encoding is None:
            raise NotText("it is a binary file")
        try:
            text = cls(data[len(encoding.mark) :].decode(encoding.codec, encoding.errors), encoding)
            if text.encoded() == data:
                return text
        except UnicodeError:
            pass
        raise NotText(f"it is not valid {encoding.codec.upper()}")

    def encoded(self) -> bytes:
        return self.encoding.mark + self.body.encode(self.encoding.codec, self.encoding.errors)

    @property
    def newline(self) -> str:
        """The line ending that most lines have."""
        carried = self.body.count("\r\n")
        return "\r\n" if carried * 2 > self.body.count("\n") else "\n"


def clean(text: str) -> str:
    """``text`` for showing: what stands in for bytes that are no text becomes U+FFFD."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)
