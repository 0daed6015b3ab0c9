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

for sanitizer in thread address,undefined; do
  echo "# -fsanitize=$sanitizer"
  "${CXX:-g++}" -std=c++17 -g -O1 -Wall -Wextra -Werror -fno-omit-frame-pointer -fno-sanitize-recover=all \
    "-fsanitize=$sanitizer" -o "$directory/relay_test" \
    test/native/relay_test.cc src/relay.cc src/relay_accept.cc src/relay_flow.cc src/relay_listener.cc src/relay_pipe.cc \
    src/relay_timers.cc src/verdicts.cc src/dial.cc src/endpoint.cc src/original_dst.cc src/socket_options.cc -pthread
  for mode in splice refuse-splice refuse-splice-out no-pipes; do
    "$directory/relay_test" "$mode" "$seed" "$relays"
  done
done
