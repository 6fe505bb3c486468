"""What follows from a workflow's journal: retries, fallbacks, conditions, questions, time limits, caps, changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from workflows import SPEC, TOPICS, Driver, World, agent, each, par, seq, workflow

from power_loop.contracts.errors import WorkflowRunError, WorkflowSpecError
from power_loop.contracts.usage import Usage
from power_loop.workflow import (
    AgentNode,
    AgentSpec,
    Leaf,
    Plan,
    Row,
    RunRow,
    SequenceNode,
    SharedBudget,
    StepRow,
    WorkflowBudget,
    WorkflowSpec,
    mermaid,
    ready,
    replayable_node_ids,
    row_of,
)


def done(leaf: Leaf, value: Any = "fine", **more: Any) -> StepRow:
    text = value if isinstance(value, str) else json.dumps(value)
    payload = None if isinstance(value, str) else value
    hashes = {"input_hash": leaf.input_hash, "spec_hash": leaf.spec_hash}
    return StepRow(leaf.key, "completed", attempt=leaf.attempt, text=text, payload=payload, **hashes, **more)


def failed(leaf: Leaf, status: str = "failed", at: int = 0) -> StepRow:
    return StepRow(leaf.key, "failed", at, leaf.attempt, status=status, error="it broke")


def finish(plan: Plan, **values: Any) -> Plan:
    """Run everything that comes up: a leaf whose id is given ends so, the others well. ``Failed`` statuses begin with an !."""
    while leaves := plan.ready():
        leaf = leaves[0]
        value = values.get(leaf.node.id, f"{leaf.node.id}!")
        broke = isinstance(value, str) and value.startswith("!")
        plan.apply(failed(leaf, value[1:]) if broke else done(leaf, value))
    return plan


def run(root: Any, *, spec: dict[str, Any] | None = None, **values: Any) -> Plan:
    return finish(Plan(workflow(root, **(spec or {}))), **values)


def ids(plan: Plan) -> list[str]:
    return [leaf.node_id for leaf in plan.ready()]


# --- what is asked ----------------------------------------------------------------------


# acceptance: 101 (pure half), 103 (as many leaves as the planner asked for)
def test_a_planner_feeds_a_fan_and_the_writer_sees_all_results_in_item_order() -> None:
    researcher = agent("r", spec=SPEC | {"system_prompt": "You know {{topic}}."}, input="Look at {{topic}} for {{input}}.")
    fan = {"type": "foreach", "id": "research", "as": "topic", "items_from": "plan.topics", "body": researcher}
    spec = workflow(seq(agent("plan", output_schema=TOPICS), fan, agent("write", inputs_from=["research", "plan"])), input="cars")
    plan = Plan(spec)
    plan.apply(done(plan.ready()[0], {"topics": ["a", "b", "c"]}))
    leaves = plan.ready()
    assert [(leaf.input, leaf.spec.system_prompt) for leaf in leaves if leaf.spec] == [
        (f"Look at {topic} for cars.", f"You know {topic}.") for topic in "abc"
    ]
    for leaf in reversed(leaves):
        plan.apply(done(leaf, f"about {leaf.input[8]}"))
    (writer,) = plan.ready()
    assert writer.input == (
        "cars\n\nContext from earlier steps:\n\n## research\nabout a\n\nabout b\n\nabout c\n\n## plan\n" + '{"topics": ["a", "b", "c"]}'
    )
    result = finish(plan, write="The end.").result()
    assert result.ok
    assert (result.final, result.status, len(result.results)) == ("The end.", "completed", 6)
    assert result.results["research"].payload == {"items": ["about a", "about b", "about c"]}
    assert list(result.results) == ["plan", "research", "research[0].r", "research[1].r", "research[2].r", "write"]


def test_what_was_filled_in_is_not_looked_through_again() -> None:
    plan = run(seq(agent("a"), agent("b", input="{{a}} {{ a }} {{nobody}}")), a="{{input}}")
    assert plan.result().ok
    plan = Plan(workflow(seq(agent("a"), agent("b", input="{{a}} {{ a }} {{nobody}}")), input="x"))
    plan.apply(done(plan.ready()[0], "{{input}}"))
    assert plan.ready()[0].input == "{{input}} {{input}} {{nobody}}"


def test_values_go_into_templates_as_json_and_what_is_not_there_fails_that_leaf_alone() -> None:
    reader = agent("b", input="{{a.topics}} {{a.topics[1]}} {{a.ok}}", on_error="continue")
    spec = workflow(seq(agent("a", output_schema=TOPICS), reader))
    plan = Plan(spec)
    plan.apply(done(plan.ready()[0], {"topics": ["é", "y"], "ok": True}))
    assert plan.ready()[0].input == '["é", "y"] y true'
    plan = Plan(spec)
    plan.apply(done(plan.ready()[0], {"topics": ["x"]}))
    result = plan.result()
    assert (plan.status, result.errors) == (
        "completed",
        [{"node_id": "b", "status": "failed", "error": "{{a.topics[1]}} cannot be filled in: a.topics has 1 items, so there is no [1]"}],
    )


def test_skipped_and_failed_results_are_named_as_missing() -> None:
    skipped = agent("s", when={"ref": "input", "op": "falsy"})
    steps = seq(skipped, agent("f", on_error="continue"), agent("w", input="{{s}}", inputs_from=["s", "f"]))
    plan = Plan(workflow(steps, input="x"))
    plan.apply(failed(plan.ready()[0]))
    assert plan.ready()[0].input == "[s: skipped]\n\nContext from earlier steps:\n\n## s\n[s: skipped]\n\n## f\n[f: failed: it broke]"


# --- conditions -------------------------------------------------------------------------

PROBE = {"name": "p", "schema": {"type": "object"}}


# acceptance: 157 (conditions, on a skipped node too)
@pytest.mark.parametrize(
    ("condition", "so"),
    [
        ({"ref": "p.n", "op": "eq", "value": 3}, True),
        ({"ref": "p.n", "op": "eq", "value": "3"}, True),
        ({"ref": "p.yes", "op": "eq", "value": "true"}, True),
        ({"ref": "p.yes", "op": "eq", "value": 1}, False),
        ({"ref": "p.n", "op": "ne", "value": 3}, False),
        ({"ref": "p.word", "op": "in", "value": ["no", "maybe"]}, True),
        ({"ref": "p.n", "op": "gt", "value": 2}, True),
        ({"ref": "p.n", "op": "ge", "value": 3}, True),
        ({"ref": "p.n", "op": "lt", "value": 3}, False),
        ({"ref": "p.n", "op": "le", "value": "3"}, True),
        ({"ref": "p.word", "op": "gt", "value": "a"}, True),
        ({"ref": "p.word", "op": "gt", "value": 1}, False),
        ({"ref": "p.yes", "op": "eq", "value": "yes"}, True),
        ({"ref": "p.list[1].k", "op": "eq", "value": None}, True),
        ({"ref": "p.list", "op": "eq", "value": [1, {"k": None}]}, True),
        ({"ref": "p.yes", "op": "truthy"}, True),
        ({"ref": "p.lie", "op": "truthy"}, False),
        ({"ref": "p.lie", "op": "falsy"}, True),
        ({"ref": "p.lie", "op": "exists"}, True),
        ({"all": [{"ref": "p.yes", "op": "truthy"}, {"not": {"ref": "p.nothing", "op": "exists"}}]}, True),
        ({"any": [{"ref": "p.nothing", "op": "exists"}, {"ref": "p.n", "op": "eq", "value": 4}]}, False),
        *[({"ref": ref, "op": "exists"}, False) for ref in ("p.nothing", "p.n.deeper", "p.list[9]", "gone", "gone.x")],
        *[({"ref": ref, "op": op, "value": 1}, False) for ref in ("p.nothing", "gone") for op in ("eq", "gt", "ge", "lt", "le")],
        *[({"ref": ref, "op": op}, so) for ref in ("p.nothing", "gone") for op, so in (("truthy", False), ("falsy", True))],
        ({"ref": "gone", "op": "ne", "value": 1}, True),
        ({"ref": "gone", "op": "in", "value": [None]}, False),
    ],
)  # fmt: skip
def test_a_condition_decides_whether_a_node_runs(condition: dict[str, Any], so: bool) -> None:
    probe = {"n": 3, "yes": True, "word": "maybe", "lie": "False", "list": [1, {"k": None}]}
    gone = agent("gone", output_schema=PROBE, when={"ref": "input", "op": "truthy"})
    plan = run(seq(agent("p", output_schema=PROBE), gone, agent("a", when=condition)), p=probe)
    assert ("a" in plan.result().results) is so
    assert plan.status == "completed"


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (True, "true"),
        ("true", "true"),
        ("yes", "else"),
        (False, "no"),
        ("no", "no"),
        (1, "1"),
        (1.0, "1"),
        ("1", "1"),
        ("x y", "x y"),
        (" x y\n", "x y"),
        ([1], "else"),
    ],
)
def test_a_branch_takes_the_case_that_spells_the_value(value: Any, taken: str) -> None:
    cases = {name: agent(f"case{n}") for n, name in enumerate(("true", "1", "x y", "no"))}
    branch = {"type": "branch", "on": "p.v", "cases": cases, "default": agent("else")}
    plan = run(seq(agent("p", output_schema=PROBE), branch), p={"v": value})
    names = [*cases, "else"]
    assert [names[[*(case["id"] for case in cases.values()), "else"].index(ident)] for ident in plan.result().results if ident != "p"] == [
        taken
    ]


def test_true_with_a_capital_is_a_case_for_true() -> None:
    branch = {"type": "branch", "on": "p.v", "cases": {"True": agent("yes")}}
    assert "yes" in run(seq(agent("p", output_schema=PROBE), branch), p={"v": True}).result().results


def test_a_branch_without_the_case_fails() -> None:
    branch = {"type": "branch", "id": "b", "on": "p.v", "cases": {"x": agent("a")}}
    result = run(seq(agent("p", output_schema=PROBE), branch), p={"v": "y"}).result()
    assert (result.status, result.errors[0]["error"]) == ("failed", "p.v is 'y', and there is no such case (x) and no default")
    assert run(seq(agent("p", output_schema=PROBE), branch), p={}).result().errors[0]["error"].startswith("p.v has no value")


# --- failures ---------------------------------------------------------------------------


# acceptance: 158 (pure half)
@pytest.mark.parametrize("status", ["failed", "degraded", "timeout", "invalid_output", "hit_round_limit"])
def test_a_failed_leaf_is_tried_again_then_stood_in_for_then_lived_with(status: str) -> None:
    leaf = agent("a", retry={"max_attempts": 3, "backoff_s": 2}, fallback=agent("b", on_error="halt"), on_error="continue")
    plan = Plan(workflow(seq(leaf, agent("c", inputs_from=["a"]))))
    for attempt, pause in ((1, 0), (2, 2000), (3, 4000)):
        (tried,) = plan.ready()
        assert (tried.key, tried.attempt, tried.not_before_ms) == ("a", attempt, pause and 1000 + pause)
        plan.apply(failed(tried, status, at=1000))
    assert ids(plan) == ["b"]
    stood_in = finish(Plan(plan.spec, [failed(Plan(plan.spec).ready()[0]._replace(attempt=n), status) for n in (1, 2, 3)]), b="instead")
    assert stood_in.result().ok
    assert stood_in.result().results["a"].status == status
    assert stood_in.result().results["a"].attempts == 3
    finish(plan, b="!failed")
    result = plan.result()
    assert result.status == "completed"
    assert not result.ok
    assert [(each["node_id"], each["status"]) for each in result.errors] == [("a", status), ("b", "failed")]


def test_a_fallbacks_answer_stands_for_that_of_its_leaf() -> None:
    plan = Plan(workflow(seq(agent("a", fallback=agent("b")), agent("c", input="{{a}}"))))
    plan.apply(failed(plan.ready()[0]))
    plan.apply(done(plan.ready()[0], "instead"))
    assert plan.ready()[0].input == "instead"


def test_only_the_named_failures_are_tried_again() -> None:
    leaf = agent("a", retry={"max_attempts": 5, "on": ["timeout"]})
    assert run(leaf, a="!failed").result().results["a"].attempts == 1
    assert run(leaf, a="!timeout").result().results["a"].attempts == 5


def test_a_halting_failure_cancels_its_siblings_and_keeps_what_they_finish() -> None:
    plan = Plan(workflow(par(agent("a"), agent("b"), agent("c"), agent("d"), max_concurrency=3)))
    a, b, c = plan.ready()
    for leaf in (a, b, c):
        plan.apply(StepRow(leaf.key, "started"))
    assert not plan.ready()
    plan.apply(done(a))
    assert ids(plan) == ["d"]
    plan.apply(failed(b))
    assert (plan.status, plan.ready(), plan.to_cancel()) == ("failed", [], ["c"])
    plan.apply(done(c, "late"))
    assert not plan.to_cancel()
    assert plan.result().results["c"].text == "late"
    assert "d" not in plan.result().results
    assert Plan(plan.spec, [done(a), failed(b), done(c, "late")]).result() == plan.result(), "a journal does not tell what was begun"


def test_a_patient_fan_goes_on_and_lists_what_failed() -> None:
    plan = run(each("e", ["x", "y"], agent("r"), on_error="continue"), r="!degraded")
    result = plan.result()
    assert (result.status, result.ok, [each["node_id"] for each in result.errors]) == ("completed", False, ["e[0].r", "e[1].r"])
    assert result.results["e"].payload == {"items": [None, None]}
    assert result.final == "[e[0]: failed: it broke]\n\n[e[1]: failed: it broke]"


# --- containers ---------------------------------------------------------------------------


def test_a_foreach_begins_no_more_than_it_may_at_a_time() -> None:
    items = list(range(40))
    wide = Driver(workflow(each("e", items, agent("r"), max_concurrency=7)), World(), seed=3)
    wide.run()
    assert wide.most_at_once == 7
    narrow = Driver(workflow(each("e", items, agent("r"), parallel=False, max_concurrency=7)), World(), seed=3)
    narrow.run()
    assert narrow.most_at_once == 1


def test_a_foreach_over_nothing_completes_with_no_items() -> None:
    result = run(each("e", [], agent("r"))).result()
    assert (result.status, result.final, result.output) == ("completed", "(no items)", {"items": []})


def test_items_that_are_not_there_or_too_many_fail_the_foreach() -> None:
    spec = seq(agent("p", output_schema=PROBE), each("e", "p.list", agent("r")))
    assert run(spec, p={}).result().errors[0]["error"] == "there are no items: p.list is not there"
    assert run(spec, p={"list": "x"}).result().errors[0]["error"] == "there are no items: p.list is no list"
    assert run(spec, p={"list": [0] * 10_001}).result().errors[0]["error"] == "10001 items are more than 10000"
    gone = seq(agent("p", output_schema=PROBE, when={"ref": "input", "op": "truthy"}), each("e", "p.list", agent("r")))
    assert run(gone).result().results["e"].status == "skipped"


# acceptance: 157 (loop)
def test_a_loop_runs_until_its_condition_holds_and_sees_the_iteration_before() -> None:
    body = seq(agent("write", input="{{refine}}"), agent("review", output_schema=PROBE))
    loop = {"type": "loop", "id": "refine", "body": body, "until": {"ref": "review.ok", "op": "truthy"}, "max_iterations": 3}
    spec = workflow(seq(loop, agent("end", input="{{write}}")))
    plan = Plan(spec)
    inputs = []
    for ok in (False, True):
        inputs.append(plan.ready()[0].input)
        plan.apply(done(plan.ready()[0], f"draft {len(inputs)}"))
        plan.apply(done(plan.ready()[0], {"ok": ok}))
    assert inputs == ["[refine: no result]", '{"ok": false}']
    assert plan.ready()[0].input == "draft 2"
    assert [name for name in plan.result().results if name.endswith("write")] == ["refine[0].write", "refine[1].write"]


@pytest.mark.parametrize(("on_exhausted", "status", "text"), [("halt", "failed", ""), ("continue", "completed", "w!")])
def test_a_loop_that_never_ends_is_exhausted(on_exhausted: str, status: str, text: str) -> None:
    until = {"ref": "w", "op": "eq", "value": "never"}
    result = run({"type": "loop", "id": "l", "body": agent("w"), "until": until, "on_exhausted": on_exhausted}).result()
    assert (result.status, result.final, len(result.errors)) == (status, text, 1)
    assert result.errors[0]["error"] == "after 10 iterations its condition does not hold"


def test_a_run_of_too_many_leaves_fails() -> None:
    result = run(each("e", list(range(9)), agent("r"), on_error="continue"), spec={"max_leaves": 5}).result()
    assert result.status == "failed"
    assert result.errors == [{"node_id": "e", "status": "failed", "error": "the run has more than 5 leaves (max_leaves)"}]


# --- people -------------------------------------------------------------------------------


def human(ident: str, **more: Any) -> dict[str, Any]:
    return {"type": "human", "id": ident, "prompt": "Well, {{input}}?", **more}


# acceptance: 157 (human)
def test_a_question_parks_its_branch_and_others_go_on() -> None:
    plan = Plan(workflow(par(seq(human("ask", kind="confirm"), agent("a")), agent("b")), input="Jo"))
    question, other = plan.ready()
    assert (question.input, question.spec) == ("Well, Jo?", None)
    plan.apply(StepRow("ask", "waiting", interaction={"prompt": question.input}))
    assert plan.status == "running"
    plan.apply(done(other))
    assert (plan.status, list(plan.questions()), plan.is_over) == ("waiting_for_input", ["ask"], False)
    plan.apply(done(question, True))
    assert ids(plan) == ["a"]


def test_what_waits_for_a_person_gives_up_its_place_and_gets_it_back_in_turn() -> None:
    body = seq(human("ask"), agent("a"))
    plan = Plan(workflow(each("e", list(range(6)), body, max_concurrency=2)))
    asked: list[Leaf] = []
    while plan.ready():
        leaf = plan.ready()[0]
        asked.append(leaf)
        plan.apply(StepRow(leaf.key, "waiting"))
    assert len(asked) == 6, "none of those that wait holds up the next"
    for leaf in asked:
        plan.apply(done(leaf, "yes"))
    assert ids(plan) == ["e[0].a", "e[1].a"], "but no more than two work at a time"
    plan.apply(done(plan.ready()[0]))
    assert ids(plan) == ["e[1].a", "e[2].a"]
    assert finish(plan).result().ok


def test_one_after_the_other_also_waits_for_people() -> None:
    plan = Plan(workflow(each("e", [1, 2], human("ask"), parallel=False)))
    plan.apply(StepRow(plan.ready()[0].key, "waiting"))
    assert not plan.ready()
    assert plan.status == "waiting_for_input"


# acceptance: 157 (timeout)
@pytest.mark.parametrize(
    ("settings", "status", "final", "ok"),
    [
        ({}, "failed", "", False),
        ({"on_timeout": "continue"}, "completed", "b!", False),
        ({"on_timeout": "continue", "default": True}, "completed", "b!", True),
    ],
)
def test_a_question_that_nobody_answers_in_time(settings: dict[str, Any], status: str, final: str, ok: bool) -> None:
    spec = workflow(seq(human("ask", timeout_s=60, **settings), agent("b", input="{{ask}}")))
    plan = Plan(spec, [RunRow("started", 5000)])
    plan.apply(StepRow("ask", "waiting", 5000))
    assert plan.deadlines() == {"ask": 65_000}
    plan.apply(StepRow("ask", "timeout", 65_000))
    assert not plan.deadlines()
    if status == "completed":
        assert plan.ready()[0].input == ("true" if "default" in settings else "[ask: failed: nobody answered in time]")
    result = finish(plan).result()
    assert (result.status, result.final, result.ok) == (status, final, ok)


def test_nobodys_answer_to_a_confirm_node_is_true_or_false_as_somebodys_is() -> None:
    ask = human("ask", kind="confirm", timeout_s=60, on_timeout="continue", default="no")
    branch = {"type": "branch", "on": "ask", "cases": {"true": agent("go"), "false": agent("stay", input="{{ask}}")}}
    plan = Plan(workflow(seq(ask, branch)))
    plan.apply(StepRow("ask", "waiting"))
    plan.apply(StepRow("ask", "timeout", 60_000))
    assert [leaf.input for leaf in plan.ready()] == ["no"]
    assert plan.result().results["ask"].payload is False


# acceptance: 157 (timeout of a container)
def test_a_container_that_takes_too_long_fails_and_its_leaves_are_given_up() -> None:
    spec = workflow(par(seq(agent("a"), agent("b"), timeout_s=10), agent("c"), on_error="continue"), timeout_s=100)
    rows: list[Row] = [RunRow("started", 1000), StepRow("a", "started", 2000), StepRow("c", "started", 2000)]
    plan = Plan(spec, rows, live=True)
    assert plan.deadlines() == {"a^1": 11_000, "": 101_000}
    plan.apply(StepRow("a^1", "timeout", 11_000))
    assert plan.to_cancel() == ["a"]
    plan.apply(done(Plan(spec).ready()[1]))
    assert (plan.status, plan.result().errors) == (
        "completed",
        [{"node_id": "a^1", "status": "timeout", "error": "it took longer than 10 s"}],
    )


# --- journal and changes --------------------------------------------------------------------


def test_rows_are_small_and_survive_json() -> None:
    finished = StepRow("a", "completed", 6, text="x", usage=Usage(calls=1))
    rows: list[Row] = [StepRow("a", "started", 5), finished, RunRow("stopped", 7, "cancelled")]
    assert rows[0].to_dict() == {"step": "a", "state": "started", "at": 5}
    assert [row_of(json.loads(json.dumps(row.to_dict()))) for row in rows] == rows


def test_a_step_is_known_by_its_path_whatever_stands_around_it() -> None:
    def keys(spec: WorkflowSpec) -> set[str]:
        driver = Driver(spec, World())
        driver.run()
        return {row.step for row in driver.rows if isinstance(row, StepRow)}

    inner = each("research", ["x", {"k": 1}], seq(agent("r"), each("deep", [1], agent("d"))))
    before = keys(workflow(inner))
    after = keys(workflow(seq(agent("new"), par(seq(inner), agent("beside")))))
    assert before <= after
    assert sorted(before)[0].startswith("research[0:")
    assert any(key.count("/") == 2 for key in before)
    assert len({key.split("[")[1].split("]")[0] for key in before}) == 2


def changed(root_before: Any, root_after: Any, **more: Any) -> Plan:
    driver = Driver(workflow(root_before), World())
    driver.run()
    return Plan(workflow(root_after), driver.rows, run_id="r1", **more)


CHANGES = [
    (seq(agent("a"), agent("b")), seq(agent("a", input="else"), agent("b")), "a: its input was "),
    (agent("a"), agent("a", spec=SPEC | {"max_rounds": 3}), "a: its spec was "),
    (agent("a"), agent("a", output_schema=TOPICS), "a: its spec was "),
    (agent("a"), agent("a", spec=SPEC | {"system_prompt": "You work hard."}), "a: its spec was "),
]


@pytest.mark.parametrize(("before", "after", "text"), CHANGES)
def test_a_finished_step_that_was_changed_is_refused_with_both_hashes(before: Any, after: Any, text: str) -> None:
    plan = changed(before, after)
    with pytest.raises(WorkflowRunError, match=text) as caught:
        plan.refuse_changes()
    assert (caught.value.code, caught.value.run_id) == ("workflow.changed", "r1")
    change = plan.changes[0]
    assert change.was in str(caught.value)
    assert change.now in str(caught.value)
    assert change.was != change.now


@pytest.mark.parametrize(("before", "after", "text"), CHANGES)
def test_or_its_result_is_kept_or_it_is_run_again(before: Any, after: Any, text: str) -> None:
    kept = changed(before, after, on_change="keep")
    kept.refuse_changes()
    assert kept.status == "completed"
    again = changed(before, after, on_change="rerun")
    again.refuse_changes()
    (leaf,) = again.ready()
    assert (leaf.key, leaf.attempt) == ("a", 2)


def test_what_was_run_again_is_what_the_journal_holds_from_then_on() -> None:
    driver = Driver(workflow(agent("a", input="one")), World())
    driver.run()
    rows: list[Row] = [*driver.rows, RunRow("resumed", on_change="rerun")]
    spec = workflow(agent("a", input="two"))
    plan = Plan(spec, rows)
    rows.append(done(plan.ready()[0], "anew", usage=Usage(total_tokens=3, calls=1)))
    heir = Plan(spec, rows)
    heir.refuse_changes()
    assert (heir.result().final, heir.result().usage["calls"]) == ("anew", 2)
    assert not Plan(spec, [*rows, RunRow("resumed")]).changes


def test_what_does_not_change_a_step_is_no_change() -> None:
    other = agent("a", retry={"max_attempts": 2}, timeout_s=5, on_error="continue", when={"ref": "input", "op": "falsy"})
    plan = changed(seq(agent("a"), agent("gone")), seq(other, agent("new")))
    plan.refuse_changes()
    assert ids(plan) == ["new"]


def test_a_resumed_run_tries_again_what_failed_unless_it_was_lived_with() -> None:
    fan = each("e", ["x", "y"], seq(agent("first", on_error="continue"), agent("second")), on_error="continue")
    spec = workflow(seq(fan, agent("last")))
    rows: list[Row] = []
    plan = Plan(spec)

    def note(row: Row) -> None:
        rows.append(row)
        plan.apply(row)

    x, y = plan.ready()
    note(failed(x))
    note(done(y))
    second = next(leaf for leaf in plan.ready() if leaf.node_id == "e[0].second")
    note(done(second))
    third = next(leaf for leaf in plan.ready() if leaf.node_id == "e[1].second")
    note(failed(third))
    note(RunRow("stopped", status="cancelled"))
    assert (plan.status, plan.ready()) == ("cancelled", [])
    note(RunRow("resumed"))
    assert [(leaf.node_id, leaf.attempt) for leaf in plan.ready()] == [("e[1].second", 2)], "first of x failed too, but its second has run"
    assert finish(plan).status == "completed"


def test_a_run_that_failed_runs_its_failed_step_again_when_it_is_resumed() -> None:
    plan = run(seq(agent("a"), agent("b"), agent("c")), b="!timeout")
    assert plan.status == "failed"
    plan.apply(RunRow("resumed"))
    assert [(leaf.key, leaf.attempt) for leaf in plan.ready()] == [("b", 2)]
    result = finish(plan).result()
    assert (result.ok, result.results["b"].attempts) == (True, 2)


def test_a_row_that_comes_twice_counts_once() -> None:
    plan = Plan(workflow(seq(agent("a"), agent("b"))))
    first = done(plan.ready()[0], usage=Usage(total_tokens=7, calls=1))
    for row in (first, first, done(plan.ready()[0], "another answer", usage=Usage(total_tokens=7, calls=1))):
        plan.apply(row)
    assert (plan.result().results["a"].text, plan.usage.total_tokens) == ("fine", 7)


def test_what_was_begun_by_the_dead_is_ready_for_the_living() -> None:
    rows = [StepRow("a", "started")]
    spec = workflow(agent("a"))
    assert [leaf.key for leaf in ready(spec, rows)] == ["a"]
    assert Plan(spec, rows, live=True).running() == ["a"]


def test_a_spec_that_was_put_together_by_hand_is_checked_too() -> None:
    node = AgentNode("a", AgentSpec("n", "p"))
    assert Plan(WorkflowSpec("w", SequenceNode((node,)))).ready()[0].key == "a"
    with pytest.raises(WorkflowSpecError, match='the id "a" is also that of'):
        Plan(WorkflowSpec("w", SequenceNode((node, node))))


# --- around it ------------------------------------------------------------------------------


def test_a_budget_reserves_charges_and_stops_in_time() -> None:
    budget = SharedBudget.of(WorkflowBudget(1000, stop_at_remaining_pct=10, cost=2.0))
    assert budget.reserve(600)
    assert not budget.reserve(400), "a tenth stays"
    budget.charge(200, reserved=600)
    assert (budget.remaining, budget.spent, budget.exhausted) == (800, 200, False)
    budget.charge(700, cost=1.0)
    assert budget.exhausted
    budget = SharedBudget.of(WorkflowBudget(1000, cost=2.0))
    budget.charge(1, cost=2.0)
    assert not budget.reserve(1)
    for wrong in ({"max_tokens": 0}, {"max_tokens": 1, "stop_at_remaining_pct": 101}, {"max_tokens": 1, "cost": 0}):
        with pytest.raises(ValueError, match="give"):
            SharedBudget(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_run_draws_itself() -> None:
    loop = {"type": "loop", "id": "l", "body": agent("w"), "until": {"ref": "w", "op": "truthy"}}
    branch = {"type": "branch", "on": "input", "cases": {'a"b': agent("c1")}, "default": agent("c2")}
    fan = each("e", [1, 2, 3], agent("r"), max_concurrency=3)
    spec = workflow(seq(fan, par(loop, human("ask")), branch, agent("a", fallback=agent("b"))))
    plan = Plan(spec)
    plan.apply(done(plan.ready()[0]))
    plan.apply(StepRow(plan.ready()[0].key, "started"))
    picture = mermaid(plan).splitlines()
    assert picture[:4] == ["flowchart TD", '  subgraph g0["e (item)"]', '    n0["r: 1 of 3"]', "  end"]
    assert any(line.strip() == "n0 --> n1" for line in picture)
    assert any('-- "a#34;b" -->' in line for line in picture)
    assert any("-. failed .->" in line for line in picture)
    assert any('-. "again" .->' in line for line in picture)
    assert picture[-1] == "  class n0 running"
    assert "classDef" not in mermaid(spec)


def test_the_summary_is_short_and_the_result_is_json() -> None:
    plan = run(each("e", list(range(12)), agent("r"), on_error="continue"), r="!failed")
    summary = plan.result().summary().splitlines()
    assert summary[0] == "workflow w: completed, 1 of 13 results, 0 tokens"
    assert (len(summary), summary[-1]) == (12, "- and 2 more")
    assert json.loads(json.dumps(plan.result().to_dict()))["ok"] is False


def test_the_ids_of_what_is_read_instead_of_run() -> None:
    assert replayable_node_ids(workflow(seq(each("e", [1], agent("a", fallback=agent("b"))), human("ask")))) == ["a", "b", "ask"]


def test_a_run_that_turns_in_circles_without_a_leaf_is_ended() -> None:
    skipped = agent("r", when={"ref": "input", "op": "truthy"})
    inner = {"type": "foreach", "as": "x", "items": list(range(10_000)), "body": skipped}
    result = Plan(workflow(each("a", list(range(100)), inner, on_error="continue"))).result()
    assert (result.status, result.errors[0]["error"]) == ("failed", "the run has more than 200000 steps")


def test_the_steps_of_a_resumed_run_are_counted_anew() -> None:
    skipped = agent("r", when={"ref": "input", "op": "truthy"})
    inner = {"type": "foreach", "as": "x", "items": list(range(10_000)), "body": skipped}
    plan = Plan(workflow(seq(each("a", list(range(11)), inner), agent("b"))))
    plan.apply(RunRow("stopped", status="cancelled"))
    plan.apply(RunRow("resumed"))
    assert (plan.status, ids(plan)) == ("running", ["b"])
