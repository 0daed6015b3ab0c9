#!/bin/sh
# Usage: ensure-tools.sh TOOL...
# Makes sure that these commands exist: says nothing when they all do, installs what is missing where that is
# possible (root, apt-get), and otherwise says in one line what to install.
set -eu
PATH="$PATH:/usr/sbin:/sbin" # Debian leaves these out for users other than root

package_of() {
  case $1 in
    nft) echo nftables ;;
    iptables | ip6tables) echo iptables ;;
    ip | ss) echo iproute2 ;;
    unshare | nsenter | setpriv) echo util-linux ;;
    dig) echo bind9-dnsutils ;;
    ssh) echo openssh-client ;;
    sshd) echo openssh-server ;;
    mariadb) echo mariadb-client ;;
    mariadbd) echo mariadb-server ;;
    psql) echo postgresql-client ;;
    pg_ctlcluster) echo postgresql ;;
    gtlsclient) echo ngtcp2-client ;;
    danted) echo dante-server ;;
    setcap | capsh) echo libcap2-bin ;;
    readelf | strip) echo binutils ;;
    aarch64-linux-gnu-g++) echo g++-aarch64-linux-gnu ;;
    qemu-system-x86_64) echo qemu-system-x86 ;;
    qemu-system-aarch64) echo qemu-system-arm ;;
    musl-gcc) echo musl-tools ;;
    busybox) echo busybox-static ;;
    depmod | modprobe) echo kmod ;;
    xz) echo xz-utils ;;
    clang++) echo 'clang libclang-rt-14-dev' ;;
    *) echo "$1" ;;
  esac
}

find_missing() {
  missing= packages=
  for tool; do
    if command -v "$tool" >/dev/null; then continue; fi
    missing="$missing $tool"
    package=$(package_of "$tool")
    case "$packages " in *" $package "*) ;; *) packages="$packages $package" ;; esac
  done
}

find_missing "$@"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing$packages (for$missing)" >&2
  export DEBIAN_FRONTEND=noninteractive
  # The lists of a fresh machine may be absent or out of date; a machine with good ones is spared the update.
  # shellcheck disable=SC2086 # the list is meant to be split
  {
    apt-get install -qq -y --no-install-recommends $packages ||
      { apt-get update -qq && apt-get install -qq -y --no-install-recommends $packages; }
  } >/dev/null 2>&1 || true
  find_missing "$@"
  [ -n "$missing" ] || exit 0
fi

echo "missing:$missing. Install them first, on Debian or Ubuntu: sudo apt-get install$packages" >&2
exit 1
