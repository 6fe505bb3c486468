"""What may happen to a send, at every gap of it: whatever it is, everything is in its place afterwards."""

from __future__ import annotations

import pytest

from power_loop.testing.faults import kill
from power_loop.testing.sweep import STRIKES, at_every_gap, cancel, cancel_the_task, enqueue, follow_up, take_over
from power_loop.testing.talk import HOOK_POINTS


def name_of(strike):
    return strike.__name__


# acceptance: 185 (each kind of fault at every gap)
@pytest.mark.parametrize("strike", STRIKES, ids=name_of)
def test_a_send_that_is_struck_at_any_gap_comes_to_rest_with_everything_in_its_place(strike):
    assert at_every_gap(strike).check().seeds > 25


# acceptance: 185 (each kind of fault at every gap, with handlers)
@pytest.mark.parametrize("strike", [kill, take_over, enqueue, follow_up, cancel, cancel_the_task], ids=name_of)
def test_the_same_with_a_handler_at_every_hook(strike):
    assert at_every_gap(strike, HOOK_POINTS).check().seeds > 70
