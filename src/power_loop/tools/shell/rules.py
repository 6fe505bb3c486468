"""What is refused of one command, given its words: pure functions, one for each program that can do the listed harm.

Each takes (words with the program first, directory, places) and gives the reason of a refusal, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from power_loop.tools.shell.expand import GLOB, SURE, UNKNOWN, Field
from power_loop.tools.shell.places import Places, is_kernels_own, is_protected, is_raw_device
from power_loop.tools.shell.wrappers import innermost

Argv = Sequence[Field]
Rule = Callable[[Argv, str | None, Places], str | None]

RUN_TIME: Final = "the name of a program to run is only known at run time; write it out"
BECOMES_ROOT: Final = frozenset(("sudo", "sudoedit", "su", "doas", "pkexec", "runuser", "run0"))
STOPS_THE_MACHINE: Final = frozenset(("shutdown", "reboot", "halt", "poweroff"))
MAKES_FILE_SYSTEMS: Final = frozenset(("mkfs", "mke2fs", "mkdosfs", "mkntfs", "diskutil"))
STOPPING_VERBS: Final = frozenset(("reboot", "poweroff", "halt", "kexec", "soft-reboot"))
# They write to any device that they are given.
WRITERS: Final = frozenset(
    {
        *("tee", "shred", "wipefs", "truncate", "sponge", "mkswap", "blkdiscard", "badblocks", "fallocate", "nwipe", "hdparm"),
        *("fdisk", "sfdisk", "cfdisk", "gdisk", "sgdisk", "parted", "pvcreate", "cryptsetup"),
    }
)
# They write to the last of their operands.
COPIERS: Final = frozenset(("cp", "mv", "install", "rsync", "ln"))
LISTS: Final = frozenset(("-l", "--list", "--help", "--version", "-V", "-h"))
REMOVERS: Final = frozenset(("rm", "srm", "unlink", "rmdir", "shred"))
FIND_RUNS: Final = frozenset(("-exec", "-execdir", "-ok", "-okdir"))


def of_its_name(argv: Argv) -> str | None:
    """The program alone is reason enough."""
    program = argv[0]
    name = program.base
    if UNKNOWN in name or SURE in name or (program.glob and name != "[" and GLOB & set(name)):
        return RUN_TIME
    if name in BECOMES_ROOT:
        return f"{name} runs commands as another user"
    verbs = {field.text for field in argv[1:]}
    if name in STOPS_THE_MACHINE or (name == "systemctl" and verbs & STOPPING_VERBS):
        return f"{name} stops the machine"
    if name in ("init", "telinit") and verbs & {"0", "6"}:
        return f"{name} stops the machine"
    if name in MAKES_FILE_SYSTEMS or name.startswith(("mkfs.", "newfs")):
        return f"{name} makes or changes file systems"
    return None


def of_its_words(argv: Argv, cwd: str | None, places: Places) -> str | None:
    """What the rules of this program say; and what any is refused, the kernel's own folder."""
    rule = RULES.get(argv[0].base)
    if rule is not None and (reason := rule(argv, cwd, places)) is not None:
        return reason
    for field in argv[1:]:
        value = Field(field.text.partition("=")[2], field.glob)
        if is_kernels_own(field, cwd, places) or (value.text and is_kernels_own(value, cwd, places)):
            return f"{shown(field)} lies in the folder that power-loop keeps for itself"
    return None


def of_rm(argv: Argv, cwd: str | None, places: Places) -> str | None:
    recursive, targets, options_end = False, list[Field](), False
    for field in argv[1:]:
        text = field.text
        if options_end or not text.startswith("-") or text == "-":
            targets.append(field)
        elif text == "--":
            options_end = True
        elif text.startswith("--"):
            # Long options may be cut short.
            recursive |= "recursive".startswith(text[2:]) or "no-preserve-root".startswith(text[2:])
        else:
            recursive |= bool({"r", "R"} & set(text))
    # A word that is empty at run time, or an option, may make it recursive.
    recursive |= any(field.text == UNKNOWN for field in targets)
    harmed = next((field for field in targets if is_protected(field, cwd, places)), None)
    return f"it removes {shown(harmed)} and everything below it" if recursive and harmed is not None else None


def of_find(argv: Argv, cwd: str | None, places: Places) -> str | None:
    harmed = searched(argv, cwd, places)
    if harmed is None:
        return None
    removes = any(field.text == "-delete" for field in argv)
    removes |= any(removes_files(command) for command in run_by_find(argv))
    return f"find removes below {shown(harmed)}" if removes else None


def of_dd(argv: Argv, cwd: str | None, places: Places) -> str | None:
    targets = [Field(field.text.removeprefix("of="), field.glob) for field in argv[1:] if field.text.startswith("of=")]
    return next((f"dd writes to the device {shown(target)}" for target in targets if is_raw_device(target, cwd)), None)


def of_writers(argv: Argv, cwd: str | None, places: Places) -> str | None:
    if any(field.text in LISTS for field in argv[1:]) and argv[0].base in ("fdisk", "sfdisk", "parted", "gdisk", "sgdisk", "badblocks"):
        return None
    return next((f"{argv[0].base} writes to the device {shown(field)}" for field in argv[1:] if is_raw_device(field, cwd)), None)


def of_copiers(argv: Argv, cwd: str | None, places: Places) -> str | None:
    operands = [field for field in argv[1:] if not field.text.startswith("-")]
    if len(operands) > 1 and is_raw_device(operands[-1], cwd):
        return f"{argv[0].base} writes to the device {shown(operands[-1])}"
    return None


RULES: Final[Mapping[str, Rule]] = {
    "rm": of_rm,
    "srm": of_rm,
    "find": of_find,
    "dd": of_dd,
    **dict.fromkeys(WRITERS, of_writers),
    **dict.fromkeys(COPIERS, of_copiers),
}


def searched(argv: Argv, cwd: str | None, places: Places) -> Field | None:
    """The protected folder that this ``find`` begins at, if any."""
    if not argv or argv[0].base != "find":
        return None
    at = 1
    while at < len(argv) and (argv[at].text in ("-H", "-L", "-P", "-D") or argv[at].text.startswith("-O")):
        at += 2 if argv[at].text == "-D" else 1
    for field in argv[at:]:
        if field.text.startswith("-") or field.text in ("(", ")", "!", ","):
            break
        if is_protected(field, cwd, places):
            return field
    return None


def run_by_find(argv: Argv) -> list[list[Field]]:
    """The commands behind ``-exec`` and its like."""
    commands: list[list[Field]] = []
    for at, field in enumerate(argv):
        if field.text in FIND_RUNS:
            rest = list(argv[at + 1 :])
            end = next((end for end, each in enumerate(rest) if each.text in (";", "+")), len(rest))
            commands.append([Field(each.text.replace("{}", SURE)) for each in rest[:end]])
    return commands


def removes_files(argv: Argv) -> bool:
    """It removes what it is given, however it is wrapped."""
    command = innermost(argv)
    return bool(command) and command[0].base in REMOVERS


def shown(field: Field) -> str:
    """The word as a person reads it."""
    return field.text.replace(UNKNOWN, "…").replace(SURE, "…")[:80] or "it"
