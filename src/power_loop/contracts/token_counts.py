"""Tokens counted by tiktoken, for hosts that ask for it by a model's name. Extra ``tokens``, loaded when somebody asks.

tiktoken reads its vocabularies from the network, or from the folder that ``TIKTOKEN_CACHE_DIR`` names. Where neither has the
one that is needed, nothing is raised: one line in the log says so, and texts are estimated as they are without the extra.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from power_loop.contracts.log import log

if TYPE_CHECKING:
    from tiktoken import Encoding


def counted(text: str, model: str) -> int | None:
    """How many tokens ``text`` has for this model of OpenAI's; None where nobody here can say."""
    encoding = _encoding(model)
    if encoding is None:
        return None
    try:
        # What looks like a control token is text here, and half a surrogate pair is as long as its replacement.
        return len(encoding.encode_ordinary(text.encode("utf-8", "replace").decode("utf-8")))
    except Exception as error:  # tiktoken's own code; its matcher gives up on some very long texts
        log.debug("tiktoken did not take a text of %d characters: %s", len(text), error)
        return None


@cache
def _encoding(model: str) -> Encoding | None:
    """Looked for once per model: a network that is away is not asked again at every message."""
    try:
        import tiktoken

        return tiktoken.encoding_for_model(model)
    except Exception as error:  # not installed, no such model, no network: whatever tiktoken and its client raise
        log.warning("tokens for the model %r are estimated, tiktoken cannot count them: %s: %s", model, type(error).__name__, error)
        return None
