"""The command check: what it refuses in which spellings, and that ordinary work passes. It is a seat belt, no boundary."""

from __future__ import annotations

from pathlib import Path

import pytest

from power_loop.tools.shell.check import check_command
from power_loop.tools.shell.places import Places

HOME = "/home/ann"
PLACES = Places(HOME, f"{HOME}/.power_loop", (".cache", "logs", "skills"), "/srv/project")

REMOVES_A_ROOT = [
    "rm -rf /",
    "rm -fr /",
    "rm -r -f /",
    "rm -f -r -- /",
    "rm / -rf",
    "rm -R /",
    "rm --recursive --force /",
    "rm --recurs /",
    "rm --force --r /",
    "rm -rf --no-preserve-root /",
    "rm -rf -- /",
    "rm -rf //",
    "rm -rf /.",
    "rm -rf /../",
    "rm -rf /usr/..",
    "rm -rf '/'",
    'rm -rf "/"',
    "rm -rf \\/",
    "rm -rf $'/'",
    "rm -rf $'\\x2f'",
    "rm -rf /*",
    "rm -rf /.*",
    "rm -rf /{*,.*}",
    "rm -rf /{bin,usr}",
    "rm -rf ~",
    "rm -rf ~/",
    "rm -rf ~/*",
    "rm -rf ~/.*",
    "rm -rf ~ann",
    "rm -rf ~root",
    "rm -rf $HOME",
    'rm -rf "$HOME"',
    'rm -rf "${HOME}"/',
    "rm -rf ${HOME%/}",
    "rm -rf ${HOME:?}",
    'rm -rf "$HOME"/*',
    "rm -rf $HOME/..",
    f"rm -rf {HOME}",
    f"rm -rf {HOME}/",
    "rm -rf /home",
    "rm -rf /etc",
    "rm -rf /etc/",
    "rm -rf /etc/*",
    "rm -rf /e*",
    "rm -rf /[e]tc",
    "rm -rf /us?",
    "rm -rf /usr/bin",
    "rm -rf /var /opt",
    "rm -rf build / tmp",
    "rm -rf /System",
    "rm -rf ../..",
    "/bin/rm -rf /",
    "/usr/bin/../bin/rm -rf /",
    "'rm' -rf /",
    "r\\m -rf /",
    'r"m" -rf /',
    "r''m -r''f /",
    "$'rm' -rf /",
    "$'\\162m' -rf /",
    "{rm,-rf,/}",
    "rm -rf \\\n  /",
    "r\\\nm -rf /",
    "X=/; rm -rf $X",
    'X=/; rm -rf "$X"',
    "X=/etc && rm -r -f ${X}",
    "export X=/; rm -rf $X",
    "F=-rf; rm $F /",
    "A='-rf /'; rm $A",
    "rm $FLAGS /",
    "rm${IFS}-rf${IFS}/",
    "rm -rf $HO{ME,}",
    "rm -rf $HO\\\nME",
    "rm -rf ${HO\\\nME}",
    "rm -rf $\\\nHOME",
    "echo $\\\n(rm -rf /)",
    "rm -rf ${X:-/}",
    "rm -rf ${X:=/etc}",
    "rm -rf /$X",
    "rm -rf $(echo /)",
    "rm -rf `echo /`",
    "rm -rf $(printf '%s' /)",
    "for d in /etc /usr; do rm -rf $d; done",
    'for d in /; do rm -rf "$d"; done',
    "cd / && rm -rf *",
    "cd /; rm -rf ./*",
    "cd && rm -rf .",
    "cd /usr; rm -rf bin",
    "echo hi; rm -rf /",
    "echo hi && rm -rf /",
    "false || rm -rf /",
    "echo hi | rm -rf /",
    "sleep 1 & rm -rf /",
    "echo hi\nrm -rf /",
    "(rm -rf /)",
    "{ rm -rf /; }",
    "! rm -rf /",
    "if true; then rm -rf /; fi",
    "if rm -rf /; then :; fi",
    "while true; do rm -rf /; done",
    "case x in y) echo;; *) rm -rf /;; esac",
    "f() { rm -rf /; }; f",
    "function f { rm -rf /; }",
    "echo $(rm -rf /)",
    'echo "$(rm -rf /)"',
    "echo `rm -rf /`",
    'echo "a `rm -rf /` b"',
    "X=$(rm -rf /)",
    "X=(a $(rm -rf /))",
    "echo ${X:-$(rm -rf /)}",
    "cat <(rm -rf /)",
    "tee >(rm -rf /)",
    "[[ -n $(rm -rf /) ]]",
    "echo $(( $(rm -rf /) ))",
    "(( x = $(rm -rf /) ))",
    "cat <<EOF\n$(rm -rf /)\nEOF",
    "cat <<< $(rm -rf /)",
    "bash -c 'rm -rf /'",
    'sh -c "rm -rf /"',
    "bash -lc 'rm -rf /'",
    "bash -euo pipefail -c 'rm -rf /'",
    "bash --norc -c 'rm -rf /'",
    "/bin/sh -ec 'rm -rf /'",
    "bash -c \"bash -c 'rm -rf /'\"",
    "bash -c 'rm -rf $0' /",
    "bash -c 'rm -rf \"$1\"' x /",
    "bash <<< 'rm -rf /'",
    "bash <<'EOF'\nrm -rf /\nEOF",
    "bash -s <<EOF\nrm -rf /\nEOF",
    "echo 'rm -rf /' | sh",
    "printf 'rm -rf /' | bash -s",
    "eval rm -rf /",
    "eval 'rm -rf /'",
    'eval "rm" "-rf" "/"',
    "eval -- 'rm -rf /'",
    "env rm -rf /",
    "env -i PATH=/bin rm -rf /",
    "env -u X -- rm -rf /",
    "env -S 'rm -rf /'",
    "env --split-string='rm -rf /'",
    "env -iS 'rm -rf /'",
    "env - rm -rf /",
    "X=1 rm -rf /",
    "command rm -rf /",
    "builtin command rm -rf /",
    "exec rm -rf /",
    "nohup rm -rf / &",
    "nice -n 10 rm -rf /",
    "nice rm -rf /",
    "timeout 10 rm -rf /",
    "timeout -k 5 --signal=TERM 10 rm -rf /",
    "time rm -rf /",
    "time ! rm -rf /",
    "setsid -f rm -rf /",
    "stdbuf -oL rm -rf /",
    "xargs rm -rf /",
    "xargs -0 -n 1 rm -rf / < list",
    "echo / | xargs rm -rf",
    "echo x | xargs -I{} sh -c 'rm -rf /'",
    "busybox rm -rf /",
    "busybox sh -c 'rm -rf /'",
    "trap 'rm -rf /' EXIT",
    "trap -- 'rm -rf /' EXIT",
    "script -qc 'rm -rf /' log",
    "watch -n 1 'rm -rf /'",
    "flock /tmp/l -c 'rm -rf /'",
    "flock /tmp/l rm -rf /",
    "find / -delete",
    "find / -name '*.log' -delete",
    "find ~ -type f -delete",
    'find "$HOME" -delete',
    "find -L / -delete",
    "find / -exec rm {} \\;",
    "find / -exec env rm {} \\;",
    "find / -exec nice -n 5 busybox rm {} +",
    "find / -print0 | xargs -0 env rm",
    "find /etc -type f -exec rm -f {} +",
    "find ~ -execdir rm {} ';'",
    "find . -exec rm -rf / \\;",
    "find . -exec sh -c 'rm -rf /' \\;",
    "find / -type f | xargs rm -f",
    "find ~ -print0 | xargs -0 rm",
]
OTHER_DANGERS = [
    "sudo ls",
    "/usr/bin/sudo ls",
    "s\\udo ls",
    "'su'do ls",
    '"sudo" -n ls',
    "echo x | sudo tee /etc/hosts",
    "true && sudo -i",
    "env sudo ls",
    "xargs sudo rm",
    "timeout 5 sudo ls",
    "bash -c 'sudo ls'",
    "echo $(sudo ls)",
    "echo ${a[$(sudo ls)]}",
    "echo ${#a[$(sudo ls)]}",
    "a[$(sudo ls)]=1",
    "a[`sudo ls`]+=1 true",
    "echo ${a:$(sudo ls)}",
    "echo ${a/$(sudo ls)/x}",
    "echo ${a^^$(sudo ls)}",
    "echo ${a:?$(sudo ls)}",
    'echo "${a#$(sudo ls)}"',
    "coproc sudo ls",
    "cat <<EOF | sh\nsudo ls\nEOF",
    "cat - <<< 'sudo ls' | bash -s",
    "coproc X { sudo ls; }",
    "coproc X (sudo ls)",
    "coproc X while true; do sudo ls; done",
    "find . -exec sudo ls {} \\;",
    "su",
    "su - root -c ls",
    "doas ls",
    "pkexec ls",
    "shutdown -h now",
    "/sbin/reboot",
    "reboot",
    "halt -p",
    "poweroff",
    "systemctl reboot",
    "systemctl --force poweroff",
    "init 0",
    "command -p reboot",
    "mkfs /dev/sdb1",
    "mkfs.ext4 /dev/sdb1",
    "/sbin/mkfs.xfs disk",
    "diskutil eraseDisk JHFS+ X disk2",
    "dd if=/dev/zero of=/dev/sda",
    "dd of=/dev/nvme0n1 if=image bs=1M",
    'dd if=x "of=/dev/sda1"',
    "D=/dev/sda; dd if=x of=$D",
    "echo x > /dev/sda",
    "cat image >/dev/sdb",
    "cat image >>/dev/mmcblk0",
    "cat image >| /dev/vda",
    "cat image &> /dev/vda",
    "cat image > '/dev/s'da",
    "cat image > /dev/../dev/sda",
    "for x in a; do echo; done > /dev/sda",
    "(cat image) > /dev/sda",
    "cat image | tee /dev/sda",
    "cp image /dev/sda",
    "shred /dev/sda",
    "wipefs -a /dev/sda",
    "fdisk /dev/sda",
    "parted -s /dev/sda mklabel gpt",
    "echo x > /dev/mem",
    "$(echo rm) -rf build",
    "`echo rm` -rf build",
    "$CMD build",
    '"$CMD" build',
    "a=r; b=m; $a$b -rf build",
    "/bin/$X build",
    "/bin/r? -rf build",
    "/bin/[r]m -rf build",
    "env $CMD",
    "xargs $CMD",
    "bash -c '$CMD x'",
    'eval "$CMD"',
    "cat ~/.power_loop/sessions.db",
    "ls $POWER_LOOP_HOME",
    'sqlite3 "$POWER_LOOP_HOME/sessions.db" .dump',
    f"cp {HOME}/.power_loop/x .",
    "echo x > ~/.power_loop/config",
    "cat < ~/.power_loop/config",
    "cat ~/.power_l*/sessions.db",
    "tar czf x.tgz --directory=$HOME/.power_loop .",
    "cd ~/.power_loop && ls",
    "cat ~/.power_loop/logs/../sessions.db",
    "( " * 100 + "ls" + " )" * 100,
]


