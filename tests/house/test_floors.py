"""The table of floors, held against the code: who may import whom, where, and who may keep state.

The same table stands in docs/architecture.md for people to read.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

# A room may import itself and what stands here: rooms, or single modules of them.
CORE = {"contracts"}
FLOORS_1_TO_4 = {
    *("contracts", "kernel", "context", "store", "providers", "tools"),
    *("runtime", "timers", "contrib", "memory", "config", "agents", "version"),
}
# The door's file, and the files that it is made of.
LOOP = {"loop", "parts", "verbs", "drivers", "keyed", "posting", "session_verbs", "terms", "words", "parameters", "sync"} | {
    "streaming",
    "watching",
}
FLOORS_1_TO_5 = FLOORS_1_TO_4 | LOOP | {"workflow", "worker", "timer_runner"}
MAY_IMPORT: dict[str, set[str]] = {
    "version": set(),
    "contracts": set(),
    "kernel": CORE,
    "context": CORE,
    "store": CORE | {"kernel.call_keys", "kernel.history", "kernel.outside", "kernel.state"},  # the same rules for what comes from outside
    "providers": CORE,
    "tools": CORE,
    "memory": CORE | {"context", "tools.projectors"},
    "config": CORE | {"context", "tools.projectors"},
    "runtime": CORE | {"kernel", "context"},
    "agents": CORE | {"tools.define", "tools.toolbox", "runtime"},
    "timers": CORE | {"tools.define", "tools.toolbox"},
    "workflow": CORE | {"agents", "runtime", "tools.define"},
    "contrib": CORE,
    **dict.fromkeys(("words", "sync", "parameters"), CORE),
    "parts": CORE | {"config", "providers", "runtime", "tools"},
    **dict.fromkeys(("streaming", "watching"), CORE | {"runtime"}),
    "terms": CORE | {"config", "context", "runtime", "tools"},
    **dict.fromkeys(("loop", "verbs", "drivers", "keyed", "posting", "session_verbs"), FLOORS_1_TO_4 | LOOP | {"workflow"}),
    "worker": FLOORS_1_TO_4 | LOOP | {"workflow"},
    "timer_runner": {"worker"} | LOOP,
    **dict.fromkeys(("__init__", "cli", "inspector", "testing", "llm", "errors", "events", "records", "compat"), FLOORS_1_TO_5),
    "__main__": {"cli"},
}
# Single files that may import a little more than their room.
FILE_MAY_IMPORT: dict[str, set[str]] = {
    "cli/inspect.py": {"inspector"},
    "workflow/isolated.py": {"config", "loop", "providers", "store", "tools"},  # a leaf with a loop of its own, in a process of its own
    "workflow/subprocess.py": {"tools.shell.backend"},  # the allow-listed environment of children
    "workflow/launchers.py": {"tools.shell.bubblewrap"},  # what a sandbox shows of the system
    "agents/spawn.py": {"words"},  # what a send takes
    "agents/tools.py": {"context.prompt_builder"},
    **{f"contrib/{file}.py": {"tools.bound", "tools.toolbox"} for file in ("mcp_register", "mcp_servers", "mcp_serve")},
    "contrib/mcp_endpoints.py": {"tools.shell.backend"},  # the allow-listed environment of children
    "contrib/mcp_serve_sdk.py": {"version"},
    "contrib/otel_bridge.py": {"version"},
}

# Where a string chooses at run time, an import may stand inside a function. Nowhere else.
LATE_IMPORTS: dict[str, str] = {
    "__init__.py": "door: a public name loads its module when it is asked for",
    "contracts/doors.py": "doors: a public name loads its module when it is asked for",
    "loop.py": "door: the runtime comes with the first loop, not with the import",
    "parts.py": "provider: the string chooses the service",
    "verbs.py": "verb: what only few hosts ever call",
    "drivers.py": "dsn: a loop that is given its store needs no engine",
    "terms.py": "output type: only a send that asks for a form needs its reader",
    "store/open.py": "dsn: the scheme chooses the engine",
    "store/mysql.py": "extra: mysql",
    "store/mysql_wire.py": "extra: mysql",
    "cli/worker.py": "app: the string names a module of the host's",
    "cli/inspect.py": "extra: inspect",
    "cli/pretty.py": "extra: cli",
    "providers/open.py": "provider: the name chooses the transport",
    "providers/openai/model.py": "extra: openai",
    "providers/anthropic/model.py": "extra: anthropic",
    "tools/validate.py": "extra: jsonschema, for keywords beyond the list",
    "tools/presets.py": "tool: the name chooses its module",
    "workflow/isolated.py": "bootstrap: a preset of tools",
    "tools/front_matter.py": "extra: skills, for front matter beyond key: value",
    "contracts/attachments.py": "extra: pdf; mimetypes, which most conversations do not need",
    "contracts/cron.py": "extra: cron",
    **dict.fromkeys(("contracts/messages.py", "contracts/token_counts.py"), "extra: tokens"),
    **dict.fromkeys(("contrib/mcp_client.py", "contrib/mcp_endpoints.py", "contrib/mcp_server.py"), "extra: mcp"),
    "contrib/metrics_sink.py": "extra: prometheus, statsd",
    "workflow/dask.py": "extra: dask",
    "contrib/otel_sink.py": "extra: otel",
    "contracts/model.py": "block: only a request with attachments needs their renderer",
    "contracts/events.py": "event type: the name chooses one of many payload classes",
    "contracts/log.py": "log: only a line of it needs the patterns of secrets",
    "runtime/call_model.py": "requests: only a loop that keeps them packs any",
    "runtime/drive.py": "limits: only a send that has some, or a parent, keeps books",
    "runtime/send.py": "limits: only a send that has some, or a parent, keeps books",
    "runtime/told.py": "event type: the name chooses one of many payload classes",
    "runtime/asking.py": "hook point: the name chooses one of many context classes",
    "runtime/retry.py": "error: only the text of one needs the patterns of secrets",
}
# Files that may import third-party packages, with these. Nobody imports these files but late.
THIRD_PARTY: dict[str, str] = {
    "providers/openai/": "openai",
    "providers/anthropic/": "anthropic",
    "tools/validate.py": "jsonschema",
    "tools/schema.py": "pydantic",
    "contracts/attachments.py": "pypdf",
    "contracts/cron.py": "cronsim",
    "contracts/token_counts.py": "tiktoken",
    "cli/pretty.py": "rich",
    "workflow/dask.py": "distributed",
    "inspector/app.py": "starlette",
    "inspector/server.py": "uvicorn",
    # The SDK, and what comes with it.
    "contrib/mcp_": "mcp",
    "contrib/otel_": "opentelemetry",
    "contrib/metrics_": "prometheus_client",
    "contrib/metrics_sink.py": "statsd",
    **dict.fromkeys(("contrib/mcp_session.py", "contrib/mcp_transport.py"), "httpx2 pydantic"),
    "contrib/mcp_serve_sdk.py": "starlette",
}

# annotationlib is part of it from Python 3.14 on.
STDLIB = sys.stdlib_module_names | {"annotationlib"}
PURE_ROOMS = {"kernel", "context"}
IMPURE = {"asyncio", "time", "datetime", "random", "secrets", "uuid", "threading", "os", "socket", "contextvars", "sqlite3"}
STATELESS_ROOMS = {"contracts", "kernel", "context", "store", "runtime"}
MAKES_STATE = {
    *("list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "WeakSet", "WeakKeyDictionary"),
    *("WeakValueDictionary", "ContextVar", "local", "Lock", "RLock", "Condition", "Event", "Semaphore", "count", "cycle", "Queue"),
}
MUTATES = {"append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "clear", "remove", "discard"}
READ_ONLY = ("Mapping", "Sequence", "frozenset")
STATE_ALLOWED: dict[tuple[str, str], str] = {
    ("contracts/events.py", "_numbers"): "events are numbered through the whole process",
    **dict.fromkeys(
        (("contracts/forks.py", "_minded"), ("contracts/forks.py", "_kept"), ("contracts/forks.py", "_told")),
        "in place of Python's own list of fork hooks, which forgets nobody; a fork is of the whole process",
    ),
    **dict.fromkeys(
        (
            ("contracts/token_counts.py", "_encoding"),
            ("store/memory.py", "_image"),
            ("store/mysql_text.py", "_pieces"),
            ("store/mysql_wire.py", "_kind"),
            ("store/mysql_wire.py", "_decoders"),
        ),
        "a memo of a pure function: nobody can tell that it remembers",
    ),
}


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """(statement, dotted name) of every import below ``tree``; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written out, not relative"
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def ours(name: str) -> str | None:
    """``store.open.open_store`` for ``power_loop.store.open.open_store``; None for foreign names."""
    first, _, rest = name.partition(".")
    return (rest or "__init__") if first == "power_loop" else None


