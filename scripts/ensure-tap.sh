#!/bin/sh
# Builds tap with the plugins that package.json names, unless it is built so. As installed it has its TypeScript plugin,
# which is not used here and which the first run would load into every process.
set -eu
cd "$(dirname "$0")/.."
built=node_modules/@tapjs/test/test-built/dist/esm/index.js
if grep -q '^@tapjs/typescript' "$built"; then tap build >/dev/null; fi
