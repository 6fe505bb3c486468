#!/bin/sh
# Makes the virtual environment $VENV and installs this package into it, editable, with the extras $1; then leaves
# the stamp .installed-$2. Uses uv when it is there, else venv and pip. Says what is missing, and how to get it.
set -eu

extras=$1
stamp=$2
venv=${VENV:-.venv}
wanted=${PYTHON:-python3}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# python3 itself where it will do, else the newest one on the PATH; a name on the PATH may still not run (pyenv's shims).
find_python() {
    for candidate in "$wanted" python3.14 python3.13 python3.12 python3.11; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
        [ "$wanted" = python3 ] || return 0
    done
}

version_of() {
    if command -v "$1" >/dev/null 2>&1; then echo "$1 is $("$1" -V 2>&1 || echo broken)"; else echo "there is no $1"; fi
}

stop() {
    printf 'power-loop: %s\n' "$@" >&2
    exit 1
}

make_with_uv() {
    python=$(find_python)
    [ -n "$python" ] || [ "$wanted" = python3 ] || stop "$wanted is no Python 3.11 or newer."
    uv venv --quiet --clear --python "${python:->=3.11}" "$venv" ||
        stop "uv could not make $venv; its message stands above." "Give it a Python 3.11 or newer: make ... PYTHON=/path/to/python3"
}

make_with_venv() {
    python=$(find_python)
    [ -n "$python" ] || stop "Python 3.11 or newer is needed; $(version_of "$wanted")." \
        "Debian 12, Ubuntu 24.04 or newer: apt install python3 python3-venv    macOS: brew install python" \
        "Is it installed under another name? Then: make ... PYTHON=/path/to/python3"
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || stop "$python cannot make virtual environments: its venv or ensurepip module is missing." \
        "Debian, Ubuntu: apt install python3-venv    or install uv, which needs neither"
    "$python" -m venv --clear "$venv"
}

have_uv() {
    command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1
}

if ! is_new_enough "$venv/bin/python"; then
    if have_uv; then make_with_uv; else make_with_venv; fi
fi

echo "installing power-loop[$extras] into $venv ..."
if have_uv; then
    uv pip install --quiet --python "$venv/bin/python" --editable ".[$extras]"
else
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
fi
touch "$venv/.installed-$stamp"
