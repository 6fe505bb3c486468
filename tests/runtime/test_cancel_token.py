"""`CancellationToken`: whoever listens is told, whatever becomes of the others who do."""

from __future__ import annotations

import asyncio

import pytest

from power_loop import CancellationToken


def raising(_: str) -> None:
    raise ZeroDivisionError("from a listener")


def test_a_listener_that_raises_keeps_the_cancel_from_no_other(caplog: pytest.LogCaptureFixture) -> None:
    token, heard = CancellationToken(), []
    token.on_cancel(raising)
    token.on_cancel(heard.append)
    token.cancel("enough")
    assert heard == ["enough"]
    assert [record.getMessage() for record in caplog.records] == ["a listener of a cancellation raised; the work is cancelled all the same"]


def test_who_waited_in_an_event_loop_that_is_closed_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    token, heard, loop = CancellationToken(), [], asyncio.new_event_loop()
    waiting = loop.create_task(token.wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    token.on_cancel(heard.append)
    token.cancel("enough")
    assert heard == ["enough"]
    assert caplog.records == []
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # it was left pending on purpose


def test_a_joined_token_is_cancelled_by_the_first_of_its_own_and_tells_who_listens() -> None:
    for cancelled in (0, 1):
        sources, heard = [CancellationToken(), CancellationToken()], []
        joined = CancellationToken.any_of(*sources)
        joined.on_cancel(heard.append)
        sources[cancelled].cancel(f"by {cancelled}")
        assert heard == [f"by {cancelled}"]
        assert (joined.is_cancelled(), joined.reason) == (True, f"by {cancelled}")


def test_a_joined_token_that_nobody_listens_to_knows_it_all_the_same() -> None:
    source = CancellationToken()
    asked, named, late = source.child(), source.child(), source.child()
    source.cancel("enough")
    assert asked.is_cancelled()
    assert named.reason == "enough"
    heard: list[str] = []
    late.on_cancel(heard.append)
    assert heard == ["enough"]


def test_a_child_that_is_cancelled_leaves_its_parent_alone() -> None:
    parent = CancellationToken()
    child = parent.child()
    child.cancel("by itself")
    assert (child.reason, parent.is_cancelled()) == ("by itself", False)


def test_a_token_for_a_whole_process_keeps_nobody_who_followed_it() -> None:
    shutdown, heard = CancellationToken(), []
    for _ in range(10):
        forget = [CancellationToken.any_of(shutdown, CancellationToken()).on_cancel(heard.append) for _ in range(3)]
        for each in forget:
            each()
    kept = shutdown.child()
    kept.on_cancel(heard.append)
    kept.cancel("over")
    assert heard == ["over"]
    assert shutdown._listeners == []


async def test_a_joined_token_whose_source_has_to_be_asked_is_asked() -> None:
    stop = asyncio.Event()
    joined = CancellationToken.any_of(CancellationToken(), CancellationToken.from_any(stop))
    assert joined.polled
    stop.set()
    assert await asyncio.wait_for(joined.wait(), 100) == "cancelled"


def test_the_first_reason_stands_though_nobody_listened_to_it() -> None:
    source = CancellationToken()
    child = source.child()
    source.cancel("shutdown")
    child.cancel("too late")
    assert child.reason == "shutdown"


def test_a_token_that_follows_one_that_is_cancelled_already_is_known_to_no_other() -> None:
    done, shutdown, heard = CancellationToken(), CancellationToken(), []
    done.cancel("done")
    CancellationToken.any_of(done, shutdown).on_cancel(heard.append)
    CancellationToken.any_of(shutdown, done).on_cancel(heard.append)
    assert heard == ["done", "done"]
    assert shutdown._listeners == []


def test_who_begins_to_listen_while_the_last_one_leaves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source, heard = CancellationToken(), []
    joined = source.child()
    forget = joined.on_cancel(heard.append)
    monkeypatch.setattr(source, "_forget", lambda listener: [joined.on_cancel(heard.append), CancellationToken._forget(source, listener)])
    forget()
    monkeypatch.undo()
    source.cancel("enough")
    assert heard == ["enough"]
