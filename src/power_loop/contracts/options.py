"""What somebody who is asked may choose from: texts, other plain JSON, or mappings with an ``id``, a ``label``, a ``description``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast


def checked_options(given: Any) -> list[Any]:
    """``given`` as a list. Raises `TypeError` where it is none, or one of it could be neither shown nor chosen."""
    if given is None:
        return []
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        raise TypeError(f"options= takes a list of texts, or of mappings with id and label; not {given!r:.200}")
    options = list(cast("Iterable[Any]", given))
    for option in options:
        if option is None or option in ("", {}, []):
            raise TypeError(f"options= has {option!r:.200}; an option is a text, or a mapping with id and label")
    return options


def answer_of(option: Any) -> Any:
    """What is answered where it is chosen: its id, else its label, else the option as it is."""
    named = _named(option, "id", "label")
    return option if named is None else named


def label_of(option: Any) -> str:
    """What it is called."""
    named = _named(option, "label", "id")
    return str(named) if named is not None else option if isinstance(option, str) else json.dumps(option, default=str)


def option_line(option: Any) -> str:
    """Its label, with the id where that is another, and with what is said about it."""
    label, answer, about = label_of(option), answer_of(option), _named(option, "description")
    own = f" ({answer})" if str(answer) != label and not isinstance(answer, Mapping) else ""
    return f"{label}{own}" + (f": {about}" if about else "")


def chosen(options: Sequence[Any], typed: str) -> Any:
    """What ``typed`` answers: that of the option with this id, or else this label; the text itself where there is none."""
    by_id = {str(answer_of(option)): answer_of(option) for option in options}
    by_label = {label_of(option): answer_of(option) for option in options}
    return {**by_label, **by_id}.get(typed.strip(), typed)


def _named(option: Any, *names: str) -> Any:
    """The first of ``names`` that says something in ``option``, if it is a mapping; else None."""
    held = cast("Mapping[str, Any]", option) if isinstance(option, Mapping) else dict[str, Any]()
    return next((held[name] for name in names if held.get(name) not in (None, "")), None)
