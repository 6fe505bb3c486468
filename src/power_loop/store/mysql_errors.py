"""What MySQL's errors mean to someone who runs an agent: what happened, where, and the way out; never a password.

Numbers below 2000 and above 3000 come from the server (dev.mysql.com/doc/mysql-errors, mariadb.com/kb/en/mariadb-error-codes),
those between from the client.
"""

from __future__ import annotations

import ssl

from power_loop.contracts.errors import StoreRefused, StoreUnavailable

DUPLICATE_KEY = 1062
LOCK_WAIT = 1205
DUPLICATE_COLUMN = 1060

# The transaction was chosen to give way, or waited too long, or saw a table change: as a whole it may be tried again.
# A lock wait that timed out undoes only its statement, so whoever tries again must roll back first.
AGAIN = frozenset((1020, 1205, 1213, 1412))

# A value that is too long, out of range, or of characters that the column does not have; a statement that is too long.
_REFUSED = frozenset((1153, 1264, 1301, 1366, 1406))

_WAYS_OUT = {
    1040: "it takes no more connections; lower pool_max, or raise the server's max_connections",
    1044: "this user may not use this database; check user and database name",
    1045: "it refused the user or the password",
    1049: "there is no database of this name; create it, or check the name",
    1053: "it is shutting down",
    1130: "it accepts no connections from this machine for this user",
    1142: "this user lacks a right; grant it, or have a privileged user run the schema's script",
    1153: "the statement is longer than the server accepts; raise max_allowed_packet there",
    1205: "others held the rows for too long",
    1213: "others were given way again and again",
    1251: "it asks for a way to log in that the driver does not know",
    1290: "it is set to read only",
    1317: "the statement was interrupted by an administrator",
    1698: "it refused the user or the password",
    1792: "it is set to read only (transaction_read_only)",
    1836: "it is set to read only",
    1927: "an administrator ended the connection",
    2003: "nobody answers there; check host and port, and that the server runs",
    2059: "it asks for a way to log in that the driver does not know",
    3024: "the statement ran into the server's time limit (max_execution_time)",
    1969: "the statement ran into the server's time limit (max_statement_time)",
}  # fmt: skip


def code_of(error: BaseException) -> int:
    """The error's number; 0 when it has none, because the driver or the system raised it."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) and not isinstance(error, OSError) else 0


def unavailable(place: str, error: BaseException, state: str) -> StoreUnavailable:
    """``state`` says what is certain: `NOT_WRITTEN` or `NOT_READ`."""
    kind = StoreRefused if code_of(error) in _REFUSED else StoreUnavailable
    told = kind(f"MySQL at {place}: {reason(error)}; {state}")
    told.__cause__ = error
    return told


def reason(error: BaseException) -> str:
    """What happened, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer came in time"
    if isinstance(error.__cause__, ssl.SSLError):
        return f"no encryption was agreed upon; see ssl_ca, ssl_verify and the server's certificate ({_text(error.__cause__)})"
    code, text = code_of(error), _text(error)
    if code == 2003 and "TLS" in text:
        return text
    if code == 2003 and error.__cause__ is not None:
        text = _text(error.__cause__)
    return f"{_WAYS_OUT[code]} ({code}: {text})" if code in _WAYS_OUT else text


def _text(error: BaseException) -> str:
    if code_of(error) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__
