#!/bin/sh
# Builds the relay engine with each sanitizer and drives it with test/native/relay_test.cc.
#
#   scripts/sanitize-relay.sh [SEED [RELAYS]]
set -eu
cd "$(dirname "$0")/.."
seed=${1:-1}
relays=${2:-150}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

engine="src/relay/*.cc src/ebpf/alias_table.cc src/host/file_lock.cc src/host/origin.cc src/host/program_locks.cc
  src/host/recent_dials.cc src/names/client_hello.cc src/names/first_bytes.cc src/names/host_name.cc
  src/names/http_head.cc src/namespace/inside.cc src/namespace/socket_supply.cc
  src/socket/certain_destination.cc src/socket/dial.cc src/socket/endpoint.cc src/socket/listen.cc
  src/socket/netlink.cc src/socket/original_dst.cc src/socket/proxy_header.cc
  src/socket/proxy_header_writer.cc src/socket/socket_diag.cc src/socket/socket_options.cc"

# What accept_test expects of its network: clients of port 7001 are redirected, the proxy's own dials are not.
redirected='ip link set lo up
  nft add table ip t
  nft "add chain ip t o { type nat hook output priority -100; }"
  nft add rule ip t o meta mark != 7 tcp dport 7001 redirect to :15001
  exec "$@"'

for sanitizer in thread address,undefined; do
  echo "# -fsanitize=$sanitizer"
  for test in relay_test accept_test; do
    # shellcheck disable=SC2086 -- a list
    "${CXX:-g++}" -std=c++17 -Isrc -g -O1 -Wall -Wextra -Werror -fno-omit-frame-pointer -fno-sanitize-recover=all \
      "-fsanitize=$sanitizer" -o "$directory/$test" "test/native/$test.cc" $engine -pthread
  done
  for mode in splice refuse-splice refuse-splice-out no-pipes; do
    "$directory/relay_test" "$mode" "$seed" "$relays"
  done
  for mode in "" inspect; do
    # shellcheck disable=SC2086 -- none or one
    unshare -Urn sh -ec "$redirected" sh "$directory/accept_test" "$seed" "$((relays * 10))" $mode
  done
done
