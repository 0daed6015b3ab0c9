#!/usr/bin/env bash
# clang-format and clang-tidy over src/, with the flags of binding.gyp that they need.
# Errors come on standard output; clang-tidy's other stream only counts the warnings of system headers.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/ensure-tools.sh clang-format clang-tidy
find src -name '*.h' -print0 -o -name '*.cc' -print0 | xargs -0 clang-format --dry-run -Werror
napi=$(node -p "require('node-addon-api').include_dir.replace(/\"/g, '')")
# Node's headers: where node-gyp finds them, or where Debian puts them.
node=$(node -p "process.config.variables.nodedir || require('node:path').resolve(process.execPath, '../../include/node')")
flags=(-std=c++17 -fno-exceptions -fno-rtti -Isrc -isystem "$napi" -isystem "$node" -DNAPI_VERSION=8
  -DNAPI_DISABLE_CPP_EXCEPTIONS)

# clang-tidy takes seconds a file. What passed is remembered by the contents of the file and of all the headers
# of src/ that it includes.
# max-nodes: how far the paths of one function are followed, 225,000 by default. Only calls into node-addon-api's
# headers get there, and took two thirds of the time.
passed=${LINT_CACHE:-.cache/clang-tidy}
mkdir -p "$passed"
check() {
  local file=$1 key
  shift
  key=$(g++ -MM "$@" "$file" | grep -o 'src/[a-z_/]*\.[a-z]*' | sort -u | xargs cat .clang-tidy scripts/lint-native.sh | sha256sum | cut -c 1-40)
  [ -e "$passed/$key" ] && return
  clang-tidy --quiet "$file" -- "$@" -Xclang -analyzer-config -Xclang max-nodes=60000 2>/dev/null
  touch "$passed/$key"
}
export passed
export -f check
find src -name '*.cc' -print0 | xargs -0 -P "$(nproc)" -I{} bash -ec 'check "$@"' check {} "${flags[@]}"
