"""A representation of a host that gives no projection: the send stays as it was said, and whoever runs it reads why."""

from __future__ import annotations

from typing import Any

import pytest

from power_loop import ProjectedRepresentation, ProjectedRow, ProjectedSend
from power_loop.testing import say


class Given(ProjectedRepresentation):
    """Projects each send as ``given``."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given

    def project_send(self, send_rows: Any, *, send_index: int, tool_registry: Any) -> Any:
        return self.given


@pytest.mark.parametrize("given", [None, "a text", ProjectedSend(rows=[])], ids=["nothing", "a text", "no row"])
async def test_what_is_no_projection_leaves_the_send_as_it_was_said(desk: Any, caplog: pytest.LogCaptureFixture, given: Any) -> None:
    desk.answers(lambda _: say("fine"))
    loop = desk.loop(representation=Given(given))
    session = await loop.new_session()
    for text in ("one", "two"):
        assert (await loop.send(text, session)).status == "completed"
    assert [message["content"] for message in desk.requests[-1].messages] == ["one", "fine", "two"]
    assert "project_send() gives a ProjectedSend with rows" in caplog.text


@pytest.mark.parametrize("row", [ProjectedRow("user", "c", 5), ProjectedRow(None, "c", "t")], ids=["text", "kind"])
async def test_a_row_that_is_no_text_leaves_the_send_as_it_was_said(desk: Any, caplog: pytest.LogCaptureFixture, row: Any) -> None:
    loop = desk.loop(representation=Given(ProjectedSend([row])))
    session = await loop.new_session()
    for text in ("one", "two"):
        assert (await loop.send(text, session)).status == "completed"
    assert [message["content"] for message in desk.requests[-1].messages] == ["one", "fine", "two"]
    assert "kind and rendered_text of a ProjectedRow are text" in caplog.text
