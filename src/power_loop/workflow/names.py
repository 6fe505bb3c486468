"""What the names in a workflow document mean: ids that are there twice, references that lead nowhere, templates that match nothing.

Reads the document as it came, however broken: what has no sense here is passed over, because the grammar has told of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

from power_loop.contracts.agents import schema_problems
from power_loop.contracts.documents import Problem, below, shown
from power_loop.contracts.grammar import meant
from power_loop.workflow.references import Part, Ref, parse_ref, parse_template
from power_loop.workflow.shapes import ANY, Shape, item_of, items_of_runs, may_be_list, of_schema, step, text_of

INPUT = "input"
MAX_NODE_DEPTH = 40
FORBIDDEN_TOOLS = ("create_workflow",)


class Meaning(NamedTuple):
    """What was found out about the names of one document."""

    problems: list[Problem]
    warnings: list[Problem]
    templates: dict[str, list[Part]]
    """By path of the text: what names nothing has become text."""


def meaning_of(document: Mapping[str, Any]) -> Meaning:
    """Look at every name in ``document``, a workflow as plain JSON."""
    reader = _Reader()
    root = document.get("root")
    reader.collect(root, "root", 0)
    reader.node(root, "root")
    return Meaning(reader.problems, reader.warnings, reader.templates)


def _object(value: Any) -> Mapping[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def parts_of(node: Mapping[str, Any], path: str) -> Iterable[tuple[Any, str]]:
    """The nodes inside of ``node`` with their paths, in the order in which they stand."""
    for key in ("steps", "branches"):
        if isinstance(node.get(key), list):
            yield from ((each, below(below(path, key), n)) for n, each in enumerate(node[key]))
    for key, each in (_object(node.get("cases")) or {}).items():
        yield each, below(below(path, "cases"), key)
    yield from ((node[key], below(path, key)) for key in ("default", "body", "fallback") if isinstance(node.get(key), dict))


class _Reader:
    """Goes through the nodes in the order in which they run; ``seen`` is what may be named at the place where it is."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.templates: dict[str, list[Part]] = {}
        self.seen: dict[str, Shape] = {INPUT: text_of(INPUT)}
        self.ids: dict[str, str] = {}
        self.sealed: dict[str, str] = {}
        """Ids in the body of a foreach that is over, with its name."""
        self.too_deep = False

    # --- ids ----------------------------------------------------------------------

    def collect(self, raw: Any, path: str, depth: int) -> None:
        node = _object(raw)
        if node is None:
            return
        if depth > MAX_NODE_DEPTH:
            self.too_deep = True
            self.problem(path[:200], f"nodes are nested deeper than {MAX_NODE_DEPTH} levels", "make the workflow flatter")
            return
        ident = node.get("id")
        if isinstance(ident, str):
            self._note_id(ident, below(path, "id"))
        for each, where in parts_of(node, path):
            self.collect(each, where, depth + 1)

    def _note_id(self, ident: str, path: str) -> None:
        if ident == INPUT:
            self.problem(path, 'an id cannot be "input", which stands for the input of the workflow', "choose another one")
        elif ident in self.ids:
            self.problem(path, f"the id {shown(ident)} is also that of {self.ids[ident]}", "give each node an id of its own")
        else:
            self.ids[ident] = path.removesuffix(".id")

    # --- nodes --------------------------------------------------------------------

    def node(self, raw: Any, path: str) -> Shape:
        """What the node yields; its id, and those inside of it that others may name, are in ``seen`` afterwards."""
        node = _object(raw)
        if node is None or self.too_deep:
            return ANY
        self.condition(node.get("when"), below(path, "when"))
        readers = {
            "agent": self.agent, "sequence": self.sequence, "parallel": self.parallel, "foreach": self.foreach,
            "branch": self.branch, "loop": self.loop, "human": self.human,
        }  # fmt: skip
        kind = node.get("type")
        shape = readers[kind](node, path) if isinstance(kind, str) and kind in readers else ANY
        ident = node.get("id")
        if isinstance(ident, str):
            self.seen[ident] = shape
        return ANY if "when" in node else shape

    def agent(self, node: Mapping[str, Any], path: str) -> Shape:
        spec = _object(node.get("spec")) or {}
        self.template(node.get("input", "{{input}}"), below(path, "input"))
        self.template(spec.get("system_prompt"), below(below(path, "spec"), "system_prompt"))
        for n, name in enumerate(_list(node.get("inputs_from"))):
            if isinstance(name, str):
                self.reference(name, below(below(path, "inputs_from"), n))
        self._tools(spec.get("tools"), below(below(path, "spec"), "tools"))
        own = self._answer(node.get("output_schema"), below(path, "output_schema"))
        shape = self._answer(spec.get("output_schema"), below(below(path, "spec"), "output_schema"))
        shape = own or shape or text_of(str(node.get("id")))
        if "fallback" in node:
            if isinstance(node.get("id"), str):
                self.seen[node["id"]] = ANY
            self.node(node["fallback"], below(path, "fallback"))
            return ANY
        return shape

    def _answer(self, output: Any, path: str) -> Shape | None:
        broken = schema_problems(output, path)
        self.problems += broken
        schema = (_object(output) or {}).get("schema")
        return of_schema(schema) if isinstance(schema, dict) and not broken else ANY if output is not None else None

    def _tools(self, tools: Any, path: str) -> None:
        for n, name in enumerate(_list(tools)):
            if name in FORBIDDEN_TOOLS:
                self.warn(below(path, n), f"{name} is refused in a leaf: a workflow does not run inside of a workflow", "leave it out")

    def sequence(self, node: Mapping[str, Any], path: str) -> Shape:
        shape = ANY
        for each, where in parts_of(node, path):
            shape = self.node(each, where)
        return shape

    def parallel(self, node: Mapping[str, Any], path: str) -> Shape:
        self._apart(node, path)
        return items_of_runs()

    def branch(self, node: Mapping[str, Any], path: str) -> Shape:
        self.reference(node.get("on"), below(path, "on"))
        self._apart(node, path)
        return ANY

    def _apart(self, node: Mapping[str, Any], path: str) -> None:
        """Nodes that do not see each other: they run side by side, or only one of them runs."""
        before = self.seen
        after = dict(before)
        for each, where in parts_of(node, path):
            self.seen = dict(before)
            self.node(each, where)
            after |= {name: shape for name, shape in self.seen.items() if name not in before}
        self.seen = after

    def foreach(self, node: Mapping[str, Any], path: str) -> Shape:
        items = self._items(node.get("items_from"), below(path, "items_from"))
        variable = node.get("as")
        before, self.seen = self.seen, dict(self.seen)
        if isinstance(variable, str):
            self._variable(variable, below(path, "as"))
            self.seen[variable] = items
        body = self.node(node.get("body"), below(path, "body"))
        called = str(node.get("id") or path)
        self.sealed |= {name: called for name in self.seen if name not in before and name != variable}
        self.seen = before
        return items_of_runs(body)

    def _variable(self, name: str, path: str) -> None:
        if name == INPUT:
            self.problem(path, '"input" stands for the input of the workflow', "choose another name for the item")
        elif name in self.ids or name in self.seen:
            self.warn(path, f"{shown(name)} hides what else has this name", "choose another name for the item")

    def _items(self, written: Any, path: str) -> Shape:
        if written is None:
            return ANY
        shape = self.reference(written, path)
        if shape is None:
            return ANY
        if shape.aggregate:
            shape = step(shape, "items").shape or ANY
        if may_be_list(shape):
            return item_of(shape)
        why = "answers with text, no list; give it an output_schema with a list in it" if shape.text_of else "yields no list"
        self.problem(path, f"{shown(written)} {why}", 'name a list, such as "plan.topics"')
        return ANY

    def loop(self, node: Mapping[str, Any], path: str) -> Shape:
        ident = node.get("id")
        if isinstance(ident, str):
            self.seen[ident] = ANY  # in its body: what the iteration before came to
        shape = self.node(node.get("body"), below(path, "body"))
        self.condition(node.get("until"), below(path, "until"))
        return shape

    def human(self, node: Mapping[str, Any], path: str) -> Shape:
        self.template(node.get("prompt"), below(path, "prompt"))
        kind, options = node.get("kind", "text"), node.get("options")
        if kind == "choice" and not _list(options):
            self.problem(below(path, "options"), "a choice without options", 'give them: ["yes", "no"]')
        if ("default" in node or "on_timeout" in node) and "timeout_s" not in node:
            self.warn(path, "without timeout_s the question waits for ever", "give timeout_s, or leave out default and on_timeout")
        if "default" in node and node.get("on_timeout") != "continue":
            self.warn(below(path, "default"), 'is not used unless on_timeout is "continue"')
        if "default" in node or (kind == "confirm" and _list(options)):
            return ANY
        return {"confirm": of_schema({"type": "boolean"}), "text": text_of(str(node.get("id")))}.get(str(kind), ANY)

    # --- names --------------------------------------------------------------------

    def condition(self, raw: Any, path: str) -> None:
        condition = _object(raw)
        if condition is None:
            return
        for word in ("all", "any"):
            for n, each in enumerate(_list(condition.get(word))):
                self.condition(each, below(below(path, word), n))
        self.condition(condition.get("not"), below(path, "not"))
        self.reference(condition.get("ref"), below(path, "ref"))

    def reference(self, written: Any, path: str) -> Shape | None:
        """What is referred to; None, with a problem, when that cannot be."""
        if not isinstance(written, str):
            return None
        try:
            ref = parse_ref(written)
        except ValueError:
            return None  # the grammar says so
        if ref.name not in self.seen:
            self.problem(path, *self._unseen(ref.name, path))
            return None
        return self._reached(ref, path, strict=True)

    def _unseen(self, name: str, path: str) -> tuple[str, str]:
        place = self.ids.get(name)
        if place is None:
            return f"no node has the id {shown(name)}", meant(name, list(self.seen)) or f"known here: {', '.join(self.seen)}"
        if path.startswith(place + "."):
            return f"{shown(name)} is the node that this stands in", "refer to an earlier one"
        if name in self.sealed:
            within = self.sealed[name]
            return f"{shown(name)} stands in the body of the foreach {within} and has one result for each item", f"refer to {within}"
        return f"{shown(name)} does not run before this", f"known here: {', '.join(self.seen)}"

    def _reached(self, ref: Ref, path: str, *, strict: bool) -> Shape | None:
        shape, came = self.seen[ref.name], ref.name
        for key in ref.path:
            found = step(shape, key)
            if found.shape is None:
                (self.problem if strict else self.warn)(path, f"{shown(ref.written)} cannot be: {came} has no such part", found.why)
                return None
            if found.why:
                self.warn(path, f"{shown(ref.written)} may not be there", f"{came}: {found.why}")
            shape, came = found.shape, below(came, key)
        return shape

    def template(self, text: Any, path: str) -> None:
        if not isinstance(text, str) or "{{" not in text:
            return
        parts = parse_template(text)
        self.templates[path] = [part if isinstance(part, str) or self._matches(part, path) else part.written for part in parts]

    def _matches(self, ref: Ref, path: str) -> bool:
        if ref.name in self.seen:
            return self._reached(ref, path, strict=False) is not None
        what, hint = self._unseen(ref.name, path)
        self.warn(path, f"{ref.written} stays as text: {what}", hint)
        return False

    # --- findings -----------------------------------------------------------------

    def problem(self, path: str, text: str, hint: str = "") -> None:
        self.problems.append(Problem(path, text, hint))

    def warn(self, path: str, text: str, hint: str = "") -> None:
        self.warnings.append(Problem(path, text, hint))


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
