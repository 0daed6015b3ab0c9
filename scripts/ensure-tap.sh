#!/bin/sh
# Builds tap with the plugins that package.json names, unless it is built so. As installed it has a TypeScript plugin and
# one for mocks, which are not used here and would be loaded into every process: 0.4 s of CPU for each.
set -eu
cd "$(dirname "$0")/.."
built=node_modules/@tapjs/test/test-built/dist/esm/index.js
if grep -qE '^@tapjs/(typescript|mock)' "$built"; then tap build >/dev/null; fi
