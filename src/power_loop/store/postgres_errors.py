"""What PostgreSQL's errors mean to someone who runs an agent: what happened, where, and the way out; never a password."""

from __future__ import annotations

from power_loop.contracts.errors import StoreRefused, StoreUnavailable
from power_loop.store.postgres_driver import code_of

# SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html) → what to do about it.
_WAYS_OUT = {
    "08P01": "it does not speak as expected, perhaps a pooler stands in between",
    "22001": "a value is longer than its column takes",
    "22P05": "its encoding does not have this character; make a database with ENCODING 'UTF8'",
    "25006": "it is set to read only; is it a standby?",
    "26000": "a pooler stands in between that shares sessions; put statement_cache_size=0 into the DSN",
    "28000": "it refused the user",
    "28P01": "it refused the user or the password",
    "3D000": "there is no database of this name; create it, or check the name",
    "42501": "this user lacks a right; grant it, or have a privileged user run the schema's script",
    "40001": "others changed the same rows again and again",
    "40P01": "others were given way again and again",
    "53100": "its disk is full; free some space there and repeat it",
    "53300": "it takes no more connections; lower pool_max, or raise the server's max_connections",
    "55P03": "others held the rows for too long (lock_timeout)",
    "57014": "the statement ran into the time limit (statement_timeout), or an administrator stopped it",
    "57P01": "an administrator ended the connection",
    "57P02": "the server crashed and is starting again",
    "57P03": "it is starting up or shutting down",
}

# Data that it does not take; more than it can hold.
_REFUSED = ("22", "54")

DUPLICATE_KEY = "23505"
NO_SUCH_CHARACTER = "22021"
NOT_SUCH_A_VALUE = "22000"
"""Of the driver; the server has narrower words."""

NOT_AN_INTEGER = "22P02"

# The transaction was chosen to give way; it was undone as a whole, and may be tried again as a whole.
AGAIN = frozenset(("40001", "40P01"))


def unavailable(place: str, error: BaseException, state: str) -> StoreUnavailable:
    """``state`` says what is certain: `NOT_WRITTEN` or `NOT_READ`."""
    kind = StoreRefused if code_of(error)[:2] in _REFUSED else StoreUnavailable
    told = kind(f"PostgreSQL at {place}: {reason(error)}; {state}")
    told.__cause__ = error
    return told


def reason(error: BaseException) -> str:
    """What happened, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer came in time"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody answers there; check host and port, and that the server runs ({error})"
    code, text = code_of(error), str(error) or type(error).__name__
    return f"{_WAYS_OUT[code]} ({text}; {code})" if code in _WAYS_OUT else f"{text} ({code})" if code else text
