#!/usr/bin/env bash
# clang-format and clang-tidy over src/, with the flags of binding.gyp that they need.
# Errors come on standard output; clang-tidy's other stream only counts the warnings of system headers.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/ensure-tools.sh clang-format clang-tidy
clang-format --dry-run -Werror src/*.h src/*.cc
napi=$(node -p "require('node-addon-api').include_dir.replace(/\"/g, '')")
# Node's headers: where node-gyp finds them, or where Debian puts them.
node=$(node -p "process.config.variables.nodedir || require('node:path').resolve(process.execPath, '../../include/node')")
flags=(-std=c++17 -fno-exceptions -fno-rtti -isystem "$napi" -isystem "$node" -DNAPI_VERSION=8
  -DNAPI_DISABLE_CPP_EXCEPTIONS)
printf '%s\0' src/*.cc | xargs -0 -P "$(nproc)" -I{} clang-tidy --quiet {} -- "${flags[@]}" 2>/dev/null
