#!/bin/sh
# Installs a real OTLP backend, Arize Phoenix, into an environment of its own (600 MB), for tests/sinks/test_otlp_backend.py.
#
#   scripts/otlp_backend.sh [folder]      default: /var/tmp/power-loop-phoenix
set -eu
folder=${1:-/var/tmp/power-loop-phoenix}
[ ! -x "$folder/bin/phoenix" ] || exit 0
echo "installing arize-phoenix into $folder ..."
if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --clear --python "${PYTHON:-python3}" "$folder"
    uv pip install --quiet --python "$folder/bin/python" arize-phoenix
else
    "${PYTHON:-python3}" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check arize-phoenix
fi
