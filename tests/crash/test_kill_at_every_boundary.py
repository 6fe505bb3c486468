"""A real process is killed with ``kill -9`` at every boundary of a send of three rounds with two parallel calls each.

Then another process goes on. One fork for each death and one for each successor; the parent looks in between.
"""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest

ALL_CALLS = ["0.0", "0.1", "1.0", "1.1"]


class Death:
    """One killed process and its successor: what was stored when it died, what is stored now, what happened outside."""

    def __init__(self, case, processes, effects, at):
        self.case = case(f"{effects}{at}")
        ended = processes.run(self.case.job("send", effects=effects, die_at=at))
        assert ended == [-signal.SIGKILL]
        (self.where,) = [told["where"] for told in self.case.told("deaths")]
        self.name = f"{effects}, killed at boundary {at}, {self.where}"
        self.before, self.effects_before, self.asked_before = self.look(), self.effects(), len(self.case.told("model"))
        assert processes.run(self.case.job("go_on", effects=effects)) == [0], self.name
        self.after = self.look()

    def look(self):
        """(kind, call id, what its body says) of every record, and the results by argument."""
        found = self.case.rows("SELECT kind, call_id, content, body, tool_calls FROM pl_records ORDER BY seq")
        calls, results, begun = {}, {}, set()
        for kind, call_id, content, body, asked in found:
            for call in json.loads(asked or "[]"):
                calls[call["id"]] = json.loads(call["function"]["arguments"])["n"]
            if kind == "tool_started":
                begun.add(calls[call_id])
            if kind == "tool_returned":
                assert calls[call_id] not in results, f"{self.name}: answered twice"
                results[calls[call_id]] = (json.loads(body or "{}").get("outcome", "ok"), content)
        return {"kinds": [row[0] for row in found], "results": results, "begun": begun}

    def effects(self):
        return Counter(told["n"] for told in self.case.told("effects"))

    def told_keys(self):
        return {(told["n"], told["key"]) for told in self.case.told("effects")}

    def in_the_middle(self):
        """Calls that had begun, as the store knew, and had no result."""
        return self.before["begun"] - set(self.before["results"])


@pytest.fixture(scope="module")
def boundaries(processes, case):
    """How many there are in an undisturbed send of this effect class."""

    def count(effects):
        whole = case("whole")
        assert processes.run(whole.job("send", effects=effects)) == [0]
        return int((whole.folder / "boundaries").read_text())

    return {effects: count(effects) for effects in ("pure", "idempotent", "once")}


def check_what_holds_for_all(death):
    """A stored result stands as it was, a stored reply is not paid for again, and the send ends with its answer."""
    name = death.name
    assert [told["found"] for told in death.case.told("violations")] == [[]], name
    assert death.after["kinds"][-1] == "send_ended", name
    assert sorted(death.after["results"]) == ALL_CALLS, name
    for n, result in death.before["results"].items():
        assert death.after["results"][n] == result, f"{name}: the result of {n} changed"
        assert death.effects()[n] == death.effects_before[n], f"{name}: {n} was finished and ran again"
    assert "failed" not in {outcome for outcome, _ in death.after["results"].values()}, name
    stored = death.before["kinds"].count("model_replied")
    asked = len(death.case.told("model"))
    assert asked == 3 + (death.asked_before - stored), f"{name}: {asked} model calls, {stored} of {death.asked_before} were stored"
    assert death.asked_before - stored <= 1, name


# acceptance: 120, 124, 36 (a killed process), 185 (real processes)
def test_a_call_that_may_happen_once_is_unknown_exactly_when_it_began_and_has_no_result(case, processes, boundaries):
    between_the_two = 0
    for at in range(1, boundaries["once"] + 1):
        death = Death(case, processes, "once", at)
        check_what_holds_for_all(death)
        assert max(death.effects().values()) == 1, f"{death.name}: {death.effects()}"
        unknown = {n for n, (outcome, _) in death.after["results"].items() if outcome == "unknown"}
        assert unknown == death.in_the_middle(), death.name
        assert all("may or may not have taken effect" in death.after["results"][n][1] for n in unknown), death.name
        assert all(death.effects()[n] == 1 for n in set(ALL_CALLS) - unknown), death.name
        between_the_two += "0.0" in death.before["results"] and "0.1" in unknown
    assert between_the_two, "no death fell between two parallel calls, of which one had finished"


# Of pure calls a third of the boundaries: they differ from idempotent ones in nothing but their names.
STEPS = {"idempotent": 1, "pure": 3}


# acceptance: 121, 123 (a restart)
@pytest.mark.parametrize("effects", STEPS)
def test_a_call_that_may_be_repeated_runs_again_with_an_equal_key(case, processes, boundaries, effects):
    for at in range(1, boundaries[effects] + 1, STEPS[effects]):
        death = Death(case, processes, effects, at)
        check_what_holds_for_all(death)
        assert {outcome for outcome, _ in death.after["results"].values()} == {"ok"}, death.name
        unfinished = set(ALL_CALLS) - set(death.before["results"])
        expected = {n: death.effects_before[n] + (n in unfinished) for n in ALL_CALLS}
        assert dict(death.effects()) == expected, death.name
        assert len(death.told_keys()) == len(ALL_CALLS) == len({key for _, key in death.told_keys()}), death.name


# acceptance: 120 (the successor dies as well), 121 (the successor dies as well)
@pytest.mark.parametrize("effects", ["once", "idempotent"])
def test_a_successor_that_is_killed_as_well_leaves_no_more_to_the_next(case, processes, boundaries, effects):
    for at in range(2, boundaries[effects] + 1, 4):
        twice = case(f"twice{at}")
        assert processes.run(twice.job("send", effects=effects, die_at=at)) == [-signal.SIGKILL]
        assert processes.run(twice.job("go_on", effects=effects, die_at=1 + at * 7 % 11)) in ([-signal.SIGKILL], [0])
        assert processes.run(twice.job("go_on", effects=effects)) == [0], f"{effects}, {at}"
        assert twice.told("violations")[-1]["found"] == []
        happened = Counter(told["n"] for told in twice.told("effects"))
        assert len({told["key"] for told in twice.told("effects")}) == len(happened)
        assert effects != "once" or max(happened.values()) == 1, f"{at}: {happened}"
