#!/bin/sh
# Installs what the tests use of a system: the database servers that they start for themselves (PostgreSQL and MariaDB),
# and on Linux the sandbox and the search program behind built-in tools (bubblewrap, ripgrep), a browser for the
# inspector's pages (chromium) and a server that scrapes metrics (prometheus); from Debian's packages.
# What is there already is left alone, and no system service is started. Says what to do where it cannot install.
set -eu

stop() {
    printf 'power-loop: %s\n' "$@" >&2
    exit 1
}

has() {
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null 2>&1
}

missing=""
has postgres || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || [ -n "${POWER_LOOP_TEST_PG_DSN:-}" ] || missing="$missing postgresql"
has mariadbd || [ -n "${POWER_LOOP_TEST_MYSQL_DSN:-}" ] || missing="$missing mariadb-server"
if [ "$(uname)" = Linux ]; then
    has bwrap || missing="$missing bubblewrap"
    has rg || missing="$missing ripgrep"
    has chromium || missing="$missing chromium"
    has prometheus || [ -n "${POWER_LOOP_TEST_PROMETHEUS:-}" ] || missing="$missing prometheus"
fi
[ -n "$missing" ] || exit 0

way_out="Install$missing, or name servers in POWER_LOOP_TEST_PG_DSN and POWER_LOOP_TEST_MYSQL_DSN."
command -v apt-get >/dev/null 2>&1 || stop "there is no apt-get here to install$missing with." "$way_out"
[ "$(id -u)" = 0 ] || stop "only root can install$missing." "$way_out"

# While this file says 101, no package starts its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi

echo "installing$missing ..."
export DEBIAN_FRONTEND=noninteractive
apt="apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
$apt update >/dev/null
# shellcheck disable=SC2086  # a list of packages
$apt install -y --no-install-recommends $missing >/dev/null
