"""The same scripted work on several agent libraries, side by side: `make peers` makes their environments, measures and writes Markdown.

Each figure is the least of some repetitions, taken in turns, so that all meet the same machine. Nothing asks a network: every model is a
script, in the way that the library offers for tests (see each ``with_*.py``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import page
from environments import ENVIRONMENTS, Environment
from failures import killed, raced
from page import Column, Rows
from work import Failed, bytes_on_disk, cold, empty_folder, import_ms, measure

PARTS = ("speed", "failures")
Figures = Mapping[str, float | str]


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def in_turns(
    environments: list[Environment], times: int, figure: Callable[[Environment], float], best: Callable[..., float] = min
) -> Figures:
    """The best of ``times`` measurements of each library, in turns; what it raised where it did not get through."""
    found: dict[str, list[float]] = {environment.name: [] for environment in environments}
    raised: dict[str, str] = {}
    for _ in range(times):
        for environment in environments:
            try:
                found[environment.name].append(figure(environment))
            except Failed as error:
                raised[environment.name] = f"`{str(error)[:80]}`"
    return {name: best(each) if each else raised[name] for name, each in found.items()}


def of(measurement: str, key: str) -> Callable[[Environment], float]:
    """A figure of one measurement in an empty folder."""

    def figure(environment: Environment) -> float:
        with empty_folder() as folder:
            return measure(environment, measurement, folder)[key]

    return figure


def bytes_of_a_hundred(environment: Environment) -> float:
    with empty_folder() as folder:
        measure(environment, "hundred", folder)
        return bytes_on_disk(folder) / 100


def long_session(environment: Environment, times: int, long: int) -> tuple[float, float, float]:
    """(milliseconds of a send, milliseconds of a cold resume, bytes per send) of a session of ``long`` sends."""
    with empty_folder() as folder:
        built = measure(environment, "long", folder, PEERS_LONG=str(long))
        say(f"  {environment.name}: session of {long:,} built in {built['built_s']:.0f} s")
        return built["ms"], min(cold(environment, folder) for _ in range(times)), bytes_on_disk(folder) / (long + 10 + times)


def speed(environments: list[Environment], times: int, long: int) -> Rows:
    """Lines of (what, figure of each library)."""
    rows: Rows = []

    def add(what: str, figures: Figures, form: str = "{:,.1f} ms") -> None:
        cells = {name: value if isinstance(value, str) else form.format(value) for name, value in figures.items()}
        say(f"  {what}: {cells}")
        rows.append((what, cells))

    add("import", in_turns(environments, times, import_ms), "{:,.0f} ms")
    add("plain send, session of 10", in_turns(environments, times, of("short", "ms")))
    add("send with one tool, session of 10", in_turns(environments, times, of("round", "ms")))
    add("50 sessions at once", in_turns(environments, times, of("fifty", "per_s"), max), "{:,.0f} sends/s")
    sessions = {environment.name: long_session(environment, times, long) for environment in environments}
    add(f"plain send, session of {long:,}", {name: each[0] for name, each in sessions.items()})
    add("cold resume of it: start of a process to first answer", {name: each[1] for name, each in sessions.items()}, "{:,.0f} ms")
    add("bytes on disk a send (the empty schema among them), session of 100", in_turns(environments, 1, bytes_of_a_hundred), "{:,.0f}")
    add(f"bytes on disk a send, session of {long:,}", {name: each[2] for name, each in sessions.items()}, "{:,.0f}")
    return rows


def experiment(environments: list[Environment], run: Callable[[Environment, Path], Column]) -> Rows:
    columns: dict[str, Column] = {}
    for environment in environments:
        with empty_folder() as folder:
            try:
                columns[environment.name] = run(environment, folder)
            except Failed as error:
                columns[environment.name] = {"": f"`{str(error)[:80]}`"}
        say(f"  {environment.name}: {columns[environment.name]}")
    lines = max(columns.values(), key=len)
    return [(what, {name: column.get(what, column.get("", "")) for name, column in columns.items()}) for what in lines]


def measured(environments: list[Environment], what: str, times: int, long: int) -> str:
    """One part of the page: ``speed`` or ``failures``."""
    say(what)
    if what == "speed":
        return page.speed(environments, speed(environments, times, long))
    return page.failures(environments, experiment(environments, killed), experiment(environments, raced))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of: " + ", ".join(e.name for e in ENVIRONMENTS))
    parser.add_argument("--times", type=int, default=3, help="repetitions, of which the least counts (default %(default)s)")
    parser.add_argument("--long", type=int, default=1000, help="how many sends the long session has (default %(default)s)")
    parser.add_argument("--what", nargs="+", choices=PARTS, default=PARTS, help="which part of the page (default: both)")
    parser.add_argument("--write", action="store_true", help=f"put the parts into docs/{page.PAGE.name} instead of printing them")
    options = parser.parse_args()
    chosen = [e for e in ENVIRONMENTS if not options.only or e.name in options.only]
    for environment in chosen:
        environment.make()
    for what in options.what:
        part = measured(chosen, what, options.times, options.long)
        page.write(what, part) if options.write else print(part)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