# acceptance: 177 (refused)
@pytest.mark.parametrize("command", REMOVES_A_ROOT)
def test_the_removal_of_a_root_is_refused_however_it_is_spelled(command: str) -> None:
    reason = check_command(command, PLACES)
    assert reason is not None
    assert "remove" in reason or "run time" in reason


# acceptance: 177 (refused)
@pytest.mark.parametrize("command", OTHER_DANGERS)
def test_the_other_dangers_are_refused_however_they_are_spelled(command: str) -> None:
    assert check_command(command, PLACES) is not None


def ordinary_commands() -> list[str]:
    text = (Path(__file__).parent / "ordinary_commands.txt").read_text(encoding="utf-8")
    return [command.strip("\n") for command in text.split("\n----\n") if command.strip()]


# acceptance: 177 (ordinary commands pass)
@pytest.mark.parametrize("command", ordinary_commands())
def test_an_ordinary_command_passes(command: str) -> None:
    assert check_command(command, PLACES) is None


def test_there_are_two_hundred_ordinary_commands() -> None:
    assert len(set(ordinary_commands())) >= 200


def test_what_the_check_does_not_judge_is_known() -> None:
    """Documented beside every mention: interpreters, scripts and downloads are nobody's business here."""
    for command in ("python3 -c 'import shutil; shutil.rmtree(\"/\")'", "./clean.sh", "curl -s https://example.org/x | sh", "make clean"):
        assert check_command(command, PLACES) is None


