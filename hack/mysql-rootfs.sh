#!/bin/bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Makes, or finds in the cache, a small root file system with MySQL and prints
# its absolute path as the last line of standard output. Progress goes to
# standard error.
#
# MySQL comes from Debian's unstable distribution, which is built against a
# newer C library than a stable host has; hence a root file system of its own,
# unpacked from packages that a private apt configuration downloads and verifies
# (the host's own packages are never touched). It holds mysqld, the clients
# (mysql, mysqldump, mysqlbinlog), mysqld_exporter, dash and coreutils, and has
# two users: tests chroot into it, and the image `mysql` is made from it.
#
#   MOCO_DEBIAN_MIRROR   mirror to use; default: the one apt is configured with
#   MOCO_DEBIAN_KEYRING  keyring that signs it; default: Debian's archive keyring
#   XDG_CACHE_HOME       where the cache lives; default: ~/.cache
set -euo pipefail

readonly mysql_version=9.7.4          # what the sample manifests name
readonly debian_revision=2            # of that version, tried first
readonly layout=1                     # raise it when this script changes what it unpacks
readonly packages=(mysql-client-core prometheus-mysqld-exporter dash coreutils sed grep)
readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/moco/mysql-rootfs"
readonly rootfs="$cache/$mysql_version-$layout"

say() { echo "mysql-rootfs: $*" >&2; }
die() { say "$*"; exit 1; }

# The Debian mirror of the machine's own apt configuration.
find_mirror() {
  if [ -n "${MOCO_DEBIAN_MIRROR:-}" ]; then
    echo "$MOCO_DEBIAN_MIRROR"
    return
  fi
  local uri
  uri=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 == "main" && $1 ~ /\/debian\/?$/ { print $1; exit }')
  [ -n "$uri" ] || die "apt is not configured with a Debian mirror: set MOCO_DEBIAN_MIRROR to one"
  echo "$uri"
}

# apt, with configuration, lists, status and cache below $work instead of the host's.
private_apt() {
  local tool=$1
  shift
  "$tool" -qq \
    -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources" \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
    -o Dir::State::extended_states="$work/extended_states" \
    -o Dir::Cache="$work/cache" -o APT::Install-Recommends=false \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# Fetches the closure of the packages; the signature chain is apt's own check.
download() {
  local mirror keyring server
  mirror=$(find_mirror)
  keyring=${MOCO_DEBIAN_KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
  [ -r "$keyring" ] || die "no keyring at $keyring: install debian-archive-keyring or set MOCO_DEBIAN_KEYRING"
  mkdir -p "$work"/{sources,lists/partial,cache/archives/partial}
  : > "$work/status"
  printf 'Types: deb\nURIs: %s\nSuites: sid\nComponents: main\nSigned-By: %s\n' \
    "$mirror" "$keyring" > "$work/sources/sid.sources"
  say "reading the package lists of Debian unstable"
  private_apt apt-get update >&2
  server=mysql-server-core=$mysql_version-$debian_revision
  if ! private_apt apt-cache show "$server" > /dev/null 2>&1; then
    server=mysql-server-core
    say "WARNING: $mysql_version-$debian_revision is gone from the mirror; taking the newest mysql-server-core"
  fi
  say "downloading $server and what it needs"
  private_apt apt-get install -y --download-only "$server" "${packages[@]}" >&2
}

# Unpacks everything but what only maintainer scripts and Perl tools want.
unpack() {
  local root=$1 deb
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
  for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
  for deb in "$work"/cache/archives/*.deb; do
    case ${deb##*/} in
    perl* | libperl* | debconf* | adduser* | passwd* | login.defs* | libpam* | libsemanage* | base-passwd* | libdb5.3* | libgdbm*) ;;
    *) dpkg-deb -x "$deb" "$root" ;;
    esac
  done
  rm -rf "$root"/usr/share/{doc,man,info,locale,lintian,bug,icons,apport} \
    "$root"/lib/systemd "$root"/etc/init.d "$root"/var/cache/* "$root"/var/lib/systemd
}

# Adds what maintainer scripts would have made.
finish() {
  local root=$1
  mkdir -p "$root"/{dev,etc,proc,root,run/mysqld,sys,tmp,var/tmp,var/lib/mysql,var/lib/mysql-files}
  ln -sfn /run "$root/var/run"
  ln -sfn dash "$root/usr/bin/sh"
  printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'mysql:x:999:999:MySQL Server:/var/lib/mysql:/usr/sbin/nologin' \
    'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' > "$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'mysql:x:999:' 'nogroup:x:65534:' > "$root/etc/group"
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' > "$root/etc/nsswitch.conf"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  chown 999:999 "$root/run/mysqld" "$root/var/lib/mysql" "$root/var/lib/mysql-files"
  chmod 1777 "$root/run/mysqld"
  chmod 0750 "$root/var/lib/mysql-files"
  # For chroots alone: in a container the runtime lays /dev anew.
  mknod -m 0666 "$root/dev/null" c 1 3
  mknod -m 0666 "$root/dev/zero" c 1 5
  mknod -m 0666 "$root/dev/random" c 1 8
  mknod -m 0666 "$root/dev/urandom" c 1 9
}

build() {
  work=$(mktemp -d "$cache/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  chmod 0755 "$work"
  download
  say "unpacking"
  mkdir "$work/root"
  unpack "$work/root"
  finish "$work/root"
  chroot "$work/root" /usr/sbin/mysqld --no-defaults --version > "$work/root/etc/mysql-version" ||
    die "the unpacked mysqld does not start"
  say "$(cat "$work/root/etc/mysql-version")"
  for tool in mysql mysqldump mysqlbinlog prometheus-mysqld-exporter; do
    chroot "$work/root" "/usr/bin/$tool" --version > /dev/null 2>&1 || die "the unpacked $tool does not start"
  done
  ln -s prometheus-mysqld-exporter "$work/root/usr/bin/mysqld_exporter"
  mv -T "$work/root" "$rootfs"
}

if [ ! -d "$rootfs" ]; then
  [ "$(id -u)" = 0 ] || die "must be run as root (it makes device nodes and changes owners)"
  for tool in apt-get dpkg-deb flock chroot; do
    command -v "$tool" > /dev/null || die "$tool is missing: this script needs a Debian host"
  done
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9 # two test binaries may ask at the same moment
  [ -d "$rootfs" ] || build
fi
echo "$rootfs"
