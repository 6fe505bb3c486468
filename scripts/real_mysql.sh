#!/bin/sh
# Unpack MySQL itself, which Debian keeps in its unstable suite only, into a folder: nothing is installed on this system.
# For tests (see tests/support/servers_mysql.py). What that suite holds changes from day to day, so a failure here is no fault.
#
#   scripts/real_mysql.sh [folder]      default: $POWER_LOOP_TEST_MYSQL_ROOT, else /var/tmp/power-loop-mysql
set -eu
root=${1:-${POWER_LOOP_TEST_MYSQL_ROOT:-/var/tmp/power-loop-mysql}}
suite=${SUITE:-sid}
if [ -x "$root/usr/sbin/mysqld" ]; then
  echo "real_mysql.sh: MySQL stands in $root already"
  exit 0
fi
for needed in apt-get dpkg-deb; do
  command -v $needed >/dev/null || { echo "real_mysql.sh: skipped, this is no Debian (there is no $needed)"; exit 0; }
done
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)
[ -n "$mirror" ] || mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*\).*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
[ -n "$mirror" ] || { echo "real_mysql.sh: skipped, no Debian mirror is configured"; exit 0; }

# A package manager of its own in a temporary folder, which believes that nothing is installed: so it brings every library.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
: > "$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$work/sources.list"
cat > "$work/apt.conf" <<CONF
Dir::State "$work";
Dir::State::Lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
APT::Keep-Downloaded-Packages "true";
Debug::NoLocking "true";
CONF
export APT_CONFIG="$work/apt.conf"
apt-get -qq update && apt-get -qq -y --download-only install mysql-server-core >/dev/null ||
  { echo "real_mysql.sh: skipped, $mirror $suite has no MySQL today"; exit 0; }

# Folders that are links in Debian's layout come first; then the packages, into a folder beside that takes the name at the end.
next="$root.new.$$"
rm -rf "$next"
for folder in bin sbin lib lib64; do
  mkdir -p "$next/usr/$folder"
  ln -s "usr/$folder" "$next/$folder"
done
for package in "$work"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x --no-same-owner --keep-directory-symlink -C "$next"
done
chmod -R go+rX "$next"
mv -T "$next" "$root"
echo "real_mysql.sh: MySQL stands in $root ($("$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/mysql/private" "$root/usr/sbin/mysqld" --version | sed 's/.*Ver/version/'))"