@pytest.mark.parametrize(
    "command", ["'", '"', "$(", "${", "`", "<<", "((", "[[", "case", "for", "f(", "\\", "$'\\x", "{a,", "a=(", "case x in", ";;", "|", "&"]
)
def test_what_is_not_finished_is_read_to_its_end(command: str) -> None:
    check_command(command, PLACES)
    assert check_command(f"sudo ls; {command}", PLACES) == check_command("sudo ls", PLACES)


def test_a_long_command_is_read_in_time_that_grows_with_it() -> None:
    body = "some line with $words and `no end`\n" * 2000
    assert check_command(f"cat > file <<'EOF'\n{body}EOF", PLACES) is None
    assert check_command(f"cat > file <<'EOF'\n{body}EOF\nsudo ls", PLACES) is not None


def test_a_word_that_braces_make_thousands_of_is_refused() -> None:
    assert check_command("echo {a,b}{a,b}{a,b}", PLACES) is None
    assert check_command("echo " + "{a,b}" * 12, PLACES) is not None


def test_of_many_values_of_a_loop_each_is_looked_at() -> None:
    names = " ".join(f"d{n}" for n in range(100))
    assert check_command(f"for d in / {names}; do rm -rf $d; done", PLACES) is not None
    assert check_command(f"for d in {names}; do rm -rf $d; done", PLACES) is None


def test_a_command_beyond_reading_is_refused() -> None:
    assert "too long" in (check_command("x" * 300_001, PLACES) or "")
