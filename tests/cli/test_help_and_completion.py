"""Help, the reference page and completion: all made from one parser."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from power_loop.cli import main, parser_of_all
from power_loop.cli.completion import SHELLS, options_of
from power_loop.cli.examples import EXAMPLES


def commands() -> dict:
    return next(action for action in parser_of_all()._actions if action.dest == "command").choices


# acceptance: 179 (help)
def test_every_command_shows_examples_that_its_parser_takes() -> None:
    assert set(EXAMPLES) == set(commands())
    for name, parser in commands().items():
        assert "examples:\n  " in parser.format_help()
        for typed, _ in EXAMPLES[name]:
            assert f"power-loop {name}" in typed


def test_json_dsn_and_prefix_are_taken_by_every_command_that_looks_into_a_database() -> None:
    for name, parser in commands().items():
        flags = {flag for option in options_of(parser) for flag in option.flags}
        assert name == "completion" or {"--dsn", "--prefix", "--json"} <= flags, name


@pytest.mark.parametrize(
    ("typed", "dsn", "prefix", "json"),
    [
        ("sessions", None, "pl_", False),
        ("--dsn a.db --prefix x_ --json sessions", "a.db", "x_", True),
        ("--dsn a.db --json sessions --dsn b.db --prefix x_", "b.db", "x_", True),
    ],
)
def test_they_stand_before_the_command_or_after_it_which_counts(typed: str, dsn: str | None, prefix: str, json: bool) -> None:
    args = parser_of_all().parse_args(typed.split())
    assert (args.dsn, args.prefix, args.json) == (dsn, prefix, json)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name, parser in commands().items():
        assert name in script
        for option in options_of(parser):
            assert all(flag.lstrip("-") in script for flag in option.flags)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["wo"], {"worker", "workflow"}),
        (["timers", "--c"], {"--cancel", "--cron"}),
        (["chat", "--tools", ""], {"core", "explore", "full"}),
        (["schema", "ch"], {"check"}),
        (["run", "--key", ""], set()),
    ],
)
def test_bash_completes(words: list[str], offered: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    typed = " ".join(f"'{word}'" for word in ["power-loop", *words])
    ask = f'{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words)}; _power_loop; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True, timeout=20)
    assert (done.stderr, set(done.stdout.split())) == ("", offered)


def test_an_unknown_shell_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as left:
        main(["completion", "tcsh"])
    assert left.value.code == 2