def allowed(source: Any, target: str) -> bool:
    room = target.split(".")[0]
    may = MAY_IMPORT[source.room] | FILE_MAY_IMPORT.get(source.path, set()) | {source.room}
    return any(target == name or target.startswith(f"{name}.") for name in may) or (room == "__version__" and source.room == "__init__")


# acceptance: 184 (floors)
def test_imports_point_down(sources: list[Any]) -> None:
    wrong = [
        f"{source.path}:{node.lineno} imports {target}, which its room may not"
        for source in sources
        for node, name in imports(source.tree)
        if (target := ours(name)) is not None and not allowed(source, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_a_place_in_the_table(sources: list[Any]) -> None:
    assert {source.room for source in sources} <= set(MAY_IMPORT)


def test_no_modules_import_each_other_in_a_circle(sources: list[Any]) -> None:
    """While they load. What only type checkers read, or a function imports when it is called, may point back."""
    modules = {source.path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): source.tree for source in sources}
    graph = {name: sorted(needed(name, tree, modules.keys())) for name, tree in modules.items()}
    assert circle(graph) is None


def needed(module: str, tree: ast.Module, modules: Set[str]) -> Iterator[str]:
    """The modules that ``module`` loads while it is loaded itself."""
    seen_by_checkers = {id(node) for branch in ast.walk(tree) if is_for_checkers(branch) for node in ast.walk(branch)}
    late = {id(node) for function in functions(tree) for node in ast.walk(function)}
    for node, name in imports(tree):
        target = ours(name)
        if target is None or id(node) in seen_by_checkers | late:
            continue
        found = target if target in modules else target.rpartition(".")[0]
        if found in modules and found != module:
            yield found


def is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def circle(graph: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The first way from a node back to itself."""
    sound: set[str] = set()

    def walk(node: str, way: list[str]) -> list[str] | None:
        if node in way:
            return [*way[way.index(node) :], node]
        found = None if node in sound else next((back for each in graph[node] if (back := walk(each, [*way, node]))), None)
        sound.add(node)
        return found

    return next((found for node in graph if (found := walk(node, []))), None)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def imports_late(function: ast.AST) -> bool:
    calls = {getattr(node.func, "attr", getattr(node.func, "id", "")) for node in ast.walk(function) if isinstance(node, ast.Call)}
    return any(imports(function)) or bool(calls & {"import_module", "__import__"})


def test_imports_stand_on_top_but_where_a_string_chooses(sources: list[Any]) -> None:
    late = {
        f"{source.path}:{function.lineno} {function.name}"
        for source in sources
        for function in functions(source.tree)
        if source.path not in LATE_IMPORTS and imports_late(function)
    }
    assert not late, f"move these imports to the top, or give the reason in LATE_IMPORTS: {sorted(late)}"


def test_third_party_modules_are_imported_only_by_their_adapters(sources: list[Any]) -> None:
    wrong = [
        f"{source.path}:{node.lineno} imports {name}"
        for source in sources
        for node, name in imports(source.tree)
        if ours(name) is None and (package := name.split(".")[0]) not in STDLIB
        if not any(source.path.startswith(path) and package in extra.split() for path, extra in THIRD_PARTY.items())
    ]
    assert not wrong, "\n".join(wrong)


# acceptance: 184 (no asyncio, clock or chance)
def test_kernel_and_context_are_pure(sources: list[Any]) -> None:
    wrong = [
        f"{source.path}:{node.lineno} imports {name}"
        for source in sources
        if source.room in PURE_ROOMS
        for node, name in imports(source.tree)
        if name.split(".")[0] in IMPURE or (ours(name) or "").startswith("contracts.clock")
    ]
    assert not wrong, "\n".join(wrong)


# acceptance: 184 (no mutable module state)
def test_no_module_of_the_core_keeps_state(sources: list[Any]) -> None:
    wrong = [found for source in sources if source.room in STATELESS_ROOMS for found in module_state(source)]
    assert not wrong, "\n".join(wrong)


def module_state(source: Any) -> Iterator[str]:
    """Where this module keeps something that can change: by name, by `global`, by a cache, or by changing a constant."""
    constants: set[str] = set()
    for node in [*source.tree.body, *(child for top in source.tree.body if isinstance(top, ast.ClassDef) for child in top.body)]:
        for name in assigned(node):
            constants.add(name)
            if (source.path, name) not in STATE_ALLOWED and not is_constant(name) and not is_read_only(node) and makes_state(node.value):
                yield f"{source.path}:{node.lineno} {name} can change"
    for function in functions(source.tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                yield f"{source.path}:{node.lineno} global {', '.join(node.names)}"
            if (name := changed(node)) in constants and name.isupper():
                yield f"{source.path}:{node.lineno} changes the constant {name}"
        if any(map(is_cache, function.decorator_list)) and (source.path, function.name) not in STATE_ALLOWED:
            yield f"{source.path}:{function.lineno} {function.name} is cached"


def assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) and node.value else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def is_constant(name: str) -> bool:
    return name.isupper() or name in ("__all__", "__slots__", "__match_args__")


def is_read_only(node: ast.stmt) -> bool:
    """Annotated as something that has no way to change it; pyright holds that."""
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).removeprefix("ClassVar[").startswith(READ_ONLY)


def makes_state(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return getattr(value.func, "attr", getattr(value.func, "id", "")) in MAKES_STATE
    return isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp))


def changed(node: ast.AST) -> str:
    """The name that ``node`` changes in place, or ''."""
    target: ast.AST | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
        target = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATES:
        target = node.func.value
    return target.id if isinstance(target, ast.Name) else ""


def is_cache(decorator: ast.expr) -> bool:
    return any(word in ast.unparse(decorator) for word in ("lru_cache", "functools.cache", "cache("))


def test_the_checks_above_see_what_they_look_for() -> None:
    """A check that finds nothing in bad code proves nothing."""

    class Bad:
        path, room = "kernel/bad.py", "kernel"
        tree = ast.parse(
            "seen = {}\nNAMES = []\nclass A:\n    found = set()\ndef f():\n    global x\n    NAMES.append(1)\n    import time\n"
        )

    found = [line.split(" ", 1)[1] for line in module_state(Bad)]
    assert found == ["seen can change", "found can change", "global x", "changes the constant NAMES"]
    assert [name for _, name in imports(Bad.tree)] == ["time"]
    assert all(imports_late(function) for function in functions(Bad.tree))
    assert not allowed(Bad, "runtime.send")
    assert not allowed(Bad, "__init__")
    assert allowed(Bad, "contracts.records.Record")
    assert circle({"a": ["b"], "b": ["c"], "c": []}) is None
    assert circle({"a": ["b"], "b": ["c", "d"], "c": [], "d": ["b"]}) == ["b", "d", "b"]
    late = "from power_loop.b import c\nif TYPE_CHECKING:\n    from power_loop import d\ndef f():\n    from power_loop import e\n"
    assert list(needed("a", ast.parse(late), {"b", "d", "e"})) == ["b"]
