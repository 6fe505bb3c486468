#!/bin/sh
# Installs servers for Node into node_modules that tests hold us against: the reference servers of MCP for our client, the StatsD
# server for our metrics. They are optional: where there is no npm, or no way to its packages, those tests are skipped and say so.
set -eu

[ ! -e node_modules/.bin/mcp-server-memory ] || [ ! -e node_modules/statsd/stats.js ] || exit 0
command -v npm >/dev/null 2>&1 || exit 0
echo "installing the reference servers of MCP, and StatsD ..."
# In one command: what npm does not find named it takes away.
npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix . \
    @modelcontextprotocol/server-everything @modelcontextprotocol/server-filesystem @modelcontextprotocol/server-memory statsd \
    >/dev/null 2>&1 ||
    printf 'power-loop: %s\n' "the servers for Node could not be installed; their tests are skipped" >&2
