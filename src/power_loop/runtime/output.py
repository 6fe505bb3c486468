"""The answer of a send that asked for a form: is it of that form, and what value is it?

What is wrong is told to the model, so many times; what follows is decided in `kernel.decide`. Nothing is remembered of a
look: a process that goes on after a crash reads the stored answer again, and pays for none.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from power_loop.contracts.effects import CheckOutput, EndSend
from power_loop.contracts.errors import ModelRetry, StructuredOutputError
from power_loop.contracts.log import log
from power_loop.kernel.decide import after_check
from power_loop.runtime.end_send import end_send, ground_of
from power_loop.runtime.send import Send

if TYPE_CHECKING:
    from power_loop.contracts.structured import OutputForm

Validators = Sequence[Callable[[Any], Any]]

# One mistake that a model repeats in a long list is as many violations: these are enough to learn it from, whatever their names.
MOST_LINES, LINE_CHARS = 50, 1000


async def check_output(send: Send, effect: CheckOutput) -> None:
    """Look at the answer: the send ends with it, or the model is told what is wrong, or it ends as ``invalid_output``.

    Validators are the host's: they see nothing that is not durable, and what else than `ModelRetry` they raise is raised.
    """
    form, validators, text = send.terms.output, send.terms.settings.output_validators, send.ahead.text
    assert form is not None, "nobody asked for a form"
    if validators:
        ground = ground_of(send)
        await send.flush()
        if ground != ground_of(send):  # something was heard, or may be: there is more to say
            return
    words: str | None = None
    reason = ""
    try:
        send.output = (text, await value_of(form, validators, text))
    except ModelRetry as asked:
        words = reason = asked.message
    except StructuredOutputError as error:
        words, reason = complaint(error, cut_off=send.ahead.finish_reason == "length"), "\n".join(in_brief(str(error)))
    follows = after_check(send.ahead, send.terms.limits, words, reason)
    if isinstance(follows, EndSend):
        await end_send(send, follows)
    else:
        await send.say(follows)


async def value_of(form: OutputForm, validators: Validators, text: str) -> Any:
    """The value that ``text`` is, as the validators leave it. Raises `StructuredOutputError`, and what they raise."""
    value = form.read(text)
    for validate in validators:
        value = await _called(validate, value)
    return value


async def output_of(send: Send, text: str) -> Any:
    """The value of the answer that the send is completed with; a handler may have ended it with one that nobody looked at."""
    if send.output is not None and send.output[0] == text:
        return send.output[1]
    assert send.terms.output is not None, "nobody asked for a form"
    return await recalled(send.terms.output, send.terms.settings.output_validators, text)


async def recalled(form: OutputForm, validators: Validators, text: str) -> Any:
    """The value of an answer that a send ended with earlier; None where it is none. Nothing is judged again."""
    try:
        value = form.read(text)
    except StructuredOutputError:
        return None
    for validate in validators:
        try:
            value = await _called(validate, value)
        except ModelRetry:
            continue
        except Exception:  # the host's own code; the send is over, and what came of it stands
            log.warning("a validator raised at the answer of a send that is over", exc_info=True)
            return None
    return value


async def _called(validate: Callable[[Any], Any], value: Any) -> Any:
    made = validate(value)
    return await made if inspect.isawaitable(made) else made


def complaint(error: StructuredOutputError, *, cut_off: bool = False) -> str:
    """What the model reads about an answer that is not of the form."""
    match error.reason:
        case "no_json":
            what = "there is no JSON document in it"
        case "invalid_json":
            what = f"its JSON cannot be read: {error.detail}" + (" (it was cut off: be brief)" if cut_off else "")
        case "not_object":
            what = error.detail
        case _:
            what = "it breaks the schema:\n" + "\n".join(f"- {line}" for line in in_brief(error.detail))
    return f"Your answer is not what was asked for: {what}\nAnswer again with the whole document, and nothing else."


def in_brief(text: str) -> list[str]:
    """The first lines of ``text``, each cut short, and how many there are beside them."""
    lines = text.splitlines()
    told = [line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…" for line in lines[:MOST_LINES]]
    return told if len(lines) <= MOST_LINES else [*told, f"… and {len(lines) - MOST_LINES} more"]
