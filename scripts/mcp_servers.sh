#!/bin/sh
# Installs the reference servers of MCP for Node into node_modules, against which tests/mcp holds our client. They are optional:
# where there is no npm, or no way to its packages, those tests are skipped and say so.
set -eu

[ -z "${POWER_LOOP_MCP_NODE:-}" ] || exit 0
[ ! -e node_modules/.bin/mcp-server-memory ] || exit 0
command -v npm >/dev/null 2>&1 || exit 0
echo "installing the reference servers of MCP ..."
npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix . \
    @modelcontextprotocol/server-everything @modelcontextprotocol/server-filesystem @modelcontextprotocol/server-memory >/dev/null 2>&1 ||
    printf 'power-loop: %s\n' "the reference servers of MCP could not be installed; their tests are skipped" >&2
